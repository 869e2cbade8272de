"""A mixture of three normal distributions fitted to iris flowers by gradient descent, against scikit-learn's EM
algorithm.

    python -m examples.mixture

Neither sees the species. Both start from the centres that k-means finds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture

import tapeless
from examples.shared import Array, options, save

HERE = Path(__file__).parent
COMPONENTS = 3
LENGTH, WIDTH = 2, 3  # of the petals


def covariances(parameters: dict[str, Array]) -> Array:
    """The inverse of W W.T of each component: see mixture.tl."""
    whitening = np.tril(parameters["shear"], -1)
    for k, scale in enumerate(np.exp(parameters["log_scale"])):
        whitening[k] += np.diag(scale)
    return np.linalg.inv(whitening @ whitening.transpose(0, 2, 1))


def draw(x: Array, species: Array, names: list[str], parameters: dict[str, Array], path: Path) -> None:
    figure = Figure(figsize=(5.5, 4))
    axes = figure.subplots()
    for kind, name in enumerate(names):
        axes.plot(x[species == kind, LENGTH], x[species == kind, WIDTH], ".", markersize=5, label=name)
    angle = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    for centre, covariance in zip(parameters["centre"], covariances(parameters), strict=True):
        root = np.linalg.cholesky(covariance[np.ix_([LENGTH, WIDTH], [LENGTH, WIDTH])])
        for deviations in (1, 2):
            ellipse = centre[[LENGTH, WIDTH], None] + deviations * root @ circle
            axes.plot(*ellipse, color="0.4", linewidth=1)
    axes.set(xlabel="length of the petals (standardised)", ylabel="width of the petals")
    axes.legend(frameon=False)
    save(figure, path)


def main() -> None:
    chosen = options(__doc__, HERE / "mixture.png")
    data = load_iris()
    x = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
    program = tapeless.load(HERE / "mixture.tl", components=COMPONENTS).compile(dtype="float64")
    program.parameters["centre"][...] = KMeans(COMPONENTS, n_init=10, random_state=0).fit(x).cluster_centers_
    program.fit(x)
    found = program.predict(x)
    reference = GaussianMixture(COMPONENTS, tol=1e-10, max_iter=10_000, reg_covar=0, random_state=0).fit(x)

    print("mean log-likelihood of a flower, in nats:")
    print(f"gradient descent {found['log_likelihood'].mean():.6f}")
    print(f"scikit-learn     {reference.score(x):.6f}")
    component = found["responsibility"].argmax(axis=1)
    same = sum(np.bincount(data.target[component == k]).max(initial=0) for k in range(COMPONENTS))
    print(f"flowers in the component of their species: {same} of {len(x)}")
    if chosen.picture:
        draw(x, data.target, list(data.target_names), dict(program.parameters.items()), chosen.picture)


if __name__ == "__main__":
    main()
