"""Functions element by element. Numbers known when compiling are folded."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from tapeless.compiler.elaborate.bounds import bound_after
from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.values import Computed
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.types import DType, Rows

_elementwise = partial(builtin, elementwise=True)


# On integers these are the identity or exact, and stay integers.
_WHOLE = ("sign", "abs")
# Rounding: integers are what it gives.
_ROUNDING = ("floor", "round", "ceil", "trunc")
# NumPy's names of what the IR calls by shorter ones.
_LONGER = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}


def _enter(name: str, op: str, fold: Callable[[float], float]) -> None:
    def run(call: CallSite, x: Any) -> Any:
        value = call.number("x", x)
        if isinstance(value, (int, float)):
            try:
                result = fold(value)
                if math.isfinite(result):
                    return result
            except (ValueError, OverflowError, ZeroDivisionError):
                pass
            raise call.fault("E0406", f"`{name}({value:g})` has no finite result", "x")
        if name in _ROUNDING and isinstance(value, Computed) and not value.dtype.is_float:
            return value
        return call.emit.pointwise(op, value, dtype=None if name in _WHOLE else call.emit.real)

    _elementwise(name)(run)


for _op, _operation in OPERATIONS.items():
    if _operation.fold is not None:
        _enter(_LONGER.get(_op, _op), _op, _operation.fold)


# The order of polygamma beyond which its operation is not declared.
_HIGHEST_ORDER = 20


@_elementwise("arctan2")
def arctan2(call: CallSite, y: Any, x: Any) -> Any:
    """The angle of the point (x, y), from -pi to pi."""
    above, right = call.number("y", y), call.number("x", x)
    if isinstance(above, (int, float)) and isinstance(right, (int, float)):
        return math.atan2(above, right)
    return call.emit.pointwise("atan2", above, right, dtype=call.emit.real)


@_elementwise("strong_product")
def strong_product(call: CallSite, x: Any, y: Any) -> Any:
    """`x * y`, and 0 where either is 0, whatever the other is: a share of nothing of an infinite loss."""
    left, right = call.number("x", x), call.number("y", y)
    for one, other in ((left, right), (right, left)):
        if isinstance(one, (int, float)) and one in (0, 1):
            return other if one == 1 else one
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left * right
    return call.emit.pointwise("strong_product", left, right, dtype=call.emit.real)


@_elementwise("lgamma")
def lgamma(call: CallSite, x: Any) -> Any:
    """The logarithm of the absolute value of the gamma function."""
    return call.emit.pointwise("lgamma", call.tensor("x", x), dtype=call.emit.real)


@_elementwise("hypot")
def hypot(call: CallSite, x: Any, y: Any) -> Any:
    """The root of x ** 2 + y ** 2, where neither square overflows or vanishes; its slope at the origin is 0."""
    left, right = call.number("x", x), call.number("y", y)
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return math.hypot(left, right)
    return call.emit.pointwise("hypot", left, right, dtype=call.emit.real)


@_elementwise("polygamma")
def polygamma(call: CallSite, n: Any, x: Any) -> Any:
    """The derivative of order n + 1 of the gamma function's logarithm; digamma is the one of n = 0."""
    order = call.whole("n", n)
    if not 0 <= order <= _HIGHEST_ORDER:
        raise call.fault(
            "E0404", f"the order of `polygamma` is a whole number from 0 to {_HIGHEST_ORDER}, not {order}", "n"
        )
    return Computed(call.emit.emit("polygamma", call.emit.as_real(call.tensor("x", x)).value, order=order))


def _family(name: str, op: str, order: int, what: str) -> None:
    def run(call: CallSite, x: Any) -> Any:
        return Computed(call.emit.emit(op, call.emit.as_real(call.tensor("x", x)).value, order=order))

    run.__doc__ = what
    _elementwise(name)(run)


_family("erfcx", "erfcx", 0, "e ** (x ** 2) times the complement of the error function.")
_family("i0", "bessel_i", 0, "The modified Bessel function of order 0.")
_family("i1", "bessel_i", 1, "The modified Bessel function of order 1.")


@_elementwise("erfinv")
def erfinv(call: CallSite, x: Any) -> Any:
    """The number whose error function is `x`."""
    return call.emit.pointwise("erfinv", call.tensor("x", x), dtype=call.emit.real)


