"""Plans of nests: what is decided, read off the plan, before anything is written."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from tapeless.codegen.nests.analysis import analyse
from tapeless.codegen.nests.collapse import collapse
from tapeless.codegen.nests.plan import ElementPlan, KernelPlan, VectorPlan, plan
from tapeless.codegen.nests.terms import Iota, Load, Reduction, closure
from tapeless.ir.graph import Builder
from tapeless.ir.target import TARGETS
from tapeless.ir.types import DType, Rows, Tensor

from .kernels import check, kernel

WIDE, SCALAR = TARGETS["x86-64-v4"], TARGETS["riscv64-linux-gnu"]
BATCH = Rows()


def matrix(b: Builder, rows, columns):
    return b.input("x", Tensor(DType.F32, (rows, columns)), "operand")


def sums(b: Builder, rows, columns):
    x = matrix(b, rows, columns)
    b.output("s", b.emit("sum", x, axes=(1,)), "result")


def softmax(b: Builder, rows, columns):
    x = matrix(b, rows, columns)
    top = b.broadcast_to(b.emit("max", x, axes=(1,)), (rows, columns), (0,))
    e = b.emit("exp", b.emit("sub", x, top))
    b.output("p", b.emit("div", e, b.broadcast_to(b.emit("sum", e, axes=(1,)), (rows, columns), (0,))), "result")


def dropped(b: Builder, rows, columns):
    """A row that is summed, and a mask drawn for each of its elements later."""
    x = matrix(b, rows, columns)
    seed = b.input("seed", Tensor(DType.U32, (2,)), "operand")
    step = b.input("step", Tensor(DType.I32, ()), "operand")
    total = b.broadcast_to(b.emit("sum", x, axes=(1,)), (rows, columns), (0,))
    drawn = b.emit("random_uniform", seed, step, shape=(rows, columns), site=1, dtype=DType.F32)
    b.output("y", b.emit("mul", b.emit("sub", x, total), drawn), "result")


def double(b: Builder, rows, columns):
    x = matrix(b, rows, columns)
    b.output("y", b.emit("add", x, x), "result")


def planned(build, rows, columns, target=WIDE, capacity=64, moved=0) -> KernelPlan:
    region = kernel("nest", lambda b: build(b, rows, columns)).regions[0]
    return plan(collapse(analyse(region, (0,) * (len(region.inputs) + len(region.outputs)))), target, capacity, moved)


def only(build, *sizes, **facts) -> VectorPlan:
    (nest,) = planned(build, *sizes, **facts).nests
    assert isinstance(nest, VectorPlan)
    return nest


def test_a_dense_tensor_is_one_row():
    nest = only(double, BATCH, 100)
    assert len(nest.parallel) == 1
    assert nest.extent.at(64) == 6400
    assert nest.lanes == 16


@pytest.mark.parametrize("target, lanes", [(WIDE, 16), (SCALAR, 1)])
def test_a_row_is_summed_along_itself(target, lanes):
    nest = only(sums, BATCH, 1000, target=target)
    assert nest.extent.coefficient == 1000
    assert (nest.lanes, nest.short, nest.single) == (lanes, None, False)
    assert nest.vectors == (4 if lanes > 1 else 1)


def test_short_rows_are_taken_a_vector_of_them_at_a_time():
    nest = only(softmax, BATCH, 10)
    assert nest.short is not None
    assert nest.extents[nest.short].coefficient == 10
    assert nest.vectors == 1


def test_exponentials_are_kept_where_the_result_will_stand():
    nest = only(softmax, BATCH, 1000)
    (place,) = nest.kept.values()
    assert place.buffer == 1
    assert not nest.streamed


def test_a_result_larger_than_the_caches_goes_past_them():
    large = 2 * WIDE.machine.streamed
    assert [store.buffer for store in only(double, BATCH, 100, moved=large).streamed] == [1]
    assert not only(double, BATCH, 100, moved=large // 4).streamed


def test_parts_are_cut_along_the_outermost_axis():
    assert planned(sums, BATCH, 1000, capacity=4).parts == 1
    assert planned(softmax, BATCH, 1000, capacity=4096).parts == 16


def test_a_row_is_cut_where_rows_are_too_few():
    """Rows that a factor goes along: no one row."""

    def scaled(b: Builder, rows, columns):
        x = matrix(b, rows, columns)
        factor = b.input("f", Tensor(DType.F32, (columns,)), "operand")
        b.output("y", b.emit("mul", x, b.broadcast_to(factor, x.type.shape, (1,))), "result")

    few, many = planned(scaled, BATCH, 1000000, capacity=1), planned(scaled, BATCH, 1000, capacity=1000)
    (one,), (other,) = few.nests, many.nests
    assert few.parts == 16 and many.parts > 1
    assert (one.cut, other.cut) == (one.vector_axis, other.parallel[0])
    assert str(few).endswith(f"parts of axis {one.cut}")


def test_scalars_need_no_vector():
    def total(b: Builder, rows, columns):
        x = b.input("x", Tensor(DType.F32, ()), "operand")
        b.output("y", b.emit("exp", x), "result")

    assert [type(nest) for nest in planned(total, 1, 1).nests] == [ElementPlan]


def test_a_row_ahead_whose_elements_draw():
    """What is drawn takes no memory: only what a buffer holds is counted."""
    nest = only(dropped, BATCH, 300, target=TARGETS["x86-64-v3"])
    assert [type(term) for term in nest.ahead] == [Reduction]
    check(kernel("nest", lambda b: dropped(b, BATCH, 300)), 64)


def test_merging_axes_makes_another_domain():
    region = kernel("nest", lambda b: double(b, 6, 10)).regions[0]
    domain = analyse(region, (0, 0))
    flat = collapse(domain)
    assert (len(domain.extents), len(flat.extents)) == (2, 1)
    assert [load.axes for load in closure((domain.stores[0].term,)) if isinstance(load, Load)] == [frozenset((0, 1))]


def test_terms_are_values():
    with pytest.raises(FrozenInstanceError):
        Iota("i32", 0).axis = 1  # type: ignore[misc]
