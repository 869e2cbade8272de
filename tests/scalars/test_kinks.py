"""At kinks slopes are subgradients: those of PyTorch, as tests/fixtures/make_kinks.py recorded them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import tapeless

KINKS = json.loads((Path(__file__).parents[1] / "fixtures" / "pytorch" / "kinks.json").read_text("utf-8"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slopes_are_pytorchs(dtype: str) -> None:
    lines, inputs, rows = ["model Kinks:"], {}, max(map(len, KINKS.values()))
    for k, (text, cases) in enumerate(KINKS.items()):
        names = ("x", "y")[: len(cases[0][0])]
        for place, name in enumerate(names):
            inputs[f"{name}{k}"] = np.resize([at[place] for at, _ in cases], rows).astype(dtype)
            lines.append(f"input {name}{k}: [batch]")
        numbered = re.sub(r"\b([xy])\b", rf"\g<1>{k}", text)
        lines.append(f"v{k} = {numbered}")
        lines += [f"output {name}{k}_slope = grad(sum(v{k}), {name}{k})" for name in names]
    program = tapeless.load("\n    ".join(lines) + "\n").compile(dtype=dtype, batch=rows, threads=1)
    found = program.predict(inputs)
    for k, (text, cases) in enumerate(KINKS.items()):
        for place, name in enumerate(("x", "y")[: len(cases[0][0])]):
            right = [slopes[place] for _, slopes in cases]
            np.testing.assert_allclose(
                found[f"{name}{k}_slope"][: len(cases)],
                right,
                1e-5,
                err_msg=f"{text} by {name} at {[at for at, _ in cases]}",
            )


# Losses of which w = 1 is the margin, and their slopes by w.
MARGINS = {"hinge(w * x, one)": -1,
    "categorical_hinge(stack(w * x, 0 * x, axis = 1), stack(one, 0 * x, axis = 1))": -1,
    "hinge_embedding(w * x, -1)": -1, "margin_ranking(w * x, 0 * x, one, 1)": -1,
           ("triplet_margin(stack(w * x, 0 * x, axis = 1), stack(0 * x, 0 * x, axis = 1), "
               "stack(2 * one, 0 * x, axis = 1), margin = 0, eps = 0)"): 2}  # fmt: skip


@pytest.mark.parametrize("text", MARGINS)
def test_losses_have_their_whole_slope_at_the_margin(text: str) -> None:
    """As PyTorch's, which clamp; half of it is what a maximum has at a tie."""
    program = tapeless.load(
        f"model Margins:\n    input x: [batch]\n    input one: [batch]\n    param w = 1.0\n    loss {text}\n"
    ).compile(dtype="float64", batch=2, threads=1)
    ones = np.ones(2)
    assert program.gradients({"x": ones, "one": ones})["w"] == pytest.approx(MARGINS[text])
