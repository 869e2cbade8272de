"""Arguments that make no sense are refused with a message that says what would; data that are not needed are let
pass.
"""

import numpy as np
import pytest

import tapeless
from tapeless.runtime.errors import DataError, UserError

TEXT = """
model M:
    input x: [batch, 3]
    target y: [batch, 2]
    param w = 1
    output z = x * w
    loss w * w
"""
X, Y = np.ones((4, 3)), np.ones((4, 2))


@pytest.fixture
def program(cache_folder):
    return tapeless.load(TEXT).compile(cache=cache_folder)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch": 0}, "`batch` is a whole number, from 1"),
        ({"batch": 3.5}, "`batch` .* not 3.5"),
        ({"batch": "x"}, "`batch` .* not 'x'"),
        ({"batch": 10**9}, "`batch` is a whole number, from 1 to 16777216"),
        ({"threads": 0}, "`threads` is a whole number, from 1"),
        ({"threads": -1}, "`threads`"),
        ({"epochs": 1.5}, "`epochs` is a whole number, 0 or more, not 1.5"),
        ({"epochs": True}, "`epochs`"),
        ({"validation": "x"}, "`validation` is a fraction"),
        ({"epoch": 3}, "there is no option `epoch`; did you mean `epochs`?"),
        ({"qqq": 3}, "there is no option `qqq`; there are epochs, batch"),
    ],
)
def test_options_of_fit(program, options, message):
    with pytest.raises(UserError, match=message):
        program.fit(X, Y, **options)


@pytest.mark.parametrize(
    "options", [{"seed": -1}, {"seed": 1.5}, {"seed": 2**64}, {"batch": "x"}, {"batch": 0}, {"threads": 0}]
)
def test_options_of_compile(options, cache_folder):
    (name,) = options
    with pytest.raises(UserError, match=f"`{name}` is a whole number"):
        tapeless.load(TEXT).compile(cache=cache_folder, **options)


def test_numbers_of_numpy_are_numbers(program):
    run = program.fit(X, Y, epochs=np.int64(2), batch=np.int32(2), threads=np.int8(1), validation=np.float32(0))
    assert run.steps == 4


def test_data_that_an_entry_does_not_need(program):
    assert set(program.gradients(X, Y)) == set(program.gradients(X)) == {"w"}
    assert program.evaluate(X, Y) == program.evaluate({"x": X}) == {"loss": 1}
    assert program.value_and_grad(program.vector(), X, Y)[0] == 1


@pytest.mark.parametrize("name", ["gradients", "evaluate", "fit"])
def test_no_data_at_all(program, name):
    with pytest.raises(DataError, match=r"no data were given|the input `x: .batch, 3.` is missing"):
        getattr(program, name)(None)
