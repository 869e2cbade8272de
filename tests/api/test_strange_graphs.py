"""`tapeless run` on texts of graphs that nobody's compiler has written: verified first, refused in one line."""

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest

import tapeless
from tapeless.interpreting import run_file
from tapeless.runtime.errors import UserError

GOOD = """graph square {
  input data x: %x : f32[batch, 3]
  %y : f32[batch, 3] = square(%x)
  output output y: %y
}
"""


def run(path: Path, text: str):
    path.write_text(text)
    return run_file(path, {"x": np.ones((2, 3), np.float32)}, None, None, None, lambda note: None)


def test_a_graph_runs(tmp_path):
    assert run(tmp_path / "g.ir", GOOD)["y"].shape == (2, 3)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("%y : f32[batch, 3] =", "%y : f32[batch, 4] ="),
        ("%y : f32[batch, 3] =", "%y : f64[batch, 3] ="),
        ("square", "cube"),
        ("(%x)", "()"),
        ("(%x)", "(%x, %x)"),
        ("(%x)", "(%x) {a=1}"),
        ("square(%x)", "transpose(%x)"),
        ("square(%x)", "reshape(%x) {shape=3}"),
        ("square(%x)", "sum(%x) {axes=(7,)}"),
        ("square(%x)", "sum(%x) {axes=(true, 0.5)}"),
        ("square(%x)", "scan(%x) {carries=9}"),
        ("square(%x)", "scan(%x) {carries=1} [ graph a { } ]"),
        ("square(%x)", "kernel(%x)"),
        ("input data", "input strange"),
        ("output output", "output strange"),
        ("%y : f32[batch, 3] =", "%x : f32[batch, 3] ="),
        ("[batch, 3]", "[-1, 3]"),
        ("[batch, 3]", "[" + "9" * 5000 + "]"),
        ("square(%x)", "square(%x) " + "[ graph a { " * 5000),
    ],
)
def test_what_is_no_graph(tmp_path, old, new):
    with pytest.raises(UserError) as caught:
        run(tmp_path / "g.ir", GOOD.replace(old, new))
    assert len(str(caught.value)) < 2000


def test_altered_stages(tmp_path):
    """Words, numbers and lines of true graphs in other places."""
    model = "model M:\n    input x: [batch, 3]\n    output y = softmax(Dense(x, 4))\n    loss mean(y ** 2)\n"
    text = tapeless.load(model).inspect().stage("simplified", "predict", source=False)
    r = random.Random(0)
    for _ in range(300):
        pieces = text.split(" ")
        for _ in range(r.randint(1, 3)):
            place = r.randrange(len(pieces))
            pieces[place] = r.choice(
                (pieces[r.randrange(len(pieces))], "", "-1", "batch", "true", "(1, 2)", "f32[2]", "{axes=(9)}")
            )
        with contextlib.suppress(UserError):
            run(tmp_path / "g.ir", " ".join(pieces))
