"""Pointwise operations: each a sympy formula from which its derivative is derived.

Operands have equal shapes (broadcasts are nodes of their own). A derivative is `stated` only where the derived one
would overflow, lose a kink's value or repeat work, and then in terms of the operands x, y and the result `out`; a test
holds each stated derivative against sympy's. At a kink the derivative is a subgradient: zero for `abs`, and where
`maximum` and `minimum` have equal operands, half of the adjoint goes to each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir import ranges
from tapeless.ir.ops import numeric, slopes
from tapeless.ir.ops.formula import NAMES
from tapeless.ir.ops.registry import (
    Array,
    Gradients,
    NoDerivative,
    Operation,
    Run,
    Sample,
    declare,
    expect,
    expect_count,
)
from tapeless.ir.range_analysis import weighed
from tapeless.ir.types import DType, IRTypeError, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value

_F = Tensor(DType.F64, (3, 4))
_B = Tensor(DType.BOOL, (3, 4))
_I = Tensor(DType.I32, (3, 4))


def _equal_shapes(name: str, operands: Sequence[Tensor]) -> None:
    for operand in operands[1:]:
        if operand.shape != operands[0].shape:
            raise IRTypeError(f"`{name}` needs equal shapes: {', '.join(map(str, operands))}")


def _same(name: str, count: int, kinds: Callable[[DType], bool]) -> Any:
    """Type rule: `count` operands of one type, whose element type `kinds` admits; the result has that type."""

    def rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
        expect_count(name, operands, count)
        _equal_shapes(name, operands)
        for operand in operands[1:]:
            if operand.dtype is not operands[0].dtype:
                raise IRTypeError(f"`{name}` needs equal element types: {', '.join(map(str, operands))}")
        if not kinds(operands[0].dtype):
            raise IRTypeError(f"`{name}` does not take {operands[0]}")
        return (operands[0],)

    return rule


def _compared(name: str) -> Any:
    def rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
        (operand,) = _same(name, 2, lambda dtype: True)(operands, attrs, regions)
        return (operand.with_dtype(DType.BOOL),)

    return rule


def _is_float(dtype: DType) -> bool:
    return dtype.is_float


def _is_number(dtype: DType) -> bool:
    return dtype.is_number


def _is_bool(dtype: DType) -> bool:
    return dtype is DType.BOOL


# Beyond, 1 - tanh(x)**2 is below the smallest normal number.
_TANH_END = {DType.F32: 44.5, DType.F64: 354.9}


def _chain_rule(formula: str, stated: tuple[str, ...], end: Mapping[DType, float] | None = None) -> Any:
    """The vector-Jacobian product of a pointwise operation: the adjoint times each partial derivative; see `weighed`.

    `end` is the size of x beyond which a slope is 0 that machine code leaves a little above: that spares it a
    comparison, and matters only where x can be infinite, as what made it so may have an infinite slope.
    """

    def product(builder: Builder, node: Node, adjoint: Value) -> Gradients:
        values = dict(zip(NAMES, node.operands, strict=False)) | {"out": node.result}
        gradients: list[Value | None] = []
        for place in range(len(node.operands)):
            slope = slopes.slope(formula, stated, place)
            if slope.trivial == 0:
                gradients.append(None)
            elif slope.trivial == 1:
                gradients.append(adjoint)
            elif slope.trivial == -1:
                gradients.append(builder.emit("neg", adjoint))
            else:
                made = slope.emit(builder, values, node.result)
                gradients.append(weighed(builder, adjoint, _ended(builder, made, node.operands[0], end)))
        return gradients

    return product


def _ended(builder: Builder, slope: Value, x: Value, end: Mapping[DType, float] | None) -> Value:
    """The slope, exactly 0 beyond an end if x can be infinite."""
    if end is None or not builder.ranges.of(x).special:
        return slope
    beyond = builder.emit("lt", builder.full(end[x.type.dtype], x), builder.emit("abs", x))
    return builder.emit("select", beyond, builder.full(0.0, x), slope)


def _by_numpy(function: Callable[..., Array]) -> Any:
    def reference(run: Run, operands: Sequence[Array]) -> Array:
        return np.asarray(function(*operands)).astype(run.dtype, copy=False)

    return reference


def _scalar(
    name: str,
    formula: str,
    function: Callable[..., Any],
    *,
    stated: tuple[str, ...] = (),
    kinds: Callable[[DType], bool] = _is_float,
    flops: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    slope: str = "",
    range: ranges.Rule = ranges.unknown,
    end: Mapping[DType, float] | None = None,
    instructions: int = 1,
    fold: Callable[[float], float] | None = None,
) -> None:
    """Declare a pointwise operation by its formula in x (and y), with NumPy's function as reference."""
    count = 2 if "y" in formula else 1
    declare(
        Operation(
            name,
            "pointwise",
            _same(name, count, kinds),
            _chain_rule(formula, stated, end),
            _by_numpy(function),
            (Sample((_F,) * count, low=low, high=high), *((Sample((_I,) * count),) if kinds is _is_number else ())),
            flops,
            formula=formula,
            slope=slope,
            range=range,
            instructions=instructions,
            fold=fold,
        )
    )


