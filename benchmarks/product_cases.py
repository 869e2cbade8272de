"""Products to be timed: shapes, transpositions, how far rows lie apart, and whether operands are in a cache.

Shapes are cubes, and those of the products in a training step of each workload, read off its graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from benchmarks.workloads import WORKLOADS, named
from tapeless.compiler import entries
from tapeless.compiler.passes.pipelines import simplified
from tapeless.ir.graph import Graph

CUBES = (64, 128, 250, 256, 512, 1024, 2048)
TRANSPOSITIONS = ((False, False), (True, False), (False, True), (True, True))
PAD = 16  # elements, by which padded rows lie further apart
ROTATED = 64 << 20  # bytes of operands in turn, where they shall not stay in a cache


@dataclass(frozen=True)
class Case:
    """op(A)[m, k] op(B)[k, n] in float32. `pad`: elements by which rows lie further apart than they are long.
    `rotating`: operands are others in each turn, 64 MB of them.
    """

    m: int
    n: int
    k: int
    transpose_a: bool = False
    transpose_b: bool = False
    pad: int = 0
    rotating: bool = False
    origin: str = ""

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * self.k

    @property
    def bytes(self) -> int:
        """Of operands and result, each once."""
        return 4 * (self.m * self.k + self.k * self.n + self.m * self.n)

    @property
    def sets(self) -> int:
        """How many sets of operands are used in turn."""
        return max(2, -(-ROTATED // self.bytes)) if self.rotating else 1

    @property
    def shapes(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Of A and B as they lie, and of the result."""
        a = (self.k, self.m) if self.transpose_a else (self.m, self.k)
        b = (self.n, self.k) if self.transpose_b else (self.k, self.n)
        return a, b, (self.m, self.n)

    def vectors(self, lanes: int) -> float:
        """The share of lanes that do something useful where vectors run along a row of the result, or its column."""
        along = self.n if self.n > 1 else self.m
        return along / (-(-along // lanes) * lanes)

    def leading(self, columns: int) -> int:
        """How far rows of so many columns lie apart; those of one column lie close."""
        return columns + self.pad if columns > 1 else columns

    def __str__(self) -> str:
        ways = f"A{'^T' if self.transpose_a else ''} B{'^T' if self.transpose_b else ''}"
        return f"{self.m} x {self.n} x {self.k} {ways}"


def cubes(sizes: Sequence[int], transpositions: Sequence[tuple[bool, bool]] = TRANSPOSITIONS) -> Iterator[Case]:
    """Cubes in every way: transposed, rows padded and not, hot, and from 512 on rotating."""
    for n in sizes:
        for a, b in transpositions:
            for pad in (0, PAD):
                yield Case(n, n, n, a, b, pad)
                if n >= 512:
                    yield Case(n, n, n, a, b, pad, rotating=True)


def of_workloads(names: Sequence[str] = tuple(workload.name for workload in WORKLOADS)) -> Iterator[Case]:
    """The products of the workloads' training steps, each shape once, hot, with rows padded and not."""
    seen: set[tuple[int | bool, ...]] = set()
    for name in names:
        for shape in _products(name):
            if shape not in seen:
                seen.add(shape)
                m, n, k, a, b = shape
                for pad in (0, PAD):
                    yield Case(m, n, k, bool(a), bool(b), pad, origin=name)


@lru_cache(maxsize=16)
def _products(name: str) -> tuple[tuple[int, int, int, bool, bool], ...]:
    """m, n, k and the transpositions of the products of plain matrices in a workload's step, also within its loops."""
    workload = named(name)
    graph = simplified(entries.train_step(workload.model))
    return tuple(dict.fromkeys(_of_graph(graph, workload.batch)))


def _of_graph(graph: Graph, rows: int) -> Iterator[tuple[int, int, int, bool, bool]]:
    for node in graph.walk():
        if node.op == "matmul" and node.result.type.rank == 2:
            m, n = node.result.type.at(rows)
            k = node.operands[0].type.at(rows)[0 if node.attrs["transpose_a"] else 1]
            yield m, n, k, bool(node.attrs["transpose_a"]), bool(node.attrs["transpose_b"])


def parsed(text: str) -> Case:
    """A case of a text as `64x512x784`, with `t` behind the first or the last number where A or B lies transposed,
    `p` at the end for padded rows, `r` for rotating. Raises ValueError.
    """
    flags = text[len(text.rstrip("pr")) :]
    parts = text.rstrip("pr").split("x")
    if len(parts) not in (1, 3):
        raise ValueError(f"{text!r} is not of the form MxNxK")
    a, b = parts[0].endswith("t"), len(parts) == 3 and parts[-1].endswith("t")
    numbers = [int(part.rstrip("t")) for part in parts]
    m, n, k = numbers if len(numbers) == 3 else numbers * 3
    return Case(m, n, k, a, b, PAD if "p" in flags else 0, "r" in flags)
