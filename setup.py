"""Maps the repository's top-level folders to one package: `api/` is `tapeless`, every other stage `tapeless.<stage>`.

A folder with an `__init__.py` below a stage is found by itself. Everything else about the package is in pyproject.toml.
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
FOLDERS = {
    "tapeless": "api",
    "tapeless.compiler": "compiler",
    "tapeless.abi": "abi",
    "tapeless.ir": "ir",
    "tapeless.codegen": "codegen",
    "tapeless.runtime": "runtime",
}

setup(
    package_dir=FOLDERS,
    packages=[
        name
        for package, folder in FOLDERS.items()
        for name in [package, *(f"{package}.{inner}" for inner in find_packages(str(ROOT / folder)))]
    ],
    package_data={
        "tapeless": ["py.typed"],
        "tapeless.compiler": ["std/*.tl", "messages/explanations/*.md"],
        "tapeless.ir.ops": ["slopes.json"],
    },
    include_package_data=False,
)
