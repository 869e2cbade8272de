"""Models of characters that write: from Python, and by `tapeless sample`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tapeless
from tapeless.commands.main import main
from tapeless.runtime import sampling
from tapeless.runtime.errors import DataError, UserError

CYCLE = "abcä\n"
CONTEXT = 8
HEAD = (
    f"model Text(t = {CONTEXT}):\n    input text: int[batch, t] < 5\n    target next: int[batch, t] < 5\n    x = "
    "Embedding(text, 5, 16)\n"
)
TAIL = (
    "    logits = Dense(h, 5)\n    output probs = softmax(logits)\n    loss cross_entropy(logits, next)\ntrain "
    "Text:\n    optimizer Adam(lr = 0.02)\n"
)
MODELS = {
    "recurrent": HEAD + "    h = GRU(x, 16)\n" + TAIL,
    "attending": HEAD + "    h = TransformerBlock(LearnedPositions(x), 2, causal = true)\n" + TAIL,
}


def windows() -> dict[str, np.ndarray]:
    """The cycle from each of its characters on."""
    code = (np.arange(5)[:, None] + np.arange(CONTEXT + 1)) % 5
    return {"text": np.tile(code[:, :-1], (20, 1)), "next": np.tile(code[:, 1:], (20, 1)), "alphabet": np.array(CYCLE)}


@pytest.fixture(scope="module", params=MODELS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The model's text and its weights."""
    folder = tmp_path_factory.mktemp(request.param)
    path, weights = folder / "text.tl", folder / "text.safetensors"
    path.write_text(MODELS[request.param])
    program = tapeless.load(path).compile(batch=20, cache=False)
    program.fit(windows(), epochs=40, validation=0, progress=False)
    program.save(weights)
    return path, weights


@pytest.fixture(autouse=True)
def cached(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
    monkeypatch.setenv("TAPELESS_CACHE", str(cache_folder))


def called(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capfd.readouterr()
    return ended.value.code, captured.out, captured.err


def test_it_goes_on_past_its_context(trained: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    path, weights = trained
    for prompt in ("b", (CYCLE * 4)[1:13]):
        code, out, _ = called(
            capfd, "sample", path, "--weights", weights, "--prompt", prompt, "--length", 30, "--temperature", 0.1
        )
        assert code == 0
        assert out == (CYCLE * 10)[1 : 1 + len(prompt) + 30] + "\n"


def test_seeds_decide(trained: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    path, weights = trained
    written = [
        called(capfd, "sample", path, "--weights", weights, "--temperature", 9, "--seed", seed)[1] for seed in (1, 1, 2)
    ]
    assert written[0] == written[1] != written[2]
    assert len(written[0]) == 1 + 300 + 1 and set(written[0]) <= set(CYCLE)


def test_alphabets(trained: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, weights = trained
    sample = ("sample", path, "--weights", weights, "--length", 3, "--top-k", 1)
    other = tmp_path / "letters.txt"
    other.write_text("vwxyz", "utf-8")
    assert called(capfd, *sample, "--alphabet", other, "--prompt", "w")[:2] == (0, "wxyz\n")
    other.write_text("vwxyy", "utf-8")
    for arguments, message in (
        (("--alphabet", other), "the model knows 5 characters, and the alphabet has 4 different ones among 5"),
        (("--alphabet", tmp_path / "none"), "can't be read"),
        (("--prompt", "a?b!"), "'!', '?' are not in the model's alphabet"),
        (("--prompt", ""), "it is empty"),
    ):
        code, out, err = called(capfd, *sample, *arguments)
        assert (code, out) == (2, "") and message in err

    code, _, err = called(capfd, *sample, "--temperature", "nan", "--prompt", "a")
    assert code == 2 and "a temperature is 0 or more, not nan" in err

    program = tapeless.load(path).compile(cache=False)
    program.load(weights)
    assert program.alphabet == CYCLE
    program.alphabet = None
    program.save(tmp_path / "bare.safetensors")
    code, _, err = called(capfd, "sample", path, "--weights", tmp_path / "bare.safetensors")
    assert code == 2 and "does not say which characters the model's numbers are" in err


def test_the_command_keeps_the_alphabet_of_its_data(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.tl").write_text(MODELS["recurrent"])
    np.savez(tmp_path / "text.npz", **{**windows(), "alphabet": np.array(list(CYCLE))})
    weights = tmp_path / "w.safetensors"
    called(
        capfd,
        "train",
        tmp_path / "text.tl",
        "--data",
        tmp_path / "text.npz",
        "--epochs",
        1,
        "--out",
        weights,
        "--quiet",
    )
    assert called(capfd, "sample", tmp_path / "text.tl", "--weights", weights)[0] == 0
    called(
        capfd,
        "train",
        tmp_path / "text.tl",
        "--data",
        tmp_path / "text.npz",
        "--epochs",
        2,
        "--resume",
        weights,
        "--quiet",
    )
    assert called(capfd, "sample", tmp_path / "text.tl", "--weights", weights)[0] == 0


def test_several_texts_at_once(trained: tuple[Path, Path]) -> None:
    path, weights = trained
    program = tapeless.load(path).compile(cache=False)
    program.load(weights)
    beginnings = np.array([[0, 1], [3, 4], [2, 3]])
    drawn = np.stack(list(sampling.continuation(program, beginnings, 20, temperature=0)), axis=1)
    assert (drawn == (beginnings[:, 1:] + np.arange(1, 21)) % 5).all()
    for wrong in ([], [0, 1], [[]]):
        with pytest.raises(DataError, match="beginnings are rows of one character or more"):
            next(sampling.continuation(program, wrong, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "    output y = Dense(GRU(x, 4), 5)\n", "`y` holds no probabilities"),
        (HEAD + "    output y = softmax(Dense(GRU(x, 4), 6))\n", "Text is no model of characters"),
        (
            "model Text:\n    input x: [batch, 4, 2]\n    output y = softmax(RNN(x, 2))\n",
            "Text is no model of characters",
        ),
    ],
)
def test_other_models_do_not_write(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        next(sampling.continuation(tapeless.load(text).compile(cache=False), [[0]], 1))


def test_draws_follow_the_probabilities() -> None:
    generator = np.random.default_rng(0)
    probabilities = np.tile([0.0, 0.5, 0.0, 0.3, 0.2, 0.0], (20000, 1))

    def shares(temperature: float, top_k: int | None = None) -> np.ndarray:
        drawn = sampling._drawn(probabilities, temperature, top_k, generator)
        return np.bincount(drawn, minlength=6) / len(drawn)

    np.testing.assert_allclose(shares(1), probabilities[0], atol=0.02)
    np.testing.assert_allclose(shares(0.5), probabilities[0] ** 2 / (probabilities[0] ** 2).sum(), atol=0.02)
    np.testing.assert_allclose(shares(1, 2), [0, 0.625, 0, 0.375, 0, 0], atol=0.02)
    assert shares(0)[1] == shares(1, 1)[1] == 1
    assert shares(50)[[0, 2, 5]].sum() == 0
