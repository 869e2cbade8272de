"""Every stage can be read, and every stage that is a graph parses back to the identical graph and runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import tapeless
from tapeless.commands.main import STAGES, commands
from tapeless.inspector import GRAPH_STAGES, operation_text
from tapeless.interpreting import run_file
from tapeless.ir import text as ir_text

from ..sweep import sweep

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
MODELS = sorted([*EXAMPLES.glob("digits/*.tl"), *EXAMPLES.glob("models/*.tl")])


@pytest.mark.parametrize("path", sweep(MODELS, every=4), ids=lambda path: path.stem)
def test_the_text_of_every_graph_is_the_graph(path):
    inspection = tapeless.load(path).inspect()
    for stage in GRAPH_STAGES:
        graph = inspection.graph(stage)
        assert ir_text.read(inspection.stage(stage, source=False)) == graph, stage
        formulas = inspection.stage(stage)
        assert all(f"{port.role} {port.label} = {port.value.name}" in formulas for port in graph.outputs)
        assert inspection.dot(stage).startswith("digraph")


def test_every_stage_is_printed(model, tmp_path):
    inspection = model.inspect()
    for stage in STAGES:
        assert len(inspection.stage(stage).splitlines()) > 4, stage
    inspection.save(tmp_path / "digits.html")
    page = (tmp_path / "digits.html").read_text()
    assert all(f'<h2 id="{stage}">' in page for stage in (*GRAPH_STAGES, "loops", "llvm"))
    with pytest.raises(tapeless.UserError, match="there is no entry 'fly'; there are init, "):
        inspection.stage("fused", "fly")
    with pytest.raises(tapeless.UserError, match="'llvm' is not a graph"):
        inspection.graph("llvm")


def test_times_are_those_of_the_batch_that_is_asked_for():
    """Passes that only batches of one row go through are part of the stage that they belong to."""
    text = "model M:\n    input x: [batch, 3]\n    param w: [3] = 1\n    loss mean(x * w)\n"
    lines = tapeless.load(text + "train M:\n    optimizer SGD(lr = 1)\n").inspect(batch=1).stage("timing").splitlines()
    fused, code = (k for k, line in enumerate(lines) if line.startswith(("fused", "machine code")))
    assert "one_row" in [line.split()[0] for line in lines[fused:code]]


def test_the_backward_half_shows_its_source_lines(model):
    text = model.inspect().stage("backward")
    forward, backward = text.split("# ---- backward")
    for half in (forward, backward):
        assert "# 9 |     h      = Dense(image, hidden, swish)" in half
        assert "# 14 |     loss   cross_entropy(logits, label)" in half
    assert "d_logits : f32[batch, 10] = (probs - one_hot) / batch" in backward
    assert "d_h.W : f32[64, 128] = image.T @ d_h.add" in backward


def test_all_stages_compute_the_same(model, digits, tmp_path):
    generator = np.random.default_rng(0)
    inspection = model.inspect()
    data = {"image": digits[0][:70], "label": digits[1][:70], "clip_norm": np.float32(1)}
    for port in inspection.graph("backward").inputs:
        if port.role == "param":
            data[port.key] = generator.standard_normal(port.value.type.shape) * 0.1
    losses = []
    for stage in ("backward", "simplified", "fused", "scheduled"):
        path = tmp_path / f"{stage}.ir"
        path.write_text(inspection.stage(stage, source=False))
        results = run_file(path, data, None, "float64", 64, note=lambda text: None)
        losses.append(float(results["loss"]))
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-7)  # folded constants are rounded to float32


def test_the_count_of_all_examples_has_a_name(model):
    assert "data: image: f32[all, 64], label: i32[all]" in model.inspect().stage("scheduled")


def test_a_count_of_several_axes_is_divided_by_as_a_whole():
    text = "model M:\n    input x: [batch, 3]\n    metric m = mean(x)\n"
    assert "m : f32[] = sum(x) / (3*batch)" in tapeless.load(text).inspect().stage("forward")


def test_an_operation_shows_its_parts():
    text = operation_text("tanh")
    assert all(part in text for part in ("type_rule:", "derivative:", "reference:", "ops/scalar.py:"))


DERIVED = """model M:
    input x: [batch]
    param w = 2
    u = tanh(w * x) ** 2
    u_x = grad(u, x)
    loss mean(u_x ** 2)
"""


def test_derivatives_say_how_far_they_were_simplified(tmp_path):
    inspection = tapeless.load(DERIVED).inspect()
    for stage in ("forward", "backward"):
        (line,) = [line for line in inspection.stage(stage).splitlines() if "-- derivative" in line]
        found = re.fullmatch(
            r"  # 5 \|     u_x = grad\(u, x\)  -- derivative: (\d+) operations, (\d+) after simplification", line
        )
        assert found and int(found[1]) > int(found[2]) > 0
    graph = inspection.graph("forward")
    written = [
        node for node in graph.nodes if node.span and node.span.line == 5 and node.op not in ("broadcast", "constant")
    ]
    assert int(found[2]) == len(written)
    back = re.search(r"# ---- backward: .*: (\d+) operations, (\d+) after simplification", inspection.stage("backward"))
    assert back and int(back[1]) > int(back[2]) > 0


def test_the_grad_command_prints_formulas(tmp_path):
    (tmp_path / "m.tl").write_text(DERIVED)
    np.save(tmp_path / "x.npy", np.ones(4))
    line = ["grad", str(tmp_path / "m.tl"), "--data", f"x={tmp_path / 'x.npy'}", "--no-cache"]
    plain, written = (
        CliRunner().invoke(commands, [*line, *more], standalone_mode=False).output for more in ([], ["--formulas"])
    )
    assert written.endswith(plain) and plain.startswith("w ")
    assert written.lstrip().startswith("# ---- backward: ") and "d_w : f32[] = " in written
