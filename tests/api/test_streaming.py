"""Data mapped from files: the same bytes as from memory, in whatever type they lie on disk, and without being read
in.
"""

import subprocess
import sys

import numpy as np
import pytest

from tapeless.runtime import staging


@pytest.fixture
def mapped(digits, tmp_path):
    """A function that puts the digits into files of the given types and maps them."""

    def write(image_type, label_type, order="C"):
        found = []
        for name, array, kind in (("image", digits[0], image_type), ("label", digits[1], label_type)):
            np.save(tmp_path / f"{name}.npy", np.asarray(array.astype(kind), order=order))
            found.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
        return found

    return write


@pytest.mark.parametrize(
    ("image", "label", "order"),
    [("f4", "i4", "C"), ("f8", "i4", "C"), ("f4", "u1", "C"), ("f2", "i8", "C"), (">f4", "i4", "C"), ("f4", "i4", "F")],
)
def test_mapped_files_train_to_the_same_bytes(model, digits, mapped, cache_folder, monkeypatch, image, label, order):
    monkeypatch.setattr(staging, "STAGED_BYTES", 64 * 260 * 3)  # several pieces in an epoch

    def made(x, y):
        program = model.compile(seed=5, cache=cache_folder)
        run = program.fit(x, y, epochs=3)
        measured = program.evaluate(x, y)
        bytes_ = b"".join(view.tobytes() for view in program.state.values())
        return bytes_, run.curves, measured, program.predict(x).tobytes(), program.confusion(x, y).tolist()

    exact = digits[0].astype(image).astype("f4")
    assert made(*mapped(image, label, order)) == made(exact, digits[1])


def test_faults_deep_in_a_mapped_file_are_found(model, mapped, digits, cache_folder, tmp_path, monkeypatch):
    from tapeless import DataError
    from tapeless.runtime import data

    monkeypatch.setattr(data, "PIECE_BYTES", 1 << 14)
    program = model.compile(cache=cache_folder)
    image = digits[0].astype(np.float64)
    image[1500, 3] = np.nan
    np.save(tmp_path / "x.npy", image)
    with pytest.raises(DataError, match=r"`image` has nan at row 1500, place \[1500, 3\]"):
        program.fit(np.load(tmp_path / "x.npy", mmap_mode="r"), digits[1])
    label = digits[1].astype(np.int64)
    label[1700] = 12
    np.save(tmp_path / "y.npy", np.tile(label, 4))
    with pytest.raises(DataError, match="`label` has 12 at row 1700"):
        program.fit(np.tile(digits[0], (4, 1)), np.load(tmp_path / "y.npy", mmap_mode="r"))


LIMITED = """
import resource, sys
import numpy as np
import tapeless

rows = int(sys.argv[2])
for name, kind in (("x", np.float64), ("y", np.float32)):
    shape = (rows, 512) if name == "x" else (rows,)
    np.lib.format.open_memmap(name + ".npy", "w+", kind, shape).flush()
limit = 900 << 20  # of memory of the process's own; mapped files do not count
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
text = '''
model Wide:
    input x: [batch, 512]
    target y: [batch]
    param w: [512] = 0.01
    output z = x @ w
    loss mean((z - y) ** 2)
'''
program = tapeless.load(text).compile(cache=sys.argv[1], batch=256)
x, y = (np.load(name + ".npy", mmap_mode="r") for name in "xy")
assert x.nbytes > 2 * limit
run = program.fit(x, y, epochs=1, threads=1)
assert run.steps == -(-rows // 256) and run.curves["loss"] == [0.0]
try:
    np.asarray(x, np.float32)
except MemoryError:
    print("done")
"""


@pytest.mark.slow
def test_a_file_larger_than_the_memory_allowed(tmp_path, cache_folder):
    if not sys.platform.startswith("linux"):
        pytest.skip("needs Linux's limit on a process's own memory")
    rows = 500_000  # 2 GB of zeros, for which a sparse file takes no room
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(cache_folder), str(rows)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr
