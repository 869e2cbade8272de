"""Losses and metrics that are quotients of sums over all the data: the same for any size of batches, and in C."""

import shutil
import subprocess

import numpy as np
import pytest

import tapeless
from tapeless.compiler.model import load
from tapeless.ir.text import read, write

PROGRAM = """
model Share:
    input  x: [batch, 4]
    target k: int[batch] < 4
    param b: [4] = 0.1
    z = x + b
    hit = argmax(z) == k
    loss cross_entropy(z, k, weight = arange(4) + 1)
    loss 0.5 * cross_entropy(z, k, ignore_index = 2) + mean(z ** 2) as other
    metric recall = sum(hit and k == 1) / sum(k == 1) total
    metric never = sum(k > 7) / sum(k > 7) total
    metric plain = mean(hit)

train Share:
    optimizer SGD(lr = 0)
    epochs 1
    batch 7
"""
MAIN = """
#include <stdio.h>
#include <string.h>
#include "share.h"
static _Alignas(64) char state[SHARE_STATE_BYTES], gradients[SHARE_GRADIENT_BYTES], workspace[SHARE_WORKSPACE_BYTES];
int main(void) {
    share_memory memory = {state, gradients, workspace};
    memset(gradients, 0xFF, sizeof gradients), memset(workspace, 0xFF, sizeof workspace); /* NaN */
    float x[160];
    int32_t y[40];
    double results[SHARE_RESULTS];
    for (int k = 0; k < 160; k++) x[k] = (float)(k * 37 % 101) / 50 - 1;
    for (int k = 0; k < 40; k++) y[k] = k * 7 % 4;
    share_init(memory, 3);
    share_loss(memory, 40, x, y, results);
    printf("%.15g %.15g %.15g\\n", results[SHARE_LOSS], results[SHARE_OTHER], results[SHARE_RECALL]);
    return 0;
}
"""


def data() -> tuple[np.ndarray, np.ndarray]:
    x = ((np.arange(160) * 37 % 101).astype(np.float32) / np.float32(50) - np.float32(1)).reshape(40, 4)
    return x, (np.arange(40) * 7 % 4).astype(np.int32)


def by_hand(x: np.ndarray, k: np.ndarray) -> dict[str, float]:
    z = x.astype(np.float64) + 0.1
    own = np.log(np.exp(z).sum(1)) - z[np.arange(40), k]
    other = 0.5 * own[k != 2].mean() + (z**2).mean()
    hit = z.argmax(1) == k
    return {"loss": ((k + 1) * own).sum() / (k + 1).sum() + other, "other": other,
            "recall": hit[k == 1].mean(), "never": 0.0, "plain": hit.mean()}  # fmt: skip


@pytest.mark.parametrize("batch", (1, 7, 40))
def test_values_do_not_depend_on_the_size_of_batches(batch):
    program = tapeless.load(PROGRAM).compile(dtype="float64", batch=batch)
    expected = by_hand(*data())
    assert program.evaluate(*data()) == pytest.approx(expected)
    curves = program.fit(*data(), epochs=1).curves
    assert {name: curves[name][0] for name in expected} == pytest.approx(expected)


def test_no_warning_and_a_text_form():
    loaded = load(PROGRAM, "share.tl")
    assert "W0101" not in [warning.code for warning in loaded.warnings]
    for graph in loaded.forward.values():
        assert write(read(write(graph))) == write(graph)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_in_c(tmp_path):
    tapeless.load(PROGRAM).build(tmp_path, batch=7)
    (tmp_path / "main.c").write_text(MAIN)
    strict = ["-O1", "-Wall", "-Wextra", "-Werror", "-std=c11", "-pedantic"]
    subprocess.run(
        ["cc", *strict, "-I", tmp_path, "-o", tmp_path / "main", tmp_path / "main.c", tmp_path / "share.o"], check=True
    )
    printed = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout
    expected = by_hand(*data())
    assert [float(word) for word in printed.split()] == pytest.approx(
        [expected[k] for k in ("loss", "other", "recall")], rel=1e-6
    )
