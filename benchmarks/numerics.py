"""Error and cost of the elementary functions: python -m benchmarks.numerics [--every N] [--double] [--costs]
[--write] [NAME...]

Every float32 function of one argument over all 2**32 inputs (--every 1), or over each N-th of them, against a float64
reference; two-argument ones over random pairs. --double: float64 functions at random inputs against mpmath instead.
Units in the last place are of the function's type; lgamma and polygamma are measured relative to max(1, |f|).
--write puts the rows into docs/numerics.md, where rows of other functions stay. Times are of one thread, of 8192
elements that stay in the nearest caches, beside NumPy's and (if it is installed) PyTorch's in the same run; --costs
renews those of all rows and leaves their errors.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tapeless.codegen import vectormath
from tapeless.codegen.llvm import functions as llvm
from tapeless.codegen.llvm import native
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import ROWS, Buffer, Function
from tapeless.ir.target import host

Array = np.ndarray[Any, np.dtype[Any]]
CHUNK = 1 << 16  # what is made of so many inputs stays in the second-level cache
PAIRS_CHUNK = 1 << 20
PAGE = Path(__file__).resolve().parent.parent / "docs" / "numerics.md"


def _special() -> dict[str, Callable[..., Array]]:
    from scipy import special

    return {
        "erf": special.erf,
        "erfc": special.erfc,
        "lgamma": special.gammaln,
        "sigmoid": special.expit,
        "polygamma0": special.digamma,
        "polygamma1": _trigamma,
        "erfinv": special.erfinv,
        "ndtri": special.ndtri,
    }


def _trigamma(x: Array) -> Array:
    """SciPy's for positive x; by reflection below zero, where SciPy's is a loop."""
    from scipy import special

    x = np.asarray(x)
    value = special.zeta(2.0, np.where(x < 0, 1 - x, x))
    turn = np.where(np.abs(x) < 2.0**52, np.pi * (x - np.round(x)), 0)
    return np.asarray(np.where(x < 0, (np.pi / np.sin(turn)) ** 2 - value, value))


def _hypot_slope(x: Array, y: Array) -> Array:
    size = np.hypot(x, y)
    return np.asarray(np.where(size > 0, x / np.where(size > 0, size, 1), size))


# That of tanh stays as it is where it leaves the normal numbers.
def _sigmoid_slope(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(e / (1 + e) ** 2)


REFERENCES: dict[str, Callable[..., Array]] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log1p": np.log1p,
    "tanh": np.tanh, "sinh": np.sinh, "cosh": np.cosh, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "cbrt": np.cbrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "log10": np.log10, "exp10": lambda x: np.power(10.0, x),
    "tanh_slope": lambda x: 4 * _sigmoid_slope(2 * np.clip(x, -44.5, 44.5)), "sigmoid_slope": _sigmoid_slope,
    "atan2": np.arctan2, "pow": np.power, "hypot": np.hypot, "hypot_slope": _hypot_slope,
}  # fmt: skip
NAMES = (*vectormath.FUNCTIONS, "polygamma0", "polygamma1")
PAIRS = tuple(name for name in vectormath.PAIRS if name not in ("remainder", "floor_divide"))  # those are exact
ABSOLUTE = ("lgamma", "polygamma0", "polygamma1")  # relative to max(1, |f|)
TORCH = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}


class Native:
    """One function over arrays of one type, as machine code."""

    def __init__(self, name: str, dtype: type[np.floating[Any]] = np.float32) -> None:
        target, width = host(), np.dtype(dtype).itemsize
        b, kind, lanes = Builder(target), f"f{8 * width}", target.lanes(width)
        loop = b.open_loop(index_constant(0), ROWS, lanes)
        with b.inside(loop.block):
            x = b.load("x", kind, loop.variable, lanes)
            if name in vectormath.PAIRS:
                made = vectormath.PAIRS[name](b, x, b.load("y", kind, loop.variable, lanes))
            elif name.startswith("polygamma"):
                made = vectormath.polygamma(b, x, order=int(name.removeprefix("polygamma")))
            else:
                made = vectormath.FUNCTIONS[name](b, x)
            b.store("r", loop.variable, made)
        b.close_loop(loop)
        buffers = tuple(Buffer(n, kind, role) for n, role in (("x", "operand"), ("y", "operand"), ("r", "result")))
        function = Function("k", buffers, 1, tuple(b.block))
        text = llvm.module_text([llvm.function_text(function, target, linkage="")], target)
        self._loaded = native.load(native.compile_object(text, target), ["k"])
        self._entry = self._loaded.function("k", *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64)

    def __call__(self, x: Array, y: Array, result: Array) -> None:
        """Sizes are multiples of 16."""
        self.bound(x, y, result)()

    def bound(self, x: Array, y: Array, result: Array) -> Callable[[], object]:
        """The call, with its addresses looked up: NumPy takes a microsecond for each."""
        return functools.partial(self._entry, x.ctypes.data, y.ctypes.data, result.ctypes.data, x.size, 0)


# how many inputs, the greatest error, where, and how many special results were wrong
Found = tuple[int, float, float, int]


def inputs(every: int) -> Iterator[Array]:
    """Each `every`-th bit pattern of float32, a chunk at a time; an odd step meets all exponents and both signs."""
    for start in range(0, 1 << 32, CHUNK * every):
        stop = min(start + CHUNK * every, 1 << 32)
        bits = np.arange(start, stop, every, dtype=np.uint64).astype(np.uint32)
        yield np.resize(bits, -(-bits.size // 16) * 16).view(np.float32)


def error(name: str, made: Array, exact: Array) -> tuple[float, int, int]:
    """The greatest error in ulps of float32; at which place; and how many results are special where they should not be
    (NaN or infinity against a number, or the reverse)."""
    rounded = exact.astype(np.float32)
    # An ulp is the power of two of the number's exponent, 23 bits down.
    scale = np.maximum(np.abs(rounded), 1) if name in ABSOLUTE else rounded
    power = (scale.view(np.uint32) & np.uint32(0x7F800000)).view(np.float32)
    ulps = np.abs(made - exact) / np.maximum(power * np.float32(2.0**-23), np.float32(1e-45))
    if np.isfinite(ulps).all():
        worst = int(np.argmax(ulps))
        return float(ulps[worst]), worst, 0
    if not np.isfinite(rounded).any() and np.array_equal(made, rounded, equal_nan=True):
        return 0.0, 0, 0  # all NaN, or all infinite
    finite = np.isfinite(rounded) & np.isfinite(made)
    same = finite | (np.isnan(rounded) & np.isnan(made)) | (rounded == made)
    # Numbers within half an ulp of overflow may round either way.
    edge = np.abs(exact) >= 3.402823e38
    ulps = np.where(finite, ulps, 0)
    worst = int(np.argmax(ulps))
    return (
        float(ulps[worst]),
        worst,
        int(np.count_nonzero(~same & ~edge & ~np.isnan(exact)) + np.count_nonzero(np.isnan(exact) & ~np.isnan(made))),
    )


def measure(name: str, every: int) -> Found:
    references = REFERENCES | _special()
    function, count, worst, where, wrong = Native(name), 0, 0.0, 0.0, 0
    with np.errstate(all="ignore"):
        for x in inputs(every):
            made = np.empty_like(x)
            function(x, x, made)
            found, place, special = error(name, made, references[name](x.astype(np.float64)))
            count, wrong = count + x.size, wrong + special
            if found > worst:
                worst, where = found, float(x[place])
    return count, worst, where, wrong


def measure_pairs(name: str, count: int) -> Found:
    rng = np.random.default_rng(0)
    function, worst, wrong, where = Native(name), 0.0, 0, 0.0
    with np.errstate(all="ignore"):
        for _ in range(-(-count // PAIRS_CHUNK)):
            bits = rng.integers(0, 1 << 32, (2, PAIRS_CHUNK), dtype=np.uint64).astype(np.uint32)
            x, y = bits.view(np.float32)
            if name == "pow":  # most pairs of any size overflow: half of these are near 1
                x[::2] = np.exp(rng.normal(size=PAIRS_CHUNK // 2) * 3)
                y[::2] = rng.normal(size=PAIRS_CHUNK // 2) * 8
                y[::4] = rng.uniform(-150, 129, PAIRS_CHUNK // 4) / np.log2(x[::4])  # results of all sizes
            made = np.empty_like(x)
            function(x, y, made)
            found, place, special = error(name, made, REFERENCES[name](x.astype(np.float64), y.astype(np.float64)))
            wrong += special
            if found > worst:
                worst, where = found, float(x[place])
    return count, worst, where, wrong


def measure_double(name: str, count: int) -> Found:
    """The same of float64, against mpmath."""
    from benchmarks import exact

    x, y = exact.inputs(name, -(-count // 16) * 16)
    made = np.empty_like(x)
    Native(name, np.float64)(x, y, made)
    nearest, rest = exact.parts(name, x, y)
    with np.errstate(all="ignore"):
        spacing = np.spacing(np.maximum(np.abs(nearest), 1 if name in ABSOLUTE else 0))
        ulps = np.abs((made - nearest) - rest) / spacing
    finite = np.isfinite(nearest) & np.isfinite(made)
    edge = np.abs(nearest) >= np.finfo(np.float64).max * (1 - 1e-15)  # which may round either way
    same = finite | edge | (made == nearest) | (np.isnan(made) & np.isnan(nearest))
    worst = int(np.argmax(np.where(finite, ulps, 0)))
    return x.size, float(ulps[worst]), float(x[worst]), int(np.count_nonzero(~same))


def nanoseconds(call: Callable[[], object], elements: int) -> float:
    best = float("inf")
    for _ in range(7):
        begun = time.perf_counter()
        for _ in range(30):
            call()
        best = min(best, time.perf_counter() - begun)
    return best / 30 / elements * 1e9


def costs(name: str, dtype: type[np.floating[Any]] = np.float32) -> tuple[float, float, float]:
    """Nanoseconds an element: here, NumPy's (SciPy's), PyTorch's; NaN where there is none."""
    size = 8192
    x = np.random.default_rng(1).uniform(0.1, 0.9, size).astype(dtype)
    made, function = np.empty_like(x), Native(name, dtype)
    own = nanoseconds(function.bound(x, x, made), size)
    reference = (REFERENCES | _special())[name]
    numpy = nanoseconds(lambda: reference(x, x) if name in PAIRS else reference(x), size)
    try:
        import torch
    except ImportError:
        return own, numpy, float("nan")
    torch.set_num_threads(1)
    known = {
        "softplus": torch.nn.functional.softplus,
        "polygamma0": torch.digamma,
        "polygamma1": lambda x: torch.polygamma(1, x),
        "cbrt": None,
    }
    peer = known[name] if name in known else getattr(torch, TORCH.get(name, name))
    if peer is None:
        return own, numpy, float("nan")
    tensor = torch.from_numpy(x)
    return own, numpy, nanoseconds(lambda: peer(tensor, tensor) if name in PAIRS else peer(tensor), size)


