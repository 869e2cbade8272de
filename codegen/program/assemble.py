"""From the fused graphs of a program's entries to an image: one object file, and a manifest that says how to use it.

All entries of an image share one LLVM module and their kernels: two kernels of equal structure are one function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any, Protocol

from tapeless.codegen.kernels.lower import planned
from tapeless.codegen.llvm import native
from tapeless.codegen.llvm.emission import Emission
from tapeless.codegen.llvm.functions import function_text, module_head, module_text
from tapeless.codegen.llvm.units import Units, bound_of
from tapeless.codegen.loops.language import Function
from tapeless.codegen.program.barrier import barrier
from tapeless.codegen.program.denormals import FLUSHING
from tapeless.codegen.program.driver import driver
from tapeless.codegen.program.effort import effort
from tapeless.codegen.program.memory import Layout, layout
from tapeless.codegen.program.schedule import Lowered, Scheduled, schedule
from tapeless.codegen.program.shares import sharing
from tapeless.codegen.program.structure import kernel_key, structure
from tapeless.codegen.program.tuning import Plans, chosen
from tapeless.ir.graph import Graph, Node, Part, Span
from tapeless.ir.linkage import ascii_name
from tapeless.ir.stacking import turn_names
from tapeless.ir.target import Target
from tapeless.ir.types import DType, Rows, Tensor

FORMAT = 1


class SlotDescription(Protocol):
    """A tensor of the program's state, as the compiler names it."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> Tensor: ...
    @property
    def role(self) -> str: ...
    @property
    def frozen(self) -> bool: ...
    @property
    def turns(self) -> Sequence[range]: ...


class DataDescription(Protocol):
    """An input or target; integers that index have a bound."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> Tensor: ...
    @property
    def role(self) -> str: ...
    @property
    def bound(self) -> int | None: ...
    @property
    def ignored(self) -> Sequence[int]: ...


class ProgramDescription(Protocol):
    """What an image tells of the program it was made from."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> DType: ...
    @property
    def identity(self) -> Mapping[str, Any]: ...
    @property
    def slots(self) -> Sequence[SlotDescription]: ...
    @property
    def data(self) -> Sequence[DataDescription]: ...
    @property
    def settings(self) -> Any: ...
    @property
    def denormals(self) -> str: ...
    @property
    def statistics(self) -> Span | None: ...


@dataclass(frozen=True)
class Image:
    """Machine code for some entries of a program, with everything it was made from, for inspection.

    `code` is whole when it is first asked for.
    """

    manifest: Mapping[str, Any]
    llvm: str
    target: Target
    schedules: Mapping[str, Scheduled]
    functions: Mapping[str, Function]
    emission: Emission

    @property
    def code(self) -> bytes:
        """The object file."""
        return self.emission.object

    @property
    def assembly(self) -> str:
        return native.assembly(self.llvm, self.target)


def compile_image(
    program: ProgramDescription,
    entries: Iterable[tuple[str, Graph]],
    target: Target,
    capacity: int,
    plans: Plans | None = None,
    threads: int = 1,
) -> Image:
    """Compile fused entry graphs for a target, with batches of at most `capacity` rows; `plans` are those that tuning
    has found. With several `threads`, those beside the caller's make machine code of what is planned already, while the
    rest is, and while the graphs come.
    """
    emission = Emission(target, threads)
    try:
        return _compiled(program, entries, target, capacity, plans or {}, emission)
    except BaseException:
        emission.drop()
        raise


def _compiled(
    program: ProgramDescription,
    entries: Iterable[tuple[str, Graph]],
    target: Target,
    capacity: int,
    plans: Plans,
    emission: Emission,
) -> Image:
    state, gradients, trained = _blocks(program)
    bodies: list[str] = []
    units = Units(module_head(target), emission.add, bound_of(target))
    units.add([barrier(target), sharing()])

    def written(function: Function) -> None:
        bodies.append(function_text(function, target))
        units.add(bodies[-1:])

    kernels = _Kernels(target, capacity, plans, written)
    data = {tensor.name: tensor for tensor in program.data}
    schedules, described = {}, {}
    drivers: list[str] = []
    for name, graph in entries:
        scheduled = schedule(graph, kernels.lower, state, gradients, capacity, target.machine)
        schedules[name] = scheduled
        types = {port.label: port.value.type for port in graph.inputs if port.role == "data"}
        inputs = [data[label] for label in data if label in types]
        outputs = [port for port in graph.outputs if port.role == "output"]
        carries = [port for port in graph.inputs if port.role == "carry"]
        symbol = f"tl_{ascii_name(program.name.lower())}_{name}"  # `digits_...` is the C header's plain functions
        keys = [port.key for port in carries]
        made = driver(
            symbol,
            scheduled,
            [*(d.name for d in inputs), *keys],
            [*(port.key for port in outputs), *keys],
            capacity,
            target,
            name in FLUSHING and program.denormals == "flush",
        )
        units.add(made)
        drivers += made
        described[name] = {
            "symbol": symbol,
            "workspace": scheduled.workspace,
            "scratch": scheduled.scratch,
            "effort": effort(scheduled.graph, target.machine, capacity),
            "data": [
                {**_tensor(d.name, types[d.name]), "role": d.role, "bound": d.bound, "ignored": list(d.ignored)}
                for d in inputs
            ],
            "outputs": [_tensor(port.label, port.value.type) for port in outputs],
            "places": next((port.places for port in carries if port.places), None),
            "carries": [_tensor(port.label, port.value.type) for port in carries],
            "results": [
                {"name": port.label, "role": port.role, "line": _line(port.span), **_part(port.part)}
                for port in graph.outputs
                if port.role in ("loss", "metric", "part")
            ],
        }
    units.finish()
    manifest = {
        "format": FORMAT,
        "model": program.name,
        "dtype": program.dtype.value,
        "capacity": capacity,
        "target": {key: getattr(target, key) for key in ("name", "triple", "cpu", "features")},
        "state": _block(state, program.slots),
        "gradients": _block(gradients, trained),
        "data": [
            {**_tensor(d.name, d.type), "role": d.role, "bound": d.bound, "ignored": list(d.ignored)}
            for d in program.data
        ],
        "entries": described,
        "settings": asdict(program.settings),
        "statistics": _line(program.statistics),
        "program": program.identity,
    }
    return Image(
        manifest,
        module_text([*bodies, barrier(target), sharing(), *drivers], target),
        target,
        schedules,
        dict(kernels.named),
        emission,
    )


