"""Formulas at a point in ball arithmetic (Arb, through python-flint): digits are added until enough of them are
known to be right.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import flint
import mpmath as mp
import sympy

BITS = (128, 256, 512, 1200, 2400, 4800)
_NEEDED = 84  # 25 decimal digits
_VANISHED = flint.arb(10) ** -400
_FUNCTIONS: dict[Any, Callable[..., flint.arb]] = {
    sympy.exp: flint.arb.exp, sympy.log: flint.arb.log, sympy.sin: flint.arb.sin, sympy.cos: flint.arb.cos,
    sympy.tan: flint.arb.tan,
    sympy.asin: flint.arb.asin, sympy.acos: flint.arb.acos, sympy.atan: flint.arb.atan, sympy.atan2: flint.arb.atan2,
    sympy.sinh: flint.arb.sinh, sympy.cosh: flint.arb.cosh, sympy.tanh: flint.arb.tanh,
    sympy.asinh: flint.arb.asinh, sympy.acosh: flint.arb.acosh, sympy.atanh: flint.arb.atanh,
    sympy.erf: flint.arb.erf, sympy.erfc: flint.arb.erfc, sympy.erfinv: flint.arb.erfinv,
    sympy.loggamma: flint.arb.lgamma,
    sympy.polygamma: lambda n, x: _polygamma(int(n.unique_fmpz()), x),
    sympy.besseli: lambda n, x: x.bessel_i(n), sympy.Abs: abs, sympy.sign: flint.arb.sgn,
    sympy.Add: lambda *terms: functools.reduce(operator.add, terms),
    sympy.Mul: lambda *factors: functools.reduce(operator.mul, factors),
}  # fmt: skip


def _polygamma(order: int, x: flint.arb) -> flint.arb:
    """Abramowitz and Stegun 6.4.10, by Hurwitz's zeta."""
    return (-1) ** (order + 1) * math.factorial(order) * flint.arb(order + 1).zeta(x) if order else x.digamma()


def value(formula: sympy.Expr, at: Mapping[sympy.Symbol, float]) -> Any:
    """A formula's value with 25 right digits, as mpmath's number; None where it has none, is not real, or is a pole."""
    kept = flint.ctx.prec
    try:
        for flint.ctx.prec in BITS:
            found = _ball(formula, {symbol: flint.arb(number) for symbol, number in at.items()})
            if found.is_finite() and found.rel_accuracy_bits() >= _NEEDED:
                mantissa, exponent = found.mid().man_exp()
                with mp.workprec(_NEEDED):
                    return mp.ldexp(mp.mpf(int(mantissa)), int(exponent))
            if found.is_finite() and abs(found).upper() < _VANISHED:
                return mp.mpf(0)
    finally:
        flint.ctx.prec = kept
    return None


def _ball(formula: sympy.Expr, at: Mapping[sympy.Symbol, flint.arb]) -> flint.arb:
    if formula in at:
        return at[formula]
    if formula.is_Number:
        exact = sympy.Rational(formula)
        return flint.arb(int(exact.p)) / int(exact.q)
    if formula is sympy.pi:
        return flint.arb.pi()
    parts = [
        _ball(part, at) for part in formula.args if not (formula.is_Pow and part is formula.exp and part.is_Rational)
    ]
    if not formula.is_Pow:
        return _FUNCTIONS[formula.func](*parts)
    if not formula.exp.is_Rational:
        return parts[0] ** parts[1]
    root, times = formula.exp.q, int(formula.exp.p)
    base = parts[0] if root == 1 else parts[0].sqrt() if root == 2 else parts[0].root(int(root))
    return base**times if times > 0 else 1 / base**-times
