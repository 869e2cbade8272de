"""What tests keep of machine code: equal questions are asked once, and no other question is given that answer."""

from __future__ import annotations

from dataclasses import replace

from tapeless.codegen.llvm import native
from tapeless.ir.target import TARGETS

from ..kept_objects import LARGEST, KeptObjects

EMPTY, OTHER = "define void @f() { ret void }", "define void @g() { ret void }"
V3, V4 = TARGETS["x86-64-v3"], TARGETS["x86-64-v4"]


def test_only_equal_questions_are_asked_once(tmp_path):
    asked = []

    def make(text, target):
        asked.append((text, target))
        return f"{len(asked)}".encode()

    first, second = KeptObjects(tmp_path, make), KeptObjects(tmp_path, make)
    questions = [(EMPTY, V3), (OTHER, V3), (EMPTY, V4), (EMPTY, replace(V3, features="+fma"))]
    for kept in (first, second):
        assert [kept(*question) for question in questions] == [b"1", b"2", b"3", b"4"]
    assert asked == questions


def test_another_way_to_ask_asks_anew(tmp_path):
    def make(text, target):
        return b"made otherwise"

    this = KeptObjects(tmp_path, make)
    this(EMPTY, V3)
    by_llvm = getattr(native.compile_object, "make", native.compile_object)
    assert KeptObjects(tmp_path, by_llvm)(EMPTY, V3) == by_llvm(EMPTY, V3) != this(EMPTY, V3)


def test_what_is_large_or_has_no_room_is_not_kept(tmp_path):
    kept = KeptObjects(tmp_path, lambda text, target: bytes(len(text)))
    assert kept("x" * LARGEST, V3) == bytes(LARGEST) and kept("x" * (LARGEST + 1), V3) == bytes(LARGEST + 1)
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [LARGEST]
    kept.folder = tmp_path / "gone"
    assert kept("y", V3) == bytes(1)
