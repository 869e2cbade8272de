"""For all tests: memory that a program may not read before it has written it holds NaN, here and in what tests
start; and nothing is made twice that comes out the same, neither machine code nor the bytecode of what tests start.
"""

import gc
import os
import runpy
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from .kept_objects import KeptObjects

FOLDER = str(Path(__file__).parent / "poison")
WRITES_NONE, WRITES_TO = "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"

if FOLDER not in (inherited := os.environ.get("PYTHONPATH", "").split(os.pathsep)):  # else this process began with it
    os.environ["PYTHONPATH"] = os.pathsep.join([FOLDER, *filter(None, inherited)])
    runpy.run_path(str(Path(FOLDER) / "sitecustomize.py"))


def pytest_configure(config: pytest.Config) -> None:
    """Where no bytecode is wanted beside the sources, every process that a test starts would parse the compiler anew,
    for about a second: theirs is kept with what pytest keeps.
    """
    if not hasattr(config, "cache"):
        return
    folder = str(config.cache.mkdir("bytecode"))
    if os.environ.pop(WRITES_NONE, ""):
        os.environ[WRITES_TO] = folder
    elif sys.pycache_prefix == folder:  # a worker: modules that are installed have their bytecode beside them
        sys.pycache_prefix, sys.dont_write_bytecode = None, True


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Tens of thousands of tests stay until the end: the collector of garbage does not go over them again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def kept_objects(pytestconfig: pytest.Config):
    """Machine code is made once for equal texts, by whichever worker or run of the tests is the first."""
    if not hasattr(pytestconfig, "cache"):
        yield
        return
    from tapeless.codegen.llvm import native

    make = native.compile_object
    native.compile_object = KeptObjects(pytestconfig.cache.mkdir("objects"), make)
    yield
    native.compile_object = make


@pytest.fixture
def fresh_objects(monkeypatch: pytest.MonkeyPatch):
    """For tests of how machine code is made: each object anew."""
    from tapeless.codegen.llvm import native

    monkeypatch.setattr(native, "compile_object", getattr(native.compile_object, "make", native.compile_object))
