"""Mutated programs for the front end: by bytes, by tokens, by lines, and programs put together at random from the
grammar.

Run as a program to try many: `python tests/fuzz/mutations.py --count 200000 --jobs 2 --seed 1`. Each must end in a
model or in diagnostics, within two seconds; the formatter must keep the tree of what can be read. What fails is
written to a file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tapeless.compiler.elaborate import functions
from tapeless.compiler.elaborate.modules import standard_names
from tapeless.compiler.language.format import formatted
from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import load

ROOT = Path(__file__).parents[2]
SLOWEST = 2.0  # seconds of a processor's time for one program
_PIECES = re.compile(r"\s+|\w+|\*\*|\.\.\.|\.\.|[<>=!]=|//|.", re.DOTALL)
NAMES = ("x", "y", "h", "W", "b", "k", "t", "batch", "training", "step", "steps", "pi", "inf", "_", "units", "E")
WORDS = (
    *(
        "fn",
        "layer",
        "model",
        "optimizer",
        "train",
        "import",
        "input",
        "target",
        "param",
        "frozen",
        "state",
        "output",
        "loss",
        "metric",
    ),
    *(
        "total",
        "as",
        "use",
        "return",
        "yield",
        "scan",
        "over",
        "with",
        "repeat",
        "for",
        "in",
        "if",
        "else",
        "and",
        "or",
        "not",
        "true",
    ),
    *(
        "int",
        "bool",
        "all",
        "but",
        "stacked",
        "where",
        "except",
        "freeze",
        "epochs",
        "clip_norm",
        "validation",
        "stop_early",
        "on",
    ),
)
SIGNS = (
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "@",
    "**",
    "<",
    "<=",
    "==",
    "!=",
    "(",
    ")",
    "[",
    "]",
    ",",
    ":",
    "=",
    "~",
    ".",
    "..",
    "...",
    "#",
    "'",
    '"',
)
NUMBERS = (
    "inf",
    "0",
    "1",
    "2",
    "3",
    "8",
    "-1",
    "0.5",
    "1e-3",
    "1e300",
    "1e999",
    "2147483648",
    "99999999999999999999",
    "0x10",
    "1_000",
    ".5",
    "5.",
)


def corpus() -> list[str]:
    """The programs of the repository, right and wrong."""
    found = [
        path.read_text(encoding="utf-8")
        for folder in ("compiler/std", "examples")
        for path in sorted((ROOT / folder).rglob("*.tl"))
    ]
    for page in sorted((ROOT / "docs").rglob("*.md")):
        blocks = re.findall(r"^```(?:tl)?\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
        found += [block for block in blocks if "model " in block or "layer " in block]
    for path in sorted((ROOT / "tests/compiler/diagnostics").glob("*.txt")):
        parts = path.read_text(encoding="utf-8").split("=" * 80 + "\n")
        found += [parts[0], *parts[2:]]
    return [text for text in found if len(text) < 4000]


class Mutator:
    """An endless supply of programs from one seed."""

    def __init__(self, seed: int, texts: list[str]) -> None:
        self.random = random.Random(seed)
        self.texts = texts
        self.functions = [*standard_names(), *functions.BUILTINS]
        self.pieces = sorted({piece for text in texts for piece in _PIECES.findall(text)})

    def program(self) -> str:
        """One program, mutated once or a few times."""
        r = self.random
        if r.random() < 0.2:
            return self.written()
        text = r.choice(self.texts)
        for _ in range(r.choice((1, 1, 1, 2, 3, 8))):
            text = r.choice((self.by_bytes, self.by_tokens, self.by_tokens, self.by_tokens, self.by_lines))(text)
        return text

    def by_bytes(self, text: str) -> str:
        r, data = self.random, bytearray(text.encode("utf-8", "surrogatepass"))
        for _ in range(r.randint(1, 4)):
            place = r.randrange(len(data) + 1)
            change = r.randrange(4)
            if change == 0 and place < len(data):
                data[place] ^= 1 << r.randrange(8)
            elif change == 1:
                data[place:place] = bytes(r.randrange(256) for _ in range(r.randint(1, 3)))
            elif change == 2:
                del data[place : place + r.randint(1, 6)]
            else:
                start = r.randrange(len(data) + 1)
                data[place:place] = data[start : start + r.randint(1, 40)]
        return data.decode("utf-8", "replace") if r.random() < 0.8 else data.decode("latin-1")

    def by_tokens(self, text: str) -> str:
        r, pieces = self.random, _PIECES.findall(text)
        if not pieces:
            return text
        place = r.randrange(len(pieces))
        change = r.randrange(6)
        if change == 0:
            del pieces[place]
        elif change == 1:
            pieces[place] = self.token()
        elif change == 2:
            pieces.insert(place, self.token())
        elif change == 3:
            other = r.randrange(len(pieces))
            pieces[place], pieces[other] = pieces[other], pieces[place]
        elif change == 4:
            pieces[place] = r.choice(self.pieces)
        else:
            same = [k for k, piece in enumerate(pieces) if piece.isidentifier()]
            if same:
                pieces[r.choice(same)] = r.choice((*NAMES, *self.functions))
        return "".join(pieces)

    def by_lines(self, text: str) -> str:
        r, lines = self.random, text.split("\n")
        place = r.randrange(len(lines))
        change = r.randrange(5)
        if change == 0:
            del lines[place]
        elif change == 1:
            other = r.choice(self.texts).split("\n")
            start = r.randrange(len(other))
            lines[place:place] = other[start : start + r.randint(1, 4)]
        elif change == 2:
            other = r.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        elif change == 3:
            lines[place] = " " * r.choice((0, 1, 4, 8, 12)) + lines[place].lstrip()
        else:
            lines.insert(place, "    " + self.statement())
        return "\n".join(lines)

    def token(self) -> str:
        r = self.random
        return r.choice(r.choice((NAMES, WORDS, SIGNS, NUMBERS, self.functions)))

    # Programs from the grammar

    def written(self) -> str:
        r = self.random
        lines = [f"layer L(x{r.choice(('', '[.., i]', '[n, c]', '[n, c, ..]'))}, units = {r.choice(NUMBERS)}):"]
        lines += [f"    {self.statement(layer=True)}" for _ in range(r.randint(1, 4))] + [
            f"    return {self.expression(3)}"
        ]
        lines += [
            "model M(n = 3):",
            "    input x: [batch, 8]",
            "    input t: [batch, 3, 4]",
            "    input k: int[batch] < 4",
            "    target y: [batch]",
            "    param W: [8, 4] ~ normal",
            "    param b: [4] = 0",
            "    h = x @ W",
        ]
        lines += [f"    {self.statement()}" for _ in range(r.randint(1, 8))]
        if r.random() < 0.5:
            lines += [
                "train M:",
                f"    optimizer {r.choice(('Adam', 'SGD', 'Lion'))}(lr = {self.expression(1)})",
                f"    epochs {r.choice(NUMBERS)}",
            ]
        return "\n".join(lines) + "\n"

    def statement(self, layer: bool = False) -> str:
        r = self.random
        name = r.choice(NAMES)
        kinds = [
            f"{name} = {self.expression(4)}",
            f"{name}, {r.choice(NAMES)} = {self.expression(3)}",
            f"param {name}: [{self.expression(1)}] = {self.expression(2)}",
            f"state {name} = {self.expression(2)}",
            f"use {name} = L(units = {self.expression(1)})",
            f"for {name} in {self.expression(0)}..{self.expression(0)}:\n        h = {self.expression(3)}",
            f"if {self.expression(2)}:\n        h = {self.expression(2)}\n    else:\n        h = {self.expression(2)}",
        ]
        kinds += [
            "scan over "
            f"{r.choice(('t', 'n', 'b', name))}{r.choice(('', ' reverse', ' lengths = k', ' checkpoint every = 2'))} "
            f"with {name}{r.choice(('', ': [batch, 4]'))} = {self.expression(1)}:\n"
            f"        {name} = {self.expression(3)}\n        yield {name}\n    h = stacked {name}",
            f"repeat {name} in {self.expression(0)}..{self.expression(0)}:\n        h = {self.expression(3)}",
            f"{name}[{self.indices()}] = {self.element(3)}",
        ]
        if not layer:
            kinds += [
                f"output {name} = {self.expression(4)}",
                f"loss {self.expression(4)}",
                f"loss mean({self.expression(4)}) as {name}",
                f"metric {name} = {self.expression(3)}",
                f"metric {name} = sum({self.expression(3)}) / sum({self.expression(2)}) total",
            ]
        return r.choice(kinds)

    def expression(self, depth: int) -> str:
        r = self.random
        if depth <= 0 or r.random() < 0.15:
            return r.choice(("x", "h", "t", "k", "y", "W", "b", "n", "batch", *NUMBERS))
        inner = [self.expression(depth - 1) for _ in range(3)]
        function = r.choice(self.functions)
        return r.choice(
            (
                f"{inner[0]} {r.choice(SIGNS[:12])} {inner[1]}",
                f"({inner[0]})",
                f"-{inner[0]}",
                f"not {inner[0]}",
                f"{function}({inner[0]})",
                f"{function}({inner[0]}, {inner[1]})",
                f"{function}({inner[0]}, axis = {r.choice(('0', '1', '-1', '[0, 1]'))})",
                f"{function}({inner[0]}, {inner[1]}, {inner[2]})",
                f"{inner[0]}[{r.choice((':, 1', '...', ':, ::-1', '0', 'k', ':, 1:', '..., k', '-1:0:-2'))}]",
                (
                    f"{r.choice(('grad', 'vjp', 'jvp', 'hvp', 'jacobian'))}({inner[0]}, "
                    f"{r.choice(('x', 'h', 'W', 't', 'h.W'))}{r.choice(('', f', {inner[1]}'))})"
                ),
                f"einsum('{self.subscripts()}', {inner[0]}{r.choice(('', f', {inner[1]}'))})",
                f"{inner[0]}[t{r.choice(('', ' - 1', ' + 1'))}]{r.choice(('', ' else 0'))}",
                f"[{inner[0]}, {inner[1]}]",
                f"({inner[0]} if {inner[1]} else {inner[2]})",
                f"L({inner[0]}, {inner[1]})",
                f"sum[{r.choice(NAMES)}] {inner[0]}",
            )
        )

    def indices(self) -> str:
        r = self.random
        return ", ".join(
            r.choice(("i", "j", "n", "i: 2", "t", "2 * i + j", "i - 1", "k[n]", "0", "-1", "i * j"))
            for _ in range(r.randint(0, 3))
        )

    def element(self, depth: int) -> str:
        """The right side of a line with index variables."""
        r = self.random
        if depth <= 0:
            return f"{r.choice(('x', 't', 'k', 'W', 'b', 'h'))}[{self.indices()}]"
        inner = [self.element(depth - 1) for _ in range(2)]
        return r.choice(
            (
                inner[0],
                f"{inner[0]} {r.choice(SIGNS[:12])} {inner[1]}",
                (
                    f"{r.choice(('sum', 'max', 'min', 'mean', 'prod'))}"
                    f"[{r.choice(('i', 'j', 'i, j', 'n', 'i: 2', 'i where i < j', ''))}] "
                    f"{inner[0]}"
                ),
                f"{r.choice(self.functions)}({inner[0]})",
                self.expression(1),
            )
        )

    def subscripts(self) -> str:
        r = self.random
        return "".join(r.choice(("i", "j", "b", "...", ",", "->", " ", "B", "1", ".")) for _ in range(r.randint(0, 8)))


def fault_of(text: str, slowest: float | None = None) -> str | None:
    """What is wrong with how the front end takes a program, or that it takes over `slowest` seconds; else None."""
    started = time.process_time()
    try:
        try:
            load(text, "fuzz.tl", sizes={})
        except ProgramErrors as errors:
            if not errors.diagnostics:
                return "no diagnostic"
            errors.render()
        took = time.process_time() - started
        if slowest is not None and took > slowest:
            return f"took {took:.1f} s"
        with suppress(ProgramErrors):
            formatted(text, "fuzz.tl")
    except BaseException:
        return traceback.format_exc()
    return None


def faults(seed: int, count: int, texts: list[str]) -> Iterator[tuple[str, str]]:
    """The programs, of so many, that the front end does not take well, and why."""
    mutator = Mutator(seed, texts)
    for _ in range(count):
        text = mutator.program()
        reason = fault_of(text)
        if reason:
            yield text, reason


def _job(task: tuple[int, int]) -> tuple[int, float, list[tuple[str, str]]]:
    seed, count = task
    mutator, texts = Mutator(seed, _TEXTS), []
    slowest = 0.0
    for _ in range(count):
        text = mutator.program()
        started = time.process_time()
        reason = fault_of(text, SLOWEST)
        slowest = max(slowest, time.process_time() - started)
        if reason:
            texts.append((text, reason))
    return count, slowest, texts


_TEXTS: list[str] = []


def main() -> int:
    """Try many; 1 if some fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--out", type=Path, default=Path("fuzz-failures.txt"))
    given = parser.parse_args()
    _TEXTS.extend(corpus())
    each, begin = 250, time.monotonic()
    tasks = [(given.seed * 1_000_000 + k, each) for k in range(-(-given.count // each))]
    done, slowest, failed = 0, 0.0, 0
    with (
        multiprocessing.get_context("fork").Pool(given.jobs) as pool,
        given.out.open("w", encoding="utf-8", errors="surrogateescape") as out,
    ):
        for count, longest, found in pool.imap_unordered(_job, tasks):
            done, slowest, failed = done + count, max(slowest, longest), failed + len(found)
            for text, reason in found:
                out.write(f"{'=' * 80}\n{text}\n{'-' * 80}\n{reason}\n")
                out.flush()
            if time.monotonic() - begin > given.minutes * 60:
                pool.terminate()
                break
    print(f"{done} programs, {failed} failures, slowest {slowest:.2f} s, {time.monotonic() - begin:.0f} s in all")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
