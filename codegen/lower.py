"""From a kernel node to its loops: one lowering for each family, by table."""

from __future__ import annotations

from collections.abc import Callable

from tapeless.codegen.attention import lower_attention, lower_attention_gradient
from tapeless.codegen.column import Column, TransposedColumn
from tapeless.codegen.factor import lower_cholesky, lower_triangular_solve
from tapeless.codegen.loops import Function
from tapeless.codegen.matmul import Product
from tapeless.codegen.nest import lower_nest
from tapeless.codegen.ordering import lower_along, lower_argsort
from tapeless.codegen.pack import lower_pack
from tapeless.codegen.permutation import lower_permutation
from tapeless.codegen.recurrence import lower_recurrence
from tapeless.codegen.scatter import lower_scatter
from tapeless.codegen.turned import Turned
from tapeless.ir.graph import Node
from tapeless.ir.target import Target

__all__ = ["FAMILIES", "lower_kernel"]


def lower_matmul(node: Node, target: Target, capacity: int) -> Function:
    """A product, by what it looks like."""
    (product,) = (inner for inner in node.regions[0].nodes if inner.op == "matmul")
    rows, columns = product.result.type.shape[-2:]
    kind = Product
    if product.attrs["transpose_b"]:
        kind = Turned
    elif columns == 1 and rows != 1 and target.lanes(product.result.type.dtype.bytes) > 1:
        kind = TransposedColumn if product.attrs["transpose_a"] else Column
    return kind(node, target, capacity).function()


FAMILIES: dict[str, Callable[[Node, Target, int], Function]] = {
    "nest": lower_nest,
    "matmul": lower_matmul,
    "pack": lower_pack,
    "gather": lower_nest,
    "scatter": lower_scatter,
    "permutation": lower_permutation,
    "recurrence": lower_recurrence,
    "argsort": lower_argsort,
    "along": lower_along,
    "cholesky": lower_cholesky,
    "triangular_solve": lower_triangular_solve,
    "attention": lower_attention,
    "attention_gradient": lower_attention_gradient,
}


def lower_kernel(node: Node, target: Target, capacity: int) -> Function:
    """The loops of a `kernel` node, for at most `capacity` rows. Names inside are canonical: kernels that differ only
    in the names of their values give functions that differ only in `name`."""
    return FAMILIES[node.attrs["family"]](node, target, capacity)
