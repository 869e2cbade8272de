"""The optimizer that a train section names, and its hyper-parameters: numbers that can be changed at run time, and
schedules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.arguments import bind
from tapeless.compiler.elaborate.elaborator import Common, Elaborator
from tapeless.compiler.elaborate.frames import Frame, join
from tapeless.compiler.elaborate.modules import fitting, standard
from tapeless.compiler.elaborate.storage import COUNTER, Stored
from tapeless.compiler.elaborate.train_settings import TrainPlan
from tapeless.compiler.elaborate.values import Binding, Computed, Defined, Poisoned, describe
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Diagnostic
from tapeless.compiler.messages.near_names import meant, meant_argument
from tapeless.ir.graph import Span

# Hyper-parameters that are not meant to be below zero, and whether they say how far a step goes.
RATES = {"lr": True, "peak": True, "decay": False}


@dataclass
class OptimizerRule:
    """An optimizer with its hyper-parameters evaluated."""

    defined: Defined
    hypers: dict[str, Binding]
    span: Span


@dataclass(frozen=True, eq=False)
class HyperParameters:
    """Evaluates hyper-parameters in the frame of the train section, whose head is at `span`."""

    common: Common
    elaborator: Elaborator
    frame: Frame
    span: Span

    def hyper(self, label: str, value: float, span: Span) -> Computed:
        """A run-time number with a slot of its own, so that changing it compiles nothing."""
        name = self.elaborator.paths.claim(label)
        while name in self.common.storage.slots:
            name = self.elaborator.paths.claim(f"{label}_2")
        stored = self.common.storage.hyper(name, value, span)
        return Computed(self.elaborator.ports.port(name, stored.type, "hyper", span))

    def rule(self, plan: TrainPlan) -> OptimizerRule:
        """The optimizer that the section names, or Adam."""
        setting = plan.optimizer
        if setting is None:
            if plan.broken:
                raise Poisoned
            defined = standard("Adam")
            assert defined is not None
            return self.evaluated(defined, (), self.span)
        syntax = setting.values[0]
        call = syntax if isinstance(syntax, ast.Call) else None
        function = self.elaborator.evaluate(self.frame, call.function if call else syntax)
        if not isinstance(function, Defined) or function.definition.kind != "optimizer":
            near = meant(function, fitting(self.frame.module.names, "rule")) if isinstance(function, str) else None
            raise self.frame.fault(
                "E0401",
                f"{describe(function)} is not an optimizer",
                syntax.span,
                hint=f"Write `optimizer {near}`." if near else "Write `optimizer Adam(lr = 1e-3)`.",
            )
        return self.evaluated(function, call.arguments if call else (), syntax.span)

    def evaluated(self, defined: Defined, arguments: tuple[ast.Argument, ...], span: Span) -> OptimizerRule:
        """Hyper-parameters from the call's arguments and the definition's defaults."""
        definition = defined.definition
        plain = [parameter for parameter in definition.parameters[:2] if parameter.default is None]
        if len(plain) != 2:
            frame = Frame("optimizer", definition.name, defined.module, self.frame.emitter)
            raise frame.fault(
                "E0604",
                f"optimizer `{definition.name}` must take the parameter and its gradient first",
                definition.head,
                hint=f"Write `optimizer {definition.name}(w, g, lr = 0.01):`.",
            )
        hypers = definition.parameters[2:]
        names = [parameter.name for parameter in hypers]
        optional = {parameter.name for parameter in hypers if parameter.default is not None}
        bound = bind(
            self.common.reporter, self.frame, span, definition.name, names, optional, arguments, [None] * len(arguments)
        )
        inner = Frame(
            "optimizer",
            definition.name,
            defined.module,
            self.frame.emitter,
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
        return OptimizerRule(defined, found, span)

    def run_time(self, frame: Frame, label: str, syntax: ast.Expression) -> Any:
        """A hyper-parameter: a number gets a slot, a schedule one for each of its arguments."""
        self.frame.emitter.where = label
        if isinstance(syntax, ast.Call):
            function = self.elaborator.evaluate(frame, syntax.function)
            if isinstance(function, Defined) and function.definition.kind == "fn":
                definition = function.definition
                names = [parameter.name for parameter in definition.parameters]
                optional = {parameter.name for parameter in definition.parameters if parameter.default is not None}
                bound = bind(
                    self.common.reporter,
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
                            self.frame.emitter,
                            frame,
                            syntax.span,
                            frame.override or (syntax.span if function.module.standard else None),
                        )
                    )
                    value = self.run_time(where, f"{definition.name}.{parameter.name}", default)
                    values[parameter.name] = (value, written or ast.Argument(syntax.span, parameter.name, default))
                self.counts()
                self.frame.emitter.where = label
                result = self.elaborator.inlining.call(frame, syntax.span, function, values, False)
                return self.single(frame, result, syntax)
        self.counts()
        value = self.elaborator.evaluate(frame, syntax)
        self.negative(label, value, frame.shown(syntax.span))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return self.hyper(label, value, frame.shown(syntax.span))
        return self.single(frame, value, syntax)

    def negative(self, label: str, value: Any, span: Span) -> None:
        """A rate below zero makes the loss larger, which is hardly meant."""
        name = label.rpartition(".")[2]
        if name in RATES and isinstance(value, (int, float)) and value < 0:
            uphill = "training would make the loss larger" if RATES[name] else "parameters would grow without end"
            self.common.reporter.report(Diagnostic("W0108", f"`{name}` is below zero ({value:g}): {uphill}", span))

    def counts(self) -> None:
        """The planned number of steps, for schedules that ask."""
        if "steps" not in self.elaborator.names.counters:
            self.elaborator.names.counters["steps"] = Computed(
                self.elaborator.ports.port("steps", COUNTER, "counter", self.span)
            )

    def single(self, frame: Frame, value: Any, syntax: ast.Expression) -> Any:
        """A hyper-parameter is one number, whether to do something, or nothing where none was given."""
        if value is None:
            return None
        if not isinstance(value, (int, float, Computed)) or (isinstance(value, Computed) and value.shape):
            schedule = value.definition.name if isinstance(value, Defined) and value.definition.kind == "fn" else None
            raise frame.fault(
                "E0401",
                f"a hyper-parameter is one number, not {describe(value)}",
                syntax.span,
                hint=f"A schedule is called: `{schedule}(...)`." if schedule else None,
            )
        return self.frame.emitter.as_real(value) if isinstance(value, Computed) else value

    def override(self, frame: Frame, rule: OptimizerRule, stored: Stored, argument: ast.Argument) -> None:
        """One hyper-parameter of an `except` line."""
        assert argument.name is not None
        if argument.name not in rule.hypers:
            near = meant_argument(argument.name, list(rule.hypers))
            known = ", ".join(rule.hypers)
            raise self.frame.fault(
                "E0605",
                f"`{rule.defined.definition.name}` has no hyper-parameter `{argument.name}`",
                argument.span,
                hint=f"Did you mean `{near}`?" if near else f"It has {known}.",
            )
        self.frame.emitter.where = join(stored.name, argument.name)
        self.counts()
        value = self.single(self.frame, self.elaborator.evaluate(self.frame, argument.value), argument.value)
        self.negative(argument.name, value, argument.span)
        frame.names[argument.name] = Binding(value, argument.name, argument.span, "given", "argument")
