"""How well a convolutional network tells digits apart: seeds 0 to 4, a stratified fifth held out for each.

python -m examples.cnn
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tapeless
from examples.shared import digits, draw_grid, options, stratified_split

HERE = Path(__file__).parent


def main() -> None:
    chosen = options(__doc__, HERE / "cnn.png")
    image, label = digits()
    model = tapeless.load(HERE / "cnn.tl", width=16 if chosen.short else 32)
    accuracies, wrong = [], []
    for seed in range(1 if chosen.short else 5):
        kept, held_out = stratified_split(label, 0.2, seed)
        program = model.compile(seed=seed)
        program.fit(image[kept], label[kept], epochs=10 if chosen.short else None)
        accuracies.append(program.evaluate(image[held_out], label[held_out])["accuracy"])
        print(f"seed {seed}: accuracy {accuracies[-1]:.4f} on {len(held_out)} images held out", flush=True)
        found = program.predict(image[held_out]).argmax(axis=1)
        wrong += [
            (image[row], f"{label[row]}→{digit}")
            for row, digit in zip(held_out, found, strict=True)
            if digit != label[row]
        ]
    print(f"mean accuracy {np.mean(accuracies):.4f}")
    if chosen.picture:
        pictures, captions = zip(*wrong[:14], strict=True)
        draw_grid([np.stack(pictures)], [""], chosen.picture, captions)


if __name__ == "__main__":
    main()
