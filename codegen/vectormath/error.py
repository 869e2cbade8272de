"""The error function and its complement, as loop IR: Cody's rational approximations (Mathematics of Computation 23, 1969).

Near zero erf(x) is x times a rational function of x**2; elsewhere 1 - exp(-x**2) times one of |x|. Cody has a third
piece beyond 4, for the complement's own sake: there the second one's relative error, some 1e-6 at 6, is one of a number
below 2e-8, and vanishes beside 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from tapeless.codegen.builder import Builder
from tapeless.codegen.loops import Operand, Value
from tapeless.codegen.vectormath.exponential import exp, keep_min, number
from tapeless.codegen.vectormath.widening import in_double

__all__ = ["erf", "erfc"]

# Highest power first; the denominators begin with 1.
_NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
     3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_FAR = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
     2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
     1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
     3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
)
_TAIL = (
    (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
     1.60837851487422766e-2, 6.58749161529837803e-4),
    (1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
     2.33520497626869185e-3),
)
_BORDER = 0.46875
# Up to which erf is taken from the first piece: in f32 it is exact enough for longer, and loses less than 1 - 0.5 does.
_NEAR_ENOUGH = {"f32": 1.0, "f64": _BORDER}
_LARGEST = {"f32": 4.0, "f64": 6.0}  # beyond, the complement is below half a unit in the last place of 1


def _horner(b: Builder, x: Operand, coefficients: Sequence[float]) -> Operand:
    value: Operand = number(coefficients[0], x)
    for coefficient in coefficients[1:]:
        value = b.fma(value, x, number(coefficient, x))
    return value


def erf(b: Builder, x: Operand) -> Value:
    square = b.mul(x, x)
    near = b.mul(x, b.div(_horner(b, square, _NEAR[0]), _horner(b, square, _NEAR[1])))
    size = keep_min(b, b.unary("abs", x), number(_LARGEST[x.type.kind], x))
    falling = exp(b, b.unary("neg", b.mul(size, size)))
    rest = b.mul(falling, b.div(_horner(b, size, _FAR[0]), _horner(b, size, _FAR[1])))
    far = b.sub(number(1.0, x), rest)
    far = b.select(b.compare("lt", x, 0.0), b.unary("neg", far), far)
    return b.select(b.compare("lt", size, _NEAR_ENOUGH[x.type.kind]), near, far)


@in_double
def erfc(b: Builder, x: Operand) -> Value:
    """1 - erf(x), without cancellation where x is large.

    Beyond 4: e**(-x**2) / x times 1/sqrt(pi) less a rational function of 1 / x**2. The square is taken in two parts, one
    of few bits, as its rounding would be multiplied by x**2.
    """
    size = keep_min(b, b.unary("abs", x), number(28.0, x))  # erfc(27.3) is below the least number
    coarse = b.mul(b.unary("floor", b.mul(size, number(16.0, x))), number(1 / 16, x))
    rest = b.mul(b.sub(size, coarse), b.add(size, coarse))
    falling = b.mul(exp(b, b.unary("neg", b.mul(coarse, coarse))), exp(b, b.unary("neg", rest)))
    middle = b.div(_horner(b, size, _FAR[0]), _horner(b, size, _FAR[1]))
    y = b.div(number(1.0, x), b.mul(size, size))
    tail = b.mul(y, b.div(_horner(b, y, _TAIL[0]), _horner(b, y, _TAIL[1])))
    tail = b.div(b.sub(number(0.5641895835477563, x), tail), size)
    outer = b.mul(falling, b.select(b.compare("lt", number(4.0, x), size), tail, middle))
    outer = b.select(b.compare("lt", x, 0.0), b.sub(number(2.0, x), outer), outer)
    square = b.mul(x, x)
    near = b.mul(x, b.div(_horner(b, square, _NEAR[0]), _horner(b, square, _NEAR[1])))
    return b.select(b.compare("lt", size, _BORDER), b.sub(number(1.0, x), near), outer)
