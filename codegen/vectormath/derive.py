"""Where the polynomials come from: `python -m tapeless.codegen.vectormath.derive` prints coefficients.py.

Each is the interpolation of a smooth function g at Chebyshev nodes of the reduced range, in 120 digits, rounded to the
element type: its error is within a small factor of the best polynomial's (the Lebesgue constant, below 2.5 up to
degree 10), so one comparison of a truncation bound with half an ulp fixes the degree:

    exp    e^r = 1 + r + r^2 g(r),        |r| <= log(2)/2:  r^7/7!/2^6 = 2e-9 (f32), r^12/12!/2^11 = 3e-18 (f64)
    log    log(1+f) = f - f^2/2 + f^3 g(f), f32, 1+f in [sqrt(1/2), sqrt(2)]:  |f|^3/3 5.8^-9 = 3e-9
    log rest  log(1+f) = f + f^2 g(f), f32, 1+f in [3/4, 3/2]:  f^2/9 (16/3)^-9 = 3e-9
    log2   log2((1+s)/(1-s)) = (2/log(2)) s + s^3 g(s^2), f32 for pow, s^2 <= 0.0295:  2 s^3 134^-4/11 = 3e-12
    exp2   2^r = 1 + r g(r), f32,         |r| <= 1/2:  r (log(2)/4)^6/6!/2^-1 = 4e-9
    atanh  log((1+s)/(1-s)) = 2s + s^3 g(s^2), f64, s^2 <= 0.0295:  s^3 134^-7 = 5e-18
    atanh tail  log((1+s)/(1-s)) = 2s + 2/3 s^3 + s^5 g(s^2), f64 for pow, s^2 <= 0.0295:  s^5 134^-7/8 = 2e-20
    sin    sin(r) = r + r^3 g(r^2),       |r| <= pi/4
    cos    cos(r) = 1 - r^2/2 + r^4 g(r^2), |r| <= pi/4
    asin   asin(x) = x + x^3 g(x^2),      x^2 <= 1/4:  x^3 13.9^-7 = 1e-9 (f32), x^3 13.9^-15 = 1e-18 (f64)
    atan   atan(x) = x + x^3 g(x^2),      |x| <= tan(pi/8):  x^3 25^-6 = 3e-10 (f32), x^3 25^-12 = 1e-18 (f64)
    erf    erf(x) = x + x g(x^2), f32,    |x| <= 1:  1/7!/15/2^13 = 2e-9
    erf far  erfc(x) = e^(-x^2) g(x), f32, for 1 - erfc(x), 1 <= x <= 4: an error counts times e^(-x^2), so the nodes
           are Chebyshev's on the scale of e^-x up to 3; by trial: 2e-8
    erfcx  erfc(x) = e^(-x^2) q g(q - 5/32), f32, q = 1/(3 + x), 0 <= x <= 10.5
    erfinv erfinv(y) = y g(y^2),          y^2 <= 1/4, f64:  4 13.9^-15 = 3e-17
    quantile  the number that a normal one is above with the probability e^(-t^2), over t: of t - 1.84 up to 2.5, of
    1/t - 0.3 up to 5,
           of 1/t - 0.118 beyond; by trial
    i0 far, i1 far  e^-x sqrt(x) I(x) of 1/x - 1/24, x >= 12; by trial
    lgamma lgamma(2 + t) = t g(t),        |t| <= 1/2:  t 7.8^-20 = 1e-18

This module runs on a developer's machine only; it needs mpmath.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

DEGREES = {
    # name: (degree for f32, degree for f64); None where the type does not use it
    "exp": (4, 9),
    "log": (8, None),
    "log rest": (9, None),
    "log2": (3, None),
    "exp2": (5, None),
    "atanh": (None, 6),
    "atanh tail": (None, 6),
    "sin": (2, 5),
    "cos": (2, 5),
    "asin": (6, 14),
    "atan": (5, 11),
    "erf": (6, None),
    "erf far": (7, None),
    "erfcx": (9, None),
    "lgamma": (None, 19),
    "erfinv": (None, 14),
    "quantile near": (None, 26),
    "quantile middle": (None, 17),
    "quantile far": (None, 28),
    "i0 far": (None, 18),
    "i1 far": (None, 18),
}


def main() -> None:
    import mpmath as mp

    mp.mp.dps = 120
    half = mp.log(2) / 2
    root = mp.sqrt(2)
    middle = mp.mpf(5) / 32

    def quantile(t: Any) -> Any:
        """By Newton's steps on the logarithm of the tail."""
        x = mp.mpf(1) if t < 2 else mp.sqrt(2) * t
        for _ in range(40):
            tail = mp.erfc(x / root) / 2
            x += (mp.log(tail) + t**2) * tail * mp.sqrt(2 * mp.pi) * mp.exp(x**2 / 2)
        return x / t

    def bessel(order: int) -> Callable[[Any], Any]:
        def scaled(u: Any) -> Any:
            x = 1 / (u + mp.mpf(1) / 24)
            return mp.besseli(order, x) * mp.exp(-x) * mp.sqrt(x)

        return scaled

    def scaled_erfc(x: Any) -> Any:
        return mp.exp(x**2) * mp.erfc(x)

    functions: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
        "exp": (lambda r: (mp.expm1(r) - r) / r**2, -half, half),
        "log": (lambda f: (mp.log1p(f) - f + f**2 / 2) / f**3, 1 / root - 1, root - 1),
        "log rest": (lambda f: (mp.log1p(f) - f) / f**2, -mp.mpf(1) / 4, mp.mpf(1) / 2),
        "log2": (
            lambda z: 2 * (mp.atanh(mp.sqrt(z)) - mp.sqrt(z)) / mp.sqrt(z) ** 3 / mp.log(2),
            mp.mpf(0),
            (3 - 2 * root) ** 2,
        ),
        "exp2": (lambda r: mp.expm1(r * mp.log(2)) / r, -mp.mpf(1) / 2, mp.mpf(1) / 2),
        "atanh": (
            lambda z: (2 * mp.atanh(mp.sqrt(z)) - 2 * mp.sqrt(z)) / mp.sqrt(z) ** 3,
            mp.mpf(0),
            (3 - 2 * root) ** 2,
        ),
        "atanh tail": (
            lambda z: (2 * mp.atanh(mp.sqrt(z)) - 2 * mp.sqrt(z) - 2 * mp.sqrt(z) ** 3 / 3) / mp.sqrt(z) ** 5,
            mp.mpf(0),
            (3 - 2 * root) ** 2,
        ),
        "sin": (lambda z: (mp.sin(mp.sqrt(z)) - mp.sqrt(z)) / mp.sqrt(z) ** 3, mp.mpf(0), (mp.pi / 4) ** 2),
        "asin": (lambda z: (mp.asin(mp.sqrt(z)) - mp.sqrt(z)) / mp.sqrt(z) ** 3, mp.mpf(0), mp.mpf(1) / 4),
        "atan": (lambda z: (mp.atan(mp.sqrt(z)) - mp.sqrt(z)) / mp.sqrt(z) ** 3, mp.mpf(0), (root - 1) ** 2),
        "erf": (lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1, mp.mpf(0), mp.mpf(1)),
        "erf far": (scaled_erfc, mp.mpf(1), mp.mpf(3)),
        "erfcx": (
            lambda u: scaled_erfc(1 / (u + middle) - 3) / (u + middle),
            1 / mp.mpf("13.5") - middle,
            1 / mp.mpf(3) - middle,
        ),
        "erfinv": (lambda z: mp.erfinv(mp.sqrt(z)) / mp.sqrt(z), mp.mpf(0), mp.mpf(1) / 4),
        "quantile near": (lambda d: quantile(d + mp.mpf("1.84")), mp.mpf("-0.67"), mp.mpf("0.67")),
        "quantile middle": (lambda d: quantile(1 / (d + mp.mpf("0.3"))), mp.mpf("-0.101"), mp.mpf("0.101")),
        "quantile far": (lambda d: quantile(1 / (d + mp.mpf("0.118"))), mp.mpf("-0.0819"), mp.mpf("0.0821")),
        "i0 far": (bessel(0), mp.mpf(10) ** -6 - mp.mpf(1) / 24, mp.mpf(1) / 24),
        "i1 far": (bessel(1), mp.mpf(10) ** -6 - mp.mpf(1) / 24, mp.mpf(1) / 24),
        "lgamma": (lambda t: mp.loggamma(2 + t) / t, -mp.mpf(1) / 2, mp.mpf(1) / 2),
        "cos": (lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, mp.mpf(0), (mp.pi / 4) ** 2),
    }
    scales = {"erf far": (lambda x: mp.exp(-x), lambda y: -mp.log(y))}
    print('"""Coefficients, lowest power first, as derive.py prints them. Not to be edited by hand."""\n')
    print("POLYNOMIALS: dict[tuple[str, str], tuple[float, ...]] = {")
    for name, (function, low, high) in functions.items():
        for kind, degree in zip(("f32", "f64"), DEGREES[name], strict=True):
            if degree is not None:
                print(f'    ("{name}", "{kind}"): (')
                for coefficient in interpolate(function, low, high, degree, *scales.get(name, ())):
                    print(f"        {rounded(coefficient, kind)!r},")
                print("    ),")
    print("}")


def interpolate(
    function: Callable[[Any], Any],
    low: Any,
    high: Any,
    degree: int,
    scale: Callable[[Any], Any] = lambda x: x,
    unscale: Callable[[Any], Any] = lambda y: y,
) -> list[Any]:
    """The polynomial of the degree that agrees with `function` at the Chebyshev nodes of [low, high] on a scale."""
    import mpmath as mp

    count = degree + 1
    low, high = scale(low), scale(high)
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos((2 * k + 1) * mp.pi / (2 * count)) for k in range(count)]
    nodes = [unscale(node) for node in nodes]
    # g has a removable singularity at 0: step aside by far less than the precision wanted.
    nodes = [node if abs(node) > 1e-25 else mp.mpf(10) ** -25 for node in nodes]
    matrix = mp.matrix(count, count)
    for row, node in enumerate(nodes):
        for power in range(count):
            matrix[row, power] = node**power
    return list(mp.lu_solve(matrix, mp.matrix([function(node) for node in nodes])))


def rounded(number: Any, kind: str) -> float:
    value = float(number)
    return struct.unpack("f", struct.pack("f", value))[0] if kind == "f32" else value


if __name__ == "__main__":
    main()
