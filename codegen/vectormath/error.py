"""The error function and its complement, as loop IR.

Near zero erf(x) is x times a function of x**2; elsewhere 1 - exp(-x**2) times one of |x|. That exponential is the
slope of erf but for a factor: it is written as the slope writes it, instruction by instruction, so that LLVM makes it
once where a kernel has both.

f64: the functions are Cody's rational approximations (Mathematics of Computation 23, 1969). Cody has a third piece
beyond 4, for the complement's own sake: there the second one's relative error, some 1e-6 at 6, is one of a number
below 2e-8, and vanishes beside 1.

f32: polynomials from derive.py. erfc(x) is exp(-x**2) times one of 1 / (3 + |x|), which makes the half line an
interval.
"""

from __future__ import annotations

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Operand, Value
from tapeless.codegen.vectormath.coefficients import POLYNOMIALS
from tapeless.codegen.vectormath.exact import left_over, product_error
from tapeless.codegen.vectormath.exponential import exp, horner, keep_min, number, parts, polynomial, with_sign

__all__ = ["erf", "erfc", "scaled_erfc64"]

# Highest power first; the denominators begin with 1.
_NEAR = (
    (
        1.85777706184603153e-1,
        3.16112374387056560e0,
        1.13864154151050156e2,
        3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_FAR = (
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594e0,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    ),
)
_TAIL = (
    (
        1.63153871373020978e-2,
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
    ),
    (
        1.0,
        2.56852019228982242e0,
        1.87295284992346047e0,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)
_BORDER = 0.46875
_ERF_LARGEST = {"f32": 4.0, "f64": 6.0}  # beyond, the complement is below half a unit in the last place of 1
_ERFC_LARGEST = {"f32": 10.5, "f64": 28.0}  # beyond 10.06 and 27.3, erfc is below half the least number
_SHIFT, _MIDDLE = 3.0, 5 / 32  # f32's erfc: a polynomial of 1 / (3 + |x|) - 5/32


def _ratio(b: Builder, x: Operand, fraction: tuple[tuple[float, ...], tuple[float, ...]]) -> Value:
    above, below = (horner(b, x, part[::-1]) for part in fraction)
    return b.div(above, below)


def erf(b: Builder, x: Operand) -> Value:
    size = keep_min(b, b.unary("abs", x), number(_ERF_LARGEST[x.type.kind], x))
    square, one = b.mul(x, x), number(1.0, x)
    falling = exp(b, b.unary("neg", square))
    if x.type.kind == "f32":
        near = b.fma(x, polynomial(b, square, "erf"), x)
        scale, border = polynomial(b, size, "erf far"), 1.0
    else:
        near = b.mul(x, _ratio(b, square, _NEAR))
        scale, border = _ratio(b, size, _FAR), _BORDER
    far = b.fma(b.unary("neg", falling), scale, one)
    return b.select(b.compare("lt", size, border), near, with_sign(b, far, x))


def erfc(b: Builder, x: Operand) -> Value:
    """1 - erf(x), without cancellation where x is large."""
    size = keep_min(b, b.unary("abs", x), number(_ERFC_LARGEST[x.type.kind], x))
    outer = (_erfc32 if x.type.kind == "f32" else _erfc64)(b, size)
    outer = b.select(b.compare("lt", x, 0.0), b.sub(number(2.0, x), outer), outer)
    if x.type.kind == "f32":
        return outer
    square = b.mul(x, x)
    near = b.mul(x, _ratio(b, square, _NEAR))
    return b.select(b.compare("lt", size, _BORDER), b.sub(number(1.0, x), near), outer)


def _erfc32(b: Builder, size: Operand) -> Value:
    """e**(-x**2) q g(q) with q = 1 / (3 + x). What matters is in two parts, and the parts are added last."""
    shift, one = number(_SHIFT, size), number(1.0, size)
    divisor = b.add(size, shift)
    q = b.div(one, divisor)
    lost = b.sub(size, b.sub(divisor, shift))
    q_low = b.mul(q, b.fma(b.unary("neg", q), lost, left_over(b, one, q, divisor)))
    u = b.add(b.sub(q, number(_MIDDLE, size)), q_low)
    first, *others = POLYNOMIALS["erfcx", "f32"]
    slope = horner(b, u, others)
    g = b.fma(u, slope, number(first, size))
    g_low = b.fma(u, slope, b.sub(number(first, size), g))
    scale = b.mul(q, g)
    scale_low = b.add(product_error(b, q, g, scale), b.fma(q, g_low, b.mul(q_low, g)))
    square = b.mul(size, size)
    n, tail = parts(b, b.unary("neg", square), left_over(b, square, size, size))
    return b.compute("scale", b.add(scale, b.fma(scale, tail, scale_low)), n, type=size.type)


def _erfc64(b: Builder, size: Operand) -> Value:
    """Beyond 4: e**(-x**2) / x times 1/sqrt(pi) less a rational function of 1 / x**2. The square is taken in two
    parts, as its rounding would be multiplied by x**2.
    """
    square = b.mul(size, size)
    n, tail = parts(b, b.unary("neg", square), left_over(b, square, size, size))
    scale = _scale64(b, size, square)
    return b.compute("scale", b.fma(scale, tail, scale), n, type=size.type)


def _scale64(b: Builder, size: Operand, square: Operand) -> Value:
    """e**(x**2) erfc(x) for x from where Cody's second piece begins."""
    middle = _ratio(b, size, _FAR)
    y = b.div(number(1.0, size), square)
    outer = b.div(b.sub(number(0.5641895835477563, size), b.mul(y, _ratio(b, y, _TAIL))), size)
    return b.select(b.compare("lt", number(4.0, size), size), outer, middle)


def scaled_erfc64(b: Builder, x: Operand, rising: Operand) -> tuple[Value, Value]:
    """e**(x**2) erfc(x) near zero, given e**(x**2); and that of |x| elsewhere."""
    size, square = b.unary("abs", x), b.mul(x, x)
    near = b.mul(rising, b.sub(number(1.0, x), b.mul(x, _ratio(b, square, _NEAR))))
    return near, _scale64(b, size, square)
