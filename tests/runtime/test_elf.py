"""Objects placed in memory without LLVM compute what LLVM's linker makes of them; what is no such object is refused."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tapeless
from tapeless.runtime import elf, image
from tapeless.runtime.image import Image

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="objects of other systems are left to LLVM"
)
TEXT = """
model Line:
    input  x: [batch, 3]
    target y: [batch, 2]
    output z = Dense(tanh(Dense(x, 70)), 2)
    loss mean_squared_error(z, y)
"""
DATA = {"x": np.linspace(-1, 1, 96, dtype=np.float32).reshape(32, 3), "y": np.ones((32, 2), np.float32)}


def test_the_same_results_as_by_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    placed = tapeless.load(TEXT).compile(cache=False)
    placed.fit(DATA, epochs=2)
    assert isinstance(placed.image("train")._keep_alive, elf.Placed)
    monkeypatch.setattr(elf, "place", lambda code, symbols: None)
    linked = tapeless.load(TEXT).compile(cache=False)
    linked.fit(DATA, epochs=2)
    assert isinstance(linked.image("train")._keep_alive, image._Linked)
    for name, array in linked.parameters.items():
        assert array.tobytes() == placed.parameters[name].tobytes()


def test_what_is_no_such_object_is_left_to_llvm() -> None:
    code = tapeless.load(TEXT).inspect()._pipeline.lowered("predict", None).code
    symbol = "tl_line_predict"
    assert elf.place(code, [symbol]) is not None
    assert elf.place(code, ["tl_other"]) is None
    assert elf.place(code[: len(code) // 2], [symbol]) is None
    assert elf.place(b"", [symbol]) is None
    other = bytearray(code)
    other[18:20] = (183).to_bytes(2, "little")  # AArch64
    assert elf.place(bytes(other), [symbol]) is None
    with pytest.raises((ValueError, RuntimeError)):
        Image.from_bytes(b"TAPELESS" + b"\0" * 20)


def test_a_program_from_the_cache_needs_no_llvm(tmp_path: Path) -> None:
    made = tapeless.load(TEXT).inspect()._pipeline.lowered("predict", None)
    file = tmp_path / "line.image"
    file.write_bytes(image.pack(made.manifest, made.code))
    code = (
        "import sys; from tapeless.runtime.image import Image\n"
        f"Image.from_bytes(open({str(file)!r}, 'rb').read()); print('llvmlite' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False"]
