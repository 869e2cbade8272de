"""Logistic regression of the Wisconsin breast-cancer data, against scikit-learn's.

    python -m examples.cancer

Both minimise the same function, so the weights have to agree, not only the accuracy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

import tapeless
from examples.shared import Array, options, save, standardise, stratified_split

HERE = Path(__file__).parent
PENALTY = 1e-3  # times the sum of the squared weights


def draw(names: list[str], weights: Array, reference: Array, path: Path) -> None:
    order = np.argsort(weights)
    figure = Figure(figsize=(7, 5))
    axes = figure.subplots()
    axes.barh(range(len(order)), weights[order], color="lightsteelblue", label="Tapeless")
    axes.plot(reference[order], range(len(order)), "k.", label="scikit-learn")
    axes.set_yticks(range(len(order)), [names[k] for k in order], fontsize=7)
    axes.set_xlabel("weight (negative: speaks for malignant)")
    axes.legend()
    save(figure, path)


def main() -> None:
    chosen = options(__doc__, HERE / "cancer.png")
    data = load_breast_cancer()
    model = tapeless.load(HERE / "cancer.tl", penalty=PENALTY)
    ours, theirs, apart = [], [], 0.0
    for seed in range(2 if chosen.short else 5):
        kept, held_out = stratified_split(data.target, 0.2, seed)
        x, x_held = standardise(data.data[kept], data.data[held_out])
        program = model.compile(seed=seed)
        program.fit(x, data.target[kept])
        ours.append(program.evaluate(x_held, data.target[held_out])["accuracy"])

        reference = LogisticRegression(C=1 / (2 * PENALTY * len(kept)), tol=1e-8, max_iter=1000)
        reference.fit(x, data.target[kept])
        theirs.append(reference.score(x_held, data.target[held_out]))
        apart = max(apart, float(np.abs(program.parameters["w"] - reference.coef_[0]).max()))
        print(f"seed {seed}: held-out accuracy {ours[-1]:.4f}, scikit-learn {theirs[-1]:.4f}")
    print(f"mean accuracy {np.mean(ours):.4f}")
    print(f"mean accuracy of scikit-learn {np.mean(theirs):.4f}")
    print(f"largest difference of a weight {apart:.1e}")
    if chosen.picture:
        draw(list(data.feature_names), program.parameters["w"], reference.coef_[0], chosen.picture)


if __name__ == "__main__":
    main()
