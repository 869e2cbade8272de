"""Convolutions and their adjoints: machine code against the reference, over sizes, steps and plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tapeless.codegen.kernels.lower import planned
from tapeless.codegen.kernels.winograd_plan import WinogradPlan, WinogradSharesPlan, winograd_pays
from tapeless.ir.graph import Builder, Node
from tapeless.ir.ops.convolution import span
from tapeless.ir.target import TARGETS
from tapeless.ir.types import DType, Rows

from ..sweep import sweep
from .kernels import HOST, Compiled, arrays_for, check, expected, interpreted, kernel, run_compiled, tensor

Pair = tuple[int, int]
FAMILIES = ("convolution", "convolution_shares")
PLAIN: dict[str, Any] = {
    "step": (1, 1), "dilation": (1, 1), "before": (1, 1), "after": (1, 1), "inserted": (1, 1), "flipped": False,
}  # fmt: skip


def geometry(extent: Pair, channels: int, units: int, taps: Pair, **steps: Any) -> tuple[Any, ...]:
    """Shapes of pictures, weights and results, and the attributes between them."""
    attrs = PLAIN | steps
    after = attrs.pop("after")
    size = tuple(
        ((n - 1) * e + 1 + b + a - span(1, k, s, d)) // s + 1
        for n, e, b, a, k, s, d in zip(
            extent, attrs["inserted"], attrs["before"], after, taps, attrs["step"], attrs["dilation"], strict=True
        )
    )
    return (Rows(), *extent, channels), (*taps, channels, units), (Rows(), *size, units), attrs


def made(
    family: str, shapes: tuple[Any, ...], dtype: DType = DType.F32, epilogue: bool = False, shares: int = 3
) -> Node:
    x, w, y, attrs = shapes

    def build(b: Builder) -> None:
        first = b.input("x", tensor(*x, dtype=dtype), "operand")
        if family == "convolution_shares":
            adjoint = b.input("y", tensor(*y, dtype=dtype), "operand")
            found = b.emit(family, first, adjoint, kernel=w[:2], shares=shares, **attrs)
        else:
            found = b.emit(family, first, b.input("w", tensor(*w, dtype=dtype), "operand"), size=y[1:3], **attrs)
        if epilogue:
            bias = b.input("bias", tensor(w[3], dtype=dtype), "operand")
            found = b.emit("add", found, b.broadcast_to(bias, y, (3,)))
            b.output("mask", b.emit("lt", b.full(0.0, found), found), "result")
            found = b.emit("tanh", found)
        b.output("result", found, "result")

    return kernel(family, build, dtype=dtype)


CASES = {
    "one channel": ((7, 7), 1, 5, (3, 3), {}),
    "wide": ((3, 65), 3, 17, (3, 3), {}),
    "many rows": ((64, 5), 2, 16, (3, 1), {}),
    "one by one": ((5, 4), 7, 33, (1, 1), {"before": (0, 0), "after": (0, 0)}),
    "inside": ((9, 8), 4, 16, (2, 3), {"before": (0, 0), "after": (0, 0)}),
    "strides": ((9, 12), 3, 20, (3, 3), {"step": (2, 3)}),
    "strides inside": ((9, 12), 3, 20, (3, 2), {"step": (2, 2), "before": (0, 0), "after": (0, 0)}),
    "dilated": ((8, 9), 3, 7, (3, 2), {"dilation": (2, 3), "before": (2, 1), "after": (0, 2)}),
    "inserted": ((4, 5), 3, 18, (3, 3), {"inserted": (2, 3), "flipped": True}),
    "cut off": ((6, 7), 2, 16, (2, 2), {"before": (-2, -1), "after": (-1, 0)}),
    "cut off between": ((6, 7), 2, 3, (2, 2), {"before": (-2, -1), "after": (1, 0), "inserted": (2, 3)}),
    "flipped": ((6, 6), 17, 16, (3, 3), {"flipped": True}),
    "a large kernel": ((4, 3), 2, 3, (7, 5), {"before": (3, 2), "after": (3, 2)}),
    "one pixel": ((1, 1), 3, 129, (3, 3), {}),
    "a few tall places": ((7, 2), 5, 8, (3, 3), {}),
    "patches over the edge": ((9, 7), 64, 72, (3, 3), {}),
    "patches inside": ((8, 6), 48, 41, (3, 3), {"before": (0, 0), "after": (0, 0)}),
    "patches cut off": ((8, 6), 65, 64, (3, 3), {"before": (-1, 1), "after": (2, 1), "flipped": True}),
    "no picture": ((0, 4), 2, 3, (1, 3), {"before": (1, 1), "after": (1, 1)}),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)
@pytest.mark.parametrize("case", CASES)
def test_against_the_reference(family: str, dtype: DType, case: str, vectors: None) -> None:
    *sizes, steps = CASES[case]
    check(made(family, geometry(*sizes, **steps), dtype), 3, tolerance=1e-4 if dtype is DType.F32 else 1e-11)


@pytest.mark.parametrize("rows", (0, 1, 7, 17))
@pytest.mark.parametrize("family", FAMILIES)
def test_any_count_of_pictures(family: str, rows: int, vectors: None) -> None:
    check(made(family, geometry((6, 5), 3, 17, (3, 3))), rows, capacity=64)


@pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)
@pytest.mark.parametrize("units", (1, 7, 64))
def test_epilogues(units: int, dtype: DType, vectors: None) -> None:
    for extent in ((5, 9), (3, 2)):
        check(made("convolution", geometry(extent, 4, units, (3, 3)), dtype, epilogue=True), 2)


def test_the_loops_say_the_same() -> None:
    for family in FAMILIES:
        node = made(family, geometry((5, 6), 2, 9, (3, 3), step=(1, 2)))
        lowering = planned(node, HOST, 2)
        arrays = arrays_for(node.regions[0], 2)
        loops = interpreted(lowering.write(lowering.plan), node, arrays, 2)
        np.testing.assert_array_equal(loops["result"], run_compiled(node, arrays, 2, target=HOST)["result"])


@pytest.mark.parametrize("family", FAMILIES)
def test_transformed_patches(family: str) -> None:
    """Where the shape and the processor alone say so; in loops that are interpreted they are the same; and their plans
    differ in no bit.
    """
    node = made(family, geometry((8, 4), 48, 48, (3, 3)))
    lowering = planned(node, HOST, 2)
    assert isinstance(lowering.plan, (WinogradPlan, WinogradSharesPlan))
    arrays = arrays_for(node.regions[0], 2)
    wanted = interpreted(lowering.write(lowering.plan), node, arrays, 2)["result"]
    tile = {"patches": 5} if family == "convolution" else {"channels": 7}
    for change in ({}, {"vectors": 1}, {"down": 1, "vectors": 2}, {"down": 4, **tile}):
        plan = replace(lowering.plan, **change)
        found = run_compiled(node, arrays, 2, compiled=Compiled(planned(node, HOST, 2).write(plan)))["result"]
        np.testing.assert_array_equal(found, wanted, err_msg=str(plan))


def test_zeros_and_infinities_stay_where_they_are() -> None:
    """A result by patches depends on its own places alone: where they are 0 it is 0, and no other is infinite."""
    node = made("convolution", geometry((8, 12), 48, 48, (3, 3)))
    assert isinstance(planned(node, HOST, 2).plan, WinogradPlan)
    arrays = arrays_for(node.regions[0], 2)
    arrays["x"] *= np.random.default_rng(1).random((2, 8, 12, 1)) < 0.15
    arrays["x"][0, 2, 5, 3] = np.inf
    found, exact = run_compiled(node, arrays, 2, target=HOST), expected(node, arrays, 2)
    for same in (lambda result: result == 0, np.isfinite):
        np.testing.assert_array_equal(same(found["result"]), same(exact["result"]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ("x86-64-v3", "x86-64-v4", "aarch64-linux-gnu"))
def test_which_are_made_by_patches(target: str, family: str) -> None:
    """Few channels, other taps and steps, little pictures and taps that outgrow a cache are done directly."""
    machine = TARGETS[target].machine
    pays = {
        name: winograd_pays(made(family, geometry(*sizes, **steps)).regions[0].nodes[0], machine)
        for name, (*sizes, steps) in {
            "many channels": ((14, 14), 64, 64, (3, 3), {}),
            "flipped": ((14, 14), 64, 64, (3, 3), {"flipped": True}),
            "one channel": ((28, 28), 1, 64, (3, 3), {}),
            "five taps": ((14, 14), 64, 64, (5, 5), {"before": (2, 2), "after": (2, 2)}),
            "steps": ((14, 14), 64, 64, (3, 3), {"step": (2, 1)}),
            "inserted": ((14, 14), 64, 64, (3, 3), {"inserted": (2, 2)}),
            "one place": ((1, 1), 64, 64, (3, 3), {}),
            "many taps": ((14, 14), 512, 512, (3, 3), {}),
        }.items()
    }
    assert [name for name, found in pays.items() if found] == ["many channels", "flipped"]


def test_every_plan_gives_the_same_bits() -> None:
    """Tiles, bands and parts leave each sum as it is; only shares are part of what is asked for."""
    for family in FAMILIES:
        node = made(family, geometry((9, 10), 3, 40, (3, 3)))
        lowering = planned(node, HOST, 5)
        arrays = arrays_for(node.regions[0], 5)
        wanted = run_compiled(node, arrays, 5, compiled=Compiled(lowering.write(lowering.plan)))["result"]
        changed = [{"band": 2}, {"vectors": 1}, {"band": 4, "vectors": 2}]
        changed += (
            [{"down": 2, "across": 10, "band": 4}, {"across": 3, "parts": 4, "band": 3}]
            if family == "convolution"
            else [{"taps": 2, "whole": False}]
        )
        for change in changed:
            plan = replace(lowering.plan, **change)
            found = run_compiled(node, arrays, 5, compiled=Compiled(planned(node, HOST, 5).write(plan)))["result"]
            np.testing.assert_array_equal(found, wanted, err_msg=str(plan))


SWEPT = sweep(
    FAMILIES,
    ((7, 7), (17, 3), (3, 65)),
    (1, 3, 16),
    (8, 17, 65),
    ((1, 1), (3, 3), (5, 2)),
    ((1, 1), (2, 2), (1, 3)),
    ((1, 1), (2, 1)),
    every=80,
)


@pytest.mark.parametrize(("family", "high", "wide", "channels", "units", "u", "v", "down", "across", "s", "t"), SWEPT)
def test_swept(
    family: str, high: int, wide: int, channels: int, units: int, u: int, v: int, down: int, across: int, s: int,
    t: int, vectors: None,
) -> None:  # fmt: skip
    before = ((u - 1) * s // 2, (v - 1) * t // 2)
    after = ((u - 1) * s - before[0], (v - 1) * t - before[1])
    steps = {"step": (down, across), "dilation": (s, t), "before": before, "after": after}
    check(made(family, geometry((high, wide), channels, units, (u, v), **steps)), 3, tolerance=1e-4)
