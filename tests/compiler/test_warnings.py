"""What is allowed and hardly meant: the code of each warning or fault, beside the same thing as it is meant."""

from __future__ import annotations

import pytest

from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import load

MODEL = """
fn mine(logits, y) = cross_entropy(logits, y) + 0.1 * mean(logits ** 2)

layer Head(x[b, i], n):
    z = Dense(x, n)
    return softmax(z)

model M(depth = 0):
    input  x: [batch, 4]
    target y: int[batch] < 3
    target t: [batch]
    target p: [batch, 3]
    z = Dense(x, 3)
    s = Dense(x, 1)[:, 0]
{body}

train M:
    optimizer {optimizer}
"""
TOLD = {
    "loss cross_entropy(softmax(z), y)": {"W0106"},
    "loss cross_entropy(log_softmax(z), y)": {"W0106"},
    "loss cross_entropy(Head(x, 3), y)": {"W0106"},
    "q = softmax(reshape(z, [batch, 1, 3]))\n    loss cross_entropy(reshape(q, [batch, 3]), y)": {"W0106"},
    "loss mine(Dense(x, 3, softmax), y)": {"W0106"},
    "loss binary_cross_entropy(sigmoid(s), t)": {"W0106"},
    "loss binary_cross_entropy(Dense(x, 1, sigmoid)[:, 0], t)": {"W0106"},
    "loss multilabel_soft_margin(sigmoid(z), p)": {"W0106"},
    "loss kl_divergence(softmax(z), p)": {"W0106"},
    "loss negative_log_likelihood(softmax(z), y)": {"W0106"},
    "loss negative_log_likelihood(log_softmax(z), y)": set(),
    "loss binary_cross_entropy(sigmoid(s), t, from_logits = false)": set(),
    "loss cross_entropy(z * softmax(z), y)": set(),
    "loss cross_entropy(Dense(x, 1), where(y > 0, 0, 0))": {"E0512"},
    "o = Dense(x, 1)\n    loss categorical_focal(o, p[:, :1])": {"E0512"},
    "loss cross_entropy(Dense(x, 1), one_hot(y, 3)[:, :1])": {"E0512"},
    "for k in 1..depth:\n        z = relu(z)\n    loss cross_entropy(z, y)": {"W0107"},
    "repeat k in 3..2:\n        z = relu(z)\n    loss cross_entropy(z, y)": {"W0107"},
    "loss mean(max(z, 0) ** 2)": {"W0109", "W0101"},
    "loss mean(min(z, 1))": {"W0109"},
    "loss mean(min(z, axis = 1)) + mean(maximum(z, 0))": set(),
    "loss mean(max(z, 2))": {"E0206"},
    "loss mean(max(z, 0.5))": {"E0404"},
}
RULE = "optimizer Rule(w, g, lr = 0.1):\n    state m = 0\n    state n: [] = 0\n    state v: [] = 0\n{}\n"
OPTIMIZERS = {
    "SGD(lr = -0.1)": {"W0108"},
    "Adam(lr = cosine(peak = -0.1))": {"W0108"},
    "AdamW(decay = -0.1)": {"W0108"},
    "SGD(lr = 0.1)\n    except '*.b': lr = -0.1": {"W0108"},
    "Adam(lr = 0)": set(),
}
RULES = {
    "m = mean(g)\n    w = w - lr * m": {"E0213"},
    "w = w - lr * g\n    m = 0.9 * n": {"E0213"},
    "w = mean(w - lr * g)": {"E0213"},
    "w = lr": {"E0213"},
    "n = norm(g)\n    v = v + 1\n    m = 0.9 * m + g\n    w = w - lr * m / (n + 1)": set(),
}


def found(program: str) -> set[str]:
    try:
        return {warning.code for warning in load(program, "model.tl").warnings} - {"W0102"}  # `s` or `z` is not used
    except ProgramErrors as errors:
        return {fault.code for fault in errors.diagnostics}


@pytest.mark.parametrize("body", TOLD)
def test_models(body: str) -> None:
    assert found(MODEL.format(body=f"    {body}", optimizer="Adam")) == TOLD[body]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_rates(optimizer: str) -> None:
    assert found(MODEL.format(body="    loss cross_entropy(z, y)", optimizer=optimizer)) == OPTIMIZERS[optimizer]


@pytest.mark.parametrize("rule", RULES)
def test_rules_spread_no_single_number(rule: str) -> None:
    program = RULE.format("    " + rule) + MODEL.format(body="    loss cross_entropy(z, y)", optimizer="Rule")
    assert found(program) == RULES[rule]
