"""What a program is to a checkpoint: what matters to it, and how a difference is told."""

import numpy as np
import pytest

from tapeless.compiler.model import load
from tapeless.ir.types import DType
from tapeless.runtime import belonging
from tapeless.runtime.errors import CheckpointError
from tapeless.runtime.manifest import Block, Manifest, Settings

TEXT = """
model M(n = 3, rate = 0.01):
    input x: [batch, 2]
    target y: [batch]
    h = dropout(Dense(x, n, tanh), 0.1)
    output z = reshape(Dense(h, 1), [batch])
    loss mean((z - y) ** 2) as miss

train M:
    optimizer Adam(lr = cosine(peak = rate, warmup = 2))
    except '*.b': decay = 0.1
    clip_norm 1.0
    batch 4
    epochs 3
    stop_early patience = 2
"""


def record(text=TEXT, dtype=DType.F32, **given):
    """The record of a program, without compiling it."""
    model = load(text, dtype=dtype, **given)
    settings = Settings(**vars(model.settings))
    nothing = Block(0, ())
    return belonging.record(
        Manifest(model.name, np.dtype(dtype.numpy), 4, nothing, nothing, {}, settings, model.identity)
    )


THERE = record()
EARLIER = (
    "330433e99763fb02176cd2ebc515f19ecbe20af572f69398331602f4bca5a83e"  # written before parts were fields of ports
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("target y: [batch]", "target y: [batch]   # what is to be found"),
        ("Dense(x, n, tanh)", "Dense( x,n,   (tanh) )"),
        ("(z - y) ** 2", "((z - y)) ** 2"),
        ("model M", "fn unused(x) = 2 * x\n\nmodel M"),
        ("rate = 0.01", "rate = 0.02"),
        ("peak = rate", "peak = 0.5 * rate"),
        ("Adam(", "Adam(b1 = 0.8, "),
        ("warmup = 2", "warmup = 3"),
        ("decay = 0.1", "decay = 0.25"),
        ("decay = 0.1", "decay = 0.9"),
        ("clip_norm 1.0", "clip_norm 2"),
        ("epochs 3", "epochs 5"),
        ("patience = 2", "patience = 3"),
    ],
)
def test_what_does_not_matter(old, new):
    assert old in TEXT
    here = record(TEXT.replace(old, new))
    assert THERE.same(here) and here.same(THERE)
    belonging.anew(THERE, Settings(**here.settings))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("tanh", "relu", "`h = dropout(Dense(x, n, tanh), 0.1)` there and `h = dropout(Dense(x, n, relu), 0.1)` here"),
        ("0.1)", "0.2)", "0.1)` there and `h = dropout(Dense(x, n, tanh), 0.2)` here"),
        ("n = 3", "n = 4", "`n` is 3 there and 4 here"),
        ("Adam(", "AdamW(", "`optimizer Adam(lr = cosine(peak = rate, warmup = 2))` there and `optimizer AdamW("),
        (" M", " N", "the model is M there and N here"),
        ("    clip_norm 1.0\n", "", "`clip_norm 1.0` there and nothing here"),
        ("    h = dropout(", "    u = 2 * x\n    h = u[:, :1] + dropout(", "nothing there and `h = u[:, :1] + dropout"),
    ],
)
def test_what_differs_is_told(old, new, told):
    here = record(TEXT.replace(old, new))
    assert not THERE.same(here)
    assert told in belonging.differences(THERE, here)


def test_what_is_given_from_outside():
    assert "`n` is 3 there and 7 here" in belonging.differences(THERE, record(sizes={"n": 7}))
    assert "numbers are float32 there and float64 here" in belonging.differences(THERE, record(dtype=DType.F64))
    here = record(freeze=["h.*"])
    assert not THERE.same(here) and "`h.dense.W` is frozen here alone" in belonging.differences(THERE, here)


def test_batch_and_what_is_watched_stay():
    for old, new, told in (
        ("batch 4", "batch 8", "`batch` is 4 there and 8 here"),
        ("patience = 2", "patience = 2 on miss", "what `stop_early` watches is loss there and miss"),
    ):
        here = record(TEXT.replace(old, new))
        assert THERE.same(here)
        with pytest.raises(CheckpointError, match=told):
            belonging.anew(THERE, Settings(**here.settings))


def test_numbers_changed_in_the_text():
    assert belonging.changed(THERE, record(TEXT.replace("0.01", "0.02"))) == {"cosine.peak": 0.02}
    assert belonging.changed(THERE, THERE) == {}


def test_a_record_is_read_as_it_was_written():
    assert belonging.read(THERE.to_json()) == THERE


def test_strange_lines_are_shown_safely_and_soon():
    import dataclasses

    strange = dataclasses.replace(THERE, digest="?", lines=(("", ("\x1b[2J" + "x" * 10**6, *["a", "b"] * 10**5)),))
    told = belonging.differences(strange, THERE)
    assert "\x1b" not in told and len(told) < 2000 and "more" in told


def test_digests_of_earlier_versions_hold() -> None:
    """Checkpoints on disk keep them: of sums of quotients too, each part by its name."""
    text = TEXT.replace(" as miss\n", "\n    metric p = sum(y * z) / sum(z) total\n    metric q = 2 * p + mean(z)\n", 1)
    assert record(text).digest == EARLIER
