"""What people write who come from Python, Keras and PyTorch: one fault, where the cause is, that says what it is
here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tapeless.compiler.elaborate import functions
from tapeless.compiler.elaborate.modules import standard_names
from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.messages.near_names import hint_for
from tapeless.compiler.messages.newcomers_words import PHRASES
from tapeless.compiler.model import load

MODEL = """model M:
    input  x: [batch, 8]
    target y: [batch, 1]
    target k: int[batch] < 3
    {line}
    output z = Dense(x, 1)
    loss {loss}

train M:
    {setting}
"""

LINES = {
    "h = Lenear(x, 3)": "`Dense`", "h = linear(x, 3)": "`Dense`", "h = x.unsqueeze(1)": "`expand_dims(x, ...)`",
    "h = x.reshape([batch, 4, 2])": "`reshape(x, ...)`",
    "h = nn.LSTMCell(x, 3)": "`LSTM`", "h = Adam(x)": "train section", "h = cosine(x)": "train section",
    "h = Dense(x, 3, 'relu')": "`relu`, without quotes",
    "h = Dense(x, 3, 16)": "`act` of `Dense`", "h = Dense(3)(x)": "comes first", "h == Dense(x, 3)": "`h = ...`",
    "h <- Dense(x, 3)": "`h = ...`", "h: Dense(x, 3)": "`h = ...`",
    "self.W = Dense(x, 3)": "no `self`", "param W: [8, 3] ~ xavier": "`glorot_uniform`",
    "param W: [8, 3] ~ kaiming_norml": "`he_normal`", "weight W: [8, 3] = 0": "`param W",
    "h = lambda a: a + 1": "`fn f(x) = ...`", "h = x is none": "`==`", "h = f'{x}'": "a text stands alone",
    "pass": "does not begin", "print(x)": "`metric name",
    "// words": "`#`", "h = “x”": "Quotes are", "h = x <> y": "`!=`",
    "h = Dense(x[:, 0], 3)": "`reshape(x, [batch, 1])`", "h = True": "`true`",
    "label c: [batch]": "`target y", "h = x \\\n        + 1": "Inside brackets",
    "class A:\n        def f(self):\n            pass": "`layer`",
}  # fmt: skip
LOSSES = {
    "mae(z, y)": "`mean_absolute_error`", "nn.BCELoss(z, y)": "`binary_cross_entropy`",
    "sparse_categorical_crossentropy(z, k)": "`cross_entropy`", "rmse(z, y)": "sqrt(",
    "log_loss(z, y)": "`binary_cross_entropy`", "huber_loss(z, y)": "`huber`",
    "mean_squard_error(z, y)": "`mean_squared_error`", "linear(z, y)": "train section",
}  # fmt: skip
SETTINGS = {
    "epochs: 3": "`epochs 3`", "optimizer: Adam()": "`optimizer Adam`", "lr = 0.1": "`optimizer Adam(lr",
        "seed = 3": "`--seed 3`", "shuffle = True": "drawn by the seed", "loss mse": "The model says",
    "device cuda": "the processor", "Adam(lr = 0.1)": "`optimizer Adam(...)`", "optimizer 'adam'": "`optimizer Adam`",
    "optimizer 'Adam'": "`optimizer Adam`", "stop_early patience 5": "`stop_early patience = 5`",
    "epochs 3 batch 8": "a line of its own", "optimizer Adam(lr = StepLR(0.1))": "`staircase`",
    "optimizer Adam(lr = Lenear(0.1))": "`linear`", "num_epochs 3": "`epochs 10`",
}  # fmt: skip
WHOLE = {
    "model M:\ninput x: [batch, 8]\nh = x\noutput z = h\n": "Indent",
    "model M:\n    input x: [None, 8]\n    output z = x\n": "`[batch, ...]`",
    "model M:\n    input x: [batch_size, 8]\n    output z = x\n": "`[batch, ...]`",
    "model M:\n    input x: [-1, 8]\n    output z = x\n": "`[batch, ...]`",
    "f(x) = x + 1\nmodel M:\n    input x: [batch, 8]\n    output z = x\n": "`fn f(x) = ...`",
    "model M(n: int = 3):\n    input x: [batch, n]\n    output z = x\n": "no type",
    "class Net(nn.Module):\n    def __init__(self):\n        self.fc = nn.Linear(8, 1)\n": "`layer`",
}  # fmt: skip


def said(program: str) -> str:
    """The message and hint of the one fault of a program."""
    with pytest.raises(ProgramErrors) as caught:
        load(program, "model.tl")
    (fault,) = caught.value.diagnostics
    return f"{fault.message}; {fault.hint}"


@pytest.mark.parametrize(("line", "words"), LINES.items())
def test_lines(line: str, words: str) -> None:
    assert words in said(MODEL.format(line=line, loss="mean((z - y) ** 2)", setting="epochs 3")).replace(
        "A text", "a text"
    )


@pytest.mark.parametrize(("loss", "words"), LOSSES.items())
def test_losses(loss: str, words: str) -> None:
    assert words in said(MODEL.format(line="h = x", loss=loss, setting="epochs 3"))


@pytest.mark.parametrize(("setting", "words"), SETTINGS.items())
def test_settings(setting: str, words: str) -> None:
    assert words in said(MODEL.format(line="h = x", loss="mean((z - y) ** 2)", setting=setting))


@pytest.mark.parametrize(("program", "words"), WHOLE.items())
def test_programs(program: str, words: str) -> None:
    assert words in said(program)


COVERAGE = (Path(__file__).parents[2] / "docs" / "coverage.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in row.strip("|").split("|")]
    for title in ("Layers", "Activations", "Losses")
    for row in COVERAGE.partition(f"## {title}\n")[2].partition("\n## ")[0].splitlines()
    if row.startswith("| ")
]
NAMES = [
    (name, row[2])
    for row in ROWS
    for cell in row[:2]
    for name in re.findall(r"(?<![\w.])[A-Z]\w+(?=[,|( ]|$)", cell)
    if name not in ("PyTorch", "Keras")
]


def test_every_name_of_the_table_of_coverage_is_known() -> None:
    """Each class of PyTorch and Keras that the table lists is offered as what stands beside it."""
    known = [*standard_names(), *functions.BUILTINS]
    missed = []
    for name in {name for name, _ in NAMES} - PHRASES.keys():
        offered = re.findall(r"\w+", (hint_for(name, known) or "").partition("`")[2])
        if not offered or not any(re.search(rf"\b{offered[0]}\b", ours) for other, ours in NAMES if other == name):
            missed.append((name, offered))
    assert len(NAMES) > 110 and missed == [("Maximum", ["maximum"])]
