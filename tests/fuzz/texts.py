"""Texts that somebody made to exhaust or to deceive, from the patterns that do so: `check`, and machine code for
what passes.

Beside `mutations.py`, whose programs are ordinary ones gone wrong. `python -m tests.fuzz.texts --count 20000`.
"""

from __future__ import annotations

import random
import sys
from functools import cache

import tapeless
from tapeless.runtime.errors import UserError

from .children import run
from .mutations import Mutator, corpus

CONTROL = (
    "\x1b[2J",
    "\x07",
    "\u202e",
    "\u2066",
    "\x9b",
    "\x00",
    "\u2028",
    "\ufeff",
    "\ud7ff",
    "\U000e0001",
    "\r",
    "\x0c",
)
SIZES = (0, 1, 2, 7, 33, 1000, 10**6, 10**9, 2**31, 2**53, 10**18, -1, 10**30)
LONG = (3, 50, 500, 5_000, 50_000)


@cache
def mutator() -> Mutator:
    return Mutator(0, corpus())


def nested(r: random.Random) -> str:
    count = r.choice(LONG)
    left, right = r.choice(
        (
            ("(", ")"),
            ("[", "]"),
            ("exp(", ")"),
            ("grad(sum(", "), x)"),
            ("-", ""),
            ("x + ", ""),
            ("x if true else ", ""),
            ("", "[:, 0]"),
            ("", " ** 2"),
            ("(x @ ", ")"),
        )
    )
    return f"    output z = {left * count}x{right * (count if r.random() < 0.9 else count - 1)}\n"


def blocks(r: random.Random) -> str:
    count = r.choice((3, 20, 70, 400))
    headers = [
        r.choice(
            (
                "if true:",
                f"for i in 0..{r.choice(SIZES)}:",
                f"repeat i in 0..{r.choice(SIZES)}:",
                "for w in [64, 32]:",
                "scan over b:",
            )
        )
        for _ in range(count)
    ]
    body = "".join(f"{' ' * (4 + k)}{header}\n" for k, header in enumerate(headers))
    return (
        "    h = x\n"
        + body
        + " " * (4 + count)
        + r.choice(("h = h + 1", "param w: [4] = 1", "h = grad(sum(h ** 2), h)", "use d = Dense(units = 4)"))
        + "\n    output z = h\n"
    )


def growing(r: random.Random) -> str:
    line = r.choice(
        (
            "h = h + h",
            "h = sum(grad(sum(h ** 3), h) * x) * x",
            "h = [h, h]",
            "h = concat([h, h], 1)",
            "h = tanh(h) * h",
            "h = jacobian(h, x)",
            "h = einsum('bi,bi->bi', h, h)",
        )
    )
    return "    h = x\n" + f"    {line}\n" * r.choice((2, 10, 14, 100, 2000)) + "    output z = h\n"


def sized(r: random.Random) -> str:
    a, b = r.choice(SIZES), r.choice(SIZES)
    return "    " + r.choice((
        f"param w: [{a}, {b}] = 0\n    output z = x + sum(w)", f"output z = reshape(x, [batch, {a}, {b}])",
        f"output z = x * {a} ** {b}", f"output z = x * zeros([{a}, {b}])",
        f"output z = x[:, {a}:{b}]", f"h = x\n    repeat k in 0..{a}:\n        h = h * k\n    output z = h",
        f"output z = one_hot(arange({a}), {b})", f"output z = pad(x, {a}, {b})",
        f"output z = Dense(x, {a})", f"output z = x * {'9' * (abs(a) % 5000)}",
        f"output z = broadcast(x, [{a}, batch, 4])", f"output z = tile(x, [1, {a}])",
        f"output z = cumsum(ones([{a}]))", f"output z = reshape(x, [batch{', 1' * (abs(a) % 400)}, 4])",
        f"output z = MultiHeadAttention(x, heads = {a})")) + "\n"  # fmt: skip


