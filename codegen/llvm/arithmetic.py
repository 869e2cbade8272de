"""The loop IR's arithmetic in LLVM IR: for each operation of `loops.OPERATIONS`, the lines that it becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tapeless.abi.dtypes import ScalarType
from tapeless.codegen.llvm.types import mangle, spell, spell_as
from tapeless.codegen.loops.language import Constant, Operand, Type

if TYPE_CHECKING:
    from tapeless.codegen.llvm.functions import Writer

__all__ = ["COMPUTE"]

Rule = Callable[["Writer", str, Type, tuple[Operand, ...]], None]


def _binary(float_opcode: str | None, signed: str | None, unsigned: str | None = None) -> Rule:
    def rule(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
        element = operands[0].type.record
        opcode = float_opcode if element.is_real else (unsigned or signed) if element.is_unsigned else signed
        assert opcode is not None
        writer.plain(result, opcode, type, operands)

    return rule


def _intrinsic(name: str, unsigned: str | None = None) -> Rule:
    def rule(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
        writer.call(result, type, unsigned if unsigned and type.record.is_unsigned else name, operands)

    return rule


def _comparison(float_predicate: str, signed: str, unsigned: str) -> Rule:
    def rule(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
        operand_type = operands[0].type
        opcode = (
            f"fcmp {float_predicate}"
            if operand_type.is_float
            else f"icmp {unsigned if operand_type.record.is_unsigned else signed}"
        )
        writer.plain(result, opcode, operand_type, operands)

    return rule


def _fma(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    if writer.target.machine.fma:
        writer.call(result, type, "fma", operands)
        return
    product = writer.temporary()
    writer.plain(product, "fmul", type, operands[:2])
    writer.lines.append(f"  {result} = fadd {spell(type)} {product}, {writer.operand(operands[2])}")


def _negative(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    operand = writer.operand(operands[0])
    if type.is_float:
        writer.lines.append(f"  {result} = fneg {spell(type)} {operand}")
    else:
        zero = "0" if type.lanes == 1 else "zeroinitializer"
        writer.lines.append(f"  {result} = sub {spell(type)} {zero}, {operand}")


def _absolute(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    if type.is_float:
        writer.call(result, type, "fabs", operands)
    else:
        mangled = mangle(type.record, type.lanes)
        writer.lines.append(
            f"  {result} = call {spell(type)} @llvm.abs.{mangled}({writer.typed(operands[0])}, i1 false)"
        )


def _mulhi(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    wide = spell_as("i64", type.lanes)
    by = "32" if type.lanes == 1 else "splat (i64 32)"
    a, b, product, upper = (writer.temporary() for _ in range(4))
    writer.lines += [
        f"  {a} = zext {writer.typed(operands[0])} to {wide}",
        f"  {b} = zext {writer.typed(operands[1])} to {wide}",
        f"  {product} = mul {wide} {a}, {b}",
        f"  {upper} = lshr {wide} {product}, {by}",
        f"  {result} = trunc {wide} {upper} to {spell(type)}",
    ]


def _scale(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    a, b = operands
    if writer.target.avx512 and type.lanes * type.bytes == 64:
        suffix = {4: "ps", 8: "pd"}[type.bytes]
        writer.lines.append(
            f"  {result} = call {spell(type)} @llvm.x86.avx512.mask.scalef.{suffix}.512({writer.typed(a)}, "
            f"{writer.typed(b)}, {spell(type)} zeroinitializer, i{type.lanes} -1, i32 4)"
        )
        return
    # 2**b as two factors, each a normal number, made from its exponent bits: halves of b stay in range.
    element = type.record
    kind = element.bits
    integer = spell_as(kind, type.lanes)

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
        biased = line(f"add {integer} {exponent}, {splat(element.bias)}")
        shifted = line(f"shl {integer} {biased}, {splat(element.mantissa)}")
        factor = line(f"bitcast {integer} {shifted} to {spell(type)}")
        if last:
            writer.lines.append(f"  {result} = fmul {spell(type)} {value}, {factor}")
        else:
            value = line(f"fmul {spell(type)} {value}, {factor}")


def _part(name: str, selection: str = "") -> Rule:
    """An instruction that takes floats apart, of whole vectors of AVX-512."""

    def rule(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
        assert writer.target.avx512 and type.lanes * type.bytes == 64
        suffix, vector = {4: "ps", 8: "pd"}[type.bytes], spell(type)
        writer.lines.append(
            f"  {result} = call {vector} @llvm.x86.avx512.mask.{name}.{suffix}.512({writer.typed(operands[0])}, "
            f"{selection}{vector} zeroinitializer, i{type.lanes} -1, i32 4)"
        )

    return rule


def _select(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    writer.lines.append(f"  {result} = select " + ", ".join(writer.typed(operand) for operand in operands))


def _cast(source: ScalarType, to: ScalarType) -> str:
    """The instruction that converts a number, neither type being boolean."""
    if source.is_real and to.is_real:
        return "fpext" if source.bytes < to.bytes else "fptrunc"
    if source.is_real:
        return "fptoui" if to.is_unsigned else "fptosi"
    if to.is_real:
        return "uitofp" if source.is_unsigned else "sitofp"
    if source.bytes < to.bytes:
        return "zext" if source.is_unsigned else "sext"
    return "trunc" if source.bytes > to.bytes else "bitcast"


def _convert(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    source = operands[0].type
    # a choice is one instruction where lanes have masks, a conversion three
    if source.record.is_boolean and type.is_float:
        one, zero = (writer.operand(Constant(value, type)) for value in (1.0, 0.0))
        writer.lines.append(
            f"  {result} = select {writer.typed(operands[0])}, {spell(type)} {one}, {spell(type)} {zero}"
        )
        return
    if source.record.is_boolean:
        opcode = "zext"
    elif type.record.is_boolean:
        test = "fcmp une" if source.is_float else "icmp ne"
        writer.plain(result, test, source, (operands[0], Constant(0, source)))
        return
    else:
        opcode = _cast(source.record, type.record)
    writer.lines.append(f"  {result} = {opcode} {writer.typed(operands[0])} to {spell(type)}")


def _bitcast(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    writer.lines.append(f"  {result} = bitcast {writer.typed(operands[0])} to {spell(type)}")


def _splat(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    inserted = writer.temporary()
    writer.lines.append(f"  {inserted} = insertelement {spell(type)} poison, {writer.typed(operands[0])}, i32 0")
    writer.lines.append(
        f"  {result} = shufflevector {spell(type)} {inserted}, {spell(type)} poison, "
        f"<{type.lanes} x i32> zeroinitializer"
    )


def _extract(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    writer.lines.append(f"  {result} = extractelement {writer.typed(operands[0])}, {writer.typed(operands[1])}")


def _first(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
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


def _any(writer: Writer, result: str, type: Type, operands: tuple[Operand, ...]) -> None:
    lanes, mask = operands[0].type.lanes, writer.typed(operands[0])
    if lanes == 1:
        writer.lines.append(f"  {result} = or {mask}, false")
        return
    bits = writer.temporary()
    writer.lines.append(f"  {bits} = bitcast {mask} to i{lanes}")
    writer.lines.append(f"  {result} = icmp ne i{lanes} {bits}, 0")


COMPUTE: dict[str, Rule] = {
    "add": _binary("fadd", "add"),
    "sub": _binary("fsub", "sub"),
    "mul": _binary("fmul", "mul"),
    "div": _binary("fdiv", "sdiv", "udiv"),
    "rem": _binary("frem", "srem", "urem"),
    "fma": _fma,
    "neg": _negative,
    "abs": _absolute,
    "sqrt": _intrinsic("sqrt"),
    "floor": _intrinsic("floor"),
    "and": _binary(None, "and"),
    "or": _binary(None, "or"),
    "xor": _binary(None, "xor"),
    "shl": _binary(None, "shl"),
    "shr": _binary(None, "ashr", "lshr"),
    "min": _intrinsic("smin", "umin"),
    "max": _intrinsic("smax", "umax"),
    "mulhi": _mulhi,
    "scale": _scale,
    "exponent": _part("getexp"),
    "mantissa": _part("getmant", "i32 11, "),  # in [3/4, 3/2): 3; NaN of negative numbers: 8
    "lt": _comparison("olt", "slt", "ult"),
    "le": _comparison("ole", "sle", "ule"),
    "eq": _comparison("oeq", "eq", "eq"),
    "ne": _comparison("une", "ne", "ne"),
    "select": _select,
    "convert": _convert,
    "bitcast": _bitcast,
    "splat": _splat,
    "extract": _extract,
    "first": _first,
    "any": _any,
}
