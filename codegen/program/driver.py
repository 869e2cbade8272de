"""The driver of an entry: one LLVM function that walks the batches, runs the phases and lets threads meet between them.

    int32_t entry(tl_context *context, int32_t thread)

Every thread runs it with its own number. For each batch: find its rows, or assemble them by the order; run the phases;
add losses and metrics, times rows, to the sums (numerators and denominators of totals as they are). A loop's steps run
the phases of its body. An entry whose tasks all have one part runs on thread 0 alone, and so does a loop of such tasks
on the thread it falls to. What the context holds, and where, is told by `tapeless.abi.calls`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tapeless.abi.calls import CONTEXT, LINE, NOT_FINITE, offsets, pointers_at
from tapeless.codegen.program.memory import Place, align
from tapeless.codegen.program.schedule import ORDER, Scheduled, assembles, cost
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.types import DType, Rows, Tensor

SPINS = 2000  # turns of waiting before the host is asked to let others run

_BARRIER = """\
define internal void @meet(ptr %context, i64 %thread) noinline {{
entry:
  %barrier.at = getelementptr i8, ptr %context, i64 {barrier}
  %flags = load ptr, ptr %barrier.at
  %threads.at = getelementptr i8, ptr %context, i64 {threads}
  %threads = load i64, ptr %threads.at
  %yield.at = getelementptr i8, ptr %context, i64 {yield_}
  %yield = load ptr, ptr %yield.at
  %own.offset = mul i64 %thread, {line}
  %own = getelementptr i8, ptr %flags, i64 %own.offset
  %epoch = load i64, ptr %own
  %next = add i64 %epoch, 1
  store atomic i64 %next, ptr %own release, align 8
  br label %others
others:
  %other = phi i64 [ 0, %entry ], [ %other.next, %arrived ]
  %all = icmp eq i64 %other, %threads
  br i1 %all, label %leave, label %look
look:
  %offset = mul i64 %other, {line}
  %flag = getelementptr i8, ptr %flags, i64 %offset
  br label %wait
wait:
  %spins = phi i64 [ 0, %look ], [ %spins.next, %again ]
  %seen = load atomic i64, ptr %flag acquire, align 8
  %here = icmp sge i64 %seen, %next
  br i1 %here, label %arrived, label %again
again:
  %spins.next = add i64 %spins, 1
  %long = icmp sgt i64 %spins.next, {spins}
  %can = icmp ne ptr %yield, null
  %rest = and i1 %long, %can
  br i1 %rest, label %give, label %wait
give:
  call void %yield()
  br label %wait.reset
wait.reset:
  br label %look
arrived:
  %other.next = add i64 %other, 1
  br label %others
leave:
  ret void
}}
"""


def barrier(pointer: int) -> str:
    """The function in which threads meet, on a machine whose pointers have so many bytes."""
    return _BARRIER.format(**offsets(pointer), line=LINE, spins=SPINS)


@dataclass(frozen=True)
class Driver:
    """An entry's driver: its LLVM text, and what a host must know of it."""

    text: str
    parallel: bool


def driver(
    symbol: str, scheduled: Scheduled, data: Sequence[str], outputs: Sequence[str], capacity: int, pointer: int
) -> Driver:
    """Write an entry's driver. `data` and `outputs` are the keys of the pointers behind the context's fields, in
    order; a pointer has `pointer` bytes.
    """
    writer = _Writer(symbol, scheduled, data, outputs, capacity, pointer)
    return Driver("\n".join(writer.lines()) + "\n", writer.parallel)


