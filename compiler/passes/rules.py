"""The rewrite rules: algebra, movement of broadcasts and indexing; from stable.py stable forms, from indexing.py
those of computed places, and convolutions.

Each rule keeps the value where the left side is defined and finite; where they differ in rounding or overflow, the
right side is the more accurate. No rule drops a NaN that a user's arithmetic would show, with one declared exception:
`x * where(c, 1, 0)` becomes `where(c, x, 0)`, so an infinite x no longer turns a masked zero into NaN.
"""

from __future__ import annotations

from tapeless.compiler.passes.convolution import CONVOLUTION
from tapeless.compiler.passes.indexing import INDEXING
from tapeless.compiler.passes.rewriter import Rewriter, Rule
from tapeless.compiler.passes.stable import STABLE
from tapeless.ir.graph import Node, Value
from tapeless.ir.ops import POINTWISE
from tapeless.ir.ops.product import last_two_swapped
from tapeless.ir.types import DType

MOVABLE = tuple(sorted(POINTWISE))
SMALLEST, LARGEST = 1e-30, 1e30  # products of constants that any float holds to full precision
DEEPEST_PICK = 40  # pointwise operations that one index moves through, well inside the rewriter's budget


def _identity(b: Rewriter, node: Node) -> Value | None:
    """x + 0, x - 0, x * 1, x / 1, with the constant on either side where the operation commutes."""
    x, y = node.operands
    neutral = 0.0 if node.op in ("add", "sub") else 1.0
    if b.number(y) == neutral:
        return x
    if b.number(x) == neutral and node.op in ("add", "mul", "strong_product"):
        return y
    return None


def _negation(b: Rewriter, node: Node) -> Value | None:
    """Signs move outwards and cancel: -(-x), x + (-y), x - (-y), x * (-y), -(x - y)."""
    if node.op == "neg":
        inner = b.made_by(node.operands[0], "neg", "sub")
        if inner is None:
            return None
        return inner.operands[0] if inner.op == "neg" else b.emit("sub", inner.operands[1], inner.operands[0])
    x, y = node.operands
    left, right = b.made_by(x, "neg"), b.made_by(y, "neg")
    if node.op == "add":
        if right:
            return b.emit("sub", x, right.operands[0])
        return b.emit("sub", y, left.operands[0]) if left else None
    if node.op == "sub":
        return b.emit("add", x, right.operands[0]) if right else None
    if left and right:
        return b.emit(node.op, left.operands[0], right.operands[0])
    if left:
        return b.emit("neg", b.emit(node.op, left.operands[0], y))
    return b.emit("neg", b.emit(node.op, x, right.operands[0])) if right else None


def _power(b: Rewriter, node: Node) -> Value | None:
    """Powers with a constant exponent that have a plain spelling."""
    x, exponent = node.operands[0], b.number(node.operands[1])
    if exponent == 0.0:
        return b.full(1.0, x)
    if exponent == 1.0:
        return x
    plain = {2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}.get(exponent if exponent is not None else 0.0)
    if plain:
        return b.emit(plain, x)
    return b.emit("mul", b.emit("square", x), x) if exponent == 3.0 else None


def _square(b: Rewriter, node: Node) -> Value | None:
    return b.emit("square", node.operands[0]) if node.operands[0] == node.operands[1] and _real(node) else None


def _real(node: Node) -> bool:
    return node.operands[0].type.dtype.is_float


def _reciprocal(b: Rewriter, node: Node) -> Value | None:
    return b.emit("reciprocal", node.operands[1]) if b.number(node.operands[0]) == 1.0 else None


def _constants_first(b: Rewriter, node: Node) -> Value | None:
    """(x * c) * d = x * (c * d) for constants, which meet and fold; not where their product would leave the range."""
    for outer, other in (node.operands, node.operands[::-1]):
        factor, inner = b.number(outer), b.made_by(other, "mul")
        if factor is None or inner is None:
            continue
        for one, rest in (inner.operands, inner.operands[::-1]):
            number = b.number(one)
            if number is not None and SMALLEST < abs(number * factor) < LARGEST:
                return b.emit("mul", rest, b.emit("mul", one, outer))
    return None


