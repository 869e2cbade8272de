"""Views that merge axes come after the work on what they merge: fewer kernels, the same values."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.compiler.passes.pipelines import lowered, simplified
from tapeless.compiler.passes.views_after import views_after
from tapeless.ir.graph import Builder, Graph
from tapeless.ir.interpreter import run
from tapeless.ir.machine import X86_64_V4
from tapeless.ir.types import DType, Rows, Tensor
from tapeless.ir.verifier import verify


def windows(kept: tuple[int, ...] = (3,), known: bool = False) -> Graph:
    """Work on windows of two by two, viewed as pictures, on which more is done, and their sums."""
    b = Builder("g", DType.F64)
    x = b.input("x", Tensor(DType.F64, (Rows(), 3, 2, 5, 2, 4)), "operand")
    other = b.input("other", Tensor(DType.F64, (Rows(), 6, 10, 4)), "operand")
    bias = b.input("bias", Tensor(DType.F64, (4,)), "operand")
    column = b.input("column", Tensor(DType.F64, (10,)), "operand")
    made = x if known else b.emit("exp", x)
    view = b.emit("reshape", made, shape=(Rows(), 6, 10, 4))
    value = b.emit("mul", b.emit("add", view, b.broadcast_to(bias, view.type.shape, (3,))), other)
    value = b.emit("add", value, b.broadcast_to(column, view.type.shape, (2,)))
    b.output("value", value, "result")
    b.output("sum", b.emit("sum", value, axes=tuple(axis for axis in range(4) if axis not in kept)), "result")
    return b.graph()


def same(before: Graph, after: Graph) -> None:
    verify(after)
    rng = np.random.default_rng(0)
    data = {port.key: rng.normal(size=port.value.type.at(3)) for port in before.inputs}
    wanted, found = (run(graph, data, rows=3, precision=DType.F64) for graph in (before, after))
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kept", "rank"), [((3,), 6), ((0, 3), 6), ((), 6), ((1,), 4), ((2, 3), 4)], ids=str)
def test_work_and_sums_before_the_view(kept: tuple[int, ...], rank: int) -> None:
    """Sums that keep a merged axis are of the view; all others of what it is a view of."""
    before = windows(kept)
    after = views_after(before)
    same(before, after)
    ranks = {node.op: node.operands[0].type.rank for node in after.nodes if node.op in ("add", "mul", "sum")}
    assert ranks == {"add": 6, "mul": 6, "sum": rank}


def test_what_lies_in_memory_is_viewed_as_it_is() -> None:
    before = windows(known=True)
    assert [node.op for node in views_after(before).nodes] == [node.op for node in before.nodes]


def test_the_adjoint_of_pooling_is_one_kernel() -> None:
    """From pooling back to the derivative of the activation before it, and to the bias, nothing else is stored."""
    model = load(
        "model M:\n    input x: [batch, 3, 12, 12]\n    h = max_pool(relu(Conv(x, 16, padding = 1)), 2)\n"
        "    z = Conv(h, 5, padding = 1)\n    output z\n    loss mean(z ** 2)\n",
        "model.tl",
    )
    kernels = [node for node in lowered(simplified(entries.gradients(model)), X86_64_V4).nodes if node.op == "kernel"]
    pictures = [
        node.attrs["family"]
        for node in kernels
        if any(value.type.dtype.is_float and value.type.count(1) == 12 * 12 * 16 for value in node.results)
    ]
    assert pictures.count("nest") == 1
