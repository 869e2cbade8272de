"""Tests that signals are sent to run in a child of the test runner, which would take them for its own."""

from __future__ import annotations

import functools
import os
import select
import signal
import traceback
from collections.abc import Callable
from typing import Any

SECONDS = 300  # by the clock: far beyond what any takes


def in_a_child(test: Callable[..., None]) -> Callable[..., None]:
    """The test in a forked process, in which signals do what they do in a program that nobody has prepared."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                test(**fixtures)
                status = 0
            except BaseException:
                os.write(write, traceback.format_exc().encode()[-60_000:])
            finally:
                os._exit(status)
        os.close(write)
        with os.fdopen(read, "rb") as said:
            if not select.select([said], [], [], SECONDS)[0]:
                os.kill(child, signal.SIGKILL)
            text = said.read().decode(errors="replace")
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert ended == 0, f"the child ended with {ended}\n{text}"

    return run
