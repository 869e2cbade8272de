"""Running graphs natively without the language: what the tests of the whole pipeline share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapeless.codegen.program.assemble import compile_image
from tapeless.compiler.passes.pipelines import SIMPLIFICATION, Pass, lowered, lowering, simplified
from tapeless.compiler.passes.pipelines import run as run_passes
from tapeless.ir import text
from tapeless.ir.graph import STATE_ROLES, Graph
from tapeless.ir.interpreter import run
from tapeless.ir.target import Target, host
from tapeless.ir.types import DType, Tensor
from tapeless.ir.verifier import verify
from tapeless.runtime.buffers import block
from tapeless.runtime.call import Call, Memory
from tapeless.runtime.image import Image


@dataclass(frozen=True)
class Slot:
    name: str
    type: Tensor
    role: str
    frozen: bool = False
    turns: tuple[range, ...] = ()


@dataclass(frozen=True)
class Data:
    name: str
    type: Tensor
    role: str = "input"
    bound: int | None = None
    ignored: tuple[int, ...] = ()


@dataclass(frozen=True)
class Source:
    text: str = ""


@dataclass(frozen=True)
class Settings:
    batch: int = 64


@dataclass(frozen=True)
class Program:
    """Stands where the front end's model stands: a name, state and data."""

    dtype: DType
    slots: tuple[Slot, ...]
    data: tuple[Data, ...]
    forward: Mapping[bool, Graph] = field(default_factory=dict)
    name: str = "Test"
    source: Source = Source()
    settings: Settings = Settings()
    denormals: str = "flush"
    statistics: None = None
    identity: Mapping[str, Any] = field(default_factory=dict)


def program_of(graph: Graph, dtype: DType) -> Program:
    """A program whose state and data are a graph's inputs."""
    slots = tuple(Slot(p.label, p.value.type, p.role) for p in graph.inputs if p.role in STATE_ROLES)
    data = tuple(Data(p.label, p.value.type) for p in graph.inputs if p.role == "data")
    return Program(dtype, slots, data, {True: graph, False: graph})


def check_passes(
    graph: Graph, inputs: Mapping[str, Any], rows: int, tolerance: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Run a graph before and after every pass: the same values, well formed, and the same graph when read back from its
    text. Returns the values before."""
    before = run(graph, inputs, rows=rows)

    def hold(step: Pass, graph: Graph) -> None:
        verify(graph)
        assert text.read(text.write(graph)) == graph
        after = run(graph, inputs, rows=rows)
        assert after.keys() == before.keys()
        for key, value in before.items():
            np.testing.assert_allclose(after[key], value, **tolerance, err_msg=f"{step.name}: {key}")

    run_passes((*SIMPLIFICATION, *lowering(host().machine)), graph, hold)
    return before


def run_native(
    program: Program,
    graph: Graph,
    inputs: Mapping[str, Any],
    rows: int,
    capacity: int,
    threads: int = 1,
    target: Target | None = None,
) -> dict[str, np.ndarray]:
    """Compile a graph as an entry, for this machine if not told otherwise, run it once over `rows` rows and return
    its outputs by key.

    Losses and metrics come as means over rows, gradients and state from their blocks.
    """
    return run_image(image_of(program, graph, capacity, target), graph, inputs, rows, threads)


def image_of(program: Program, graph: Graph, capacity: int, target: Target | None = None) -> Image:
    target = target or host()
    made = compile_image(program, [("entry", lowered(simplified(graph), target.machine))], target, capacity)
    return Image.from_object(made.manifest, made.code)


def run_image(
    image: Image, graph: Graph, inputs: Mapping[str, Any], rows: int, threads: int = 1
) -> dict[str, np.ndarray]:
    """As `run_native`, of what is compiled already."""
    state, slots = block(image.manifest.state)
    gradients, grads = block(image.manifest.gradients)
    for name, view in slots.items():
        if name in inputs:
            view[...] = inputs[name]
    entry = image.manifest.entries["entry"]
    arrays = [np.ascontiguousarray(inputs[d.name], d.dtype) for d in entry.data]
    outputs = [np.full(o.concrete(rows), 77, o.dtype) for o in entry.outputs]
    call = Call(image, "entry", Memory(state, gradients), threads, arrays, outputs)
    call.run(0, rows)
    found = {o.name: value for o, value in zip(entry.outputs, outputs, strict=True)}
    found |= {r.name: np.asarray(total / max(rows, 1)) for r, total in zip(entry.results, call.sums, strict=False)}
    for port in graph.outputs:
        if port.role == "gradient":
            found[port.key] = grads[port.label].copy()
        elif port.role == "state":
            found[port.key] = slots[port.label].copy()
    return found
