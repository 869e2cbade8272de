"""What kernel tests share: the widths of vectors, and the processors, that they run over."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Generator, Iterator, Mapping

import pytest

from ..emulators.machines import MACHINES, needed
from .kernels import ELSEWHERE, VECTORS, WIDTHS, Vectors

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in (*map(str, WIDTHS), *MACHINES)]


@pytest.fixture(params=("in turn", *SLOW))
def vectors(request: pytest.FixtureRequest) -> Iterator[Vectors]:
    """Kernels for vectors of all widths: one after the other, beginning anywhere; and at length, all for each, and for
    each processor that there is an emulator of.
    """
    machine = MACHINES.get(request.param)
    if request.param == "in turn":
        targets = deque(WIDTHS.values())
        targets.rotate(zlib.crc32(request.node.name.encode()))
        VECTORS.begin(targets)
    elif machine is None:
        VECTORS.begin([WIDTHS[int(request.param)]])
    else:
        needed(machine)
        VECTORS.begin([machine.target])
    ELSEWHERE.begin(machine)
    yield VECTORS
    ELSEWHERE.run()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that names the width of its vectors runs once, not again for every width that others go over."""
    config.hook.pytest_deselected(items=[item for item in items if _is_repeated(item)])
    items[:] = [item for item in items if not _is_repeated(item)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    yield
    if "vectors" in _given(item) and not (VECTORS.asked or _names_its_own(item)):
        raise AssertionError("the same for every width of vectors, of which it asks for none: mark it `own_width`")


def _given(item: pytest.Item) -> Mapping[str, object]:
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


def _names_its_own(item: pytest.Item) -> bool:
    return "lanes" in _given(item) or item.get_closest_marker("own_width") is not None


def _is_repeated(item: pytest.Item) -> bool:
    return _names_its_own(item) and _given(item).get("vectors", "in turn") != "in turn"
