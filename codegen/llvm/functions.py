"""Loop IR to LLVM IR, written directly as text.

One line of text for one instruction where possible: LLVM's code generation costs about 17 microseconds a line, the
writing a quarter of one. No pass over LLVM IR runs afterwards, so vectors, fused multiply-adds and hoisting are
already what they shall be, and no instruction carries a fast-math flag. Whatever is called is an intrinsic that
every target expands in place: the object needs no symbol from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tapeless.abi.dtypes import ScalarType
from tapeless.codegen.llvm.arithmetic import COMPUTE
from tapeless.codegen.llvm.storage import CONVERSIONS
from tapeless.codegen.llvm.types import mangle, number, spell, spell_as
from tapeless.codegen.loops.language import (
    Compute,
    Constant,
    For,
    Function,
    Gap,
    Gather,
    If,
    Instruction,
    Load,
    Operand,
    Prefetch,
    Scatter,
    Shuffle,
    Store,
    Stream,
    Type,
    Value,
)
from tapeless.ir.target import Target

__all__ = ["function_text", "module_head", "module_text"]


def module_text(bodies: list[str], target: Target) -> str:
    """A module of the given definitions. Intrinsics are declared by LLVM's parser where they are first used."""
    return module_head(target) + "\n".join(bodies)


def module_head(target: Target) -> str:
    """What a module begins with."""
    return f'target triple = "{target.triple}"\n\n'


def function_text(function: Function, target: Target, *, linkage: str = "internal") -> str:
    """The function as `void @name(ptr, ..., i64 rows, i64 part, i64 until)`, a definition in LLVM IR."""
    return Writer(function, target).text(linkage)


