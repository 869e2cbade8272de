"""The cache on disk: what it keeps, and that nothing about it can fail."""

import os

import pytest

import tapeless
from tapeless import cache
from tapeless.cache import Cache, NoCache
from tapeless.runtime.image import pack


def test_what_is_put_is_found(tmp_path):
    store = Cache(tmp_path / "deep" / "folder")
    assert store.get("a") is None
    store.put("a", b"content")
    assert store.get("a") == b"content"
    store.clear()
    assert store.get("a") is None
    NoCache().put("a", b"content")
    assert NoCache().get("a") is None


@pytest.mark.parametrize("damage", [b"", b"x", b"\0" * 39, None])
def test_a_damaged_entry_counts_as_missing_and_goes(tmp_path, damage):
    store = Cache(tmp_path)
    store.put("a", b"content")
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"?" if damage is None else damage)
    assert store.get("a") is None
    assert not path.exists()


def test_an_unusable_folder_is_no_fault(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = Cache(tmp_path / "file")
    store.put("a", b"content")
    assert store.get("a") is None


def test_the_least_recently_used_go_first(tmp_path):
    store = Cache(tmp_path, limit=400)
    for number, name in enumerate("abc"):
        store.put(name, bytes(100))
        os.utime(tmp_path / f"{name}.image", (number, number))
    assert store.get("a") is not None  # now the youngest
    store.put("d", bytes(100))
    assert [name for name in "abcd" if store.get(name)] == ["a", "c", "d"] or store.get("b") is None
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 400


def test_the_key_depends_on_all_that_decides_the_bytes(monkeypatch):
    one = cache.key(text="a", sizes={"n": 1})
    assert one == cache.key(sizes={"n": 1}, text="a")
    assert one != cache.key(text="a", sizes={"n": 2})
    monkeypatch.setattr(cache, "machine", lambda: "another")
    assert one != cache.key(text="a", sizes={"n": 1})


def test_the_package_digest_covers_every_stage():
    assert set(cache.stage_folders()) == {"tapeless.abi", "tapeless"} | {
        f"tapeless.{name}" for name in ("ir", "compiler", "codegen", "runtime")
    }
    assert all((folder / "__init__.py").is_file() for folder in cache.stage_folders().values())


def test_an_entry_that_is_no_image_is_compiled_again(tmp_path):
    model = tapeless.load("model M:\n    input x: [batch]\n    param w = 2\n    output y = x * w\n")
    assert list(model.compile(cache=tmp_path).predict([1, 2])) == [2, 4]
    paths = sorted(tmp_path.iterdir())
    for content in (b"no image", pack({"format": 1}, b""), pack({}, b"code"), pack([], b"")):
        for path in paths:
            Cache(tmp_path).put(path.stem, content)
        assert list(model.compile(cache=tmp_path).predict([1, 2])) == [2, 4]
        assert Cache(tmp_path).get(paths[0].stem) != content


@pytest.mark.parametrize("line", ['import "lib.tl"', "import 'lib.tl'", "import  'deep.tl' # and on"])
def test_a_changed_import_is_another_program(tmp_path, line):
    (tmp_path / "m.tl").write_text(f"{line}\nmodel M:\n    input x: [batch]\n    output y = f(x)\n")
    (tmp_path / "deep.tl").write_text("import 'lib.tl'")
    for factor in (2, 3):
        (tmp_path / "lib.tl").write_text(f"fn f(x) = x * {factor}\n")
        program = tapeless.load(tmp_path / "m.tl").compile(cache=tmp_path / "cache")
        assert list(program.predict([1, 2])) == [factor, 2 * factor]


def test_what_is_looked_up_is_what_is_compiled(tmp_path):
    """A file that changes between the two makes no wrong entry."""
    (tmp_path / "m.tl").write_text("import 'lib.tl'\nmodel M:\n    input x: [batch]\n    output y = f(x)\n")
    (tmp_path / "lib.tl").write_text("fn f(x) = x * 2\n")
    model = tapeless.load(tmp_path / "m.tl")
    assert model.identity
    (tmp_path / "lib.tl").write_text("fn f(x) = x * 3\n")
    assert list(model.compile(cache=tmp_path / "cache").predict([1])) == [2]
    assert list(tapeless.load(tmp_path / "m.tl").compile(cache=tmp_path / "cache").predict([1])) == [3]
