"""Each rewrite rule fires on its example and keeps its value, alone and together with all others."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.compiler.passes.decompose import DECOMPOSE
from tapeless.compiler.passes.rewriter import RewriteLoop, Rewriter, Rule, rewrite
from tapeless.compiler.passes.rules import ALGEBRA, RULES
from tapeless.ir.graph import Builder, Graph
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType, Rows, Tensor
from tapeless.ir.verifier import verify


def build(rule: Rule, builder: Builder) -> Graph:
    x = builder.input("x", Tensor(DType.F64, (Rows(), 4)), "data")
    y = builder.input("y", Tensor(DType.F64, (Rows(), 4)), "data")
    r = builder.input("r", Tensor(DType.F64, (Rows(),)), "data")
    k = builder.input("k", Tensor(DType.I32, (Rows(),)), "data")
    builder.output("z", rule.example(builder, x, y, r, k), "output")
    return builder.graph()


def values(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 7, 4))
    return {"x": x, "y": y, "r": rng.normal(size=7), "k": rng.integers(0, 4, 7)}


@pytest.mark.parametrize("rule", (*RULES, *DECOMPOSE), ids=lambda rule: rule.name)
def test_rule_fires_and_keeps_the_value(rule: Rule) -> None:
    before = build(rule, Builder("before", DType.F64))
    rewriter = Rewriter("after", DType.F64, DECOMPOSE if rule in DECOMPOSE else [rule])
    alone = build(rule, rewriter)
    assert rule.name in rewriter.fired
    together = rewrite(before, (*DECOMPOSE, *ALGEBRA) if rule in DECOMPOSE else RULES)
    for after in (alone, together):
        verify(after)
        inputs = values(0)
        np.testing.assert_allclose(run(after, inputs)["z"], run(before, inputs)["z"], rtol=1e-12, atol=1e-12)


def test_equal_nodes_are_shared_and_constants_folded() -> None:
    b = Builder("g", DType.F64)
    x, y = (b.input(name, Tensor(DType.F64, (3,)), "data") for name in "xy")
    two = b.emit("add", b.constant(1.0), b.constant(1.0))
    total = b.emit("add", b.emit("mul", x, y), b.emit("mul", y, x))
    b.output("z", b.emit("mul", total, b.broadcast_to(two, (3,), ())), "output")
    after = rewrite(b.graph(), RULES)
    assert [node.op for node in after.nodes].count("mul") == 2
    assert [node.attrs["value"] for node in after.nodes if node.op == "constant"] == [2.0]


def test_what_a_rule_makes_keeps_the_name_of_what_it_stands_for() -> None:
    b = Builder("g", DType.F64)
    x = b.input("x", Tensor(DType.F64, (Rows(), 4)), "data")
    b.output("third", b.emit("div", x, b.full(3.0, x), name="third"), "output")
    after = rewrite(b.graph(), DECOMPOSE)
    assert [(node.op, node.result.name) for node in after.nodes][-1] == ("mul", "third")


def test_what_rules_inside_have_made_is_found_under_its_new_name() -> None:
    """log(1 - s) is log1p(-s), which is -softplus(x) of s = sigmoid(x): named after the logarithm, and met again."""
    b = Builder("g", DType.F64)
    x = b.input("x", Tensor(DType.F64, (Rows(),)), "data")
    s = b.emit("sigmoid", x)
    one = b.emit("log", b.emit("sub", b.full(1.0, s), s), name="named")
    b.output("z", b.emit("add", one, b.emit("log1p", b.emit("neg", s))), "output")
    made = rewrite(b.graph(), RULES)
    verify(made)
    assert np.allclose(run(made, {"x": np.zeros(2)})["z"], -2 * np.log(2))


def test_rules_that_undo_each_other_are_reported() -> None:
    forth = Rule("forth", ("exp",), lambda b, n: b.emit("log", n.operands[0]), lambda b, x, *_: b.emit("exp", x))
    back = Rule("back", ("log",), lambda b, n: b.emit("exp", n.operands[0]), lambda b, x, *_: b.emit("log", x))
    with pytest.raises(RewriteLoop, match="forth, back"):
        build(forth, Rewriter("loop", DType.F64, [forth, back]))
