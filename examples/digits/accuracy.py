"""How well the digits model does on images it has not seen: seeds 0 to 4, a stratified fifth held out for each.

    python -m examples.digits.accuracy

The held-out fifth takes part in nothing. All of the other four are trained on: the model's own validation split, which
would keep a fifth of them back, and with it early stopping are switched off.
"""

from pathlib import Path

import numpy as np

import tapeless
from examples.shared import digits, stratified_split

HERE = Path(__file__).parent


def main() -> None:
    image, label = digits()
    model = tapeless.load(HERE / "digits.tl")
    accuracies = []
    for seed in range(5):
        kept, held_out = stratified_split(label, 0.2, seed)
        program = model.compile(seed=seed)
        run = program.fit(image[kept], label[kept], validation=0.0, patience=0)
        accuracy = program.evaluate(image[held_out], label[held_out])["accuracy"]
        accuracies.append(accuracy)
        print(f"seed {seed}: accuracy {accuracy:.4f} on {len(held_out)} held-out images after {run.epochs} epochs")
    print(f"mean accuracy {np.mean(accuracies):.4f}")


if __name__ == "__main__":
    main()