@_elementwise("ndtri")
def ndtri(call: CallSite, p: Any) -> Any:
    """The number that a standard normal one is below with the probability `p`."""
    return call.emit.pointwise("ndtri", call.tensor("p", p), dtype=call.emit.real)


def _extremum(name: str, fold: Callable[..., Any]) -> None:
    def run(call: CallSite, x: Any, y: Any) -> Any:
        left, right = call.number("x", x), call.number("y", y)
        if not isinstance(left, (Computed, Rows)) and not isinstance(right, (Computed, Rows)):
            return fold(left, right)
        return call.emit.pointwise(name, left, right)

    _elementwise(name)(run)


_extremum("maximum", max)
_extremum("minimum", min)


@_elementwise("where")
def where(call: CallSite, condition: Any, x: Any, y: Any) -> Any:
    """`x` where the condition holds, else `y`."""
    if isinstance(condition, bool):
        return x if condition else y
    emit = call.emit
    truth = emit.truth(condition)
    dtype = emit.common((call.number("x", x), call.number("y", y)))
    branches = [emit.computed(value, dtype) for value in (x, y)]
    shape = emit.meet([truth.shape, *(branch.shape for branch in branches)])
    made = emit.emit("select", *(emit.broadcast(value, shape).value for value in (truth, *branches)))
    return Computed(made, bound_after("select", (x, y)) if dtype is DType.I32 else None)


@_elementwise("clip")
def clip(call: CallSite, x: Any, min: Any = None, max: Any = None) -> Any:
    """`x` kept between two bounds, either of which may be left out; on a bound the slope is still that of `x`."""
    value = call.number("x", x)
    if min is None and max is None:
        raise call.fault("E0305", "`clip` needs `min`, `max` or both")
    if min is not None:
        value = _kept(call, value, call.number("min", min), "maximum", "<", builtins_max)
    if max is not None:
        value = _kept(call, value, call.number("max", max), "minimum", ">", builtins_min)
    return value


def _kept(call: CallSite, value: Any, bound: Any, extremum: str, beyond: str, fold: Callable[..., Any]) -> Any:
    """The bound where the value is beyond it or the bound is NaN, else the value. Integers have no slope, and keep
    their bound.
    """
    emit, fixed = call.emit, isinstance(bound, (int, float))
    if fixed and isinstance(value, (int, float)):
        return fold(value, bound)
    if not emit.common((value, bound)).is_float:
        return emit.pointwise(extremum, value, bound)
    outside = emit.binary(beyond, value, bound)
    if not fixed:
        outside = emit.logical("logical_or", outside, emit.binary("!=", bound, bound))
    return where(call, outside, bound, value)


builtins_max, builtins_min = max, min


@_elementwise("nan_to_num")
def nan_to_num(call: CallSite, x: Any, nan: Any = 0, posinf: Any = None, neginf: Any = None) -> Any:
    """`x` with other numbers for NaN and the infinities: those become the largest and the smallest finite number of
    the element type unless told otherwise.
    """
    value = call.emit.as_real(call.tensor("x", x))
    largest = call.emit.real.record.largest
    places = ((math.inf, largest if posinf is None else posinf), (-math.inf, -largest if neginf is None else neginf))
    for infinity, number in places:
        value = where(call, call.emit.binary("==", value, infinity), number, value)
    return where(call, call.emit.binary("!=", value, value), nan, value)


@_elementwise("stop_gradient")
def stop_gradient(call: CallSite, x: Any) -> Any:
    """`x` itself, constant under differentiation."""
    value = call.number("x", x)
    return Computed(call.emit.emit("stop_gradient", value.value), value.bound) if isinstance(value, Computed) else value


@_elementwise("real")
def real(call: CallSite, x: Any) -> Any:
    """An int or bool tensor as real numbers."""
    value = call.number("x", x)
    return float(value) if isinstance(value, (int, float)) else call.emit.as_real(value)


@_elementwise("is_list")
def is_list(call: CallSite, x: Any) -> bool:
    """Whether a value is a list, known when compiling."""
    return isinstance(x, tuple)


@_elementwise("is_integer")
def is_integer(call: CallSite, x: Any) -> bool:
    """Whether a tensor holds integers; known when compiling."""
    return type(x) is int or (isinstance(x, Computed) and x.dtype in (DType.I32, DType.U32))
