"""How many threads a call runs on, by its estimate and by times that are told: no clock is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tapeless.runtime.pace import Pace, count

HALVES = [1e-3 / threads for threads in range(1, 9)]


@pytest.mark.parametrize(
    ("seconds", "batches", "threads"),
    [
        ([1e-6], 1e6, 1),
        ([1e-6, 2e-6], 1e6, 1),
        ([1e-3, 0.97e-3], 1e6, 1),  # not worth it
        ([1e-3, 0.5e-3], 1e6, 2),
        ([1e-3, 1e-3, 1e-3, 0.25e-3], 1e6, 4),  # no gain on the way
        (HALVES, 1e6, 8),
        (HALVES, 0.05, 1),  # over before others have begun
        ([30e-6, 15e-6], 4, 1),
        ([30e-6, 15e-6], 40, 2),
    ],
)
def test_by_estimate(seconds, batches, threads):
    assert count(seconds, batches) == threads


def run(pace: Pace, each: Callable[[int], float], seconds: float, batches: float = 1e9) -> dict[int, float]:
    """Goes on for so many seconds, of which a batch takes `each` by so many threads; the seconds by threads."""
    spent: dict[int, float] = {}
    while sum(spent.values()) < seconds:
        threads, some = pace.piece(batches)
        taken = some * each(threads)
        pace.record(threads, some, taken)
        spent[threads] = spent.get(threads, 0.0) + taken
    return spent


def free(threads: int) -> float:
    return 1e-3 / threads


def busy(threads: int) -> float:
    """One thread has a processor to itself; others wait for one that has not."""
    return 1e-3 * (1 if threads == 1 else 5)


@pytest.mark.parametrize("unit", [1.0, 1e-2, 0.4, 73.0])
def test_a_free_machine_is_left_alone(unit):
    """Whatever the estimate is worth: two times too slow or too fast."""
    for estimate in (0.5, 1.0, 2.0):
        pace = Pace([estimate * unit * free(threads) for threads in (1, 2)])
        spent = run(pace, lambda threads: unit * free(threads), 20 + unit)
        assert pace.threads == 2
        assert spent.get(1, 0.0) < 0.05 * (20 + unit)


@pytest.mark.parametrize("estimate", [0.3, 1.0, 10.0])
def test_a_busy_machine_takes_fewer(estimate):
    pace = Pace([estimate * free(threads) for threads in (1, 2)])
    spent = run(pace, busy, 10)
    assert pace.threads == 1
    assert spent[2] < 0.2 * 10


def test_it_becomes_busy_and_free_again():
    pace = Pace([free(1), free(2)])
    run(pace, free, 5)
    assert pace.threads == 2
    spent = run(pace, busy, 5)
    assert pace.threads == 1 and spent[2] < 1
    spent = run(pace, free, 10)
    assert pace.threads == 2 and spent[1] < 4


def test_many_threads_fall_back_as_far_as_it_helps():
    pace = Pace([1e-3 / threads for threads in range(1, 9)])
    run(pace, lambda threads: 1e-3 / threads if threads <= 4 else 2e-3, 20)
    assert pace.threads == 4


def test_calls_too_short_to_be_told_are_added_up():
    pace = Pace([free(1), free(2)])
    run(pace, busy, 1, batches=1)
    assert pace.threads == 1


def test_pieces_are_of_whole_batches_and_short():
    pace = Pace([free(1), free(2)])
    assert pace.piece(1e6) == (2, 80)
    assert pace.piece(100.5) == (2, 100.5)
    assert Pace([1.0, 0.5]).piece(3.5) == (2, 1)
    assert Pace([1.0]).piece(3.5) == (1, 3.5)


def test_a_call_of_another_count_is_not_taken_for_this_one():
    """A short call by one thread says nothing of two."""
    pace = Pace([free(1), free(2)])
    for _ in range(1000):
        pace.record(1, 1, 1.0)
    assert pace.threads == 2 and pace.piece(1e6) == (2, 80)
