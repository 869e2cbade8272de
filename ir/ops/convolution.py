"""Convolution of pictures, channels last, and its adjoints.

All of them are one trilinear form in pictures x[n, ., ., c], weights w[u, v, c, o] and results y[n, i, j, o]:

    sum of  x~[n, i * step + u * dilation, j * step + v * dilation, c] * w[u, v, c, o] * y[n, i, j, o],

where x~ is x with `inserted - 1` zeros between neighbours and `before` zeros before the first of them (as many less
where it is negative), and as many after the last as it takes. If `flipped`, the taps u and v count from the kernel's
end. `convolution` is the form's derivative by y, `convolution_weights` that by w. The derivative by x is a convolution
again, of y with the weights' last axes exchanged: what was the step is inserted, and the taps are flipped. So the two
are closed under differentiation. `convolution_shares` is what `convolution_weights` is made of in kernels: the sums
over shares of the pictures, still to be summed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.correspondence import ALL, Axes, Over, kept
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
from tapeless.ir.ranges import FINITE, products
from tapeless.ir.types import DType, Rows, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value

STEPS = ("step", "dilation", "before", "inserted", "flipped")
"""The attributes that say where a tap of a place lies; all but `flipped` are pairs."""


def span(size: int, kernel: int, step: int, dilation: int) -> int:
    """The places that so many results of so many taps reach over."""
    return (size - 1) * step + (kernel - 1) * dilation + 1


def _checked(name: str, operands: Sequence[Tensor], attrs: Mapping[str, Any], pair: str) -> tuple[Tensor, Tensor]:
    """The operands of a convolution, in which the sizes `pair` are given."""
    expect_count(name, operands, 2)
    one, other = operands
    expect(
        one.rank == other.rank == 4 and one.dtype is other.dtype and one.dtype.is_float,
        f"`{name}` needs two real tensors of four axes, not {one} and {other}",
    )
    expect(
        all(isinstance(dim, int) for dim in (*one.shape[1:], *other.shape[1:])),
        f"`{name}`: rows of {one} and {other} are along the first axis alone",
    )
    for part, least in ((pair, 1), ("step", 1), ("dilation", 1), ("inserted", 1), ("before", None)):
        numbers = attrs[part]
        expect(
            len(numbers) == 2 and all(isinstance(n, int) and (least is None or n >= least) for n in numbers),
            f"`{name}` needs a pair of whole numbers as `{part}`, not {numbers}",
        )
    return one, other


def _rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    x, w = _checked("convolution", operands, attrs, "size")
    expect(
        isinstance(w.shape[0], int) and w.shape[0] >= 1 and x.shape[3] == w.shape[2] and 0 not in w.shape[:2],
        f"`convolution` needs weights [taps, taps, channels, channels] for {x}, not {w}",
    )
    return (x.with_shape((x.shape[0], *attrs["size"], w.shape[3])),)


def by_data(builder: Builder, adjoint: Value, weights: Value, attrs: Mapping[str, Any], size: tuple[int, int]) -> Value:
    """The adjoint of pictures of a size, from that of what they were convolved to."""
    before = tuple(
        (taps - 1) * apart - first
        for taps, apart, first in zip(weights.type.shape[:2], attrs["dilation"], attrs["before"], strict=True)
        if isinstance(taps, int)
    )
    turned = builder.emit("transpose", weights, perm=(0, 1, 3, 2))
    return builder.emit(
        "convolution",
        adjoint,
        turned,
        size=size,
        step=attrs["inserted"],
        dilation=attrs["dilation"],
        before=before,
        inserted=attrs["step"],
        flipped=not attrs["flipped"],
    )


def _steps(node: Node) -> dict[str, Any]:
    return {part: node.attrs[part] for part in STEPS}


def _derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    x, w = node.operands
    d_x = by_data(builder, adjoint, w, node.attrs, x.type.shape[1:3])  # type: ignore[arg-type]
    d_w = builder.emit("convolution_weights", x, adjoint, kernel=w.type.shape[:2], **_steps(node))
    for made in (d_x, d_w):
        # an infinite adjoint makes NaN of all that it is summed with here, as in a product of matrices
        builder.ranges.state(made, FINITE)
    return (d_x, d_w)


def _spread(x: Array, size: Sequence[int], kernel: Sequence[int], attrs: Mapping[str, Any]) -> Array:
    """x with zeros before, between and after its places, as far as taps reach."""
    for axis in (1, 2):
        k = axis - 1
        extent = span(size[k], kernel[k], attrs["step"][k], attrs["dilation"][k])
        places = attrs["before"][k] + attrs["inserted"][k] * np.arange(x.shape[axis])
        inside = (places >= 0) & (places < extent)
        made = np.zeros((*x.shape[:axis], extent, *x.shape[axis + 1 :]), x.dtype)
        made[(slice(None),) * axis + (places[inside],)] = np.compress(inside, x, axis=axis)
        x = made
    return x


def _taps(x: Array, size: Sequence[int], kernel: Sequence[int], attrs: Mapping[str, Any]) -> list[tuple[Any, Array]]:
    """For each place of the weights, the elements of spread-out pictures that it meets."""
    spread, found = _spread(x, size, kernel, attrs), []
    for place in np.ndindex(*kernel):
        taps = [n - 1 - k if attrs["flipped"] else k for k, n in zip(place, kernel, strict=True)]
        parts = [
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(taps, attrs["dilation"], size, attrs["step"], strict=True)
        ]
        found.append((place, spread[:, parts[0], parts[1]]))
    return found


def _reference(run: Run, operands: Sequence[Array]) -> Array:
    x, w = operands
    made = np.zeros(run.shape, run.dtype)
    for place, seen in _taps(x, run.attrs["size"], w.shape[:2], run.attrs):
        made += seen @ w[place]
    return made


def _axes(node: Node) -> Axes:
    return ((kept(0), ALL, ALL, Over(0)), (ALL, ALL, Over(0), kept(3)))


def _image(*shape: int | Rows) -> Tensor:
    return Tensor(DType.F64, shape)


def _sample(
    x: Sequence[int],
    w: Sequence[int],
    step: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    before: tuple[int, int] = (0, 0),
    inserted: tuple[int, int] = (1, 1),
    flipped: bool = False,
    after: int = 0,
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """Pictures, weights, results and attributes: as many results as fit into the pictures and what is before and
    after them."""
    size = tuple(
        ((n - 1) * e + 1 + b + after - (k - 1) * d - 1) // s + 1
        for n, e, b, k, d, s in zip(x, inserted, before, w, dilation, step, strict=False)
    )
    attrs = {"step": step, "dilation": dilation, "before": before, "inserted": inserted, "flipped": flipped}
    result = _image(Rows(), *size, w[3])
    return _image(Rows(), *x), _image(*w), result, attrs


_SAMPLES = (
    _sample((5, 4, 2), (3, 2, 2, 3)),
    _sample((5, 6, 1), (3, 3, 1, 4), before=(1, 1), after=1),
    _sample((6, 7, 3), (2, 3, 3, 2), step=(2, 1), dilation=(1, 2), before=(0, 2), after=2, flipped=True),
    _sample((3, 4, 2), (3, 1, 2, 5), inserted=(2, 3), before=(1, -1), after=1),
)

declare(
    Operation(
        "convolution",
        "convolution",
        _rule,
        _derivative,
        _reference,
        tuple(Sample((x, w), {**attrs, "size": y.shape[1:3]}) for x, w, y, attrs in _SAMPLES),
        attributes=("size", *STEPS),
        range=products,
        axes=_axes,
    )
)


def _weights_shape(name: str, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    x, y = _checked(name, operands, attrs, "kernel")
    expect(x.shape[0] == y.shape[0], f"`{name}` needs one result for each picture, not {x} and {y}")
    return (*attrs["kernel"], x.shape[3], y.shape[3])


def _weights_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    return (operands[0].with_shape(_weights_shape("convolution_weights", operands, attrs)),)


def _weights_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    x, y = node.operands
    d_x = by_data(builder, y, adjoint, node.attrs, x.type.shape[1:3])  # type: ignore[arg-type]
    d_y = builder.emit("convolution", x, adjoint, size=y.type.shape[1:3], **_steps(node))
    for made in (d_x, d_y):
        builder.ranges.state(made, FINITE)
    return (d_x, d_y)


def _by_weights(x: Array, y: Array, attrs: Mapping[str, Any], shape: Sequence[int], dtype: Any) -> Array:
    made = np.zeros(shape, dtype)
    for place, seen in _taps(x, y.shape[1:3], attrs["kernel"], attrs):
        made[place] = np.tensordot(seen, y, axes=((0, 1, 2), (0, 1, 2)))
    return made


def _weights_reference(run: Run, operands: Sequence[Array]) -> Array:
    x, y = operands
    return _by_weights(x, y, run.attrs, run.shape, run.dtype)


def _weights_axes(node: Node) -> Axes:
    return ((Over(0), ALL, ALL, kept(2)), (Over(0), ALL, ALL, kept(3)))


declare(
    Operation(
        "convolution_weights",
        "convolution",
        _weights_rule,
        _weights_derivative,
        _weights_reference,
        tuple(Sample((x, y), {**attrs, "kernel": w.shape[:2]}) for x, w, y, attrs in _SAMPLES),
        attributes=("kernel", *STEPS),
        range=products,
        axes=_weights_axes,
    )
)


def _shares_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    shape = _weights_shape("convolution_shares", operands, attrs)
    expect(isinstance(attrs["shares"], int) and attrs["shares"] >= 1, f"`convolution_shares` in {attrs['shares']}")
    return (operands[0].with_shape((attrs["shares"], *shape)),)


def _shares_reference(run: Run, operands: Sequence[Array]) -> Array:
    x, y = operands
    each = -(-len(x) // run.shape[0])
    parts = [slice(k * each, (k + 1) * each) for k in range(run.shape[0])]
    return np.stack([_by_weights(x[part], y[part], run.attrs, run.shape[1:], run.dtype) for part in parts])


def _shares_axes(node: Node) -> Axes:
    return ((ALL, ALL, ALL, kept(3)), (ALL, ALL, ALL, kept(4)))


declare(
    Operation(
        "convolution_shares",
        "convolution",
        _shares_rule,
        NoDerivative("shares are made after differentiation"),
        _shares_reference,
        tuple(Sample((x, y), {**attrs, "kernel": w.shape[:2], "shares": 3}) for x, w, y, attrs in _SAMPLES[:2]),
        attributes=("kernel", "shares", *STEPS),
        kernel="convolution_shares",
        range=products,
        axes=_shares_axes,
    )
)
