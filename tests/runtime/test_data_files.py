"""Files of data as other programs, and other people, write them: what does not matter is let be, what is wrong is
told with a way out.
"""

import io
import zipfile

import numpy as np
import pytest

from tapeless.runtime import data
from tapeless.runtime.errors import DataError
from tapeless.runtime.manifest import TensorSpec

F32 = np.dtype(np.float32)
X = TensorSpec("x", F32, ("batch", 2), "input")
Y = TensorSpec("y", F32, ("batch",), "target")


def taken(path, **columns):
    return data.bind([X, Y], data.load(path, columns or None)).arrays


@pytest.mark.parametrize(
    "text",
    [
        "x.0,x.1,y\n1,2,3\n4,5,6\n",
        "\ufeffx.0,x.1,y\r\n1,2,3\r\n4,5,6\r\n",
        "x.1,x.2,y\n1,2,3\n\n4,5,6",
        "x.0, x.1 ,y,\n1, 2 ,3,\n4,5,6,\n",
        "x.0,x.1,y\n1,2,3,\n4,5,6,\n",
        "x.0,x.1,y,\n1,2,3\n4,5,6\n",
        '"x.0","x.1",y,name\n1,"2",3,"a\nb, ""c"""\n4,5,6,\n',
        "x.0,x.1,y,when,when,z.0,z.2\n1,2,3,2020-01-01,,a,\n4,5,6,,,,\n",
        "y,x.1,x.0\n3,2e0,+1\n6,5.,4\n",
    ],
)
def test_what_does_not_matter(tmp_path, text):
    (tmp_path / "d.csv").write_bytes(text.encode())
    x, y = taken(tmp_path / "d.csv")
    np.testing.assert_array_equal(x, [[1, 2], [4, 5]])
    np.testing.assert_array_equal(y, [3, 6])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x.0,x.1,y\n1,2,3\n4,a,6\n", "line 3: 'a' in column 'x.1' is not a number. Words are numbered"),
        ('x.0,x.1,y,name\n1,2,3,"a\nb\nc"\n4,a,6,\n', "line 5: 'a' in column 'x.1'"),
        ("x.0,x.1,y\n\n\n1,2,3\n\n4,,6\n", "line 6: '' in column 'x.1' is not a number: it is empty"),
        ("x.0,x.1,y\n1_000,2,3\n", "'1_000' in column 'x.0' is not a number: digits are not set apart"),
        ('x.0,x.1,y\n"1,000",2,3\n', "the decimal sign is a point"),
        *(
            (f"x.0,x.1,y\n1,2,{word}\n", f"'{word}' in column 'y' is not a number: it is a missing value")
            for word in ("NA", "null", "None", "-")
        ),
        *(
            (f"x.0,x.1,y\n1,2,{word}\n", f"'{word}' in column 'y' is not a number: units")
            for word in ("$5", "5%", "2020-01-01")
        ),
        ("x.0,x.1,y\n1,2,True\n", "'True' in column 'y' is not a number: truth is written as 1 and 0"),
        ("x.0,x.1,y\n١,2,3\n", "'١' in column 'x.0' is not a number"),
        ("x.0,x.2,y\n1,2,3\n", "the column `x.1` is missing: there is `x.2`. `--columns x=x.0,...`"),
        ("x.2,x.3,y\n1,2,3\n", "the column `x.0` is missing"),
        ("x.0,x.00,y\n1,2,3\n", "two columns are called `x.0`"),
        ("x.0,x.1,y,y\n1,2,3,4\n", "two columns are called `y`"),
        ("x.0;x.1;y\n1;2;3\n", "separated by semicolons. They are separated by commas here: `pandas.read_csv("),
        ("x.0\tx.1\ty\n1\t2\t3\n", "separated by tabs"),
        ("1,2,3\n4,5,6\n", "line 1: 1, 2, 3 are numbers; the first line names the columns"),
        ("x.0,x.1,y\n1,2,3\n4,5\n", "line 3: 2 values for 3 columns"),
        ('x.0,x.1,y,n\n1,2,3,"a\nb"\n4,5\n', "line 4: 2 values for 4 columns"),
        ("x.0,x.1,y\n1,2,3\n4,5,6,7\n", "line 3: 4 values for 3 columns"),
        ('x.0,x.1,y\n1,2,3\n4,"5,6\n', "line 3: unexpected end of data; a quote"),
        ("", "is empty"),
        ("x.0,x.1,y\n1,nan,3\n", r"`x` has nan at row 0"),
    ],
)
def test_what_is_told(tmp_path, text, message):
    (tmp_path / "d.csv").write_bytes(text.encode())
    with pytest.raises(DataError) as caught:
        taken(tmp_path / "d.csv")
    assert message in str(caught.value)


