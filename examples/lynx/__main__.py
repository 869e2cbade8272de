"""Differential equations of hares and lynxes, fitted through their solution: Lotka and Volterra's, and a neural
network.

    python -m examples.lynx

Each is fitted to all years, and to those up to 1914 to see what it makes of the six that follow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize

import tapeless
from examples.shared import Array, options, save
from tapeless.runtime.program import Program

HERE = Path(__file__).parent
FIRST = 1900
# Pelts that the Hudson's Bay Company took in, in thousands.
HARES = [
    30.0,
    47.2,
    70.2,
    77.4,
    36.3,
    20.6,
    18.1,
    21.4,
    22.0,
    25.4,
    27.1,
    40.3,
    57.0,
    76.6,
    52.3,
    19.5,
    11.2,
    7.6,
    14.6,
    16.2,
    24.7,
]
LYNXES = [
    4.0,
    6.1,
    9.8,
    35.2,
    59.4,
    41.7,
    19.0,
    13.0,
    8.3,
    9.1,
    7.4,
    8.0,
    12.3,
    19.5,
    45.7,
    51.1,
    29.7,
    15.8,
    9.7,
    10.1,
    8.6,
]
COUNTS = np.log([HARES, LYNXES]).T[None]  # [1, years, 2]
SEEN = 15  # years before the six ahead


def compiled(name: str, years: int, seed: int = 0) -> Program:
    program = tapeless.load(HERE / "lynx.tl", model=name, t=years).compile(dtype="float64", seed=seed)
    program.parameters["solution.start"][...] = COUNTS[0, 0]
    return program


def equations(years: int) -> Program:
    """Lotka and Volterra's, fitted by SciPy."""
    program = compiled("LotkaVolterra", years)
    seen = COUNTS[:, :years]
    found = minimize(lambda vector: program.value_and_grad(vector, seen), program.vector(), jac=True, method="BFGS")
    program.set_vector(found.x)
    return program


def network(years: int, seeds: int, epochs: int | None) -> Program:
    """The one of several seeds that fits best: some end up in a bad minimum."""
    programs = [compiled("Neural", years, seed) for seed in range(seeds)]
    losses = [program.fit(COUNTS[:, :years], epochs=epochs).last["loss"] for program in programs]
    return programs[int(np.argmin(losses))]


def continued(program: Program, name: str) -> Array:
    """The solution for all years, `[years, 2]`."""
    longer = compiled(name, COUNTS.shape[1])
    longer.set_vector(program.vector())
    return longer.predict(COUNTS)[0]


def draw(solutions: dict[tuple[str, int], Array], path: Path) -> None:
    figure = Figure(figsize=(8.5, 3.6))
    years = FIRST + np.arange(COUNTS.shape[1])
    panels = dict(zip((COUNTS.shape[1], SEEN), figure.subplots(1, 2, sharey=True), strict=True))
    for (name, seen), solution in solutions.items():
        for kind, colour in enumerate(("C0", "C3")):
            panels[seen].plot(years, np.exp(solution[:, kind]), colour + ("-" if name == "Neural" else ":"))
    for seen, axes in panels.items():
        axes.plot(years, HARES, "C0.", label="hares")
        axes.plot(years, LYNXES, "C3.", label="lynxes")
        axes.set(title=f"fitted up to {FIRST + seen - 1}", ylim=(0, 110))
    panels[SEEN].axvline(FIRST + SEEN - 0.5, color="0.6", linewidth=1)
    panels[COUNTS.shape[1]].set_ylabel("thousands of pelts")
    panels[COUNTS.shape[1]].legend(frameon=False)
    save(figure, path)


def main() -> None:
    chosen = options(__doc__, HERE / "lynx.png")
    solutions: dict[tuple[str, int], Array] = {}
    for years in (COUNTS.shape[1],) if chosen.short else (COUNTS.shape[1], SEEN):
        fitted = {
            "LotkaVolterra": equations(years),
            "Neural": network(years, 1 if chosen.short else 5, 500 if chosen.short else None),
        }
        for name, program in fitted.items():
            solution = solutions[name, years] = continued(program, name)
            error = np.sqrt(np.mean((solution - COUNTS[0]) ** 2, axis=1))
            ahead = f", {np.sqrt(np.mean(error[years:] ** 2)):.3f} in the years ahead" if years == SEEN else ""
            print(f"{name}, fitted to {years} years: error {np.sqrt(np.mean(error[:years] ** 2)):.3f}{ahead}")
            if name == "LotkaVolterra":
                a, b, c, d = np.exp(program.parameters["f.log_rates"])
                print(f"  a = {a:.3f}, b = {b * np.exp(-3):.4f}, c = {c:.3f}, d = {d * np.exp(-3):.4f}")
    if chosen.picture:
        draw(solutions, chosen.picture)


if __name__ == "__main__":
    main()
