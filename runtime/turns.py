"""Who uses a program: one thread at a time, the training loop in turn with the others; and a fork waits until nobody
does.

All that a program does goes over memory of its own: state, gradients, workspace. Whoever uses it has `hold`; a
thread that waits for it stands at the `entry` meanwhile, and the training loop, which would else take `hold` again
the moment that it lets go, passes by the entry before each chunk of steps. Both are locks of the interpreter and
taken by `with` alone, which no Ctrl-C can separate from what lets them go.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from tapeless.runtime.errors import UserError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# held by who compiles, or links machine code: the compiler and LLVM serve one thread at a time
BUILDING = threading.RLock()


class Turns:
    """The locks of one program."""

    def __init__(self) -> None:
        self._trainer: int | None = None  # the thread whose `fit` is going on
        self.restart()
        with _REGISTERING:
            _EVERY.add(self)

    def restart(self) -> None:
        """New locks: for a forked process, in which only the thread that forked goes on."""
        self.entry, self.hold = threading.Lock(), threading.RLock()
        if self._trainer != threading.get_ident():
            self._trainer = None

    def mine(self) -> bool:
        """Whether this thread has the program already."""
        return self.hold._is_owned()  # type: ignore[attr-defined, no-any-return]  # what `threading.Condition` asks too

    @contextmanager
    def training(self) -> Iterator[None]:
        """One call of `fit`. UserError if another is going on."""
        with self.entry, self.hold:
            if self._trainer is not None:
                raise UserError(
                    "the program is being trained already; a program takes one `fit` at a time: compile another, "
                    "or copy it (`copy.deepcopy`)"
                )
            self._trainer = threading.get_ident()
        try:
            yield
        finally:
            self._trainer = None

    def require_rest(self, what: str, callbacks: bool = False) -> None:
        """UserError if `fit` is going on, for `what` would pull the weights from under it. `callbacks` of that run
        may do it.
        """
        if self._trainer is not None and not (callbacks and self._trainer == threading.get_ident()):
            raise UserError(
                f"the program is being trained; `{what}` would change its weights under the run: wait until "
                "`fit` has ended"
            )


class HasTurns(Protocol):
    turns: Turns


Owner = TypeVar("Owner", bound=HasTurns)


def alone(method: Callable[Concatenate[Owner, Arguments], Result]) -> Callable[Concatenate[Owner, Arguments], Result]:
    """A method during which no other thread uses the program."""

    @wraps(method)
    def call(owner: Owner, /, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        turns = owner.turns
        if turns.mine():
            return method(owner, *arguments, **named)
        with turns.entry, turns.hold:
            return method(owner, *arguments, **named)

    return call


# -- forks: the child has one thread, so whatever lock another one held would never be let go, and memory in the midst
# of a step would stay so. Hence a fork takes all locks first, and the child finds every program between two steps.

_REGISTERING = threading.RLock()
_EVERY: weakref.WeakSet[Turns] = weakref.WeakSet()
_taken: list[Any] = []  # by the fork at hand, in order


def _before_fork() -> None:
    _take(_REGISTERING)  # first: it also keeps two forks apart
    for turns in list(_EVERY):
        _take(turns.hold)
    _take(BUILDING)


def _take(lock: Any) -> None:
    lock.acquire()
    _taken.append(lock)


def _after_fork_in_parent() -> None:
    while _taken:
        _taken.pop().release()


def _after_fork_in_child() -> None:
    _after_fork_in_parent()
    for turns in list(_EVERY):
        turns.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
