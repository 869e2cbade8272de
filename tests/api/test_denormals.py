"""Training takes denormal numbers for zeros, predictions do not, and the caller's arithmetic is as before."""

from __future__ import annotations

import numpy as np
import pytest

import tapeless
from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import load
from tapeless.runtime.errors import TrainingStopped

TEXT = """
model Scaled:
    input x: [batch, 4]
    param w: [4] = 1
    output z = w * x
    loss mean(sum(z, 1))

train Scaled:
    batch 2
    epochs 1
    optimizer SGD(lr = 0.5)
"""
KEEP = "    denormals keep\n"
SMALL = np.float32(1e-40)
ROWS = np.full((2, 4), SMALL)


def compiled(text: str, folder, threads: int = 1):
    return tapeless.load(text).compile(threads=threads, cache=folder)


@pytest.mark.parametrize(("setting", "kept"), [("", False), ("    denormals flush\n", False), (KEEP, True)])
def test_gradients_and_training(setting, kept, cache_folder):
    program = compiled(TEXT + setting, cache_folder)
    assert (program.gradients(ROWS)["w"] == (SMALL if kept else 0)).all()
    program.parameters["w"][...] = 0
    program.fit(ROWS, progress=False)
    assert (program.parameters["w"] == (-SMALL / 2 if kept else 0)).all()


def test_an_update_apart_from_its_gradients(cache_folder):
    program = compiled(TEXT, cache_folder)
    program.parameters["w"][...] = SMALL
    program.apply({"w": np.zeros(4, np.float32)})
    assert (program.parameters["w"] == 0).all()


@pytest.mark.parametrize("setting", ["", KEEP])
def test_predictions_are_the_same_from_all_entries(setting, cache_folder):
    program = compiled(TEXT + setting, cache_folder)
    assert (program.predict(ROWS) == SMALL).all()
    assert program.evaluate(ROWS)["loss"] > 0


def test_the_caller_keeps_denormals(cache_folder):
    program = compiled(TEXT, cache_folder)
    program.fit(ROWS, progress=False)
    assert SMALL * np.float32(0.5) != 0
    with pytest.raises(TrainingStopped):
        program.fit(np.full((2, 4), 3e38, np.float32), progress=False)
    assert SMALL * np.float32(0.5) != 0


TOLD = {
    "x86-64-v4": "mxcsr",
    "aarch64-linux-gnu": "fpcr",
    "cortex-m7": "fpscr",
    "wasm32": None,
    "riscv64-linux-gnu": None,
}


@pytest.mark.parametrize("target", TOLD)
def test_every_target_that_can_is_told(target):
    """Read once, written at the beginning and at the end; entries that do not train leave it alone."""
    pipeline, word = tapeless.load(TEXT).pipeline("float32"), TOLD[target]
    lines = pipeline.lowered("gradients", None, target).assembly.lower().splitlines()
    reads = [line for line in lines if word and word in line and ("stmxcsr" in line or "mrs" in line)]
    writes = [line for line in lines if word and word in line and ("ldmxcsr" in line or "msr" in line)]
    assert (len(reads), len(writes)) == ((1, 2) if word else (0, 0))
    assert not word or word not in pipeline.lowered("predict", None, target).assembly.lower()


@pytest.mark.parametrize("written", ["denormals", "denormals 3", "denormals drop", "denormals flush, keep"])
def test_what_it_is_not(written):
    with pytest.raises(ProgramErrors) as caught:
        load(TEXT + f"    {written}\n")
    assert [one.code for one in caught.value.diagnostics] == ["E0601"]
