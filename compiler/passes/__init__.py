"""Passes over an entry's graph, in order. Each is a function Graph -> Graph that keeps the values of every output; the
verifier holds before and after each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tapeless.compiler.passes.decompose import DECOMPOSE
from tapeless.compiler.passes.fusion import fuse
from tapeless.compiler.passes.rewriter import rewrite
from tapeless.compiler.passes.rules import ALGEBRA, RULES
from tapeless.ir.graph import Graph


@dataclass(frozen=True)
class Pass:
    """A named rewrite of whole graphs."""

    name: str
    apply: Callable[[Graph], Graph]


PASSES: tuple[Pass, ...] = (
    # Stable forms, algebra, constants, common subexpressions, dead code: what a reader calls simplified.
    Pass("simplify", lambda graph: rewrite(graph, RULES)),
    # Operations that kernels are not made of become those that they are.
    Pass("decompose", lambda graph: rewrite(graph, (*DECOMPOSE, *ALGEBRA))),
    # Decomposition leaves numbers next to numbers: once more.
    Pass("tidy", lambda graph: rewrite(graph, ALGEBRA)),
    # Groups of nodes become kernels.
    Pass("fuse", fuse),
)


def simplify(graph: Graph) -> Graph:
    """The passes before fusion."""
    for step in PASSES[:-1]:
        graph = step.apply(graph)
    return graph


__all__ = ["PASSES", "Pass", "fuse", "simplify"]
