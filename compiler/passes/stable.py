"""Stable forms: what is more accurate, or cannot overflow, in place of what is written in books.

They are found by rewriting, whoever spells them, on the forward graph before it is differentiated, so that
derivatives are of the stable form too.
"""

from __future__ import annotations

import math

from tapeless.compiler.passes.contraction import CONTRACTION
from tapeless.compiler.passes.rewriter import Rewriter, Rule
from tapeless.ir.graph import Node, Value


def _reshaped(b: Rewriter, value: Value) -> Value:
    """What a value was before reshapes."""
    view = b.made_by(value, "reshape")
    while view:
        value = view.operands[0]
        view = b.made_by(value, "reshape")
    return value


def _log_of_sum(b: Rewriter, node: Node) -> Value | None:
    """log(sum(exp(x))) = logsumexp(x), which cannot overflow; also where the sum keeps its axes."""
    total = b.made_by(_reshaped(b, node.operands[0]), "sum")
    exp = total and b.made_by(total.operands[0], "exp")
    if not (total and exp):
        return None
    made = b.emit("logsumexp", exp.operands[0], axes=total.attrs["axes"])
    return made if made.type == node.operands[0].type else b.emit("reshape", made, shape=node.operands[0].type.shape)


def _softmax(b: Rewriter, node: Node) -> Value | None:
    """exp(x) / sum(exp(x)) = exp(x - logsumexp(x)), whose exponent is never positive."""
    exp, spread = b.made_by(node.operands[0], "exp"), b.made_by(node.operands[1], "broadcast")
    total = spread and b.made_by(spread.operands[0], "sum")
    if not (exp and spread and total) or total.operands[0] != node.operands[0]:
        return None
    (x,) = exp.operands
    kept = tuple(k for k in range(x.type.rank) if k not in total.attrs["axes"])
    if tuple(spread.attrs["axes"]) != kept:
        return None
    scale = b.emit("logsumexp", x, axes=total.attrs["axes"])
    return b.emit("exp", b.emit("sub", x, b.broadcast_to(scale, x.type.shape, kept)))


def _log_of_function(b: Rewriter, node: Node) -> Value | None:
    """log(exp(x)) = x, log(sigmoid(x)) = -softplus(-x), log(x / y) where x is an exp, log(1 + x) = log1p(x), log(1 -
    x) = log1p(-x).
    """
    (x,) = node.operands
    inner = b.made_by(x, "exp", "sigmoid", "add", "sub", "div")
    if inner is None:
        return None
    if inner.op == "exp":
        return inner.operands[0]
    if inner.op == "sigmoid":
        return b.emit("neg", b.emit("softplus", b.emit("neg", inner.operands[0])))
    if inner.op == "div":
        above = b.made_by(inner.operands[0], "exp")
        return b.emit("sub", above.operands[0], b.emit("log", inner.operands[1])) if above else None
    if inner.op == "sub":
        return b.emit("log1p", b.emit("neg", inner.operands[1])) if b.number(inner.operands[0]) == 1.0 else None
    for one, rest in (inner.operands, inner.operands[::-1]):
        if b.number(one) == 1.0:
            return b.emit("log1p", rest)
    return None


def _softplus(b: Rewriter, node: Node) -> Value | None:
    """log1p(exp(x)) = softplus(x), log1p(-sigmoid(x)) = -softplus(x)."""
    inner = b.made_by(node.operands[0], "exp", "neg")
    if inner is None or inner.op == "exp":
        return b.emit("softplus", inner.operands[0]) if inner else None
    sigmoid = b.made_by(inner.operands[0], "sigmoid")
    return b.emit("neg", b.emit("softplus", sigmoid.operands[0])) if sigmoid else None


def _expm1(b: Rewriter, node: Node) -> Value | None:
    """exp(x) - 1, exp(x) + -1, and 1 - exp(x), which is -expm1(x)."""
    one = -1.0 if node.op == "add" else 1.0
    for x, number in (node.operands, node.operands[::-1]):
        inner = b.made_by(x, "exp")
        if inner and b.number(number) == one:
            made = b.emit("expm1", inner.operands[0])
            return made if node.op == "add" or x == node.operands[0] else b.emit("neg", made)
    return None