def _same_branches(b: Rewriter, node: Node) -> Value | None:
    condition, x, y = node.operands
    if x == y:
        return x
    inner = b.made_by(condition, "logical_not")
    return b.emit("select", inner.operands[0], y, x) if inner else None


def _masked_product(b: Rewriter, node: Node) -> Value | None:
    """x * where(c, 1, 0) = where(c, x, 0): the form of every derivative at a kink."""
    for x, masked in (node.operands, node.operands[::-1]):
        select = b.made_by(masked, "select")
        if select and (b.number(select.operands[1]), b.number(select.operands[2])) == (1.0, 0.0):
            return b.emit("select", select.operands[0], x, select.operands[2])
        if select and (b.number(select.operands[1]), b.number(select.operands[2])) == (0.0, 1.0):
            return b.emit("select", select.operands[0], select.operands[1], x)
    return None


def _strong_product_by_number(b: Rewriter, node: Node) -> Value | None:
    """The strong product by 0 is 0; that by another finite number is a product, in which no zero meets an infinity."""
    for number, other in (node.operands, node.operands[::-1]):
        factor = b.number(number)
        if factor == 0.0:
            return number
        if factor is not None and SMALLEST < abs(factor) < LARGEST:
            return b.emit("mul", other, number)
    return None


def _number_out_of_strong_product(b: Rewriter, node: Node) -> Value | None:
    """(x * c) . y = (x . y) * c for a number c, which then meets others: x * c is 0 where x is 0, or below all numbers
    but 0.
    """
    for scaled, other in (node.operands, node.operands[::-1]):
        inner = b.made_by(scaled, "mul")
        for number, rest in (inner.operands, inner.operands[::-1]) if inner else ():
            factor = b.number(number)
            if factor is not None and SMALLEST < abs(factor) < LARGEST:
                return b.emit("mul", b.emit("strong_product", rest, other), number)
    return None


def _masked_sum(b: Rewriter, node: Node) -> Value | None:
    """where(c, x, 0) + where(c, y, 0) = where(c, x + y, 0)."""
    left, right = (b.made_by(value, "select") for value in node.operands)
    if not (left and right) or left.operands[0] != right.operands[0] or left.operands[2] != right.operands[2]:
        return None
    if b.number(left.operands[2]) != 0.0:
        return None
    return b.emit("select", left.operands[0], b.emit("add", left.operands[1], right.operands[1]), left.operands[2])


def _prediction_minus_target(b: Rewriter, node: Node) -> Value | None:
    """p * s - where(c, s, 0) = (p - [c]) * s: the gradient of a cross-entropy as it is written in books."""
    product, mask = b.made_by(node.operands[0], "mul"), b.made_by(node.operands[1], "select")
    if product is None or mask is None or b.number(mask.operands[2]) != 0.0:
        return None
    for p, s in (product.operands, product.operands[::-1]):
        if s == mask.operands[1]:
            target = b.emit("cast", mask.operands[0], name="one_hot", dtype=p.type.dtype)
            return b.emit("mul", b.emit("sub", p, target), s)
    return None


def _negated_mask(b: Rewriter, node: Node) -> Value | None:
    """a + where(c, -s, 0) = a - where(c, s, 0)."""
    for a, masked in (node.operands, node.operands[::-1]):
        select = b.made_by(masked, "select")
        if select is None or b.number(select.operands[2]) != 0.0:
            continue
        inner, number = _negated(b, select.operands[1]), b.number(select.operands[1])
        if inner is None and number is not None and number < 0:
            inner = b.full(-number, select.operands[1])
        if inner is not None:
            return b.emit("sub", a, b.emit("select", select.operands[0], inner, select.operands[2]))
    return None


def _negated(b: Rewriter, value: Value) -> Value | None:
    """y where the value is -y, also under a broadcast."""
    negated = b.made_by(value, "neg")
    if negated:
        return negated.operands[0]
    spread = b.made_by(value, "broadcast")
    inner = spread and _negated(b, spread.operands[0])
    return b.emit("broadcast", inner, **dict(spread.attrs)) if spread and inner else None


