"""Loop IR to LLVM IR, written directly as text.

One line of text for one instruction where possible: LLVM's code generation costs about 17 microseconds a line, the
writing a quarter of one. No pass over LLVM IR runs afterwards, so vectors, fused multiply-adds and hoisting are
already what they shall be, and no instruction carries a fast-math flag. Whatever is called is an intrinsic that
every target expands in place: the object needs no symbol from outside.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from tapeless.codegen.loops import (
    PART,
    Compute,
    Constant,
    For,
    Function,
    Gather,
    If,
    Instruction,
    Load,
    Operand,
    Prefetch,
    Scatter,
    Shuffle,
    Store,
    Type,
)
from tapeless.ir.target import Target

__all__ = ["function_text", "module_text"]

_LLVM_KIND = {"f32": "float", "f64": "double", "i32": "i32", "u32": "i32", "i64": "i64", "i1": "i1"}
_MEMORY_KIND = {"f32": "float", "f64": "double", "i32": "i32", "u32": "i32", "bool": "i8"}
_MANGLED = {"float": "f32", "double": "f64"}
_ALIGN = {"f32": 4, "f64": 8, "i32": 4, "u32": 4, "bool": 1}

_spelled: dict[Type, str] = {}


def spell(type: Type) -> str:
    """A type as LLVM writes it."""
    text = _spelled.get(type)
    if text is None:
        kind = _LLVM_KIND[type.kind]
        text = kind if type.lanes == 1 else f"<{type.lanes} x {kind}>"
        _spelled[type] = text
    return text


def _mangle(kind: str, lanes: int) -> str:
    short = _MANGLED.get(kind, kind)
    return short if lanes == 1 else f"v{lanes}{short}"


def _number(value: float | int | bool, kind: str) -> str:
    if kind == "f32":
        rounded = struct.unpack("f", struct.pack("f", value))[0]
        return f"0x{struct.unpack('Q', struct.pack('d', rounded))[0]:016X}"
    if kind == "f64":
        return f"0x{struct.unpack('Q', struct.pack('d', value))[0]:016X}"
    if kind == "i1":
        return "true" if value else "false"
    return str(int(value))


def module_text(bodies: list[str], target: Target) -> str:
    """A module of the given definitions. Intrinsics are declared by LLVM's parser where they are first used."""
    return f'target triple = "{target.triple}"\n\n' + "\n".join(bodies)


def function_text(function: Function, target: Target, *, linkage: str = "internal") -> str:
    """The function as `void @name(ptr, ..., i64 rows, i64 part)`, a definition in LLVM IR."""
    return _Writer(function, target).text(linkage)


