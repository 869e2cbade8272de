"""Control over training: frozen and shared parameters, parameters from elsewhere, several losses and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

import tapeless
from tapeless.commands.main import commands

MODEL = """
model Two:
    input  x: [batch, 3]
    target y: [batch]
    param shift: [3] = 0.5 {frozen}
    frozen param scale = 2.0
    use encoder = Dense(units = 4, act = tanh)
    a = encoder(x + shift)
    b = encoder(scale * x)
    z = sum(Dense(a * b, 1), axis = 1)
    output z
    output a
    loss mean((z - y) ** 2) as fit
    loss 0.25 * mean(a ** 2) as size
    loss 0.5 * mean(abs(b)) as spread

train Two:
    optimizer SGD(lr = 0.1)
    epochs 3
    batch 4
"""


@pytest.fixture
def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(8, 3)), "y": rng.normal(size=8)}


def program(text: str = MODEL.format(frozen=""), **options) -> tapeless.Program:
    return tapeless.load(text, **options).compile(dtype="float64", seed=1)


def test_shared_parameters_get_the_sum_of_their_gradients(data):
    shared = program()
    assert [name for name in shared.parameters if name.startswith("encoder")] == ["encoder.W", "encoder.b"]
    apart = program(
        MODEL.format(frozen="").replace("b = encoder(", "b = Dense(").replace("(scale * x)", "(scale * x, 4, tanh)")
    )
    for name in ("W", "b"):
        apart.parameters[f"b.{name}"][...] = apart.parameters[f"encoder.{name}"][...] = shared.parameters[
            f"encoder.{name}"
        ]
    for name, value in shared.parameters.items():
        if not name.startswith("encoder"):
            apart.parameters[name][...] = value
    one, two = shared.gradients(data), apart.gradients(data)
    for name in ("W", "b"):
        np.testing.assert_allclose(one[f"encoder.{name}"], two[f"encoder.{name}"] + two[f"b.{name}"], rtol=1e-12)


def test_several_losses_add_with_their_weights_and_several_outputs_come_by_name(data):
    made = program()
    values, out = made.evaluate(data), made.predict({"x": data["x"]})
    assert set(out) == {"z", "a"} and out["z"].shape == (8,) and out["a"].shape == (8, 4)
    assert values["loss"] == pytest.approx(values["fit"] + values["size"] + values["spread"])
    assert values["fit"] == pytest.approx(np.mean((out["z"] - data["y"]) ** 2))
    assert values["size"] == pytest.approx(0.25 * np.mean(out["a"] ** 2))
    parts = {}
    for name in ("fit", "size", "spread"):
        lines = [line for line in MODEL.format(frozen="").split("\n") if " as " not in line or f"as {name}" in line]
        parts[name] = program("\n".join(lines))
        parts[name].set_vector(made.vector())
    whole = made.gradients(data)
    for name, gradient in whole.items():
        np.testing.assert_allclose(
            gradient, sum(part.gradients(data)[name] for part in parts.values()), rtol=1e-12, atol=1e-15
        )


@pytest.mark.parametrize("trailing", (False, True))
def test_frozen_parameters_have_no_gradient_and_never_change(data, trailing):
    text = MODEL.format(frozen="frozen" if trailing else "")
    made = program(text if trailing else text.replace("param shift", "frozen param shift"))
    before = {name: view.copy() for name, view in made.parameters.items()}
    assert made.gradients(data).keys() == {"encoder.W", "encoder.b", "z.dense.W", "z.dense.b"}
    made.fit(data)
    for name, view in made.parameters.items():
        assert np.array_equal(view, before[name]) == (name in ("shift", "scale")), name


@pytest.mark.parametrize("freeze", ("encoder.*", ["encoder.W", "encoder.b"]))
def test_freezing_from_python(data, freeze):
    made, free = program(freeze=freeze), program()
    assert made.gradients(data).keys() == {"shift", "z.dense.W", "z.dense.b"}
    before = made.parameters["encoder.W"].copy()
    made.fit(data, epochs=1)
    free.fit(data, epochs=1)
    np.testing.assert_array_equal(made.parameters["encoder.W"], before)
    assert not np.array_equal(free.parameters["encoder.W"], before)


def test_freezing_what_is_not_there():
    with pytest.raises(tapeless.UserError, match=r"(?s)E0602.*'encodr.\*' matches no parameter.*Did you mean 'encoder"):
        program(freeze="encodr.*").vector()


def test_loading_some_parameters_by_name(data, tmp_path: Path):
    file = tmp_path / "pretrained.safetensors"
    W = np.arange(12, dtype=np.float32).reshape(3, 4)
    save_file({"encoder.W": W, "encoder.b": np.ones(4, np.float32), "head.W": np.ones((9, 9))}, file)
    made = program()
    before = made.parameters["z.dense.W"].copy()
    made.load(file, only="encoder.*")
    np.testing.assert_array_equal(made.parameters["encoder.W"], W)
    np.testing.assert_array_equal(made.parameters["z.dense.W"], before)


@pytest.mark.parametrize(
    ("only", "tensors", "message"),
    (
        ("encoder.*", {"encoder.W": (3, 4)}, "`encoder.b` is missing"),
        ("encoder.b", {"encoder.b": (5,)}, r"`encoder.b` is \[5\] there and \[4\] here"),
        ("decoder.*", {"decoder.b": (5,)}, "'decoder.\\*' matches no parameter; there are shift, scale, encoder.W"),
    ),
)
def test_loading_what_does_not_fit_changes_nothing(tmp_path: Path, only, tensors, message):
    file = tmp_path / "pretrained.safetensors"
    save_file({name: np.ones(shape) for name, shape in tensors.items()}, file)
    made = program()
    before = made.vector()
    with pytest.raises(tapeless.UserError, match=message):
        made.load(file, only=only)
    np.testing.assert_array_equal(made.vector(), before)


def test_on_the_command_line(data, tmp_path: Path):
    (tmp_path / "m.tl").write_text(MODEL.format(frozen=""))
    np.savez(tmp_path / "d.npz", **data)
    W = np.arange(12, dtype=np.float32).reshape(3, 4) / 12
    save_file({"encoder.W": W, "encoder.b": np.ones(4, np.float32)}, tmp_path / "pre.safetensors")
    line = ["train", str(tmp_path / "m.tl"), "--data", str(tmp_path / "d.npz"), "--no-cache", "--quiet"]
    given = ["--load", f"encoder.*={tmp_path / 'pre.safetensors'}", "--freeze", "encoder.W", "--freeze", "shift"]
    result = CliRunner().invoke(
        commands, [*line, *given, "--out", str(tmp_path / "w.safetensors")], standalone_mode=False
    )
    assert result.exception is None, result.exception
    trained = load_file(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(trained["encoder.W"], W)
    np.testing.assert_array_equal(trained["shift"], np.full(3, 0.5, np.float32))
    assert not np.array_equal(trained["encoder.b"], np.ones(4))
    wrong = CliRunner().invoke(commands, [*line, "--load", "pre.safetensors"], standalone_mode=False)
    assert "PATTERN=FILE" in str(wrong.exception)
