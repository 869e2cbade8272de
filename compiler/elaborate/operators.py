"""Operators: signs, arithmetic, comparisons, logic and `@`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.conditions import truth_of
from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.folding import FOLDED, fold_list
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.operands import elementwise, numeric, tensor_of
from tapeless.compiler.elaborate.values import LONGEST_LIST, Compared, Computed, bounded, is_numbers
from tapeless.compiler.language import ast


@dataclass(frozen=True, eq=False)
class Operators:
    """Evaluates operators."""

    context: Context

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {ast.Unary: self.unary, ast.Binary: self.binary}

    def unary(self, frame: Frame, syntax: ast.Unary) -> Any:
        value = self.context.evaluate(frame, syntax.operand)
        if syntax.operator == "not":
            if isinstance(truth := truth_of(value), bool):
                return not truth
            return self.context.guarded(frame, syntax.span, lambda: self.context.emitter.logical("logical_not", value))
        if is_numbers(value) and isinstance(value, tuple):
            return self.context.guarded(frame, syntax.span, lambda: fold_list("*", -1, value))
        value = tensor_of(self.context, frame, syntax.operand, value)
        numeric(frame, syntax.operand, value, "`-`")
        return self.context.guarded(frame, syntax.span, lambda: self.context.emitter.negative(value))

    def binary(self, frame: Frame, syntax: ast.Binary) -> Any:
        operator = syntax.operator
        left, right = self.context.evaluate_all(frame, (syntax.left, syntax.right))
        labels = lambda: frame.sides((syntax.left, left), (syntax.right, right))  # noqa: E731
        if operator in ("and", "or"):
            one, other = truth_of(left), truth_of(right)
            if isinstance(one, bool) and isinstance(other, bool):
                return (one and other) if operator == "and" else (one or other)
            return self.context.guarded(
                frame, syntax.span, lambda: self.context.emitter.logical(f"logical_{operator}", left, right), labels
            )
        if operator in ("==", "!=") and isinstance(left, str) and isinstance(right, str):
            return (left == right) is (operator == "==")
        if operator in ("==", "!=") and (left is None or right is None):
            return (left is right) is (operator == "==")
        if operator == "+" and isinstance(left, tuple) and isinstance(right, tuple):
            return bounded(left + right, syntax.span)
        if operator == "*" and isinstance(left, tuple) and len(left) == 1 and type(right) is int:
            # `[1] * n` is a list of n ones; a longer list is a vector
            return bounded(left * min(right, LONGEST_LIST + 1), syntax.span)
        if isinstance(left, tuple) or isinstance(right, tuple):
            if operator in ("==", "!=") and isinstance(left, tuple) and isinstance(right, tuple):
                whole = (left == right) is (operator == "==")
                alike = is_numbers(left) and is_numbers(right) and len(left) == len(right)
                return Compared.of(fold_list(operator, left, right), whole) if alike else whole
            if operator in FOLDED and is_numbers(left) and is_numbers(right):
                return self.context.guarded(frame, syntax.span, lambda: fold_list(operator, left, right), labels)
            left, right = (
                tensor_of(self.context, frame, part, value)
                for part, value in ((syntax.left, left), (syntax.right, right))
            )
        numeric(frame, syntax.left, left, f"`{operator}`")
        numeric(frame, syntax.right, right, f"`{operator}`")
        if operator == "@":
            return self.product(frame, syntax, left, right)
        return self.context.guarded(
            frame, syntax.span, lambda: self.context.emitter.binary(operator, left, right), labels
        )

    def product(self, frame: Frame, syntax: ast.Binary, left: Any, right: Any) -> Computed:
        """`left @ right`."""
        labels = frame.sides((syntax.left, left), (syntax.right, right))
        elementwise(self.context, frame, "`@`", (left, right), syntax.span)
        for value in (left, right):
            if not isinstance(value, Computed) or not value.rank:
                raise frame.fault(
                    "E0204",
                    "`@` multiplies matrices and vectors",
                    syntax.span,
                    labels,
                    "Multiply by a number with `*`.",
                )
        inner, other = left.shape[-1], right.shape[-2] if right.rank > 1 else right.shape[0]
        if inner != other:
            raise frame.fault(
                "E0204",
                "`@` needs the inner dimensions to agree",
                syntax.span,
                labels,
                f"{inner} != {other}." + self.mended(frame, syntax, left, right),
            )
        result: Computed = self.context.guarded(
            frame, syntax.span, lambda: self.context.emitter.matmul(left, right), lambda: labels
        )
        return result

    def mended(self, frame: Frame, syntax: ast.Binary, left: Computed, right: Computed) -> str:
        """What would make the inner dimensions agree."""
        if frame.override is not None:
            return ""
        if isinstance(syntax.right, ast.Name):
            binding = frame.names.get(syntax.right.name)
            declared = binding.syntax if binding else None
            if isinstance(declared, ast.Param) and declared.dims and len(declared.dims) == right.rank == 2:
                if right.shape[1] == left.shape[-1]:
                    return f" Did you mean `transpose({syntax.right.name}, [1, 0])`?"
                last = frame.module.source.slice(declared.dims[1].span)
                return f" Did you mean `param {declared.name}: [{left.shape[-1]}, {last}]`?"
        if right.rank > 2 and right.shape[-1] == left.shape[-1]:
            swapped = [*range(right.rank - 2), right.rank - 1, right.rank - 2]
            return f" Did you mean `transpose({frame.module.source.slice(syntax.right.span)}, {swapped})`?"
        if right.rank == 2 and right.shape[1] == left.shape[-1]:
            return f" Did you mean `transpose({frame.module.source.slice(syntax.right.span)}, [1, 0])`?"
        if right.rank <= 2 and left.rank == 2 and left.shape[0] == right.shape[0]:
            return f" Did you mean `transpose({frame.module.source.slice(syntax.left.span)}, [1, 0])`?"
        return ""