def _view_of_view(b: Rewriter, node: Node) -> Value | None:
    """Two broadcasts, reshapes or transposes in a row are one; one that changes nothing is none."""
    (x,) = node.operands
    inner = b.made_by(x, node.op)
    if node.op == "broadcast":
        axes = tuple(node.attrs["axes"])
        if tuple(node.attrs["shape"]) == x.type.shape and axes == tuple(range(x.type.rank)):
            return x
        if inner:
            composed = tuple(axes[k] for k in inner.attrs["axes"])
            return b.emit("broadcast", inner.operands[0], shape=node.attrs["shape"], axes=composed)
        return None
    if node.op == "reshape":
        if tuple(node.attrs["shape"]) == x.type.shape:
            return x
        return b.emit("reshape", inner.operands[0], shape=node.attrs["shape"]) if inner else None
    perm = tuple(node.attrs["perm"])
    if perm == tuple(range(len(perm))):
        return x
    return b.emit("transpose", inner.operands[0], perm=tuple(inner.attrs["perm"][k] for k in perm)) if inner else None


def _windows_side_by_side(b: Rewriter, node: Node) -> Value | None:
    """Windows that neither overlap nor leave anything out are a reshape, and so is their adjoint."""
    (x,), axis, step = node.operands, node.attrs["axis"], node.attrs["step"]
    kernel = node.attrs["kernel"] if node.op == "windows" else x.type.shape[axis + 1]
    size = node.attrs["size"] if node.op == "windows" else x.type.shape[axis]
    extent = x.type.shape[axis] if node.op == "windows" else node.attrs["size"]
    adjoining = size == 1 or step == kernel
    together = kernel == 1 or node.attrs["dilation"] == 1
    if not adjoining or not together or size * kernel != extent:
        return None
    made = (size, kernel) if node.op == "windows" else (extent,)
    rest = x.type.shape[axis + (1 if node.op == "windows" else 2) :]
    return b.emit("reshape", x, shape=(*x.type.shape[:axis], *made, *rest))


def _reshape_as_broadcast(b: Rewriter, node: Node) -> Value | None:
    """A reshape of a broadcast number is that number broadcast to the new shape; one that takes out axes of size 1
    which the broadcast put in is a broadcast to fewer axes.
    """
    spread = b.made_by(node.operands[0], "broadcast")
    if spread is None:
        return None
    if not spread.operands[0].type.shape:
        return b.broadcast_to(spread.operands[0], node.attrs["shape"], ())
    shape, axes = spread.attrs["shape"], tuple(spread.attrs["axes"])
    kept = [k for k, dim in enumerate(shape) if k in axes or dim != 1]
    if tuple(shape[k] for k in kept) != tuple(node.attrs["shape"]):
        return None
    return b.broadcast_to(spread.operands[0], node.attrs["shape"], tuple(kept.index(k) for k in axes))


def _broadcast_last(b: Rewriter, node: Node) -> Value | None:
    """f(broadcast a, broadcast b) = broadcast f(a, b) where both are stretched alike: compute small, stretch late."""
    if not node.operands:
        return None
    spreads = [b.made_by(value, "broadcast") for value in node.operands]
    first = spreads[0]
    if first is None:
        return None
    for spread in spreads:
        if (
            spread is None
            or spread.attrs != first.attrs
            or spread.operands[0].type.shape != first.operands[0].type.shape
        ):
            return None
    inner = b.emit(node.op, *(spread.operands[0] for spread in spreads if spread), **dict(node.attrs))
    return b.emit("broadcast", inner, **dict(first.attrs))


