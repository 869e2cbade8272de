"""What lies in the cache is run, so nothing is taken from it that somebody else may have put there."""

import os
import stat
import subprocess
import sys
import time
import warnings

import pytest

import tapeless
from tapeless import cache
from tapeless.cache import Cache
from tapeless.guarded_folder import PART
from tapeless.runtime.image import Image

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
TEXT = "model M:\n    input x: [batch]\n    param w = 2\n    output y = x * w\n"


@pytest.fixture(autouse=True)
def unwarned(monkeypatch):
    monkeypatch.setattr(cache, "_warned", [])


@pytest.fixture
def folder(tmp_path):
    """A cache with one entry."""
    made = tmp_path / "cache"
    Cache(made).put("a", b"content")
    return made


def refused(folder, match):
    """The entry counts as missing, with one warning in a process."""
    with pytest.warns(UserWarning, match=match) as told:
        assert Cache(folder).get("a") is None
        assert Cache(folder).get("a") is None
    assert len(told) == 1


def test_folder_and_files_are_private(folder):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "a.image").stat().st_mode) == 0o600
    before = os.umask(0)
    try:
        Cache(folder / "deep").put("b", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "deep").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "deep" / "b.image").stat().st_mode) == 0o600


def test_the_usual_folder_becomes_private(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "tapeless").mkdir(mode=0o755)
    Cache().put("a", b"content")
    assert stat.S_IMODE((tmp_path / "tapeless").stat().st_mode) == 0o700 and Cache().get("a") == b"content"
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o755)
    Cache(folder).put("a", b"content")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755  # a folder that was named is somebody's own affair


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777, 0o702])
def test_a_folder_that_others_can_write(folder, mode):
    folder.chmod(mode)
    refused(folder, "can be written by others")
    Cache(folder).put("b", b"content")
    assert sorted(os.listdir(folder)) == ["a.image"]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_an_entry_that_others_can_write(folder, mode):
    (folder / "a.image").chmod(mode)
    refused(folder, "can be written by others")
    Cache(folder).put("a", b"other")
    assert Cache(folder).get("a") == b"other"


@as_root
def test_an_entry_of_somebody_else(folder):
    os.chown(folder / "a.image", 12345, 12345)
    refused(folder, "belongs to somebody else")


@as_root
def test_a_folder_of_somebody_else(folder):
    os.chown(folder, 12345, 12345)
    refused(folder, "belongs to somebody else")


def test_no_link_is_followed(folder, tmp_path):
    os.rename(folder / "a.image", folder / "b.image")
    os.symlink(folder / "b.image", folder / "a.image")
    refused(folder, "is a link")
    os.symlink(folder, tmp_path / "link")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert Cache(tmp_path / "link").get("b") is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_no_regular_file(folder, make):
    os.unlink(folder / "a.image")
    make(folder / "a.image")
    refused(folder, "no regular file")


@as_root
def test_a_device(folder):
    os.unlink(folder / "a.image")
    try:
        os.mknod(folder / "a.image", 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # zeros without end
    except PermissionError:
        pytest.skip("no devices are made here")
    refused(folder, "no regular file")


def test_an_entry_without_end(folder):
    os.truncate(folder / "a.image", 1 << 40)
    refused(folder, "larger than")


def test_an_entry_under_another_name(folder):
    os.rename(folder / "a.image", folder / "b.image")
    assert Cache(folder).get("b") is None and not (folder / "b.image").exists()


def test_a_planted_program_does_not_run(tmp_path):
    """Another's machine code, whole and under the right name, in a folder that everybody can write."""
    model, planted = tapeless.load(TEXT), tapeless.load(TEXT.replace("2", "3"))
    folder = tmp_path / "cache"
    assert list(planted.compile(cache=folder).predict([1])) == [3]
    contents = {path: path.read_bytes() for path in folder.iterdir()}
    assert list(model.compile(cache=folder).predict([1])) == [2]
    for own in [path for path in folder.iterdir() if path not in contents]:
        own.write_bytes(next(iter(contents.values())))  # of another program, so its digest is of another name
    assert list(model.compile(cache=folder).predict([1])) == [2]
    folder.chmod(0o777)
    with pytest.warns(UserWarning, match="can be written by others"):
        assert list(model.compile(cache=folder).predict([1])) == [2]


def test_what_was_left_behind_goes(folder):
    node = os.uname().nodename
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (
        f".x.{node}.{dead.pid}.ab{PART}",
        f".old.elsewhere.1.ab{PART}",
        f"strange{PART}",
        f".new.elsewhere.1.ab{PART}",
        f".mine.{node}.{os.getpid()}.ab{PART}",
    ):
        (folder / name).write_bytes(b"part")
    for name in (f".old.elsewhere.1.ab{PART}", f"strange{PART}"):
        os.utime(folder / name, (time.time() - 7200,) * 2)
    Cache(folder).put("b", b"content")
    assert sorted(os.listdir(folder)) == [
        f".mine.{node}.{os.getpid()}.ab{PART}",
        f".new.elsewhere.1.ab{PART}",
        "a.image",
        "b.image",
    ]


def test_the_command_line_says_so_in_one_line(tmp_path):
    (tmp_path / "m.tl").write_text(TEXT + "    loss mean(y ** 2)\n")
    (tmp_path / "d.csv").write_text("x\n1\n2\n")
    (tmp_path / "tapeless").mkdir()
    (tmp_path / "tapeless").chmod(0o777)
    code = "from tapeless.commands.main import main; main(['grad', 'm.tl', '--data', 'd.csv'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.count("warning: compiled programs are not taken from the cache") == 1 and done.returncode == 0, (
        done.stderr
    )


def test_programs_that_are_gone_leave_nothing(tmp_path):
    """Loading a program from the cache again and again takes no more memory: counted after the first, which fill the
    allocator.
    """
    program = tapeless.load(TEXT).compile(cache=tmp_path)
    program.predict([1])
    (path,) = [path for path in tmp_path.iterdir() if b"predict" in path.read_bytes()]
    content = Cache(tmp_path).get(path.stem)

    def grown(times):
        with open("/proc/self/statm") as file:
            before = int(file.read().split()[1])
        for _ in range(times):
            Image.from_bytes(content)
        with open("/proc/self/statm") as file:
            return (int(file.read().split()[1]) - before) * os.sysconf("SC_PAGE_SIZE") / times

    grown(40)
    assert min(grown(40) for _ in range(2)) < 2000  # with one linker for all it was 9,000 bytes and more each
