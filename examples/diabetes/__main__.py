"""Regression of the diabetes data by a small network with early stopping, against ordinary and ridge least squares.

    python -m examples.diabetes

Ten seeds, each with its own fifth held out. Of the other four, the model's `train` section keeps a fifth back to
know when to stop; ridge chooses its penalty by leave-one-out over all four.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, RidgeCV

import tapeless
from examples.shared import Array, options, save, split, standardise
from tapeless.runtime.run import Run

HERE = Path(__file__).parent


def draw(run: Run, best: int | None, truth: Array, predicted: Array, path: Path) -> None:
    figure = Figure(figsize=(8, 3.6))
    curves, scatter = figure.subplots(1, 2)
    for name, label in (("loss", "training"), ("validation_loss", "held out")):
        curves.plot(range(1, run.epochs + 1), run.curves[name], label=label)
    curves.axvline(best, color="0.6", linestyle="--", label="where it is stopped")
    curves.set(xlabel="epoch", ylabel="mean squared error (standardised)", ylim=(0, 1.3))
    curves.legend(frameon=False)
    scatter.plot(truth, predicted, ".", markersize=4)
    scatter.plot([25, 350], [25, 350], color="0.6", linewidth=1)
    scatter.set(xlabel="progression, held out", ylabel="predicted")
    save(figure, path)


def main() -> None:
    chosen = options(__doc__, HERE / "diabetes.png")
    data = load_diabetes(scaled=False)
    model = tapeless.load(HERE / "diabetes.tl")
    errors: dict[str, list[float]] = {}
    for seed in range(2 if chosen.short else 10):
        kept, held_out = split(len(data.target), 0.2, seed)
        x, x_held = standardise(data.data[kept], data.data[held_out])
        y = data.target[kept]
        program = model.compile(seed=seed)
        run = program.fit(x, (y - y.mean()) / y.std())
        endless = model.compile(seed=seed)
        watched = (x_held, (data.target[held_out] - y.mean()) / y.std())
        whole = endless.fit(x, (y - y.mean()) / y.std(), validation=watched, patience=0)
        predicted = {
            "network": program.predict(x_held) * y.std() + y.mean(),
            "not stopped": endless.predict(x_held) * y.std() + y.mean(),
            "least squares": LinearRegression().fit(x, y).predict(x_held),
            "ridge": RidgeCV(np.logspace(-2, 4, 25)).fit(x, y).predict(x_held),
            "mean": np.full(len(held_out), y.mean()),
        }
        for name, values in predicted.items():
            error = float(np.sqrt(np.mean((values - data.target[held_out]) ** 2)))
            errors.setdefault(name, []).append(error)
        print(f"seed {seed}: stopped after {run.epochs} epochs, the best was {run.best_epoch}")
    print("root of the mean squared error, held out:")
    for name, values in errors.items():
        print(f"{name:<14} {np.mean(values):6.2f}")
    if chosen.picture:
        draw(whole, run.best_epoch, data.target[held_out], predicted["network"], chosen.picture)


if __name__ == "__main__":
    main()
