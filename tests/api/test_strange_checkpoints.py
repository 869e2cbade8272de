"""Checkpoints as somebody else may have written them: whatever is wrong is a message, and nothing has changed."""

import json
import struct
import tracemalloc

import numpy as np
import pytest

import tapeless
from tapeless.runtime import checkpoint

TEXT = """
model M(n = 3):
    input x: [batch, 2]
    target y: [batch]
    h = dropout(Dense(x, n, tanh), 0.1)
    output z = reshape(Dense(h, 1), [batch])
    loss mean((z - y) ** 2) as miss

train M:
    optimizer Adam(lr = cosine(peak = 0.01, warmup = 2))
    batch 4
    epochs 3
    validation 0.2
    stop_early patience = 2
"""
X = np.linspace(-1, 1, 42, dtype=np.float32).reshape(21, 2)
Y = X.sum(axis=1)


@pytest.fixture(scope="module")
def make(cache_folder):
    return lambda text=TEXT, **sizes: tapeless.load(text, **sizes).compile(cache=cache_folder, threads=1)


@pytest.fixture(scope="module")
def whole(make, tmp_path_factory):
    """A checkpoint in the second epoch: its bytes."""
    path = tmp_path_factory.mktemp("whole") / "w.safetensors"
    make().fit(X, Y, save=path, max_steps=7, progress=False)
    return path.read_bytes()


