"""Values as people have them: NumPy's, pandas', polars', torch's, Python's. Each becomes the right numbers, or is
refused with the way out.
"""

from __future__ import annotations

import decimal
import fractions

import numpy as np
import pytest

import tapeless
from tapeless.runtime.foreign import as_array

TEXT = """
model Line(units = 3, scale = 1.0):
    input  x: [batch, 2]
    target y: int[batch] < 3
    logits = Dense(scale * tanh(Dense(x, units)), 3)
    output p = softmax(logits)
    loss cross_entropy(logits, y)
"""
ROWS = [[1.0, 2.0], [3.0, 4.5], [5.0, 6.0]]


class Tensor:
    """As torch's: it is no array while it takes part in a gradient, and NumPy has not got its narrow types."""

    def __init__(self, values, dtype="torch.float32", needs=True):
        self.values, self.dtype, self.needs = np.asarray(values), dtype, needs
        self.shape, self.ndim = self.values.shape, self.values.ndim

    def detach(self):
        return Tensor(self.values, self.dtype, needs=False)

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.values.astype(np.float32), "torch.float32", self.needs)

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        if self.needs:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.values if dtype is None else self.values.astype(dtype)


PLAIN = {
    "list": ROWS,
    "tuples": tuple(map(tuple, ROWS)),
    "fortran": np.asfortranarray(ROWS),
    "strided": np.repeat(np.array(ROWS), 2, axis=0)[::2],
    "reversed": np.array(ROWS[::-1])[::-1],
    "big-endian": np.array(ROWS, ">f8"),
    "half": np.array(ROWS, np.float16),
    "long double": np.array(ROWS, np.longdouble),
    "objects": np.array(ROWS, object),
    "decimals": [[decimal.Decimal(str(value)) for value in row] for row in ROWS],
    "fractions": [[fractions.Fraction(value) for value in row] for row in ROWS],
    "memoryview": memoryview(np.array(ROWS)),
    "unmasked": np.ma.masked_array(ROWS, mask=False),
    "tensor": Tensor(ROWS),
    "narrow tensor": Tensor(ROWS, "torch.bfloat16"),
    "list of tensors": [Tensor(row) for row in ROWS],
}


@pytest.mark.parametrize("value", PLAIN.values(), ids=PLAIN)
def test_numbers_of_any_kind_are_taken_as_they_are(value):
    found = as_array("x", value)
    assert type(found) is np.ndarray and found.dtype.kind == "f"
    np.testing.assert_array_equal(found, np.array(ROWS))


def test_read_only_and_mapped_arrays_are_read(tmp_path):
    program = tapeless.load(TEXT).compile()
    expected = program.predict(ROWS)
    np.save(tmp_path / "x.npy", np.array(ROWS))
    fixed = np.array(ROWS)
    fixed.flags.writeable = False
    for value in (fixed, np.load(tmp_path / "x.npy", mmap_mode="r"), Tensor(ROWS)):
        np.testing.assert_array_equal(program.predict(value), expected)


@pytest.mark.parametrize(
    "labels", (range(3), np.array([0, 1, 2], np.uint64), np.array([0, 1, 2], object), [np.int8(0), np.uint8(1), 2])
)
def test_labels_of_any_kind(labels):
    assert as_array("y", labels).dtype.kind in "iu" and as_array("y", labels).tolist() == [0, 1, 2]