def _unit_axes_last(b: Rewriter, node: Node) -> Value | None:
    """f(a viewed with further axes of size 1, number) = f(a, number) viewed so: what a mean that keeps its axis takes
    part in fuses with what made it.
    """
    views = [b.made_by(value, "reshape") for value in node.operands]
    inner = next((view.operands[0].type for view in views if view is not None), None)
    if inner is None:
        return None
    shape = node.operands[0].type.shape
    if inner.rank >= len(shape) or [dim for dim in shape if dim != 1] != [dim for dim in inner.shape if dim != 1]:
        return None
    taken = []
    for value, view in zip(node.operands, views, strict=True):
        spread = b.made_by(value, "broadcast")
        if view is not None and view.operands[0].type.shape == inner.shape:
            taken.append(view.operands[0])
        elif spread is not None and not spread.operands[0].type.shape:
            taken.append(b.broadcast_to(spread.operands[0], inner.shape, ()))
        else:
            return None
    return b.emit("reshape", b.emit(node.op, *taken, **dict(node.attrs)), shape=shape)


def _cast_of_same(b: Rewriter, node: Node) -> Value | None:
    return node.operands[0] if node.operands[0].type.dtype is node.attrs["dtype"] else None


def _sum_of_nothing(b: Rewriter, node: Node) -> Value | None:
    return node.operands[0] if not node.attrs["axes"] else None


def _sum_of_sum(b: Rewriter, node: Node) -> Value | None:
    (x,) = node.operands
    inner = b.made_by(x, "sum")
    if inner is None:
        return None
    whole = inner.operands[0]
    kept = [k for k in range(whole.type.rank) if k not in inner.attrs["axes"]]
    axes = sorted([*inner.attrs["axes"], *(kept[k] for k in node.attrs["axes"])])
    return b.emit("sum", whole, axes=tuple(axes))


def _sum_of_broadcast(b: Rewriter, node: Node) -> Value | None:
    """The sum over an axis along which a value was stretched is the value times that axis's extent."""
    (x,) = node.operands
    spread = b.made_by(x, "broadcast")
    stretched = [k for k in node.attrs["axes"] if spread and k not in spread.attrs["axes"]]
    if spread is None or not stretched:
        return None
    small = spread.operands[0]
    axes = tuple(spread.attrs["axes"].index(k) for k in node.attrs["axes"] if k not in stretched)
    kept = [k for k in range(x.type.rank) if k not in node.attrs["axes"]]
    total = b.emit("sum", small, axes=axes)
    inner = [k for k in spread.attrs["axes"] if k not in node.attrs["axes"]]
    if any(k not in spread.attrs["axes"] for k in kept):
        shape = tuple(x.type.shape[k] for k in kept)
        total = b.broadcast_to(total, shape, tuple(kept.index(k) for k in inner))
    count = b.emit("count", shape=tuple(x.type.shape[k] for k in stretched), dtype=x.type.dtype)
    return b.emit("mul", total, b.broadcast_to(count, total.type.shape, ()))


def _known_count(b: Rewriter, node: Node) -> Value | None:
    sizes = node.attrs["shape"]
    if any(not isinstance(size, int) for size in sizes):
        return None
    total = 1
    for size in sizes:
        total *= size
    return b.constant(total, node.attrs["dtype"])


def _transposed_operand(b: Rewriter, node: Node) -> Value | None:
    """A product of transposed matrices takes them as they lie."""
    operands, attrs, changed = list(node.operands), dict(node.attrs), False
    for place, flag in ((0, "transpose_a"), (1, "transpose_b")):
        inner = b.made_by(operands[place], "transpose")
        if inner and tuple(inner.attrs["perm"]) == last_two_swapped(len(inner.attrs["perm"])):
            operands[place], attrs[flag], changed = inner.operands[0], not attrs[flag], True
    return b.emit("matmul", *operands, **attrs) if changed else None


def _pick_of_pointwise(b: Rewriter, node: Node) -> Value | None:
    """pick(f(a, b), i) = f(pick(a, i), pick(b, i)): index first, then compute one element for each row."""
    x, index = node.operands
    inner = b.made_by(x, *MOVABLE)
    if inner and any(b.made_by(value, "matmul") for value in inner.operands):
        return None  # a product's epilogue is stored anyway: index it there
    if inner is None or b.depth > DEEPEST_PICK or not all(value.type.dtype.is_number for value in inner.operands):
        return None
    return b.emit(inner.op, *(b.emit("pick", value, index) for value in inner.operands), **dict(inner.attrs))


