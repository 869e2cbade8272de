"""Every scalar function of the language and its first two derivatives, as machine code in float64, against ball
arithmetic, which is held against mpmath.

The quick tests take values and slopes at the points where functions go wrong; the slow ones all derivatives, there
and at some random points. `python -m tests.scalars` takes 10**4 of them. What is right is in `table.py`, what is
close enough in `compared.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
import sympy

import tapeless.compiler
from tapeless.compiler.elaborate.functions import BUILTINS
from tapeless.compiler.model import load
from tapeless.ir.ops import POINTWISE
from tapeless.ir.types import DType

from .compared import ORDERS, computed, differences, drawn, special
from .table import SCALARS, Scalar, X, Y, derivative

STD = Path(tapeless.compiler.__file__).parent / "std"
SIZE = 14  # functions in one program
CHUNKS = [SCALARS[k : k + SIZE] for k in range(0, len(SCALARS), SIZE)]

# Functions that are not of one or two real numbers, or are parts of those that are.
NOT_SCALAR = {
    "isnan isinf isfinite is_list is_integer real": "answers and conversions",
    (
        "arcsinh_above arccosh_beyond one_less_square tanh_fraction root_plus squareplus_slope "
        "lerp_real gelu_tanh gelu_logit"
    ): "parts of others",
    "where stop_gradient strong_product": "chosen, held and weighed, in the texts",
    (
        "std any all count_nonzero norm roll logcumsumexp tril triu eye diagonal trace diag outer "
        "cross solve_spd logdet_spd"
    ): "of tensors",
}
WHOLE_FILES = ("adam", "attention", "classification", "convolution", "dropout", "initialisers", "layers",
    "normalisation", "optimizers",
               "recurrent", "schedules", "similarity", "softmax")  # fmt: skip
NOT_REAL = {"logical_and", "logical_or", "logical_not", "lt", "le", "eq", "ne", "cast", "select"}
LOSSES = (
    "mean_squared_error mean_absolute_error mean_absolute_percentage_error mean_squared_logarithmic_error huber "
    "smooth_l1 log_cosh poisson_nll gaussian_nll"
)


def test_every_scalar_function_has_an_entry() -> None:
    known = {word for scalar in SCALARS for word in re.findall(r"\w+", scalar.text)}
    known |= {word for names in (*NOT_SCALAR, LOSSES) for word in names.split()}
    written = {
        name
        for file in STD.glob("*.tl")
        if file.stem not in WHOLE_FILES
        for name in re.findall(r"^fn (\w+)", file.read_text("utf-8"), re.MULTILINE)
    }
    builtin = {name for name, one in BUILTINS.items() if one.run.__module__.endswith(".functions.pointwise")}
    assert sorted((written | builtin) - known) == []


def test_every_operation_takes_part() -> None:
    """Each pointwise operation of real numbers is a part of some function here, or of a derivative."""
    lines = ["model Scalars:", "input x: [batch]", "input y: [batch]"]
    for k, scalar in enumerate(SCALARS):
        lines += [f"v{k} = {scalar.text}", f"g{k} = grad(sum(v{k}), x)", f"output h{k} = grad(sum(g{k}), x) + v{k}"]
    graph = load("\n    ".join(lines) + "\n", dtype=DType.F64).forward[False]
    used = {
        node.op
        for inner in (graph, *(region for node in graph.nodes for region in node.regions))
        for node in inner.nodes
    }
    assert sorted(POINTWISE - used - NOT_REAL) == []


@pytest.mark.parametrize("scalars", CHUNKS, ids=lambda chunk: chunk[0].text)
def test_values_and_slopes_at_special_points(scalars: tuple[Scalar, ...]) -> None:
    _check(scalars, [special(scalar)[::3] + drawn(scalar, 6) for scalar in scalars], 1)


@pytest.mark.slow
@pytest.mark.parametrize("scalars", CHUNKS, ids=lambda chunk: chunk[0].text)
def test_two_derivatives_everywhere(scalars: tuple[Scalar, ...]) -> None:
    _check(scalars, [special(scalar) + drawn(scalar, 50) for scalar in scalars], 2)


def _check(scalars: tuple[Scalar, ...], points: list[list[tuple[float, ...]]], orders: int) -> None:
    found = computed(scalars, points, orders)
    with np.errstate(all="ignore"):
        wrong = [str(one) for k, scalar in enumerate(scalars) for one in differences(scalar, points[k], found[k])]
    assert not wrong, "\n".join([f"{len(wrong)} differ", *wrong[:40]])


@pytest.mark.parametrize("scalar", [one for one in SCALARS if one.pieces], ids=lambda one: one.text)
def test_the_judge_agrees_with_mpmath(scalar: Scalar) -> None:
    for at in drawn(scalar, 8)[4:]:
        for order in ORDERS[scalar.arguments]:
            piece = next(one for one in scalar.pieces if one.where(*at))
            with mp.workdps(60):
                right = sympy.lambdify((X, Y)[: len(at)], derivative(piece.formula, order), "mpmath")(*map(mp.mpf, at))
            known = scalar.at(order, *at)
            assert known is None if mp.im(right) else known is not None and mp.almosteq(known, right, 1e-24), (
                order,
                at,
            )
