"""Elementary functions against NumPy in extended precision: units in the last place, and awkward arguments."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from tapeless.codegen import vectormath
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import ROWS, Buffer, Function
from tapeless.codegen.vectormath import derive
from tapeless.codegen.vectormath.coefficients import POLYNOMIALS
from tapeless.ir.ops.gamma import polygamma
from tapeless.ir.target import TARGETS, Target

from .kernels import HOST, Compiled

KINDS = {"f32": np.float32, "f64": np.float64}
WIDE = np.longdouble


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def erf(x):
    """By mpmath, to 30 digits."""
    import mpmath

    with mpmath.workdps(30):
        return np.array([WIDE(mpmath.nstr(mpmath.erf(mpmath.mpf(np.format_float_scientific(v))), 25)) for v in x], WIDE)


def by_mpmath(name):
    """The function of mpmath's, to 25 digits, one argument at a time; a tenth of the arguments, as it is slow."""

    def reference(x):
        import mpmath

        with mpmath.workdps(40):
            made = [getattr(mpmath, name)(mpmath.mpf(np.format_float_scientific(v))) for v in x]
            return np.array(
                [WIDE(0) if abs(value) < mpmath.mpf("1e-4000") else WIDE(mpmath.nstr(value, 25)) for value in made],
                WIDE,
            )

    return reference


# name: (reference, greatest error in ulps, range of arguments; None for positive ones over many magnitudes)
FUNCTIONS = {
    "exp": (np.exp, 1.5, (-87, 88)),
    "expm1": (np.expm1, 2.5, (-80, 80)),
    "log": (np.log, 1.5, None),
    "log1p": (np.log1p, 2.0, (-0.99, 50)),
    "tanh": (np.tanh, 3.0, (-10, 10)),
    "sigmoid": (sigmoid, 3.0, (-80, 80)),
    "softplus": (softplus, 2.5, (-80, 80)),
    "sin": (np.sin, 2.0, (-1e4, 1e4)),
    "cos": (np.cos, 2.0, (-1e4, 1e4)),
    "erf": (erf, 4.0, (-6, 6)),
    "erfc": (by_mpmath("erfc"), 4.0, (-6, 9)),
    "exp2": (np.exp2, 2.0, (-125, 127)),
    "log2": (np.log2, 2.5, None),
    "tan": (np.tan, 4.0, (-1e4, 1e4)),
    "asin": (np.arcsin, 2.5, (-1, 1)),
    "acos": (np.arccos, 2.0, (-1, 1)),
    "atan": (np.arctan, 2.0, (-50, 50)),
    "sinh": (np.sinh, 3.0, (-80, 80)),
    "cosh": (np.cosh, 3.0, (-80, 80)),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.5, None),
    "cbrt": (np.cbrt, 1.5, (-100, 100)),
}

needs_long_double = pytest.mark.skipif(np.finfo(WIDE).nmant < 60, reason="no type is wider than f64 here")


@functools.cache
def compiled(name: str, kind: str, target: Target = HOST, lanes: int | None = None) -> Compiled:
    b = Builder(target)
    lanes = lanes or target.lanes(np.dtype(KINDS[kind]).itemsize)
    loop = b.open_loop(index_constant(0), ROWS, lanes)
    with b.inside(loop.block):
        x = b.load("x", kind, loop.variable, lanes)
        if name in vectormath.PAIRS:
            made = vectormath.PAIRS[name](b, x, b.load("y", kind, loop.variable, lanes))
        elif name.startswith("polygamma"):
            made = vectormath.polygamma(b, x, order=int(name.removeprefix("polygamma")))
        else:
            made = vectormath.FUNCTIONS[name](b, x)
        b.store("r", loop.variable, made)
    b.close_loop(loop)
    buffers = (Buffer("x", kind, "operand"), Buffer("y", kind, "operand"), Buffer("r", kind, "result"))
    return Compiled(Function("k", buffers, 1, tuple(b.block)), target)


