"""A variational autoencoder learns to draw digits.

    python -m examples.vae

The bound on the surprise of an image is compared with what a model knows that takes each pixel for itself.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import tapeless
from examples.shared import digits, draw_grid, options, stratified_split

HERE = Path(__file__).parent
LATENT = 8


def main() -> None:
    chosen = options(__doc__, HERE / "vae.png")
    image, label = digits()
    kept, held_out = stratified_split(label, 0.2, seed=0)
    program = tapeless.load(HERE / "vae.tl", model="VAE", latent=LATENT).compile()
    program.fit(image[kept], epochs=60 if chosen.short else None)

    found = program.evaluate(image[held_out])
    mean = image[kept].mean(axis=0).clip(1e-3, 1 - 1e-3)
    single = -np.mean(np.sum(image[held_out] * np.log(mean) + (1 - image[held_out]) * np.log(1 - mean), axis=1))
    print(f"nats for an image, {len(held_out)} images held out:")
    print(f"pixels one by one       {single:.2f}")
    print(f"variational autoencoder {found['loss']:.2f}")
    print(f"of which divergence     {found['divergence']:.2f}")
    if chosen.picture:
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder) / "vae.safetensors"
            program.save(weights)
            sampler = tapeless.load(HERE / "vae.tl", model="Sample", latent=LATENT).compile()
            sampler.load(weights)
        drawn = sampler.predict(np.random.default_rng(0).normal(size=(40, LATENT))).reshape(4, 10, 64)
        shown = [int(np.flatnonzero(label[held_out] == digit)[0]) for digit in range(10)]
        again = program.predict(image[held_out][shown])["reconstruction"]
        titles = ["held out", "reconstructed", *["drawn"] * 4]
        draw_grid([image[held_out][shown], again, *drawn], titles, chosen.picture)


if __name__ == "__main__":
    main()
