"""Products against the reference interpreter: all sizes, transposed left operands, epilogues, run-time dimensions."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from tapeless.codegen.kernels.lower import lower_kernel, write_product
from tapeless.codegen.kernels.product_plan import Blocks, other_plans, plan_product
from tapeless.codegen.kernels.product_shape import product_shape
from tapeless.codegen.llvm import functions as llvm
from tapeless.codegen.llvm import native
from tapeless.codegen.loops.text import format_function, parse_function
from tapeless.ir.graph import Builder
from tapeless.ir.types import DType, Rows, Tensor

from ..sweep import sweep
from .kernels import HOST, WIDTHS, Compiled, arrays_for, check, kernel, run_compiled, tensor

pytestmark = pytest.mark.usefixtures("vectors")
BATCH = Rows()
LETTERS = {"b": BATCH}


def product(m, n, k, *, dtype=DType.F32, transpose_a=False, transpose_b=False, epilogue=None, leading=None):
    def build(b: Builder) -> None:
        x = b.input("x", Tensor(dtype, (k, m) if transpose_a else (m, k)), "operand")
        w = b.input("w", Tensor(dtype, (n, k) if transpose_b else (k, n)), "operand")
        z = b.emit("matmul", x, w, transpose_a=transpose_a, transpose_b=transpose_b)
        (epilogue or plain)(b, z, dtype)

    return kernel("matmul", build, leading=leading)


def plain(b, z, dtype):
    b.output("z", z, "result")


def swish(b, z, dtype):
    bias = b.input("bias", Tensor(dtype, z.type.shape[1:]), "operand")
    z = b.emit("add", z, b.broadcast_to(bias, z.type.shape))
    b.output("z", z, "result")
    b.output("h", b.emit("mul", z, b.emit("sigmoid", z)), "result")


def relu(b, z, dtype):
    bias = b.input("bias", Tensor(dtype, z.type.shape[1:]), "operand")
    rate = b.input("rate", Tensor(dtype, ()), "operand")
    z = b.emit("add", z, b.broadcast_to(bias, z.type.shape))
    z = b.emit("maximum", z, b.full(0.0, z))
    b.output("h", b.emit("mul", z, b.broadcast_to(rate, z.type.shape)), "result")


def masked(b, z, dtype):
    y = b.input("y", z.type, "operand")
    scale = b.input("scale", Tensor(dtype, z.type.shape[:1]), "operand")
    z = b.emit("select", b.emit("lt", b.full(0.0, y), y), z, b.full(0.0, z))
    b.output("h", b.emit("mul", z, b.broadcast_to(scale, z.type.shape, (0,))), "result")


def dropped(b, z, dtype):
    seed = b.input("seed", Tensor(DType.U32, (2,)), "operand")
    step = b.input("step", Tensor(DType.I32, ()), "operand")
    u = b.emit("random_uniform", seed, step, site=5, shape=z.type.shape, dtype=dtype)
    b.output("h", b.emit("select", b.emit("lt", u, b.full(0.3, u)), b.full(0.0, z), z), "result")


SIZES = (0, 1, 3, 7, 17, 64, 65, 129)


@pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)
@pytest.mark.parametrize("transpose_a", (False, True))
@pytest.mark.parametrize("transpose_b", (False, True))
def test_sizes(dtype, transpose_a, transpose_b):
    rng = np.random.default_rng(1)
    shapes = [(m, n, 17) for m, n in zip(SIZES, SIZES[::-1], strict=True)] + [(n, n, n) for n in SIZES]
    shapes += [tuple(rng.choice(SIZES, 3).tolist()) for _ in range(6)]
    for m, n, k in shapes:
        check(product(m, n, k, dtype=dtype, transpose_a=transpose_a, transpose_b=transpose_b), 1)


SHAPES = ("b,17,64", "b,64,3", "b,1,33", "33,b,20", "20,70,b", "1,40,7", "1,1,5", "65,64,64")


@pytest.mark.parametrize(
    ("epilogue", "shape"),
    sweep((swish, relu, masked, dropped), SHAPES, every=3),
    ids=lambda one: getattr(one, "__name__", one),
)
def test_epilogues(epilogue, shape):
    m, n, k = (LETTERS.get(part) or int(part) for part in shape.split(","))
    for dtype in (DType.F32, DType.F64):
        for flip in (False, True):
            node = product(m, n, k, dtype=dtype, epilogue=epilogue, transpose_a=k is BATCH, transpose_b=flip)
            for rows in (0, 1, 13, 64):
                check(node, rows, capacity=64)


def test_leading_dimensions():
    for a in (False, True):
        for b in (False, True):
            check(product(20, 33, 30, transpose_a=a, transpose_b=b, leading=(48, 40, 48)), 1)


def test_a_matrix_by_itself():
    for flips in ((False, True), (True, False), (False, False)):

        def build(b: Builder, flips: tuple[bool, bool] = flips) -> None:
            x = b.input("x", tensor(20, 20), "operand")
            b.output("r", b.emit("matmul", x, x, transpose_a=flips[0], transpose_b=flips[1]), "result")

        check(kernel("matmul", build), 1)


def test_rows_do_not_depend_on_their_count(vectors):
    for dtype, flip in ((DType.F32, False), (DType.F64, False), (DType.F32, True)):
        node = product(BATCH, 70, 45, dtype=dtype, epilogue=swish, transpose_b=flip)
        target = vectors()
        compiled = Compiled(lower_kernel(node, target, 64), target)
        arrays = arrays_for(node.regions[0], 64)
        whole = run_compiled(node, arrays, 64, compiled=compiled)
        for rows in (1, 2, 5, 7, 8, 30, 63):
            some = run_compiled(node, {**arrays, "x": arrays["x"][:rows]}, rows, compiled=compiled)
            for name in some:
                assert some[name].tobytes() == whole[name][:rows].tobytes()


def test_parts_cover_everything():
    flipped = ((64, 500, 600, True), (BATCH, 1000, 300, True))
    for shape in (
        (256, 300, 400, False),
        (BATCH, 1000, 300, False),
        (1000, 70, 300, False),
        (300, 1000, BATCH, False),
        *flipped,
    ):
        m, n, k, flip = shape
        node = product(m, n, k, epilogue=swish, transpose_a=k is BATCH, transpose_b=flip)
        assert lower_kernel(node, HOST, 256).parts > 1
        for rows in (256, 100, 1):
            check(node, rows, capacity=256, tolerance=1e-4)


@pytest.mark.own_width
@pytest.mark.skipif(not HOST.avx512, reason="counts the registers of AVX-512")
@pytest.mark.parametrize("shape", ((64, 256, 64), (64, 512, 784), (784, 512, 64), (60, 96, 70), (84, 64, 10)))
def test_no_spills(shape):
    m, n, k = shape
    for dtype in (DType.F32, DType.F64):
        for a, b in ((False, False), (True, False), (False, True)):
            function = lower_kernel(product(m, n, k, dtype=dtype, transpose_a=a, transpose_b=b, epilogue=relu), HOST, 1)
            text = native.assembly(llvm.module_text([llvm.function_text(function, HOST)], HOST), HOST)
            spills = re.findall(r"zmm\d+, -?\d*\(%rsp\)|-?\d*\(%rsp\), %zmm\d+", text)
            assert not spills


@pytest.mark.parametrize("flip", (False, True))
def test_stacks_of_products(flip):
    """Axes before the last two: one product for each of their places, epilogue included."""
    for lead, m, n, k in (
        ((3,), 7, 17, 5),
        ((BATCH,), 5, 33, 16),
        ((BATCH, 2), 16, 16, 3),
        ((1, 4), 1, 5, 0),
        ((0,), 2, 2, 2),
    ):

        def build(b: Builder, lead: object = lead, m: int = m, n: int = n, k: int = k) -> None:
            x = b.input("x", tensor(*lead, *((k, m) if flip else (m, k))), "operand")
            y = b.input("y", tensor(*lead, k, n), "operand")
            z = b.input("z", tensor(*lead, m, n), "operand")
            made = b.emit("matmul", x, y, transpose_a=flip, transpose_b=False)
            b.output("r", b.emit("tanh", b.emit("add", made, z)), "result")

        node = kernel("matmul", build)
        for rows in (0, 1, 6):
            check(node, rows, capacity=8)


@pytest.mark.own_width
def test_blocks_that_are_no_whole_tiles_are_refused():
    shape = product_shape(product(64, 64, 64), 64, HOST)
    plan = plan_product(shape, HOST.machine)
    with pytest.raises(ValueError, match="not whole tiles"):
        replace(plan, blocks=Blocks(plan.tile.rows + 1, plan.width, 5))


@pytest.mark.own_width
def test_only_a_panel_that_is_copied_is_copied_ahead():
    plan = plan_product(product_shape(product(64, 64, 64), 64, HOST), HOST.machine)
    with pytest.raises(ValueError, match="copied ahead"):
        replace(plan, blocks=Blocks(plan.tile.rows, plan.width, 5, ahead=True))


@pytest.mark.own_width
def test_what_comes_next_is_prefetched_where_it_is_far():
    """The text of a large product says so, and is read again as it was."""
    large, small = (lower_kernel(product(size, size, size), WIDTHS[16], 1) for size in (1024, 32))
    text = format_function(large)
    assert "near" in text and text.count("prefetch") > 4
    assert parse_function(text) == large
    assert "prefetch" not in format_function(small)


@pytest.mark.parametrize(
    ("lanes", "flip", "copied"),
    sweep(WIDTHS, (False, True), ("", "A", "B", "AB", "B ahead", "AB ahead"), every=7),
)
def test_blocks(lanes, flip, copied):
    """A plan from outside: rows, columns and steps in blocks, operands copied or not. The same bits as all at once."""
    target = WIDTHS[lanes]
    for m, n, k, along in (
        (37, 70, 9, "rows"), (64, 33, 20, "columns"), (BATCH, 100, 16, "rows"), (200, 300, BATCH, "columns"),
    ):  # fmt: skip

        def build(b: Builder, m: object = m, n: object = n, k: object = k) -> None:
            x = b.input("x", tensor(*((k, m) if flip else (m, k))), "operand")
            y = b.input("y", tensor(k, n), "operand")
            b.output("r", b.emit("tanh", b.emit("matmul", x, y, transpose_a=flip, transpose_b=False)), "result")

        node = kernel("matmul", build)
        shape = product_shape(node, 64, target)
        plan = plan_product(shape, target.machine)
        whole = Compiled(write_product(node, target, shape, replace(plan, blocks=None)), target)
        for steps in (5, 16, 64):
            ahead = "ahead" in copied
            columns = plan.width * (1 + ahead)
            blocks = Blocks(2 * plan.tile.rows, columns, steps, "A" in copied, "B" in copied, ahead)
            own = replace(plan, along=along, parts=2, blocks=blocks, prefetch=ahead, near_steps=3 * ahead)
            compiled = Compiled(write_product(node, target, shape, own), target)
            for rows in (0, 1, 50):
                arrays = arrays_for(node.regions[0], rows)
                check(node, rows, arrays=arrays, compiled=compiled)
                made, alike = (run_compiled(node, arrays, rows, compiled=one)["r"] for one in (compiled, whole))
                assert made.tobytes() == alike.tobytes()


PLANNED = ((70, 90, 40, (False, True)), (BATCH, 70, 600, (False, False)), (40, 130, BATCH, (True, False)))


@pytest.mark.parametrize(
    ("lanes", "m", "n", "k", "flips"), sweep(WIDTHS, PLANNED, every=5), ids=lambda one: str(one).replace(" ", "")
)
def test_every_plan_that_may_be_measured_gives_the_same_bits(lanes, m, n, k, flips):
    target = WIDTHS[lanes]
    node = product(m, n, k, transpose_a=flips[0], transpose_b=flips[1], epilogue=swish)
    shape = product_shape(node, 64, target)
    plan = plan_product(shape, target.machine)
    arrays = arrays_for(node.regions[0], 50)

    def bits(plan: object) -> bytes:
        compiled = Compiled(write_product(node, target, shape, plan), target)
        return run_compiled(node, arrays, 50, compiled=compiled)["h"].tobytes()

    assert {bits(one) for one in other_plans(shape, plan, target.machine)[lanes % 8 :: 8]} == {bits(plan)}


@pytest.mark.own_width
def test_a_plan_row_by_row_is_measured_against_copies_of_panels():
    node = product(70, 90, 40)
    shape = product_shape(node, 64, HOST)
    by_rows = replace(plan_product(shape, HOST.machine), blocks=None, rows_first=True)
    others = other_plans(shape, by_rows, HOST.machine)
    assert {(one.rows_first, bool(one.blocks and one.blocks.right)) for one in others} == {
        (True, False), (False, False), (False, True)
    }  # fmt: skip
