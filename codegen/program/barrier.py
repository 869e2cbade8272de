"""The function in which threads meet: each counts its own arrivals, and waits until all others have come as far."""

from __future__ import annotations

from tapeless.abi.calls import LINE, offsets
from tapeless.codegen.llvm.builder import I64, NULL, PTR, FunctionBuilder, Value, integer

__all__ = ["MEET", "barrier"]

MEET = "@meet"
SPINS = 2000  # turns of waiting before the host is asked to let others run


def barrier(pointer: int) -> str:
    """The function as text, on a machine whose pointers have so many bytes."""
    context, thread, at = Value(PTR, "%context"), Value(I64, "%thread"), offsets(pointer)
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
    turns = f.add("spins.next", spins.value, integer(1))
    spins.add(turns, "again")
    long = f.icmp("long", "sgt", turns, integer(SPINS))
    f.branch_if(f.both("rest", long, f.icmp("can", "ne", give_way, NULL)), "give", "wait")
    f.begin("give")
    f.call(give_way.text)
    f.branch("wait.reset")
    f.begin("wait.reset")
    f.branch("look")

    f.begin("arrived")
    other.add(f.add("other.next", other.value, integer(1)), "arrived")
    f.branch("others")
    f.begin("leave")
    f.give()
    return f.text()
