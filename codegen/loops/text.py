"""The loop IR as text, and back: what is printed parses to the identical function.

    kernel k parts 1
      operand a0: f32
      result r0: f32
      scratch scratch: f32 x 1024 bytes
    {
      v1: i64 = mul rows, 64:i64
      for v2 in 0:i64 .. v1 step 16 {
        v3: f32x16 = load a0[v2]
        v4: f32x16 = fma v3, v3, 1.0:f32x16
        store r0[v2] v4
      }
    }

A constant carries its type: one number for all lanes, or one for each in brackets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from tapeless.abi.dtypes import INDEX
from tapeless.codegen.loops.language import (
    PART,
    ROWS,
    UNTIL,
    Buffer,
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
    vector,
)

__all__ = ["LoopSyntaxError", "format_function", "parse_function"]


class LoopSyntaxError(Exception):
    """The text is not loop IR; the message names the line."""


def format_function(function: Function) -> str:
    """The function's text."""
    lines = [f"kernel {function.name} parts {function.parts}"]
    for buffer in function.buffers:
        size = f" x {buffer.bytes} bytes" if buffer.bytes else ""
        lines.append(f"  {buffer.role} {buffer.name}: {buffer.dtype}{size}")
    lines.append("{")
    lines += _block(function.body, "  ")
    lines.append("}")
    return "\n".join(lines) + "\n"