REFUSED = {
    "masked": (np.ma.masked_array(ROWS, mask=[[0, 0], [0, 1], [0, 0]]), r"masked at \[1, 1\], and 1 place.*filled"),
    "gap": (np.array([[1.0, None]], object), r"nothing \(a missing value\) at row 0, place \[1\]"),
    "text": (["a", "b"], r"holds <U1, not numbers; texts are numbered by `np.unique"),
    "text among numbers": (np.array([1, "b"], object), r"'b' at row 1, not a number"),
    "time": (np.array(["2020-01-01"], "M8[D]"), r"holds datetime64\[D\], not numbers; a time becomes a number"),
    "span": (np.array([3], "m8[s]"), r"holds timedelta64\[s\], not numbers; a span"),
    "complex": (np.array([1j]), "holds complex128, not numbers; .*`.real` and `.imag`"),
    "fields": (np.zeros(2, [("a", float), ("b", float)]), "the fields of a structured array"),
    "ragged": ([[1, 2], [3]], "is not an array: "),
    "ragged objects": (np.array([[1, 2], [3]], object), r"\[1, 2\] at row 0, not a number"),
    "generator": ((k for k in range(3)), "is generator, not an array"),
    "set": ({1, 2}, "is set, not an array"),
    "nothing": (None, "is NoneType, not an array"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_array_of_numbers_is_refused_with_its_reason(name):
    value, message = REFUSED[name]
    with pytest.raises(tapeless.DataError, match=message):
        as_array("x", value)


class TestPandas:
    @pytest.fixture(autouse=True)
    def pandas(self):
        return pytest.importorskip("pandas")

    def test_columns_of_all_types(self, pandas):
        frame = pandas.DataFrame(
            {
                "plain": [1.0, 3.0, 5.0],
                "whole": pandas.array([2, 4, 6], dtype="Int64"),
                "real": pandas.array([1.5, 2.5, 3.5], dtype="Float64"),
                "truth": pandas.array([True, False, True], dtype="boolean"),
                "bool": [False, True, False],
                "graded": pandas.Categorical([10, 30, 20]),
            }
        )
        found = as_array("x", frame)
        np.testing.assert_array_equal(found, [[1, 2, 1.5, 1, 0, 10], [3, 4, 2.5, 0, 1, 30], [5, 6, 3.5, 1, 0, 20]])
        assert as_array("y", frame["whole"]).dtype.kind == "i" and as_array("y", frame["truth"]).dtype.kind == "b"
        twice = frame[["plain", "whole"]].set_axis(["same", "same"], axis=1)
        np.testing.assert_array_equal(as_array("x", twice), [[1, 2], [3, 4], [5, 6]])

    @pytest.mark.parametrize(("dtype", "value"), (("Int64", 1), ("Float64", 1.5), ("boolean", True)))
    def test_missing_values_are_told_by_column_and_row(self, pandas, dtype, value):
        frame = pandas.DataFrame({"a": [1.0, 2.0], "b": pandas.array([value, None], dtype=dtype)})
        with pytest.raises(
            tapeless.DataError,
            match=r"`x: b` has nothing .* at row 1.*fillna|`x: b` has nan at row 1|`x` has nan at row 1",
        ):
            tapeless.load(TEXT).compile().predict({"x": frame})

    def test_texts_and_times_are_refused(self, pandas):
        with pytest.raises(tapeless.DataError, match=r"`x: kind` .*not .*number"):
            as_array("x", pandas.DataFrame({"a": [1.0], "kind": ["cat"]}))
        with pytest.raises(
            tapeless.DataError, match=r"'cat' at row 0, not a number; categories are numbered by `.cat.codes`"
        ):
            as_array("x", pandas.Series(["cat", "dog"], dtype="category"))
        with pytest.raises(tapeless.DataError, match=r"a time becomes a number"):
            as_array("x", pandas.DataFrame({"a": [1.0], "when": pandas.to_datetime(["2020-01-01"])}))


def test_polars_tables():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]})
    np.testing.assert_array_equal(as_array("x", frame), [[1, 0.5, 1], [2, 1.5, 0]])
    with pytest.raises(tapeless.DataError, match=r"not .*number"):
        as_array("x", polars.DataFrame({"a": ["text"], "b": [1]}))


def test_numpy_scalars_as_sizes_and_settings(tmp_path):
    x, y = np.array(ROWS * 8), np.array([0, 1, 2] * 8)
    plain = tapeless.load(TEXT, units=4, scale=0.5).compile(batch=8, seed=3, threads=1, cache=tmp_path)
    numpy = tapeless.load(TEXT, units=np.int64(4), scale=np.array(0.5)).compile(
        batch=np.int32(8), seed=np.uint64(3), threads=np.array(1), cache=tmp_path
    )
    plain.fit(x, y, epochs=3, validation=0.25, patience=2, monitor="loss", rising=False)
    run = numpy.fit(
        x, y, epochs=np.int8(3), validation=np.float32(0.25), patience=np.array(2), monitor=np.str_("loss"),
        rising=np.False_,
        save=tmp_path / "w.safetensors", max_steps=np.int64(1000), progress=np.False_,
    )  # fmt: skip
    np.testing.assert_array_equal(plain.vector(), numpy.vector())
    assert numpy.fit(x, y, resume=tmp_path / "w.safetensors").epochs == run.epochs


@pytest.mark.parametrize("size", ("wide", None, [3], np.array([3]), b"3"))
def test_what_is_no_size_is_refused(size):
    with pytest.raises(tapeless.UserError, match="`units` is a number, not "):
        tapeless.load(TEXT, units=size)
