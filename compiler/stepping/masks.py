"""What masks leave: of a value with two axes of places, what its elements are beyond a place of the first."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeless.ir.graph import Node
from tapeless.ir.interpreter import computed_dtypes, evaluate
from tapeless.ir.ops import OPERATIONS, Run
from tapeless.ir.types import Tensor

Array = np.ndarray[Any, np.dtype[Any]]


class Beyond(enum.Enum):
    """What elements of later places are, where they are not all one number."""

    OPEN = "made of later places"
    SETTLED = "made of no later place"
    FAR = "far below all others: their exponential is zero"


State = Beyond | float
FAR_BELOW = -1e20  # what stands for minus infinity in a mask; std/attention.tl has -1e30
PRODUCTS = ("mul", "strong_product")
EXPONENTIALS = ("exp", "exp2", "sigmoid")
# operations whose results are not far below all others, whatever their operands are
MODERATE = (*EXPONENTIALS, "tanh", "erf")


def applied(node: Node, operands: Sequence[Array], types: Sequence[Tensor]) -> Array:
    """The first result of an operation on arrays, for one row."""
    dtypes = computed_dtypes()
    run = Run(node.attrs, node.regions, types, 1, dtypes, lambda region, arrays: evaluate(region, arrays, 1, dtypes))
    with np.errstate(all="ignore"):
        made = OPERATIONS[node.op].reference(run, operands)
    return np.asarray(made[0] if isinstance(made, tuple) else made)


def is_far(state: State) -> bool:
    return state is Beyond.FAR or (isinstance(state, float) and state <= FAR_BELOW)


def is_moderate(array: Array) -> bool:
    """Whether numbers are neither far from zero nor unknown."""
    return bool((np.abs(array) < -FAR_BELOW).all())


def hides(op: str, operand: int, state: State) -> bool:
    """Whether one operand alone decides the result, if it is in that state and all others are finite."""
    if op in PRODUCTS or (op == "div" and operand == 0):
        return state == 0.0
    return (op == "add" or (op == "sub" and operand == 0)) and is_far(state)


def combined(node: Node, states: Sequence[State]) -> State:
    """What an operation's result is beyond a place, from what its operands are there."""
    product = node.op in (*PRODUCTS, "matmul")
    if node.op == "select" and isinstance(states[0], float):
        return states[1] if states[0] else states[2]
    if node.op == "select" and isinstance(states[1], float) and states[1] == states[2]:
        return states[1]
    if (product and 0.0 in states) or (node.op == "div" and states[0] == 0.0):
        return 0.0
    if OPERATIONS[node.op].family == "pointwise" and all(isinstance(state, float) for state in states):
        operands = [
            np.asarray(state, value.type.dtype.numpy) for state, value in zip(states, node.operands, strict=True)
        ]
        return float(applied(node, operands, (node.result.type.with_shape(()),)))
    if node.op in EXPONENTIALS and is_far(states[0]):
        return 0.0
    if any(hides(node.op, k, state) for k, state in enumerate(states)):
        return Beyond.FAR
    if (
        product
        and any(map(is_far, states))
        and all(is_far(each) or (isinstance(each, float) and each > 0) for each in states)
    ):
        return Beyond.FAR
    if node.op in ("broadcast", "transpose", "stop_gradient", "with_derivative"):
        return states[0]
    return Beyond.OPEN if any(state in (Beyond.OPEN, Beyond.FAR) for state in states) else Beyond.SETTLED
