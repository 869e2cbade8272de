"""What a peer's process does: it trains on command, one line in for one line out.

`loss` answers with the loss before each of the first steps, from fresh parameters; `time N` with the seconds for N
steps.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable


def serve(train: Callable[[int], float]) -> None:
    """`train(n)` takes n steps and returns the loss of the last."""
    print(json.dumps([train(1) for _ in range(11)]), flush=True)
    for line in sys.stdin:
        count = int(line)
        begin = time.perf_counter()
        train(count)
        print((time.perf_counter() - begin) / count, flush=True)
