"""Near names: what is offered in the place of a name that nothing has."""

from __future__ import annotations

import pytest

from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import load

MODEL = "model M:\n    input x: [batch, 3]\n    y = {}\n    loss mean(Dense(y, 1))\n\ntrain M:\n    optimizer {}\n"


@pytest.mark.parametrize(("value", "optimizer", "hint"), [
    ("tahn(x)", "Adam", "tanh"), ("dense(x, 3)", "Adam", "Dense"), ("Adan(x)", "Adam", None),
    ("x", "adam", "Adam"), ("x", "Adma", "Adam"), ("x", "SDG(lr = 0.1)", "SGD"),
    ("x", "Adam(lr = cosin(0.1))", "cosine"),
])  # fmt: skip
def test_offered(value: str, optimizer: str, hint: str | None) -> None:
    """Of equally near names the one of the same letters; optimizers where one stands, and nowhere else."""
    with pytest.raises(ProgramErrors) as caught:
        load(MODEL.format(value, optimizer), "model.tl")
    (fault,) = caught.value.diagnostics
    assert fault.code == "E0301" and fault.hint == (f"Did you mean `{hint}`?" if hint else None)