HEAD = """# Numerics

What the elementary functions of `codegen/vectormath/` are worth, as `python -m benchmarks.numerics` found on
{machine}. Errors are in units in the last place; those of lgamma and polygamma (order 0, digamma, and order 1) are
relative to max(1, |f|). *Special* counts results that are NaN or infinite where the reference is not, or the reverse.
Costs are in nanoseconds an element, one thread, 8192 elements in the nearest caches, beside NumPy's (SciPy's where
NumPy lacks the function) and PyTorch's: a time is worth little alone, the ratios were taken in one run.
"""
DTYPES: dict[str, type[np.floating[Any]]] = {"float32": np.float32, "float64": np.float64}
SECTIONS = {
    "float32": """\
Against float64. The inputs of a function of one argument are all bit patterns, or as many as stated, evenly spaced.
Pairs are random: of any bits; half of pow's bases are near 1, and half of their powers of any size.""",
    "float64": """\
Against mpmath, at random numbers: a quarter are of any bits, the others where the function is neither constant nor
infinite. The angles of sin, cos and tan stay below 2**30: larger ones are reduced in float32 only.""",
}
COLUMNS = (
    "| function | inputs | greatest error | at | special | ns | NumPy | PyTorch |\n|---|---|---|---|---|---|---|---|\n"
)


