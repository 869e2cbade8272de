"""Random programs of loops in loops, each written twice: with its loops, and with every loop unrolled.

`repeat` becomes `for`; the steps of a scan become copies of its body, with its elements taken by number. A body
mixes what may stand in one: layers with parameters, derivatives of all kinds, conditions, index notation, sums of
products, statistics.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

SIZES = {"t": 4, "u": 3, "v": 2}  # the axes of the data, and so of the scans at each depth
HEAD = """
model M(t = 4, u = 3, v = 2):
    input x: [batch, 3]
    input st: [batch, t, 3]
    input su: [batch, u, 3]
    input sv: [batch, v, 3]
    input n: int[batch] < 5
    param A: [3, 3] ~ normal(0, 0.5)
    param B: [3, 3] ~ normal(0, 0.5)
    use one = Dense(units = 3, act = tanh)
    p0 = x @ A
    q0 = one(x)
"""
FIRST = ("x", "p0", "q0")
POINTWISE = (
    "tanh({a} * {b} + 0.5)",
    "sin({a}) * {b}",
    "{a} * sigmoid({b}) + 0.1 * {a} ** 2",
    "sqrt({a} ** 2 + {b} ** 2 + 0.3)",
)
PLAIN = (
    *POINTWISE,
    "where({a} > {b}, {a}, sin({b}))",
    "{a} @ A",
    "tanh(one({a})) + 0.2 * {b}",
    "einsum('ni,ij->nj', {a}, B) * 0.5",
    "({a} - mean({a}, axis = 1, keepdims = true)) * {b}",
    "cumsum({a}, axis = 1) * 0.3",
)
DERIVATIVES = (
    "grad(sum({e}, axis = 1), {d})",
    "vjp({e}, {d}, {b})",
    "jvp({e}, {d}, {b})",
    "hvp(sum({e}, axis = 1), {d}, {b})",
    "sum(jacobian({e}, {d}), axis = 2)",
)


@dataclass(frozen=True)
class Line:
    """A statement; `<t>` is the number of the step along t, `<s@t>` and `<s@t-1>` elements of a sequence."""

    text: str


@dataclass
class Repeat:
    turns: range
    name: str
    body: list[Statement] = field(default_factory=list)


@dataclass
class Scan:
    axis: str
    carries: Mapping[str, str]
    reverse: bool
    lengths: bool
    checkpoint: int | None
    yielded: str = ""
    result: str = ""
    body: list[Statement] = field(default_factory=list)


Statement = Line | Repeat | Scan


class Grower:
    """Grows a program from a seed: loops within loops to a depth, and so many statements in a body beside its loops."""

    def __init__(self, seed: int, depth: int, breadth: int) -> None:
        self.random, self.depth, self.breadth, self.count = random.Random(seed), depth, breadth, 0

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def body(
        self, depth: int, names: list[str], own: list[str], axes: tuple[str, ...], stepped: bool
    ) -> list[Statement]:
        """Statements of one body. `own` are names made in it, by which derivatives are taken there."""
        names, own = list(names), list(own)
        made: list[Statement] = []

        def line(expression: str, stem: str = "a") -> str:
            name = self.fresh(stem)
            made.append(Line(f"{name} = {expression}"))
            names.append(name)
            own.append(name)
            return name

        def pick() -> str:
            return self.random.choice(names[-5:])

        turns = range(self.breadth)
        loops = (
            self.random.sample(turns, self.random.choice((1, 1, min(2, self.breadth)))) if depth < self.depth else []
        )
        for turn in turns:
            kind = self.random.random()
            if kind < 0.4 or not own:
                line(self.random.choice(PLAIN).format(a=pick(), b=pick()))
            elif kind < 0.5:
                name = self.fresh("a")
                made.append(Line(f"{name}[n, i] = sum[j] {pick()}[n, j] * A[i, j]"))
                names.append(name)
                own.append(name)
            elif kind < 0.6 and not stepped:
                line(
                    self.random.choice(("Dense({a}, 3, tanh)", "BatchNorm({a} + x)", "LayerNorm({a} + x)")).format(
                        a=pick()
                    )
                )
            else:
                by = self.random.choice(own)
                inner = self.random.choice(POINTWISE).format(a=by, b=pick())
                energy = line(f"sin({inner}) * {by}", "e")
                line(self.random.choice(DERIVATIVES).format(e=energy, d=by, b=pick()), "g")
            if turn in loops:
                axis = self.random.choice([axis for axis in SIZES if axis not in axes])
                loop, result = (
                    self.repeat(depth, names, axes, stepped)
                    if self.random.random() < 0.45
                    else self.scan(depth, names, axes, axis)
                )
                made += loop
                names.append(result)
        return made

    def start(self, names: list[str]) -> str:
        return f"tanh({self.random.choice(names[-4:])})"

    def repeat(self, depth: int, names: list[str], axes: tuple[str, ...], stepped: bool) -> tuple[list[Statement], str]:
        carry = self.fresh("c")
        first = self.random.randrange(2)
        loop = Repeat(range(first, first + self.random.choice((2, 3))), self.fresh("k"))
        start = Line(f"{carry} = {self.start(names)}")
        loop.body = self.body(depth + 1, [*names, carry], [carry], axes, stepped)
        loop.body.append(Line(f"{carry} = tanh({self.last(loop.body)} * ({loop.name} + 1) + 0.5 * {carry})"))
        return [start, loop], carry

    def scan(self, depth: int, names: list[str], axes: tuple[str, ...], axis: str) -> tuple[list[Statement], str]:
        carry = self.fresh("c")
        loop = Scan(axis, {carry: self.start(names)}, self.random.random() < 0.4, self.random.random() < 0.3,
                    self.random.choice((None, None, 1, 2)))  # fmt: skip
        element = self.fresh("z")
        at = self.random.choice((f"<s@{axis}>", f"<s@{axis}-1>"))
        head = Line(f"{element} = {at} + 0.1 * {carry} * <{axis}>")
        loop.body = [head, *self.body(depth + 1, [*names, carry, element], [carry, element], (*axes, axis), True)]
        loop.yielded, loop.result = self.fresh("y"), self.fresh("r")
        last = self.last(loop.body)
        loop.body += [
            Line(f"{loop.yielded} = sin({last} + {element})"),
            Line(f"{carry} = tanh({last} + 0.5 * {carry})"),
        ]
        return [loop], loop.result

    @staticmethod
    def last(body: list[Statement]) -> str:
        return next(
            name.group() for line in reversed(body) if isinstance(line, Line) and (name := re.match(r"\w+", line.text))
        )


def looped(body: list[Statement]) -> Iterator[str]:
    """The program's lines with its loops."""
    for statement in body:
        if isinstance(statement, Line):
            yield re.sub(
                r"<s@(\w)(-1)?>",
                lambda m: f"(s{m[1]}[{m[1]}{' - 1] else 0)' if m[2] else '])'}",
                re.sub(r"<(\w)>", r"\1", statement.text),
            )
        elif isinstance(statement, Repeat):
            yield f"repeat {statement.name} in {statement.turns.start}..{statement.turns.stop}:"
            yield from (f"    {line}" for line in looped(statement.body))
        else:
            options = " reverse" * statement.reverse + " lengths = n" * statement.lengths
            options += f" checkpoint every = {statement.checkpoint}" if statement.checkpoint else ""
            carries = ", ".join(f"{name}: [batch, 3] = {start}" for name, start in statement.carries.items())
            yield f"scan over {statement.axis}{options} with {carries}:"
            yield from (f"    {line}" for line in looped(statement.body))
            yield f"    yield {statement.yielded}"
            weights = f"expand_dims(arange({SIZES[statement.axis]}) + 1, 1)"
            yield (
                f"{statement.result} = 0.3 * sum(stacked {statement.yielded} * {weights}, axis = 1) + "
                f"{next(iter(statement.carries))}"
            )


