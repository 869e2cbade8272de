"""Slots that take turns: in each batch, where they are read and where their new values are stored.

The two places, in the state and in the workspace, change roles behind each batch that has changed the state. A slot
begins and ends a call in the state: whoever calls knows of one place only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tapeless.abi.calls import LINE
from tapeless.codegen.llvm.builder import I64, FunctionBuilder, Value, integer
from tapeless.codegen.program.addresses import Addresses
from tapeless.codegen.program.schedule import Turn

__all__ = ["places", "settle"]

WORD = 8  # bytes of what is copied at once


def places(f: FunctionBuilder, turns: Sequence[Turn], odd: Value, addresses: Addresses) -> Mapping[str, Value]:
    """The bases of a batch, before which the slots have changed places an even or an odd number of times."""
    swapped = f.icmp("swapped", "ne", odd, integer(0))
    bases = {}
    for k, turn in enumerate(turns):
        state, other = addresses.of(turn.state), addresses.of(turn.other)
        bases[turn.now] = f.select(f"now{k}", swapped, other, state)
        bases[turn.new] = f.select(f"new{k}", swapped, state, other)
    return bases


def settle(
    f: FunctionBuilder, turns: Sequence[Turn], odd: Value, addresses: Addresses, thread: Value, threads: Value
) -> None:
    """Ends the call: slots that have changed places an odd number of times are copied into the state, each thread
    copying a stretch. All threads have met behind the last batch. Control goes on at `return`.
    """
    f.branch_if(f.icmp("away", "ne", odd, integer(0)), "copy", "return")
    f.begin("copy")
    following = f.add("copy.thread", thread, integer(1))
    for k, turn in enumerate(turns):
        state, other = addresses.of(turn.state), addresses.of(turn.other)
        lines, rest = divmod(turn.bytes, LINE)
        first, last = (
            f.sdiv(f"copy{k}.{end}", f.mul(f"copy{k}.{end}.all", number, integer(lines)), threads)
            for end, number in (("first", thread), ("last", following))
        )
        _copy(f, f"copy{k}.lines", other, state, first, last, LINE // WORD, I64, WORD)
        if rest:
            begin = f.mul(f"copy{k}.begin", integer(lines), integer(LINE))
            _copy(f, f"copy{k}.rest", other, state, begin, integer(turn.bytes), 1, "i8", 1)
    f.branch("return")


def _copy(
    f: FunctionBuilder,
    label: str,
    source: Value,
    target: Value,
    first: Value,
    last: Value,
    count: int,
    type: str,
    bytes: int,
) -> None:
    """A loop that copies what lies from the first up to the last, each `count` elements of so many bytes."""
    f.branch(f"{label}.enter")
    f.begin(f"{label}.enter")
    f.branch(label)
    f.begin(label)
    place = f.phi(f"{label}.k", first, f"{label}.enter")
    f.branch_if(f.icmp(f"{label}.more", "slt", place.value, last), f"{label}.move", f"{label}.done")
    f.begin(f"{label}.move")
    offset = f.mul(f"{label}.offset", place.value, integer(count * bytes))
    taken, given = f.gep(f"{label}.from", source, offset), f.gep(f"{label}.to", target, offset)
    for k in range(count):
        value = f.load(f"{label}.v{k}", type, f.gep(f"{label}.from{k}", taken, k * bytes))
        f.store(value, f.gep(f"{label}.to{k}", given, k * bytes))
    place.add(f.add(f"{label}.next", place.value, integer(1)), f"{label}.move")
    f.branch(label)
    f.begin(f"{label}.done")
