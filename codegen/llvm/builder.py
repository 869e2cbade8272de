"""Writing LLVM IR by hand, typed: values know their types, and what does not fit is refused where it is written.

For functions that are control and addresses, as the driver of a step is; kernels are written in the loop language. The
caller names what is computed, so the text reads well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["F64", "I1", "I32", "I64", "NULL", "PTR", "FunctionBuilder", "Phi", "Value", "integer"]

I1, I32, I64, F64, PTR, VOID = "i1", "i32", "i64", "double", "ptr", "void"


@dataclass(frozen=True, slots=True)
class Value:
    """A constant or something that has been computed, as LLVM writes it."""

    type: str
    text: str

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


NULL = Value(PTR, "null")


def integer(number: int) -> Value:
    return Value(I64, str(number))


class FunctionBuilder:
    """One function. Blocks follow each other as they are begun, each ended by a branch or a return."""

    def __init__(
        self, name: str, parameters: Sequence[Value], result: str = VOID, *, linkage: str = "", attributes: str = ""
    ) -> None:
        head = " ".join(filter(None, ("define", linkage, result)))
        listed = ", ".join(str(parameter) for parameter in parameters)
        self._result = result
        self._lines = [" ".join(filter(None, (f"{head} @{name}({listed})", attributes, "{"))), "entry:"]
        self._open = True  # whether the block that was begun last goes on
        self._count = 0

    def text(self) -> str:
        if self._open:
            raise ValueError("the last block has no end")
        return "\n".join([*self._lines, "}"]) + "\n"

    def fresh(self, hint: str) -> str:
        """A name that no other is."""
        self._count += 1
        return f"{hint}.{self._count}"

    # Blocks

    def begin(self, label: str) -> None:
        if self._open:
            raise ValueError(f"{label} begins where the block before it has no end")
        self._lines.append(f"{label}:")
        self._open = True

    def branch(self, label: str) -> None:
        self._end(f"br label %{label}")

    def branch_if(self, condition: Value, then: str, otherwise: str) -> None:
        _expect(condition, I1)
        self._end(f"br {condition}, label %{then}, label %{otherwise}")

    def give(self, value: Value | None = None) -> None:
        """Return."""
        if (VOID if value is None else value.type) != self._result:
            raise TypeError(f"a function of {self._result} gives {value}")
        self._end("ret void" if value is None else f"ret {value}")

    def phi(self, name: str, value: Value, label: str) -> Phi:
        """What comes from `label`, and from where else is told later, in order."""
        made = Phi(value.type, f"%{name}", self, len(self._lines))
        self._line("")
        made.add(value, label)
        return made

    # Numbers

    def add(self, name: str, a: Value, b: Value) -> Value:
        return self._binary(name, "add", a, b)

    def sub(self, name: str, a: Value, b: Value) -> Value:
        return self._binary(name, "sub", a, b)

    def mul(self, name: str, a: Value, b: Value) -> Value:
        return self._binary(name, "mul", a, b)

    def sdiv(self, name: str, a: Value, b: Value) -> Value:
        return self._binary(name, "sdiv", a, b)

    def both(self, name: str, a: Value, b: Value) -> Value:
        _expect(a, I1)
        return self._binary(name, "and", a, b)

    def either(self, name: str, a: Value, b: Value) -> Value:
        return self._binary(name, "or", a, b)

    def fadd(self, name: str, a: Value, b: Value) -> Value:
        return self._binary(name, "fadd", a, b)

    def fsub(self, name: str, a: Value, b: Value) -> Value:
        return self._binary(name, "fsub", a, b)

    def fmul(self, name: str, a: Value, b: Value) -> Value:
        return self._binary(name, "fmul", a, b)

    def icmp(self, name: str, condition: str, a: Value, b: Value) -> Value:
        _expect(b, a.type)
        return self._set(name, I1, f"icmp {condition} {a}, {b.text}")

    def fcmp(self, name: str, condition: str, a: Value, b: Value) -> Value:
        _expect(b, a.type)
        return self._set(name, I1, f"fcmp {condition} {a}, {b.text}")

    def select(self, name: str, condition: Value, a: Value, b: Value) -> Value:
        _expect(condition, I1)
        _expect(b, a.type)
        return self._set(name, a.type, f"select {condition}, {a}, {b}")

    def sext(self, name: str, value: Value, type: str) -> Value:
        return self._set(name, type, f"sext {value} to {type}")

    def trunc(self, name: str, value: Value, type: str) -> Value:
        return self._set(name, type, f"trunc {value} to {type}")

    def sitofp(self, name: str, value: Value, type: str) -> Value:
        return self._set(name, type, f"sitofp {value} to {type}")

    def fpext(self, name: str, value: Value, type: str) -> Value:
        return self._set(name, type, f"fpext {value} to {type}")

    # Memory

    def gep(self, name: str, base: Value, offset: Value | int, element: str = "i8") -> Value:
        """The address `offset` elements, or bytes, behind another."""
        _expect(base, PTR)
        index = integer(offset) if isinstance(offset, int) else offset
        _expect(index, I64)
        return self._set(name, PTR, f"getelementptr {element}, {base}, {index}")

    def load(self, name: str, type: str, place: Value, comment: str = "") -> Value:
        _expect(place, PTR)
        return self._set(name, type, f"load {type}, {place}" + (f" ; {comment}" if comment else ""))

    def store(self, value: Value, place: Value) -> None:
        _expect(place, PTR)
        self._line(f"store {value}, {place}")

    def alloca(self, name: str, type: str) -> Value:
        """Memory of the function's own for one value."""
        return self._set(name, PTR, f"alloca {type}")

    def load_acquire(self, name: str, place: Value) -> Value:
        """A number that another thread may write: what it wrote before is seen after this."""
        _expect(place, PTR)
        return self._set(name, I64, f"load atomic {I64}, {place} acquire, align 8")

    def store_release(self, value: Value, place: Value) -> None:
        """A number that other threads read: who sees it sees what was written before."""
        _expect(value, I64)
        _expect(place, PTR)
        self._line(f"store atomic {value}, {place} release, align 8")

    # Calls

    def call(self, function: str, arguments: Sequence[Value] = ()) -> None:
        self._line(f"call void {function}({', '.join(str(argument) for argument in arguments)})")

    def result(self, name: str, type: str, function: str, arguments: Sequence[Value] = ()) -> Value:
        """What a function gives."""
        return self._set(name, type, f"call {type} {function}({', '.join(str(argument) for argument in arguments)})")

    def larger(self, name: str, a: Value, b: Value) -> Value:
        return self._intrinsic(name, "smax", a, b)

    def smaller(self, name: str, a: Value, b: Value) -> Value:
        return self._intrinsic(name, "smin", a, b)

    # Lines

    def _intrinsic(self, name: str, op: str, a: Value, b: Value) -> Value:
        _expect(b, a.type)
        return self._set(name, a.type, f"call {a.type} @llvm.{op}.{a.type}({a}, {b})")

    def _binary(self, name: str, op: str, a: Value, b: Value) -> Value:
        _expect(b, a.type)
        return self._set(name, a.type, f"{op} {a}, {b.text}")

    def _set(self, name: str, type: str, made: str) -> Value:
        self._line(f"%{name} = {made}")
        return Value(type, f"%{name}")

    def _end(self, line: str) -> None:
        self._line(line)
        self._open = False

    def _line(self, line: str) -> None:
        if not self._open:
            raise ValueError(f"`{line}` stands behind the end of a block")
        self._lines.append(f"  {line}")

    def replace(self, place: int, line: str) -> None:
        """For a phi, whose line grows."""
        self._lines[place] = f"  {line}"


class Phi:
    """A value that hangs on where control comes from."""

    def __init__(self, type: str, text: str, function: FunctionBuilder, place: int) -> None:
        self.value = Value(type, text)
        self._function, self._place = function, place
        self._incoming: list[str] = []

    def add(self, value: Value, label: str) -> None:
        _expect(value, self.value.type)
        self._incoming.append(f"[ {value.text}, %{label} ]")
        line = f"{self.value.text} = phi {self.value.type} {', '.join(self._incoming)}"
        self._function.replace(self._place, line)


def _expect(value: Value, type: str) -> None:
    if value.type != type:
        raise TypeError(f"`{value}` stands where {type} is wanted")
