"""How work is cut into parts: evenly, and into a count that serves few threads as well as many."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.codegen.loops import interpreter
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import ROWS, Buffer, Function
from tapeless.codegen.nests.groups import even_parts, part_range
from tapeless.ir.target import TARGETS


def ends(extent: int, parts: int, grain: int) -> list[tuple[int, int]]:
    """From where to where each part goes."""
    b = Builder(TARGETS["x86-64-v3"])
    for place, end in enumerate(part_range(b, ROWS, parts, grain)):
        b.store("r0", index_constant(place), end)
    function = Function("ends", (Buffer("r0", "i64", "result"),), parts, tuple(b.block))
    found = []
    for part in range(parts):
        made = np.zeros(2, np.int64)
        interpreter.run(function, [made], extent, part)
        found.append((int(made[0]), int(made[1])))
    return found


@pytest.mark.parametrize("extent", [0, 1, 3, 7, 16, 17, 64, 65, 129, 1024])
@pytest.mark.parametrize(("parts", "grain"), [(2, 1), (3, 6), (7, 1), (12, 8), (16, 6)])
def test_parts_follow_each_other_and_differ_by_a_grain(extent, parts, grain):
    found = ends(extent, parts, grain)
    assert [begin for begin, _ in found] == [0, *(end for _, end in found[:-1])] and found[-1][1] == extent
    whole = [-(-(end - begin) // grain) for begin, end in found]
    assert max(whole) - min(whole) <= 1


@pytest.mark.parametrize(
    ("most", "grains", "expected"), [(1, 9, 1), (7, 16, 6), (16, 16, 16), (13, 100, 12), (16, 171, 16), (9, 0, 1)]
)
def test_counts_of_parts_are_even_for_few_threads(most, grains, expected):
    assert even_parts(most, grains)[0] == expected


def test_of_two_threads_none_has_much_more_than_half():
    for grains in range(8, 200):
        for most in (8, 12, 13, 15, 16):
            parts, _ = even_parts(most, grains)
            assert (parts + 1) // 2 * grains // parts <= 13 / 24 * grains + 1
