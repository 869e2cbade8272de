"""An autoencoder squeezes digits through eight numbers, against as many principal components.

python -m examples.autoencoder
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

import tapeless
from examples.shared import digits, draw_grid, options, stratified_split

HERE = Path(__file__).parent
CODE = 8


def main() -> None:
    chosen = options(__doc__, HERE / "autoencoder.png")
    image, label = digits()
    kept, held_out = stratified_split(label, 0.2, seed=0)
    program = tapeless.load(HERE / "autoencoder.tl", code=CODE).compile()
    program.fit(image[kept], epochs=60 if chosen.short else None)

    again = program.predict(image[held_out])["image_again"]
    components = PCA(CODE).fit(image[kept])
    flat = components.inverse_transform(components.transform(image[held_out]))
    print(f"mean squared error of a pixel, {len(held_out)} images held out:")
    print(f"autoencoder          {np.mean((again - image[held_out]) ** 2):.4f}")
    print(f"principal components {np.mean((flat - image[held_out]) ** 2):.4f}")
    if chosen.picture:
        shown = [int(np.flatnonzero(label[held_out] == digit)[0]) for digit in range(10)]
        rows = [image[held_out][shown], again[shown], flat[shown]]
        draw_grid(rows, ["held out", "autoencoder", "components"], chosen.picture)


if __name__ == "__main__":
    main()