def _blocks(program: ProgramDescription) -> tuple[Layout, Layout, list[SlotDescription]]:
    """The blocks of state and of gradients, and what is trained."""
    trained = [slot for slot in program.slots if slot.role == "param" and not slot.frozen]
    state = layout([(slot.name, slot.type) for slot in program.slots])
    return state, layout([(slot.name, slot.type) for slot in trained]), trained


class Scales:
    """Weighs fused graphs of one entry: the bytes of state, gradients and workspace that an image of them would
    plan."""

    def __init__(self, program: ProgramDescription, target: Target, capacity: int) -> None:
        self._state, self._gradients, _ = _blocks(program)
        self._kernels, self._capacity, self._machine = _Kernels(target, capacity, {}, None), capacity, target.machine

    def bytes(self, graph: Graph) -> int:
        """The bytes of one graph; kernels that it has in common with others are planned once."""
        planned = schedule(graph, self._kernels.lower, self._state, self._gradients, self._capacity, self._machine)
        return self._state.bytes + self._gradients.bytes + planned.workspace + planned.scratch


class _Kernels:
    """The functions of an image: one for each structure of kernel; `written` is told each as it is made."""

    def __init__(self, target: Target, capacity: int, plans: Plans, written: Callable[[Function], None] | None) -> None:
        self._target, self._capacity, self._plans, self._written = target, capacity, plans, written
        self.lowered: dict[object, Lowered] = {}
        self.named: dict[str, Function] = {}

    def lower(self, node: Node) -> Lowered:
        key = structure(node)
        if key not in self.lowered:
            made = planned(node, self._target, self._capacity)
            plan = chosen(made, kernel_key(node), self._plans)
            function = made.write(plan)
            base = name = ascii_name(f"{node.attrs['family']}.{node.attrs['name']}")
            while name in self.named:
                name = f"{base}.{len(self.named)}"
            function = replace(function, name=name)
            self.named[function.name] = function
            if self._written:
                self._written(function)
            self.lowered[key] = Lowered(function, plan)
        return self.lowered[key]


def _tensor(name: str, type: Tensor) -> dict[str, Any]:
    shape = [str(dim) if isinstance(dim, Rows) else dim for dim in type.shape]
    return {"name": name, "dtype": type.dtype.value, "shape": shape}


def _block(block: Layout, slots: Sequence[SlotDescription]) -> dict[str, Any]:
    """A block's tensors, by name and place. Those that turns of one loop have stand together, turn by turn, as they
    would if each turn were written out.
    """
    described = []
    for turns, group in groupby(slots, key=lambda slot: tuple(slot.turns)):
        parts = [_turns(slot, block.offsets[slot.name]) for slot in group]
        described += (
            [tensor for turn in zip(*parts, strict=True) for tensor in turn] if turns else [part for (part,) in parts]
        )
    return {"bytes": block.bytes, "slots": described}


def _turns(slot: SlotDescription, offset: int) -> list[dict[str, Any]]:
    """The tensors that a slot holds, one behind the other."""
    type = slot.type.with_shape(slot.type.shape[len(slot.turns) :])
    names = turn_names(slot.name, slot.turns)
    return [
        {**_tensor(name, type), "offset": offset + k * type.bytes(0), "role": slot.role} for k, name in enumerate(names)
    ]


def _part(part: Part | None) -> dict[str, Any]:
    """How the manifest says which part of a loss or metric a port holds."""
    return {"part": part.kind, "term": part.term} if part else {}


def _line(span: Span | None) -> int | None:
    return span.line if span else None