def _pick_of_broadcast(b: Rewriter, node: Node) -> Value | None:
    """Along a stretched last axis there is one value to pick."""
    x, _ = node.operands
    spread = b.made_by(x, "broadcast")
    if spread is None or x.type.rank - 1 in spread.attrs["axes"]:
        return None
    return b.broadcast_to(spread.operands[0], x.type.shape[:-1], spread.attrs["axes"])


def _one_hot_index(b: Rewriter, value: Value) -> Value | None:
    """The index k where the value is [place along the last axis == k], as a boolean or cast to a number."""
    cast = b.made_by(value, "cast")
    equal = b.made_by(cast.operands[0] if cast else value, "eq")
    if equal is None:
        return None
    for places, spread in (equal.operands, equal.operands[::-1]):
        iota, index = b.made_by(places, "iota"), b.made_by(spread, "broadcast")
        last = value.type.rank - 1
        if iota and index and iota.attrs["axis"] == last and tuple(index.attrs["axes"]) == tuple(range(last)):
            return index.operands[0]
    return None


def _one_hot_sum(b: Rewriter, node: Node) -> Value | None:
    """sum(x * one_hot(k)) over the classes is pick(x, k)."""
    (x,) = node.operands
    product = b.made_by(x, "mul", "strong_product")
    if product is None or tuple(node.attrs["axes"]) != (x.type.rank - 1,):
        return None
    for value, mask in (product.operands, product.operands[::-1]):
        index = _one_hot_index(b, mask)
        if index is not None and index.type.dtype is DType.I32:
            return b.emit("pick", value, index)
    return None


