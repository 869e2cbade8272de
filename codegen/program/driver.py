"""The driver of an entry: one LLVM function that walks the batches, runs the phases and lets threads meet between them.

    int32_t entry(tl_context *context, int32_t thread)

Every thread runs it with its own number. For each batch: find its rows, or assemble them by the order; run the phases;
add losses and metrics, times rows, to the sums (numerators and denominators of totals as they are). A loop's steps run
the phases of its body. Of a loop whose rows are cut into parts, a thread takes those of its parts at once, through all
steps, and meets nobody before the end. An entry whose tasks all have one part runs on thread 0 alone, and so does a
loop of such tasks on the thread it falls to. Where tasks are many, the phases are cut into functions of some tasks
each: the time that code generation takes for a function grows faster than its length. What those share lies in a frame
of the thread's own: its parts of each task, and where the batch is. Slots that take turns (`turning`) change places
behind each batch whose loss is finite; what then lies in the other place at the end is copied into the state. Entries
that train flush denormals from beginning to end (`denormals`).
What the context holds, and where, is told by `tapeless.abi.calls`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tapeless.abi.calls import CONTEXT, NOT_FINITE, offsets, pointers_at
from tapeless.codegen.llvm.builder import (
    F64,
    I1,
    I32,
    I64,
    NULL,
    PTR,
    FunctionBuilder,
    Phi,
    Value,
    integer,
)
from tapeless.codegen.program import denormals, turning
from tapeless.codegen.program.addresses import Addresses
from tapeless.codegen.program.barrier import MEET
from tapeless.codegen.program.memory import Place, align
from tapeless.codegen.program.schedule import ORDER, SCRATCH, Scheduled, assembles
from tapeless.codegen.program.shares import SHARE, SHARE_BYTES, Shares, joint, phases_of, shared, shares, tasks_of
from tapeless.ir.graph import Graph, Node
from tapeless.ir.graph import Value as Tensors
from tapeless.ir.row_wise import inner_wide, wide
from tapeless.ir.target import Target
from tapeless.ir.types import DType, Rows, Tensor

__all__ = ["driver"]

SECTION = 24  # tasks in one function, unless a phase has more


@dataclass(frozen=True)
class _Share:
    """What a thread has of a loop that is cut: its parts, from `part` on, and their rows."""

    part: Value
    parts: Value
    row: Value
    rows: Value


def driver(
    symbol: str,
    scheduled: Scheduled,
    data: Sequence[str],
    outputs: Sequence[str],
    capacity: int,
    target: Target,
    flushes: bool = False,
) -> list[str]:
    """An entry's driver: LLVM text of each definition, the entry's at last. `data` and `outputs` are the keys of the
    pointers behind the context's fields, in order; `flushes`: denormals are zeros while it runs.
    """
    writer = _Writer(symbol, scheduled, data, outputs, capacity, target, flushes)
    writer.write()
    return [*writer.texts, writer.f.text()]


class _Writer:
    """Writes one driver: of every thread's walk over the batches."""

    def __init__(
        self,
        symbol: str,
        scheduled: Scheduled,
        data: Sequence[str],
        outputs: Sequence[str],
        capacity: int,
        target: Target,
        flushes: bool,
    ) -> None:
        self.symbol, self.scheduled, self.graph, self.capacity = symbol, scheduled, scheduled.graph, capacity
        self.pointer = target.pointer_bytes
        self.pointers = [*(f"data.{key}" for key in data), *(f"output.{key}" for key in outputs)]
        self.tasks = tasks_of(self.graph)
        self.parallel = any(shared(task) for task in self.tasks)
        self.walks = bool(data or outputs) and not _whole(self.graph)
        self.context = Value(PTR, "%context")
        number = Value(I32, "%thread32")
        self.f = FunctionBuilder(symbol, (self.context, number), I32)
        self.thread = self.f.sext("thread", number, I64)
        self.field_at: dict[str, Value] = {}
        self.field: dict[str, Value] = {}
        self.load_fields()
        self.addresses = Addresses(self.f, scheduled, self.field, self.load_pointers())
        self.shares = shares(self.tasks, target.machine, capacity) if self.parallel else Shares()
        self.texts: list[str] = []  # of what stands beside the entry: a table, functions
        self.kept = len(self.shares.rows) * SHARE_BYTES  # the bytes of the frame
        words = self.kept // 8 + 2 + len(self.pointers) + 2 * len(scheduled.turns)
        self.frame = self.f.alloca("frame", f"[{words} x {I64}]")
        self.stops = False  # whether a batch may be the last because its loss is not finite
        self.mode = denormals.mode(target) if flushes else None
        self.spread: frozenset[Tensors] = frozenset()  # inside a loop that is cut: what lies among all rows

    def load_fields(self) -> None:
        """What the context holds, but for what is written there, and the thread's own scratch; by the same names in
        every function.
        """
        at = offsets(self.pointer)
        for field in CONTEXT:
            name = field.name.rstrip("_")
            self.field_at[name] = self.f.gep(f"{name}.at", self.context, at[field.name])
            if name not in ("status", "done"):
                self.field[name] = self.f.load(name, PTR if field.is_pointer else I64, self.field_at[name])
        all_own = self.f.mul("own.all", self.thread, integer(self.scheduled.scratch))
        own = self.f.add("own", all_own, integer(self.scheduled.workspace))
        self.field[SCRATCH] = self.f.gep(SCRATCH, self.field["workspace"], own)

    def load_pointers(self) -> dict[str, Value]:
        """Those behind the fields, of all rows of data and outputs."""
        made = {}
        for k, base in enumerate(self.pointers):
            at = self.f.gep(f"pointer{k}.at", self.context, pointers_at(self.pointer) + self.pointer * k)
            made[base] = self.f.load(f"pointer{k}", PTR, at, comment=base.partition(".")[2])
        return made

    def write(self) -> None:
        f, begin, end = self.f, self.field["begin"], self.field["end"]
        modes = denormals.flush(f, self.mode) if self.mode else None
        ordered = f.icmp("ordered", "ne", self.field["order"], NULL)
        if self.parallel:
            table = f"{self.symbol}.shares"
            self.texts.append(self.shares.text(table))
            count = integer(len(self.shares.rows))
            f.call(SHARE, (Value(PTR, f"@{table}"), count, self.thread, self.field["threads"], self.frame))
            f.branch("start")
        else:
            f.branch_if(f.icmp("alone", "eq", self.thread, integer(0)), "start", "return")
        f.begin("start")
        if self.walks:
            f.branch_if(f.icmp("none", "sge", begin, end), "return", "batch")
        else:
            f.branch("batch")
        f.begin("batch")
        position: Phi | None = None
        done = end
        turns, odd = self.scheduled.turns, None
        if self.walks:
            position = f.phi("p", begin, "start")
            odd = f.phi("odd", integer(0), "start") if turns else None
            left = f.sub("left", end, position.value)
            full = f.icmp("full", "sgt", left, integer(self.capacity))
            self.rows = f.select("rows", full, integer(self.capacity), left)
            done = f.add("p.next", position.value, self.rows)
        else:
            self.rows = f.sub("rows", end, begin)
        self.batch_rows = self.rows
        first = None if position is None else position.value
        if position is not None and any(assembles(task) for task in self.tasks):
            first, ordered = self.first_row(position.value, ordered)
        self.addresses.begin_batch(None if position is None else position.value, first, ordered)
        before = integer(0) if odd is None else odd.value
        if turns:
            self.addresses.move(turning.places(f, turns, before, self.addresses))
        self.run(ordered)
        self.sum_up(done)
        f.begin("finish")
        after = f.sub("odd.next", integer(1), before) if turns else before
        end_at = "settle" if turns else "return"
        if position is not None:
            position.add(done, "finish")
            if odd is not None:
                odd.add(after, "finish")
            f.branch_if(f.icmp("more", "slt", done, end), "batch", end_at)
        else:
            f.branch(end_at)
        if turns:
            f.begin("settle")
            left_odd = f.phi("odd.last", after, "finish")
            if self.stops:
                left_odd.add(before, "stop")
            threads = self.field["threads"] if self.parallel else integer(1)
            turning.settle(f, turns, left_odd.value, self.addresses, self.thread, threads)
        f.begin("return")
        if self.mode and modes:
            denormals.restore(f, self.mode, modes)
        f.give(f.trunc("status.word", f.load("status.value", I64, self.field_at["status"]), I32))

    def first_row(self, position: Value, ordered: Value) -> tuple[Value, Value]:
        """The first of the rows of the batch at a position, and whether they have to be gathered: where the order has
        them in sequence, they are read where they lie, as without an order.
        """
        f = self.f
        f.branch_if(ordered, "look", "found")
        f.begin("look")
        order = f.gep("look.order", self.field["order"], f.mul("look.bytes", position, integer(DType.I32.bytes)))
        first = f.sext("look.first", f.load("look.row", I32, order), I64)
        f.branch("row")
        f.begin("row")
        row = f.phi("row.k", integer(1), "look")
        f.branch_if(f.icmp("row.more", "slt", row.value, self.rows), "compare", "found")
        f.begin("compare")
        at = f.gep("row.at", order, f.mul("row.bytes", row.value, integer(DType.I32.bytes)))
        here = f.sext("row.here", f.load("row.row", I32, at), I64)
        row.add(f.add("row.next", row.value, integer(1)), "compare")
        f.branch_if(f.icmp("row.follows", "eq", here, f.add("row.wanted", first, row.value)), "row", "scattered")
        f.begin("scattered")
        f.branch("found")
        f.begin("found")
        begin = f.phi("first.row", position, "batch")
        gather = f.phi("gather", integer(0), "batch")
        for block, needed in (("row", 0), ("scattered", 1)):
            begin.add(first, block)
            gather.add(integer(needed), block)
        return begin.value, f.icmp("gathered", "ne", gather.value, integer(0))

    def run(self, ordered: Value) -> None:
        """The phases of one batch."""
        f = self.f
        if len(self.tasks) > SECTION:
            self.keep()
        if self.parallel:
            self.meet()
        gathering = [task for task in self.tasks if assembles(task)]
        if gathering:
            f.branch_if(ordered, "assemble", "phases")
            f.begin("assemble")
            self.phase(gathering, self.parallel)
            f.branch("phases")
            f.begin("phases")
        phases = list(phases_of([task for task in self.tasks if not assembles(task)]))
        losses = [port.value for port in self.graph.outputs if port.role == "loss" and port.label == "loss"]
        writes = {port.value for port in self.graph.outputs if port.role == "state" and not port.turns}
        updating = (
            k for k, tasks in enumerate(phases) if any(value in writes for task in tasks for value in task.results)
        )
        first = next(updating, len(phases)) if losses else len(phases)
        self.stops = bool(losses) and (first < len(phases) or bool(self.scheduled.turns))
        self.sections(phases[:first])
        if self.stops:
            self.guard(self.place(losses[0].name), losses[0].type)
        self.sections(phases[first:])

    def sections(self, phases: Sequence[Sequence[Node]]) -> None:
        """Phases, in functions of their own if the entry has many tasks."""
        if len(self.tasks) <= SECTION:
            for tasks in phases:
                self.phase(tasks, self.parallel)
            return
        walk = [(task, task is tasks[-1]) for tasks in phases for task in tasks]
        for begin in range(0, len(walk), SECTION):
            with self.section(f"{self.symbol}.{len(self.texts)}"):
                for task, last in walk[begin : begin + SECTION]:
                    self.phase([task], self.parallel, last)

    def keep(self) -> None:
        """Leave in the frame, behind the shares, what sections must know of the batch."""
        places = (*self.addresses.here.values(), *self.addresses.moved.values())
        for k, value in enumerate((self.rows, self.addresses.bases[ORDER], *places)):
            self.f.store(value, self.f.gep(f"kept{k}.at", self.frame, self.kept + 8 * k))

    @contextmanager
    def section(self, symbol: str) -> Iterator[None]:
        """A function that goes on where this one calls it."""
        outer, addresses, rows = self.f, self.addresses, self.rows
        parameters = (self.context, self.thread, Value(PTR, "%frame"))
        self.f = FunctionBuilder(symbol, parameters, linkage="internal", attributes="noinline")
        frame, self.frame = self.frame, parameters[-1]
        self.load_fields()

        def kept(k: int, name: str, type: str) -> Value:
            return self.f.load(name, type, self.f.gep(f"{name}.at", self.frame, self.kept + 8 * k))

        self.rows = self.batch_rows = kept(0, "rows", I64)
        bases = {**self.field, ORDER: kept(1, "order.here", PTR)}
        here = {base: kept(2 + k, f"here{k}", PTR) for k, base in enumerate(addresses.here)}
        for k, base in enumerate(addresses.moved, 2 + len(here)):
            bases[base] = kept(k, f"moved{k}", PTR)
        self.addresses = addresses.elsewhere(self.f, bases, self.load_pointers(), here)
        yield
        self.f.give()
        self.texts.append(self.f.text())
        self.f, self.addresses, self.rows, self.frame = outer, addresses, rows, frame
        self.f.call(f"@{symbol}", (self.context, self.thread, self.frame))

    def meet(self) -> None:
        self.f.call(MEET, (self.context, self.thread))

    def phase(self, tasks: Sequence[Node], together: bool, last: bool = True) -> None:
        """A phase, or some of its tasks; if the threads run it `together`, they meet after the `last`."""
        for task in tasks:
            if task.op == "loop":
                self.loop(task, together)
            else:
                self.task(task, together)
        if together and last:
            self.meet()

    def share(self, task: Node) -> tuple[Value, Value]:
        """The parts [low, high) of a task that are the thread's."""
        at, name = self.shares.at[task] * SHARE_BYTES, self.f.fresh("share")
        low = self.f.load(f"{name}.low", I64, self.f.gep(f"{name}.low.at", self.frame, at))
        return low, self.f.load(f"{name}.high", I64, self.f.gep(f"{name}.high.at", self.frame, at + 8))

    def task(self, task: Node, together: bool) -> None:
        f = self.f
        function, arguments = f"@{task.attrs['function']}", (*self.addresses.of_task(task), self.rows)
        if not together:
            f.call(function, (*arguments, integer(0), integer(task.attrs["parts"])))
            return
        label = f.fresh("task")
        low, high = self.share(task)
        f.branch_if(f.icmp(f"{label}.any", "slt", low, high), f"{label}.run", f"{label}.done")
        f.begin(f"{label}.run")
        f.call(function, (*arguments, low, high))
        f.branch(f"{label}.done")
        f.begin(f"{label}.done")

    def loop(self, loop: Node, together: bool) -> None:
        """A loop: by all threads if its tasks have parts to share, each with rows of its own if it is cut, else by the
        one whose share it is.
        """
        if not together or joint(loop):
            self.steps(loop, together)
            return
        f, parts = self.f, loop.attrs["parts"]
        label = f.fresh("own")
        low, high = self.share(loop)
        mine, share = f.icmp(f"{label}.mine", "slt", low, high), None
        if parts > 1:
            first, last = (
                f.sdiv(f"{label}.{end}", f.mul(f"{label}.{end}.rows", part, self.rows), integer(parts))
                for end, part in (("first", low), ("last", high))
            )
            share = _Share(low, f.sub(f"{label}.parts", high, low), first, f.sub(f"{label}.rows", last, first))
            mine = f.icmp(f"{label}.any", "sgt", share.rows, integer(0))
        f.branch_if(mine, f"{label}.run", f"{label}.done")
        f.begin(f"{label}.run")
        self.steps(loop, False, share)
        f.branch(f"{label}.done")
        f.begin(f"{label}.done")

    def steps(self, loop: Node, together: bool, share: _Share | None = None) -> None:
        """The steps of a loop. A carry is written by turns into a second place and into the loop's result, which the
        last step writes.
        """
        f, label, (body,) = self.f, self.f.fresh("loop"), loop.regions
        carries, length, count = loop.attrs["carries"], loop.attrs["length"], len(loop.operands)
        walked = carries + loop.attrs["sequences"]
        pointers = self.addresses.of_task(loop)
        scratch, behind = pointers[-1], 0
        second = []
        for k, value in enumerate(loop.results[:carries]):
            second.append(f.gep(f"{label}.second{k}", scratch, self.addresses.apart(behind)))
            behind += align(value.type.bytes(self.capacity))
        types = [port.value.type for port in (*body.inputs, *body.outputs)]
        # what is walked a step at a time: sequences that come in, and what all steps give
        moving = [*range(carries, walked), *range(count + carries, len(types))]
        around = (*loop.operands, *loop.results)
        sizes = [self.bytes(f"{label}.bytes{k}", types[k], around[k] in self.spread) for k in moving]
        workspace = (
            f.gep(f"{label}.workspace", scratch, self.addresses.apart(behind)) if loop.attrs["scratch"] else NULL
        )
        outer = self.rows, self.capacity, self.spread
        self.spread = inner_wide(loop, self.spread)
        if share is not None:
            pointers = [self.rows_of(pointer, type, share) for pointer, type in zip(pointers, types, strict=False)]
            second = [self.rows_of(pointer, type, share) for pointer, type in zip(second, types, strict=False)]
            if loop.attrs["scratch"]:
                own = f.mul(f"{label}.own", share.part, integer(loop.attrs["workspace"]))
                workspace = f.gep(f"{label}.parts", workspace, own)
            self.rows, self.capacity, self.spread = share.rows, -(-self.capacity // loop.attrs["parts"]), wide(body)
        taken, made = pointers[:count], pointers[count:]
        bases = {f"operand.{k}": pointer for k, pointer in enumerate(taken)} | {"workspace": workspace}
        f.branch(f"{label}.enter")
        f.begin(f"{label}.enter")
        f.branch(f"{label}.step")

        f.begin(f"{label}.step")
        step = f.phi(f"{label}.k", integer(0), f"{label}.enter")
        carried = [f.phi(f"{label}.in{k}", taken[k], f"{label}.enter") for k in range(carries)]
        left = f.sub(f"{label}.left", integer(length - 1), step.value)
        odd = f.trunc(f"{label}.odd", left, I1)
        for k, carry in enumerate(carried):
            bases[f"operand.{k}"] = carry.value
            bases[f"result.{k}"] = f.select(f"{label}.out{k}", odd, second[k], made[k])
            carry.add(bases[f"result.{k}"], f"{label}.latch")
        at = left if loop.attrs["reverse"] else step.value
        for k, size in zip(moving, sizes, strict=True):
            base = f"operand.{k}" if k < count else f"result.{k - count}"
            bases[base] = f.gep(f"{label}.here{k}", pointers[k], f.mul(f"{label}.move{k}", at, size))
        with self.addresses.within(bases, None if share is None else share.parts):
            for tasks in phases_of(tasks_of(body)):
                self.phase(tasks, together)
        f.branch(f"{label}.latch")

        f.begin(f"{label}.latch")
        following = f.add(f"{label}.next", step.value, integer(1))
        step.add(following, f"{label}.latch")
        f.branch_if(f.icmp(f"{label}.more", "slt", following, integer(length)), f"{label}.step", f"{label}.done")
        f.begin(f"{label}.done")
        self.rows, self.capacity, self.spread = outer

    def rows_of(self, pointer: Value, type: Tensor, share: _Share) -> Value:
        """Where the rows of a share begin in a tensor; one without rows is for all."""
        axis = next((axis for axis, dim in enumerate(type.shape) if isinstance(dim, Rows)), None)
        if axis is None:
            return pointer
        row = integer(type.with_shape(type.shape[axis:]).bytes(1))
        return self.f.gep(self.f.fresh("own.rows"), pointer, self.f.mul(self.f.fresh("own.bytes"), share.row, row))

    def bytes(self, name: str, type: Tensor, spread: bool = False) -> Value:
        """The bytes of a tensor of as many rows as there are; `spread`: as the batch has."""
        factors = sum(isinstance(dim, Rows) for dim in type.shape)
        value = integer(type.bytes(1))
        for k in range(factors):
            rows = self.batch_rows if spread else self.rows
            value = self.f.mul(name if k == factors - 1 else f"{name}.{k}", value, rows)
        return value if factors else self.f.add(name, value, integer(0))

    # Results

    def place(self, name: str) -> Place:
        for task in self.tasks:
            places = task.attrs["places"][len(task.operands) :]
            for value, place in zip(task.results, places, strict=True):
                if value.name == name:
                    return Place.parse(place)
        raise KeyError(name)

    def scalar(self, place: Place, type: Tensor) -> Value:
        """A result's scalar, as a double."""
        pointer = self.addresses.of(place)
        name = self.f.fresh("value")
        element = type.dtype.record.llvm
        if element == F64:
            return self.f.load(name, F64, pointer)
        return self.f.fpext(name, self.f.load(f"{name}.f", element, pointer), F64)

    def guard(self, place: Place, type: Tensor) -> None:
        """Leave before anything is updated if the loss is not finite."""
        f, value = self.f, self.scalar(place, type)
        difference = f.fsub("loss.difference", value, value)
        f.branch_if(f.fcmp("loss.finite", "oeq", difference, Value(F64, "0.0")), "update", "stop")
        f.begin("stop")
        f.store(integer(NOT_FINITE), self.field_at["status"])
        f.branch("settle" if self.scheduled.turns else "return")
        f.begin("update")

    def sum_up(self, done: Value) -> None:
        """Thread 0 adds up what the batch gave, and tells how far it is."""
        f = self.f
        f.branch_if(f.icmp("first", "eq", self.thread, integer(0)), "sum", "finish")
        f.begin("sum")
        results = [port for port in self.graph.outputs if port.role in ("loss", "metric", "part")]
        weight = f.sitofp("weight", self.rows, F64) if results else None
        for k, port in enumerate(results):
            value = self.scalar(self.place(port.value.name), port.value.type)
            at = f.gep(f"sum{k}.at", self.field["sums"], k, element=F64)
            before = f.load(f"sum{k}.old", F64, at)
            if weight is not None and (port.part is None or port.part.kind == "rest"):
                value = f.fmul(f"sum{k}.term", value, weight)
            f.store(f.fadd(f"sum{k}.new", before, value), at)
        f.store(done, self.field_at["done"])
        f.branch("finish")


def _whole(graph: Graph) -> bool:
    """Whether an entry takes all its rows at once, however many: the permutation does."""
    return any(node.attrs["family"] == "permutation" for node in graph.nodes if node.op == "task")
