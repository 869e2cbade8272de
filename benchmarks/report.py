"""What was measured, as a table, a picture and JSON: ratios, as times of a shared machine are worth nothing alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.environment import processor
from benchmarks.limits import Limits
from benchmarks.measuring import Measured, Row


def clock(seconds: float) -> str:
    """A time to be read."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale or unit == "us":
            return f"{seconds / scale:.3g} {unit}"
    return ""


def floor(measured: Measured, limits: Limits) -> float:
    """Seconds below which nothing goes."""
    size = measured.bytes
    held = size / 56 if measured.unit == "epoch" else size
    return max(measured.flops / (limits.peak * 1e9), size / (limits.bandwidth(held) * 1e9))


def title(measured: Measured) -> str:
    return measured.workload + (f", {measured.rows} rows" if measured.rows else "")


def lines(measured: Measured, limits: Limits) -> list[str]:
    """Ours and each peer's, as text."""
    least = floor(measured, limits)
    made = [f"{title(measured)}, {measured.threads or 'default'} threads: {clock(measured.ours)} a {measured.unit}, "
            f"{least / measured.ours:.0%} of the limit"]  # fmt: skip
    for row in measured.peers[1:]:
        ratio = f"{row.median / measured.ours:8.2f} x ours" if row.times else "       -       "
        made.append(f"  {row.name:<22} {ratio}  {row.note}")
    return made


def _cell(row: Row, ours: float) -> str:
    if not row.times:
        return "failed"
    return f"{row.median / ours:.2f}" if row.agrees else f"({row.median / ours:.2f}, differs)"


def table(all_measured: Sequence[Measured], limits: dict[int, Limits]) -> str:
    """Markdown: time of ours, share of the limit, and each peer's time over ours."""
    names = list(dict.fromkeys(row.name for one in all_measured for row in one.peers[1:]))
    made = ["| workload | threads | ours | of the limit | best peer / ours | " + " | ".join(names) + " |"]
    made.append("|---" * (5 + len(names)) + "|")
    for one in all_measured:
        cells = {row.name: _cell(row, one.ours) for row in one.peers[1:]}
        best = f"{one.best.median / one.ours:.2f} {one.best.name}" if one.best else ""
        share = floor(one, limits[one.threads]) / one.ours
        values = [title(one), str(one.threads or "default"), clock(one.ours), f"{share:.0%}", best]
        made.append("| " + " | ".join([*values, *(cells.get(name, "") for name in names)]) + " |")
    return "\n".join(made)


def mean(all_measured: Sequence[Measured]) -> float:
    """The geometric mean of the best peers' times over ours."""
    logs = [math.log(one.best.median / one.ours) for one in all_measured if one.best]
    return math.exp(sum(logs) / len(logs)) if logs else float("nan")


def write_json(path: Path, all_measured: Sequence[Measured], limits: dict[int, Limits]) -> None:
    """All that was measured, with each repeat's seconds."""
    rows = [
        asdict(one) | {"ours": one.ours, "floor": floor(one, limits[one.threads]),
                       "best_over_ours": one.best.median / one.ours if one.best else None}
        for one in all_measured
    ]  # fmt: skip
    found = {"processor": processor(), "limits": {str(k): asdict(v) for k, v in limits.items()}, "measured": rows}
    path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def draw(path: Path, all_measured: Sequence[Measured], limits: dict[int, Limits]) -> None:
    """A roofline: operations a second over operations a byte, with the peak and each level's bandwidth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    intensities = [2.0**k for k in range(-3, 11)]
    most = limits[max(limits)]
    for level in most.read:
        rate = max(most.read[level], most.update[level])
        axes.plot(intensities, [min(most.peak, rate * x) for x in intensities], label=f"{level}, {rate:.0f} GB/s")
    for one in all_measured:
        if one.flops and one.bytes:
            at, reached = one.flops / one.bytes, one.flops / one.ours / 1e9
            axes.plot(at, reached, "ko")
            axes.annotate(f"{title(one)} x{one.threads or 'default'}", (at, reached), fontsize=7)
    axes.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s", title=processor())
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
