"""Where tensors lie while a step runs: the memory plan's places as addresses.

Data and outputs have an address for all rows and one for the rows of this batch; the bases of all else are the
context's pointers, or what the loops that are open make of them. In a loop whose rows are cut into parts, a thread has
the workspace of all its parts: places are as many times as far apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy

from tapeless.codegen.llvm.builder import FunctionBuilder, Value, integer
from tapeless.codegen.program.memory import Place
from tapeless.codegen.program.schedule import ORDER, Scheduled, assembles
from tapeless.ir.graph import Node
from tapeless.ir.graph import Value as Tensors
from tapeless.ir.ops import VIEWS
from tapeless.ir.types import DType, Rows, Tensor

__all__ = ["Addresses", "row_bytes"]


class Addresses:
    """`bases`: the context's blocks by name; `whole`: data and outputs, by `data.x` or `output.y`."""

    def __init__(
        self, f: FunctionBuilder, scheduled: Scheduled, bases: Mapping[str, Value], whole: Mapping[str, Value]
    ) -> None:
        self.f = f
        self.context = dict(bases)
        self.bases = dict(bases)  # as the loops that are open move them
        self.parts: Value | None = None  # how many a thread has of the loop that is cut, if one is open
        self.whole = dict(whole)
        self.batch = scheduled.batch
        self.here: dict[str, Value] = {}
        self.moved: dict[str, Value] = {}
        graph = scheduled.graph
        self.types = {f"data.{port.key}": port.value.type for port in graph.inputs if port.role in ("data", "carry")}
        self.types |= {
            f"output.{port.key}": port.value.type for port in graph.outputs if port.role in ("output", "carry")
        }
        self.assembled = {name: label for label, (name, _) in self.batch.items()}
        self.root: dict[Tensors, Tensors] = {}
        for node in graph.nodes:
            if node.op in VIEWS:
                self.root[node.result] = self.root.get(node.operands[0], node.operands[0])

    def begin_batch(self, position: Value | None, first: Value | None, gathered: Value) -> None:
        """Where the order, and each data input's and each output's rows, of the batch at a position lie; no position:
        of all rows at once. The data's rows are `gathered`, or those from the `first` on.
        """
        if position is not None:
            offset = self.f.mul("order.bytes", position, integer(DType.I32.bytes))
            self.context[ORDER] = self.bases[ORDER] = self.f.gep("order.here", self.context[ORDER], offset)
        for k, (base, pointer) in enumerate(self.whole.items()):
            if base not in self.types:
                continue
            (kind, _, label), type, here = base.partition("."), self.types[base], f"here{k}"
            stride = row_bytes(type) if label in self.batch or _has_rows(type) else 0
            if position is None or not stride:
                self.here[base] = self.f.gep(here, pointer, 0)
                continue
            of_data = label in self.batch and kind == "data" and first is not None
            offset = self.f.mul(f"{here}.bytes", first if of_data and first else position, integer(stride))
            rows = self.f.gep(f"{here}.rows", pointer, offset)
            if of_data:
                copied = self.f.gep(f"{here}.batch", self.bases["workspace"], self.batch[label][1].offset)
                self.here[base] = self.f.select(here, gathered, copied, rows)
            else:
                self.here[base] = self.f.gep(here, rows, 0)

    def move(self, bases: Mapping[str, Value]) -> None:
        """Bases that are elsewhere in each batch: of slots that take turns."""
        self.moved = dict(bases)
        self.context |= bases
        self.bases |= bases

    def elsewhere(
        self,
        f: FunctionBuilder,
        bases: Mapping[str, Value],
        whole: Mapping[str, Value],
        here: Mapping[str, Value],
    ) -> Addresses:
        """The same in another function, which has all of them anew."""
        made = copy(self)
        made.f, made.context, made.bases, made.whole, made.here = f, dict(bases), dict(bases), dict(whole), dict(here)
        return made

    def of_task(self, task: Node) -> list[Value]:
        """Operands, results and scratch of a task or loop."""
        places = [*task.attrs["places"], *filter(None, [task.attrs["scratch"]])]
        values: Sequence[Tensors | None] = [*task.operands, *task.results, None]
        return [
            self.of(Place.parse(place), assembles(task), value) for place, value in zip(places, values, strict=False)
        ]

    def of(self, place: Place, assembling: bool = False, value: Tensors | None = None) -> Value:
        """A place; where a batch is assembled, data lie as a whole. A value that was assembled lies as data do, if
        there was no order to assemble it by.
        """
        if value is not None and not assembling:
            label = self.assembled.get(self.root.get(value, value).name)
            if label is not None and place == self.batch[label][1]:
                return self.here[f"data.{label}"]
        if place.base in self.whole:
            return (self.whole if assembling else self.here)[place.base]
        base = self.bases[place.base]
        if not place.offset:
            return base
        return self.f.gep(self.f.fresh(place.base.partition(".")[0]), base, self.apart(place.offset))

    def apart(self, bytes: int) -> Value | int:
        """So many bytes of workspace in each part that a thread has of a loop."""
        if self.parts is None or not bytes:
            return bytes
        return self.f.mul(self.f.fresh("apart"), self.parts, integer(bytes))

    @contextmanager
    def within(self, bases: Mapping[str, Value], parts: Value | None = None) -> Iterator[None]:
        """Inside a loop, whose operands and results move, and whose workspace is its own; with `parts`, that of the
        parts that a thread has of it.
        """
        outer = self.bases, self.parts
        self.bases, self.parts = self.context | dict(bases), parts or self.parts
        try:
            yield
        finally:
            self.bases, self.parts = outer


def row_bytes(type: Tensor) -> int:
    """The bytes of one row: of a tensor whose first dimension holds the rows."""
    if not _has_rows(type):
        return Tensor(type.dtype, type.shape[1:]).bytes(1)
    return type.bytes(1)


def _has_rows(type: Tensor) -> bool:
    return any(isinstance(dim, Rows) for dim in type.shape)
