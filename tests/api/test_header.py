"""The C header that `tapeless build` writes, compiled and used, on a program written by hand."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tapeless
from tapeless.header import header, identifier
from tapeless.runtime.image import Image
from tapeless.runtime.manifest import Manifest
from tapeless.runtime.program import Program

LINE = Path(__file__).parent.parent / "runtime"
COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")

MAIN = """
#include <stdio.h>
#include <string.h>
#include "line.h"
static _Alignas(64) char state[LINE_STATE_BYTES], gradients[LINE_GRADIENT_BYTES], workspace[LINE_WORKSPACE_BYTES];
int main(void) {
    line_memory memory = {state, gradients, workspace};
    memset(gradients, 0xFF, sizeof gradients), memset(workspace, 0xFF, sizeof workspace); /* NaN */
    float x[22], t[22], y[22];
    int32_t order[22], epoch;
    double results[LINE_RESULTS];
    for (int k = 0; k < 22; k++) { x[k] = (float)(k - 11) / 8; t[k] = 3 * x[k] - 1; }
    line_init(memory, 3);
    line_plan(memory, 60);
    for (epoch = 0; epoch < 10; epoch++) {
        line_shuffle(memory, epoch, 22, order);
        if (line_train_step(memory, order, 0, 22, x, t, results)) return 1;
        printf("%.17g\\n", results[LINE_LOSS]);
    }
    line_predict(memory, 22, x, y);
    printf("%.9g\\n", y[21]);
    line_loss(memory, 22, x, t, results);
    printf("%.17g\\n", results[LINE_LOSS]);
    line_gradients(memory, 4, x, t, results);
    for (int k = 0; k < LINE_TENSORS; k++)
        if (line_tensors[k].gradient >= 0)
            printf("%s %.9g\\n", line_tensors[k].name, *(float *)(gradients + line_tensors[k].gradient));
    return 0;
}
"""


def test_a_c_program_does_what_the_runtime_does(tmp_path):
    manifest = Manifest.from_json(json.loads((LINE / "line.json").read_text()))
    (tmp_path / "line.h").write_text(header(manifest))
    (tmp_path / "main.c").write_text(MAIN)
    shutil.copy(LINE / "line.json", tmp_path)
    strict = ["-O1", "-Wall", "-Wextra", "-Werror", "-std=c11", "-pedantic"]
    flags = ["-I", tmp_path, "-o", tmp_path / "main", tmp_path / "main.c", LINE / "line.c", "-lm"]
    subprocess.run([COMPILER, *strict, *flags], check=True)
    printed = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout.split("\n")

    subprocess.run(
        [COMPILER, "-O1", "-shared", "-fPIC", "-o", tmp_path / "line.so", LINE / "line.c", "-lm"], check=True
    )
    image = Image.from_library(tmp_path / "line.so")
    program = Program(lambda group, capacity: image, seed=3)
    x = (np.arange(22, dtype=np.float32) - 11) / 8
    t = 3 * x - 1
    run = program.fit(x, t, epochs=10)
    expected = [f"{loss:.17g}" for loss in run.curves["loss"]]
    expected += [f"{program.predict(x)[21]:.9g}", f"{program.evaluate(x, t)['loss']:.17g}"]
    expected += [f"{name} {value.item():.9g}" for name, value in program.gradients(x[:4], t[:4]).items()]
    assert printed[:-1] == expected


def test_names_become_identifiers():
    assert identifier("DigitsNet") == "digits_net"
    assert identifier("MLP") == "mlp"


INPUTS = [f"x{k}" for k in range(20)]
MANY = f"""
model Many:
{"".join(f"    input {name}: [batch, 2]{chr(10)}" for name in INPUTS)}
    param w: [2] = 1
    z = ({" + ".join(INPUTS)}) @ w
    output z
    loss mean(z ** 2)
"""
NAMES = """
model Names:
    input NULL: [batch, 2]
    input int32_t: [batch, 2]
    input results: [batch, 2]
    input asm: [batch, 2]
    target native: [batch, 2]
    param w: [2] = 1
    z = (NULL + int32_t + results + asm) * w
    output z
    metric Loss = mean(z)
    metric batch_ = mean(z)
    metric Batch = mean(z)
    loss mean((z - native) ** 2)
"""
BOTH = f"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "many.h"
#include "names.h"
static void *block(size_t bytes) {{
    char *start = (char *)memset(malloc(bytes + 64), 0xFF, bytes + 64); /* NaN */
    return start + (64 - (uintptr_t)start % 64) % 64;
}}
int main(void) {{
    float x[2] = {{1, 2}}, z[2];
    double results[NAMES_RESULTS];
    many_memory many;
    names_memory names;
    many.state = block(MANY_STATE_BYTES);
    many.gradients = block(MANY_GRADIENT_BYTES);
    many.workspace = block(MANY_WORKSPACE_BYTES);
    names.state = block(NAMES_STATE_BYTES);
    names.gradients = block(NAMES_GRADIENT_BYTES);
    names.workspace = block(NAMES_WORKSPACE_BYTES);
    many_init(many, 0);
    many_predict(many, 1, {"x, " * 20}z);
    printf("%g ", z[0]);
    names_init(names, 0);
    names_loss(names, 1, x, x, x, x, x, results);
    printf("%g %g\\n", results[NAMES_LOSS], results[NAMES_LOSS_]);
    return 0;
}}
"""


@pytest.mark.parametrize("compiler", [["gcc", "-std=c99"], ["g++", "-std=c++11", "-x", "c++"]], ids=["C99", "C++"])
def test_two_models_of_any_names_in_one_file(tmp_path, compiler):
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"needs {compiler[0]}")
    for text in (MANY, NAMES):
        tapeless.load(text).build(tmp_path)
    (tmp_path / "both.c").write_text(BOTH)
    strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-I", tmp_path]
    subprocess.run([*compiler, *strict, "-c", "-o", tmp_path / "both.o", tmp_path / "both.c"], check=True)
    objects = [tmp_path / f"{name}.o" for name in ("both", "many", "names")]
    subprocess.run([compiler[0], "-o", tmp_path / "both", *objects], check=True)
    printed = subprocess.run([tmp_path / "both"], check=True, capture_output=True, text=True).stdout
    places = [float(value) for value in printed.split()]
    assert places[0] == 60 and sorted(places[1:]) == [6, 22.5]
