"""Loop functions as one program for another processor, linked without any library and run in its emulator.

The program reads an image of memory, calls its functions in order, and writes the image back. The image begins with a
list of numbers, for each function where its buffers lie and how many rows there are; buffers follow, each with a guard
behind it.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tapeless.codegen.llvm import functions as llvm
from tapeless.codegen.llvm.emission import Emission
from tapeless.codegen.llvm.units import Units, bound_of
from tapeless.codegen.loops.language import Function

from .machines import Linux, Machine, needed

__all__ = ["Executable"]

ALIGNMENT = 64
GUARD = bytes([55]) * 64
SCRATCH = 0xFF  # as in tests/codegen: all bits set are a NaN
SPACE = 1 << 25  # for an image; no page of it is there before it is touched


class Executable:
    """Functions for one machine; `object` is theirs alone, without the program around them."""

    def __init__(self, functions: Sequence[Function], machine: Machine) -> None:
        needed(machine)
        self.functions = functions
        self.machine = machine
        self.names: dict[int, str] = {}
        for function in functions:
            self.names.setdefault(id(function), f"k{len(self.names)}")
        bodies = [
            llvm.function_text(replace(function, name=self.names[id(function)]), machine.target)
            for function in {id(function): function for function in functions}.values()
        ]
        # as the units of a large program: each kernel is made apart, where objects can be put together
        emission = Emission(machine.target, threads=1)
        units = Units(llvm.module_head(machine.target), emission.add, bound_of(machine.target) and 1)
        units.add(bodies)
        units.add(["\n".join(self.around())])
        units.finish()
        self.folder = tempfile.TemporaryDirectory(prefix="tapeless-emulated-")
        self.path = Path(self.folder.name) / "program"
        made = self.path.with_suffix(".o")
        made.write_bytes(emission.object)
        subprocess.run([*machine.linker, "-o", self.path, made], check=True, timeout=60)

    def around(self) -> Iterator[str]:
        """The image, `run`, which calls all functions, and what the outside calls."""
        yield f"@image = internal global [{SPACE} x i8] zeroinitializer, align {ALIGNMENT}\n"
        lines = []
        place = 0
        for number, function in enumerate(self.functions):
            arguments = []
            for _ in function.buffers:
                lines += [
                    f"  %o{place} = load i64, ptr getelementptr (i64, ptr @image, i64 {place})",
                    f"  %p{place} = getelementptr i8, ptr @image, i64 %o{place}",
                ]
                arguments.append(f"ptr %p{place}")
                place += 1
            lines.append(f"  %rows{number} = load i64, ptr getelementptr (i64, ptr @image, i64 {place})")
            place += 1
            given = f"{', '.join(arguments)}, i64 %rows{number}"
            lines += [
                f"  call void @{self.names[id(function)]}({given}, i64 {part}, i64 {part + 1})"
                for part in range(function.parts)
            ]
        attribute = '"wasm-export-name"="run"' if self.machine.linux is None else ""
        yield "\n".join([f"define void @run() {attribute} {{", *lines, "  ret void", "}\n"])
        if self.machine.linux is None:
            yield 'define ptr @place() "wasm-export-name"="image" { ret ptr @image }\n'
        else:
            yield _process(self.machine.linux, f"i{8 * self.machine.target.pointer_bytes}")

    def __call__(self, calls: Sequence[tuple[Sequence[np.ndarray], int]]) -> None:
        """Runs all functions once, each on its arrays, which change in place, and a count of rows."""
        arrays: dict[int, tuple[int, np.ndarray]] = {}  # by where an array lies here: one that is given twice is one
        numbers: list[int] = []
        count = sum(len(function.buffers) + 1 for function in self.functions)
        image = bytearray(8 * count)

        def add(content: bytes) -> int:
            image.extend(bytes(-len(image) % ALIGNMENT))
            offset = len(image)
            image.extend(content + GUARD)
            return offset

        for function, (memory, rows) in zip(self.functions, calls, strict=True):
            for array in memory:
                if array.ctypes.data not in arrays:
                    arrays[array.ctypes.data] = (add(array.tobytes()), array)
                numbers.append(arrays[array.ctypes.data][0])
            for buffer in function.buffers[len(memory) :]:
                numbers.append(add(bytes([SCRATCH]) * buffer.bytes))
            numbers.append(rows)
        image[: 8 * count] = np.array(numbers, "<i8").tobytes()
        assert len(image) <= SPACE
        ran = subprocess.run(
            [*self.machine.emulator, self.path], input=bytes(image), stdout=subprocess.PIPE, check=True, timeout=300
        ).stdout
        assert len(ran) == len(image)
        for offset, array in arrays.values():
            array[...] = np.frombuffer(ran, array.dtype, array.size, offset).reshape(array.shape)
            end = offset + array.nbytes
            assert ran[end : end + len(GUARD)] == GUARD, "a kernel wrote past its memory"


def _process(linux: Linux, size: str) -> str:
    """A process without a library: the image is read until there is no more, and as many bytes are written."""
    words = ", ".join(f"i{linux.bits} {word}" for word in linux.enter)
    arguments = ", ".join([size] * 4)

    def moves(name: str, call: int, descriptor: int, end: str) -> str:
        """A loop that moves bytes until it has as many as `end`, or there are none left."""
        return f"""
  br label %{name}
{name}:
  %{name}.done = phi {size} [ 0, %{name}.before ], [ %{name}.after, %{name} ]
  %{name}.start = getelementptr i8, ptr @image, {size} %{name}.done
  %{name}.from = ptrtoint ptr %{name}.start to {size}
  %{name}.left = sub {size} {end}, %{name}.done
  %{name}.moved = call {size} @enter({size} {call}, {size} {descriptor}, {size} %{name}.from, {size} %{name}.left)
  %{name}.after = add {size} %{name}.done, %{name}.moved
  %{name}.more = icmp sgt {size} %{name}.moved, 0
  br i1 %{name}.more, label %{name}, label %{name}.end
"""

    return f"""
define internal {size} @enter({arguments}) noinline prologue [{len(linux.enter)} x i{linux.bits}] [{words}] {{
  unreachable
}}

define void @_start() {{
read.before:
{moves("read", linux.read, 0, str(SPACE))}
read.end:
  call void @run()
  br label %write.before
write.before:
{moves("write", linux.write, 1, "%read.done")}
write.end:
  call {size} @enter({size} {linux.exit}, {size} 0, {size} 0, {size} 0)
  unreachable
}}
"""
