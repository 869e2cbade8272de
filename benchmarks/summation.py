"""Errors of sums, means, variances, norms and softmax of 10**7 float32 values against exact arithmetic (math.fsum).

python -m benchmarks.summation [--write]

Beside NumPy's and (if it is installed) PyTorch's errors, all in float32. --write puts the table into docs/numerics.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.elementwise import SIZE, Array, built
from benchmarks.numerics import PAGE
from tapeless.ir.graph import Builder, Value
from tapeless.ir.types import DType, Tensor

VECTOR = Tensor(DType.F32, (SIZE,))


def _mean_of(b: Builder, x: Value) -> Value:
    return b.emit("mul", b.emit("sum", x, axes=(0,)), b.constant(1.0 / SIZE, DType.F32))


def _sum(b: Builder, x: Value) -> Value:
    return b.emit("sum", x, axes=(0,))


def _norm(b: Builder, x: Value) -> Value:
    return b.emit("sqrt", b.emit("sum", b.emit("square", x), axes=(0,)))


def _variance(b: Builder, x: Value) -> Value:
    return _mean_of(b, b.emit("square", b.emit("sub", x, b.broadcast_to(_mean_of(b, x), VECTOR.shape, ()))))


def _softmax(b: Builder, x: Value) -> Value:
    e = b.emit("exp", x)
    return b.emit("div", e, b.broadcast_to(b.emit("sum", e, axes=(0,)), VECTOR.shape, ()))


def _exact_variance(x: Array) -> float:
    """Of float64 numbers that hold float32 ones: the mean is rounded once, which costs less than 1e-16 squared."""
    return math.fsum((x - math.fsum(x) / SIZE) ** 2) / SIZE


def _exact_softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return np.asarray(e / math.fsum(e))


def _numpy_softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


# ours, exact, NumPy's, PyTorch's
Case = tuple[Callable[[Builder, Value], Value], Callable[[Array], Any], Callable[[Array], Any], Callable[[Any], Any]]
CASES: dict[str, Case] = {
    "sum": (_sum, math.fsum, np.sum, lambda t: t.sum()),
    "mean": (_mean_of, lambda x: math.fsum(x) / SIZE, np.mean, lambda t: t.mean()),
    "norm": (_norm, lambda x: math.sqrt(math.fsum(x * x)), np.linalg.norm, lambda t: t.norm()),
    "variance": (_variance, _exact_variance, np.var, lambda t: t.var(correction=0)),
    "softmax": (_softmax, _exact_softmax, _numpy_softmax, lambda t: t.softmax(0)),
}


def data() -> dict[str, Array]:
    rng = np.random.default_rng(1)
    half = rng.normal(size=SIZE // 2) * 1e6
    made = {
        "uniform in [0, 1]": rng.uniform(0, 1, SIZE),
        "10**4 + normal": 1e4 + rng.normal(size=SIZE),
        "cancelling terms of size 10**6": np.concatenate([half, 1 - half])[rng.permutation(SIZE)],
    }
    return {name: values.astype(np.float32) for name, values in made.items()}


def error(name: str, made: Any, wanted: Any, x: Array) -> float:
    """The greatest relative error; of sums and means, over the sum of the sizes of the terms, which is what rounding
    scales with. Of softmax, over all elements that are normal numbers.
    """
    if name in ("sum", "mean"):
        size = math.fsum(np.abs(x)) / (SIZE if name == "mean" else 1)
        return abs(float(made) - wanted) / size
    wanted = np.asarray(wanted)
    kept = wanted > 2.0**-126
    return float((np.abs(np.asarray(made, np.float64) - wanted)[kept] / wanted[kept]).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    try:
        import torch
    except ImportError:
        torch = None
    lines = []
    for name, (build, exact, numpy, peer) in CASES.items():
        program = built(lambda b, build=build: b.output("y", build(b, b.input("x", VECTOR, "data")), "output"))
        for kind, x in data().items():
            program.inputs["x"][...] = x
            program.run()
            wanted = exact(x.astype(np.float64))
            found = [program.outputs["y"], numpy(x), *([peer(torch.from_numpy(x)).numpy()] if torch else [])]
            errors = [f" {error(name, made, wanted, x):.1e} |" for made in found]
            lines.append(f"| {name} | {kind} |" + "".join(errors) + (" |" if torch is None else ""))
            print(lines[-1], flush=True)
    if options.write:
        before, _, _ = PAGE.read_text().partition("\n## Sums")
        PAGE.write_text(before + HEAD + "\n".join(lines) + "\n")


HEAD = """
## Sums

Relative errors over 10**7 float32 values against exact arithmetic, as `python -m benchmarks.summation --write` found.
Those of sums and means are relative to the sum (the mean) of the values' sizes; softmax's is the greatest of all
elements.

| of 10**7 float32 | values | error | NumPy | PyTorch |
|---|---|---|---|---|
"""


if __name__ == "__main__":
    main()
