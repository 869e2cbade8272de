"""Scalar formulas: sympy expressions over operands x, y and the result `out`, differentiated and written as nodes.

sympy sees one scalar function at a time, never a network: a whole network's formula swells without bound, while the
chain rule over nodes shares every intermediate value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sympy

    from tapeless.ir.graph import Builder, Value

NAMES = ("x", "y")


@cache
def _vocabulary() -> Mapping[str, Any]:
    """What names in formulas mean to sympy; others that are called are operations, of which it knows no more than that.
    Symbols are real, so that derivatives of Abs and the like are found.
    """
    import sympy

    symbols = {name: sympy.Symbol(name, real=True) for name in (*NAMES, "out")}
    known = {
        name: getattr(sympy, name)
        for name in (
            *("exp", "log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh"),
            *("erf", "erfc", "floor", "ceiling", "Abs", "Piecewise", "Eq", "Integer", "Rational"),
        )
    }
    return {**symbols, **known}


@cache
def parse(text: str) -> sympy.Expr:
    """The sympy expression of a formula's text."""
    import sympy
    from sympy.parsing.sympy_parser import parse_expr

    expression = parse_expr(
        text,
        local_dict=dict(_vocabulary()),
        global_dict={
            "Integer": sympy.Integer,
            "Float": sympy.Float,
            "Rational": sympy.Rational,
            "Symbol": sympy.Symbol,
            "Function": sympy.Function,
        },
    )
    return sympy.sympify(expression)


@cache
def partial(formula: str, stated: tuple[str, ...], place: int) -> sympy.Expr:
    """The partial derivative of a formula by its operand at `place`.

    Where a derivative is stated (in terms of `out`, because the plain one overflows or repeats work) that text is
    taken, and `agrees` lets a test hold it against the derived one; else sympy differentiates the formula.
    """
    if stated:
        return parse(stated[place])
    return derived(formula, place)


@cache
def derived(formula: str, place: int) -> sympy.Expr:
    """The derivative that sympy finds for the formula itself."""
    import sympy

    return sympy.diff(parse(formula), _vocabulary()[NAMES[place]])


def emit(builder: Builder, expression: sympy.Expr, values: Mapping[str, Value], like: Value) -> Value:
    """Write an expression as pointwise nodes over operands of equal shape; constants take the shape of `like`."""
    return _Emitter(builder, values, like).emit(expression)


class _Emitter:
    """Writes sympy expressions as nodes; one instance for one expression."""

    def __init__(self, builder: Builder, values: Mapping[str, Value], like: Value) -> None:
        self.builder, self.values, self.like = builder, values, like

    def emit(self, e: Any) -> Value:
        import sympy

        if e.is_Symbol:
            return self.values[e.name]
        if e.is_number:
            return self.builder.full(float(e), self.like)
        if isinstance(e, sympy.Piecewise):
            return self.piecewise(e.args)
        if e.is_Add:
            return self.sum(e.args)
        if e.is_Mul:
            return self.product(e.args)
        if e.is_Pow:
            return self.power(e.base, e.exp)
        if isinstance(e, sympy.exp):
            return self.builder.emit("exp", self.emit(e.args[0]))
        if e.is_Relational:
            return self.relation(e)
        name = {"Abs": "abs"}.get(type(e).__name__, type(e).__name__)
        return self.builder.emit(name, *(self.emit(argument) for argument in e.args))

    def piecewise(self, branches: Sequence[Any]) -> Value:
        (value, condition), *rest = branches
        if condition == True:  # noqa: E712  (sympy's true)
            return self.emit(value)
        return self.builder.emit("select", self.emit(condition), self.emit(value), self.piecewise(rest))

    def relation(self, e: Any) -> Value:
        name = {
            "StrictLessThan": "lt",
            "LessThan": "le",
            "StrictGreaterThan": "lt",
            "GreaterThan": "le",
            "Equality": "eq",
            "Unequality": "ne",
        }
        kind = type(e).__name__
        left, right = (e.lhs, e.rhs) if not kind.endswith("GreaterThan") else (e.rhs, e.lhs)
        return self.builder.emit(name[kind], self.emit(left), self.emit(right))

    def sum(self, terms: Sequence[Any]) -> Value:
        ordered = sorted(terms, key=lambda term: (term.could_extract_minus_sign(), term.sort_key()))
        total = self.emit(ordered[0])
        for term in ordered[1:]:
            if term.could_extract_minus_sign():
                total = self.builder.emit("sub", total, self.emit(-term))
            else:
                total = self.builder.emit("add", total, self.emit(term))
        return total

    def product(self, factors: Sequence[Any]) -> Value:
        if factors[0] == -1:
            rest = factors[1:]
            inner = self.product(rest) if len(rest) > 1 else self.emit(rest[0])
            return self.builder.emit("neg", inner)
        above = [f for f in factors if not (f.is_Pow and f.exp.is_number and -1 <= f.exp < 0)]
        below = [1 / f for f in factors if f not in above]
        value = self.multiply(above) if above else self.builder.full(1.0, self.like)
        return self.builder.emit("div", value, self.multiply(below)) if below else value

    def multiply(self, factors: Sequence[Any]) -> Value:
        value = self.emit(factors[0])
        for factor in factors[1:]:
            value = self.builder.emit("mul", value, self.emit(factor))
        return value

    def power(self, base: Any, exponent: Any) -> Value:
        if exponent.is_number and exponent < 0:
            return self.raised(self.builder.emit("reciprocal", self.emit(base)), -exponent)
        return self.raised(self.emit(base), exponent)

    def raised(self, base: Value, exponent: Any) -> Value:
        plain = {1.0: "", 2.0: "square", 0.5: "sqrt"}.get(float(exponent) if exponent.is_number else math.nan)
        if plain is None:
            return self.builder.emit("pow", base, self.emit(exponent))
        return self.builder.emit(plain, base) if plain else base
