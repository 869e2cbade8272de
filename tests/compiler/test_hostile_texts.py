"""Texts that somebody made to exhaust or to deceive: each ends in diagnostics that are short, plain and soon there."""

from __future__ import annotations

import re

import pytest

from tapeless.compiler.elaborate import emission
from tapeless.compiler.messages.diagnostics import LONGEST, MOST, ProgramErrors
from tapeless.compiler.model import load

HEAD = "model M:\n    input x: [batch, 4]\n"
TAIL = "    output z = x\n"


def lines(*texts: str) -> str:
    return HEAD + "".join(f"    {text}\n" for text in texts)


def said(text: str) -> str:
    with pytest.raises(ProgramErrors) as caught:
        load(text)
    message = caught.value.render()
    assert len(message) < 200_000 and re.sub(r"\n", "", message).isprintable()
    assert max(map(len, message.split("\n"))) < LONGEST + 200
    return message


DEEP = {
    "brackets": "output z = " + "[" * 3000,
    "parentheses": "output z = " + "(" * 3000 + "x" + ")" * 3000,
    "signs": "output z = " + "-" * 50_000 + "x",
    "calls": "output z = " + "exp(" * 20_000 + "x" + ")" * 20_000,
    "indices": "output z = x" + "[:, 0]" * 20_000,
    "choices": "output z = " + "x if true else " * 20_000 + "x",
    "sums": "output z = " + "x + " * 50_000 + "x",
    "powers": "output z = x" + " ** 2" * 20_000,
    "derivatives": "output z = " + "grad(" * 500 + "sum(x)" + ", x)" * 500,
}
LARGE = {
    "turns": ("h = x", "for i in 0..1000000000:", "    h = h + 1", "output z = h"),
    "turns in turns": (
        "h = x",
        "for i in 0..1000:",
        "    for j in 0..1000:",
        "        for k in 0..1000:",
        "            h = h + 1",
        "output z = h",
    ),
    "turns with parameters": (
        "h = x",
        "repeat k in 0..10000000:",
        "    param w: [4] = 1",
        "    h = h * w",
        "output z = h",
    ),
    "turns in turns with parameters": (
        "h = x",
        "repeat j in 0..10000:",
        "    repeat k in 0..10000:",
        "        param w: [4] = 1",
        "        h = h * w",
        "output z = h",
    ),
    "axes": ("output z = reshape(x, [batch" + ", 1" * 40 + ", 4])",),
    "elements": ("param w: [1000000, 1000000, 1000000] = 0", "output z = x + sum(w)"),
    "elements made": ("output z = x + sum(zeros([1000000000, 1000000000]))",),
    "lists of lists": (
        *[f"y{k + 1} = [y{k}, y{k}]" if k else "y1 = [1, 1]" for k in range(40)],
        "output z = x * y40[0]",
    ),
    "lists in lists": ("y0 = [1]", *[f"y{k + 1} = [y{k}]" for k in range(40)], "output z = x * y40[0]"),
    "lists joined": ("y0 = [1]", *[f"y{k + 1} = y{k} + y{k}" for k in range(40)], "output z = x * y40[0]"),
    "ones": ("y = [1] * 10 ** 15", "output z = x * y[0]"),
    "powers of powers": ("output z = x * 10 ** 10 ** 10",),
    "a power": ("output z = x * 2 ** 100000",),
    "a size": ("param w: [1000000000000000000] = 0", "output z = x + sum(w)"),
    "a number": ("output z = x * " + "9" * 100_000,),
    "a name": ("output z = x * " + "q" * 100_000,),
    "a string": ("output z = einsum('" + "i" * 100_000 + "->', x)",),
    "targets": (", ".join(f"a{k}" for k in range(20_000)) + " = x", "output z = x"),
    "index variables": ("y[" + ", ".join(f"i{k}" for k in range(3000)) + "] = x[i0, i1]", "output z = x"),
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_what_is_nested_deeply(text: str) -> None:
    said(lines(text))


@pytest.mark.parametrize("texts", LARGE.values(), ids=LARGE)
def test_what_is_large(texts: tuple[str, ...]) -> None:
    said(lines(*texts))


def test_derivatives_of_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is some times as long as the one before; what is found on the way counts, even if none of it stays."""
    monkeypatch.setattr(emission, "NODES", 1000)
    assert "operations" in said(
        lines("g = sum(exp(x) * sin(x))", *["g = sum(grad(g, x) * x)"] * 14, "output z = x + g")
    )


@pytest.mark.parametrize("header", ["if true:", "for i in 0..2:", "repeat i in 0..2:", "scan over batch:"])
def test_blocks_in_blocks(header: str) -> None:
    said(HEAD + "".join(f"{' ' * (4 + k)}{header}\n" for k in range(1000)) + " " * 1004 + "y = x\n" + TAIL)


@pytest.mark.parametrize(
    "definition", ["fn f{k}(x) = f{j}(x) + f{j}(f{j}(x))", "layer f{k}(x):\n    return f{j}(x) * f{j}(x)"]
)
def test_each_uses_the_one_before_twice(definition: str) -> None:
    text = "fn f0(x) = x\n" + "".join(definition.format(k=k, j=k - 1) + "\n" for k in range(1, 30))
    assert "more than" in said(text + lines("output z = f29(x)"))


def test_a_pattern_is_matched_soon() -> None:
    text = lines(f"param {'a' * 400}: [4] = 0", f"output z = x + {'a' * 400}", "loss mean(z)")
    for pattern in ("*a" * 200 + "*b", "*" * 400 + "b", "[a-z]*" * 50 + "b", "[" * 400):
        said(text + f"\ntrain M:\n    optimizer SGD(lr = 1)\n    except '{pattern}': lr = 0\n")
        said(text + f"\ntrain M:\n    optimizer SGD(lr = 1)\n    freeze '{pattern}'\n")


def test_only_the_first_faults_are_shown() -> None:
    message = said(lines(*[f"a{k} = b{k}" for k in range(3000)]))
    assert message.count("error[") == MOST and "... and 2900 more" in message


@pytest.mark.parametrize("character", ["\x1b[2J", "\x07", "\x9b31m", "\u202e", "\u2066", "\u2028", "\x7f", "\u200b"])
def test_characters_that_a_terminal_obeys(character: str) -> None:
    """In a name's place, in a string, in a comment on a wrong line."""
    for text in (
        f"output z = x {character} x",
        f"output z = einsum('{character}', x)",
        f"output z = q  # {character}",
        f"import '{character}.tl'",
    ):
        said(lines(text))
    said(f"import '{character}.tl'\n" + lines("output z = x"))
    with pytest.raises(ProgramErrors) as caught:
        load(lines("output z = q"), f"{character}.tl")
    assert character not in caught.value.render()


def test_turns_without_parameters_cost_what_ten_cost() -> None:
    ten, many = (
        load(lines("h = x", f"repeat k in 0..{turns}:", "    h = tanh(h) * k", "output z = h"))
        for turns in (10, 10_000_000)
    )
    assert len(ten.forward[True].nodes) == len(many.forward[True].nodes)
