"""The optimizer's step as a graph: gradients clipped, noise, and the rule for each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tapeless.compiler.elaborate.elaborator import Common, Elaborator
from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.hyper_parameters import HyperParameters, OptimizerRule
from tapeless.compiler.elaborate.modules import Module, standard
from tapeless.compiler.elaborate.parameter_patterns import matches, matching
from tapeless.compiler.elaborate.storage import COUNTER, Stored
from tapeless.compiler.elaborate.train_settings import TrainPlan, train_frame
from tapeless.compiler.elaborate.values import Binding, Computed, Fault, Poisoned
from tapeless.compiler.language import ast
from tapeless.compiler.language.statement_parser import made_by
from tapeless.ir.graph import Graph, Span, Value
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.types import DType


class Update:
    """Elaborates the update of one model."""

    def __init__(
        self,
        common: Common,
        module: Module,
        definition: ast.Definition,
        plan: TrainPlan,
        span: Span,
        arguments: Mapping[str, Any],
    ) -> None:
        self.common, self.plan, self.span = common, plan, span
        self.emitter = Emitter(definition.name, common.storage.init.real)
        self.emitter.counts_steps = True
        self.elaborator = Elaborator(common, self.emitter, training=None)
        self.frame = train_frame(module, definition, self.emitter, arguments)
        self.hyper_parameters = HyperParameters(common, self.elaborator, self.frame, span)

    def graph(self) -> Graph:
        """The graph from gradients, parameters and optimizer state to their next values."""
        emitter = self.emitter
        emitter.span = self.span
        for pattern in self.plan.frozen:
            for name in matching(self.frame, self.common.storage.slots, pattern):
                self.common.storage.slots[name].frozen = True
        trained = [
            stored for stored in self.common.storage.slots.values() if stored.role == "param" and not stored.frozen
        ]
        gradients = {stored.name: Computed(self.gradient(stored)) for stored in trained}
        count = self.elaborator.ports.port("step", COUNTER, "counter", self.span)
        emitter.where = ""
        step = Computed(emitter.emit("add", count, emitter.constant(1, DType.I32), name="step.next"))
        self.elaborator.names.counters = {"step": step}
        try:
            rule = self.hyper_parameters.rule(self.plan)
            gradients = self.noisy(self.clipped(gradients))
            for stored in trained:
                self.apply(rule, stored, gradients[stored.name])
        except Fault as fault:
            self.common.reporter.report(fault.diagnostic)
        except Poisoned:
            pass
        for slot, (value, span) in self.elaborator.updates.stores.items():
            emitter.output(slot, value, "state", span)
        emitter.output("step", step.value, "state", self.span)
        return emitter.graph()

    def gradient(self, stored: Stored) -> Value:
        return self.emitter.builder.input(stored.name, stored.type, "gradient", stored.span, f"d_{stored.name}")

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
        function = standard("with_noise")
        assert function is not None
        variance = self.clip_bound("gradient_noise", syntax)
        result = {}
        for name, gradient in gradients.items():
            self.emitter.where = f"d_{name}"
            frame = Frame(
                "optimizer",
                "gradient_noise",
                self.frame.module,
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
            result[name] = self.elaborator.inlining.call(frame, syntax.span, function, bound, False)
            self.emitter.claim(result[name], f"d_{name}.noisy")
        return result

    def clip_bound(self, name: str, syntax: ast.Expression) -> Computed:
        self.emitter.span = syntax.span
        value = self.elaborator.evaluate(self.frame, syntax)
        return self.hyper_parameters.hyper(name, float(value), syntax.span)

    def apply(self, rule: OptimizerRule, stored: Stored, gradient: Computed) -> None:
        """The optimizer's body for one parameter."""
        emitter, definition = self.emitter, rule.defined.definition
        module = rule.defined.module
        frame = Frame(
            "optimizer",
            definition.name,
            module,
            emitter,
            self.frame,
            rule.span,
            rule.span if module.standard else None,
            where=stored.name,
            path=stored.name,
        )
        frame.axes_of_parameter = tuple(dim for dim in stored.type.shape if isinstance(dim, int))
        frame.turns_of_parameter = stored.turns
        frame.made = frozenset(name for statement in definition.body for name in made_by(statement))
        weight, slope = definition.parameters[0].name, definition.parameters[1].name
        value = Computed(self.elaborator.ports.port(stored.name, stored.type, "param", stored.span))
        frame.names[weight] = Binding(
            value, weight, definition.parameters[0].span, "declared", "weight", None, {"slot": stored.name}
        )
        frame.names[slope] = Binding(gradient, slope, definition.parameters[1].span, "declared", "argument")
        frame.starts = {weight: Binding(Computed(stored.initial), weight, None)}
        for name, binding in rule.hypers.items():
            frame.names[name] = binding
        for setting in self.plan.exceptions:
            if any(matches(self.frame, stored, pattern) for pattern in setting.patterns):
                for argument in setting.named:
                    self.hyper_parameters.override(frame, rule, stored, argument)
        emitter.where = stored.name
        before = len(emitter.builder.nodes)
        self.elaborator.run_body(frame, definition.body)
        whole = [
            node
            for node in emitter.builder.nodes[before:]
            if OPERATIONS[node.op].family not in ("pointwise", "shape", "random")
        ]
        if stored.turns and whole:
            raise frame.fault(
                "E0604",
                (
                    f"optimizer `{definition.name}` looks at a parameter as a whole, and `repeat` stacks those of "
                    "its turns"
                ),
                definition.head,
                hint="Write the turns out with `for`.",
            )
        if stored.name not in self.elaborator.updates.stores and not frame.broken:
            raise frame.fault(
                "E0604",
                f"optimizer `{definition.name}` never assigns `{weight}`",
                definition.head,
                hint=f"The rule ends with `{weight} = ...`.",
            )
