"""The time of a training step along one axis at a time: python -m benchmarks.scaling [--axis NAME...] [--most N]
[--threads N] [--plot FILE] [--json FILE]

Around two base models, a dense network of 4 layers of width 256 over 64 rows, and an LSTM of width 128 over 32
sequences of 64 places: the batch from 1 to 4,096, the width from 16 to 4,096, the depth from 1 to 64, the sequence from
8 to 2,048, by powers of two, and each one's odd neighbour. A doubling is violated where the time grows by more than 1.3
times the ratio of the floors, each the longer of the operations at the peak and the bytes from the level that holds
them, or of the work, whichever grew more; the list of violations is printed. Steps below a microsecond of work are all
overhead, so a doubling counts where it adds time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import limits as machine
from benchmarks.environment import processor
from benchmarks.limits import Limits
from benchmarks.stepping import Steps

MLP = """
model MLP:
    input  x: [batch, {width}]
    target y: int[batch] < 10
    h = x
    for k in 0..{depth}:
        h = Dense(h, {width}, relu)
    out = Dense(h, 10)
    loss cross_entropy(out, y)

train MLP:
    optimizer SGD(lr = 1e-4)
    batch {batch}
"""
LSTM = """
model Writer:
    input  x: int[batch, {sequence}] < 96
    target y: int[batch, {sequence}] < 96
    h = Embedding(x, 96, 64)
    for k in 0..{depth}:
        h = LSTM(h, {width})
    out = Dense(h, 96)
    loss cross_entropy(out, y)

train Writer:
    optimizer SGD(lr = 1e-4)
    batch {batch}
"""
ALLOWED = 1.3


def mlp_work(batch: int, width: int, depth: int) -> tuple[float, float]:
    """Operations of the products, and bytes of weights, gradients and activations."""
    weights = depth * width * width + 10 * width
    return 6.0 * batch * weights - 2.0 * batch * width * width, 4.0 * (2 * weights + 2 * batch * width * (depth + 1))


def lstm_work(batch: int, width: int, depth: int, sequence: int) -> tuple[float, float]:
    inputs = 64 + (depth - 1) * width
    weights = 4 * width * (inputs + depth * width) + 96 * width
    places = batch * sequence
    return 6.0 * places * weights, 4.0 * (2 * weights + places * (10 * width * depth + 96 * 2))


@dataclass(frozen=True)
class Base:
    """A model's text with its sizes left open, their usual values, what is varied, and the work of a step."""

    name: str
    text: str
    usual: dict[str, int]
    axes: dict[str, tuple[int, int]]
    work: Callable[..., tuple[float, float]]


BASES = (
    Base("mlp", MLP, {"batch": 64, "width": 256, "depth": 4},
         {"batch": (1, 4096), "width": (16, 4096), "depth": (1, 64)}, mlp_work),
    Base("lstm", LSTM, {"batch": 32, "width": 128, "depth": 1, "sequence": 64},
         {"batch": (1, 1024), "width": (16, 1024), "depth": (1, 8), "sequence": (8, 2048)}, lstm_work),
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One size, the seconds of a step, and its work."""

    size: int
    seconds: float
    flops: float
    floor: float


def sizes(first: int, last: int, odd: bool) -> Iterator[int]:
    """Powers of two and, with `odd`, each one's neighbour above."""
    size = first
    while size <= last:
        yield size
        if odd and size > 1:
            yield size + 1
        size *= 2


def along(base: Base, axis: str, most: int, threads: int | None, limits: Limits, odd: bool) -> list[Point]:
    first, last = base.axes[axis]
    points = []
    for size in sizes(first, min(last, most), odd):
        given = base.usual | {axis: size}
        flops, count = base.work(**given)
        seconds = Steps(base.text.format(**given), threads).best()
        points.append(Point(size, seconds, flops, limits.floor(flops, count)))
    return points


def violations(name: str, axis: str, points: Sequence[Point]) -> list[str]:
    """The doublings that cost more than they may; also of a power of two against its odd neighbour."""
    by_size = {point.size: point for point in points}
    found = []
    for point in points:
        for other in (by_size.get(2 * point.size), by_size.get(point.size + 1)):
            if other is None or other is point:
                continue
            ratio = other.seconds / point.seconds
            may = ALLOWED * max(other.flops / point.flops, other.floor / point.floor)
            if ratio > may:
                found.append(f"{name}, {axis} {point.size} to {other.size}: {ratio:.2f} times, {may:.2f} allowed")
    return found


def draw(path: Path, found: dict[tuple[str, str], list[Point]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 4, figsize=(14, 6), squeeze=False)
    for place, ((name, axis), points) in zip(axes.flat, found.items(), strict=False):
        place.plot([p.size for p in points], [p.seconds for p in points], "o-", markersize=3, label="a step")
        place.plot([p.size for p in points], [p.floor for p in points], "--", label="the limit")
        place.set(xscale="log", yscale="log", xlabel=axis, ylabel="seconds", title=name)
        place.legend(fontsize=7)
    figure.suptitle(processor())
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", nargs="+", default=[base.name for base in BASES])
    parser.add_argument("--axis", nargs="+", default=["batch", "width", "depth", "sequence"])
    parser.add_argument("--most", type=int, default=4096, help="the largest size")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--odd", action="store_true", help="odd neighbours too")
    parser.add_argument("--plot", type=Path, help="for example docs/scaling.svg")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    limits = machine.measured(options.threads or 2)
    found: dict[tuple[str, str], list[Point]] = {}
    wrong = []
    for base in BASES:
        for axis in base.axes:
            if base.name in options.base and axis in options.axis:
                points = along(base, axis, options.most, options.threads, limits, options.odd)
                found[base.name, axis] = points
                for p in points:
                    print(f"{base.name:<5} {axis:<9} {p.size:>5} {p.seconds * 1e6:12.1f} us {p.floor / p.seconds:6.1%}",
                          flush=True)  # fmt: skip
                wrong += violations(base.name, axis, points)
    print(f"\n{len(wrong)} violations")
    print("\n".join(f"  {line}" for line in wrong))
    if options.plot:
        draw(options.plot, found)
    if options.json:
        rows = [{"base": b, "axis": a, **vars(p)} for (b, a), points in found.items() for p in points]
        options.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