class Writer:
    def __init__(self, function: Function, target: Target) -> None:
        self.function = function
        self.target = target
        self.lines: list[str] = []
        self.label = "entry"
        self.labels = 0
        self.temporaries = 0
        self.streams = False

    def text(self, linkage: str) -> str:
        function = self.function
        parameters = ", ".join(
            [f"ptr %{buffer.name}" for buffer in function.buffers] + ["i64 %rows", "i64 %part", "i64 %until"]
        )
        prefix = f"{linkage} " if linkage else ""
        self.lines += [f"define {prefix}void @{function.name}({parameters}) nounwind {{", "entry:"]
        self.block(function.body)
        if self.streams:  # what went past the caches is there for all threads before anything that follows
            self.lines.append("  fence seq_cst")
        self.lines += ["  ret void", "}"]
        return "\n".join(self.lines) + "\n"

    def temporary(self) -> str:
        self.temporaries += 1
        return f"%t{self.temporaries}"

    def new_label(self) -> str:
        self.labels += 1
        return f"b{self.labels}"

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.label = label

    def operand(self, operand: Operand) -> str:
        """Without its type."""
        if not isinstance(operand, Constant):
            return "%" + operand.name
        type, value = operand.type, operand.value
        if isinstance(value, tuple):
            if type.lanes == 1:
                return number(value[0], type.record)
            return "<" + ", ".join(f"{type.record.llvm} {number(lane, type.record)}" for lane in value) + ">"
        if type.lanes == 1:
            return number(value, type.record)
        if value == 0 and str(value) != "-0.0":
            return "zeroinitializer"
        return f"splat ({type.record.llvm} {number(value, type.record)})"

    def typed(self, operand: Operand) -> str:
        return f"{spell(operand.type)} {self.operand(operand)}"

    def block(self, block: tuple[Instruction, ...]) -> None:
        for instruction in block:
            _WRITE[type(instruction)](self, instruction)

    # Arithmetic

    def compute(self, instruction: Compute) -> None:
        result = "%" + instruction.result.name
        COMPUTE[instruction.op](self, result, instruction.result.type, instruction.operands)

    def call(self, result: str, type: Type, intrinsic: str, operands: tuple[Operand, ...]) -> None:
        arguments = ", ".join(self.typed(operand) for operand in operands)
        mangled = mangle(type.record, type.lanes)
        self.lines.append(f"  {result} = call {spell(type)} @llvm.{intrinsic}.{mangled}({arguments})")

    def plain(self, result: str, opcode: str, type: Type, operands: tuple[Operand, ...]) -> None:
        a, b = operands
        self.lines.append(f"  {result} = {opcode} {spell(type)} {self.operand(a)}, {self.operand(b)}")

    def shuffle(self, instruction: Shuffle) -> None:
        lanes = ", ".join(f"i32 {lane}" for lane in instruction.lanes)
        mask = f"<{len(instruction.lanes)} x i32> <{lanes}>"
        self.lines.append(
            f"  %{instruction.result.name} = shufflevector {self.typed(instruction.a)}, "
            f"{self.typed(instruction.b)}, {mask}"
        )

    # Memory

    def address(self, buffer: str, index: Operand, masked: bool = False) -> str:
        """An element's address; one that only masked lanes may reach can lie outside the buffer."""
        declared = self.function.index[buffer]
        base = f"%{buffer}"
        if isinstance(index, Constant) and index.value == 0:
            return base
        pointer = self.temporary()
        kind = declared.record.llvm
        self.lines.append(
            f"  {pointer} = getelementptr {'' if masked else 'inbounds '}{kind}, ptr {base}, i64 {self.operand(index)}"
        )
        return pointer

    def in_memory(self, buffer: str, lanes: int) -> tuple[ScalarType, str]:
        """An element of a buffer, and how LLVM writes so many."""
        element = self.function.index[buffer].record
        return element, spell_as(element.llvm, lanes)

    def loaded(self, result: Value, element: ScalarType, expression: str) -> None:
        if element.computed == element.name:
            self.lines.append(f"  %{result.name} = {expression}")
            return
        stored = self.temporary()
        self.lines.append(f"  {stored} = {expression}")
        CONVERSIONS[element.name].bring(self, f"%{result.name}", stored, result.type.lanes)

    def load(self, instruction: Load) -> None:
        result = instruction.result
        lanes = result.type.lanes
        element, kind = self.in_memory(instruction.buffer, lanes)
        pointer = self.address(instruction.buffer, instruction.index, instruction.mask is not None)
        if instruction.mask is None:
            self.loaded(result, element, f"load {kind}, ptr {pointer}, align {element.bytes}")
        else:
            self.loaded(
                result,
                element,
                f"call {kind} @llvm.masked.load.{mangle(element, lanes)}.p0(ptr align {element.bytes} {pointer}, "
                f"{self.typed(instruction.mask)}, {kind} zeroinitializer)",
            )

    def stored(self, buffer: str, value: Operand) -> tuple[ScalarType, str]:
        """An element of a buffer, and the value as it is stored there, with its type."""
        element, kind = self.in_memory(buffer, value.type.lanes)
        converted = element.computed != element.name
        text = CONVERSIONS[element.name].put(self, value) if converted else self.operand(value)
        return element, f"{kind} {text}"

    def store(self, instruction: Store) -> None:
        element, value = self.stored(instruction.buffer, instruction.value)
        pointer = self.address(instruction.buffer, instruction.index)
        if instruction.mask is None:
            self.lines.append(f"  store {value}, ptr {pointer}, align {element.bytes}")
        else:
            mangled = mangle(element, instruction.value.type.lanes)
            self.lines.append(
                f"  call void @llvm.masked.store.{mangled}.p0({value}, "
                f"ptr align {element.bytes} {pointer}, {self.typed(instruction.mask)})"
            )

    def pointers(self, buffer: str, index: Operand, offsets: Operand) -> str:
        base = self.address(buffer, index)
        pointers = self.temporary()
        kind = self.function.index[buffer].record.llvm
        self.lines.append(f"  {pointers} = getelementptr {kind}, ptr {base}, {self.typed(offsets)}")
        return pointers

    def gather(self, instruction: Gather) -> None:
        result, lanes = instruction.result, instruction.result.type.lanes
        element, kind = self.in_memory(instruction.buffer, lanes)
        pointers = self.pointers(instruction.buffer, instruction.index, instruction.offsets)
        mask = instruction.mask if instruction.mask is not None else Constant(True, result.type.mask)
        mangled = mangle(element, lanes)
        self.loaded(
            result,
            element,
            f"call {kind} @llvm.masked.gather.{mangled}.v{lanes}p0(<{lanes} x ptr> align {element.bytes} {pointers}, "
            f"{self.typed(mask)}, {kind} zeroinitializer)",
        )

    def scatter(self, instruction: Scatter) -> None:
        lanes = instruction.value.type.lanes
        element, value = self.stored(instruction.buffer, instruction.value)
        pointers = self.pointers(instruction.buffer, instruction.index, instruction.offsets)
        mask = instruction.mask if instruction.mask is not None else Constant(True, instruction.value.type.mask)
        mangled = mangle(element, lanes)
        self.lines.append(
            f"  call void @llvm.masked.scatter.{mangled}.v{lanes}p0({value}, "
            f"<{lanes} x ptr> align {element.bytes} {pointers}, {self.typed(mask)})"
        )

    def stream(self, instruction: Stream) -> None:
        element, value = self.stored(instruction.buffer, instruction.value)
        bytes_ = element.bytes * instruction.value.type.lanes
        pointer = self.address(instruction.buffer, instruction.index)
        self.lines.append(f"  store {value}, ptr {pointer}, align {bytes_}, !nontemporal !{{i32 1}}")
        self.streams = True

    def prefetch(self, instruction: Prefetch) -> None:
        pointer = self.address(instruction.buffer, instruction.index, masked=True)
        # To be read (0), into the first level (3) or the second (2), data (1).
        level = 3 if instruction.near else 2
        self.lines.append(f"  call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 {level}, i32 1)")

    def gap(self, instruction: Gap) -> None:
        pointer = self.address(instruction.buffer, instruction.index)
        size = self.function.index[instruction.buffer].record.bytes
        place, back, rest = (self.temporary() for _ in range(3))
        self.lines += [
            f"  {place} = ptrtoint ptr {pointer} to i64",
            f"  {back} = sub i64 0, {place}",
            f"  {rest} = and i64 {back}, {instruction.bytes - 1}",
            f"  %{instruction.result.name} = udiv i64 {rest}, {size}",
        ]

    # Control: a loop tests at its bottom; the test at its top is left out where the first turn is certain.

    def loop(self, loop: For) -> None:
        before, body, after = self.label, self.new_label(), self.new_label()
        start, stop = loop.start, loop.stop
        certain = isinstance(start, Constant) and isinstance(stop, Constant) and start.value < stop.value  # type: ignore[operator]
        if certain:
            self.lines.append(f"  br label %{body}")
        else:
            test = self.temporary()
            self.lines.append(f"  {test} = icmp slt i64 {self.operand(loop.start)}, {self.operand(loop.stop)}")
            self.lines.append(f"  br i1 {test}, label %{body}, label %{after}")
        self.start(body)
        following = self.temporary()
        here = len(self.lines)
        self.block(loop.body)
        end = self.label
        phis = [f"  %{loop.variable.name} = phi i64 [ {self.operand(loop.start)}, %{before} ], [ {following}, %{end} ]"]
        phis += [
            f"  %{parameter.name} = phi {spell(parameter.type)} [ {self.operand(initial)}, %{before} ], "
            f"[ {self.operand(yielded)}, %{end} ]"
            for parameter, initial, yielded in zip(loop.parameters, loop.initial, loop.yields, strict=True)
        ]
        self.lines[here:here] = phis
        again = self.temporary()
        self.lines.append(f"  {following} = add nsw i64 %{loop.variable.name}, {loop.step}")
        self.lines.append(f"  {again} = icmp slt i64 {following}, {self.operand(loop.stop)}")
        self.lines.append(f"  br i1 {again}, label %{body}, label %{after}")
        self.start(after)
        for result, initial, yielded in zip(loop.results, loop.initial, loop.yields, strict=True):
            entries = [f"[ {self.operand(yielded)}, %{end} ]"]
            if not certain:
                entries.append(f"[ {self.operand(initial)}, %{before} ]")
            self.lines.append(f"  %{result.name} = phi {spell(result.type)} {', '.join(entries)}")

    def conditional(self, branch: If) -> None:
        then, otherwise, after = self.new_label(), self.new_label(), self.new_label()
        self.lines.append(f"  br i1 {self.operand(branch.condition)}, label %{then}, label %{otherwise}")
        ends = []
        for label, block in ((then, branch.then), (otherwise, branch.otherwise)):
            self.start(label)
            self.block(block)
            ends.append(self.label)
            self.lines.append(f"  br label %{after}")
        self.start(after)
        for result, a, b in zip(branch.results, branch.then_yields, branch.otherwise_yields, strict=True):
            self.lines.append(
                f"  %{result.name} = phi {spell(result.type)} [ {self.operand(a)}, %{ends[0]} ], "
                f"[ {self.operand(b)}, %{ends[1]} ]"
            )


_WRITE: dict[type, Callable[[Writer, Any], None]] = {
    Compute: Writer.compute,
    Shuffle: Writer.shuffle,
    Load: Writer.load,
    Store: Writer.store,
    Gather: Writer.gather,
    Scatter: Writer.scatter,
    Stream: Writer.stream,
    Prefetch: Writer.prefetch,
    Gap: Writer.gap,
    For: Writer.loop,
    If: Writer.conditional,
}