_NOT_NEGATIVE = (0.0, math.inf)


def _range_of_rsqrt(node: Node, operands: Sequence[ranges.Range]) -> ranges.Range:
    return ranges.reciprocal(node, [ranges.rising(np.sqrt, domain=_NOT_NEGATIVE)(node, operands)])


def _range_of_cosh(node: Node, operands: Sequence[ranges.Range]) -> ranges.Range:
    return ranges.rising(np.cosh, explodes=True)(node, [ranges.size(node, operands)])


def _range_of_one_less_square(node: Node, operands: Sequence[ranges.Range]) -> ranges.Range:
    return ranges.difference(node, [ranges.Range(1.0, 1.0), ranges.square(node, operands)])


def _range_of_hypot_slope(node: Node, operands: Sequence[ranges.Range]) -> ranges.Range:
    return ranges.Range(-1.0, 1.0, nan=any(one.special for one in operands))


_scalar("neg", "-x", np.negative, kinds=_is_number, range=ranges.negated)
_scalar("add", "x + y", np.add, kinds=_is_number, range=ranges.total)
_scalar("sub", "x - y", np.subtract, kinds=_is_number, range=ranges.difference)
_scalar("mul", "x * y", np.multiply, kinds=_is_number, range=ranges.product)
# A product that keeps a zero beside an infinity or NaN: what differentiation multiplies with where a slope can be
# infinite. Its slopes are the operands, as those of a product, so it is closed under differentiation.
_scalar("strong_product", "x * y", numeric.strong_product, range=ranges.strong_product, instructions=4)
_scalar(
    "div", "x / y", np.divide, stated=("1 / y", "-out / y"), flops=4, low=0.5, range=ranges.quotient, instructions=4
)
_scalar(
    "pow",
    "x ** y",
    np.power,
    stated=("strong_product(y, x ** (y - 1))", "Piecewise((out * log(x), 0 < x), (0, True))"),
    flops=25,
    low=0.5,
    range=ranges.power,
    instructions=90,
)
_scalar(
    "hypot",
    "sqrt(x ** 2 + y ** 2)",
    np.hypot,
    stated=("hypot_slope(x, y)", "hypot_slope(y, x)"),
    flops=8,
    range=ranges.distance,
    instructions=24,
)
# Its own slopes by the other operand's share: in 1 / r - x ** 2 / r ** 3 all would cancel where x is much the larger.
_scalar(
    "hypot_slope",
    "x / sqrt(x ** 2 + y ** 2)",
    numeric.hypot_slope,
    stated=(
        "Piecewise((hypot_slope(y, x) ** 2 / hypot(x, y), 0 < hypot(x, y)), (0, True))",
        "Piecewise((-out * hypot_slope(y, x) / hypot(x, y), 0 < hypot(x, y)), (0, True))",
    ),
    flops=12,
    range=_range_of_hypot_slope,
    instructions=28,
)
_scalar("square", "x ** 2", np.square, range=ranges.square, fold=lambda x: x * x)
_scalar(
    "reciprocal",
    "1 / x",
    np.reciprocal,
    stated=("-out ** 2",),
    flops=4,
    low=0.5,
    range=ranges.reciprocal,
    fold=lambda x: 1 / x,
)
_scalar(
    "sqrt", "sqrt(x)", np.sqrt, stated=("0.5 / out",), flops=4, low=0.5,
    range=ranges.rising(np.sqrt, domain=_NOT_NEGATIVE),
    instructions=4, fold=math.sqrt,
)  # fmt: skip
_scalar(
    "exp",
    "exp(x)",
    np.exp,
    stated=("out",),
    flops=10,
    range=ranges.rising(np.exp, explodes=True),
    instructions=20,
    fold=math.exp,
)
_scalar(
    "expm1",
    "exp(x) - 1",
    np.expm1,
    stated=("exp(x)",),
    flops=12,
    range=ranges.rising(np.expm1, explodes=True),
    instructions=24,
    fold=math.expm1,
)
_scalar(
    "log",
    "log(x)",
    np.log,
    flops=10,
    low=0.1,
    range=ranges.rising(np.log, domain=_NOT_NEGATIVE),
    instructions=28,
    fold=math.log,
)
_scalar(
    "log1p",
    "log(1 + x)",
    np.log1p,
    flops=12,
    low=-0.5,
    range=ranges.rising(np.log1p, domain=(-1.0, math.inf)),
    instructions=36,
    fold=math.log1p,
)
_scalar(
    "tanh", "tanh(x)", np.tanh, stated=("tanh_slope(x)",), flops=12, slope="tanh_slope", end=_TANH_END,
    range=ranges.rising(np.tanh),
    instructions=30, fold=math.tanh,
)  # fmt: skip
_scalar(
    "sigmoid", "1 / (1 + exp(-x))", numeric.sigmoid, stated=("sigmoid_slope(x)",), flops=12, slope="sigmoid_slope",
    range=ranges.rising(numeric.sigmoid),
    instructions=24, fold=numeric.sigmoid_of_number,
)  # fmt: skip
# Far out the functions are 1 or -1 to the last digit, and their slopes cannot be had from them. Beside the function a
# slope costs three instructions: machine code computes what they share once.
_scalar(
    "tanh_slope", "1 / cosh(x) ** 2", numeric.tanh_slope, stated=("-2 * out * tanh(x)",), flops=12,
    range=ranges.between(0.0, 1.0),
    instructions=30,
)  # fmt: skip
_scalar(
    "sigmoid_slope", "exp(-x) / (1 + exp(-x)) ** 2", numeric.sigmoid_slope, stated=("-out * tanh(0.5 * x)",), flops=12,
    range=ranges.between(0.0, 0.25),
    instructions=24,
)  # fmt: skip
_scalar(
    "softplus",
    "log(1 + exp(x))",
    numeric.softplus,
    stated=("sigmoid(x)",),
    flops=20,
    range=ranges.rising(numeric.softplus),
    instructions=60,
    fold=lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))),
)
_scalar(
    "erf",
    "erf(x)",
    numeric.erf,
    stated=("1.1283791670955126 * exp(-x ** 2)",),
    flops=40,
    range=ranges.rising(numeric.erf),
    instructions=60,
    fold=math.erf,
)
_scalar(
    "erfc",
    "erfc(x)",
    numeric.erfc,
    stated=("-1.1283791670955126 * exp(-x ** 2)",),
    flops=40,
    range=ranges.falling(numeric.erfc),
    instructions=240,
    fold=math.erfc,
)
_scalar(
    "exp2", "2 ** x", np.exp2, stated=("0.6931471805599453 * out",), flops=10,
    range=ranges.rising(np.exp2, explodes=True),
    instructions=20, fold=lambda x: math.pow(2, x),
)  # fmt: skip
_scalar(
    "exp10", "10 ** x", lambda x: np.power(10.0, x), stated=("2.302585092994046 * out",), flops=12,
    range=ranges.rising(lambda x: np.power(10.0, x), explodes=True),
    instructions=24, fold=lambda x: math.pow(10, x),
)  # fmt: skip
_scalar(
    "log10", "log(x) / log(10)", np.log10, stated=("0.4342944819032518 / x",), flops=10, low=0.1,
    range=ranges.rising(np.log10, domain=_NOT_NEGATIVE),
    instructions=30, fold=math.log10,
)  # fmt: skip
_scalar(
    "log2", "log(x) / log(2)", np.log2, stated=("1.4426950408889634 / x",), flops=10, low=0.1,
    range=ranges.rising(np.log2, domain=_NOT_NEGATIVE),
    instructions=30, fold=math.log2,
)  # fmt: skip
_scalar(
    "rsqrt", "1 / sqrt(x)", lambda x: 1 / np.sqrt(x), stated=("-0.5 * out / x",), flops=8, low=0.5,
    range=_range_of_rsqrt,
    instructions=8, fold=lambda x: 1 / math.sqrt(x),
)  # fmt: skip
_scalar(
    "cbrt", "x ** Rational(1, 3)", np.cbrt, stated=("1 / (3 * out ** 2)",), flops=20, low=0.5,
    range=ranges.rising(np.cbrt),
    instructions=160, fold=lambda x: math.copysign(abs(x) ** (1 / 3), x),
)  # fmt: skip
_scalar("sin", "sin(x)", np.sin, flops=12, range=ranges.periodic, instructions=60, fold=math.sin)
_scalar("cos", "cos(x)", np.cos, flops=12, range=ranges.periodic, instructions=60, fold=math.cos)
_scalar(
    "tan", "tan(x)", np.tan, stated=("1 + out ** 2",), flops=14, low=-1.4, high=1.4,
    range=ranges.without_poles(np.tan, -1.57, 1.57),
    instructions=64, fold=math.tan,
)  # fmt: skip
_scalar(
    "one_less_square", "1 - x ** 2", lambda x: (1 - x) * (1 + x), stated=("-2 * x",), flops=3,
    range=_range_of_one_less_square,
    instructions=3,
)  # fmt: skip
_scalar(
    "asin", "asin(x)", np.arcsin, stated=("1 / sqrt(one_less_square(x))",), flops=14, low=-0.9, high=0.9,
    range=ranges.rising(np.arcsin, domain=(-1.0, 1.0)),
    instructions=80, fold=math.asin,
)  # fmt: skip
_scalar(
    "acos", "acos(x)", np.arccos, stated=("-1 / sqrt(one_less_square(x))",), flops=14, low=-0.9, high=0.9,
    range=ranges.falling(np.arccos, domain=(-1.0, 1.0)),
    instructions=80, fold=math.acos,
)  # fmt: skip
_scalar(
    "atan",
    "atan(x)",
    np.arctan,
    stated=("1 / (1 + x ** 2)",),
    flops=14,
    range=ranges.rising(np.arctan),
    instructions=90,
    fold=math.atan,
)
_scalar(
    "atan2",
    "atan2(x, y)",
    np.arctan2,
    # By the ratio that is at most 1, so that no square overflows; 0 at the origin.
    stated=(
        (
            "Piecewise((div(1, y * (1 + div(x, y) ** 2)), Abs(x) < Abs(y)), (0, Eq(x, 0)), (div(div(y, x), x * (1 + "
            "div(y, x) ** 2)), True))"
        ),
        (
            "Piecewise((-div(div(x, y), y * (1 + div(x, y) ** 2)), Abs(x) < Abs(y)), (0, Eq(x, 0)), (-div(1, x * (1 "
            "+ div(y, x) ** 2)), True))"
        ),
    ),
    flops=18,
    low=0.5,
    range=ranges.between(-math.pi, math.pi),
    instructions=120,
)
_scalar(
    "sinh",
    "sinh(x)",
    np.sinh,
    stated=("cosh(x)",),
    flops=14,
    range=ranges.rising(np.sinh, explodes=True),
    instructions=56,
    fold=math.sinh,
)
_scalar(
    "cosh", "cosh(x)", np.cosh, stated=("sinh(x)",), flops=14, range=_range_of_cosh, instructions=30, fold=math.cosh
)
_scalar("abs", "Abs(x)", np.abs, stated=("sign(x)",), kinds=_is_number, range=ranges.size, fold=abs)
_scalar(
    "maximum",
    "Piecewise((x, y < x), (y, True))",
    np.maximum,
    stated=("Piecewise((1, y < x), (0.5, Eq(x, y)), (0, True))", "Piecewise((1, x < y), (0.5, Eq(x, y)), (0, True))"),
    kinds=_is_number,
    range=ranges.greater,
    instructions=2,
)
_scalar(
    "minimum",
    "Piecewise((x, x < y), (y, True))",
    np.minimum,
    stated=("Piecewise((1, x < y), (0.5, Eq(x, y)), (0, True))", "Piecewise((1, y < x), (0.5, Eq(x, y)), (0, True))"),
    kinds=_is_number,
    range=ranges.smaller,
    instructions=2,
)
_scalar(
    "sign",
    "sign(x)",
    np.sign,
    stated=("0",),
    kinds=_is_number,
    range=ranges.rising(np.sign),
    instructions=4,
    fold=lambda x: (x > 0) - (x < 0),
)
_scalar("floor", "floor(x)", np.floor, stated=("0",), range=ranges.rising(np.floor), fold=math.floor)
_scalar("ceil", "ceiling(x)", np.ceil, stated=("0",), range=ranges.rising(np.ceil), fold=math.ceil)
_scalar("trunc", "sign(x) * floor(Abs(x))", np.trunc, stated=("0",), range=ranges.rising(np.trunc), fold=math.trunc)
_scalar(
    "floor_divide", "floor(x / y)", numeric.by_double(np.floor_divide), stated=("0", "0"), kinds=_is_number,
    flops=12, low=0.5,
    range=ranges.whole_quotient,
    instructions=60,
)  # fmt: skip
_scalar(
    "remainder", "x - y * floor(x / y)", numeric.by_double(np.remainder), stated=("1", "-floor_divide(x, y)"),
    kinds=_is_number, flops=12, low=0.5,
    range=ranges.remainder,
    instructions=40,
)  # fmt: skip
_scalar("round", "round(x)", np.round, stated=("0",), range=ranges.rising(np.round), fold=round)


