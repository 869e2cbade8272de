"""Ahead of time: an object file, a C header, a manifest and, where this machine can link one, a shared library.

The machine code is what the in-process program would run, made from the same LLVM module for a target of choice.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tapeless.header import header, identifier
from tapeless.pipeline import target_named
from tapeless.runtime.checkpoint import write_atomically
from tapeless.runtime.errors import UserError
from tapeless.runtime.manifest import Manifest

if TYPE_CHECKING:
    from tapeless.pipeline import Pipeline


def build(pipeline: Pipeline, folder: Path, target: str | None, batch: int | None) -> list[Path]:
    """Writes the program's files into `folder`; their paths. UserError if it can't be written."""
    machine = target_named(target)
    image = pipeline.image(pipeline.available(), machine, batch)
    manifest = Manifest.from_json(image.manifest)
    stem = folder / identifier(manifest.model)
    files = {
        stem.with_suffix(".o"): image.code,
        stem.with_suffix(".h"): header(manifest).encode(),
        stem.with_suffix(".json"): (json.dumps(image.manifest, indent=1) + "\n").encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            write_atomically(path, content)
    except OSError as error:
        raise UserError(f"{error.filename or folder} can't be written: {error.strerror or error}") from error
    written = list(files)
    if machine.name == "host":
        written += _linked(stem.with_suffix(".o"), stem.with_suffix(".dylib" if sys.platform == "darwin" else ".so"))
    return written


def _linked(made: Path, library: Path) -> Sequence[Path]:
    """The shared library made by this machine's C compiler, if it has one that works."""
    compiler = shutil.which("cc")
    if compiler is None:
        return []
    # Nothing is needed from outside, so no C library is linked and the result loads anywhere.
    done = subprocess.run(
        [compiler, "-shared", "-nostdlib", "-o", library, made], capture_output=True, text=True, check=False
    )
    return [library] if done.returncode == 0 else []
