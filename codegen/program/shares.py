"""Which parts of each task a thread takes.

A phase's parts lie one after another on a line as long as their costs; thread t takes those whose middle is between t
and t + 1 of `threads` equal stretches. So the shares follow the cost, whatever the count of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tapeless.codegen.llvm.builder import FunctionBuilder, Value, integer
from tapeless.codegen.program.schedule import assembles, cost
from tapeless.ir.graph import Graph, Node
from tapeless.ir.machine import Machine

__all__ = ["Shares", "joint", "phases_of", "shared", "tasks_of"]

Shares = dict[Node, tuple[Value, Value]]
"""The parts [low, high) of a task, or of a loop that is cut; one that a thread runs alone has one."""


def tasks_of(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op in ("task", "loop")]


def phases_of(tasks: Sequence[Node]) -> Iterator[list[Node]]:
    """Tasks by phase, in order."""
    for phase in sorted({task.attrs["phase"] for task in tasks}):
        yield [task for task in tasks if task.attrs["phase"] == phase]


def shared(task: Node) -> bool:
    """Whether a task or loop has parts for several threads, or one inside the loop has."""
    return task.attrs["parts"] > 1 or joint(task)


def joint(task: Node) -> bool:
    """Whether all threads go through the steps of a loop together, to share out what is inside."""
    return task.op == "loop" and task.attrs["parts"] == 1 and any(map(shared, tasks_of(task.regions[0])))


def shares(
    f: FunctionBuilder, tasks: Sequence[Node], machine: Machine, capacity: int, thread: Value, threads: Value
) -> Shares:
    """Computes the shares of all tasks, with those inside loops that all threads run."""
    made: Shares = {}
    following = f.add("thread.next", thread, integer(1))
    pending = [[task for task in tasks if assembles(task)], [task for task in tasks if not assembles(task)]]
    number = 0
    while pending:
        for phase in phases_of(pending.pop(0)):
            pending += [tasks_of(loop.regions[0]) for loop in phase if joint(loop)]
            divided = [task for task in phase if not joint(task)]
            made |= _of_phase(f, f"phase{number}", divided, machine, capacity, (thread, following), threads)
            number += 1
    return made


def _of_phase(
    f: FunctionBuilder,
    phase: str,
    tasks: Sequence[Node],
    machine: Machine,
    capacity: int,
    ends: tuple[Value, Value],
    threads: Value,
) -> Shares:
    parts = [task.attrs["parts"] for task in tasks]
    costs = [max(1, cost(task, machine, capacity) // count) for task, count in zip(tasks, parts, strict=True)]
    total = integer(sum(each * count for each, count in zip(costs, parts, strict=True)))
    stretch = {
        end: f.sdiv(f"{phase}.{end}", f.mul(f"{phase}.{end}.total", thread, total), threads)
        for end, thread in zip(("from", "to"), ends, strict=True)
    }
    made: Shares = {}
    base = 0
    for each, count, task in zip(costs, parts, tasks, strict=True):
        name = f.fresh("share")
        low, high = (_part(f, f"{name}.{end}", place, each, base, count) for end, place in stretch.items())
        made[task] = low, high
        base += each * count
    return made


def _part(f: FunctionBuilder, name: str, place: Value, each: int, base: int, count: int) -> Value:
    """The first of a task's parts, each so long and the first from `base` on, whose middle is not before a place."""
    passed = f.sdiv(f"{name}.b", f.add(f"{name}.a", place, integer(each // 2 - base)), integer(each))
    return f.smaller(name, f.larger(f"{name}.c", passed, integer(0)), integer(count))
