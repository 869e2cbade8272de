"""The general family: pointwise work and reductions over any axes, as one loop nest for each group of outputs.

Outputs with the same parallel axes share loops over them. The axis that most accesses walk with stride 1 is the vector
axis, whether it is parallel or reduced, and is innermost. How is decided by `plan.py`, from shapes and machine, and
written by one of two writers: for vectors, or for single elements where there are no axes at all.
"""

from __future__ import annotations

from typing import assert_never

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Buffer, Function
from tapeless.codegen.nests.element_nest import write_elements
from tapeless.codegen.nests.plan import ElementPlan, KernelPlan, VectorPlan
from tapeless.codegen.nests.vector_nest import VectorNest
from tapeless.ir.target import Target

__all__ = ["write"]


def write(name: str, buffers: tuple[Buffer, ...], chosen: KernelPlan, target: Target) -> Function:
    """The kernel that a plan describes."""
    builder = Builder(target)
    scratch: list[Buffer] = []
    for nest in chosen.nests:
        match nest:
            case ElementPlan():
                write_elements(builder, buffers, nest, chosen.parts)
            case VectorPlan():
                writer = VectorNest(builder, buffers, nest)
                writer.write(chosen.parts)
                scratch += [] if writer.scratch is None else [writer.scratch]
            case _:
                assert_never(nest)
    widest = sorted(scratch, key=lambda buffer: buffer.bytes)[-1:]  # nests come one after the other
    return Function(name, (*buffers, *widest), chosen.parts, tuple(builder.block))
