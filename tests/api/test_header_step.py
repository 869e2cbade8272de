"""The step of a sequence from C: the same digits as in Python, and an end where there is one."""

import shutil
import subprocess

import numpy as np
import pytest

import tapeless
from tapeless.runtime.image import Image
from tapeless.runtime.program import Program

from ..sweep import sweep

COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")

MODELS = {
    "Attending": """
model Attending(t = 5):
    input text: int[batch, t] < 7
    h = Embedding(text, 7, 8)
    repeat k in 0..2:
        h = TransformerBlock(h, 2, causal = true, rotated = true)
    logits = Dense(h, 7)
    output probs = softmax(logits)
""",
    "Remembering": """
model Remembering(t = 5):
    input text: int[batch, t] < 7
    h = LSTM(Embedding(text, 7, 8), 9)
    logits = Dense(h, 7)
    output probs = softmax(logits)
""",
}
ROWS = 3
MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "{name}.h"
static _Alignas(64) char state[{upper}_STATE_BYTES],
    gradients[{upper}_GRADIENT_BYTES], workspace[{upper}_WORKSPACE_BYTES];
int main(void) {{
    {name}_memory memory = {{state, gradients, workspace}};
    memset(gradients, 0xFF, sizeof gradients), memset(workspace, 0xFF, sizeof workspace); /* NaN */
    size_t bytes = {name}_carry_bytes({rows});
    char *carry = aligned_alloc(64, bytes), *next = aligned_alloc(64, bytes), *other;
    int32_t text[{rows} * {upper}_STEP_TEXT_SIZE];
    float probs[{rows} * {upper}_STEP_PROBS_SIZE];
    {name}_init(memory, 3);
    memset(carry, 0, bytes), memset(next, 0xFF, bytes);
    for (int k = 0; k < 7; k++) {{
        for (int row = 0; row < {rows}; row++) text[row] = (3 * k + row) % 7;
        int status = {name}_step(memory, {rows}, carry, next, text, probs);
        if (status) {{ printf("end after %d: %d\\n", k, status); break; }}
        for (int n = 0; n < {rows} * {upper}_STEP_PROBS_SIZE; n++) printf("%.9g\\n", (double)probs[n]);
        other = carry, carry = next, next = other;
    }}
    return 0;
}}
"""


@pytest.mark.parametrize("name", sweep(MODELS, every=3))
def test_steps_in_c_are_those_in_python(name, tmp_path):
    files = {path.suffix: path for path in tapeless.load(MODELS[name]).build(tmp_path, batch=2)}
    lower = name.lower()
    (tmp_path / "main.c").write_text(MAIN.format(name=lower, upper=name.upper(), rows=ROWS))
    strict = ["-O1", "-Wall", "-Wextra", "-Werror", "-std=c11", "-pedantic"]
    subprocess.run(
        [COMPILER, *strict, "-I", tmp_path, "-o", tmp_path / "main", tmp_path / "main.c", files[".o"]], check=True
    )
    printed = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout.splitlines()

    image = Image.from_library(files[".so"])  # batches of two rows, so that three are two batches
    program = Program(lambda group, capacity: image, seed=3)
    carry, expected = None, []
    places = image.manifest.entries["step"].places
    assert places == (5 if name == "Attending" else None)
    for k in range(places or 7):
        probs, carry = program.step((3 * k + np.arange(ROWS)) % 7, carry)
        expected += [f"{float(value):.9g}" for value in probs.ravel()]
    if places:
        expected.append(f"end after {places}: 2")
    assert printed == expected

    whole = (
        tapeless.load(MODELS[name])
        .compile(seed=3, cache=False)
        .predict((3 * np.arange(5) + np.arange(ROWS)[:, None]) % 7)
    )
    np.testing.assert_allclose(
        np.array(expected[: ROWS * 7 * 5], float).reshape(5, ROWS, 7), whole.transpose(1, 0, 2), rtol=1e-4
    )


def test_the_header_is_c_plus_plus_too(tmp_path):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    tapeless.load(
        "model M(t = 3):\n    input next: [batch, t]\n    input at: [batch, t]\n    output carry = cumsum(next * "
        "at, axis = 1)\n"
    ).build(tmp_path)
    text = (
        '#include "m.h"\nint main() { float x[1] = {1}, y[1]; m_memory memory = {0, 0, 0}; return x[0] > 2 ? '
        "m_step(memory, 1, 0, 0, x, x, y) : 0; }\n"
    )
    (tmp_path / "main.cpp").write_text(text)
    strict = ["-std=c++11", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        [compiler, *strict, "-I", tmp_path, "-o", tmp_path / "main", tmp_path / "main.cpp", tmp_path / "m.o"],
        check=True,
    )
    subprocess.run([tmp_path / "main"], check=True)
