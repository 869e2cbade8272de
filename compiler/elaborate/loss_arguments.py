"""What losses are given: scores that have been squashed before, or scores of a single class.

A function of scores (its parameter is called `logits`) squashes them itself. What has been through `softmax` or
`sigmoid` already is still something that it can compute with, so nothing fails and the model learns badly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.values import Binding, Computed
from tapeless.compiler.language import ast
from tapeless.ir.graph import Value

# Functions whose results are no scores, by name: a user's copy of one counts like that of the standard library.
SQUASHING = frozenset({"softmax", "log_softmax", "softmin", "sigmoid", "log_sigmoid", "sparsemax"})
# By parameter: what it must not be the result of, and what it is instead.
_UNFIT: Mapping[str, tuple[frozenset[str], str]] = {
    "logits": (SQUASHING, "takes scores, and squashes them itself"),
    "log_probs": (SQUASHING - {"log_softmax", "log_sigmoid"}, "takes the logarithms of probabilities"),
}
# Losses that compare a class with the others: over one class they are zero.
_OF_CLASSES = frozenset({"cross_entropy", "negative_log_likelihood", "categorical_focal"})
# What moves elements and leaves them as they are.
_VIEWS = frozenset({"reshape", "transpose", "broadcast", "slice", "cast", "stop_gradient"})
_PRIMITIVE = {"sigmoid": "sigmoid"}  # operations that squash, by the name of their function


def squashed_by(emitter: Emitter, value: Value) -> str | None:
    """The function that has made probabilities, or their logarithms, of what a value is a view of."""
    producers = {made: node for node in emitter.builder.nodes for made in node.results}
    seen: Value | None = value
    while seen is not None:
        if seen in emitter.squashed:
            return emitter.squashed[seen]
        node = producers.get(seen)
        if node is None:
            return None
        if node.op in _PRIMITIVE:
            return _PRIMITIVE[node.op]
        seen = node.operands[0] if node.op in _VIEWS else None
    return None


def unfit(emitter: Emitter, parameter: ast.Parameter, bound: Mapping[str, Binding]) -> tuple[str, str] | None:
    """The function that an argument should not have been through, and what the parameter takes instead."""
    kinds, instead = _UNFIT.get(parameter.name, (frozenset(), ""))
    value = bound[parameter.name].value
    scores = bound.get("from_logits")
    if not kinds or not isinstance(value, Computed) or (scores is not None and scores.value is False):
        return None
    made = squashed_by(emitter, value.value)
    return (made, instead) if made in kinds else None


def of_one_class(function: str, parameter: ast.Parameter, value: Any) -> bool:
    """Whether a loss of classes is given scores of a single one."""
    return (
        function in _OF_CLASSES
        and parameter.name in _UNFIT
        and isinstance(value, Computed)
        and value.shape[-1:] == (1,)
    )
