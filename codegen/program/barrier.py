"""The function in which threads meet: each counts its own arrivals, and waits until all others have come as far.

It looks again and again for as long as a meeting takes where all threads run, with an instruction between that leaves
the core's units and the memory to others; from then on it asks the host at each turn to let others run, for one of them
may be the thread that it waits for.
"""

from __future__ import annotations

from tapeless.abi.calls import LINE, offsets
from tapeless.codegen.llvm.builder import I32, I64, NULL, PTR, FunctionBuilder, Value, integer
from tapeless.ir.target import Target

__all__ = ["MEET", "barrier"]

MEET = "@meet"
PAUSES: dict[tuple[str, ...], tuple[str, tuple[Value, ...]]] = {
    ("x86_64",): ("@llvm.x86.sse2.pause", ()),
    ("aarch64", "arm64"): ("@llvm.aarch64.hint", (Value(I32, "1"),)),  # yield
}
"""By the begin of a target's triple: the instruction that says that a thread waits."""


def barrier(target: Target) -> str:
    """The function as text."""
    context, thread, at = Value(PTR, "%context"), Value(I64, "%thread"), offsets(target.pointer_bytes)
    pause = next((found for prefixes, found in PAUSES.items() if target.triple.startswith(prefixes)), None)
    f = FunctionBuilder(MEET.removeprefix("@"), (context, thread), linkage="internal", attributes="noinline")
    flags = f.load("flags", PTR, f.gep("barrier.at", context, at["barrier"]))
    threads = f.load("threads", I64, f.gep("threads.at", context, at["threads"]))
    give_way = f.load("yield", PTR, f.gep("yield.at", context, at["yield_"]))
    own = f.gep("own", flags, f.mul("own.offset", thread, integer(LINE)))
    arrivals = f.add("next", f.load("epoch", I64, own), integer(1))
    f.store_release(arrivals, own)
    f.branch("others")

    f.begin("others")
    other = f.phi("other", integer(0), "entry")
    f.branch_if(f.icmp("all", "eq", other.value, threads), "leave", "look")
    f.begin("look")
    flag = f.gep("flag", flags, f.mul("offset", other.value, integer(LINE)))
    f.branch("wait")

    f.begin("wait")
    spins = f.phi("spins", integer(0), "look")
    seen = f.load_acquire("seen", flag)
    f.branch_if(f.icmp("here", "sge", seen, arrivals), "arrived", "again")
    f.begin("again")
    if pause:
        f.call(*pause)
    turns = f.add("spins.next", spins.value, integer(1))
    spins.add(turns, "again")
    long = f.icmp("long", "sgt", turns, integer(target.machine.spins))
    f.branch_if(f.both("rest", long, f.icmp("can", "ne", give_way, NULL)), "give", "wait")
    f.begin("give")
    f.call(give_way.text)
    spins.add(turns, "give")
    f.branch("wait")

    f.begin("arrived")
    other.add(f.add("other.next", other.value, integer(1)), "arrived")
    f.branch("others")
    f.begin("leave")
    f.give()
    return f.text()
