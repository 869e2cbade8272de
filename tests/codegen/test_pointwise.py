"""Every pointwise operation at sizes where vectors end, with operands broadcast, and at extreme arguments."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tapeless.ir.graph import Builder
from tapeless.ir.ops import OPERATIONS, Sample
from tapeless.ir.types import DType, Tensor

from ..sweep import sweep
from .kernels import check, kernel

pytestmark = pytest.mark.usefixtures("vectors")
SIZES = (0, 1, 3, 7, 17, 64, 65, 129)
POINTWISE = [(name, k) for name, op in OPERATIONS.items() if op.family == "pointwise" for k in range(len(op.samples))]
KINDS = pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)
# In f64, angles beyond 2**30 have no meaning; a remainder is exact up to a quotient of 2**53.
MODEST = {"sin", "cos", "tan", "remainder"}


def graph_of(name: str, sample: Sample, dtype: DType, shapes: list[tuple[int, ...]], size: int):
    def real(type: Tensor) -> Tensor:
        return type.with_dtype(dtype) if type.dtype is DType.F64 else type

    def build(b: Builder) -> None:
        whole = (3, size)
        inputs = []
        for k, (type, shape) in enumerate(zip(sample.operands, shapes, strict=True)):
            x = b.input(f"x{k}", real(type).with_shape(shape), "operand")
            inputs.append(x if shape == whole else b.broadcast_to(x, whole, (1,) if shape == (size,) else ()))
        attrs = {key: dtype if value is DType.F64 else value for key, value in (sample.attrs or {}).items()}
        b.output("y", b.emit(name, *inputs, **attrs), "result")

    return kernel("nest", build, dtype=dtype)


def draw(rng: np.random.Generator, type: Tensor, sample: Sample, shape: tuple[int, ...]) -> np.ndarray:
    if type.dtype.is_float:
        return rng.uniform(sample.low, sample.high, shape)
    return rng.integers(0, 2 if type.dtype is DType.BOOL else 4, shape)


@KINDS
@pytest.mark.parametrize(("name", "index"), sweep(POINTWISE, every=4))
def test_sizes_and_broadcasts(name, index, dtype):
    sample, rng = OPERATIONS[name].samples[index], np.random.default_rng(0)
    for size in SIZES:
        layouts = (
            itertools.product(((3, size), (size,), ()), repeat=len(sample.operands))
            if size == 17
            else [[(3, size)] * len(sample.operands)]
        )
        for shapes in layouts:
            node = graph_of(name, sample, dtype, list(shapes), size)
            arrays = {p.key: draw(rng, t, sample, s).astype(p.value.type.dtype.numpy)
                      for p, t, s in zip(node.regions[0].inputs, sample.operands, shapes, strict=True)}  # fmt: skip
            bound = 1e-5 if dtype is DType.F32 else 1e-12
            check(node, 1, arrays=arrays, tolerance=bound, absolute=bound)


@KINDS
@pytest.mark.parametrize(("name", "index"), POINTWISE)
def test_extremes(name, index, dtype):
    """Zeros of both signs, huge and denormal numbers, infinities and NaN, as the reference gives them."""
    sample = OPERATIONS[name].samples[index]
    if not any(type.dtype.is_float for type in sample.operands) or name == "cast":
        pytest.skip("takes no real number, or gives none")
    tiny = float(np.finfo(dtype.numpy).smallest_subnormal)
    edges = np.array([0.0, -0.0, 1, -1, 0.5, 100, -100, 1e30, -1e30, tiny, -tiny, np.inf, -np.inf, np.nan])
    if name in MODEST:
        edges = edges[~(np.abs(edges) == 1e30)]
    floats = sum(type.dtype.is_float for type in sample.operands)
    grid = iter(part.ravel() for part in np.meshgrid(*[edges] * floats))
    size = edges.size**floats
    columns = [next(grid) if type.dtype.is_float else np.arange(size) % 2 for type in sample.operands]
    node = graph_of(name, sample, dtype, [(3, size)] * len(columns), size)
    arrays = {
        p.key: np.tile(c, (3, 1)).astype(p.value.type.dtype.numpy)
        for p, c in zip(node.regions[0].inputs, columns, strict=True)
    }
    # The slope of tanh ends a little above 0.
    near = np.finfo(dtype.numpy).smallest_normal if name == "tanh_slope" else 4 * tiny
    check(node, 1, arrays=arrays, tolerance=16 * float(np.finfo(dtype.numpy).eps), absolute=float(near))
