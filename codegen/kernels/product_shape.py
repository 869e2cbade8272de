"""The product of a kernel, as its planner sees it."""

from __future__ import annotations

from tapeless.abi.dtypes import TYPES
from tapeless.codegen.kernels.product_plan import Kind, ProductShape
from tapeless.codegen.nests.analysis import LoweringError, analyse
from tapeless.codegen.nests.groups import instruction_count
from tapeless.codegen.nests.sizes import Size, size_of
from tapeless.codegen.nests.terms import Uniform, Walk, closure
from tapeless.ir.graph import Node
from tapeless.ir.target import Target

__all__ = ["product_shape"]


def product_shape(node: Node, capacity: int, target: Target) -> ProductShape:
    """The product of a kernel, and how it is best made. Raises LoweringError where there is not one."""
    region = node.regions[0]
    products = [inner for inner in region.nodes if inner.op == "matmul"]
    if len(products) != 1:
        raise LoweringError(f"kernel {node.attrs['name']}: not one product")
    (product,) = products
    result, flipped = product.result, bool(product.attrs["transpose_a"])
    m, n = (size_of(dim) for dim in result.type.shape[-2:])
    k = size_of(product.operands[0].type.shape[-2 if flipped else -1])
    kind: Kind = "broadcast"
    as_transpose = False
    if n == Size(1) and m != Size(1) and target.lanes(result.type.dtype.computed.bytes) > 1:
        kind, as_transpose = "broadcast" if flipped else "across", True
    m, n = (n, m) if as_transpose else (m, n)
    domain = analyse(region, node.attrs["leading"], leaf=result)
    terms = closure(store.term for store in domain.stores)
    whole = [store.term for store in domain.stores]
    whole += [term for term in terms if isinstance(term, Walk) and len(term.axes) == result.type.rank]
    return ProductShape(
        kind,
        as_transpose,
        m,
        n,
        k,
        tuple(size_of(dim) for dim in result.type.shape[:-2]),
        result.type.dtype.computed.bytes,
        flipped or as_transpose,
        bool(product.attrs["transpose_b"]) and not as_transpose,
        instruction_count(terms),
        sum(TYPES[term.kind].lane_bytes for term in whole),
        any(isinstance(term, Uniform) for term in terms),
        capacity,
    )
