"""Writes digits.npz as the plain file that train.c reads: int32 count, float32 images, int32 labels.

python pack.py digits.bin
"""

import sys
from pathlib import Path

import numpy as np

with np.load(Path(__file__).parent.parent / "digits" / "digits.npz") as data, open(sys.argv[1], "wb") as file:
    image, label = data["image"], data["label"]
    file.write(np.int32(len(label)).tobytes())
    file.write(np.ascontiguousarray(image, np.float32).tobytes())
    file.write(np.ascontiguousarray(label, np.int32).tobytes())
