"""How operations that work alike at all places of some axes read their operands. What they compute there is not told here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tapeless.ir.graph import Node
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.ops.movement import whole


@dataclass(frozen=True)
class Access:
    """How an operation that works alike at all places of some axes reads its operands: for each axis of each operand the
    axis of the result that it goes along with; -1, -2, ... for what is reduced; None where it reads all there is."""

    operands: tuple[tuple[int | None, ...], ...]


def _same(node: Node, but: Sequence[int] = ()) -> Access:
    ranks = [value.type.rank for value in node.operands]
    return Access(tuple(tuple(None if k in but else k for k in range(rank)) for rank in ranks))


def _reduced(node: Node) -> Access:
    gone = (node.attrs["axis"],) if node.op == "argmax" else tuple(node.attrs["axes"])
    kept = [k for k in range(node.operands[0].type.rank) if k not in gone]
    return Access((tuple(kept.index(k) if k in kept else -1 - gone.index(k) for k in range(node.operands[0].type.rank)),))


def _matmul(node: Node) -> Access:
    rank = node.result.type.rank
    lead = tuple(range(rank - 2))
    a, b = (rank - 2, -1), (-1, rank - 1)
    return Access(((*lead, *(a[::-1] if node.attrs["transpose_a"] else a)), (*lead, *(b[::-1] if node.attrs["transpose_b"] else b))))


def _gather(node: Node) -> Access:
    table, index = (value.type.rank for value in node.operands)
    return Access(((None, *range(index, index + table - 1)), tuple(range(index))))


def _windows(node: Node) -> Access:
    axis, rank = node.attrs["axis"], node.operands[0].type.rank
    return Access((tuple(None if k == axis else k + (k > axis) for k in range(rank)),))


def _overlap_add(node: Node) -> Access:
    axis, rank = node.attrs["axis"], node.operands[0].type.rank
    return Access((tuple(None if k in (axis, axis + 1) else k - (k > axis) for k in range(rank)),))


def _sliced(node: Node) -> Access:
    parts = zip(node.attrs["start"], node.attrs["size"], node.attrs["step"], node.operands[0].type.shape, strict=True)
    return Access((tuple(k if whole(*part) else None for k, part in enumerate(parts)),))


def _along(node: Node) -> Access:
    return _same(node, (node.attrs["axis"],))


def _last_two(node: Node) -> Access:
    rank = node.result.type.rank
    return _same(node, (rank - 2, rank - 1))


ACCESS: Mapping[str, Callable[[Node], Access]] = {
    "stop_gradient": _same,
    "with_derivative": _same,
    "broadcast": lambda node: Access((tuple(node.attrs["axes"]),)),
    "transpose": lambda node: Access((tuple(node.attrs["perm"].index(k) for k in range(node.result.type.rank)),)),
    **dict.fromkeys(("sum", "prod", "max", "min", "logsumexp", "norm", "argmax"), _reduced),
    "matmul": _matmul,
    "gather": _gather,
    "pick": lambda node: Access(((*range(node.result.type.rank), None), tuple(range(node.result.type.rank)))),
    "slice": _sliced,
    **dict.fromkeys(("pad", "concat", "argsort", "take_along", "put_along", "cumsum", "cumprod", "linear_scan", "strong_scan"), _along),
    "windows": _windows,
    "overlap_add": _overlap_add,
    "align_windows": _along,
    **dict.fromkeys(("cholesky", "triangular_solve"), _last_two),
}


def access(node: Node) -> Access | None:
    """How a node reads its operands; None of those that do not work alike at places."""
    if OPERATIONS[node.op].family == "pointwise":
        return _same(node)
    return ACCESS[node.op](node) if node.op in ACCESS else None
