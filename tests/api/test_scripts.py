"""A model whose names are in other scripts: trained, kept, and built for C, where names are ASCII."""

from __future__ import annotations

import shutil
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import tapeless

MODEL = """model Größe(breite = 3):
    input  Γ: [batch, breite]
    target उत्तर: [batch, 1]
    重み = Dense(Γ, 1)
    output wahr = 重み
    loss mean_squared_error(重み, उत्तर)
"""


def test_it_is_trained_and_kept(tmp_path: Path) -> None:
    x, y = np.eye(3), np.ones((3, 1))
    program = tapeless.load(MODEL, breite=3).compile()
    run = program.fit({"Γ": x}, {unicodedata.normalize("NFD", "उत्तर"): y}, epochs=3, progress=False)
    assert run.curves["loss"][-1] < run.curves["loss"][0]
    program.save(tmp_path / "w.safetensors")
    other = tapeless.load(MODEL).compile(seed=1)
    other.load(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(other.parameters["重み.W"], program.parameters["重み.W"])


def test_c_sees_ascii(tmp_path: Path) -> None:
    header = next(path for path in tapeless.load(MODEL).build(tmp_path) if path.suffix == ".h")
    assert header.name == "grxf6xdfe.h"
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    use = tmp_path / "use.c"
    use.write_text(
        '#include "grxf6xdfe.h"\nint use(grxf6xdfe_memory m, const float *x, float *y) { return '
        "grxf6xdfe_predict(m, 1, x, y); }\n"
    )
    subprocess.run(
        [
            compiler,
            "-std=c99",
            "-pedantic",
            "-Wall",
            "-Werror",
            "-Wno-unused-function",
            "-c",
            "-o",
            tmp_path / "use.o",
            use,
        ],
        check=True,
    )
