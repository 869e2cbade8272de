"""Libraries made ahead of time: what is written, that it needs nothing, and that it does what the program does."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tapeless.runtime.image import Image
from tapeless.runtime.program import Program

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def built(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    return {path.suffix: path for path in model.build(folder)}


def test_all_files_are_written(built):
    assert set(built) == {".o", ".h", ".json", ".so"}
    assert {path.stem for path in built.values()} == {"digits"}


def test_the_object_needs_nothing_from_outside(built):
    from tapeless.codegen.llvm.native import undefined_symbols

    assert undefined_symbols(built[".o"].read_bytes()) == []


def test_the_library_trains_as_the_program_does(built, model, digits, cache_folder):
    image = Image.from_library(built[".so"])
    one = Program(lambda group, capacity: image, seed=1)
    two = model.compile(seed=1, cache=cache_folder)
    assert one.fit(*digits, epochs=2).curves == two.fit(*digits, epochs=2).curves
    assert one.vector().tobytes() == two.vector().tobytes()


def test_the_library_runs_with_numpy_alone(built):
    """Everything else that Tapeless depends on is blocked from being imported."""
    code = f"""
import sys
for name in ("sympy", "networkx", "llvmlite", "click", "rich", "safetensors", "platformdirs"):
    sys.modules[name] = None
import numpy
from tapeless.runtime.image import Image
from tapeless.runtime.program import Program
image = Image.from_library({str(built[".so"])!r})
program = Program(lambda group, capacity: image, seed=1)
x = numpy.random.default_rng(0).random((200, 64), dtype=numpy.float32)
y = numpy.arange(200, dtype=numpy.int32) % 10
run = program.fit(x, y, epochs=3, validation=0)
assert run.curves["loss"][-1] < run.curves["loss"][0]
assert program.predict(x).shape == (200, 10)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_c_program_prints_the_losses_of_the_in_process_one(tmp_path):
    """The example's program as it is, but that its gradients and workspace begin as NaN."""
    example = shutil.copytree(EXAMPLES / "c", tmp_path / "c")
    (tmp_path / "digits").symlink_to(EXAMPLES / "digits")
    program = (example / "train.c").read_text()
    memory = "    digits_memory memory = {state, gradients, workspace};\n"
    assert memory in program
    poison = "    memset(gradients, 0xFF, sizeof gradients), memset(workspace, 0xFF, sizeof workspace);\n"
    (example / "train.c").write_text("#include <string.h>\n" + program.replace(memory, memory + poison))
    folder = Path(sys.executable).parent
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["sh", example / "run.sh", tmp_path / "out"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("identical, digit for digit, to training in process\n")
