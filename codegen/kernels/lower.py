"""From a kernel node to its loops: one lowering for each family, by table."""

from __future__ import annotations

from collections.abc import Callable

from tapeless.codegen.kernels.along_axis import lower_along, lower_argsort
from tapeless.codegen.kernels.factorisation import lower_cholesky, lower_triangular_solve
from tapeless.codegen.kernels.flash_attention import lower_attention, lower_attention_gradient
from tapeless.codegen.kernels.matmul import Product
from tapeless.codegen.kernels.matrix_vector import Column, TransposedColumn
from tapeless.codegen.kernels.pack import lower_pack
from tapeless.codegen.kernels.permutation import lower_permutation
from tapeless.codegen.kernels.recurrence import lower_recurrence
from tapeless.codegen.kernels.scatter import lower_scatter
from tapeless.codegen.kernels.transposed_right import Turned
from tapeless.codegen.loops.language import Function
from tapeless.codegen.nests.nest import lower_nest
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
    elif columns == 1 and rows != 1 and target.lanes(product.result.type.dtype.computed.bytes) > 1:
        kind = TransposedColumn if product.attrs["transpose_a"] else Column
    return kind(node, target, capacity).function()


FAMILIES: dict[str, Callable[[Node, Target, int], Function]] = {
    "nest": lower_nest,
    "matmul": lower_matmul,
    "pack": lower_pack,
    "assembly": lower_nest,
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
