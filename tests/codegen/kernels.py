"""Running one kernel three ways: machine code, the loop IR's interpreter, and the graph's reference interpreter."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tapeless.codegen.kernels.lower import lower_kernel
from tapeless.codegen.llvm import functions as llvm
from tapeless.codegen.llvm import native
from tapeless.codegen.loops.interpreter import run as interpret
from tapeless.codegen.loops.language import Function
from tapeless.ir.graph import Builder, Graph, Node, Port, Value
from tapeless.ir.interpreter import run as reference_run
from tapeless.ir.target import TARGETS, Target, host
from tapeless.ir.types import DType, Tensor

from ..emulators.executable import Executable
from ..emulators.machines import MACHINES, Machine

HOST = host()
_SSE = TARGETS["x86-64"]
SCALAR = replace(_SSE, name="x86-64-scalar", machine=replace(_SSE.machine, vector_bytes=0))
WIDTHS: dict[int, Target] = {
    target.lanes(4): target
    for target in (SCALAR, *(TARGETS[name] for name in ("x86-64", "x86-64-v3", "x86-64-v4")))
    if HOST.triple.startswith("x86_64") and target.machine.vector_bytes <= HOST.machine.vector_bytes
} or {HOST.lanes(4): HOST}
"""A target for each count of elements of f32 in a vector, whose code runs here: of 1, 4, 8 and 16 on an x86-64 with
AVX-512. A vector has half as many elements of f64.
"""


class Vectors:
    """The targets of kernels for which a test names none: each of WIDTHS in turn, so that a test of many sizes meets
    all. A node that is checked again, with other rows, keeps its target and what was made of it.
    """

    def __init__(self) -> None:
        self.begin(WIDTHS.values())

    def begin(self, targets: Iterable[Target]) -> None:
        self.turn = itertools.cycle(targets)
        self.node: Node | None = None
        self.asked = False

    def __call__(self) -> Target:
        self.asked = True
        return next(self.turn)

    def _of(self, node: Node) -> None:
        if node is not self.node:
            self.node, self.target = node, self()
            self.functions: dict[tuple[Target, int], Function] = {}
            self.compiled: dict[tuple[Target, int], Compiled] = {}

    def function(self, node: Node, target: Target | None, capacity: int) -> tuple[Function, Target]:
        self._of(node)
        target = target or self.target
        key = (target, capacity)
        if key not in self.functions:
            self.functions[key] = lower_kernel(node, target, capacity)
        return self.functions[key], target

    def code(self, node: Node, target: Target | None, capacity: int) -> Compiled:
        function, target = self.function(node, target, capacity)
        key = (target, capacity)
        if key not in self.compiled:
            self.compiled[key] = Compiled(function, target)
        return self.compiled[key]


VECTORS = Vectors()
POISON = 0xFF
"""The byte that memory begins as where nothing may be read that was not written: all bits set are a NaN in both
dtypes.
"""


def kernel(
    family: str,
    build: Callable[[Builder], None],
    *,
    leading: Sequence[int] | None = None,
    name: str = "k",
    dtype: DType = DType.F32,
) -> Node:
    """A kernel node around the region that `build` writes."""
    builder = Builder("region", dtype)
    build(builder)
    return node_of(family, builder.graph(), leading, name)


def node_of(family: str, region: Graph, leading: Sequence[int] | None = None, name: str = "k") -> Node:
    count = len(region.inputs) + len(region.outputs)
    operands = tuple(Value(f"x{k}", port.value.type) for k, port in enumerate(region.inputs))
    results = tuple(Value(f"y{k}", port.value.type) for k, port in enumerate(region.outputs))
    attrs = {"family": family, "name": name, "leading": tuple(leading or (0,) * count)}
    return Node("kernel", operands, results, attrs, (region,))


def padded(array: np.ndarray, leading: int) -> np.ndarray:
    """The memory of a matrix whose rows are `leading` elements apart; the gaps hold garbage."""
    if not leading or array.ndim != 2:
        return np.ascontiguousarray(array)
    memory = np.full((array.shape[0], leading), 77, array.dtype)
    memory[:, : array.shape[1]] = array
    return memory


def arrays_for(
    region: Graph, rows: int, seed: int = 0, ranges: Mapping[str, tuple[float, float]] | None = None
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    made = {}
    for port in region.inputs:
        shape = port.value.type.at(rows)
        low, high = (ranges or {}).get(port.key, (-2.0, 2.0))
        if port.value.type.dtype.is_float:
            array = rng.uniform(low, high, shape)
        elif port.value.type.dtype is DType.BOOL:
            array = rng.integers(0, 2, shape)
        else:
            array = rng.integers(
                int(low) if port.key in (ranges or {}) else 0, int(high) if port.key in (ranges or {}) else 5, shape
            )
        made[port.key] = array.astype(port.value.type.dtype.numpy)
    return made


class Compiled:
    """A function's machine code, called as the driver calls it: here, or in the emulator of another processor."""

    def __init__(self, function: Function, target: Target = HOST) -> None:
        self.function = function
        self.elsewhere = Executable([function], MACHINES[target.name]) if target.name in MACHINES else None
        self.text = llvm.module_text([llvm.function_text(function, target, linkage="")], target)
        self.object = native.compile_object(self.text, target)
        if self.elsewhere is None:
            self.loaded = native.load(self.object, [function.name])
            types = [ctypes.c_void_p] * len(function.buffers) + [ctypes.c_int64] * 3
            self.entry = self.loaded.function(function.name, *types)

    def __call__(self, memory: Sequence[np.ndarray], rows: int) -> None:
        if self.elsewhere is not None:
            self.elsewhere([(memory, rows)])
            return
        pointers, scratch, size = [array.ctypes.data for array in memory], None, 0
        for buffer in self.function.buffers[len(memory) :]:
            size = buffer.bytes
            scratch = np.full(size + 64, POISON, np.uint8)
            pointers.append(scratch.ctypes.data)
        for part, until in ((0, 1), (1, self.function.parts)):  # one part alone, and several as one call
            if part < until:
                self.entry(*pointers, rows, part, until)
        assert scratch is None or (scratch[size:] == POISON).all(), "a kernel wrote past its scratch"


