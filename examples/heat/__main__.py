"""The heat equation on a rod, solved by a network that knows nothing but the equation, the start and the ends.

    python -m examples.heat

The points are made here: 4,096 places and times spread evenly over the square by the sequence of M. Roberts (2018),
whose steps are powers of the inverse of the plastic number; the times of the ends, and the places of the start,
likewise. The solution known in closed form is for comparison alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import tapeless
from examples.shared import Array, options, save

HERE = Path(__file__).parent
DIFFUSION = 0.1
PLASTIC = 1.324717957244746  # the real root of z ** 3 = z + 1
GOLDEN = 1.618033988749895


def points(count: int) -> dict[str, Array]:
    """Places and times inside, places at the start, times at the ends: [count, 1] each, between 0 and 1."""
    steps = {"x": 1 / PLASTIC, "t": 1 / PLASTIC**2, "start": 1 / GOLDEN, "time": 1 / GOLDEN}
    return {name: ((0.5 + step * np.arange(count)) % 1)[:, None] for name, step in steps.items()}


def solution(x: Array, t: Array) -> tuple[Array, Array]:
    """Temperature and flow in closed form: each sine of the start fades at its own rate."""
    u = flow = 0.0
    for wave, height in ((1, 1.0), (3, 0.5)):
        k = wave * np.pi
        faded = height * np.exp(-DIFFUSION * k**2 * t)
        u, flow = u + faded * np.sin(k * x), flow - DIFFUSION * k * faded * np.cos(k * x)
    return u, flow


def relative(found: Array, true: Array) -> float:
    """The distance between two functions on a grid, by the size of the true one."""
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


def draw(grid: Array, found: Array, true: Array, path: Path) -> None:
    figure = Figure(figsize=(8, 3.2))
    curves, picture = figure.subplots(1, 2)
    for row, colour in zip((0, 10, 25, 50, 100), ("C0", "C1", "C2", "C3", "C4"), strict=True):
        curves.plot(grid, true[row], color=colour, linewidth=1, label=f"t = {row / 100:g}")
        curves.plot(grid[::5], found[row, ::5], ".", color=colour, markersize=4)
    curves.set(
        xlabel="place", ylabel="temperature", title="network (dots) and closed form", xlim=(0, 1.5), xticks=[0, 0.5, 1]
    )
    curves.legend(frameon=False, loc="right")
    image = picture.contourf(grid, grid, np.abs(found - true), levels=8, antialiased=False)
    picture.set(xlabel="place", ylabel="time", title="error of the temperature")
    figure.colorbar(image)
    save(figure, path)


def main() -> None:
    chosen = options(__doc__, HERE / "heat.png")
    program = tapeless.load(HERE / "heat.tl", diffusion=DIFFUSION).compile(seed=0)
    run = program.fit(points(1024 if chosen.short else 4096), epochs=400 if chosen.short else None)
    grid = np.linspace(0, 1, 101)
    t, x = (side.reshape(-1, 1) for side in np.meshgrid(grid, grid, indexing="ij"))
    found = program.predict({"x": x, "t": t})
    true = dict(zip(("u", "flow"), solution(x, t), strict=True))
    print(
        f"{run.steps:,} steps in {run.seconds:.1f} s; mean squared residual of the equation {run.last['equation']:.2e}"
    )
    print(f"relative error of the temperature {relative(found['u'], true['u']):.2e}")
    print(f"relative error of the flow {relative(found['flow'], true['flow']):.2e}")
    print(f"largest error of the temperature {np.abs(found['u'] - true['u']).max():.2e}")
    if chosen.picture:
        draw(grid, found["u"].reshape(101, 101), true["u"].reshape(101, 101), chosen.picture)


if __name__ == "__main__":
    main()
