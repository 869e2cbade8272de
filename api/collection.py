"""When Python looks for garbage: not while a program is compiled.

A compilation keeps nearly all that it makes until it is done, in values that don't refer to each other in circles. To
go through all of it again and again takes an eighth of its time, and finds nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["uncollected"]


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector of cycles, if it is on; it goes on afterwards."""
    collecting = gc.isenabled()
    try:
        gc.disable()
        yield
    finally:
        if collecting:
            gc.enable()
