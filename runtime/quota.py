"""How much of the machine's processors a control group allows this process, on Linux.

A container may be shown all processors and be stopped for most of each period when it uses them: threads beyond the
quota then wait for each other. Version 2 says it in `cpu.max`, version 1 in `cpu.cfs_quota_us`; a group has at most
what the groups around it have.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CONTROLLERS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def quota(controllers: Path = CONTROLLERS, membership: Path = MEMBERSHIP) -> float | None:
    """The processors' time for each unit of time, the least of all groups'; None where nothing limits it."""
    try:
        lines = membership.read_text("utf-8").splitlines()
    except (OSError, UnicodeError):
        return None
    found = [limit for line in lines for folder in _folders(controllers, line) if (limit := _limit(folder)) is not None]
    return min(found, default=None)


def _folders(controllers: Path, line: str) -> Iterator[Path]:
    """Where a line of the membership, `number:controllers:path`, and what is around it have their limits."""
    _, _, rest = line.partition(":")
    names, _, path = rest.partition(":")
    if names and "cpu" not in names.split(","):
        return
    parts = [part for part in path.split("/") if part and part != ".."]
    for root in (controllers / names, controllers / "cpu") if names else (controllers,):
        for count in range(len(parts), -1, -1):
            yield root.joinpath(*parts[:count])


def _limit(folder: Path) -> float | None:
    """What one group says of itself."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            words = " ".join((folder / name).read_text("utf-8") for name in names).split()
            allowed, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):  # no such file, or `max`
            continue
        if allowed > 0 and period > 0:
            return allowed / period
    return None