class _Writer:
    def __init__(self, function: Function, target: Target) -> None:
        self.function = function
        self.target = target
        self.lines: list[str] = []
        self.label = "entry"
        self.labels = 0
        self.temporaries = 0

    def text(self, linkage: str) -> str:
        function = self.function
        parameters = ", ".join([f"ptr %{buffer.name}" for buffer in function.buffers] + ["i64 %rows", "i64 %part"])
        prefix = f"{linkage} " if linkage else ""
        self.lines += [f"define {prefix}void @{function.name}({parameters}) nounwind {{", "entry:"]
        for buffer in function.buffers:
            if buffer.role == "scratch" and function.parts > 1:
                offset = self.temporary()
                self.lines.append(f"  {offset} = mul i64 %{PART.name}, {buffer.bytes}")
                self.lines.append(f"  %{buffer.name}.own = getelementptr i8, ptr %{buffer.name}, i64 {offset}")
        self.block(function.body)
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
                return _number(value[0], type.kind)
            kind = _LLVM_KIND[type.kind]
            return "<" + ", ".join(f"{kind} {_number(lane, type.kind)}" for lane in value) + ">"
        if type.lanes == 1:
            return _number(value, type.kind)
        if value == 0 and str(value) != "-0.0":
            return "zeroinitializer"
        return f"splat ({_LLVM_KIND[type.kind]} {_number(value, type.kind)})"

    def typed(self, operand: Operand) -> str:
        return f"{spell(operand.type)} {self.operand(operand)}"

    def block(self, block: tuple[Instruction, ...]) -> None:
        for instruction in block:
            _WRITE[type(instruction)](self, instruction)

    # Arithmetic

    def compute(self, instruction: Compute) -> None:
        result = "%" + instruction.result.name
        _COMPUTE[instruction.op](self, result, instruction.result.type, instruction.operands)

    def call(self, result: str, type: Type, intrinsic: str, operands: tuple[Operand, ...]) -> None:
        arguments = ", ".join(self.typed(operand) for operand in operands)
        mangled = _mangle(_LLVM_KIND[type.kind], type.lanes)
        self.lines.append(f"  {result} = call {spell(type)} @llvm.{intrinsic}.{mangled}({arguments})")

    def plain(self, result: str, opcode: str, type: Type, operands: tuple[Operand, ...]) -> None:
        a, b = operands
        self.lines.append(f"  {result} = {opcode} {spell(type)} {self.operand(a)}, {self.operand(b)}")

    def shuffle(self, instruction: Shuffle) -> None:
        lanes = ", ".join(f"i32 {lane}" for lane in instruction.lanes)
        mask = f"<{len(instruction.lanes)} x i32> <{lanes}>"
        self.lines.append(f"  %{instruction.result.name} = shufflevector {self.typed(instruction.a)}, "
                          f"{self.typed(instruction.b)}, {mask}")

    # Memory

    def address(self, buffer: str, index: Operand) -> str:
        declared = self.function.index[buffer]
        base = f"%{buffer}.own" if declared.role == "scratch" and self.function.parts > 1 else f"%{buffer}"
        if isinstance(index, Constant) and index.value == 0:
            return base
        pointer = self.temporary()
        kind = _MEMORY_KIND[declared.dtype]
        self.lines.append(f"  {pointer} = getelementptr inbounds {kind}, ptr {base}, i64 {self.operand(index)}")
        return pointer

    def in_memory(self, buffer: str, lanes: int) -> tuple[str, int, bool]:
        declared = self.function.index[buffer]
        kind = _MEMORY_KIND[declared.dtype]
        return (kind if lanes == 1 else f"<{lanes} x {kind}>"), _ALIGN[declared.dtype], declared.dtype == "bool"

    def loaded(self, result: str, is_bool: bool, lanes: int, expression: str) -> None:
        if not is_bool:
            self.lines.append(f"  {result} = {expression}")
            return
        bytes_ = self.temporary()
        wide = "i8" if lanes == 1 else f"<{lanes} x i8>"
        zero = "0" if lanes == 1 else "zeroinitializer"
        self.lines.append(f"  {bytes_} = {expression}")
        self.lines.append(f"  {result} = icmp ne {wide} {bytes_}, {zero}")

    def load(self, instruction: Load) -> None:
        result = instruction.result
        lanes = result.type.lanes
        kind, align, is_bool = self.in_memory(instruction.buffer, lanes)
        pointer = self.address(instruction.buffer, instruction.index)
        name = "%" + result.name
        if instruction.mask is None:
            self.loaded(name, is_bool, lanes, f"load {kind}, ptr {pointer}, align {align}")
        else:
            mangled = _mangle(kind.split()[-1].rstrip(">"), lanes)
            self.loaded(name, is_bool, lanes,
                        f"call {kind} @llvm.masked.load.{mangled}.p0(ptr align {align} {pointer}, "
                        f"{self.typed(instruction.mask)}, {kind} zeroinitializer)")

    def stored(self, buffer: str, value: Operand) -> tuple[str, str, int]:
        kind, align, is_bool = self.in_memory(buffer, value.type.lanes)
        if not is_bool:
            return kind, self.operand(value), align
        name = self.temporary()
        self.lines.append(f"  {name} = zext {self.typed(value)} to {kind}")
        return kind, name, align

    def store(self, instruction: Store) -> None:
        lanes = instruction.value.type.lanes
        kind, value, align = self.stored(instruction.buffer, instruction.value)
        pointer = self.address(instruction.buffer, instruction.index)
        if instruction.mask is None:
            self.lines.append(f"  store {kind} {value}, ptr {pointer}, align {align}")
        else:
            mangled = _mangle(kind.split()[-1].rstrip(">"), lanes)
            self.lines.append(f"  call void @llvm.masked.store.{mangled}.p0({kind} {value}, "
                              f"ptr align {align} {pointer}, {self.typed(instruction.mask)})")

    def pointers(self, buffer: str, index: Operand, offsets: Operand) -> str:
        base = self.address(buffer, index)
        pointers = self.temporary()
        kind = _MEMORY_KIND[self.function.index[buffer].dtype]
        self.lines.append(f"  {pointers} = getelementptr {kind}, ptr {base}, {self.typed(offsets)}")
        return pointers

    def gather(self, instruction: Gather) -> None:
        result, lanes = instruction.result, instruction.result.type.lanes
        kind, align, is_bool = self.in_memory(instruction.buffer, lanes)
        pointers = self.pointers(instruction.buffer, instruction.index, instruction.offsets)
        mask = instruction.mask if instruction.mask is not None else Constant(True, result.type.mask)
        mangled = _mangle(kind.split()[-1].rstrip(">"), lanes)
        self.loaded("%" + result.name, is_bool, lanes,
                    f"call {kind} @llvm.masked.gather.{mangled}.v{lanes}p0(<{lanes} x ptr> align {align} {pointers}, "
                    f"{self.typed(mask)}, {kind} zeroinitializer)")

    def scatter(self, instruction: Scatter) -> None:
        lanes = instruction.value.type.lanes
        kind, value, align = self.stored(instruction.buffer, instruction.value)
        pointers = self.pointers(instruction.buffer, instruction.index, instruction.offsets)
        mask = instruction.mask if instruction.mask is not None else Constant(True, instruction.value.type.mask)
        mangled = _mangle(kind.split()[-1].rstrip(">"), lanes)
        self.lines.append(f"  call void @llvm.masked.scatter.{mangled}.v{lanes}p0({kind} {value}, "
                          f"<{lanes} x ptr> align {align} {pointers}, {self.typed(mask)})")

    def prefetch(self, instruction: Prefetch) -> None:
        pointer = self.address(instruction.buffer, instruction.index)
        self.lines.append(f"  call void @llvm.prefetch.p0(ptr {pointer}, i32 1, i32 3, i32 1)")

    # Control: a loop tests at its bottom; the test at its top is left out where the first turn is certain.

    def loop(self, loop: For) -> None:
        before, body, after = self.label, self.new_label(), self.new_label()
        certain = (isinstance(loop.start, Constant) and isinstance(loop.stop, Constant)
                   and loop.start.value < loop.stop.value)  # type: ignore[operator]
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
            self.lines.append(f"  %{result.name} = phi {spell(result.type)} [ {self.operand(a)}, %{ends[0]} ], "
                              f"[ {self.operand(b)}, %{ends[1]} ]")