def _square_below_one(b: Rewriter, node: Node) -> Value | None:
    """sqrt(1 - y**2) = sqrt((1 - y) (1 + y)), whose factors have no error near 1 and -1. Of y = tanh(x), which is 1
    or -1 for most x, it is 1 / cosh(x) = 2 exp(x - softplus(2 x)).
    """
    difference = b.made_by(node.operands[0], "sub")
    square = difference and b.made_by(difference.operands[1], "square")
    if not (difference and square) or b.number(difference.operands[0]) != 1.0:
        return None
    (y,), one = square.operands, difference.operands[0]
    tanh = b.made_by(y, "tanh")
    if tanh is None:
        return b.emit("sqrt", b.emit("mul", b.emit("sub", one, y), b.emit("add", one, y)))
    (x,) = tanh.operands
    two = b.full(2.0, x)
    return b.emit("mul", two, b.emit("exp", b.emit("sub", x, b.emit("softplus", b.emit("mul", two, x)))))


def _root_of_squares(b: Rewriter, node: Node) -> Value | None:
    """sqrt(sum(x**2)) = norm(x) and sqrt(x**2 + y**2) = hypot(x, y), also of a number for y**2: no square overflows
    or vanishes, and there is a slope at the origin. Reshapes aside.
    """
    (under,) = node.operands
    total = b.made_by(_reshaped(b, under), "sum")
    square = total and b.made_by(total.operands[0], "square")
    if total and square:
        made = b.emit("norm", square.operands[0], axes=total.attrs["axes"])
        return made if made.type == under.type else b.emit("reshape", made, shape=under.type.shape)
    both = b.made_by(under, "add")
    if both is None:
        return None
    sides = [_side(b, value) for value in both.operands]
    known = [side for side in sides if side is not None]
    return (
        b.emit("hypot", *known)
        if len(known) == 2 and any(b.made_by(value, "square") for value in both.operands)
        else None
    )


def _side(b: Rewriter, value: Value) -> Value | None:
    """What a value is the square of."""
    square, number = b.made_by(value, "square"), b.number(value)
    if square:
        return square.operands[0]
    return b.full(math.sqrt(number), value) if number is not None and number >= 0 else None


def _share_of_root(b: Rewriter, node: Node) -> Value | None:
    """x / hypot(x, c) of a number c other than 0, whose slope c**2 / hypot(x, c)**3 cancels in a quotient's two
    terms.
    """
    x, root = node.operands[0], b.made_by(node.operands[1], "hypot")
    if root is None or x not in root.operands:
        return None
    other = root.operands[1 - root.operands.index(x)]
    return b.emit("hypot_slope", x, other) if b.number(other) else None


def _unit_vector(b: Rewriter, node: Node) -> Value | None:
    """x / norm(x) of x over its largest size, so that no square overflows, nor all of them vanish. The value does
    not change with the scale, so nothing is lost by leaving it out of the derivative.
    """
    x, spread = node.operands[0], b.made_by(node.operands[1], "broadcast")
    length = spread and b.made_by(_reshaped(b, spread.operands[0]), "norm")
    if not (spread and length) or length.operands[0] != x:
        return None
    axes, kept = length.attrs["axes"], tuple(spread.attrs["axes"])
    if (
        kept != tuple(k for k in range(x.type.rank) if k not in axes)
        or spread.operands[0].type.shape != length.result.type.shape
    ):
        return None
    scaled = b.made_by(x, "div")
    scale = scaled and b.made_by(scaled.operands[1], "broadcast")
    if scale and b.made_by(scale.operands[0], "stop_gradient", "max"):
        return None
    largest = b.emit("stop_gradient", b.emit("max", b.emit("abs", x), axes=axes))
    y = b.emit("div", x, b.broadcast_to(largest, x.type.shape, kept))
    norm = b.emit("norm", y, axes=axes)
    return b.emit("div", y, b.broadcast_to(norm, x.type.shape, kept))


