"""What makes two kernels one function: what they compute, of which types, and where it lies."""

from __future__ import annotations

import hashlib

from tapeless.ir.graph import Node

__all__ = ["kernel_key", "structure"]


def structure(node: Node) -> object:
    """What two kernel nodes share if and only if they compute the same from operands of the same types and layout."""
    (region,) = node.regions
    number = {port.value: k for k, port in enumerate(region.inputs)}
    steps = []
    for inner in region.nodes:
        operands = tuple(number[value] for value in inner.operands)
        for value in inner.results:
            number[value] = len(number)
        types = tuple(value.type for value in inner.results)
        steps.append((inner.op, operands, types, tuple(sorted(inner.attrs.items()))))
    inputs = tuple(port.value.type for port in region.inputs)
    outputs = tuple(number[port.value] for port in region.outputs)
    return (node.attrs["family"], node.attrs["leading"], inputs, tuple(steps), outputs)


def kernel_key(node: Node) -> str:
    """A kernel's structure as a short word."""
    return hashlib.sha256(repr(structure(node)).encode()).hexdigest()[:24]
