"""Files are written where links lead, with the mode they had, and nothing but a regular file is ever replaced."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from tapeless.runtime.errors import UserError
from tapeless.runtime.writing import check_folder, check_writable, write_atomically

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, modes and devices are those of POSIX")


def test_a_link_stays_one_and_its_target_is_written(tmp_path):
    (tmp_path / "deep").mkdir()
    target = tmp_path / "deep" / "target"
    target.write_bytes(b"old")
    (tmp_path / "one").symlink_to(target)
    (tmp_path / "two").symlink_to("one")
    for name in ("two", "one"):
        write_atomically(tmp_path / name, name.encode())
        assert target.read_bytes() == name.encode() and (tmp_path / name).is_symlink()
    assert os.listdir(tmp_path / "deep") == ["target"] and set(os.listdir(tmp_path)) == {"deep", "one", "two"}


def test_a_link_to_nothing_yet(tmp_path):
    (tmp_path / "link").symlink_to("later")
    check_writable(tmp_path / "link")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "later").read_bytes() == b"new" and (tmp_path / "link").is_symlink()
    (tmp_path / "lost").symlink_to("no/where")
    with pytest.raises(UserError, match=r"there is no folder .*no"):
        check_writable(tmp_path / "lost")


@pytest.mark.parametrize("mode", (0o600, 0o644, 0o660, 0o755))
def test_the_mode_stays(tmp_path, mode):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_bytes() == b"new"


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_the_owner_stays(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 12345, 12346)
    write_atomically(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


def test_a_new_file_is_as_readable_as_any(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "plain", b"")
        write_atomically(tmp_path / "run", b"", executable=True)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "run")] == [0o640, 0o750]


@pytest.fixture
def strange(tmp_path):
    """Paths of what is no regular file, by the word for it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(tmp_path)  # the path of a socket is short
        listener.bind("socket")
        yield {
            "a pipe": tmp_path / "pipe",
            "a folder": tmp_path / "folder",
            "a socket": tmp_path / "socket",
            "a device": "/dev/null",
        }


@pytest.mark.parametrize("kind", ("a pipe", "a folder", "a socket", "a device"))
@pytest.mark.parametrize("linked", (False, True))
def test_what_is_no_regular_file_is_refused_and_left(strange, tmp_path, monkeypatch, kind, linked):
    monkeypatch.chdir(tmp_path)
    path = strange[kind]
    before = os.stat(path)
    if linked:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    with pytest.raises(UserError, match=f"can't be written: it is {kind}"):
        check_writable(path)
    with pytest.raises(OSError, match=f"it is {kind}"):
        write_atomically(path, b"content")
    assert os.stat(path).st_ino == before.st_ino and os.stat(path).st_mode == before.st_mode


def test_circles_of_links_and_long_names_are_messages(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for path in (tmp_path / "a", tmp_path / ("n" * 300), tmp_path / "no" / "where"):
        with pytest.raises(UserError, match="can't be written"):
            check_writable(path)


@pytest.mark.skipif(ROOT, reason="root may write anywhere")
def test_what_is_read_only_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "file").chmod(0o444)
    with pytest.raises(UserError, match="read-only"):
        check_writable(tmp_path / "file")
    tmp_path.chmod(0o555)
    for check in (lambda: check_writable(tmp_path / "new"), lambda: check_folder(tmp_path / "new" / "folder")):
        with pytest.raises(UserError, match="can't be written"):
            check()
    tmp_path.chmod(0o755)


def test_a_folder_below_a_file_is_refused(tmp_path):
    check_folder(tmp_path / "new" / "deep")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"file is no folder"):
        check_folder(tmp_path / "file" / "deep")
