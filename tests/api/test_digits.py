"""The digits model from its text to trained weights, through the public face alone."""

import numpy as np
import pytest

import tapeless
from tapeless.runtime.call import Call


def weights(program):
    return b"".join(program.state[name].tobytes() for name in program.state)


def test_training_learns_the_digits(model, digits, cache_folder):
    image, label = digits
    program = model.compile(seed=1, cache=cache_folder)
    run = program.fit(image[:1400], label[:1400], epochs=12)
    assert run.curves["validation_accuracy"][-1] > 0.93
    assert program.evaluate(image[1400:], label[1400:])["accuracy"] > 0.85  # other hands than those of the first rows
    assert set(run.curves) == {"loss", "accuracy", "validation_loss", "validation_accuracy"}
    probabilities = program.predict(image[1400:])
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    accuracy = np.mean(probabilities.argmax(1) == label[1400:])
    assert accuracy == pytest.approx(program.evaluate(image[1400:], label[1400:])["accuracy"], abs=1e-6)


def test_one_seed_gives_the_same_bytes_on_any_number_of_threads(model, digits, cache_folder):
    def trained(threads, seed=7):
        program = model.compile(seed=seed, threads=threads, cache=cache_folder)
        program.fit(*digits, epochs=2)
        return weights(program)

    first = trained(1)
    assert all(trained(threads) == first for threads in (1, 2, 3, 4, None))
    assert trained(1, seed=8) != first


def test_a_row_is_predicted_alike_in_any_company(model, digits, cache_folder):
    program = model.compile(seed=2, cache=cache_folder)
    program.fit(*digits, epochs=1)
    whole = program.predict(digits[0])
    for rows in (1, 7, 64, 65, 1797):
        np.testing.assert_array_equal(program.predict(digits[0][:rows]), whole[:rows])
    for row in (0, 63, 64, 1796):
        np.testing.assert_array_equal(program.predict(digits[0][row : row + 1])[0], whole[row])


def test_gradients_against_central_differences(model, digits, cache_folder):
    image, label = digits[0][:50], digits[1][:50]
    program = model.compile(seed=3, dtype="float64", cache=cache_folder)
    start = program.vector()
    _, gradient = program.value_and_grad(start, image, label)
    generator = np.random.default_rng(0)
    for _ in range(4):
        direction = generator.standard_normal(start.shape)
        direction /= np.linalg.norm(direction)
        step = 1e-5
        high, low = (program.value_and_grad(start + sign * step * direction, image, label)[0] for sign in (1, -1))
        assert (high - low) / (2 * step) == pytest.approx(gradient @ direction, rel=1e-6)
    program.set_vector(start)
    named = program.gradients(image, label)
    assert {name: value.shape for name, value in named.items()} == {
        "h.W": (64, 128), "h.b": (128,), "logits.W": (128, 10), "logits.b": (10,),
    }  # fmt: skip
    np.testing.assert_array_equal(np.concatenate([value.ravel() for value in named.values()]), gradient)


def test_gradients_over_more_rows_than_a_batch(model, digits, cache_folder):
    program = model.compile(seed=3, dtype="float64", cache=cache_folder)
    program.state["step"][...] = 0
    whole = program.gradients(digits[0][:300], digits[1][:300])
    assert program.manifest.capacity == 64
    assert np.isfinite(np.concatenate([value.ravel() for value in whole.values()])).all()


def test_a_step_by_hand_is_a_step_of_training(model, digits, cache_folder):
    image, label = digits[0][:64], digits[1][:64]
    one, two = (model.compile(seed=4, cache=cache_folder) for _ in range(2))
    one.state["steps"][...] = two.state["steps"][...] = 10
    examples = one.bind("train_step", image, label)
    Call(one.image("train"), "train_step", one.memory(), 1, examples.arrays).run(0, 64)
    two.apply(two.gradients(image, label))
    for name in one.parameters:
        np.testing.assert_allclose(one.parameters[name], two.parameters[name], rtol=2e-4, atol=2e-6)
    assert one.state["step"] == two.state["step"] == 1


def test_saving_and_loading(model, digits, cache_folder, tmp_path):
    program = model.compile(seed=5, cache=cache_folder)
    program.fit(*digits, epochs=1)
    program.save(tmp_path / "w.safetensors")
    other = model.compile(seed=6, cache=cache_folder)
    other.load(tmp_path / "w.safetensors")
    assert weights(program) == weights(other)
    other.save(tmp_path / "again.safetensors")
    assert (tmp_path / "w.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    program.fit(*digits, epochs=1)
    other.fit(*digits, epochs=1)
    assert weights(program) == weights(other)
    wider = tapeless.load(model.file, hidden=96).compile(cache=cache_folder)
    with pytest.raises(tapeless.CheckpointError, match=r"`h.W` is \[64, 128\] there and \[64, 96\] here"):
        wider.load(tmp_path / "w.safetensors")


def test_data_are_checked_where_they_enter(model, digits, cache_folder):
    program = model.compile(cache=cache_folder)
    with pytest.raises(tapeless.DataError, match="declared `< 10`"):
        program.fit(digits[0], digits[1] + 1)
    with pytest.raises(tapeless.DataError, match=r"does not fit an array of shape \[1797, 8, 8\]"):
        program.predict(digits[0].reshape(-1, 8, 8))


def test_hyper_parameters_change_without_compiling(model, digits, cache_folder):
    program = model.compile(seed=1, cache=cache_folder)
    name = next(name for name in program.hyper if name.endswith("peak") or name.endswith("lr"))
    program.hyper[name][...] = 0
    before = program.vector()
    program.fit(*digits, epochs=1, validation=0, patience=0)
    np.testing.assert_array_equal(program.vector(), before)


def test_a_loss_that_is_not_finite_names_step_and_line(model, digits, cache_folder):
    program = model.compile(seed=1, cache=cache_folder)
    program.parameters["h.W"][...] = np.nan
    with pytest.raises(tapeless.TrainingStopped, match="not finite at step 1, in epoch 1"):
        program.fit(*digits, epochs=1)
    assert program.state["step"] == 0


def test_a_second_start_imports_no_compiler(model, digits, cache_folder):
    import subprocess
    import sys

    model.compile(seed=1, cache=cache_folder).fit(*digits, epochs=1)
    code = f"""
import sys, numpy, tapeless
data = numpy.load({str(model.file).replace("digits.tl", "digits.npz")!r})
program = tapeless.load({model.file!r}).compile(seed=1, cache={str(cache_folder)!r})
program.fit(data["image"], data["label"], epochs=1)
# The language's lexer finds what the model imports; no more of the compiler is needed.
heavy = {{"sympy", "networkx", "click", "rich", "tapeless.compiler.language.parser", "tapeless.compiler.model"}}
heavy |= {{"tapeless.codegen", "tapeless.ir.ops"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
