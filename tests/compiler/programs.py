"""Running small programs in the reference interpreter, for the tests beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tapeless.compiler.model import Model, load
from tapeless.ir.graph import Graph
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType
from tapeless.ir.verifier import verify

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]


def model(text: str, **sizes: int | float) -> Model:
    """A program in float64, every graph of it verified."""
    loaded = load(text, "model.tl", sizes=sizes, dtype=DType.F64)
    for graph in (*loaded.forward.values(), loaded.init, loaded.update):
        verify(graph)
    return loaded


def started(loaded: Model, seed: tuple[int, int] = (1, 2)) -> Arrays:
    """Every slot's starting value."""
    return run(loaded.init, {"seed": np.array(seed, np.uint32)})


def ran(graph: Graph, state: Mapping[str, Any], data: Mapping[str, Any], rows: int | None = None) -> Arrays:
    """A graph's outputs; inputs are found among the state and the data by their keys."""
    known = {**state, **data}
    return run(graph, {port.key: known[port.key] for port in graph.inputs}, rows=rows)


def evaluated(
    text: str, training: bool = False, rows: int | None = None, sizes: Mapping[str, int] | None = None, **data: Any
) -> Arrays:
    """What a model yields for data, from its starting values."""
    loaded = model(text, **(sizes or {}))
    return ran(loaded.forward[training], started(loaded), data, rows)


def value(expression: str, declarations: str = "", before: str = "", **data: Any) -> Any:
    """The value of an expression of inputs; data decides their kinds and shapes. The result needs a leading batch
    axis.
    """
    lines = []
    for name, array in data.items():
        array = np.asarray(array)
        dims = ", ".join(["batch", *map(str, array.shape[1:])])
        integer = array.dtype.kind in "iu"
        kind = "int" if integer else "bool" if array.dtype.kind == "b" else ""
        bound = f" < {int(array.max()) + 1}" if integer else ""
        lines.append(f"    input {name}: {kind}[{dims}]{bound}")
    steps = "".join(f"    {line}\n" for line in before.splitlines())
    text = f"{declarations}\nmodel M:\n" + "\n".join(lines) + f"\n{steps}    output result = {expression}\n"
    return evaluated(text, **data)["result"]
