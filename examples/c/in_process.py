"""Trains as train.c does, but in this process, and prints the same lines: every digit of them.

python in_process.py EPOCHS SEED
"""

import sys
from pathlib import Path

import numpy as np

import tapeless

DIGITS = Path(__file__).parent.parent / "digits"

epochs, seed = int(sys.argv[1]), int(sys.argv[2])
with np.load(DIGITS / "digits.npz") as data:
    image, label = data["image"], data["label"]
program = tapeless.load(DIGITS / "digits.tl").compile(seed=seed)
# patience 0: no early stopping, as in train.c
run = program.fit(image, label, epochs=epochs, validation=0, patience=0, progress=False)
for epoch, (loss, accuracy) in enumerate(zip(run.curves["loss"], run.curves["accuracy"], strict=True), 1):
    print(f"epoch {epoch:2d}  loss {loss:.17g}  accuracy {accuracy:.17g}")
values = program.evaluate(image, label)
print(f"trained   loss {values['loss']:.17g}  accuracy {values['accuracy']:.17g}")
