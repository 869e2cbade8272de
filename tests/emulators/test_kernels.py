"""Machine code for other processors computes what the loop interpreter does, for every kind of kernel."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.codegen.kernels.lower import lower_kernel
from tapeless.ir.types import DType

from ..codegen.kernels import interpreted
from ..codegen.samples import samples
from ..sweep import sweep
from .executable import Executable
from .machines import MACHINES


@pytest.mark.parametrize(("dtype", "name"), sweep((DType.F32, DType.F64), MACHINES, every=2), ids=str)
def test_kernels_of_every_kind(dtype: DType, name: str) -> None:
    """All of them in one program."""
    target, chosen = MACHINES[name].target, list(samples(dtype))
    functions = [lower_kernel(sample.node, target, sample.capacity) for sample in chosen]
    arrays = [sample.arrays() for sample in chosen]
    results = [
        {
            port.key: np.full(port.value.type.at(sample.rows), 99, port.value.type.dtype.numpy)
            for port in sample.node.regions[0].outputs
        }
        for sample in chosen
    ]
    Executable(functions, MACHINES[name])(
        [
            ([*(given[port.key] for port in sample.node.regions[0].inputs), *made.values()], sample.rows)
            for sample, given, made in zip(chosen, arrays, results, strict=True)
        ]
    )
    for sample, function, given, made in zip(chosen, functions, arrays, results, strict=True):
        sample.agree(made, interpreted(function, sample.node, given, sample.rows), target)