def test_columns_by_name_and_other_encodings(tmp_path):
    (tmp_path / "d.csv").write_text("a,x.0,x.2\n1,2,3\n")
    assert taken(tmp_path / "d.csv", x=["x.0", "x.2"], y=["a"])[0].tolist() == [[2, 3]]
    (tmp_path / "d.csv").write_bytes("x.0,x.1,y,größe\n1,2,3,4\n".encode("latin-1"))
    with pytest.raises(DataError, match="not a text in UTF-8; other encodings are converted"):
        taken(tmp_path / "d.csv")
    (tmp_path / "d.csv").write_text("x.0,\x1b[2J\n1,a\n")
    with pytest.raises(DataError) as caught:
        taken(tmp_path / "d.csv")
    assert "\x1b" not in str(caught.value)


# -- archives


def archived(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def npy(shape, content, descr="<f4"):
    """An array as `.npy`, with a shape that may lie."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": descr})
    return file.getvalue() + content


def test_an_archive_is_read_as_far_as_it_is_wanted(tmp_path):
    path = tmp_path / "d.npz"
    np.savez_compressed(
        path,
        x=np.ones((3, 2)),
        y=np.asfortranarray(np.arange(3.0)),
        names=np.array(["a", "b"]),
        more=np.array([{}], object),
    )
    x, y = taken(path)
    assert x.dtype == F32 and y.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="`names` holds <U1, not numbers"):
        data.bind([TensorSpec("names", F32, ("batch",), "input")], data.load(path))
    for dtype in ("f", "b"):
        with pytest.raises(DataError, match=r"can't be read as .npz|holds object, not numbers"):
            np.asarray(data.load(path)["more"], dtype)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """A gigabyte of zeros in a megabyte: too much for the declared shape, or nobody's."""
    zeros = np.zeros(1 << 18, np.float32).tobytes()
    path = tmp_path / "d.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bomb.npy", "w", force_zip64=True) as file,
    ):
        file.write(npy((1 << 10, 1 << 18), b""))
        for _ in range(64):  # as many as a test has time for; the rest is claimed
            file.write(zeros)
    with pytest.raises(DataError, match="`bomb` is smaller than it says"):
        data.load(path)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bomb.npy", "w", force_zip64=True) as file,
    ):
        file.write(npy((64, 1 << 18), b""))
        for _ in range(64):
            file.write(zeros)
    monkeypatch.setattr(np.lib.format, "read_array", None)  # nothing is read
    found = data.load(path)
    with pytest.raises(DataError, match="does not fit an array of shape"):
        data.bind([TensorSpec("bomb", F32, ("batch", 4), "input")], found)


@pytest.mark.parametrize(
    "member",
    [
        b"", b"junk", npy((2, 2), b""), npy((2**62, 2**62), bytes(16)), npy((-1, 2), bytes(16)),
        npy((2, 2), bytes(15)), npy((True, 2), bytes(16)),
        npy((1,), bytes(8), "|O"), b"\x93NUMPY\x09\x00", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
    ],
)  # fmt: skip
def test_archives_that_lie(tmp_path, member):
    path = tmp_path / "d.npz"
    archived(path, x=member)
    with pytest.raises(DataError, match=r"can't be read as .npz|holds object"):
        data.bind([X], data.load(path))


def test_an_archive_that_changes_meanwhile(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, x=np.ones((3, 2)))
    found = data.load(path)
    np.savez(path, x=np.ones((30, 2)))
    with pytest.raises(DataError, match="has changed"):
        data.bind([X], found)


@pytest.mark.parametrize("header", ["x_0,x_1,y", "x[0],x[1],y", "X0,X1,y"])
def test_columns_named_in_another_way(tmp_path, header):
    (tmp_path / "a.csv").write_text(f"{header}\n1,2,3\n")
    with pytest.raises(
        DataError, match=r"columns of a CSV file are `x\.0`, `x\.1` and so on; `--columns x=.+,\.\.\.` takes others"
    ):
        data.by_name([X, Y], data.load(tmp_path / "a.csv"))