def prepared(node: Node, arrays: Mapping[str, np.ndarray], rows: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The memory of a kernel's operands, and of its results, each with a guard behind it."""
    region, leading = node.regions[0], node.attrs["leading"]
    memory = [padded(arrays[port.key], ld) for port, ld in zip(region.inputs, leading, strict=False)]
    guards = []
    for port, ld in zip(region.outputs, leading[len(region.inputs) :], strict=True):
        result = padded(np.full(port.value.type.at(rows), 99, port.value.type.dtype.numpy), ld)
        guards.append(np.concatenate([result.reshape(-1), np.full(64, 55).astype(result.dtype)]))
    return memory, guards


def results_in(node: Node, guards: Sequence[np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """The results that a kernel left in their memory."""
    region, made = node.regions[0], {}
    for port, ld, guard in zip(region.outputs, node.attrs["leading"][len(region.inputs) :], guards, strict=True):
        assert (guard[-64:] == np.full(64, 55).astype(guard.dtype)).all(), "a kernel wrote past its result"
        shape = port.value.type.at(rows)
        apart = bool(ld) and len(shape) == 2
        whole = guard[:-64].reshape((shape[0], ld) if apart else shape)
        made[port.key] = whole[:, : shape[1]] if apart else whole
    return made


def run_compiled(
    node: Node,
    arrays: Mapping[str, np.ndarray],
    rows: int,
    *,
    capacity: int | None = None,
    target: Target | None = None,
    compiled: Compiled | None = None,
) -> dict[str, np.ndarray]:
    compiled = compiled or VECTORS.code(node, target, max(1, capacity or rows))
    memory, guards = prepared(node, arrays, rows)
    compiled([*memory, *guards], rows)
    return results_in(node, guards, rows)


def interpreted(function: Function, node: Node, arrays: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """The loops' own interpreter instead of machine code."""
    region = node.regions[0]
    made = {
        port.key: np.full(port.value.type.at(rows), 99, port.value.type.dtype.numpy).reshape(-1)
        for port in region.outputs
    }
    for part in range(function.parts):
        operands = (np.ascontiguousarray(arrays[port.key]).reshape(-1) for port in region.inputs)
        interpret(function, [*operands, *made.values()], rows, part)
    return {port.key: made[port.key].reshape(port.value.type.at(rows)) for port in region.outputs}


def expected(node: Node, arrays: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    return reference_run(node.regions[0], dict(arrays), rows=rows, precision=DType.F64)


def check(
    node: Node,
    rows: int,
    *,
    seed: int = 0,
    capacity: int | None = None,
    tolerance: float = 0.0,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    target: Target | None = None,
    compiled: Compiled | None = None,
    arrays: dict[str, np.ndarray] | None = None,
    absolute: float | None = None,
) -> None:
    """Machine code against the reference interpreter, within the element type's rounding: of a number, or of the
    greatest if no absolute error is given. That of another processor runs when the test ends, together with all that
    it checks.
    """
    bounds = (tolerance, absolute)
    if arrays is None:
        arrays = arrays_for(node.regions[0], rows, seed, ranges)
    if compiled is None:
        function, target = VECTORS.function(node, target, max(1, capacity or rows))
        if target.name in MACHINES:
            ELSEWHERE.later(node, function, arrays, rows, bounds)
            return
    made = run_compiled(node, arrays, rows, capacity=capacity, target=target, compiled=compiled)
    compare(node, made, arrays, rows, bounds)


def compare(
    node: Node,
    made: Mapping[str, np.ndarray],
    arrays: Mapping[str, np.ndarray],
    rows: int,
    bounds: tuple[float, float | None],
) -> None:
    tolerance, absolute = bounds
    with np.errstate(all="ignore"):  # what is beyond the greatest number is infinite
        exact = expected(node, arrays, rows)
        wanted = {port.key: exact[port.key].astype(made[port.key].dtype) for port in node.regions[0].outputs}
    for port in node.regions[0].outputs:
        dtype = port.value.type.dtype
        if dtype.is_float:
            bound = tolerance or (2e-5 if dtype is DType.F32 else 1e-12)
            finite = np.abs(wanted[port.key][np.isfinite(wanted[port.key])])
            near = bound * max(1.0, float(finite.max()) if finite.size else 0.0) if absolute is None else absolute
            np.testing.assert_allclose(made[port.key], wanted[port.key], rtol=bound, atol=near, err_msg=str(port.key))
        else:
            np.testing.assert_array_equal(made[port.key], wanted[port.key], err_msg=str(port.key))


class Elsewhere:
    """Checks that wait for the emulator of another processor, which begins once for many of them."""

    COUNT, BYTES = 200, 1 << 24

    def __init__(self) -> None:
        self.begin(None)

    def begin(self, machine: Machine | None) -> None:
        self.machine = machine
        self.functions: list[Function] = []
        self.calls: list[tuple[list[np.ndarray], int]] = []
        self.waiting: list[Callable[[], None]] = []
        self.bytes = 0

    def later(
        self,
        node: Node,
        function: Function,
        arrays: Mapping[str, np.ndarray],
        rows: int,
        bounds: tuple[float, float | None],
    ) -> None:
        memory, guards = prepared(node, arrays, rows)
        self.functions.append(function)
        self.calls.append(([*memory, *guards], rows))
        self.waiting.append(lambda: compare(node, results_in(node, guards, rows), arrays, rows, bounds))
        self.bytes += sum(array.nbytes for array in (*memory, *guards))
        if len(self.waiting) == self.COUNT or self.bytes > self.BYTES:
            self.run()

    def run(self) -> None:
        machine, functions, calls, waiting = self.machine, self.functions, self.calls, self.waiting
        self.begin(machine)
        if machine is not None and waiting:
            Executable(functions, machine)(calls)
            for one in waiting:
                one()


ELSEWHERE = Elsewhere()


def tensor(*shape: object, dtype: DType = DType.F32) -> Tensor:
    return Tensor(dtype, tuple(shape))  # type: ignore[arg-type]


__all__ = [
    "ELSEWHERE",
    "HOST",
    "POISON",
    "SCALAR",
    "VECTORS",
    "WIDTHS",
    "Compiled",
    "Port",
    "Vectors",
    "arrays_for",
    "check",
    "expected",
    "interpreted",
    "kernel",
    "node_of",
    "padded",
    "run_compiled",
    "tensor",
]
