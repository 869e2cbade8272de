"""The Python on docs/training.md is true."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import tapeless

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
LINE = "model Line:\n    input x: [batch]\n    target y: [batch]\n    param w = 0\n    loss mean((w * x - y) ** 2)\n" \
    "\ntrain Line:\n    optimizer SGD(lr = 0.1)\n    epochs 500\n"  # fmt: skip


def test_the_callback_on_the_page(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, type] = {}
    exec(code, names)
    x = np.linspace(0, 1, 100)
    run = tapeless.load(LINE).compile(cache=tmp_path).fit(x, 2 * x, callbacks=[names["Patient"]()])
    assert 2 < run.epochs < 500
    losses = run.curves["loss"]
    assert losses[-2] - losses[-1] < 1e-3 <= losses[-3] - losses[-2]