class _Writer:
    """Writes one driver. `%p` is the position of the batch, `%rows` its size."""

    def __init__(
        self,
        symbol: str,
        scheduled: Scheduled,
        data: Sequence[str],
        outputs: Sequence[str],
        capacity: int,
        pointer: int,
    ) -> None:
        self.symbol, self.graph, self.capacity, self.pointer = symbol, scheduled.graph, capacity, pointer
        self.batch, self.data, self.outputs = scheduled.batch, list(data), list(outputs)
        self.root: dict[Value, Value] = {}
        for node in self.graph.nodes:
            if node.op == "reshape":
                self.root[node.result] = self.root.get(node.operands[0], node.operands[0])
        self.tasks = _tasks(self.graph)
        self.parallel = any(_shared(task) for task in self.tasks)
        self.places: dict[str, str] = {"workspace": "%workspace"}  # bases, as the loops that are open move them
        self.assembled = {name: label for label, (name, _) in self.batch.items()}
        self.assembly = {label: str(place) for label, (_, place) in self.batch.items()}
        self.walks = bool(self.data or self.outputs) and not _whole(self.graph)
        self.count = 0

    def name(self, hint: str) -> str:
        self.count += 1
        return f"{hint}.{self.count}"

    def lines(self) -> Iterator[str]:
        yield f"define i32 @{self.symbol}(ptr %context, i32 %thread32) {{"
        yield "entry:"
        yield "  %thread = sext i32 %thread32 to i64"
        at = offsets(self.pointer)
        for field in CONTEXT:
            name = field.name.rstrip("_")
            yield f"  %{name}.at = getelementptr i8, ptr %context, i64 {at[field.name]}"
            if name not in ("status", "done"):
                yield f"  %{name} = load {'ptr' if field.is_pointer else 'i64'}, ptr %{name}.at"
        for k, label in enumerate((*self.data, *self.outputs)):
            yield (
                f"  %pointer{k}.at = getelementptr i8, ptr %context, i64 {pointers_at(self.pointer) + self.pointer * k}"
            )
            yield f"  %pointer{k} = load ptr, ptr %pointer{k}.at ; {label}"
        yield "  %ordered = icmp ne ptr %order, null"
        if self.parallel:
            yield from self._shares()
            yield "  br label %start"
        else:
            yield "  %alone = icmp eq i64 %thread, 0"
            yield "  br i1 %alone, label %start, label %return"
        yield "start:"
        if self.walks:
            yield "  %none = icmp sge i64 %begin, %end"
            yield "  br i1 %none, label %return, label %batch"
        else:
            yield "  br label %batch"
        yield "batch:"
        yield from self._batch()
        yield "return:"
        yield "  %status.value = load i64, ptr %status.at"
        yield "  %status.word = trunc i64 %status.value to i32"
        yield "  ret i32 %status.word"
        yield "}"

    def _batch(self) -> Iterator[str]:
        if self.walks:
            yield "  %p = phi i64 [ %begin, %start ], [ %p.next, %finish ]"
            yield "  %left = sub i64 %end, %p"
            yield f"  %full = icmp sgt i64 %left, {self.capacity}"
            yield f"  %rows = select i1 %full, i64 {self.capacity}, i64 %left"
            yield "  %p.next = add i64 %p, %rows"
            yield "  %order.bytes = mul i64 %p, 4"
            yield "  %order.here = getelementptr i8, ptr %order, i64 %order.bytes"
        else:
            yield "  %rows = sub i64 %end, %begin"
        yield from self._batch_pointers()
        if self.parallel:
            yield "  call void @meet(ptr %context, i64 %thread)"
        gathering = [task for task in self.tasks if assembles(task)]
        if gathering:
            yield "  br i1 %ordered, label %assemble, label %phases"
            yield "assemble:"
            yield from self._phase(gathering, self.parallel)
            yield "  br label %phases"
            yield "phases:"
        computing = [task for task in self.tasks if not assembles(task)]
        losses = [port.value for port in self.graph.outputs if port.role == "loss" and port.label == "loss"]
        writes = {port.value for port in self.graph.outputs if port.role == "state"}
        guarded = not (losses and writes)
        for tasks in _phases(computing):
            if not guarded and any(value in writes for task in tasks for value in task.results):
                guarded = True
                yield from self._guard(self._place(losses[0].name), losses[0].type)
            yield from self._phase(tasks, self.parallel)
        yield from self._finish()

    def _batch_pointers(self) -> Iterator[str]:
        """Where each data input's and each output's rows of this batch lie."""
        ports = {f"data.{port.key}": port.value.type for port in self.graph.inputs if port.role in ("data", "carry")}
        ports |= {
            f"output.{port.key}": port.value.type for port in self.graph.outputs if port.role in ("output", "carry")
        }
        for k, label in enumerate((*self.data, *self.outputs)):
            base = f"data.{label}" if k < len(self.data) else f"output.{label}"
            if base not in ports:
                continue
            type, here = ports[base], f"%here{k}"
            stride = _row_bytes(type) if label in self.batch or _has_rows(type) else 0
            if not self.walks or not stride:
                yield f"  {here} = getelementptr i8, ptr %pointer{k}, i64 0"
                continue
            yield f"  {here}.bytes = mul i64 %p, {stride}"
            yield f"  {here}.rows = getelementptr i8, ptr %pointer{k}, i64 {here}.bytes"
            if label in self.batch and k < len(self.data):
                yield f"  {here}.batch = getelementptr i8, ptr %workspace, i64 {self.batch[label][1].offset}"
                yield f"  {here} = select i1 %ordered, ptr {here}.batch, ptr {here}.rows"
            else:
                yield f"  {here} = getelementptr i8, ptr {here}.rows, i64 0"

    def _phase(self, tasks: Sequence[Node], together: bool) -> Iterator[str]:
        """A phase; if the threads run it `together`, they meet after it."""
        for task in tasks:
            yield from self._loop(task, together) if task.op == "loop" else self._task(task, together)
        if together:
            yield "  call void @meet(ptr %context, i64 %thread)"

    def _task(self, task: Node, together: bool) -> Iterator[str]:
        lines, pointers = self._pointers(task)
        yield from lines
        function = task.attrs["function"]
        arguments = ", ".join(f"ptr {pointer}" for pointer in pointers) + ", i64 %rows"
        if not together:
            parts = [f"i64 {part}" for part in range(task.attrs["parts"])]
            yield from (f"  call void @{function}({arguments}, {part})" for part in parts)
            return
        label = self.name("task")
        low, high = self.shares[id(task)]
        yield f"  br label %{label}.enter"
        yield f"{label}.enter:"
        yield f"  br label %{label}.next"
        yield f"{label}.next:"
        yield f"  %{label}.part = phi i64 [ {low}, %{label}.enter ], [ %{label}.after, %{label}.run ]"
        yield f"  %{label}.more = icmp slt i64 %{label}.part, {high}"
        yield f"  br i1 %{label}.more, label %{label}.run, label %{label}.done"
        yield f"{label}.run:"
        yield f"  call void @{function}({arguments}, i64 %{label}.part)"
        yield f"  %{label}.after = add i64 %{label}.part, 1"
        yield f"  br label %{label}.next"
        yield f"{label}.done:"

    def _loop(self, loop: Node, together: bool) -> Iterator[str]:
        """A loop: by all threads if its tasks have parts to share, else by the one whose share it is."""
        if not together or _shared(loop):
            yield from self._steps(loop, together)
            return
        label = self.name("alone")
        low, high = self.shares[id(loop)]
        yield f"  %{label}.mine = icmp slt i64 {low}, {high}"
        yield f"  br i1 %{label}.mine, label %{label}.run, label %{label}.done"
        yield f"{label}.run:"
        yield from self._steps(loop, False)
        yield f"  br label %{label}.done"
        yield f"{label}.done:"

    def _steps(self, loop: Node, together: bool) -> Iterator[str]:
        """The steps of a loop. A carry is written by turns into a second place and into the loop's result, which the
        last step writes.
        """
        label, (body,) = self.name("loop"), loop.regions
        carries, length = loop.attrs["carries"], loop.attrs["length"]
        walked = carries + loop.attrs["sequences"]
        lines, pointers = self._pointers(loop)
        yield from lines
        taken, made = (
            pointers[: len(loop.operands)],
            pointers[len(loop.operands) : len(loop.operands) + len(loop.results)],
        )
        scratch, behind = pointers[-1], 0
        for k, value in enumerate(loop.results[:carries]):
            yield f"  %{label}.second{k} = getelementptr i8, ptr {scratch}, i64 {behind}"
            behind += align(value.type.bytes(self.capacity))
        if loop.attrs["scratch"]:
            yield f"  %{label}.workspace = getelementptr i8, ptr {scratch}, i64 {behind}"
        sizes = {}
        for k, port in [
            *enumerate(body.inputs[carries:walked], carries),
            *enumerate(body.outputs[carries:], len(taken) + carries),
        ]:
            sizes[k] = f"%{label}.bytes{k}"
            yield from self._bytes(sizes[k], port.value.type)
        yield f"  br label %{label}.enter"
        yield f"{label}.enter:"
        yield f"  br label %{label}.step"
        yield f"{label}.step:"
        yield f"  %{label}.k = phi i64 [ 0, %{label}.enter ], [ %{label}.next, %{label}.latch ]"
        places = {f"operand.{k}": pointer for k, pointer in enumerate(taken)}
        for k in range(carries):
            places[f"operand.{k}"] = f"%{label}.in{k}"
            yield f"  %{label}.in{k} = phi ptr [ {taken[k]}, %{label}.enter ], [ %{label}.out{k}, %{label}.latch ]"
        yield f"  %{label}.left = sub i64 {length - 1}, %{label}.k"
        yield f"  %{label}.odd = trunc i64 %{label}.left to i1"
        for k in range(carries):
            places[f"result.{k}"] = f"%{label}.out{k}"
            yield f"  %{label}.out{k} = select i1 %{label}.odd, ptr %{label}.second{k}, ptr {made[k]}"
        at = f"%{label}.{'left' if loop.attrs['reverse'] else 'k'}"
        for k, size in sizes.items():
            base, place = (
                (taken[k], f"operand.{k}") if k < len(taken) else (made[k - len(taken)], f"result.{k - len(taken)}")
            )
            places[place] = f"%{label}.here{k}"
            yield f"  %{label}.move{k} = mul i64 {at}, {size}"
            yield f"  %{label}.here{k} = getelementptr i8, ptr {base}, i64 %{label}.move{k}"
        with self._within({**places, "workspace": f"%{label}.workspace"}):
            for tasks in _phases(_tasks(body)):
                yield from self._phase(tasks, together)
        yield f"  br label %{label}.latch"
        yield f"{label}.latch:"
        yield f"  %{label}.next = add i64 %{label}.k, 1"
        yield f"  %{label}.more = icmp slt i64 %{label}.next, {length}"
        yield f"  br i1 %{label}.more, label %{label}.step, label %{label}.done"
        yield f"{label}.done:"

    @contextmanager
    def _within(self, places: dict[str, str]) -> Iterator[None]:
        outer, self.places = self.places, places
        try:
            yield
        finally:
            self.places = outer

    def _bytes(self, name: str, type: Tensor) -> Iterator[str]:
        """The bytes of a tensor of as many rows as the batch has."""
        factors = sum(isinstance(dim, Rows) for dim in type.shape)
        value = str(type.bytes(1))
        for k in range(factors):
            fresh = name if k == factors - 1 else f"{name}.{k}"
            yield f"  {fresh} = mul i64 {value}, %rows"
            value = fresh
        if not factors:
            yield f"  {name} = add i64 {value}, 0"

    def _shares(self) -> Iterator[str]:
        """The parts [low, high) of each task that this thread takes.

        A phase's parts lie one after another on a line as long as their costs; thread t takes those whose middle is
        between t and t + 1 of `threads` equal stretches. So the shares follow the cost, whatever the count of threads.
        """
        self.shares: dict[int, tuple[str, str]] = {}
        yield "  %thread.next = add i64 %thread, 1"
        pending = [
            [task for task in self.tasks if assembles(task)],
            [task for task in self.tasks if not assembles(task)],
        ]
        number = 0
        while pending:
            for tasks in _phases(pending.pop(0)):
                pending += [_tasks(loop.regions[0]) for loop in tasks if loop.op == "loop" and _shared(loop)]
                yield from self._phase_shares(
                    number, [task for task in tasks if task.op == "task" or not _shared(task)]
                )
                number += 1

    def _phase_shares(self, number: int, tasks: Sequence[Node]) -> Iterator[str]:
        parts = [task.attrs.get("parts", 1) for task in tasks]
        costs = [max(1, cost(task, self.capacity) // count) for task, count in zip(tasks, parts, strict=True)]
        total = sum(each * count for each, count in zip(costs, parts, strict=True))
        for end, thread in (("from", "%thread"), ("to", "%thread.next")):
            yield f"  %phase{number}.{end}.total = mul i64 {thread}, {total}"
            yield f"  %phase{number}.{end} = sdiv i64 %phase{number}.{end}.total, %threads"
        base = 0
        for each, count, task in zip(costs, parts, tasks, strict=True):
            name = self.name("share")
            for end in ("from", "to"):
                yield f"  %{name}.{end}.a = add i64 %phase{number}.{end}, {each // 2 - base}"
                yield f"  %{name}.{end}.b = sdiv i64 %{name}.{end}.a, {each}"
                yield f"  %{name}.{end}.c = call i64 @llvm.smax.i64(i64 %{name}.{end}.b, i64 0)"
                yield f"  %{name}.{end} = call i64 @llvm.smin.i64(i64 %{name}.{end}.c, i64 {count})"
            self.shares[id(task)] = (f"%{name}.from", f"%{name}.to")
            base += each * count

    def _pointers(self, task: Node) -> tuple[list[str], list[str]]:
        """Where operands, results and scratch of a task or loop lie."""
        lines: list[str] = []
        pointers = []
        values = [*task.operands, *task.results]
        for k, place in enumerate((*task.attrs["places"], *filter(None, [task.attrs["scratch"]]))):
            more, pointer = self._pointer(Place.parse(place), assembles(task))
            if k < len(values) and not assembles(task):
                label = self.assembled.get(self.root.get(values[k], values[k]).name)
                if label is not None and place == self.assembly[label]:
                    more, pointer = [], f"%here{self.data.index(label)}"
            lines += more
            pointers.append(pointer)
        return lines, pointers

    def _pointer(self, place: Place, assembling: bool = False) -> tuple[list[str], str]:
        if place.base == ORDER:
            return [], "%order.here"
        kind, _, label = place.base.partition(".")
        if kind == "data":
            k = self.data.index(label)
            return [], f"%pointer{k}" if assembling else f"%here{k}"
        if kind == "output":
            return [], f"%here{len(self.data) + self.outputs.index(label)}"
        base = self.places.get(place.base, f"%{place.base}")
        if not place.offset:
            return [], base
        pointer = f"%{self.name(kind)}"
        return [f"  {pointer} = getelementptr i8, ptr {base}, i64 {place.offset}"], pointer

    def _place(self, name: str) -> Place:
        for task in self.tasks:
            places = task.attrs["places"][len(task.operands) :]
            for value, place in zip(task.results, places, strict=True):
                if value.name == name:
                    return Place.parse(place)
        raise KeyError(name)

    def _load(self, place: Place, type: Tensor) -> tuple[list[str], str]:
        """A result's scalar, as a double."""
        lines, pointer = self._pointer(place)
        name = self.name("value")
        if type.dtype is DType.F64:
            return [*lines, f"  %{name} = load double, ptr {pointer}"], f"%{name}"
        lines += [f"  %{name}.f = load float, ptr {pointer}", f"  %{name} = fpext float %{name}.f to double"]
        return lines, f"%{name}"

    def _guard(self, place: Place, type: Tensor) -> Iterator[str]:
        """Leave before anything is updated if the loss is not finite."""
        lines, value = self._load(place, type)
        yield from lines
        yield f"  %loss.difference = fsub double {value}, {value}"
        yield "  %loss.finite = fcmp oeq double %loss.difference, 0.0"
        yield "  br i1 %loss.finite, label %update, label %stop"
        yield "stop:"
        yield f"  store i64 {NOT_FINITE}, ptr %status.at"
        yield "  br label %return"
        yield "update:"

    def _finish(self) -> Iterator[str]:
        """Thread 0 adds up what the batch gave."""
        yield "  %first = icmp eq i64 %thread, 0"
        yield "  br i1 %first, label %sum, label %finish"
        yield "sum:"
        results = [port for port in self.graph.outputs if port.role in ("loss", "metric", "part")]
        if results:
            yield "  %weight = sitofp i64 %rows to double"
        for k, port in enumerate(results):
            lines, value = self._load(self._place(port.value.name), port.value.type)
            yield from lines
            yield f"  %sum{k}.at = getelementptr double, ptr %sums, i64 {k}"
            yield f"  %sum{k}.old = load double, ptr %sum{k}.at"
            if port.part is None or port.part.kind == "rest":
                yield f"  %sum{k}.term = fmul double {value}, %weight"
                value = f"%sum{k}.term"
            yield f"  %sum{k}.new = fadd double %sum{k}.old, {value}"
            yield f"  store double %sum{k}.new, ptr %sum{k}.at"
        yield f"  store i64 {'%p.next' if self.walks else '%end'}, ptr %done.at"
        yield "  br label %finish"
        yield "finish:"
        if self.walks:
            yield "  %more = icmp slt i64 %p.next, %end"
            yield "  br i1 %more, label %batch, label %return"
        else:
            yield "  br label %return"


def _tasks(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op in ("task", "loop")]


def _phases(tasks: Sequence[Node]) -> Iterator[list[Node]]:
    """Tasks by phase, in order."""
    for phase in sorted({task.attrs["phase"] for task in tasks}):
        yield [task for task in tasks if task.attrs["phase"] == phase]


def _shared(task: Node) -> bool:
    """Whether a task, or one inside a loop, has parts for several threads."""
    return any(_shared(inner) for inner in _tasks(task.regions[0])) if task.op == "loop" else task.attrs["parts"] > 1


def _whole(graph: Graph) -> bool:
    """Whether an entry takes all its rows at once, however many: the permutation does."""
    return any(node.attrs["family"] == "permutation" for node in graph.nodes if node.op == "task")


def _has_rows(type: Tensor) -> bool:
    return any(isinstance(dim, Rows) for dim in type.shape)


def _row_bytes(type: Tensor) -> int:
    """The bytes of one row: of a tensor whose first dimension holds the rows."""
    if not _has_rows(type):
        return Tensor(type.dtype, type.shape[1:]).bytes(1)
    return type.bytes(1)