def call(name, x, y=None, **how):
    """The function over an array of any size."""
    kind = {np.dtype(dtype): kind for kind, dtype in KINDS.items()}[x.dtype]
    size = -(-x.size // 16) * 16
    padded, other = np.ones(size, x.dtype), np.ones(size, x.dtype)
    padded[: x.size] = x
    other[: x.size] = x if y is None else y
    made = np.empty_like(padded)
    compiled(name, kind, **how)([padded, other, made], size)
    return made[: x.size]


def ulps(made, wanted):
    spacing = np.spacing(np.abs(wanted).astype(made.dtype)).astype(WIDE)
    return np.abs(made.astype(WIDE) - wanted) / spacing


def arguments(bounds, dtype):
    rng = np.random.default_rng(7)
    if bounds is None:
        return np.concatenate([np.exp(rng.uniform(-80, 80, 20000)), rng.uniform(0.5, 2, 20000)]).astype(dtype)
    low, high = bounds
    near = rng.uniform(max(low, -2), min(high, 2), 20000)
    return np.concatenate([rng.uniform(low, high, 20000), near, near * 1e-3, near * 1e-8]).astype(dtype)


@needs_long_double
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error(name, kind):
    reference, most, bounds = FUNCTIONS[name]
    x = arguments(bounds, KINDS[kind])
    if name.startswith("erf"):
        x = x[::20]
    assert ulps(call(name, x), reference(x.astype(WIDE))).max() <= most


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_awkward_arguments(name, kind):
    """Zero, infinities, NaN, denormal and huge numbers give what NumPy gives."""
    dtype = KINDS[kind]
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, -1e30, tiny, -tiny, 1, -1, 1e-30, 300, -300], dtype)
    x = np.append(x, dtype(1e30))
    if kind == "f64" and name in ("sin", "cos", "tan"):
        x = x[np.isnan(x) | (np.abs(x) != 1e30)]  # beyond 2**30 the argument has no meaning left
    with np.errstate(all="ignore"):
        wanted = FUNCTIONS[name][0](x.astype(WIDE if np.finfo(WIDE).nmant > 60 else dtype)).astype(dtype)
    np.testing.assert_allclose(call(name, x), wanted, rtol=8 * np.finfo(dtype).eps, atol=float(tiny))


@pytest.mark.parametrize("name", ["tanh", "expm1", "sinh", "asin", "atan", "cbrt"])
def test_signed_zero(name):
    for dtype in KINDS.values():
        assert np.signbit(call(name, np.array([-0.0], dtype)))[0]


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_waves_of_every_size(name):
    """f32 arguments over all exponents: reduced modulo pi/2 whatever their size."""
    import mpmath

    rng = np.random.default_rng(5)
    x = (rng.uniform(1, 2, 3000) * 2.0 ** rng.integers(20, 128, 3000) * rng.choice([-1, 1], 3000)).astype(np.float32)
    x = np.append(x, np.array([1e30, -1e30, np.finfo(np.float32).max, 16367173 * 2.0**72], np.float32))
    with mpmath.workdps(80):
        wanted = np.array([WIDE(mpmath.nstr(getattr(mpmath, name)(mpmath.mpf(float(v))), 25)) for v in x], WIDE)
    assert ulps(call(name, x), wanted).max() <= 3.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lgamma", *(f"polygamma{order}" for order in range(5))])
def test_gamma(name, kind):
    """Against mpmath, relative to max(1, |f|)."""
    import mpmath

    dtype, order = KINDS[kind], int(name[-1]) if name[-1].isdigit() else 0
    rng = np.random.default_rng(11)
    x = np.concatenate([rng.uniform(0, 4, 300), rng.uniform(0, 40, 100), np.exp(rng.uniform(-8, 12, 100)),
                        rng.uniform(-3.8, 0, 200)]).astype(dtype)  # fmt: skip
    made = call(name, x)
    with mpmath.workdps(40):

        def exact(v):
            v = mpmath.mpf(float(v))
            if name == "lgamma":
                return mpmath.log(abs(mpmath.gamma(v)))
            return mpmath.polygamma(order, v)

        wanted = np.array([WIDE(mpmath.nstr(exact(v), 25)) for v in x], WIDE)
    most = np.spacing(np.maximum(1, np.abs(wanted)).astype(dtype)).astype(WIDE)
    assert (np.abs(made.astype(WIDE) - wanted) / most).max() <= (1.0 if kind == "f32" else 4.0 + 2.0 * order)


@pytest.mark.parametrize("kind", KINDS)
def test_gamma_of_awkward_arguments(kind):
    x = np.array([0, -0.0, 1, 2, np.inf, -np.inf, np.nan, -1, -2, 1e30, -1e30], KINDS[kind])
    wanted = np.array(
        [np.inf, np.inf, 0, 0, np.inf, np.inf, np.nan, np.inf, np.inf, 1e30 * (30 * np.log(10) - 1), np.inf]
    )
    np.testing.assert_allclose(call("lgamma", x), wanted.astype(KINDS[kind]), rtol=1e-6, atol=1e-7)
    for order in (0, 1, 2):
        np.testing.assert_allclose(call(f"polygamma{order}", x), polygamma(x, order), rtol=1e-6, atol=1e-7)


