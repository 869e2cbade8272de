"""Losses with scans in them, for the tests of their derivatives and of their machine code."""

from __future__ import annotations

from collections.abc import Callable

from tapeless.ir.graph import Builder, Graph, Value
from tapeless.ir.types import DType, Rows, Tensor

F, T, N, I = DType.F64, 5, 3, 2  # noqa: E741


def tensor(*shape: int | Rows) -> Tensor:
    return Tensor(F, shape)


def body(name: str, carries: list[Tensor], elements: list[Tensor], invariants: list[Tensor],
         make: Callable[..., tuple[list[Value], list[Value]]]) -> Graph:  # fmt: skip
    b = Builder(name, F)
    inputs = [b.input(f"{name}{k}", type, "operand") for k, type in enumerate([*carries, *elements, *invariants])]
    after, yields = make(b, *inputs)
    for k, value in enumerate([*after, *yields]):
        b.output(f"r{k}", value, "result")
    return b.graph()


def matmul(b: Builder, x: Value, w: Value) -> Value:
    return b.emit("matmul", x, w, transpose_a=False, transpose_b=False)


def recurrent(reverse: bool) -> Graph:
    """h = tanh(x_t W + h U + bias), every h yielded; U also scales a second carry."""

    def step(b: Builder, h: Value, s: Value, x: Value, w: Value, u: Value, bias: Value):
        z = b.emit("add", matmul(b, x, w), matmul(b, h, u))
        after = b.emit("tanh", b.emit("add", z, b.broadcast_to(bias, z.type.shape, (1,))))
        total = b.emit(
            "add", b.emit("mul", s, b.emit("sum", b.emit("square", u), axes=(0,))), b.emit("sum", after, axes=(0,))
        )
        return [after, total], [after]

    b = Builder("forward", F)
    x = b.emit("transpose", b.input("x", tensor(Rows(), T, I), "data"), perm=(1, 0, 2))
    h, s, w, u, bias = (b.input(name, type, "param") for name, type in (
        ("h", tensor(N)), ("s", tensor(N)), ("W", tensor(I, N)), ("U", tensor(N, N)), ("bias", tensor(N))))  # fmt: skip
    rows = b.broadcast_to(h, (Rows(), N), (1,))
    region = body("a", [tensor(Rows(), N), tensor(N)], [tensor(Rows(), I)], [w.type, u.type, bias.type], step)
    attrs = {"carries": 2, "sequences": 1, "length": T, "reverse": reverse}
    last, total, all_ = b.emit_node("scan", (rows, s, x, w, u, bias), attrs, (region,))
    loss = b.emit("sum", b.emit("square", all_), axes=(0, 1, 2))
    for value in (last, total):
        loss = b.emit("add", loss, b.emit("sum", b.emit("sin", value), axes=tuple(range(value.type.rank))))
    b.output("loss", loss, "loss")
    return b.graph()


def nested() -> Graph:
    """A scan inside a scan: h decays through the inner steps, and each outer step takes the inner carries' product."""

    def inner(b: Builder, s: Value, x: Value, w: Value):
        after = b.emit("mul", b.emit("sin", b.emit("add", s, x)), w)
        return [after], [b.emit("square", after)]

    def outer(b: Builder, s: Value, x: Value, w: Value):
        region = body("b", [tensor(N)], [tensor(N)], [tensor(N)], inner)
        attrs = {"carries": 1, "sequences": 1, "length": I, "reverse": False}
        last, all_ = b.emit_node("scan", (s, x, w), attrs, (region,))
        return [b.emit("tanh", last)], [b.emit("sum", all_, axes=(0,))]

    b = Builder("forward", F)
    x, s, w = (
        b.input(name, type, "param") for name, type in (("x", tensor(T, I, N)), ("s", tensor(N)), ("w", tensor(N)))
    )
    attrs = {"carries": 1, "sequences": 1, "length": T, "reverse": False}
    last, all_ = b.emit_node("scan", (s, x, w), attrs, (body("a", [tensor(N)], [tensor(I, N)], [tensor(N)], outer),))
    loss = b.emit("add", b.emit("sum", last, axes=(0,)), b.emit("sum", b.emit("exp", all_), axes=(0, 1)))
    b.output("loss", loss, "loss")
    return b.graph()


GRAPHS = {"recurrent": recurrent(False), "reverse": recurrent(True), "nested": nested()}
