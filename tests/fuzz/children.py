"""Cases tried in forked children, so that a crash, a hang or memory without bound is a finding like any other.

A child tries one case after the other and says what it found; it may grow by `MEMORY`, and has `SECONDS` of a
processor's time for each, and more by the clock, as others may use the processors too. A case that it does
not survive is named, and another child goes on with the next.
"""

from __future__ import annotations

import argparse
import os
import pickle
import resource
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator

MEMORY = 1 << 30
SECONDS = 10.0
BY_THE_CLOCK = 60.0
EACH = 100  # cases between two lines about how far it is
Attempt = Callable[[int], str | None]
"""Tries the case of a number; what was wrong, or None. Whatever it raises is wrong too."""


def findings(attempt: Attempt, numbers: range) -> Iterator[tuple[int, str]]:
    """The cases that were taken badly, and how."""
    place = numbers.start
    while place < numbers.stop:
        place = yield from _child(attempt, range(place, numbers.stop))


def _child(attempt: Attempt, numbers: range) -> Iterator[tuple[int, str]]:
    """Tries cases until one is not survived; the number to go on with."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _try_all(attempt, numbers, write)
    os.close(write)
    place = numbers.start
    while True:
        in_time = _heard(read, child)
        message = _received(read) if in_time else None
        if message is None:
            if not in_time:
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            os.close(read)
            if place < numbers.stop:
                yield place, f"ended the process: {_ending(status)}" if in_time else f"took over {SECONDS:g} s"
            return place + 1
        place = message[0] + 1
        if message[1] is not None:
            yield message


def _heard(read: int, child: int) -> bool:
    """Waits for the next message, or the end, of a child; whether it comes in time."""
    begin, used = time.monotonic(), _used(child)
    while not select.select([read], [], [], 0.5)[0]:
        if time.monotonic() - begin > BY_THE_CLOCK or _used(child) - used > SECONDS:
            return False
    return True


def _used(child: int) -> float:
    """Seconds of processors' time that a process has used."""
    with open(f"/proc/{child}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ending(status: int) -> str:
    return (
        signal.Signals(os.WTERMSIG(status)).name
        if os.WIFSIGNALED(status)
        else f"status {os.waitstatus_to_exitcode(status)}"
    )


def _try_all(attempt: Attempt, numbers: range, write: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    for number in numbers:
        try:
            found = attempt(number)
        except BaseException:
            found = traceback.format_exc()
        content = pickle.dumps((number, found))
        os.write(write, struct.pack("<I", len(content)) + content)
    os._exit(0)


def _received(read: int) -> tuple[int, str | None] | None:
    """The next message; None where the child has ended."""
    length = _bytes(read, 4)
    content = _bytes(read, struct.unpack("<I", length)[0]) if length else None
    return pickle.loads(content) if content else None


def _bytes(read: int, count: int) -> bytes | None:
    found = b""
    while len(found) < count:
        piece = os.read(read, count - len(found))
        if not piece:
            return None
        found += piece
    return found


def run(attempt: Attempt, description: str | None, default: int) -> int:
    """The command line of a fuzzer: `--count 10000 --first 0`; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=default)
    parser.add_argument(
        "--first", type=int, default=0, help="the number of the first case; a case depends on its number alone"
    )
    given = parser.parse_args()
    begin, count = time.monotonic(), 0
    end = given.first + given.count
    for first in range(given.first, end, EACH):
        for number, reason in findings(attempt, range(first, min(first + EACH, end))):
            count += 1
            print(f"{'=' * 80}\ncase {number}: {reason}", flush=True)
        print(f"{min(first + EACH, end) - given.first} cases, {count} findings", file=sys.stderr, flush=True)
    print(f"{given.count} cases, {count} findings, {time.monotonic() - begin:.0f} s")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit("run one of the fuzzers beside this file")
