"""Fusion where it went wrong once: small programs whose kernels were ill-formed."""

from __future__ import annotations

import numpy as np
import pytest

import tapeless


@pytest.mark.parametrize("shape", [(4, 4), (1, 3), (3, 1), (16, 5), (5, 16)])
def test_what_a_repeated_chain_leaves_behind_still_hangs_together(shape: tuple[int, int]) -> None:
    """`products + shift * trace(products)` is repeated by the factor's kernel; its mask is no epilogue by itself."""
    rows, columns = shape
    text = (
        f"model M:\n    input x: [batch, {rows}]\n    param W: [{rows}, {columns}] ~ orthogonal\n    output y = x @ W\n"
    )
    w = np.array(tapeless.load(text).compile(batch=4, dtype="float64", cache=False).parameters["W"])
    products = w @ w.T if rows <= columns else w.T @ w
    np.testing.assert_allclose(products, np.eye(min(shape)), atol=1e-14)
