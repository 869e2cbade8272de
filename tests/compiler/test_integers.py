"""Ints stay ints: arithmetic beyond what a float32 can count, and bounds that follow, so that results can index."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import numpy as np
import pytest

import tapeless
from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.ir.interpreter import run

from .programs import model

# of what float32 counts, and 32 bits' ends
BEYOND = np.array([16777217, 123456789, -7, 2**31 - 1, -(2**31), 5], np.int32)
WIDE = np.random.default_rng(0).integers(-(2**26), 2**26, (6, 5)).astype(np.int32)
WIDE[0], WIDE[1, 2] = -(2**31), -(2**31)
J = np.array([9, 8, 0, 3, 5, 5], np.int32)
BY = J.astype(np.int64) - 5
LONG, ROWS = BEYOND.astype(np.int64), WIDE.astype(np.int64)


TABLE = 16777217 + np.arange(5)


def wrapped(x: Any) -> Any:
    return (np.asarray(x) + 2**31) % 2**32 - 2**31


CASES: dict[str, Any] = {
    "k % 2": LONG % 2,
    "k // 10": LONG // 10,
    "k // (j - 5)": wrapped(np.where(BY == 0, 0, LONG // np.where(BY == 0, 1, BY))),
    "k % (j - 5)": np.where(BY == 0, 0, LONG % np.where(BY == 0, 1, BY)),
    "fmod(k, 7)": np.fmod(LONG, 7),
    "fmod(k, -3)": np.fmod(LONG, -3),
    "fmod(k, -2147483648)": np.fmod(LONG, -(2**31)),
    "k ** 3 + k ** 0": wrapped(wrapped(LONG**2) * LONG + 1),
    "minimum(k, 123456788) - maximum(k, 16777216)": wrapped(np.minimum(LONG, 123456788) - np.maximum(LONG, 16777216)),
    "clip(k, -16777219, 123456787) + sign(k)": np.clip(LONG, -16777219, 123456787) + np.sign(LONG),
    "where(k > 16777216, k, 1)": np.where(LONG > 16777216, LONG, 1),
    "sum(m, axis = 1)": wrapped(ROWS.sum(1)),
    "prod(m, axis = 1)": np.prod(WIDE, axis=1, dtype=np.int32),
    "max(m, axis = 1) - 1": wrapped(ROWS.max(1) - 1),
    "min(abs(m), axis = 1)": wrapped(np.abs(ROWS)).min(1),
    "argmax(m) + 8 * argmin(m)": ROWS.argmax(1) + 8 * ROWS.argmin(1),
    "cumsum(m)": wrapped(ROWS.cumsum(1)),
    "sort(m)": np.sort(ROWS),
    "topk(m, 2)[0]": -np.sort(-ROWS)[:, :2],
    "take_along_axis(m, argsort(m, descending = true))": -np.sort(-ROWS),
    "pick(m, j // 2)": ROWS[np.arange(6), J // 2],
    "table[j // 2] + table[j % 5]": TABLE[J // 2] + TABLE[J % 5],
    "table[clip(k, 0, 4)]": TABLE[np.clip(LONG, 0, 4)],
    "table[minimum(maximum(k, 0), 4)]": TABLE[np.clip(LONG, 0, 4)],
    "table[where(j > 3, 4 - k % 5, minimum(j, 2) ** 2)]": TABLE[np.where(J > 3, 4 - LONG % 5, np.minimum(J, 2) ** 2)],
    "table[max(m % 5, axis = 1)]": TABLE[(ROWS % 5).max(1)],
}
COMPARED = [16777216.0, 16777216.5, 3e9, 2147483648.0, 2147483647, -2147483649, -2147483648, -1e20, 1e20, 0.5, -0.5]
RELATIONS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
DECLARED = """
model M:
    input k: int[batch]
    input m: int[batch, 5]
    input j: int[batch] < 10
    table = 16777217 + arange(5)
"""


def predicted(outputs: list[str]) -> list[Any]:
    """Expressions by machine code and, held against it, by the reference interpreter."""
    text = DECLARED + "".join(f"    output o{k} = {expression}\n" for k, expression in enumerate(outputs))
    data = {"k": BEYOND, "m": WIDE, "j": J}
    program = tapeless.load(text + "    param w = 1.0\n    loss w ** 2\n").compile(batch=4)
    made: Any = program.predict(data)
    graph = model(text).forward[False]
    reference = run(graph, {port.key: data[port.key] for port in graph.inputs})
    found = [made[f"o{k}"] if len(outputs) > 1 else made for k in range(len(outputs))]
    for k, value in enumerate(found):
        np.testing.assert_array_equal(value, reference[f"o{k}"], err_msg=outputs[k])
    return found


def test_arithmetic() -> None:
    for (expression, wanted), found in zip(CASES.items(), predicted(list(CASES)), strict=True):
        assert found.dtype == np.int32, expression
        np.testing.assert_array_equal(found, wanted, err_msg=expression)


def test_comparisons_with_numbers_that_are_no_ints() -> None:
    """An int as a float32 may have been rounded to the number that it is compared with."""
    asked = list(itertools.product(RELATIONS, COMPARED))
    found = predicted([f"where(k {symbol} {number!r}, 1, 0)" for symbol, number in asked])
    for (symbol, number), made in zip(asked, found, strict=True):
        np.testing.assert_array_equal(
            made, [RELATIONS[symbol](int(k), number) for k in BEYOND], err_msg=f"k {symbol} {number}"
        )


def test_index_notation() -> None:
    text = (
        DECLARED
        + """    r[n] = sum[i] m[n, i]
    t[n] = max[i where m[n, i] < 0] m[n, i]
    g[n] = pick(m, j // 2)[n]
    output r
    output t
    output g
    param w = 1.0
    loss w ** 2
"""
    )
    found: Any = tapeless.load(text).compile(batch=4).predict({"k": BEYOND, "m": WIDE, "j": J})
    np.testing.assert_array_equal(found["r"], wrapped(ROWS.sum(1)))
    np.testing.assert_array_equal(found["t"], np.where(ROWS < 0, ROWS, -(2**31)).max(1))
    np.testing.assert_array_equal(found["g"], ROWS[np.arange(6), J // 2])


@pytest.mark.parametrize(
    "expression",
    ["table[j - 1]", "table[minimum(k, 3)]", "table[maximum(j, k)]", "table[where(j > 2, k, 1)]", "table[-j]"],
)
def test_what_may_be_negative_has_no_bound(expression: str) -> None:
    with pytest.raises(ProgramErrors, match="needs a bound"):
        model(DECLARED + f"    output o = {expression}\n")


def test_a_bound_that_is_too_large() -> None:
    with pytest.raises(ProgramErrors, match="as large as 5"):
        model(DECLARED + "    output o = table[j // 2 + 1]\n")


def test_a_number_beyond_an_int() -> None:
    with pytest.raises(ProgramErrors, match="too large for an int"):
        model(DECLARED + "    output o = k + 3000000000\n")


def test_functions_with_a_derivative_of_their_own() -> None:
    """Of ints they are what they are of the same real numbers; an int has no derivative."""
    for made, right in zip(
        predicted(["relu(j - 2)", "relu6(3 * j)"]), [np.maximum(J - 2, 0), np.clip(3 * J, 0, 6)], strict=True
    ):
        np.testing.assert_array_equal(made, right)