# Less work and fewer shapes.
ALGEBRA: tuple[Rule, ...] = (
    Rule(
        "identity",
        ("add", "sub", "mul", "strong_product", "div"),
        _identity,
        lambda b, x, y, r, k: b.emit("mul", x, b.full(1.0, x)),
    ),
    Rule(
        "negation",
        ("neg", "add", "sub", "mul", "strong_product", "div"),
        _negation,
        lambda b, x, y, r, k: b.emit("add", x, b.emit("neg", y)),
    ),
    Rule("power", ("pow",), _power, lambda b, x, y, r, k: b.emit("pow", x, b.full(3.0, x))),
    Rule("square", ("mul", "strong_product"), _square, lambda b, x, y, r, k: b.emit("mul", x, x)),
    Rule("reciprocal", ("div",), _reciprocal, lambda b, x, y, r, k: b.emit("div", b.full(1.0, y), y)),
    Rule(
        "constants first",
        ("mul",),
        _constants_first,
        lambda b, x, y, r, k: b.emit("mul", b.emit("mul", x, b.full(2.0, x)), b.full(3.0, x)),
    ),
    Rule(
        "same branches", ("select",), _same_branches, lambda b, x, y, r, k: b.emit("select", b.emit("lt", x, y), x, x)
    ),
    Rule(
        "masked product",
        ("mul", "strong_product"),
        _masked_product,
        lambda b, x, y, r, k: b.emit("mul", x, b.emit("select", b.emit("lt", x, y), b.full(1.0, x), b.full(0.0, x))),
    ),
    Rule(
        "strong product by a number",
        ("strong_product",),
        _strong_product_by_number,
        lambda b, x, y, r, k: b.emit("strong_product", x, b.full(3.0, x)),
    ),
    Rule(
        "number out of a strong product",
        ("strong_product",),
        _number_out_of_strong_product,
        lambda b, x, y, r, k: b.emit("strong_product", b.emit("mul", x, b.full(3.0, x)), y),
    ),
    Rule(
        "masked sum",
        ("add",),
        _masked_sum,
        lambda b, x, y, r, k: b.emit(
            "add",
            b.emit("select", b.emit("lt", x, y), x, b.full(0.0, x)),
            b.emit("select", b.emit("lt", x, y), y, b.full(0.0, x)),
        ),
    ),
    Rule(
        "negated mask",
        ("add",),
        _negated_mask,
        lambda b, x, y, r, k: b.emit("add", x, b.emit("select", b.emit("lt", x, y), b.emit("neg", y), b.full(0.0, x))),
    ),
    Rule(
        "prediction minus target",
        ("sub",),
        _prediction_minus_target,
        lambda b, x, y, r, k: b.emit(
            "sub", b.emit("mul", x, y), b.emit("select", b.emit("lt", x, y), y, b.full(0.0, x))
        ),
    ),
    Rule(
        "view of a view",
        ("broadcast", "reshape", "transpose"),
        _view_of_view,
        lambda b, x, y, r, k: b.emit("transpose", b.emit("transpose", x, perm=(1, 0)), perm=(1, 0)),
    ),
    Rule(
        "windows side by side",
        ("windows", "overlap_add"),
        _windows_side_by_side,
        lambda b, x, y, r, k: b.emit("windows", x, axis=1, size=2, kernel=2, step=2, dilation=1),
    ),
    Rule(
        "reshape of a broadcast",
        ("reshape",),
        _reshape_as_broadcast,
        lambda b, x, y, r, k: b.emit("reshape", b.full(2.0, x), shape=(*x.type.shape, 1)),
    ),
    Rule(
        "unit axes last",
        MOVABLE,
        _unit_axes_last,
        lambda b, x, y, r, k: b.emit("exp", b.emit("reshape", r, shape=(*r.type.shape, 1))),
    ),
    Rule(
        "broadcast last",
        MOVABLE,
        _broadcast_last,
        lambda b, x, y, r, k: b.emit("exp", b.broadcast_to(r, x.type.shape, (0,))),
    ),
    Rule("cast to the same type", ("cast",), _cast_of_same, lambda b, x, y, r, k: b.emit("cast", x, dtype=DType.F64)),
    Rule("sum over nothing", ("sum",), _sum_of_nothing, lambda b, x, y, r, k: b.emit("sum", x, axes=())),
    Rule(
        "sum of a sum",
        ("sum",),
        _sum_of_sum,
        lambda b, x, y, r, k: b.emit("sum", b.emit("sum", x, axes=(1,)), axes=(0,)),
    ),
    Rule(
        "sum of a broadcast",
        ("sum",),
        _sum_of_broadcast,
        lambda b, x, y, r, k: b.emit("sum", b.broadcast_to(r, x.type.shape, (0,)), axes=(1,)),
    ),
    Rule("known count", ("count",), _known_count, lambda b, x, y, r, k: b.emit("count", shape=(4, 3), dtype=DType.F64)),
    Rule(
        "transposed operand",
        ("matmul",),
        _transposed_operand,
        lambda b, x, y, r, k: b.emit(
            "matmul", b.emit("transpose", x, perm=(1, 0)), y, transpose_a=False, transpose_b=False
        ),
    ),
    Rule("pick of pointwise", ("pick",), _pick_of_pointwise, lambda b, x, y, r, k: b.emit("pick", b.emit("exp", x), k)),
    Rule(
        "pick of a broadcast",
        ("pick",),
        _pick_of_broadcast,
        lambda b, x, y, r, k: b.emit("pick", b.broadcast_to(r, x.type.shape, (0,)), k),
    ),
    Rule(
        "one-hot sum",
        ("sum",),
        _one_hot_sum,
        lambda b, x, y, r, k: b.emit(
            "sum",
            b.emit(
                "mul",
                x,
                b.emit(
                    "cast",
                    b.emit(
                        "eq",
                        b.emit("iota", axis=1, shape=x.type.shape, dtype=DType.I32),
                        b.broadcast_to(k, x.type.shape, (0,)),
                    ),
                    dtype=DType.F64,
                ),
            ),
            axes=(1,),
        ),
    ),
)

RULES = (*STABLE, *ALGEBRA, *INDEXING, *CONVOLUTION)
