"""Rules of reading at computed places: what moves is the indices, not the rows that they stand for.

Words of a text lie row by row of the batch, and recurrent layers walk them step by step: the indices are transposed,
and what is looked up, and what is added up to its gradient, lies as it is wanted.
"""

from __future__ import annotations

from tapeless.compiler.passes.rewriter import Rewriter, Rule
from tapeless.ir.graph import Builder, Node, Value
from tapeless.ir.types import DType

__all__ = ["INDEXING"]


def _transposed_gather(b: Rewriter, node: Node) -> Value | None:
    """transpose(gather(t, i)) = gather(t, transpose(i)), if the axes of the table's rows stay the last."""
    gathered = b.made_by(node.operands[0], "gather")
    if gathered is None:
        return None
    table, index = gathered.operands
    perm, rank = tuple(node.attrs["perm"]), index.type.rank
    if perm[rank:] != tuple(range(rank, len(perm))):
        return None
    return b.emit("gather", table, b.emit("transpose", index, perm=perm[:rank]))


def _example(b: Builder, x: Value, y: Value, r: Value, k: Value) -> Value:
    index = b.emit("iota", axis=1, shape=x.type.shape, dtype=DType.I32)
    return b.emit("transpose", b.emit("gather", r, index), perm=(1, 0))


INDEXING: tuple[Rule, ...] = (Rule("transposed gather", ("transpose",), _transposed_gather, _example),)
