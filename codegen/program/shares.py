"""Which parts of each task a thread takes.

A phase's parts lie one after another on a line as long as their costs; thread t takes those whose middle is between t
and t + 1 of `threads` equal stretches. So the shares follow the cost, whatever the count of threads. What there is to
divide is a table of constants, and one function of a few lines divides it when an entry is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tapeless.codegen.llvm.builder import I64, PTR, FunctionBuilder, Value, integer
from tapeless.codegen.program.schedule import assembles, cost
from tapeless.ir.graph import Graph, Node
from tapeless.ir.machine import Machine

__all__ = ["SHARE", "SHARE_BYTES", "Shares", "divide", "joint", "phases_of", "shared", "shares", "sharing", "tasks_of"]

SHARE = "@share"
SHARE_BYTES = 16  # two numbers of a thread's own for each task: its parts are [low, high)
ROW = 4  # numbers of a task in the table: see `Shares.rows`


@dataclass(frozen=True)
class Shares:
    """What there is to divide: of each task its place in the table, and for that the length of its phase, the length
    of one of its parts, how far the middle of its first part lies before the phase's begin (a negative number), and
    the count of its parts. A loop that one thread runs alone is one part.
    """

    at: dict[Node, int] = field(default_factory=dict)
    rows: list[tuple[int, int, int, int]] = field(default_factory=list)

    def text(self, symbol: str) -> str:
        """The table as a constant."""
        numbers = ", ".join(str(integer(number)) for row in self.rows for number in row)
        return f"@{symbol} = internal constant [{ROW * len(self.rows)} x {I64}] [{numbers}]\n"


def tasks_of(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op in ("task", "loop")]


def phases_of(tasks: Sequence[Node]) -> Iterator[list[Node]]:
    """Tasks by phase, in order."""
    phases: dict[int, list[Node]] = {}
    for task in tasks:
        phases.setdefault(task.attrs["phase"], []).append(task)
    yield from (phases[number] for number in sorted(phases))


def shared(task: Node) -> bool:
    """Whether a task or loop has parts for several threads, or one inside the loop has."""
    return task.attrs["parts"] > 1 or joint(task)


def joint(task: Node) -> bool:
    """Whether all threads go through the steps of a loop together, to share out what is inside."""
    return task.op == "loop" and task.attrs["parts"] == 1 and any(map(shared, tasks_of(task.regions[0])))


def shares(tasks: Sequence[Node], machine: Machine, capacity: int) -> Shares:
    """The table of all tasks, with those inside loops that all threads run."""
    made = Shares()
    pending = [[task for task in tasks if assembles(task)], [task for task in tasks if not assembles(task)]]
    while pending:
        for phase in phases_of(pending.pop(0)):
            pending += [tasks_of(loop.regions[0]) for loop in phase if joint(loop)]
            divide(made, [task for task in phase if not joint(task)], machine, capacity)
    return made


def divide(made: Shares, tasks: Sequence[Node], machine: Machine, capacity: int) -> None:
    """Add the tasks of a phase to the table."""
    counts = [task.attrs["parts"] for task in tasks]
    costs = [max(1, cost(task, machine, capacity) // count) for task, count in zip(tasks, counts, strict=True)]
    total = sum(each * count for each, count in zip(costs, counts, strict=True))
    base = 0
    for each, count, task in zip(costs, counts, tasks, strict=True):
        made.at[task] = len(made.rows)
        made.rows.append((total, each, each // 2 - base, count))
        base += each * count


def sharing() -> str:
    """The function that divides: `share(table, count, thread, threads, shares)`."""
    table, shares = Value(PTR, "%table"), Value(PTR, "%shares")
    count, thread, threads = (Value(I64, f"%{name}") for name in ("count", "thread", "threads"))
    parameters = (table, count, thread, threads, shares)
    f = FunctionBuilder(SHARE.removeprefix("@"), parameters, linkage="internal", attributes="noinline")
    following = f.add("thread.next", thread, integer(1))
    f.branch("task")

    f.begin("task")
    task = f.phi("k", integer(0), "entry")
    f.branch_if(f.icmp("more", "slt", task.value, count), "divide", "done")
    f.begin("divide")
    row = f.gep("row", table, f.mul("offset", task.value, integer(8 * ROW)))
    own = f.gep("own", shares, f.mul("own.offset", task.value, integer(SHARE_BYTES)))
    total, each, middle, parts = (
        f.load(name, I64, f.gep(f"{name}.at", row, 8 * k))
        for k, name in enumerate(("total", "each", "middle", "parts"))
    )
    for k, (end, number) in enumerate((("low", thread), ("high", following))):
        # the first part, each so long, whose middle is not before a place on the phase's line
        place = f.sdiv(f"{end}.place", f.mul(f"{end}.total", number, total), threads)
        passed = f.sdiv(f"{end}.passed", f.add(f"{end}.from", place, middle), each)
        least = f.smaller(end, f.larger(f"{end}.c", passed, integer(0)), parts)
        f.store(least, f.gep(f"{end}.at", own, 8 * k))
    task.add(f.add("k.next", task.value, integer(1)), "divide")
    f.branch("task")
    f.begin("done")
    f.give()
    return f.text()