def _mean_of(b: Rewriter, value: Value) -> tuple[Node, Node] | None:
    """The division (or product) by which a value is a mean, and the sum."""
    scaled = b.made_by(value, "div", "mul")
    total = scaled and b.made_by(scaled.operands[0], "sum")
    if not (scaled and total):
        return None
    sizes = tuple(total.operands[0].type.shape[k] for k in total.attrs["axes"])
    number = b.number(scaled.operands[1])
    if number is not None and all(isinstance(size, int) for size in sizes):
        count = math.prod(size for size in sizes if isinstance(size, int))
        return (
            (scaled, total) if math.isclose(number if scaled.op == "div" else 1 / number, count, rel_tol=1e-6) else None
        )
    spread = b.made_by(scaled.operands[1], "broadcast")
    counted = b.made_by(spread.operands[0] if spread else scaled.operands[1], "count")
    return (scaled, total) if counted and scaled.op == "div" and tuple(counted.attrs["shape"]) == sizes else None


def _variance(b: Rewriter, node: Node) -> Value | None:
    """mean(x**2) - mean(x)**2 = mean((x - mean(x))**2), which does not cancel where the mean is far larger than the
    deviation.
    """
    outer, squared = node.operands[0], b.made_by(node.operands[1], "square")
    if squared is None:
        return None
    of_squares, of_x = _mean_of(b, _reshaped(b, outer)), _mean_of(b, _reshaped(b, squared.operands[0]))
    square = of_squares and b.made_by(of_squares[1].operands[0], "square")
    if not (of_squares and of_x and square):
        return None
    (scaled, total), (x,) = of_x, square.operands
    axes = total.attrs["axes"]
    if total.operands[0] != x or of_squares[1].attrs["axes"] != axes or of_squares[0].op != scaled.op:
        return None
    mean = b.broadcast_to(scaled.result, x.type.shape, tuple(k for k in range(x.type.rank) if k not in axes))
    squares = b.emit("sum", b.emit("square", b.emit("sub", x, mean)), axes=axes)
    made = b.emit(scaled.op, squares, scaled.operands[1])
    return made if made.type == outer.type else b.emit("reshape", made, shape=outer.type.shape)


# And products of matrices for what is one.
STABLE: tuple[Rule, ...] = (
    *CONTRACTION,
    Rule(
        "log of a sum of exponentials",
        ("log",),
        _log_of_sum,
        lambda b, x, y, r, k: b.emit("log", b.emit("sum", b.emit("exp", x), axes=(1,))),
    ),
    Rule(
        "softmax",
        ("div",),
        _softmax,
        lambda b, x, y, r, k: b.emit(
            "div", b.emit("exp", x), b.broadcast_to(b.emit("sum", b.emit("exp", x), axes=(1,)), x.type.shape, (0,))
        ),
    ),
    Rule("log of a function", ("log",), _log_of_function, lambda b, x, y, r, k: b.emit("log", b.emit("sigmoid", x))),
    Rule("softplus", ("log1p",), _softplus, lambda b, x, y, r, k: b.emit("log1p", b.emit("exp", x))),
    Rule("expm1", ("sub", "add"), _expm1, lambda b, x, y, r, k: b.emit("sub", b.emit("exp", x), b.full(1.0, x))),
    Rule(
        "root of one less a square",
        ("sqrt",),
        _square_below_one,
        lambda b, x, y, r, k: b.emit("sqrt", b.emit("sub", b.full(1.0, x), b.emit("square", b.emit("tanh", x)))),
    ),
    Rule(
        "root of a sum of squares",
        ("sqrt",),
        _root_of_squares,
        lambda b, x, y, r, k: b.emit("sqrt", b.emit("add", b.emit("square", x), b.emit("square", y))),
    ),
    Rule(
        "share of a root",
        ("div",),
        _share_of_root,
        lambda b, x, y, r, k: b.emit("div", x, b.emit("hypot", x, b.full(2.0, x))),
    ),
    Rule(
        "unit vector",
        ("div",),
        _unit_vector,
        lambda b, x, y, r, k: b.emit("div", x, b.broadcast_to(b.emit("norm", x, axes=(1,)), x.type.shape, (0,))),
    ),
    Rule(
        "variance",
        ("sub",),
        _variance,
        lambda b, x, y, r, k: b.emit(
            "sub",
            b.emit("div", b.emit("sum", b.emit("square", x), axes=(1,)), b.full(4.0, r)),
            b.emit("square", b.emit("div", b.emit("sum", x, axes=(1,)), b.full(4.0, r))),
        ),
    ),
)
