"""The train section: its settings, and the update as a graph: schedules, clipping, and the optimizer's rule for each
parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.modules import fitting, standard
from tapeless.compiler.elaborate.parameters import COUNTER, Stored
from tapeless.compiler.elaborate.program import Program
from tapeless.compiler.elaborate.scope import Frame, join
from tapeless.compiler.elaborate.values import Binding, Computed, Defined, Fault, Poisoned, describe
from tapeless.compiler.language import ast
from tapeless.compiler.language.parser import NAMES
from tapeless.compiler.language.statement_parser import made_by
from tapeless.compiler.messages.diagnostics import Diagnostic
from tapeless.compiler.messages.near_names import meant, meant_argument, nearest
from tapeless.compiler.messages.newcomers_words import ELSEWHERE, SETTINGS
from tapeless.ir.graph import Graph, Span
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.stacking import turn_names
from tapeless.ir.types import DType, Tensor

# Hyper-parameters that are not meant to be below zero, and whether they say how far a step goes.
RATES = {"lr": True, "peak": True, "decay": False}


@dataclass
class Plan:
    """What a train section says, read."""

    epochs: int = 10
    batch: int = 64
    validation: float = 0.0
    patience: int | None = None
    monitor: str | None = None
    rising: bool = False
    clip_norm: ast.Expression | None = None
    clip_value: ast.Expression | None = None
    gradient_noise: ast.Expression | None = None
    optimizer: ast.Setting | None = None
    exceptions: list[ast.Setting] = field(default_factory=list)
    frozen: list[ast.Text] = field(default_factory=list)


@dataclass
class Rule:
    """An optimizer with its hyper-parameters evaluated."""

    defined: Defined
    hypers: dict[str, Binding]
    span: Span


class Training:
    """Reads one train section and elaborates the update."""

    def __init__(self, program: Program, section: ast.Train | None) -> None:
        self.program = program
        self.section = section
        self.span = section.head if section else program.definition.head
        self.emitter = Emitter(program.definition.name, program.dtype)
        self.emitter.counts_steps = True
        self.frame = Frame("train", program.definition.name, program.module, self.emitter, path="")
        self.plan = Plan()
        self.hypers: dict[str, Computed] = {}
        self.broken = False
        for name, value in program.arguments.items():
            self.frame.names[name] = Binding(value, name, None)

    # --- Settings

    def read(self) -> Plan:
        """Read every setting; faults are reported."""
        seen: dict[str, Span] = {}
        for setting in self.section.settings if self.section else ():
            try:
                if isinstance(setting, ast.Broken):
                    self.broken = True
                    continue
                if setting.name in seen and setting.name not in ("except", "freeze"):
                    raise self.fault("E0302", f"`{setting.name}` is set twice", setting.span)
                seen[setting.name] = setting.span
                reader = _READERS.get(setting.name)
                if reader is None:
                    near = nearest(setting.name, NAMES)
                    listed = f"Did you mean `{near}`?" if near else f"The settings are {', '.join(NAMES)}."
                    rules = [
                        name
                        for name in fitting(self.program.module.names, "rule")
                        if name.lower() == setting.name.lower()
                    ]
                    written = f"optimizer {rules[0]}(...)" if rules else SETTINGS.get(setting.name)
                    hint = f"Write `{written}`." if written else ELSEWHERE.get(setting.name, listed)
                    raise self.fault("E0308", f"there is no setting `{setting.name}`", setting.span, hint)
                reader(self, setting)
            except Fault as fault:
                self.program.report(fault.diagnostic)
                self.broken = True
            except Poisoned:
                self.broken = True
        return self.plan

    def fault(self, code: str, message: str, span: Span, hint: str | None = None) -> Fault:
        """A fault in the train section."""
        return self.program.fault(self.frame, code, message, span, hint=hint)

    def only(self, setting: ast.Setting) -> ast.Expression:
        """The one value of a setting."""
        if len(setting.values) != 1 or setting.named or setting.words:
            raise self.fault(
                "E0601",
                f"`{setting.name}` takes one value",
                setting.span,
                "Each setting has a line of its own." if len(setting.values) > 1 or setting.named else None,
            )
        return setting.values[0]

    def constant(self, setting: ast.Setting, syntax: ast.Expression) -> int | float:
        """A number known when compiling."""
        self.program.emitter = self.emitter
        value = self.program.evaluate(self.frame, syntax)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.fault("E0601", f"`{setting.name}` needs a number, not {describe(value)}", syntax.span)
        return value

    def whole(self, setting: ast.Setting, syntax: ast.Expression, least: int) -> int:
        """A whole number, not too small."""
        value = self.constant(setting, syntax)
        if not math.isfinite(value) or value != int(value) or value < least:
            raise self.fault(
                "E0601", f"`{setting.name}` needs a whole number of at least {least}, not {value:g}", syntax.span
            )
        return int(value)

    def positive(self, setting: ast.Setting, syntax: ast.Expression) -> None:
        """A bound for clipping."""
        value = self.constant(setting, syntax)
        if value <= 0:
            raise self.fault("E0601", f"`{setting.name}` needs a number above 0, not {value:g}", syntax.span)

    def read_epochs(self, setting: ast.Setting) -> None:
        self.plan.epochs = self.whole(setting, self.only(setting), 0)

    def read_batch(self, setting: ast.Setting) -> None:
        self.plan.batch = self.whole(setting, self.only(setting), 1)

    def read_validation(self, setting: ast.Setting) -> None:
        syntax = self.only(setting)
        value = self.constant(setting, syntax)
        if not 0 <= value < 1:
            raise self.fault(
                "E0601",
                f"`validation` is the share of the examples that is held out, from 0 up to 1, not {value:g}",
                syntax.span,
            )
        self.plan.validation = float(value)

    def read_clip_norm(self, setting: ast.Setting) -> None:
        self.plan.clip_norm = self.only(setting)
        self.positive(setting, self.plan.clip_norm)

    def read_clip_value(self, setting: ast.Setting) -> None:
        self.plan.clip_value = self.only(setting)
        self.positive(setting, self.plan.clip_value)

    def read_gradient_noise(self, setting: ast.Setting) -> None:
        self.plan.gradient_noise = self.only(setting)
        self.positive(setting, self.plan.gradient_noise)

    def read_optimizer(self, setting: ast.Setting) -> None:
        self.only(setting)
        self.plan.optimizer = setting

    def read_except(self, setting: ast.Setting) -> None:
        if not setting.named or setting.values or setting.words:
            raise self.fault(
                "E0601",
                "`except` sets hyper-parameters for some parameters",
                setting.span,
                "Write `except '*.b': decay = 0`.",
            )
        for pattern in setting.patterns:
            self.matching(pattern)
        self.plan.exceptions.append(setting)

    def read_freeze(self, setting: ast.Setting) -> None:
        for value in setting.values:
            if not isinstance(value, ast.Text):
                raise self.fault(
                    "E0601", "`freeze` takes patterns of parameter names", value.span, "Write `freeze 'encoder.*'`."
                )
            self.matching(value)
            self.plan.frozen.append(value)

    def freeze(self, patterns: Sequence[str]) -> None:
        """Leave alone what patterns from outside the text name; faults are reported at the head."""
        for pattern in patterns:
            try:
                text = ast.Text(self.span, pattern)
                self.matching(text)
                self.plan.frozen.append(text)
            except Fault as fault:
                self.program.report(fault.diagnostic)

    def matching(self, pattern: ast.Text) -> list[str]:
        """The parameters whose names a pattern matches: at least one."""
        parameters = [stored for stored in self.program.slots.values() if stored.role == "param"]
        names = [name for stored in parameters for name in turn_names(stored.name, stored.turns)]
        found = [stored.name for stored in parameters if self.matches(stored, pattern)]
        if not found and names:
            near = nearest(pattern.value, names)
            shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
            raise self.fault("E0602", f"'{pattern.value}' matches no parameter", pattern.span,
                             f"Did you mean '{near}'?" if near else f"The parameters are {shown}.")  # fmt: skip
        return found

    def matches(self, stored: Stored, pattern: ast.Text) -> bool:
        """Whether a pattern matches a parameter; of one that the turns of `repeat` have, it matches all turns' or
        none.
        """
        found = [fnmatchcase(name, pattern.value) for name in turn_names(stored.name, stored.turns)]
        if any(found) and not all(found):
            raise self.fault("E0602",
                f"'{pattern.value}' matches some turns of a `repeat` only, and its turns are one program", pattern.span,
                             "Turns that differ are written with `for`.")  # fmt: skip
        return all(found)

    def read_stop_early(self, setting: ast.Setting) -> None:
        """`stop_early patience = 5 on accuracy rising`."""
        if setting.values:
            raise self.fault(
                "E0601",
                "`stop_early` takes its patience by name",
                setting.values[0].span,
                "Write `stop_early patience = 5`.",
            )
        self.plan.patience = 5
        for argument in setting.named:
            if argument.name != "patience":
                raise self.fault(
                    "E0304", f"`stop_early` has no argument `{argument.name}`", argument.span, "It takes `patience`."
                )
            self.plan.patience = self.whole(setting, argument.value, 1)
        self.plan.monitor = "loss"
        watched = ["loss", *(result.name for result in [*self.program.losses, *self.program.metrics] if result.name)]
        words = list(setting.words)
        if words:
            name = words.pop(0)
            body = self.program.definition.body
            written = [line.name for line in body if isinstance(line, ast.Loss | ast.Metric)]
            if name.name not in watched and name.name in written:
                self.broken = True  # it is there, but a fault has been found on the way to it
            elif name.name not in watched:
                near = nearest(name.name, watched)
                raise self.fault("E0603", f"there is no loss or metric `{name.name}` to watch", name.span,
                                 f"Did you mean `{near}`?" if near else (f"There {'are' if watched[1:] else 'is'} "
                                     f"{', '.join(f'`{one}`' for one in watched)}."))  # fmt: skip
            self.plan.monitor = name.name
        if words:
            word = words.pop(0)
            if word.name not in ("rising", "falling"):
                raise self.fault("E0601", f"`{word.name}` is neither `rising` nor `falling`", word.span)
            self.plan.rising = word.name == "rising"
        if words:
            raise self.fault("E0601", f"`{words[0].name}` has no meaning here", words[0].span)

    # --- The update

    def update(self) -> Graph:
        """The graph from gradients, parameters and optimizer state to their next values."""
        program, emitter = self.program, self.emitter
        program.emitter = emitter
        program.training = None
        program.ports, program.stores = {}, {}
        program.taken, program.declared = set(), set()
        emitter.span = self.span
        for pattern in self.plan.frozen:
            for name in self.matching(pattern):
                program.slots[name].frozen = True
        trained = [stored for stored in program.slots.values() if stored.role == "param" and not stored.frozen]
        gradients = {stored.name: Computed(self.gradient(stored)) for stored in trained}
        count = program.port("step", COUNTER, "counter", self.span)
        emitter.where = ""
        step = Computed(emitter.emit("add", count, emitter.constant(1, DType.I32), name="step.next"))
        program.counters = {"step": step}
        try:
            rule = self.rule()
            gradients = self.noisy(self.clipped(gradients))
            for stored in trained:
                self.apply(rule, stored, gradients[stored.name])
        except Fault as fault:
            program.report(fault.diagnostic)
        except Poisoned:
            pass
        for slot, (value, span) in program.stores.items():
            emitter.output(slot, value, "state", span)
        emitter.output("step", step.value, "state", self.span)
        return emitter.graph()

    def gradient(self, stored: Stored) -> Any:
        return self.emitter.builder.input(stored.name, stored.type, "gradient", stored.span, f"d_{stored.name}")

    def hyper(self, label: str, value: float, span: Span) -> Computed:
        """A run-time number with a slot of its own, so that changing it compiles nothing."""
        program = self.program
        name = program.claim_path(label)
        while name in program.slots:
            name = program.claim_path(f"{label}_2")
        program.init.span = span
        initial = program.init.emit("constant", name=name, value=float(value), dtype=program.dtype, shape=())
        program.slots[name] = Stored(name, Tensor(program.dtype), "hyper", span, initial)
        return Computed(program.port(name, Tensor(program.dtype), "hyper", span))

    def rule(self) -> Rule:
        """The optimizer that the section names, or Adam."""
        program = self.program
        setting = self.plan.optimizer
        if setting is None:
            if self.broken:
                raise Poisoned
            defined = standard("Adam")
            assert defined is not None
            return self.evaluated(defined, (), self.span)
        syntax = setting.values[0]
        call = syntax if isinstance(syntax, ast.Call) else None
        function = program.evaluate(self.frame, call.function if call else syntax)
        if not isinstance(function, Defined) or function.definition.kind != "optimizer":
            near = meant(function, fitting(program.module.names, "rule")) if isinstance(function, str) else None
            raise self.fault(
                "E0401",
                f"{describe(function)} is not an optimizer",
                syntax.span,
                f"Write `optimizer {near}`." if near else "Write `optimizer Adam(lr = 1e-3)`.",
            )
        return self.evaluated(function, call.arguments if call else (), syntax.span)

    def evaluated(self, defined: Defined, arguments: tuple[ast.Argument, ...], span: Span) -> Rule:
        """Hyper-parameters from the call's arguments and the definition's defaults."""
        definition, program = defined.definition, self.program
        plain = [parameter for parameter in definition.parameters[:2] if parameter.default is None]
        if len(plain) != 2:
            frame = Frame("optimizer", definition.name, defined.module, self.emitter)
            raise program.fault(frame, "E0604",
                f"optimizer `{definition.name}` must take the parameter and its gradient first", definition.head,
                                hint=f"Write `optimizer {definition.name}(w, g, lr = 0.01):`.")  # fmt: skip
        hypers = definition.parameters[2:]
        names = [parameter.name for parameter in hypers]
        optional = {parameter.name for parameter in hypers if parameter.default is not None}
        bound = program.bind(self.frame, span, definition.name, names, optional, arguments, [None] * len(arguments))
        inner = Frame(
            "optimizer",
            definition.name,
            defined.module,
            self.emitter,
            self.frame,
            span,
            span if defined.module.standard else None,
        )
        found: dict[str, Binding] = {}
        for parameter in hypers:
            given = bound.get(parameter.name)
            frame, syntax = (self.frame, given[1].value) if given else (inner, parameter.default)
            assert syntax is not None
            value = self.run_time(frame, f"{definition.name}.{parameter.name}", syntax)
            found[parameter.name] = Binding(value, parameter.name, parameter.span, "declared", "argument", parameter)
        return Rule(defined, found, span)

    def run_time(self, frame: Frame, label: str, syntax: ast.Expression) -> Any:
        """A hyper-parameter: a number gets a slot, a schedule one for each of its arguments."""
        program = self.program
        self.emitter.where = label
        if isinstance(syntax, ast.Call):
            function = program.evaluate(frame, syntax.function)
            if isinstance(function, Defined) and function.definition.kind == "fn":
                definition = function.definition
                names = [parameter.name for parameter in definition.parameters]
                optional = {parameter.name for parameter in definition.parameters if parameter.default is not None}
                bound = program.bind(
                    frame,
                    syntax.span,
                    definition.name,
                    names,
                    optional,
                    syntax.arguments,
                    [None] * len(syntax.arguments),
                )
                values = {}
                for parameter in definition.parameters:
                    inner = bound.get(parameter.name)
                    written = inner[1] if inner else None
                    default = written.value if written else parameter.default
                    assert default is not None
                    where = (
                        frame
                        if written
                        else Frame(
                            "fn",
                            definition.name,
                            function.module,
                            self.emitter,
                            frame,
                            syntax.span,
                            frame.override or (syntax.span if function.module.standard else None),
                        )
                    )
                    value = self.run_time(where, f"{definition.name}.{parameter.name}", default)
                    values[parameter.name] = (value, written or ast.Argument(syntax.span, parameter.name, default))
                self.counts()
                self.emitter.where = label
                result = program.call_defined(frame, syntax.span, function, values, False)
                return self.single(frame, result, syntax)
        self.counts()
        value = program.evaluate(frame, syntax)
        self.negative(label, value, program.shown(frame, syntax.span))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return self.hyper(label, value, program.shown(frame, syntax.span))
        return self.single(frame, value, syntax)

    def negative(self, label: str, value: Any, span: Span) -> None:
        """A rate below zero makes the loss larger, which is hardly meant."""
        name = label.rpartition(".")[2]
        if name in RATES and isinstance(value, (int, float)) and value < 0:
            uphill = "training would make the loss larger" if RATES[name] else "parameters would grow without end"
            self.program.report(Diagnostic("W0108", f"`{name}` is below zero ({value:g}): {uphill}", span))

    def counts(self) -> None:
        """The planned number of steps, for schedules that ask."""
        program = self.program
        if "steps" not in program.counters:
            program.counters["steps"] = Computed(program.port("steps", COUNTER, "counter", self.span))

    def single(self, frame: Frame, value: Any, syntax: ast.Expression) -> Any:
        """A hyper-parameter is one number, or whether to do something."""
        if not isinstance(value, (int, float, Computed)) or (isinstance(value, Computed) and value.shape):
            schedule = value.definition.name if isinstance(value, Defined) and value.definition.kind == "fn" else None
            raise self.program.fault(
                frame,
                "E0401",
                f"a hyper-parameter is one number, not {describe(value)}",
                syntax.span,
                hint=f"A schedule is called: `{schedule}(...)`." if schedule else None,
            )
        return self.emitter.as_real(value) if isinstance(value, Computed) else value

    # --- Clipping

    def clipped(self, gradients: Mapping[str, Computed]) -> dict[str, Computed]:
        """Gradients after clipping by value, then by global norm."""
        emitter, result = self.emitter, dict(gradients)
        if self.plan.clip_value is not None:
            bound = self.clip_bound("clip_value", self.plan.clip_value)
            low = emitter.negative(bound)
            for name, gradient in result.items():
                emitter.where = f"d_{name}"
                result[name] = emitter.pointwise("minimum", emitter.pointwise("maximum", gradient, low), bound)
                emitter.claim(result[name], f"d_{name}.clipped")
        if self.plan.clip_norm is not None and result:
            bound = self.clip_bound("clip_norm", self.plan.clip_norm)
            emitter.where = "norm"
            norm = Computed(emitter.emit("global_norm", *(gradient.value for gradient in result.values())))
            emitter.claim(norm, "norm")
            # bound / max(norm, bound) is exactly 1 where nothing needs clipping.
            scale = emitter.pointwise("div", bound, emitter.pointwise("maximum", norm, bound))
            emitter.claim(scale, "norm.scale")
            for name, gradient in result.items():
                emitter.where = f"d_{name}"
                result[name] = emitter.pointwise("mul", gradient, scale)
                emitter.claim(result[name], f"d_{name}.scaled")
        return result

    def noisy(self, gradients: Mapping[str, Computed]) -> dict[str, Computed]:
        """Gradients with the noise that the section asks for, drawn for each parameter by itself."""
        syntax = self.plan.gradient_noise
        if syntax is None:
            return dict(gradients)
        program, function = self.program, standard("with_noise")
        assert function is not None
        variance = self.clip_bound("gradient_noise", syntax)
        result = {}
        for name, gradient in gradients.items():
            self.emitter.where = f"d_{name}"
            frame = Frame(
                "optimizer",
                "gradient_noise",
                program.module,
                self.emitter,
                self.frame,
                syntax.span,
                where=f"d_{name}",
                path=name,
            )
            bound = {
                key: (value, ast.Argument(syntax.span, key, syntax))
                for key, value in (("g", gradient), ("variance", variance))
            }
            result[name] = program.call_defined(frame, syntax.span, function, bound, False)
            self.emitter.claim(result[name], f"d_{name}.noisy")
        return result

    def clip_bound(self, name: str, syntax: ast.Expression) -> Computed:
        self.emitter.span = syntax.span
        value = self.program.evaluate(self.frame, syntax)
        return self.hyper(name, float(value), syntax.span)

    # --- The rule

    def apply(self, rule: Rule, stored: Stored, gradient: Computed) -> None:
        """The optimizer's body for one parameter."""
        program, emitter, definition = self.program, self.emitter, rule.defined.definition
        module = rule.defined.module
        frame = Frame("optimizer", definition.name, module, emitter, self.frame, rule.span,
            rule.span if module.standard else None,
                      where=stored.name, path=stored.name)  # fmt: skip
        frame.axes_of_parameter = tuple(dim for dim in stored.type.shape if isinstance(dim, int))
        frame.turns_of_parameter = stored.turns
        frame.made = frozenset(name for statement in definition.body for name in made_by(statement))
        weight, slope = definition.parameters[0].name, definition.parameters[1].name
        value = Computed(program.port(stored.name, stored.type, "param", stored.span))
        frame.names[weight] = Binding(
            value, weight, definition.parameters[0].span, "declared", "weight", None, {"slot": stored.name}
        )
        frame.names[slope] = Binding(gradient, slope, definition.parameters[1].span, "declared", "argument")
        frame.starts = {weight: Binding(Computed(stored.initial), weight, None)}
        for name, binding in rule.hypers.items():
            frame.names[name] = binding
        for setting in self.plan.exceptions:
            if any(self.matches(stored, pattern) for pattern in setting.patterns):
                for argument in setting.named:
                    self.override(frame, rule, stored, argument)
        emitter.where = stored.name
        before = len(emitter.builder.nodes)
        program.run_body(frame, definition.body)
        whole = [
            node
            for node in emitter.builder.nodes[before:]
            if OPERATIONS[node.op].family not in ("pointwise", "shape", "random")
        ]
        if stored.turns and whole:
            raise program.fault(frame, "E0604",
                (f"optimizer `{definition.name}` looks at a parameter as a whole, and `repeat` stacks those of "
                    "its turns"),
                                definition.head, hint="Write the turns out with `for`.")  # fmt: skip
        if stored.name not in program.stores and not frame.broken:
            raise program.fault(frame, "E0604", f"optimizer `{definition.name}` never assigns `{weight}`",
                definition.head,
                                hint=f"The rule ends with `{weight} = ...`.")  # fmt: skip

    def override(self, frame: Frame, rule: Rule, stored: Stored, argument: ast.Argument) -> None:
        """One hyper-parameter of an `except` line."""
        program = self.program
        assert argument.name is not None
        if argument.name not in rule.hypers:
            near = meant_argument(argument.name, list(rule.hypers))
            known = ", ".join(rule.hypers)
            raise self.fault("E0605", f"`{rule.defined.definition.name}` has no hyper-parameter `{argument.name}`",
                argument.span,
                             f"Did you mean `{near}`?" if near else f"It has {known}.")  # fmt: skip
        self.emitter.where = join(stored.name, argument.name)
        self.counts()
        value = self.single(self.frame, program.evaluate(self.frame, argument.value), argument.value)
        self.negative(argument.name, value, argument.span)
        frame.names[argument.name] = Binding(value, argument.name, argument.span, "given", "argument")


_READERS: dict[str, Callable[[Training, ast.Setting], None]] = {
    "epochs": Training.read_epochs,
    "batch": Training.read_batch,
    "validation": Training.read_validation,
    "clip_norm": Training.read_clip_norm,
    "clip_value": Training.read_clip_value,
    "gradient_noise": Training.read_gradient_noise,
    "optimizer": Training.read_optimizer,
    "except": Training.read_except,
    "freeze": Training.read_freeze,
    "stop_early": Training.read_stop_early,
}
