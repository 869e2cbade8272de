"""Data on their way in: what is accepted, what is refused, and in which words."""

import numpy as np
import pytest

from tapeless.runtime import data
from tapeless.runtime.errors import DataError
from tapeless.runtime.manifest import TensorSpec

F32, I32 = np.dtype(np.float32), np.dtype(np.int32)
IMAGE = TensorSpec("image", F32, ("batch", 4), "input")
LABEL = TensorSpec("label", I32, ("batch",), "target", 10)
PAIRS = TensorSpec("pairs", F32, ("2*batch", 3), "input")
COLUMN = TensorSpec("y", F32, ("batch", 1), "target")


def test_arrays_become_contiguous_and_of_the_declared_type():
    image = np.arange(24, dtype=np.float64).reshape(4, 6)[:, ::-1][:, :4]
    examples = data.bind([IMAGE, LABEL], image, [1, 2, 3, 9])
    assert examples.rows == 4
    assert [a.dtype for a in examples.arrays] == [F32, I32]
    assert all(a.flags.c_contiguous for a in examples.arrays)
    np.testing.assert_array_equal(examples.arrays[0], image)


def test_inputs_by_name_and_multiples_of_rows():
    examples = data.bind([IMAGE, PAIRS], {"image": np.zeros((3, 4)), "pairs": np.zeros((6, 3)), "more": 1})
    assert examples.rows == 3
    assert data.bind([COLUMN], None, [1, 2]).arrays[0].shape == (2, 1)
    assert data.bind([LABEL], None, [[1.0], [2.0]]).arrays[0].shape == (2,)


@pytest.mark.parametrize(
    ("specs", "inputs", "targets", "message"),
    [
        ([IMAGE], np.zeros((3, 5)), None, r"`image: \[batch, 4\]` does not fit an array of shape \[3, 5\]"),
        ([IMAGE], np.zeros((3, 2, 2)), None, r"`.reshape\(-1, 4\)` would make it fit"),
        ([IMAGE], [["a"] * 4], None, "holds <U1, not numbers"),
        ([IMAGE], [[1, 2], [3]], None, "is not an array"),
        ([IMAGE], [[1, 2, np.nan, 3]], None, r"`image` has nan at row 0, place \[0, 2\]"),
        ([IMAGE], [[1, 2, 1e300, 3]], None, "has 1e.300 at row 0"),
        ([IMAGE], np.zeros((0, 4)), None, "empty"),
        ([IMAGE], {"picture": np.zeros((1, 4))}, None, r"the input `image: \[batch, 4\]` is missing; found `picture`"),
        ([IMAGE, PAIRS], np.zeros((3, 4)), None, "2 inputs; give a dict with `image`, `pairs`"),
        ([IMAGE, PAIRS], {"image": np.zeros((3, 4)), "pairs": np.zeros((5, 3))}, None, "not a multiple of 2"),
        ([IMAGE], np.zeros((1, 4)), [1], "the program has no target"),
        ([LABEL], None, [3, 10], r"`label` has 10 at row 1; it is declared `< 10`, so its values run from 0 to 9"),
        ([LABEL], None, [-1], "`label` has -1 at row 0"),
        ([LABEL], None, [1.5], "`label` has 1.5 at row 0; it holds integers"),
        ([LABEL], None, [np.nan], "it holds integers"),
        ([TensorSpec("n", I32, ("batch",))], {"n": [2**40]}, None, "does not fit into int32"),
        (
            [TensorSpec("f", np.dtype(np.bool_), ("batch",))],
            {"f": [0, 1, 2]},
            None,
            "`f` has 2 at row 2; it holds truths, as 0 or 1",
        ),
        ([TensorSpec("f", np.dtype(np.bool_), ("batch",))], {"f": [0, np.nan]}, None, "`f` has nan at row 1"),
    ],
)
def test_what_does_not_fit_is_refused(specs, inputs, targets, message):
    with pytest.raises(DataError, match=message):
        data.bind(specs, inputs, targets)


def test_a_sum_that_overflows_is_no_fault():
    data.bind([IMAGE], np.full((8, 4), 3e38, np.float32))


def test_files(tmp_path):
    np.savez(tmp_path / "d.npz", image=np.ones((2, 4)), label=[1, 2])
    assert set(data.load(tmp_path / "d.npz")) == {"image", "label"}
    np.save(tmp_path / "image.npy", np.ones((2, 4)))
    assert data.load(tmp_path / "image.npy")["image"].shape == (2, 4)
    order = [1, 0, 10, *range(2, 10)]
    (tmp_path / "d.csv").write_text("\n".join(",".join(map(str, line)) for line in (
        ["label", *(f"image.{k}" for k in order)], [3, *order], [4, *(k + 0.5 for k in order)])))  # fmt: skip
    table = data.load(tmp_path / "d.csv")
    np.testing.assert_array_equal(table["image"], [np.arange(11), np.arange(11) + 0.5])
    np.testing.assert_array_equal(table["label"], [3, 4])
    chosen = data.load(tmp_path / "d.csv", {"x": ["image.0", "label"], "y": ["image.1"]})
    np.testing.assert_array_equal(chosen["x"], [[0, 3], [0.5, 4]])
    np.testing.assert_array_equal(chosen["y"], [1, 1.5])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.npz", None, "there is no data file"),
        ("d.npz", b"junk", "can't be read as .npz"),
        ("d.npy", b"junk", "can't be read as .npy"),
        ("d.txt", b"1 2", "data come as .npz, .npy, .csv or .safetensors, not as .txt"),
        ("d.csv", b"", "is empty"),
        ("d.csv", b"a,b\n1,2\n3\n", "line 3: 1 values for 2 columns"),
        ("d.csv", b"a,b\n1,two\n", "line 2: 'two' in column 'b' is not a number"),
    ],
)
def test_broken_files(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        np.asarray(data.load(tmp_path / name)["b"])


def test_an_unknown_column(tmp_path):
    (tmp_path / "d.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="has no column 'c'; it has `a`, `b`"):
        data.load(tmp_path / "d.csv", {"x": ["c"]})
