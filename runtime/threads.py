"""Threads for native calls: each is a Python thread inside one call, with the interpreter lock released."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache

from tapeless.runtime.errors import UserError
from tapeless.runtime.quota import quota

NativeEntry = Callable[[int, int], int]
ENTRY = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32)


@cache
def _quota() -> float | None:
    return quota()


def processors() -> int:
    """How many processors this process may use: those it is bound to, as far as its control group's quota goes."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable(bound, _quota())


def usable(bound: int, allowed: float | None) -> int:
    """As many threads as run all the time: one more, once the quota is used up, would keep the others waiting."""
    return bound if allowed is None else max(1, min(bound, int(allowed)))


@cache
def yield_address() -> int:
    """The C library's `sched_yield`, which a native thread calls when it has waited long at a barrier; 0 if none."""
    try:
        function = ctypes.CDLL(None).sched_yield
    except (OSError, AttributeError, TypeError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@lru_cache(256)
def native_entry(function: int) -> NativeEntry:
    """The entry at an address, as Python calls it."""
    return ENTRY(function)


class Team:
    """A fixed number of threads, kept from call to call, of which one is served at a time."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise UserError(f"a program runs on at least one thread, not {size}")
        self.size = size
        self.restart()

    def restart(self) -> None:
        """Forgets the threads, which a fork leaves behind in the parent, and starts others when they are needed."""
        self._pool = ThreadPoolExecutor(self.size, "tapeless") if self.size > 1 else None
        self._turn = threading.Lock()  # two calls at once would each wait at a barrier for threads that the other has

    def call(self, function: int, context: ctypes.Structure) -> None:
        """Runs the entry at address `function` once on every thread, all at the same time; ends when all have."""
        native, pointer = native_entry(function), ctypes.addressof(context)
        if self._pool is None:
            native(pointer, 0)
            return
        with self._turn:
            self._call_all(self._pool, native, context, pointer)

    def _call_all(self, pool: ThreadPoolExecutor, native: NativeEntry, context: ctypes.Structure, pointer: int) -> None:
        # The first worker starts the others. Were it the caller, a Ctrl-C between two starts would leave those already
        # running to wait at a barrier for ever: Python delivers signals to the main thread alone.
        leader = pool.submit(self._lead, pool, native, context, pointer)
        try:
            leader.result()
        finally:
            leader.result()

    def _lead(self, pool: ThreadPoolExecutor, native: NativeEntry, context: ctypes.Structure, pointer: int) -> None:
        others = [pool.submit(native, pointer, thread) for thread in range(1, self.size)]
        native(pointer, 0)
        for future in others:
            future.result()


@cache
def team(size: int) -> Team:
    """The process's team of that size."""
    made = Team(size)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=made.restart)
    return made