def found_columns(name: str, found: Found) -> str:
    count, worst, where, wrong = found
    return f"| {name} | {count:,} | {worst:.2f} | {where:.8g} | {wrong} |"


def cost_columns(name: str, dtype: type[np.floating[Any]]) -> str:
    return "".join(f" {'' if np.isnan(cost) else f'{cost:.2f}'} |" for cost in costs(name, dtype))


def page_rows(text: str) -> dict[str, dict[str, str]]:
    """The rows of the page by section and function."""
    rows: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    section = ""
    for line in text.splitlines():
        section = line.removeprefix("## ") if line.startswith("## ") else section
        if section in rows and re.match(r"\| [a-z0-9]+ \| [\d,]+ \|", line):
            rows[section][line.split()[1]] = line
    return rows


def page(rows: dict[str, dict[str, str]], rest: str) -> str:
    text = HEAD.format(machine=host().cpu)
    for section, about in SECTIONS.items():
        lines = [rows[section][name] for name in (*NAMES, *PAIRS) if name in rows[section]]
        text += f"\n## {section}\n\n{about}\n\n{COLUMNS}" + "\n".join(lines) + "\n"
    return text + rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*NAMES, *PAIRS], metavar="NAME")
    parser.add_argument("--every", type=int, default=4093)
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--costs", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    text = PAGE.read_text()
    rows, section = page_rows(text), "float64" if options.double else "float32"
    for name in options.names:
        if options.costs:
            for section, dtype in DTYPES.items():
                if name in rows[section]:
                    kept = rows[section][name].split("|")[:6]
                    rows[section][name] = "|".join(kept) + "|" + cost_columns(name, dtype)
                    print(section, rows[section][name], flush=True)
            continue
        if options.double:
            found = measure_double(name, 10**5)
        elif name in PAIRS:
            found = measure_pairs(name, min(10**8, (1 << 32) // options.every))
        else:
            found = measure(name, options.every)
        rows[section][name] = found_columns(name, found) + cost_columns(name, DTYPES[section])
        print(rows[section][name], flush=True)
    if options.write:
        _, title, sums = text.partition("\n## Sums")  # benchmarks/summation.py's
        PAGE.write_text(page(rows, title + sums))


if __name__ == "__main__":
    main()
