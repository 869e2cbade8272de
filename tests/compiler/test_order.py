"""Whether results depend on where in a batch a row stands: outputs must not, losses are warned of, pairs of rows are
neither.
"""

from __future__ import annotations

import pytest

from tapeless.compiler.elaborate.row_places import knowing_places
from tapeless.compiler.messages.diagnostics import ProgramErrors

from .programs import model

PAIRS = "s[n, m] = sum[i] x[n, i] * x[m, i]\n"
OUTPUTS = {
    "a triangle": "output y = tril(x)",
    "the number of a row": "output y = x * expand_dims(arange(batch), 1)",
    "as an index": "y[n, i] = x[n, i] * n\noutput y",
    "a wave": "output y = x + sin(expand_dims(arange(batch), 1))",
    "rows cut into others": "h = reshape(x, [4, batch])\noutput y = transpose(h)",
    "numbers of halves of rows": (
        "h = reshape(x, [batch * 2, 2])\noutput y = reshape(h * expand_dims(arange(batch * 2), 1), [batch, 4])"
    ),
    "in a loop": "h = x\nrepeat k in 0..3:\n    h = tanh(h + k * expand_dims(arange(batch), 1))\noutput h",
    "rows behind their places": "output y = reshape(reshape(transpose(x), [4 * batch]), [batch, 4])",
    "rows in two orders": (
        "h = reshape(transpose(x), [4 * batch]) + reshape(x, [4 * batch])\noutput y = reshape(h, [batch, 4])"
    ),
    "by a comparison alone": "output y = where(expand_dims(arange(batch), 1) < 2, x, 0)",
}
LOSSES = {
    "a weight": "loss mean(x * expand_dims(arange(batch), 1))",
    "a triangle of the data": "loss mean(tril(x))",
    "half of all pairs": "l[n] = sum[m where m < n] x[n, 0] * x[m, 1]\nloss mean(l)",
    "a metric": "loss mean(x ** 2)\nmetric last = sum(where(expand_dims(arange(batch), 1) == batch - 1, x, 0))",
}
FREE = {
    "a mask that hides nothing": "output y = where(expand_dims(arange(batch), 1) >= 0, x, 1)",
    "cut and joined again": "output y = reshape(reshape(x, [2, batch * 2]), [batch, 4])",
    "triangles of places": "output y = tril(reshape(x, [batch, 2, 2]))",
    "a contrastive loss": PAIRS + "l[n] = s[n, n]\nloss mean(logsumexp(s) - l)",
    "labels that go with the rows": PAIRS + "l[n] = sum[m] s[n, m] * (m == n)\nloss mean(logsumexp(s) - l)",
    "pairs of different rows": PAIRS + "l[n] = sum[m where m != n] exp(s[n, m])\nloss mean(log(l))",
    "symmetric pairs below the diagonal": PAIRS + "l[n] = sum[m where m < n] s[n, m] ** 2\nloss mean(l)",
    "dropout": "output y = dropout(x, 0.5)\nloss mean(dropout(x, 0.5))",
}

# What needs no numbers to be told from those: joined with places or time, and taken apart again.
PLAIN = {
    "a layer at each place": "h = reshape(x, [batch, 4, 1])\noutput y = Dense(h, 3)\nloss mean(y)",
    "attention": "h = reshape(x, [batch, 4, 1])\noutput y = Dense(TransformerBlock(Dense(h, 8), 2), 3)\nloss mean(y)",
    "a loop over places": "h = LSTM(reshape(x, [batch, 4, 1]), 5)\noutput y = Dense(h, 3)\nloss mean(y)",
    "rows behind, and before again": "output y = transpose(reshape(reshape(transpose(x), [4 * batch]), [4, batch]))",
}


def program(body: str) -> str:
    return "model M:\n    input x: [batch, 4]\n" + "".join(f"    {line}\n" for line in body.split("\n"))


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output(name: str) -> None:
    with pytest.raises(ProgramErrors, match=r"E0214.*would depend on its place among them"):
        model(program(OUTPUTS[name]))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss(name: str) -> None:
    assert "W0110" in [warning.code for warning in model(program(LOSSES[name])).warnings]


@pytest.mark.parametrize("name", FREE)
def test_what_is_the_same_in_any_order(name: str) -> None:
    assert "W0110" not in [warning.code for warning in model(program(FREE[name])).warnings]


@pytest.mark.parametrize("name", PLAIN)
def test_what_needs_no_numbers(name: str) -> None:
    assert not any(knowing_places(graph) for graph in model(program(PLAIN[name])).forward.values())
