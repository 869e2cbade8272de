"""Every scalar function of the language with its meaning, for tests against exact values and for the tables of
docs/numerics.md.

A meaning is a formula that sympy differentiates, in pieces where the function has kinks; or, for roundings and
remainders, mpmath functions, each the derivative of the one before. Names of functions are those of the texts, so
that a function without an entry is found.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import sympy

from . import balls

Real = Any
X, Y = sympy.symbols("x y", real=True)


@dataclass(frozen=True)
class Piece:
    """A formula, and where it holds."""

    formula: str
    where: Callable[..., bool] = lambda *at: True


@dataclass(frozen=True)
class Scalar:
    """One function. `near` are its own special points: kinks, poles, zeros and switches between branches; typical
    arguments lie between
    `low` and `high`. `given` are mpmath functions in place of a formula. Endless arguments are tried where it has a
    limit there.
    """

    text: str
    arguments: int
    pieces: tuple[Piece, ...] = ()
    near: Sequence[Any] = ()
    low: float = -4.0
    high: float = 4.0
    given: tuple[Callable[..., Real], ...] = ()
    limit: bool = True
    exact: Callable[..., bool] = lambda *at: True  # where the meaning is as told
    largest: float = 1e300  # of the arguments tried

    def at(self, order: tuple[int, ...], *at: float) -> Real | None:
        """The derivative of this order, at one point; None where there is none or it is not real."""
        if self.given:
            return exact(self.given[order[0]], *at)
        for piece in self.pieces:
            if piece.where(*at):
                return balls.value(derivative(piece.formula, order), dict(zip((X, Y), at, strict=False)))
        raise ValueError("no piece holds here")


@functools.cache
def derivative(formula: str, order: tuple[int, ...]) -> sympy.Expr:
    names = {"x": X, "y": Y, "sigmoid": lambda v: 1 / (1 + sympy.exp(-v))}
    expression = sympy.sympify(formula, locals=names)
    for symbol, times in zip((X, Y), order, strict=False):
        for _ in range(times):
            expression = sympy.diff(expression, symbol)
    return expression


def exact(function: Callable[..., Real], *at: float) -> Real | None:
    """What roundings and remainders are, in more digits than any quotient here needs; None where there is none."""
    with mp.workdps(700):
        try:
            value = mp.mpf(function(*map(mp.mpf, at)))
        except (ZeroDivisionError, ValueError, OverflowError):
            return None
    return value if mp.isfinite(value) else None


def _one(formula: str, **options: Any) -> dict[str, Any]:
    return {"pieces": (Piece(formula),), **options}


def _split(at: float, below: str, above: str, **options: Any) -> dict[str, Any]:
    return {"pieces": (Piece(below, lambda x: x < at), Piece(above)), "near": (at,), **options}


def _middle(low: float, high: float, below: str, inside: str, above: str, **options: Any) -> dict[str, Any]:
    return {
        "pieces": (Piece(below, lambda x: x < low), Piece(inside, lambda x: x < high), Piece(above)),
        "near": (low, high),
        **options,
    }


_SELU = 1.0507009873554805, 1.0507009873554805 * 1.6732632423543772
_ALPHA = sympy.Float(1.6732632423543772, 30)
_FLAT = (lambda x: mp.mpf(0),) * 3
_WHOLE = {"limit": False, "near": (0.5, -0.5, 1.5, 2.5, -1.5, 1e15, 4503599627370497.5), "low": -9.0, "high": 9.0}
_CALM = {"largest": 1e5}  # beyond, the rounding of the argument is all there is

_UNARY: dict[str, dict[str, Any]] = {
    "-x": _one("-x"), "abs(x)": _split(0, "-x", "x"), "sign(x)": {"given": (mp.sign, *_FLAT)},
    "exp(x)": _one("exp(x)"), "exp2(x)": _one("2**x"), "exp10(x)": _one("10**x", near=tuple(range(-10, 23))),
    "expm1(x)": _one("exp(x) - 1", near=(-40, -38, -1e-9, 1e-9)),
    "log(x)": _one("log(x)", low=0.0), "log2(x)": _one("log(x)/log(2)", low=0.0, near=(2.0, 1024.0, 2.0**-30)),
    "log10(x)": _one("log(x)/log(10)", low=0.0, near=tuple(10.0**k for k in range(23))),
    "log1p(x)": _one("log(1 + x)", low=-1.0, near=(-1, -0.9999, 1e-9)),
    "sqrt(x)": _one("sqrt(x)", low=0.0), "rsqrt(x)": _one("1/sqrt(x)", low=0.0),
    "cbrt(x)": {"pieces": (Piece("-(-x)**Rational(1, 3)", lambda x: x < 0), Piece("x**Rational(1, 3)"))},
    "square(x)": _one("x**2"), "reciprocal(x)": _one("1/x"), "x ** 3": _one("x**3"), "x ** -2": _one("x**-2"),
    "x ** 0.7": _one("x**Float(0.7, 40)", low=0.0),
    "sin(x)": _one("sin(x)", limit=False, **_CALM), "cos(x)": _one("cos(x)", limit=False, **_CALM),
    "tan(x)": _one("tan(x)", limit=False, low=-1.5, high=1.5, **_CALM),
    "arcsin(x)": _one("asin(x)", low=-1.0, high=1.0, near=(0.5, -0.5, 1 - 1e-10)),
    "arccos(x)": _one("acos(x)", low=-1.0, high=1.0, near=(0.5, -0.5)),
    "arctan(x)": _one("atan(x)", near=(0.4142135623730951, 2.414213562373095)),
    "sinh(x)": _one("sinh(x)", near=(20, -20)), "cosh(x)": _one("cosh(x)", near=(20,)),
    "tanh(x)": _one("tanh(x)", near=(10, 20, -20, 40, 300, 355)),
    "arcsinh(x)": _one("asinh(x)", near=(1e9, -1e9, 1e10, 1e-10)),
    "arccosh(x)": _one("acosh(x)", low=1.0, high=9.0, near=(1.0000000001, 1e9, 1e10, 1000000001.0)),
    "arctanh(x)": _one("atanh(x)", low=-1.0, high=1.0, near=(1e-10, 0.9999)),
    "sigmoid(x)": _one("1/(1 + exp(-x))", near=(40, -40, 700, -700)),
    "softplus(x)": _one("log(1 + exp(x))", near=(40, -40)),
    "erf(x)": _one("erf(x)", near=(0.5, 5)), "erfc(x)": _one("erfc(x)", near=(0.5, 5, 20)),
    "lgamma(x)": _one("loggamma(x)", low=0.0, high=20.0, near=(0.5, 1.5, 2.5, 3), limit=False, exact=lambda x: x > 0),
    "digamma(x)": _one("polygamma(0, x)", low=0.0, high=20.0, limit=False, exact=lambda x: x > 0),
    "polygamma(1, x)": _one("polygamma(1, x)", low=0.0, high=20.0, limit=False, exact=lambda x: x > 0, largest=1e40),
    "erfcx(x)": _one("exp(x**2)*erfc(x)", limit=False, largest=1e8, near=(-20, -5, 10, 26)),
    "erfinv(x)": _one("erfinv(x)", low=-1.0, high=1.0, limit=False, largest=2.0),
    "ndtri(x)": _one("sqrt(2)*erfinv(2*x - 1)", low=0.0, high=1.0, limit=False, largest=2.0),
    "i0(x)": _one("besseli(0, x)", limit=False, largest=1e3, near=(7.75, 15)),
    "i1(x)": _one("besseli(1, x)", limit=False, largest=1e3, near=(7.75, 15)),
    "sinc(x)": {"pieces": (Piece("1", lambda x: x == 0), Piece("sin(pi*x)/(pi*x)")), "near": (0.3, -0.3, 0.29, 0.31),
    "limit": False, **_CALM},
    "floor(x)": {"given": (mp.floor, *_FLAT), **_WHOLE}, "ceil(x)": {"given": (mp.ceil, *_FLAT), **_WHOLE},
    "trunc(x)": {"given": (lambda x: mp.sign(x) * mp.floor(abs(x)), *_FLAT), **_WHOLE},
    "round(x)": {"given": (mp.nint, *_FLAT), **_WHOLE},
    "frac(x)": {"given": (lambda x: x - mp.floor(x) if x > 0 else x - mp.ceil(x), lambda x: mp.mpf(1), *_FLAT[:2]),
    **_WHOLE},
    "clip(x, -1, 2)": _middle(-1, 2, "-1", "x", "2"), "nan_to_num(x)": {**_one("x"), "limit": False},
    "stop_gradient(x) * x": {"given": (lambda x: x * x, lambda x: x, *(lambda x: mp.mpf(0),) * 2)},
    "identity(x)": _one("x"), "relu(x)": _split(0, "0", "x"), "relu6(x)": _middle(0, 6, "0", "x", "6"),
    "leaky_relu(x)": _split(0, "Float(0.01, 40)*x", "x"),
    "threshold(x, 1, 3)": {"pieces": (Piece("3", lambda x: x <= 1), Piece("x")), "near": (1,)},
    "elu(x)": _split(0, "exp(x) - 1", "x", ), "elu(x, 0.5)": _split(0, "(exp(x) - 1)/2", "x"),
    "celu(x, 2)": _split(0, "2*(exp(x/2) - 1)", "x"),
    "selu(x)": _split(0, f"Float('{_SELU[0]!r}', 40)*Float('1.6732632423543772', 40)*(exp(x) - 1)",
        f"Float('{_SELU[0]!r}', 40)*x"),
    "gelu(x)": _one("x*erfc(-x/sqrt(2))/2", limit=False, near=(-10, -20, 10)),
    "gelu(x, approximate = 'tanh')": _one("x/(1 + exp(-2*sqrt(2/pi)*(x + Float('0.044715', 40)*x**3)))", limit=False,
        near=(-5, -3, 5)),
    "silu(x)": _one("x/(1 + exp(-x))", limit=False, near=(40, -40, -700)),
    "swish(x)": _one("x/(1 + exp(-x))", limit=False),
    "mish(x)": _one("x*tanh(log(1 + exp(x)))", limit=False, near=(-40, 40)),
    "squareplus(x)": _one("(x + sqrt(x**2 + 4))/2", near=(-100,)),
    "log_sigmoid(x)": _one("-log(1 + exp(-x))", near=(40, -40)),
    "softsign(x)": _split(0, "x/(1 - x)", "x/(1 + x)"),
    "tanh_shrink(x)": _one("x - tanh(x)", near=(1, 1e-5, -1)),
    "hard_shrink(x)": {"pieces": (Piece("0", lambda x: abs(x) <= 0.5), Piece("x")), "near": (-0.5, 0.5)},
    "soft_shrink(x)": _middle(-0.5, 0.5, "x + 1/2", "0", "x - 1/2"),
    "hard_sigmoid(x)": _middle(-3, 3, "0", "(x + 3)/6", "1"),
    "hard_swish(x)": _middle(-3, 3, "0", "x*(x + 3)/6", "x", limit=False),
    "hard_tanh(x)": _middle(-1, 1, "-1", "x", "1"),
    "sparse_plus(x)": _middle(-1, 1, "0", "(x + 1)**2/4", "x"),
    "sparse_sigmoid(x)": _middle(-1, 1, "0", "(x + 1)/2", "1"),
    "log_cosh_of(x)": _one("log(cosh(x))", near=(1e-9, 1, -1)),
}  # fmt: skip

_BINARY: dict[str, dict[str, Any]] = {
    "x + y": _one("x + y"), "x - y": _one("x - y"), "x * y": _one("x*y"), "x / y": _one("x/y"),
    "x ** y": _one("x**y", exact=lambda x, y: x > 1e-100),
    "maximum(x, y)": {"pieces": (Piece("x", lambda x, y: x > y), Piece("y"))},
    "minimum(x, y)": {"pieces": (Piece("x", lambda x, y: x < y), Piece("y"))},
    "x % y": {"given": (lambda x, y: x - y * mp.floor(x / y), lambda x, y: mp.mpf(1)), "largest": 1e9,
    "exact": lambda x, y: y != 0, "limit": False},
    "x // y": {"given": (lambda x, y: mp.floor(x / y),), "largest": 1e9, "exact": lambda x, y: y != 0, "limit": False},
    "fmod(x, y)": {"given": (lambda x, y: mp.sign(x) * mp.fmod(abs(x), abs(y)), lambda x, y: mp.mpf(1)),
    "largest": 1e9, "exact": lambda x, y: y != 0, "limit": False},
    "hypot(x, y)": _one("sqrt(x**2 + y**2)"),
    "arctan2(x, y)": _one("atan2(x, y)", exact=lambda x, y: x != 0 or y > 0),
    "xlogy(x, y)": {"pieces": (Piece("0", lambda x, y: x == 0 and y < 0), Piece("x*log(y)"))},
    "logaddexp(x, y)": _one("log(exp(x) + exp(y))", largest=1e4),
    "huber_distance(abs(x), y)": {"pieces": (Piece("x**2/2", lambda x, y: abs(x) < y), Piece("y*(x - y/2)")),
    "exact": lambda x, y: y > 0 and x > 0},
    "copysign(x, y)": {"given": (lambda x, y: mp.sign(y) * abs(x),), "exact": lambda x, y: y != 0},
    "lerp(x, y, 0.3)": _one("x + Float(0.3, 40)*(y - x)"), "lerp(x, 3, y)": _one("x + y*(3 - x)"),
    "heaviside(x, y)": {"pieces": (Piece("0", lambda x, y: x < 0), Piece("y", lambda x, y: x == 0), Piece("1"))},
    "where(x > y, x, 2 * y)": {"pieces": (Piece("x", lambda x, y: x > y), Piece("2*y"))},
}  # fmt: skip

SCALARS = (
    *(Scalar(text, 1, **meaning) for text, meaning in _UNARY.items()),
    *(Scalar(text, 2, **meaning) for text, meaning in _BINARY.items()),
)
