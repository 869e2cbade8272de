"""Which sums of products become products of matrices, or convolutions, forward and in the gradient."""

from __future__ import annotations

import pytest

from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.compiler.passes.pipelines import simplified
from tapeless.ir.graph import Graph

HEAD = """
model M:
    input x: [batch, 8, 12, 12]
    param all = 1.5
    param K: [6, 8, 3, 3] ~ he_normal
    param D: [8, 3, 3] ~ he_normal
    param Q: [8, 12, 5] ~ normal(0, 1)
    param w: [12] = 1
    param W4: [12, 4] ~ normal(0, 1)
    param W3: [12, 3] ~ normal(0, 1)
    p = x * all
"""
# How many products the line makes, and how many it and its gradient make together.
LINES = {
    "y[n, o, i, j] = sum[c, u, v] p[n, c, i + u, j + v] * K[o, c, u, v]": (1, 3),
    "y[n, o, i, j] = sum[c, u, v] p[n, c, 2 * i + u, 2 * j + v] * K[o, c, u, v] / 3": (1, 3),
    "y[n, c, i, d] = sum[j] p[n, c, i, j] * Q[c, j, d]": (1, 3),
    "y[d, n, c, i] = sum[j] p[n, c, i, j] * Q[c, j, d]": (1, 3),
    "y[n, c, i, k] = sum[j] p[n, c, i, j] * p[n, c, k, j]": (1, 3),
    "y[n, c, i, d] = sum[j] p[n, c, i, j] * w[j] * Q[c, j, d]": (1, 3),
    # As few columns as a tile has rows, and one less: then only the adjoint of p, which has more, is a product.
    "y[n, c, i, d] = sum[j] p[n, c, i, j] * W4[j, d]": (1, 3),
    "y[n, c, i, d] = sum[j] p[n, c, i, j] * W3[j, d]": (0, 1),
    # One kernel for each channel: every row of such a product would be alone.
    "y[n, c, i, j] = sum[u, v] p[n, c, i + u, j + v] * D[c, u, v]": (0, 0),
    "y[n, c, i] = sum[j] p[n, c, i, j] * w[j]": (0, 0),
    "y[n, c, i, j] = sum[u: 2] p[n, c, i, j + u] ** 2": (0, 0),
}


def products(graph: Graph) -> int:
    return sum(node.op in ("matmul", "convolution", "convolution_weights") for node in graph.nodes)


@pytest.mark.parametrize("line", LINES)
def test_products(line: str) -> None:
    model = load(HEAD + f"    {line}\n    loss mean(y ** 2)\n", "model.tl")
    forward, both = simplified(model.forward[True]), simplified(entries.gradients(model))
    assert (products(forward), products(both)) == LINES[line]
    assert all(len(value.type.shape) <= 6 for node in forward.nodes for value in node.results if products(forward))
