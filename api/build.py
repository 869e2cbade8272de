"""Ahead of time: an object file, a C header, a manifest and, where this machine can link one, a shared library.

The machine code is what the in-process program would run, made from the same LLVM module for a target of choice.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tapeless.header import header, identifier
from tapeless.pipeline import target_named
from tapeless.runtime.errors import UserError
from tapeless.runtime.manifest import Manifest
from tapeless.runtime.threads import processors
from tapeless.runtime.writing import check_folder, check_writable, refusal, write_atomically

if TYPE_CHECKING:
    from tapeless.pipeline import Pipeline


def build(pipeline: Pipeline, folder: Path, target: str | None, batch: int | None) -> list[Path]:
    """Writes the program's files into `folder`; their paths. UserError if it can't be written."""
    machine = target_named(target)
    check_folder(folder)
    stem = folder / identifier(pipeline.model.name)
    library = stem.with_suffix(".dylib" if sys.platform == "darwin" else ".so")
    if folder.is_dir():
        for path in (
            *(stem.with_suffix(suffix) for suffix in (".o", ".h", ".json")),
            *([library] if machine.name == "host" else []),
        ):
            check_writable(path)
    image = pipeline.image(pipeline.available(), machine, batch, threads=processors())
    manifest = Manifest.from_json(image.manifest)
    files = {
        stem.with_suffix(".o"): image.code,
        stem.with_suffix(".h"): header(manifest).encode(),
        stem.with_suffix(".json"): (json.dumps(image.manifest, indent=1) + "\n").encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            write_atomically(path, content)
        linked = _linked(image.code) if machine.name == "host" else None
        if linked is not None:
            write_atomically(library, linked, executable=True)
    except OSError as error:
        raise UserError(refusal(error.filename or folder, error)) from error
    return [*files, *([library] if linked is not None else [])]


def _linked(code: bytes) -> bytes | None:
    """The shared library made of an object file by this machine's C compiler, if it has one that works."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as place:
        made, library = Path(place) / "made.o", Path(place) / "made.so"
        made.write_bytes(code)
        # Nothing is needed from outside, so no C library is linked and the result loads anywhere.
        command = [compiler, "-shared", "-nostdlib", "-o", str(library), str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return library.read_bytes() if done.returncode == 0 else None
