"""Random programs and inputs that no run has had before, for a few minutes: `python -m tests.fuzz.random_run`.

The tests draw the same ones each time. This draws others each day, says from which seed, and writes what fails into a
folder: graphs as `.ir` files, which belong in tests/pipeline/cases once they are mended, and of the fuzzers' cases the
command that tries each again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from tapeless.ir import text
from tapeless.ir.graph import Graph
from tapeless.ir.target import Target
from tapeless.ir.types import DType

from ..pipeline import test_random_graphs as graphs
from . import checkpoints, children, data_files, entries, texts
from .mutations import corpus, faults

FUZZERS = (data_files, checkpoints, entries, texts)
EACH = 10  # cases tried between two looks at the clock
Finding = tuple[str, str]  # the name of a file, and what it holds
Tried = tuple[int, list[Finding]]  # how many cases, and what was found among them


def random_graphs(seed: int, round: int) -> Tried:
    """A few graphs through the whole pipeline; the one that fails, as small as hypothesis can make it."""
    dtype, rows = ((DType.F64, graphs.ROWS), (DType.F32, graphs.FEW_ROWS))[round % 2]
    drawn: list[Graph] = []

    @seeded(seed * 10**6 + round)
    @settings(graphs.COMMON, max_examples=EACH, report_multiple_bugs=False)
    @given(graphs.forward_graphs(dtype), rows, st.sampled_from((1, 3)), graphs.TARGETS)
    def each(graph: Graph, rows: int, threads: int, target: Target) -> None:
        drawn.append(graph)
        graphs.check(graph, dtype, rows, threads, target)

    try:
        each()
    except Exception:
        said = "".join(f"# {line}\n" for line in traceback.format_exc().splitlines())
        return len(drawn), [(f"graph-{seed}-{round}.ir", text.write(drawn[-1]) + said)]
    return len(drawn), []


def fuzzed(seed: int, round: int) -> Tried:
    """A few cases of one of the fuzzers, in its turn."""
    fuzzer = FUZZERS[round % len(FUZZERS)]
    name, first = fuzzer.__name__.rpartition(".")[2], seed * 10**6 + round * EACH
    if hasattr(fuzzer, "material"):
        fuzzer.material()
    return EACH, [
        (f"{name}-{number}.txt", f"python -m tests.fuzz.{name} --first {number} --count 1\n{reason}\n")
        for number, reason in children.findings(fuzzer.attempt, range(first, first + EACH))
    ]


def mutated(seed: int, round: int, programs: list[str]) -> Tried:
    """Programs gone wrong, for the front end."""
    found = list(faults(seed * 10**6 + round, EACH, programs))
    return EACH, [
        (f"program-{seed}-{round}-{number}.txt", "\n".join(map(str, fault))) for number, fault in enumerate(found)
    ]


def rounds(one: Callable[[int, int], Tried], seed: int, seconds: float) -> Iterator[Tried]:
    end = time.monotonic() + seconds
    for round in itertools.count():
        if time.monotonic() > end:
            return
        yield one(seed, round)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180, help="how long it takes, but for what is being tried")
    parser.add_argument("--seed", type=int, help="today's date in UTC if not given, as 20261224")
    parser.add_argument("--keep", type=Path, help="the folder for what fails; a temporary one if not given")
    options = parser.parse_args(arguments)
    seed = int(f"{datetime.now(UTC):%Y%m%d}") if options.seed is None else options.seed
    warnings.simplefilter("ignore")  # about the programs, which make no sense
    print(f"python -m tests.fuzz.random_run --seed {seed} --seconds {options.seconds:g}", flush=True)
    keep, count = options.keep or Path(mkdtemp(prefix="tapeless-found-")), 0
    kinds = {
        "graphs": (random_graphs, 0.6),
        "fuzzed": (fuzzed, 0.3),
        "mutated": (partial(mutated, programs=corpus()), 0.1),
    }
    for name, (one, share) in kinds.items():
        tried = 0
        for cases, found in rounds(one, seed, share * options.seconds):
            tried += cases
            for file, content in found:
                count += 1
                keep.mkdir(parents=True, exist_ok=True)
                (keep / file).write_text(content, encoding="utf-8", errors="backslashreplace")
                print(f"{'=' * 80}\n{content}\nkept as {keep / file}", flush=True)
        print(f"{name}: {tried} cases", flush=True)
    print(f"{count} findings")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
