"""What a step takes by one thread, by two, and so on: an estimate by which a program's threads are counted.

The rule that shares out parts says what each thread has of a phase; the one that has most holds up the others. Phases
whose work is in one part, and meetings, which take longer the more threads there are, are why more threads may be no
faster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tapeless.codegen.program.schedule import assembles
from tapeless.codegen.program.shares import Shares, divide, joint, phases_of, shared, tasks_of
from tapeless.ir.graph import Graph, Node
from tapeless.ir.machine import Machine

__all__ = ["effort"]

Rows = tuple[tuple[int, int, int, int], ...]  # a phase's part of the table that `sharing` divides by


def effort(graph: Graph, machine: Machine, capacity: int) -> list[int]:
    """Nanoseconds of a step of `capacity` rows by 1, 2, ... threads, of as many counts as may be of use."""
    tasks = tasks_of(graph)
    gathering = [task for task in tasks if assembles(task)]
    others = [task for task in tasks if not assembles(task)]
    phases: Counter[Rows] = Counter({(): 1})  # threads meet once before the first
    for part in (gathering, others):
        phases.update(_phases(part, machine, capacity))
    most = machine.most_parts if any(map(shared, tasks)) else 1
    return [
        sum(times * (_longest(rows, threads) + _meeting(threads, machine)) for rows, times in phases.items())
        for threads in range(1, most + 1)
    ]


def _phases(tasks: Sequence[Node], machine: Machine, capacity: int) -> Counter[Rows]:
    """The tables of the phases, and how often each is run: layers and steps of a loop have the same."""
    found: Counter[Rows] = Counter()
    for phase in phases_of(tasks):
        for loop in filter(joint, phase):
            inside = _phases(tasks_of(loop.regions[0]), machine, capacity)
            found.update({rows: times * int(loop.attrs["length"]) for rows, times in inside.items()})
        made = Shares()
        divide(made, [task for task in phase if not joint(task)], machine, capacity)
        found[tuple(made.rows)] += 1
    return found


def _longest(rows: Rows, threads: int) -> int:
    """What the thread that has most has of a phase, as `sharing` divides it."""
    taken = [0] * threads
    for total, each, middle, parts in rows:
        ends = [min(max((total * end // threads + middle) // each, 0), parts) for end in range(threads + 1)]
        for thread in range(threads):
            taken[thread] += each * (ends[thread + 1] - ends[thread])
    return max(taken)


def _meeting(threads: int, machine: Machine) -> int:
    return threads * machine.meeting_nanoseconds if threads > 1 else 0
