"""Imports run one way: each room knows only those below it, and a cached program starts without the compiler."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tapeless.cache import stage_folders

FOLDERS = {name.removeprefix("tapeless").removeprefix(".") or "api": path for name, path in stage_folders().items()}
# Each room and what it may import; a folder below a stage that is not named here belongs to its stage.
MAY_IMPORT = {
    "abi": set(),
    "ir": {"abi"},
    "compiler.messages": {"ir"},
    "compiler.language": {"compiler.messages", "ir"},
    "compiler.passes": {"compiler.messages", "ir"},
    "compiler.stepping": {"compiler.messages", "ir"},
    "compiler.elaborate": {"compiler.language", "compiler.messages", "compiler.passes", "compiler.stepping", "ir"},
    "compiler": {
        "compiler.elaborate", "compiler.language", "compiler.messages", "compiler.passes", "compiler.stepping", "ir"
    },
    "codegen.loops": {"abi", "ir"},
    "codegen.vectormath": {"abi", "codegen.loops"},
    "codegen.nests": {"abi", "codegen.loops", "codegen.vectormath", "ir"},
    "codegen.kernels": {"abi", "codegen.loops", "codegen.nests", "codegen.vectormath", "ir"},
    "codegen.llvm": {"abi", "codegen.loops", "ir"},
    "codegen.program": {"abi", "codegen.kernels", "codegen.llvm", "codegen.loops", "ir"},
    "codegen": set(),
    "runtime": {"abi"},  # it is handed a manifest and machine code, and needs nothing else
    "api": {
        "abi", "ir", "compiler", "compiler.language", "compiler.messages", "compiler.passes", "compiler.stepping",
        "codegen.loops", "codegen.program", "runtime",
    },
    "api.commands": {"abi", "api", "compiler.language", "compiler.messages", "runtime"},
}  # fmt: skip
# Third-party packages that only some may import; sympy and networkx never reach the runtime, nor llvmlite the compiler.
PACKAGES = {
    "abi": set(),
    "ir": {"numpy", "sympy", "networkx", "llvmlite"},
    "compiler": {"numpy", "sympy", "networkx"},
    "codegen": {"numpy", "networkx", "llvmlite", "sympy", "mpmath"},
    "runtime": {"numpy", "rich", "safetensors", "llvmlite", "IPython"},
    "api": {"numpy", "click", "rich", "platformdirs", "matplotlib", "scipy", "sklearn", "pygments"},
}


def modules(stage):
    for path in sorted(FOLDERS[stage].rglob("*.py")):
        if "__pycache__" not in path.parts:
            yield path, ast.parse(path.read_text("utf-8"), str(path))


def room_of(stage, parts):
    room = f"{stage}.{parts[0]}" if parts else stage
    return room if room in MAY_IMPORT else stage


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            assert node.module is not None
            if node.module.split(".")[0] == "tapeless":
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield node.module, node.lineno


def room_of_module(name):
    stage, *parts = name.split(".")[1:] or ["api"]
    return room_of(stage, parts) if stage in FOLDERS else room_of("api", [stage, *parts])


@pytest.mark.parametrize("stage", FOLDERS)
def test_each_room_imports_only_what_is_below_it(stage):
    faults = []
    for path, tree in modules(stage):
        room = room_of(stage, path.relative_to(FOLDERS[stage]).parts[:-1])
        for name, line in imported(tree):
            top = name.split(".")[0]
            if top == "tapeless":
                if room_of_module(name) not in MAY_IMPORT[room] | {room}:
                    faults.append(f"{path}:{line} imports {name}")
            elif top not in sys.stdlib_module_names and top not in PACKAGES[stage]:
                faults.append(f"{path}:{line} imports {name}")
    assert not faults, "\n".join(faults)


def test_no_rooms_import_each_other_in_a_circle():
    assert list(TopologicalSorter(MAY_IMPORT).static_order())


PAGE = (Path(__file__).parents[2] / "docs/architecture.md").read_text("utf-8")
WITH_ARROWS = {room for room, below in MAY_IMPORT.items() if below} | set().union(*MAY_IMPORT.values())


def test_the_page_on_architecture_has_each_room_and_its_arrows():
    rows = re.findall(r"^\| `([\w.]+)` \| .* \| ?(.*) \|$", PAGE, re.MULTILINE)
    assert {room: set(re.findall(r"`([\w.]+)`", below)) for room, below in rows} == {
        room: MAY_IMPORT[room] for room in WITH_ARROWS
    }


def test_what_a_room_imports_is_drawn_below_it():
    drawing = PAGE.partition("## Rooms")[2].split("```")[1].splitlines()
    line = {room: k for k, text in enumerate(drawing) for room in re.findall(r"[\w.]+", text)}
    assert line.keys() == WITH_ARROWS
    assert all(line[room] < line[below] for room in WITH_ARROWS for below in MAY_IMPORT[room])


@pytest.mark.parametrize("stage", FOLDERS)
def test_every_module_says_what_it_is_for(stage):
    missing = [str(path) for path, tree in modules(stage) if not ast.get_docstring(tree)]
    assert not missing


def loaded_by(statement):
    """The modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


HEAVY = {"sympy", "networkx", "llvmlite", "scipy", "sklearn"}


def test_importing_the_package_imports_nothing_heavy():
    assert not loaded_by("import tapeless") & {*HEAVY, "numpy", "rich"}


def test_help_imports_nothing_heavy():
    loaded = loaded_by(
        "from tapeless.commands.main import main\nimport contextlib\nwith contextlib.suppress(SystemExit): main(['-h'])"
    )
    assert not loaded & {*HEAVY, "numpy", "rich"}


def test_the_runtime_needs_numpy_alone():
    loaded = loaded_by("import tapeless.runtime.program, tapeless.runtime.training")
    assert "numpy" in loaded and not loaded & {*HEAVY, "rich", "safetensors", "click", "platformdirs"}


def test_looking_a_program_up_imports_nothing_heavy():
    text = "import 'a.tl'\nmodel M:\n    input x: [batch]\n    output y = x\n"
    loaded = loaded_by(f"import tapeless\ntapeless.load({text!r}).identity")
    assert "tapeless.compiler.language.lexer" in loaded and not loaded & {
        *HEAVY,
        "tapeless.compiler.language.parser",
        "tapeless.compiler.elaborate",
    }
