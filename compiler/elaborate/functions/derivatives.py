"""Derivatives as expressions: `grad` and its kin. How they are found is told by `elaborate.differentiation`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tapeless.compiler.elaborate.folding import Mismatch, dims_product
from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.functions.shaping import reshaped
from tapeless.compiler.elaborate.values import Computed, describe
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.compiler.passes.differentiate import DifferentiationError
from tapeless.ir.graph import Value
from tapeless.ir.types import Dim, DType, Rows, Shape

if TYPE_CHECKING:
    from tapeless.compiler.elaborate.differentiation import Derivatives

PASSES = 64  # of one `jacobian`: what lies on the way is as many times as large


@builtin("grad")
def grad(call: CallSite, y: Any, x: Any) -> Computed:
    """The gradient of the sum of `y` by `x`. `y` is one number, or one for each row."""
    result, by = _function(call, y), _variable(call, x)
    if any(dim != 1 for dim in _beyond_rows(result)):
        rows = " for each row" if _has_rows(result) else ""
        y_text, x_text = (_text(call, name).strip("`") for name in ("y", "x"))
        raise call.fault("E0701",
            f"`{call.name}` needs one number{rows}, and {_text(call, 'y')} is {describe(result)}", "y",
            call.label("y", result),
                         f"`grad(sum({y_text}), {x_text})` is the gradient of their sum, `jacobian({y_text}, "
                             f"{x_text})` has each by itself."
                         if call.name == "grad" else "Take the sum, or one of them.")  # fmt: skip
    return _derived(call, result, by, lambda found: found.gradient(result.value, by.value), by.shape)


@builtin("vjp")
def vjp(call: CallSite, y: Any, x: Any, v: Any) -> Computed:
    """The gradient of `sum(v * y)` by `x`, `v` held constant: v times the Jacobian."""
    result, by = _function(call, y), _variable(call, x)
    weight = _like(call, "v", v, result, "y")
    return _derived(call, result, by, lambda found: found.gradient(result.value, by.value, weight), by.shape, weight)


@builtin("jvp")
def jvp(call: CallSite, y: Any, x: Any, v: Any) -> Computed:
    """How `y` changes as `x` moves along `v`: the Jacobian times v."""
    result, by = _function(call, y), _variable(call, x)
    direction = _like(call, "v", v, by, "x")
    return _derived(
        call, result, by, lambda found: found.directional(result.value, by.value, direction), result.shape, direction
    )


@builtin("hvp")
def hvp(call: CallSite, y: Any, x: Any, v: Any) -> Computed:
    """The second derivative of the sum of `y` by `x`, times `v`."""
    by = _variable(call, x)
    slope = grad(call, y, x)
    direction = _like(call, "v", v, by, "x")
    found = _derivatives(call, slope, direction)
    # a straight line has no second derivative, and that is no oversight
    if not found.between(slope.value, by.value).nodes:
        return Computed(call.emit.builder.full(0.0, by.value))
    return _derived(
        call, slope, by, lambda found: found.gradient(slope.value, by.value, direction), by.shape, direction
    )


@builtin("jacobian")
def jacobian(call: CallSite, y: Any, x: Any) -> Computed:
    """The derivative of each element of `y` by each element of `x`: the axes of `y`, then those of `x`. Where both
    have rows, `batch` comes once, and each row is differentiated by its own. One pass over a stack of as many
    directions as the smaller side has elements.
    """
    emit = call.emit
    result, by = _function(call, y), _variable(call, x)
    above, below = (dims_product(_beyond_rows(side)) for side in (result, by))
    for name, side, count in (("y", result, above), ("x", by, below)):
        if isinstance(count, Rows):
            raise call.fault("E0701",
                (f"`jacobian` needs `batch` as the first axis or not at all, and {_text(call, name)} is "
                    f"{describe(side)}"),
                             name, call.label(name, side))  # fmt: skip
    assert isinstance(above, int) and isinstance(below, int)
    # A pass backward adds up over the rows of y, one forward moves all rows of x: wrong where the other side has none.
    alike = _has_rows(result) is _has_rows(by)
    backward = above <= below if alike else _has_rows(by)
    count, varied, like = (above, result, by) if backward else (below, by, result)
    if count > PASSES:
        raise call.fault("E0701",
            f"a Jacobian of {above} by {below} takes {count} passes, and more than {PASSES} are not written out",
                         "y", [*call.label("y", result), *call.label("x", by)],
                         "Its product with a vector takes one: `vjp(y, x, v)` or `jvp(y, x, v)`.")  # fmt: skip

    units = _units(call, varied, count)
    made = (count, *like.shape)
    if backward:
        stack = _derived(call, result, by, lambda found: found.gradients(result.value, by.value, units), made, units)
    else:
        stack = _derived(call, result, by, lambda found: found.directionals(result.value, by.value, units), made, units)
    shape = result.shape + (_beyond_rows(by) if _has_rows(result) else by.shape)
    axis = (1 if _has_rows(result) else 0) if backward else like.rank
    order = (*range(1, axis + 1), 0, *range(axis + 1, stack.rank))
    turned = emit.emit("transpose", stack.value, perm=order) if axis else stack.value
    return reshaped(emit, Computed(turned), shape)


def _units(call: CallSite, x: Computed, count: int) -> Value:
    """All tensors shaped like x of which one element of each row is 1, and the others 0."""
    emit = call.emit
    places = [emit.once("iota", axis=axis, shape=(count, count), dtype=DType.I32) for axis in (0, 1)]
    unit = Computed(emit.emit("cast", emit.emit("eq", *places), dtype=emit.real))
    own = (count, *((1,) if _has_rows(x) else ()), *_beyond_rows(x))
    return emit.broadcast(reshaped(emit, unit, own), (count, *x.shape)).value


def _derived(
    call: CallSite, y: Computed, x: Computed, rule: Callable[[Derivatives], Value], shape: Shape, *held: Value
) -> Computed:
    """Apply a rule that holds some values constant and gives that shape, with a warning where it means little."""
    found = _derivatives(call, y, *held)
    if found.leads_around(y.value, x.value):
        raise call.fault("E0702",
            f"{_text(call, 'y')} depends on {_text(call, 'x')} by what is computed outside of this `scan`, too", "x",
                         hint="Take the derivative after the scan, or by a name of the step.")  # fmt: skip
    way = found.between(y.value, x.value)
    if not way.nodes and found.root(found.term(x.value)) != found.term(y.value):
        why = "depends only by comparisons on" if found.jumps(y.value, x.value) else "does not depend on"
        _warn(call, "W0103", f"{_text(call, 'y')} {why} {_text(call, 'x')}, so this derivative is zero")
        return call.emit.broadcast(Computed(call.emit.constant(0.0)), shape)
    if _has_rows(y) and _has_rows(x) and way.mixes_rows:
        message = (
            f"rows of {_text(call, 'y')} depend on other rows of {_text(call, 'x')}, and their derivatives are added "
            "up here"
        )
        _warn(call, "W0104", message)
    try:
        return Computed(rule(found))
    except DifferentiationError as error:
        labels = [Label("on the way,", error.reason, error.node.span, "written")]
        raise call.fault("E0703", f"{_text(call, 'y')} has no derivative by {_text(call, 'x')}", None, labels) from None


def _derivatives(call: CallSite, y: Computed, *held: Value) -> Derivatives:
    """Imported here: the passes come along, which a model without derivatives never needs."""
    from tapeless.compiler.elaborate.differentiation import Derivatives

    return Derivatives.of(y.value, call.emit, held)


def _function(call: CallSite, y: Any) -> Computed:
    """What is differentiated: a real tensor."""
    if not isinstance(y, Computed):
        raise call.fault(
            "E0702", f"`{call.name}` differentiates what is computed from data or parameters, not {describe(y)}", "y"
        )
    if y.dtype is DType.BOOL:  # a number, 0 or 1
        return call.emit.as_real(y)
    if not y.dtype.is_float:
        raise call.fault("E0703", f"{_text(call, 'y')} is {describe(y)}, which has no derivative", "y",
            call.label("y", y),
                         "Only real numbers have one.")  # fmt: skip
    return y


def _variable(call: CallSite, x: Any) -> Computed:
    """By what is differentiated: a real tensor that has a name."""
    written = call.written["x"]
    if not isinstance(written, ast.Name):
        hint = "Give it a name on a line of its own, and compute the first argument from that name."
        raise call.fault("E0702", f"a derivative is taken by a name, and {_text(call, 'x')} is none", "x", hint=hint)
    if not isinstance(x, Computed):
        raise call.fault(
            "E0702",
            f"a derivative is taken by what is computed, and `{written.name}` is {describe(x)}",
            "x",
            call.label("x", x),
        )
    if not x.dtype.is_float:
        raise call.fault("E0703", f"`{written.name}` is {describe(x)}: there is no derivative by it", "x",
            call.label("x", x),
                         "Only real numbers can change a little.")  # fmt: skip
    return x


def _like(call: CallSite, parameter: str, v: Any, like: Computed, of: str) -> Value:
    """A vector in the shape of `like`."""
    vector = call.emit.as_real(call.number(parameter, v))
    try:
        fits = call.emit.meet([vector.shape, like.shape]) == like.shape
    except Mismatch:
        fits = False
    if not fits:
        raise call.fault("E0701", f"`{parameter}` of `{call.name}` needs the shape of {_text(call, of)}", parameter,
                         [*call.label(parameter, vector), *call.label(of, like)])  # fmt: skip
    return call.emit.broadcast(vector, like.shape).value


def _has_rows(x: Computed) -> bool:
    return x.rank > 0 and x.shape[0] == Rows()


def _beyond_rows(x: Computed) -> tuple[Dim, ...]:
    return x.shape[1:] if _has_rows(x) else x.shape


def _warn(call: CallSite, code: str, message: str) -> None:
    call.around.report(Diagnostic(code, message, call.frame.shown(call.span)))


def _text(call: CallSite, parameter: str) -> str:
    """An argument as it is written, if that is short."""
    syntax = call.written[parameter]
    text = call.frame.module.source.slice(syntax.span)
    return f"`{text}`" if 0 < len(text) <= 40 and syntax.span.line == syntax.span.end_line else "this"
