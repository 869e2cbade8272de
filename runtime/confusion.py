"""Which classes a classifier takes for which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tapeless.runtime import data
from tapeless.runtime.data import Data
from tapeless.runtime.manifest import Entry, TensorSpec

if TYPE_CHECKING:
    from tapeless.runtime.program import Program

PIECE_ROWS = 1 << 16  # of which the scores are held at a time


def classes(evaluate: Entry, predict: Entry) -> tuple[TensorSpec, TensorSpec] | None:
    """The labels and the scores of a classifier: its one target, `int[batch] < n`, and the output `[batch, n]`, the
    first if there are several. None if the program is no classifier."""
    targets = [spec for spec in evaluate.data if spec.role == "target"]
    if len(targets) != 1 or targets[0].bound is None or targets[0].shape != ("batch",):
        return None
    wanted = ("batch", targets[0].bound)
    scores = [spec for spec in predict.outputs if spec.shape == wanted and spec.dtype.kind == "f"]
    return (targets[0], scores[0]) if scores else None


def table(program: Program, inputs: Data, targets: Data) -> npt.NDArray[np.int64] | None:
    """See `Program.confusion`."""
    entry = program.having("evaluate").manifest.entries["evaluate"]
    found = classes(entry, program.image("predict").manifest.entries["predict"])
    if found is None or found[0].bound is None:
        return None
    examples = data.bind(entry.data, inputs, targets)
    arrays = {spec.name: array for spec, array in zip(entry.data, examples.arrays, strict=True)}
    labels, count = arrays.pop(found[0].name), found[0].bound
    result = np.zeros((count, count), np.int64)
    for begin in range(0, examples.rows, PIECE_ROWS):
        part = slice(begin, begin + PIECE_ROWS)
        predicted = program.predict({name: array[part] for name, array in arrays.items()})
        scores = predicted[found[1].name] if isinstance(predicted, dict) else predicted
        seen = labels[part].astype(np.int64) * count + scores.argmax(axis=1)
        counted = seen[~np.isin(labels[part], found[0].ignored)]
        result += np.bincount(counted, minlength=count * count).reshape(count, count)
    return result