@pytest.fixture
def path(whole, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(whole)
    return path


def refused(program, path, match, **options):
    """The program can't go on from the file, and is as it was."""
    before = {name: np.array(view) for name, view in program.state.items()}
    with pytest.raises(tapeless.UserError, match=match) as caught:
        program.fit(X, Y, resume=path, progress=False, **options)
    assert program.progress is None and str(caught.value).isprintable()
    for name, view in program.state.items():
        np.testing.assert_array_equal(view, before[name])


def rewritten(path, record="training", **changes):
    """The file with other fields in a record, and a right digest."""
    tensors, metadata = checkpoint.read(path)
    value = json.loads(metadata[record])
    for name, change in changes.items():
        value[name] = (
            {**value[name], **change} if isinstance(change, dict) and isinstance(value.get(name), dict) else change
        )
    checkpoint.save(path, tensors, {**metadata, record: json.dumps(value)})


@pytest.mark.parametrize(
    "changes",
    [
        *({"position": position} for position in (-200000, -4, 1000, 3, 17, 16, 2**31, 4.0, None, True, "4",
            float("nan"))),
        *({"epochs": epochs} for epochs in (float("nan"), -1, 2, 10**12, 1.0, None)),
        *({"steps": steps} for steps in (-1, 0, 8, 2**40, float("inf"))),
        *({"rows": rows} for rows in (0, -21, 2**40, 21.0)),
        *({"sums": sums} for sums in ([], None, ["a"], [[1.0]], {"a": 1.0})),
        *({"curves": curves} for curves in ([], {"loss": 1.0}, {"loss": [1.0, 2.0]}, {"\x1b[2J": [1.0]},
            {"loss": ["a"]})),
        *({"best": best} for best in (3, None, {"key": "\x1b[2J"}, {"epoch": 2}, {"epoch": -1}, {"epoch": 0},
            {"value": None}, {"value": 10**400}, {"patience": 0}, {"value": float("nan")})),
        *({"settings": settings} for settings in (
            {"batch": 0}, {"batch": -4}, {"batch": 4.5}, {"epochs": float("nan")}, {"epochs": 2**40}, {"epochs": "9"},
            {"validation": 1}, {"validation": -0.5},
            {"validation": float("nan")}, {"patience": -2}, {"patience": 1.5}, {"monitor": 3}, {"rising": 1},
            {"validation": 10**400}, {"more": 1}, 7)),
        *({"data": data} for data in (None, 3, [])),
        *({"own_validation": own} for own in (1, None, True)),
        {"more": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_run_that_can_not_be(make, path, changes):
    rewritten(path, **changes)
    refused(
        make(), path, "the training run in the checkpoint|training can't be resumed|the weights at which its run stands"
    )


@pytest.mark.parametrize("slot", ["step", "epoch", "steps"])
def test_counters_that_can_not_be(make, path, slot):
    tensors, metadata = checkpoint.read(path)
    for value in (-1, -(2**31), 2**31 - 1):
        tensors[slot] = np.array(value, np.int32)
        checkpoint.save(path, tensors, metadata)
        refused(make(), path, f"`{slot}` can't be")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "3", "[" * 200_000, '{"a":' * 200_000, '{"a": 1, "a": 1}', "\x1b[2J"]
)
@pytest.mark.parametrize("record", ["training", "program"])
def test_a_record_that_is_none(make, path, record, text):
    tensors, metadata = checkpoint.read(path)
    checkpoint.save(path, tensors, {**metadata, record: text})
    refused(make(), path, "record of the (training run|program) in the checkpoint can't be read")


def test_a_record_without_a_digest(make, path):
    from safetensors.numpy import save

    tensors, metadata = checkpoint.read(path)
    path.write_bytes(save(tensors, {checkpoint.METADATA: json.dumps(metadata)}))
    refused(make(), path, "its record has no digest")
    with pytest.raises(tapeless.CheckpointError, match="no digest"):
        make().load(path)


def test_a_checkpoint_has_no_other_tensors(make, path):
    tensors, metadata = checkpoint.read(path)
    for name in ("more", "last/more", "\x1b[2J"):
        checkpoint.save(path, {**tensors, name: np.zeros(3, np.float32)}, metadata)
        refused(make(), path, "there is no `")
    for name in ("last/h.dense.W", "cosine.peak", "step"):
        checkpoint.save(path, {key: value for key, value in tensors.items() if key != name}, metadata)
        refused(make(), path, "missing|not those of the program")


def with_header(header, tensors=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + tensors


W = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too short"),
        (b"\0" * 7, "too short"),
        (with_header({}, length=2**63), "shorter than it says"),
        (with_header({}, length=100), "shorter than it says"),
        (with_header(b"[" * 100_000), "header can't be read"),
        (with_header(b"[" * 500_000), "header has too many parts"),
        (with_header(b"[]"), "header is no object"),
        (with_header(b'{"a": {}, "a": {}}'), "header can't be read"),
        (with_header({"__metadata__": {"a": 1}}), "metadata are no texts"),
        (with_header({"w": W}, bytes(7)), "don't fill it"),
        (with_header({"w": W}, bytes(9)), "don't fill it"),
        (with_header({"w": W, "v": W}, bytes(8)), "overlap, or leave a gap"),
        (with_header({"w": W, "v": {**W, "data_offsets": [12, 20]}}, bytes(20)), "overlap, or leave a gap"),
        *((with_header({"w": {**W, **change}}, bytes(8)), "not described as it should be") for change in (
            {"shape": [3]}, {"shape": [-2]}, {"shape": [True, 2]}, {"shape": 2}, {"shape": [2.0]},
            {"shape": [2**62, 2**62]}, {"shape": [1] * 40 + [2]},
            {"data_offsets": [8, 0]}, {"data_offsets": [0]}, {"data_offsets": [0, 8, 8]}, {"data_offsets": [-8, 0]},
            {"dtype": 3}, {"more": 1})),
        (with_header({"w": {**W, "dtype": "F3"}}, bytes(8)), "holds 'F3'"),
    ],
)  # fmt: skip
def test_headers_that_lie(make, tmp_path, content, message):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    refused(make(), path, message)
    for only in (None, "*.W"):
        with pytest.raises(tapeless.CheckpointError, match=message):
            make().load(path, only=only)
    with pytest.raises(tapeless.CheckpointError, match=message):
        checkpoint.mapped(path)


@pytest.mark.parametrize("only", [None, "*.W"])
def test_names_and_shapes_come_before_tensors(make, tmp_path, only):
    """Six gigabytes that take no place on disk are not read into memory."""
    path, count = tmp_path / "w.safetensors", 6 << 30
    header = with_header({"h.dense.W": {"dtype": "F32", "shape": [count // 4], "data_offsets": [0, count]}})
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + count)
    program = make()
    assert program.state
    tracemalloc.start()
    with pytest.raises(tapeless.CheckpointError, match="does not belong to this program"):
        program.load(path, only=only)
    refused(program, path, "does not belong to this program")
    assert checkpoint.mapped(path)["h.dense.W"][-1] == 0
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_narrow_numbers_are_converted(make, tmp_path):
    """bfloat16 and both kinds of float8 (arXiv:2209.05433, tables 1 and 2)."""
    path = tmp_path / "w.safetensors"
    for kind, stored, values in (
        ("BF16", b"\x80\x3f\x20\xc1", [1.0, -10.0]),
        ("F8_E4M3", bytes([0x38, 0x7E, 0x01, 0xFF]), [1.0, 448.0, 2.0**-9, np.nan]),
        ("F8_E5M2", bytes([0x3C, 0x7B, 0x01, 0x7C, 0xFD]), [1.0, 57344.0, 2.0**-16, np.inf, np.nan]),
    ):
        path.write_bytes(
            with_header({"w": {"dtype": kind, "shape": [len(values)], "data_offsets": [0, len(stored)]}}, stored)
        )
        np.testing.assert_array_equal(checkpoint.read(path)[0]["w"], np.array(values, np.float32))
        np.testing.assert_array_equal(checkpoint.mapped(path)["w"], np.array(values, np.float32))


def test_numbers_that_do_not_fit_are_told(make, path):
    tensors, _ = checkpoint.read(path)
    tensors["h.dense.b"] = np.full(3, 1e300)
    checkpoint.save(path, tensors, {})
    with pytest.raises(tapeless.CheckpointError, match=r"`h\.dense\.b` holds numbers that float32 does not"):
        make().load(path)


def test_a_changed_number_of_the_optimizer_is_taken_up(make, path):
    program = make(TEXT.replace("0.01", "0.02").replace("epochs 3", "epochs 4"))
    run = program.fit(X, Y, resume=path, progress=False)
    assert run.notes == ["`cosine.peak` is 0.02, as the text says now", "`epochs` is 4, as the text says now"]
    assert program.hyper["cosine.peak"] == np.float32(0.02) and run.epochs == 4
    program = make()
    program.fit(X, Y, save=path, max_steps=2, progress=False)
    program.hyper["Adam.b1"][...] = 0.5
    program.fit(X, Y, save=path, resume=True, max_steps=3, progress=False)
    program = make()
    # the text has not changed
    assert program.fit(X, Y, resume=path, progress=False).notes == [] and program.hyper["Adam.b1"] == 0.5


def test_comments_and_a_changed_import(make, tmp_path, cache_folder):
    (tmp_path / "m.tl").write_text("import 'lib.tl'\n" + TEXT.replace("tanh", "bend"))
    path = tmp_path / "w.safetensors"

    def fit(**options):
        program = tapeless.load(tmp_path / "m.tl").compile(cache=cache_folder, threads=1)
        return program.fit(X, Y, progress=False, **options)

    (tmp_path / "lib.tl").write_text("fn bend(x) = x * tanh(x)\n")
    fit(save=path, max_steps=3)
    (tmp_path / "lib.tl").write_text("# a remark\nfn bend( x ) = x*tanh(x)\n")
    assert fit(resume=path).notes == []
    (tmp_path / "lib.tl").write_text("fn bend(x) = x * sin(x)\n")
    with pytest.raises(
        tapeless.UserError,
        match=r"lib.tl: `fn bend\(x\) = x \* tanh\(x\)` there and `fn bend\(x\) = x \* sin\(x\)` here",
    ):
        fit(resume=path)