def unrolled(body: list[Statement], steps: Mapping[str, int]) -> Iterator[str]:
    """The program's lines without any loop that stays one."""

    def element(m: re.Match[str]) -> str:
        step = steps[m[1]] - bool(m[2])
        return f"s{m[1]}[:, {step}]" if step >= 0 else "0"

    for statement in body:
        if isinstance(statement, Line):
            yield re.sub(r"<s@(\w)(-1)?>", element, re.sub(r"<(\w)>", lambda m: str(steps[m[1]]), statement.text))
        elif isinstance(statement, Repeat):
            yield f"for {statement.name} in {statement.turns.start}..{statement.turns.stop}:"
            yield from (f"    {line}" for line in unrolled(statement.body, steps))
        else:
            yield from _unrolled_scan(statement, steps)


def _unrolled_scan(scan: Scan, steps: Mapping[str, int]) -> Iterator[str]:
    for name, start in scan.carries.items():
        yield f"{name} = {start}"
    total, length = f"{scan.result}_total", SIZES[scan.axis]
    yield f"{total} = 0 * x"
    for step in reversed(range(length)) if scan.reverse else range(length):
        yield from (f"{name}_before = {name}" for name in scan.carries)
        yield from unrolled(scan.body, {**steps, scan.axis: step})
        if scan.lengths:
            inside = f"expand_dims(n > {step}, 1)"
            yield from (f"{name} = where({inside}, {name}, {name}_before)" for name in scan.carries)
            yield f"{scan.yielded} = where({inside}, {scan.yielded}, 0)"
        yield f"{total} = {total} + {step + 1} * {scan.yielded}"
    yield f"{scan.result} = 0.3 * {total} + {next(iter(scan.carries))}"


def programs(seed: int, depth: int, breadth: int) -> tuple[str, str]:
    """The same program with and without loops."""
    body = Grower(seed, depth, breadth).body(0, list(FIRST), ["p0"], (), False)
    made = [re.match(r"\w+", line.text) if isinstance(line, Line) else None for line in body]
    loops = [s.result for s in body if isinstance(s, Scan)] + [
        Grower.last(s.body) for s in body if isinstance(s, Repeat)
    ]
    terms = [*loops, *(m.group() for m in made if m)]
    tail = [f"r = {' + '.join(f'sin({name})' for name in terms)}", "output r", "loss mean((r - x) ** 2)"]

    def text(lines: Iterator[str]) -> str:
        return HEAD + "\n".join(f"    {line}" for line in [*lines, *tail]) + "\n"

    return text(looped(body)), text(unrolled(body, {}))
