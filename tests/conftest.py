"""For all tests: memory that a program may not read before it has written it holds NaN, here and in what tests
start.
"""

import os
import runpy
from pathlib import Path

FOLDER = str(Path(__file__).parent / "poison")

if FOLDER not in (inherited := os.environ.get("PYTHONPATH", "").split(os.pathsep)):  # else this process began with it
    os.environ["PYTHONPATH"] = os.pathsep.join([FOLDER, *filter(None, inherited)])
    runpy.run_path(str(Path(FOLDER) / "sitecustomize.py"))
