"""A library's matrix products on one thread, on command: a line in for a line out.

`python products.py LIBRARY` with `numpy` (OpenBLAS), `torch` (MKL) or `onednn` (through PyTorch). A line of JSON sets a
case, and is answered with "ok"; `time` is answered with seconds for a product, the best of some.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

SAMPLES = 3


def operands(case: dict[str, object], place: int) -> list[np.ndarray]:
    """A, B and the result as they lie, views of wider matrices where rows are padded."""
    rng = np.random.default_rng(place)
    made = []
    for rows, columns in case["shapes"]:  # type: ignore[attr-defined]
        whole = np.empty((rows, columns + case["pad"]), np.float32)
        whole[...] = rng.random(whole.shape, np.float32)
        made.append(whole[:, :columns])
    return made


def calls(library: str, case: dict[str, object]) -> list[Callable[[], object]]:
    """A product for each set of operands."""
    made: list[Callable[[], object]] = []
    for place in range(case["sets"]):  # type: ignore[call-overload]
        x, y, z = operands(case, place)
        a = x.T if case["transpose_a"] else x
        b = y.T if case["transpose_b"] else y
        if library == "numpy":
            made.append(lambda a=a, b=b, z=z: np.matmul(a, b, out=z))
            continue
        p, q = torch.from_numpy(a), torch.from_numpy(b)
        if library == "torch":
            r = torch.from_numpy(z)
            made.append(lambda p=p, q=q, r=r: torch.mm(p, q, out=r))
        else:  # in its own dense layout, whatever the transposition
            u, v = p.contiguous().to_mkldnn(), q.T.contiguous().to_mkldnn()
            made.append(lambda u=u, v=v: torch._C._nn.mkldnn_linear(u, v))
    return made


def main() -> None:
    library = sys.argv[1]
    current: list[Callable[[], object]] = []
    turns = 1
    for line in sys.stdin:
        if line.strip() != "time":
            case = json.loads(line)
            current = calls(library, case)
            turns = max(1, int(case["turns"]) // len(current)) * len(current)
            for call in current:
                call()
            print("ok", flush=True)
            continue
        best = float("inf")
        for _ in range(SAMPLES):
            begun = time.process_time()
            for turn in range(turns):
                current[turn % len(current)]()
            best = min(best, time.process_time() - begun)
        print(best / turns, flush=True)


if __name__ == "__main__":
    if sys.argv[1] != "numpy":
        import torch

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
    main()