def many(r: random.Random) -> str:
    count = r.choice((10, 300, 3000))
    return r.choice((
        "".join(f"    a{k} = b{k}\n" for k in range(count)), "    output z = x * [" + "1, " * count + "1]\n",
        "    " + ", ".join(f"a{k}" for k in range(count)) + " = x\n",
        f"    output z = {'q' * count * 20}\n", f"    output z = einsum('{'i' * count * 5}->', x)\n",
        "    y[" + ", ".join(f"i{k}" for k in range(count)) + "] = x[i0, i1]\n",
        "    output z = concat([" + "x, " * count + "x], 1)\n",
        "".join(f"    param p{k}: [2] = 0\n" for k in range(count)) + "    output z = x + p0[0]\n",
        "    output z = x\n" + "\n\nmodel M:\n    input x: [batch]\n" * (count // 10), ")" * count + "\n"))  # fmt: skip


def deceiving(r: random.Random) -> str:
    sign = r.choice(CONTROL)
    return r.choice(
        (
            f"    output z = x {sign} q\n",
            f"    output {sign} = q\n",
            f"    output z = einsum('{sign}', x)\n",
            f"    output z = q  # {sign}\n",
            f"import '{sign}.tl'\n",
            f"    output z = q\n{sign}\n",
        )
    )


def training(r: random.Random) -> str:
    pattern = r.choice(
        ("*a" * 100 + "b", "*" * 300, "[" * 100, "[!a-z]*" * 40, "?" * 300, "x" * 3000, "*.b", r.choice(CONTROL))
    )
    setting = r.choice((f"except '{pattern}': lr = 0", f"freeze '{pattern}'", f"epochs {r.choice(SIZES)}",
        f"batch {r.choice(SIZES)}", f"validation {r.choice(SIZES)}",
                        f"optimizer Adam(lr = {r.choice(SIZES)})", f"clip_norm {r.choice(SIZES)}",
                        f"stop_early patience = {r.choice(SIZES)}", f"denormals {r.choice(SIZES)}"))  # fmt: skip
    return (
        f"    param {'a' * r.choice((1, 40, 400))}: [4] = 1\n    output z = Dense(x, 4)\n    loss mean(z ** "
        f"2)\n\ntrain M:\n    {setting}\n"
    )


def definitions(r: random.Random) -> str:
    form = r.choice(
        (
            "fn f{k}(x) = f{j}(x) + f{j}(x)",
            "layer f{k}(x):\n    return f{j}(f{j}(x))",
            "fn f{k}(x) = f{k}(x)",
            "fn f{k}(x) = grad(f{j}(x), x)",
            "layer f{k}(x):\n    return f{j}(x)",
            "fn f{k}(x, y = f{j}(x)) = x",
        )
    )
    count = r.choice((3, 12, 30, 200))
    made = "fn f0(x) = x * x\n" + "".join(form.format(k=k, j=k - 1) + "\n" for k in range(1, count))
    return made + "\0" + f"    output z = f{count - 1}(x)\n"


KINDS = (nested, blocks, growing, sized, many, deceiving, training, definitions)


def text_of(r: random.Random) -> str:
    if r.random() < 0.3:
        mutator().random.seed(r.random())
        return mutator().program()
    before, _, body = "".join(r.choice(KINDS)(r) for _ in range(r.choice((1, 1, 1, 2)))).rpartition("\0")
    text = f"{before}model M:\n    input x: [batch, 4]\n{body}"
    if r.random() < 0.2:
        mutator().random.seed(r.random())
        text = mutator().by_bytes(text)
    return text + "\n"


def attempt(number: int) -> str | None:
    """One text: what `check` says, and what can be compiled small enough is."""
    r = random.Random(number)
    try:
        model = tapeless.load(text_of(r), imports="beside")
        shown = model.check()
        graph = model.pipeline("float32").entry("predict")
        if len(graph.nodes) < 60:
            model.compile(cache=False, threads=1).image("predict")
    except UserError as error:
        shown = str(error)
    plain = shown.replace("\n", "").replace("\t", "")
    return (
        None
        if plain.isprintable() and len(shown) < 21_000
        else f"said for a terminal to obey, or too long: {shown[:300]!r}"
    )


if __name__ == "__main__":
    mutator()
    sys.exit(run(attempt, __doc__, 20_000))
