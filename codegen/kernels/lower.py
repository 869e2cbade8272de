"""From a kernel node to its loops: one lowering for each family, by table."""

from __future__ import annotations

from collections.abc import Callable

from tapeless.codegen.kernels.along_axis import lower_along, lower_argsort
from tapeless.codegen.kernels.convolution import lower_convolution
from tapeless.codegen.kernels.convolution_shares import lower_convolution_shares
from tapeless.codegen.kernels.factorisation import lower_cholesky, lower_triangular_solve
from tapeless.codegen.kernels.flash_attention import lower_attention, lower_attention_gradient
from tapeless.codegen.kernels.matmul import Product
from tapeless.codegen.kernels.matrix_vector import Column
from tapeless.codegen.kernels.nests import lower_nest
from tapeless.codegen.kernels.pack import lower_pack
from tapeless.codegen.kernels.permutation import lower_permutation
from tapeless.codegen.kernels.planned import Planned
from tapeless.codegen.kernels.product_plan import Kind, ProductPlan, ProductShape, other_plans, plan_product
from tapeless.codegen.kernels.product_shape import product_shape
from tapeless.codegen.kernels.recurrence import lower_recurrence
from tapeless.codegen.kernels.scatter import lower_scatter
from tapeless.codegen.loops.language import Function
from tapeless.ir.graph import Node
from tapeless.ir.target import Target

__all__ = ["FAMILIES", "lower_kernel"]


def lower_matmul(node: Node, target: Target, capacity: int) -> Planned:
    shape = product_shape(node, capacity, target)
    plan = plan_product(shape, target.machine)
    return Planned(
        plan, lambda plan: write_product(node, target, shape, plan), lambda: other_plans(shape, plan, target.machine)
    )


WRITERS: dict[Kind, type[Product]] = {"broadcast": Product, "across": Column}


def write_product(node: Node, target: Target, shape: ProductShape, plan: ProductPlan) -> Function:
    """A product by any plan that is possible for its kind."""
    return WRITERS[plan.kind](node, target, shape, plan).function()


FAMILIES: dict[str, Callable[[Node, Target, int], Planned]] = {
    "nest": lower_nest,
    "matmul": lower_matmul,
    "convolution": lower_convolution,
    "convolution_shares": lower_convolution_shares,
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


def planned(node: Node, target: Target, capacity: int) -> Planned:
    """What was decided of a `kernel` node, for at most `capacity` rows, and how it is written."""
    return FAMILIES[node.attrs["family"]](node, target, capacity)


def lower_kernel(node: Node, target: Target, capacity: int) -> Function:
    """The loops of a `kernel` node by the plan that is expected to be the best. Names inside are canonical: kernels
    that differ only in the names of their values give functions that differ only in `name`.
    """
    made = planned(node, target, capacity)
    return made.write(made.plan)