@needs_long_double
@pytest.mark.parametrize("kind", KINDS)
def test_arc_of_two(kind):
    dtype = KINDS[kind]
    rng = np.random.default_rng(4)
    y, x = rng.normal(size=20000).astype(dtype), rng.normal(size=20000).astype(dtype)
    assert ulps(call("atan2", y, x), np.arctan2(y.astype(WIDE), x.astype(WIDE))).max() <= 3
    edge = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e30, -1e-30], dtype)
    y, x = (part.ravel() for part in np.meshgrid(edge, edge))
    made, wanted = call("atan2", y, x), np.arctan2(y, x)
    np.testing.assert_allclose(made, wanted, rtol=8 * np.finfo(dtype).eps)
    assert (np.signbit(made) == np.signbit(wanted))[~np.isnan(wanted)].all()


@needs_long_double
@pytest.mark.parametrize("kind", KINDS)
def test_power(kind):
    dtype = KINDS[kind]
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0.01, 20, 20000).astype(dtype), rng.uniform(-20, 20, 20000).astype(dtype)
    assert ulps(call("pow", x, y), x.astype(WIDE) ** y.astype(WIDE)).max() <= 4
    # powers of all sizes, where an error of the logarithm counts most
    y = (rng.uniform(-1, 1, x.size) * -np.log2(np.finfo(dtype).tiny) / np.log2(x.astype(WIDE))).astype(dtype)
    assert ulps(call("pow", x, y), x.astype(WIDE) ** y.astype(WIDE)).max() <= 3
    # what Adam asks for: 0.999 to the number of the step
    base, step = np.full(5000, 0.999, dtype), np.arange(5000).astype(dtype)
    assert ulps(call("pow", base, step), base.astype(WIDE) ** step.astype(WIDE)).max() <= 4


@pytest.mark.parametrize("kind", KINDS)
def test_power_of_awkward_arguments(kind):
    x = np.array([0, 0, -2, -2, -8, np.inf, np.inf, 1, np.nan, 2, -1, 4, 10, 0, -3, 7], KINDS[kind])
    y = np.array([2, -1, 3, 2, 0.5, 2, -1, np.inf, 0, 10, 7, 0.5, -3, 0, 1, np.nan], KINDS[kind])
    with np.errstate(all="ignore"):
        wanted = x**y
    np.testing.assert_allclose(call("pow", x, y), wanted, rtol=8 * np.finfo(KINDS[kind]).eps)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_scalars_have_the_same_bits(name):
    """One lane or sixteen: the same operations, so the same results."""
    x = arguments(FUNCTIONS[name][2], np.float32)[:64]
    assert call(name, x).tobytes() == call(name, x, lanes=1).tobytes()


@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_logarithms_of_any_count_of_lanes_are_the_same(lanes):
    """Whole vectors of AVX-512 have instructions that take numbers apart; others go by bits, and mind the edges."""
    tiny = np.finfo(np.float32).smallest_subnormal
    edges = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        -1.0,
        tiny,
        77 * tiny,
        -tiny,
        0.75,
        1.5,
        np.nextafter(np.float32(1.5), 0),
    ]
    x = np.concatenate([np.array(edges, np.float32), np.geomspace(1e-45, 3e38, 1000, dtype=np.float32)])
    np.testing.assert_array_equal(call("log", x, lanes=lanes), call("log", x))


@pytest.mark.skipif(not HOST.triple.startswith("x86_64"), reason="runs code for other x86-64 machines")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_without_fused_multiply_add(name):
    reference, most, bounds = FUNCTIONS[name]
    for kind, dtype in KINDS.items():
        if np.finfo(WIDE).nmant < 60:
            continue
        x = arguments(bounds, dtype)[:: 20 if name.startswith("erf") else 1]
        assert ulps(call(name, x, target=TARGETS["x86-64"]), reference(x.astype(WIDE))).max() <= most + 1.5, kind


def test_coefficients_are_what_the_derivation_prints(capsys):
    pytest.importorskip("mpmath")
    derive.main()
    printed: dict[str, object] = {}
    exec(capsys.readouterr().out, printed)
    assert printed["POLYNOMIALS"] == POLYNOMIALS


@needs_long_double
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.skipif(not HOST.triple.startswith("x86_64"), reason="runs code for other x86-64 machines")
def test_power_without_fused_multiply_add(kind):
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0.01, 20, 2000).astype(KINDS[kind]), rng.uniform(-20, 20, 2000).astype(KINDS[kind])
    assert ulps(call("pow", x, y, target=TARGETS["x86-64"]), x.astype(WIDE) ** y.astype(WIDE)).max() <= 4
