"""Definitions in several units, made apart and put together again, are what one module of them is."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import threading

import pytest

from tapeless.codegen.llvm import native
from tapeless.codegen.llvm.emission import Emission
from tapeless.codegen.llvm.functions import module_head
from tapeless.codegen.llvm.objects import joined
from tapeless.codegen.llvm.units import Units, bound_of
from tapeless.ir.target import TARGETS, named

pytestmark = pytest.mark.usefixtures("fresh_objects")
HOST = named("host")
DEFINITIONS = [
    "define internal double @half(double %x) noinline {\n  %y = fmul double %x, 0.5\n  ret double %y\n}\n",
    "@tenths = internal constant [3 x i64] [i64 1, i64 2, i64 3]\n",
    """define internal double @tenth(double %x, i64 %at) noinline {
  %p = getelementptr i64, ptr @tenths, i64 %at
  %n = load i64, ptr %p
  %f = sitofp i64 %n to double
  %t = fdiv double %f, 10.0
  %h = call double @half(double %x)
  %y = fadd double %h, %t
  ret double %y
}
""",
    """define double @entry(double %x, i64 %at) {
  %y = call double @tenth(double %x, i64 %at)
  %z = call double @half(double %y)
  ret double %z
}
""",
]
OTHER = """declare hidden double @half(double)
define double @other() {
  %y = call double @half(double 1.0)
  ret double %y
}
"""


def made(texts, target, bound):
    """The units of a program, with a bound on their length."""
    found = []
    collected = Units(module_head(target), found.append, bound)
    for text in texts:
        collected.add([text])
    collected.finish()
    return found


def results(code):
    entry = native.load(code, ["entry"])
    call = entry.function("entry", ctypes.c_double, ctypes.c_int64, result=ctypes.c_double)
    return [call(x, at) for x in (0.0, 1.0, -3.7) for at in range(3)]


@pytest.mark.skipif(bound_of(HOST) is None, reason="programs for this machine are one module")
@pytest.mark.parametrize(("bound", "count"), [(10**6, 1), (500, 2), (1, 4)])
def test_units_together_compute_what_one_module_does(bound, count):
    found = made(DEFINITIONS, HOST, bound)
    assert len(found) == count
    whole = native.compile_object(module_head(HOST) + "\n".join(DEFINITIONS), HOST)
    code = joined([native.compile_object(unit, HOST) for unit in found])
    assert native.undefined_symbols(code) == []
    assert results(code) == results(whole)


@pytest.mark.skipif(shutil.which("cc") is None or bound_of(HOST) is None, reason="needs a C compiler, and units")
def test_a_linker_takes_them_without_a_warning(tmp_path):
    code, library = tmp_path / "made.o", tmp_path / "made.so"
    code.write_bytes(joined([native.compile_object(unit, HOST) for unit in made(DEFINITIONS, HOST, 1)]))
    command = ["cc", "-shared", "-nostdlib", "-Wl,--fatal-warnings", "-Wl,-z,defs", "-o", library, code]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    assert hasattr(loaded, "entry") and not hasattr(loaded, "tenth")


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("name", ["x86-64-v3", "aarch64-linux-gnu", "riscv64-linux-gnu"])
def test_bytes_do_not_depend_on_threads(name, threads):
    target = TARGETS[name]
    found = made(DEFINITIONS, target, 1)
    emission = Emission(target, threads)
    for unit in found:
        emission.add(unit)
    assert emission.object == joined([native.compile_object(unit, target) for unit in found])
    assert native.undefined_symbols(emission.object) == []


def test_where_objects_cannot_be_put_together_there_is_one_module():
    assert [name for name, target in TARGETS.items() if bound_of(target) is None] == [
        "aarch64-apple-darwin", "wasm32", "cortex-m7"
    ]  # fmt: skip
    target = TARGETS["wasm32"]
    assert made(DEFINITIONS, target, None) == [module_head(target) + "\n".join(DEFINITIONS)]


def test_names_of_other_units_are_resolved_and_hidden():
    target = TARGETS["x86-64"]
    codes = [native.compile_object(unit, target) for unit in made(DEFINITIONS, target, 1)]
    assert native.undefined_symbols(codes[2]) == ["tenths", "half"]
    other = native.compile_object(OTHER, target)
    with pytest.raises(ValueError, match="half is defined nowhere"):
        joined([joined(codes), other])
    with pytest.raises(ValueError, match="tenths is defined nowhere"):
        joined([codes[0], *codes[2:]])
    with pytest.raises(ValueError, match="half is defined twice"):
        joined([codes[0], *codes])


@pytest.mark.parametrize("threads", [1, 3])
def test_a_fault_of_any_unit_is_told(threads):
    emission = Emission(HOST, threads)
    for text in (*DEFINITIONS[:1], "define void @f() {\n  ret i32 0\n}\n", DEFINITIONS[0]):
        emission.add(module_head(HOST) + text)
    with pytest.raises(RuntimeError, match="value doesn't match function result type"):
        _ = emission.object


def test_who_gives_a_program_up_leaves_no_thread_at_work(monkeypatch):
    """A process that is forked then would have what LLVM holds, and nobody to let it go."""
    begun, may_end = threading.Event(), threading.Event()

    def slow(text, target):
        begun.set()
        assert may_end.wait(10)
        return b""

    monkeypatch.setattr(native, "compile_object", slow)
    emission = Emission(HOST, 2)
    emission.add("")
    assert begun.wait(10)
    threading.Timer(0.02, may_end.set).start()
    emission.drop()
    assert may_end.is_set() and all(thread.name != "tapeless code" for thread in threading.enumerate())


def test_where_no_thread_can_be_started_the_caller_makes_all(monkeypatch):
    def refused(thread):
        raise RuntimeError("can't start new thread")

    found = made(DEFINITIONS, HOST, 1)
    monkeypatch.setattr(threading.Thread, "start", refused)
    emission = Emission(HOST, 3)
    for unit in found:
        emission.add(unit)
    assert emission.object == joined([native.compile_object(unit, HOST) for unit in found])
