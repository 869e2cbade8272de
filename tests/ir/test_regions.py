"""Regions: a scan in ten lines goes through builder, text, verifier and interpreter; a broken one is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.ir import text
from tapeless.ir.interpreter import run
from tapeless.ir.verifier import VerificationError, verify

DECAY = """\
graph decaying_sum {
  input data x: %x : f64[6, batch] !decay.tl:2:5-2:6
  input param rate: %rate : f64[batch]
  input data start: %start : f64[batch]
  %last : f64[batch], %sums : f64[6, batch] = scan(%start, %x, %rate) {carries=1, sequences=1, length=6, reverse=false} [
    graph body {
      input operand s: %s : f64[batch]
      input operand x_t: %x_t : f64[batch]
      input operand rate: %rate : f64[batch]
      %kept : f64[batch] = mul(%s, %rate)
      %s.next : f64[batch] = add(%kept, %x_t)
      output result s: %s.next
      output result sum: %s.next
    }
  ] !decay.tl:4:5-4:20
  output output last: %last
  output output sums: %sums
}
"""  # noqa: E501 (the text form of an operation is one line)


def test_scan_round_trips_and_runs() -> None:
    graph = text.read(DECAY)
    verify(graph)
    assert text.write(graph) == DECAY
    assert text.read(text.write(graph)) == graph
    x, rate, start = np.arange(12.0).reshape(6, 2), np.array([0.5, 2.0]), np.array([1.0, -1.0])
    out = run(graph, {"x": x, "rate": rate, "start": start})
    expected, sums = start, []
    for row in x:
        expected = expected * rate + row
        sums.append(expected)
    np.testing.assert_array_equal(out["sums"], sums)
    np.testing.assert_array_equal(out["last"], expected)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("{carries=1, sequences=1, length=6", "{carries=1, sequences=1, length=5", "cannot walk f64[6, batch]"),
        ("output result s: %s.next", "output result s: %rate2", "expected a value defined above"),
        ("%kept : f64[batch] = mul(%s, %rate)", "%kept : f64[batch] = mul(%s)", "takes 2 operands"),
        ("%kept : f64[batch] = mul", "%kept : f64[6] = mul", "makes f64[batch], not f64[6]"),
    ],
)
def test_broken_regions_are_refused(before: str, after: str, message: str) -> None:
    with pytest.raises((VerificationError, text.TextError)) as caught:
        verify(text.read(DECAY.replace(before, after)))
    assert message in str(caught.value)


PARTS = """\
graph sums {
  input carry position: %position : i32[] {places=64}
  input data x: %x : f64[batch]
  input state s: %s : f64[]
  %above : f64[] = sum(%x) {axes=(0,)}
  %next : i32[] = add(%position, %position)
  %s.next : f64[] = add(%s, %above)
  output part f1: %above {part="numerator", term=1} !m.tl:4:5-4:20
  output part f1: %above {part="rest", term=0}
  output carry position: %next {places=64}
  output state s: %s.next {turns=true}
}
"""


def test_what_ports_know_round_trips() -> None:
    graph = text.read(PARTS)
    assert text.write(graph) == PARTS
    assert [port.key for port in graph.outputs] == ["f1.numerator.1", "f1.rest", "carry(position)", "s"]
    with pytest.raises(text.TextError, match="line 3: expected a port's part, term, places or turns"):
        text.read(PARTS.replace("%x : f64[batch]", "%x : f64[batch] {rows=3}"))


@pytest.mark.parametrize(
    "facts", ('part="half"', "part=3", "term=1", 'part="rest", term=1.5', "places=-1", 'places="x"', "turns=1")
)
def test_what_ports_know_is_checked_where_it_is_read(facts: str) -> None:
    with pytest.raises(text.TextError, match="line 9: expected a port's part, term, places or turns"):
        text.read(PARTS.replace('part="rest", term=0', facts))
