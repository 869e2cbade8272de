"""Machine code for a program's units, made by several threads while the units still come.

A thread takes the unit that has waited longest and is inside LLVM for most of it, without the interpreter's lock. Who
asks for the object does its share, so with one processor there is no thread at all. The bytes are the units' own, in
their order: they don't depend on threads.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from functools import cached_property

from tapeless.codegen.llvm import native
from tapeless.codegen.llvm.objects import joined
from tapeless.ir.target import Target

__all__ = ["Emission"]


class Emission:
    """The object of one program. `threads`: how many may be at work, the caller's included."""

    def __init__(self, target: Target, threads: int) -> None:
        self._target, self._helpers = target, threads - 1
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, str]] = deque()
        self._running: set[threading.Thread] = set()  # helpers that will take another unit
        self._count = 0
        self._made: dict[int, bytes] = {}
        self._fault: Exception | None = None

    def add(self, text: str) -> None:
        """A unit; a thread begins with it at once, if one is left."""
        with self._lock:
            self._waiting.append((self._count, text))
            self._count += 1
            if len(self._running) < self._helpers:
                thread = threading.Thread(target=self._help, name="tapeless code")
                with suppress(RuntimeError):  # where there can be no further thread, the caller does its share
                    thread.start()
                    self._running.add(thread)

    def drop(self) -> None:
        """What has not begun won't be made, and what has is waited for: no thread is inside LLVM afterwards."""
        self._forget()
        self._join()

    @cached_property
    def object(self) -> bytes:
        """The object file of all units. Raises RuntimeError with LLVM's words."""
        try:
            self._work()
            self._join()
        except BaseException:
            self.drop()
            raise
        if self._fault is not None:
            raise self._fault
        return joined([self._made.pop(k) for k in range(self._count)])

    def _help(self) -> None:
        try:
            self._work()
        except Exception as fault:
            self._forget()
            self._fault = fault

    def _forget(self) -> None:
        with self._lock:
            self._waiting.clear()

    def _join(self) -> None:
        for thread in tuple(self._running):
            thread.join()

    def _work(self) -> None:
        while (unit := self._next()) is not None:
            number, text = unit
            self._made[number] = native.compile_object(text, self._target)

    def _next(self) -> tuple[int, str] | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._running.discard(threading.current_thread())  # so whoever adds a unit now starts another
            return None