def _number(value: float | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def _operand(operand: Operand) -> str:
    if isinstance(operand, Value):
        return operand.name
    value = operand.value
    if isinstance(value, tuple):
        return f"[{' '.join(_number(lane) for lane in value)}]:{operand.type}"
    return f"{_number(value)}:{operand.type}"


def _list(operands: Sequence[Operand]) -> str:
    return ", ".join(_operand(operand) for operand in operands)


def _typed(value: Value) -> str:
    return f"{value.name}: {value.type}"


def _mask(mask: Operand | None) -> str:
    return "" if mask is None else f" where {_operand(mask)}"


def _block(block: Sequence[Instruction], indent: str) -> list[str]:
    lines: list[str] = []
    for instruction in block:
        lines += [indent + line for line in _instruction(instruction)]
    return lines


def _instruction(it: Instruction) -> list[str]:
    if isinstance(it, Compute):
        return [f"{_typed(it.result)} = {it.op} {_list(it.operands)}"]
    if isinstance(it, Shuffle):
        lanes = " ".join(map(str, it.lanes))
        return [f"{_typed(it.result)} = shuffle {_operand(it.a)}, {_operand(it.b)} lanes [{lanes}]"]
    if isinstance(it, Load):
        return [f"{_typed(it.result)} = load {it.buffer}[{_operand(it.index)}]{_mask(it.mask)}"]
    if isinstance(it, Gather):
        return [
            f"{_typed(it.result)} = gather {it.buffer}[{_operand(it.index)} + {_operand(it.offsets)}]{_mask(it.mask)}"
        ]
    if isinstance(it, Store):
        return [f"store {it.buffer}[{_operand(it.index)}] {_operand(it.value)}{_mask(it.mask)}"]
    if isinstance(it, Scatter):
        return [
            f"scatter {it.buffer}[{_operand(it.index)} + {_operand(it.offsets)}] {_operand(it.value)}{_mask(it.mask)}"
        ]
    if isinstance(it, Stream):
        return [f"stream {it.buffer}[{_operand(it.index)}] {_operand(it.value)}"]
    if isinstance(it, Prefetch):
        return [f"prefetch {it.buffer}[{_operand(it.index)}]{' near' if it.near else ''}"]
    if isinstance(it, Gap):
        return [f"{_typed(it.result)} = gap {it.buffer}[{_operand(it.index)}] to {it.bytes}"]
    if isinstance(it, For):
        carried = ""
        if it.parameters:
            pairs = ", ".join(
                f"{_typed(parameter)} = {_operand(initial)}"
                for parameter, initial in zip(it.parameters, it.initial, strict=True)
            )
            carried = f" carrying ({pairs})"
        names = ", ".join(result.name for result in it.results)
        head = f"{names} = " if names else ""
        head += f"for {it.variable.name} in {_operand(it.start)} .. {_operand(it.stop)} step {it.step}{carried} {{"
        end = f"}} yield {_list(it.yields)}" if it.yields else "}"
        return [head, *_block(it.body, "  "), end]
    names = ", ".join(_typed(result) for result in it.results)
    head = (f"{names} = " if names else "") + f"if {_operand(it.condition)} {{"

    def yields(operands: Sequence[Operand]) -> str:
        return f" yield {_list(operands)}" if operands else ""

    return [
        head,
        *_block(it.then, "  "),
        f"}}{yields(it.then_yields)} else {{",
        *_block(it.otherwise, "  "),
        f"}}{yields(it.otherwise_yields)}",
    ]


# Parsing: lines are cut into tokens, and read by recursive descent over blocks.

_TOKEN = re.compile(r"\s*(\.\.|\[[^\[\]]*\]:\w+|-?(?:inf|nan|true|false|\d[\w.+-]*):\w+|[A-Za-z_]\w*|-?\d+|.)")
_TYPE = re.compile(r"([a-z]+\d+)(?:x(\d+))?$")


def parse_function(text: str) -> Function:
    """The function that a text stands for. Raises LoopSyntaxError."""
    return _Parser(text).function()


def _type(text: str) -> Type:
    match = _TYPE.match(text)
    if not match:
        raise LoopSyntaxError(f"{text!r} is not a type")
    try:
        return vector(match[1], int(match[2] or 1))
    except ValueError as error:
        raise LoopSyntaxError(str(error)) from None


class _Parser:
    def __init__(self, text: str) -> None:
        self.lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        self.at = 0
        self.values: dict[str, Value] = {"rows": ROWS, "part": PART, "until": UNTIL}
        self.tokens: list[str] = []
        self.number = 0

    # Lines and tokens

    def line(self) -> str:
        if self.at == len(self.lines):
            raise LoopSyntaxError("the text ends inside a block")
        return self.lines[self.at][1].strip()

    def next_line(self) -> None:
        line = self.line()
        self.number = self.lines[self.at][0]
        self.at += 1
        self.tokens = [match[1] for match in _TOKEN.finditer(line)][::-1]

    def fail(self, what: str) -> LoopSyntaxError:
        return LoopSyntaxError(f"line {self.number}: {what}")

    def take(self, wanted: str | None = None) -> str:
        if not self.tokens:
            raise self.fail(f"the line ends; {wanted or 'more'} was expected")
        token = self.tokens.pop()
        if wanted is not None and token != wanted:
            raise self.fail(f"{wanted!r} was expected, not {token!r}")
        return token

    def accept(self, wanted: str) -> bool:
        if self.tokens and self.tokens[-1] == wanted:
            self.tokens.pop()
            return True
        return False

    def operand(self) -> Operand:
        token = self.take()
        if token in self.values:
            return self.values[token]
        number, colon, type = token.rpartition(":")
        if not colon:
            raise self.fail(f"{token!r} is not a value that is defined here")
        parsed = _type(type)
        if number.startswith("["):
            return Constant(tuple(self.constant(lane, parsed) for lane in number[1:-1].split()), parsed)
        return Constant(self.constant(number, parsed), parsed)

    def constant(self, text: str, type: Type) -> float | int | bool:
        if text in ("true", "false"):
            return text == "true"
        if text == "nan":
            return math.nan  # the one object, so that equal functions compare equal
        try:
            return int(text)
        except ValueError:
            try:
                return float(text)
            except ValueError:
                raise self.fail(f"{text!r} is not a number of type {type}") from None

    def operands(self) -> tuple[Operand, ...]:
        found = [self.operand()]
        while self.accept(","):
            found.append(self.operand())
        return tuple(found)

    def define(self, name: str, type: Type) -> Value:
        if name in self.values:
            raise self.fail(f"{name} is defined twice")
        value = Value(name, type)
        self.values[name] = value
        return value

    # Grammar

    def function(self) -> Function:
        self.next_line()
        self.take("kernel")
        name = self.take()
        self.take("parts")
        parts = int(self.take())
        buffers = []
        while self.line() != "{":
            self.next_line()
            role, buffer = self.take(), self.take()
            self.take(":")
            dtype, size = self.take(), 0
            if self.accept("x"):
                size = int(self.take())
            buffers.append(Buffer(buffer, dtype, role, size))
        self.next_line()
        body = tuple(self.block())
        self.next_line()
        return Function(name, tuple(buffers), parts, body)

    def block(self) -> Iterator[Instruction]:
        """Up to the line that closes the block, which is left for the caller."""
        while not self.line().startswith("}"):
            self.next_line()
            yield self.instruction()

    def instruction(self) -> Instruction:
        if self.tokens[-1] in _STATEMENTS:
            return _STATEMENTS[self.tokens[-1]](self, [])
        names: list[tuple[str, Type | None]] = []
        while True:
            name = self.take()
            names.append((name, _type(self.take()) if self.accept(":") else None))
            if not self.accept(","):
                break
        self.take("=")
        keyword = self.tokens[-1]
        if keyword in ("for", "if"):
            return _STATEMENTS[keyword](self, names)
        ((name, type),) = names
        if type is None:
            raise self.fail(f"{name} needs a type")
        return self.assignment(name, type)

    def assignment(self, name: str, type: Type) -> Instruction:
        op = self.take()
        if op == "load":
            buffer, index, _ = self.place()
            return Load(buffer, index, self.mask(), self.define(name, type))
        if op == "gather":
            buffer, index, offsets = self.place()
            assert offsets is not None
            return Gather(buffer, index, offsets, self.mask(), self.define(name, type))
        if op == "gap":
            buffer, index, _ = self.place()
            self.take("to")
            return Gap(buffer, index, int(self.take()), self.define(name, type))
        operands = self.operands()
        if op == "shuffle":
            self.take("lanes")
            self.take("[")
            lanes = []
            while not self.accept("]"):
                lanes.append(int(self.take()))
            return Shuffle(operands[0], operands[1], tuple(lanes), self.define(name, type))
        return Compute(op, operands, self.define(name, type))

    def place(self) -> tuple[str, Operand, Operand | None]:
        buffer = self.take()
        self.take("[")
        index = self.operand()
        offsets = self.operand() if self.accept("+") else None
        self.take("]")
        return buffer, index, offsets

    def mask(self) -> Operand | None:
        return self.operand() if self.accept("where") else None

    def store(self, names: list[tuple[str, Type | None]]) -> Instruction:
        self.take("store")
        buffer, index, _ = self.place()
        value = self.operand()
        return Store(buffer, index, value, self.mask())

    def scatter(self, names: list[tuple[str, Type | None]]) -> Instruction:
        self.take("scatter")
        buffer, index, offsets = self.place()
        assert offsets is not None
        value = self.operand()
        return Scatter(buffer, index, offsets, value, self.mask())

    def stream(self, names: list[tuple[str, Type | None]]) -> Instruction:
        self.take("stream")
        buffer, index, _ = self.place()
        return Stream(buffer, index, self.operand())

    def prefetch(self, names: list[tuple[str, Type | None]]) -> Instruction:
        self.take("prefetch")
        buffer, index, _ = self.place()
        return Prefetch(buffer, index, self.accept("near"))

    def loop(self, names: list[tuple[str, Type | None]]) -> Instruction:
        self.take("for")
        variable = self.take()
        self.take("in")
        start = self.operand()
        self.take("..")
        stop = self.operand()
        self.take("step")
        step = int(self.take())
        carried: list[tuple[str, Type]] = []
        initial: list[Operand] = []
        if self.accept("carrying"):
            self.take("(")
            while not self.accept(")"):
                name = self.take()
                self.take(":")
                carried.append((name, _type(self.take())))
                self.take("=")
                initial.append(self.operand())
                self.accept(",")
        self.take("{")
        counter = self.define(variable, vector(INDEX, 1))
        parameters = tuple(self.define(name, type) for name, type in carried)
        body = tuple(self.block())
        self.next_line()
        self.take("}")
        yields = self.operands() if self.accept("yield") else ()
        results = tuple(self.define(name, type) for (name, _), (_, type) in zip(names, carried, strict=True))
        return For(counter, start, stop, step, parameters, tuple(initial), body, yields, results)

    def conditional(self, names: list[tuple[str, Type | None]]) -> Instruction:
        self.take("if")
        condition = self.operand()
        self.take("{")
        then = tuple(self.block())
        self.next_line()
        self.take("}")
        then_yields = self.operands() if self.accept("yield") else ()
        self.take("else")
        self.take("{")
        otherwise = tuple(self.block())
        self.next_line()
        self.take("}")
        otherwise_yields = self.operands() if self.accept("yield") else ()
        results = tuple(self.define(name, type) for name, type in names if type is not None)
        return If(condition, then, then_yields, otherwise, otherwise_yields, results)


_STATEMENTS = {
    "store": _Parser.store,
    "scatter": _Parser.scatter,
    "stream": _Parser.stream,
    "prefetch": _Parser.prefetch,
    "for": _Parser.loop,
    "if": _Parser.conditional,
}
