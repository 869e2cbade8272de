"""The pipelines: which passes a graph goes through, in order. All of them are here, and `run` is what runs them.

A pass is a function Graph -> Graph that keeps the values of every output; the verifier holds before and after each.
The forward graph of a model goes through BEFORE_DIFFERENTIATION, what the sweep back from the loss has made through
AFTER_DIFFERENTIATION; every entry then through SIMPLIFICATION and `lowering`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tapeless.compiler.passes.channels_last import channels_last
from tapeless.compiler.passes.decompose import DECOMPOSE
from tapeless.compiler.passes.fusion import fuse
from tapeless.compiler.passes.layout import lay_out
from tapeless.compiler.passes.one_row import one_row
from tapeless.compiler.passes.picture_shares import in_shares
from tapeless.compiler.passes.rewriter import rewrite, without_dead_code
from tapeless.compiler.passes.rows_flat import rows_flat
from tapeless.compiler.passes.rules import ALGEBRA, RULES
from tapeless.compiler.passes.saved_products import saved_products
from tapeless.compiler.passes.scan_rules import invariants_outside, merge_scans, products_outside
from tapeless.compiler.passes.slots_in_turns import slots_in_turns
from tapeless.compiler.passes.sum_shares import sums_in_shares
from tapeless.compiler.passes.views_after import views_after
from tapeless.ir.graph import Graph
from tapeless.ir.machine import Machine


@dataclass(frozen=True)
class Pass:
    """A named rewrite of whole graphs."""

    name: str
    apply: Callable[[Graph], Graph]


After = Callable[[Pass, Graph], None]
"""What is told of each pass, with the graph that it has made."""


def run(passes: Sequence[Pass], graph: Graph, after: After | None = None) -> Graph:
    """The graph behind the passes; `after` is called behind each."""
    for step in passes:
        graph = step.apply(graph)
        if after is not None:
            after(step, graph)
    return graph


def loss_first(graph: Graph) -> Graph:
    """What the loss needs before all else, so that a value shared with an output keeps the loss's span and name."""
    needed = graph.ancestors([graph.output("loss").value])
    nodes = sorted(graph.nodes, key=lambda node: needed.isdisjoint(node.results))
    return Graph(graph.name, graph.inputs, tuple(nodes), graph.outputs)


# What is differentiated is in stable form, so that it cannot overflow where its value does not.
BEFORE_DIFFERENTIATION = (
    Pass("loss_first", loss_first),
    Pass("stable", lambda graph: rewrite(graph, RULES)),
    # Chains of convolutions have their channels last, and so have their gradients.
    Pass("channels_last", channels_last),
    Pass("products_outside", products_outside),
    Pass("used", without_dead_code),
)
AFTER_DIFFERENTIATION = (
    Pass("merge_scans", merge_scans),
    Pass("used_back", without_dead_code),
)
SIMPLIFICATION = (
    # Stable forms, algebra, constants, common subexpressions, dead code: what a reader calls simplified.
    Pass("simplify", lambda graph: rewrite(graph, RULES)),
    # Convolutions that have not been differentiated: their chains have channels last as well.
    Pass("channels_last_again", channels_last),
    # Operations that kernels are not made of become those that they are.
    Pass("decompose", lambda graph: rewrite(graph, (*DECOMPOSE, *ALGEBRA))),
    # Decomposition leaves numbers next to numbers: once more.
    Pass("tidy", lambda graph: rewrite(graph, ALGEBRA)),
)


def lowering(machine: Machine, rows: int | None = None) -> tuple[Pass, ...]:
    """The passes after which a graph is kernels for one kind of processor, for batches of at most so many rows; None:
    of any number, and in no more memory than it takes to overwrite the state.
    """
    single = (
        # Batches of one row have no axis of rows.
        Pass("one_row", one_row),
        # What a sweep makes of a slot and of the loss is stored in that sweep.
        Pass("slots_in_turns", lambda graph: slots_in_turns(graph, machine)),
    )
    return (
        # Factors that a scan saves for the one that walks back are multiplied before they are saved.
        Pass("saved_products", saved_products),
        # What is the same in every step of a scan is computed once, before it.
        Pass("invariants_outside", lambda graph: invariants_outside(graph, machine)),
        # The rows of a product stay rows in what follows it.
        Pass("rows_flat", rows_flat),
        # Sums over many pictures are cut into shares, which are made side by side.
        Pass("in_shares", lambda graph: in_shares(graph, machine)),
        # Views that merge axes come after the work on what they merge.
        Pass("views_after", views_after),
        # Long sums that leave little are cut into shares as well.
        Pass("sums_in_shares", lambda graph: sums_in_shares(graph, machine)),
        *(single if rows == 1 else ()),
        # Operands and outputs lie where kernels want them.
        Pass("lay_out", lambda graph: lay_out(graph, machine)),
        # Groups of nodes become kernels.
        Pass("fuse", lambda graph: fuse(graph, machine)),
    )


def simplified(graph: Graph) -> Graph:
    """The graph of an entry behind SIMPLIFICATION."""
    return run(SIMPLIFICATION, graph)


def lowered(graph: Graph, machine: Machine, rows: int | None = None) -> Graph:
    """The kernels of a simplified graph."""
    return run(lowering(machine, rows), graph)
