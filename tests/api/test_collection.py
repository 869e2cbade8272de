"""No garbage is looked for while a program is compiled, and afterwards it is as it was before."""

import gc

import pytest

import tapeless
from tapeless import pipeline
from tapeless.collection import uncollected

TEXT = "model M:\n    input x: [batch, 3]\n    output y = tanh(x)\n"


@pytest.mark.parametrize("before", [True, False])
def test_the_collector_is_as_it_was(before):
    held = gc.isenabled()
    try:
        (gc.enable if before else gc.disable)()
        with pytest.raises(KeyError), uncollected():
            assert not gc.isenabled()
            with uncollected():
                pass
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == before
    finally:
        (gc.enable if held else gc.disable)()


def test_it_goes_on_after_an_interruption_at_the_begin(monkeypatch):
    def interrupted():
        off()
        raise KeyboardInterrupt

    off = gc.disable
    gc.enable()
    monkeypatch.setattr(gc, "disable", interrupted)
    with pytest.raises(KeyboardInterrupt), uncollected():
        pass
    assert gc.isenabled()


def test_compiling_looks_for_none(monkeypatch):
    seen = []
    monkeypatch.setattr(pipeline, "compile_image", lambda *_: seen.append(gc.isenabled()))
    gc.enable()
    tapeless.load(TEXT).pipeline("float32").lowered("predict", 4)
    assert seen == [False] and gc.isenabled()
