"""One small kernel of each kind in each family, with operands that it can be run on: what the loop interpreter, the
text form and machine code for other processors are tried on. A family that has none here is a test's failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from tapeless.ir.graph import Builder, Node, Value
from tapeless.ir.target import Target
from tapeless.ir.types import DType, Rows, Tensor

from . import test_attention, test_convolution, test_matmul, test_nest, test_rows
from .kernels import arrays_for, kernel

BATCH = Rows()
DTYPES = (DType.F32, DType.F64)


@dataclass(frozen=True)
class Sample:
    """A kernel and what to run it on: `ranges` of its operands' elements; those called `definite` are made so."""

    name: str
    node: Node
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    definite: tuple[str, ...] = ()
    capacity: int = 64
    rows: int = 5

    @property
    def family(self) -> str:
        return str(self.node.attrs["family"])

    def arrays(self) -> dict[str, np.ndarray]:
        arrays = arrays_for(self.node.regions[0], self.rows, ranges=self.ranges)
        for name in self.definite:
            a = arrays[name]
            arrays[name] = (a @ a.T + len(a) * np.eye(len(a))).astype(a.dtype)
        return arrays

    def agree(self, made: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], target: Target) -> None:
        """Machine code with the loop interpreter, which rounds as it does but for fused multiply-adds."""
        for port in self.node.regions[0].outputs:
            dtype = port.value.type.dtype
            if dtype.is_float:
                bound = (1e-6 if dtype is DType.F32 else 1e-14) * (1 if target.machine.fma else 10)
                np.testing.assert_allclose(made[port.key], wanted[port.key], rtol=bound, atol=bound, err_msg=port.key)
            else:
                np.testing.assert_array_equal(made[port.key], wanted[port.key], err_msg=port.key)


def _emitted(
    op: str, *shapes: tuple[object, ...], integers: int = 0, **attrs: object
) -> Callable[[Builder, DType], None]:
    """A region of one operation; so many of its operands, the last ones, are integers."""

    def build(b: Builder, dtype: DType) -> None:
        kinds = [dtype] * (len(shapes) - integers) + [DType.I32] * integers
        operands: list[Value] = [
            b.input(f"x{k}", Tensor(kind, shape), "operand")  # type: ignore[arg-type]
            for k, (kind, shape) in enumerate(zip(kinds, shapes, strict=True))
        ]
        b.output("y", b.emit(op, *operands, **attrs), "result")

    return build


def _permutation(b: Builder, dtype: DType) -> None:
    seed = b.input("seed", Tensor(DType.U32, (2,)), "operand")
    epoch = b.input("epoch", Tensor(DType.I32), "operand")
    b.output("order", b.emit("permutation", seed, epoch, shape=(BATCH,)), "result")


def samples(dtype: DType, n: int = 17) -> Iterator[Sample]:
    """All of them, for one element type, around rows of n elements."""
    for build in test_nest.BUILDS:
        node = kernel("nest", lambda b, build=build: build(b, n, dtype), dtype=dtype)
        yield Sample(build.__name__, node, {"label": (0, n), "step": (0, 50)})
    for build in test_rows.BUILDS:
        yield Sample(f"rows of {build.__name__}", test_rows.node(build, n, dtype), {"label": (0, n)})
    for epilogue in (test_matmul.plain, test_matmul.swish, test_matmul.masked, test_matmul.dropped):
        yield Sample(epilogue.__name__, test_matmul.product(BATCH, n, 5, dtype=dtype, epilogue=epilogue))
    for name, (m, columns, k), flips in (
        ("transposed left", (9, n, BATCH), {"transpose_a": True}),
        ("transposed right", (BATCH, n, 13), {"transpose_b": True}),
        ("both transposed", (9, n, 5), {"transpose_a": True, "transpose_b": True}),
        ("one column", (BATCH, 1, n), {}),
        ("one column of the left transposed", (n, 1, BATCH), {"transpose_a": True}),
        ("one row", (1, n, 7), {}),
    ):
        yield Sample(name, test_matmul.product(m, columns, k, dtype=dtype, epilogue=test_matmul.swish, **flips))
    for name, family, build, ranges in (
        ("pack", "pack", _emitted("transpose", (BATCH, n), perm=(1, 0)), {}),
        ("gather", "gather", _emitted("gather", (5, n), (BATCH,), integers=1), {"x1": (-2, 7)}),
        ("assembly", "assembly", _emitted("gather", (9, n), (BATCH,), integers=1), {"x1": (0, 9)}),
        ("scatter", "scatter", _emitted("scatter_add", (BATCH, n), (BATCH,), integers=1, size=5), {"x1": (-1, 7)}),
        ("permutation", "permutation", _permutation, {}),
        ("cumsum", "recurrence", _emitted("cumsum", (BATCH, n), axis=1, reverse=False), {}),
        ("cumprod", "recurrence", _emitted("cumprod", (n, 5), axis=0, reverse=True), {"x0": (-1.1, 1.1)}),
        (
            "linear scan",
            "recurrence",
            _emitted("linear_scan", (2, n, 20), (2, n, 20), axis=1, reverse=False),
            {"x0": (-1, 1)},
        ),
        ("argsort", "argsort", _emitted("argsort", (BATCH, n), axis=1, descending=False), {}),
        ("descending", "argsort", _emitted("argsort", (n, 3), axis=0, descending=True), {}),
        (
            "take along",
            "along",
            _emitted("take_along", (BATCH, n), (BATCH, 9), integers=1, axis=1),
            {"x1": (-2, n + 2)},
        ),
        (
            "put along",
            "along",
            _emitted("put_along", (BATCH, 9), (BATCH, 9), integers=1, axis=1, size=n),
            {"x1": (-2, n + 2)},
        ),
        ("solve", "triangular_solve", _emitted("triangular_solve", (n, n), (n, 7), transposed=False), {}),
        ("solve transposed", "triangular_solve", _emitted("triangular_solve", (n, n), (n, 7), transposed=True), {}),
        ("cholesky", "cholesky", _emitted("cholesky", (n, n)), {}),
    ):
        node = kernel(family, lambda b, build=build: build(b, dtype), dtype=dtype)
        definite = ("x0",) if family in ("cholesky", "triangular_solve") else ()
        yield Sample(name, node, ranges, definite)
    shapes = test_convolution.geometry((4, 5), 2, n, (2, 3), step=(1, 2))
    yield Sample("convolution", test_convolution.made("convolution", shapes, dtype, epilogue=True))
    yield Sample("convolution's weights", test_convolution.made("convolution_shares", shapes, dtype))
    for causal, lengths in ((True, False), (False, True)):
        kind = "causal " if causal else "of lengths "
        shape = (2, 1, 5, n, 3, 2, causal, lengths, dtype)
        yield Sample(kind + "attention", test_attention.attention(*shape), {"lengths": (-1, n + 2)}, rows=2)
        yield Sample(kind + "attention's gradient", test_attention.gradient(*shape), {"lengths": (-1, n + 2)}, rows=2)


SAMPLES = {f"{one.name}-{dtype}": one for dtype in DTYPES for one in samples(dtype)}
