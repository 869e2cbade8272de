"""Imports run one way: each stage knows only those below it, and a cached program starts without the compiler."""

import ast
import subprocess
import sys

import pytest

from tapeless.cache import stage_folders

FOLDERS = {name.removeprefix("tapeless").removeprefix(".") or "api": path for name, path in stage_folders().items()}
MAY_IMPORT = {
    "abi": set(),
    "ir": set(),
    "compiler": {"ir"},
    "codegen": {"abi", "ir"},
    "runtime": {"abi"},  # it is handed a manifest and machine code, and needs nothing else
    "api": {"abi", "ir", "compiler", "codegen", "runtime"},
}
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


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            assert node.module is not None
            if node.module == "tapeless":
                yield from ((f"tapeless.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield node.module, node.lineno


def stage_of(name):
    part = name.split(".")[1] if "." in name else "api"
    return part if part in MAY_IMPORT else "api"


@pytest.mark.parametrize("stage", MAY_IMPORT)
def test_each_stage_imports_only_what_is_below_it(stage):
    faults = []
    for path, tree in modules(stage):
        for name, line in imported(tree):
            top = name.split(".")[0]
            if top == "tapeless":
                if stage_of(name) not in MAY_IMPORT[stage] | {stage}:
                    faults.append(f"{path}:{line} imports {name}")
            elif top not in sys.stdlib_module_names and top not in PACKAGES[stage]:
                faults.append(f"{path}:{line} imports {name}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("stage", MAY_IMPORT)
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
        "import tapeless.cli, contextlib\nwith contextlib.suppress(SystemExit): tapeless.cli.main(['-h'])"
    )
    assert not loaded & {*HEAVY, "numpy", "rich"}


def test_the_runtime_needs_numpy_alone():
    loaded = loaded_by("import tapeless.runtime.program, tapeless.runtime.training")
    assert "numpy" in loaded and not loaded & {*HEAVY, "rich", "safetensors", "click", "platformdirs"}


def test_looking_a_program_up_imports_nothing_heavy():
    text = "import 'a.tl'\nmodel M:\n    input x: [batch]\n    output y = x\n"
    loaded = loaded_by(f"import tapeless\ntapeless.load({text!r}).identity")
    assert "tapeless.compiler.lexer" in loaded and not loaded & {
        *HEAVY,
        "tapeless.compiler.parser",
        "tapeless.compiler.elaborate",
    }