_Rule = Callable[[_Writer, str, Type, tuple[Operand, ...]], None]


def _binary(float_opcode: str | None, signed: str | None, unsigned: str | None = None) -> _Rule:
    def rule(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
        kind = operands[0].type.kind
        opcode = float_opcode if kind[0] == "f" else (unsigned or signed) if kind == "u32" else signed
        assert opcode is not None
        writer.plain(result, opcode, type, operands)
    return rule


def _intrinsic(name: str, unsigned: str | None = None) -> _Rule:
    def rule(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
        writer.call(result, type, unsigned if unsigned and type.kind == "u32" else name, operands)
    return rule


def _comparison(float_predicate: str, signed: str, unsigned: str) -> _Rule:
    def rule(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
        operand_type = operands[0].type
        opcode = (f"fcmp {float_predicate}" if operand_type.is_float
                  else f"icmp {unsigned if operand_type.kind in ('u32', 'i1') else signed}")
        writer.plain(result, opcode, operand_type, operands)
    return rule


def _fma(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    if writer.target.fma:
        writer.call(result, type, "fma", operands)
        return
    product = writer.temporary()
    writer.plain(product, "fmul", type, operands[:2])
    writer.lines.append(f"  {result} = fadd {spell(type)} {product}, {writer.operand(operands[2])}")


def _negative(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    operand = writer.operand(operands[0])
    if type.is_float:
        writer.lines.append(f"  {result} = fneg {spell(type)} {operand}")
    else:
        zero = "0" if type.lanes == 1 else "zeroinitializer"
        writer.lines.append(f"  {result} = sub {spell(type)} {zero}, {operand}")


def _absolute(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    if type.is_float:
        writer.call(result, type, "fabs", operands)
    else:
        mangled = _mangle(_LLVM_KIND[type.kind], type.lanes)
        writer.lines.append(f"  {result} = call {spell(type)} @llvm.abs.{mangled}({writer.typed(operands[0])}, "
                            f"i1 false)")


def _mulhi(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    wide = "i64" if type.lanes == 1 else f"<{type.lanes} x i64>"
    by = "32" if type.lanes == 1 else "splat (i64 32)"
    a, b, product, upper = (writer.temporary() for _ in range(4))
    writer.lines += [
        f"  {a} = zext {writer.typed(operands[0])} to {wide}",
        f"  {b} = zext {writer.typed(operands[1])} to {wide}",
        f"  {product} = mul {wide} {a}, {b}",
        f"  {upper} = lshr {wide} {product}, {by}",
        f"  {result} = trunc {wide} {upper} to {spell(type)}",
    ]


_MANTISSA = {"f32": (23, 127, "i32"), "f64": (52, 1023, "i64")}


def _scale(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    a, b = operands
    if writer.target.avx512 and type.lanes * type.bytes == 64:
        suffix = "ps" if type.kind == "f32" else "pd"
        mask = "i16 -1" if type.kind == "f32" else "i8 -1"
        writer.lines.append(
            f"  {result} = call {spell(type)} @llvm.x86.avx512.mask.scalef.{suffix}.512({writer.typed(a)}, "
            f"{writer.typed(b)}, {spell(type)} zeroinitializer, {mask}, i32 4)")
        return
    # 2**b as two factors, each a normal number, made from its exponent bits: halves of b stay in range.
    bits, bias, kind = _MANTISSA[type.kind]
    integer = kind if type.lanes == 1 else f"<{type.lanes} x {kind}>"

    def splat(number: int) -> str:
        return str(number) if type.lanes == 1 else f"splat ({kind} {number})"

    def line(expression: str) -> str:
        name = writer.temporary()
        writer.lines.append(f"  {name} = {expression}")
        return name

    whole = line(f"fptosi {writer.typed(b)} to {integer}")
    half = line(f"ashr {integer} {whole}, {splat(1)}")
    rest = line(f"sub {integer} {whole}, {half}")
    value = writer.operand(a)
    for exponent, last in ((half, False), (rest, True)):
        biased = line(f"add {integer} {exponent}, {splat(bias)}")
        shifted = line(f"shl {integer} {biased}, {splat(bits)}")
        factor = line(f"bitcast {integer} {shifted} to {spell(type)}")
        if last:
            writer.lines.append(f"  {result} = fmul {spell(type)} {value}, {factor}")
        else:
            value = line(f"fmul {spell(type)} {value}, {factor}")


def _select(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    writer.lines.append(f"  {result} = select " + ", ".join(writer.typed(operand) for operand in operands))


_CASTS = {
    ("f32", "f64"): "fpext", ("f64", "f32"): "fptrunc",
    ("i32", "i64"): "sext", ("u32", "i64"): "zext", ("i64", "i32"): "trunc", ("i64", "u32"): "trunc",
}


def _convert(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    source = operands[0].type
    if source.kind == "i1":
        opcode = "uitofp" if type.is_float else "zext"
    elif type.kind == "i1":
        test = "fcmp une" if source.is_float else "icmp ne"
        writer.plain(result, test, source, (operands[0], Constant(0, source)))
        return
    elif {source.kind, type.kind} == {"i32", "u32"}:
        opcode = "bitcast"
    elif (source.kind, type.kind) in _CASTS:
        opcode = _CASTS[source.kind, type.kind]
    elif source.is_float:
        opcode = "fptoui" if type.kind == "u32" else "fptosi"
    else:
        opcode = "uitofp" if source.kind == "u32" else "sitofp"
    writer.lines.append(f"  {result} = {opcode} {writer.typed(operands[0])} to {spell(type)}")


def _bitcast(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    writer.lines.append(f"  {result} = bitcast {writer.typed(operands[0])} to {spell(type)}")


def _splat(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    inserted = writer.temporary()
    writer.lines.append(f"  {inserted} = insertelement {spell(type)} poison, {writer.typed(operands[0])}, i32 0")
    writer.lines.append(f"  {result} = shufflevector {spell(type)} {inserted}, {spell(type)} poison, "
                        f"<{type.lanes} x i32> zeroinitializer")


def _extract(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    writer.lines.append(f"  {result} = extractelement {writer.typed(operands[0])}, {writer.typed(operands[1])}")


def _first(writer: _Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    count = writer.operand(operands[0])
    if type.lanes == 1:
        writer.lines.append(f"  {result} = icmp sgt i64 {count}, 0")
        return
    lanes = type.lanes
    clamped, narrow, inserted, all_ = (writer.temporary() for _ in range(4))
    iota = ", ".join(f"i32 {lane}" for lane in range(lanes))
    writer.lines += [
        f"  {clamped} = call i64 @llvm.smin.i64(i64 {count}, i64 {lanes})",
        f"  {narrow} = trunc i64 {clamped} to i32",
        f"  {inserted} = insertelement <{lanes} x i32> poison, i32 {narrow}, i32 0",
        f"  {all_} = shufflevector <{lanes} x i32> {inserted}, <{lanes} x i32> poison, <{lanes} x i32> zeroinitializer",
        f"  {result} = icmp sgt <{lanes} x i32> {all_}, <{iota}>",
    ]


_COMPUTE: dict[str, _Rule] = {
    "add": _binary("fadd", "add"), "sub": _binary("fsub", "sub"), "mul": _binary("fmul", "mul"),
    "div": _binary("fdiv", "sdiv", "udiv"), "rem": _binary("frem", "srem", "urem"),
    "fma": _fma, "neg": _negative, "abs": _absolute, "sqrt": _intrinsic("sqrt"), "floor": _intrinsic("floor"),
    "and": _binary(None, "and"), "or": _binary(None, "or"), "xor": _binary(None, "xor"),
    "shl": _binary(None, "shl"), "shr": _binary(None, "ashr", "lshr"),
    "min": _intrinsic("smin", "umin"), "max": _intrinsic("smax", "umax"),
    "mulhi": _mulhi, "scale": _scale,
    "lt": _comparison("olt", "slt", "ult"), "le": _comparison("ole", "sle", "ule"),
    "eq": _comparison("oeq", "eq", "eq"), "ne": _comparison("une", "ne", "ne"),
    "select": _select, "convert": _convert, "bitcast": _bitcast, "splat": _splat, "extract": _extract,
    "first": _first,
}

_WRITE: dict[type, Callable[[_Writer, Any], None]] = {
    Compute: _Writer.compute, Shuffle: _Writer.shuffle, Load: _Writer.load, Store: _Writer.store,
    Gather: _Writer.gather, Scatter: _Writer.scatter, Prefetch: _Writer.prefetch, For: _Writer.loop,
    If: _Writer.conditional,
}