def _comparison(name: str, function: Callable[..., Any], range: ranges.Rule) -> None:
    none = NoDerivative("a comparison is a step: it has no derivative")
    samples = (Sample((_F, _F)), Sample((_I, _I)))
    declare(Operation(name, "pointwise", _compared(name), none, _by_numpy(function), samples, range=range))


_comparison("lt", np.less, ranges.compared)
_comparison("le", np.less_equal, ranges.compared)
_comparison("eq", np.equal, ranges.between(0.0, 1.0))
_comparison("ne", np.not_equal, ranges.between(0.0, 1.0))


def _logical(name: str, count: int, function: Callable[..., Any]) -> None:
    none = NoDerivative("a boolean has no derivative")
    samples, rule = (Sample((_B,) * count),), ranges.between(0, 1)
    declare(Operation(name, "pointwise", _same(name, count, _is_bool), none, _by_numpy(function), samples, range=rule))


_logical("logical_and", 2, np.logical_and)
_logical("logical_or", 2, np.logical_or)
_logical("logical_not", 1, np.logical_not)


def _select_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("select", operands, 3)
    _equal_shapes("select", operands)
    expect(operands[0].dtype is DType.BOOL, f"`select` needs a boolean condition, not {operands[0]}")
    expect(operands[1].dtype is operands[2].dtype, f"`select` needs equal element types: {operands[1]}, {operands[2]}")
    return (operands[1],)


def _select_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    condition, zero = node.operands[0], builder.full(0.0, adjoint)
    return (None, builder.emit("select", condition, adjoint, zero), builder.emit("select", condition, zero, adjoint))


declare(
    Operation(
        "select",
        "pointwise",
        _select_rule,
        _select_derivative,
        _by_numpy(np.where),
        (Sample((_B, _F, _F)),),
        formula="Piecewise((x, condition), (y, True))",
        range=ranges.selected,
    )
)


def _cast_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("cast", operands, 1)
    expect(isinstance(attrs["dtype"], DType), "`cast` needs the attribute dtype")
    return (operands[0].with_dtype(attrs["dtype"]),)


def _cast_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    return (builder.emit("cast", adjoint, dtype=node.operands[0].type.dtype),)


def _cast_reference(run: Run, operands: Sequence[Array]) -> Array:
    return operands[0].astype(run.dtype)


declare(
    Operation(
        "cast",
        "pointwise",
        _cast_rule,
        _cast_derivative,
        _cast_reference,
        (Sample((_F,), {"dtype": DType.F64}), Sample((_I,), {"dtype": DType.F64}), Sample((_B,), {"dtype": DType.F64})),
        attributes=("dtype",),
        formula="x",
        range=ranges.chosen,
    )
)
