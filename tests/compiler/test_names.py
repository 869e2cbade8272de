"""Names in any script, as Python has them: NFKC-normalised."""

from __future__ import annotations

import unicodedata

import pytest

from tapeless.compiler.language.format import formatted
from tapeless.compiler.language.lexer import lex
from tapeless.compiler.messages.diagnostics import ProgramErrors, Source
from tapeless.compiler.model import load
from tapeless.ir import text

MODEL = """fn größe(x) = x * 2

layer 層(x[b, i], 単位):
    param 重み: [i, 単位] ~ he_normal
    return größe(x @ 重み)

model Größe(breite = 4):
    input  eingäng: [batch, 3]
    target उत्तर: [batch, 4]
    μ = 層(eingäng, breite)
    output wahr = μ
    loss mean_squared_error(μ, उत्तर)

train Größe:
    except '*.重み': decay = 0
"""


def test_a_program_in_many_scripts() -> None:
    model = load(unicodedata.normalize("NFD", MODEL).replace("μ", "µ"), "model.tl", sizes={"breite": 4})
    assert [slot.name for slot in model.slots if slot.role == "param"] == ["μ.重み"]
    assert [data.name for data in model.data] == ["eingäng", "उत्तर"]
    assert formatted(MODEL) == MODEL
    graph = model.forward[True]
    assert text.read(text.write(graph)) == graph


def test_marks_stand_below_wide_letters() -> None:
    with pytest.raises(ProgramErrors) as caught:
        load("model M:\n    input x: [batch, 2]\n    重み重み = x + 無い\n    loss mean(重み重み)\n", "model.tl")
    line, mark = str(caught.value).split("\n")[3:5]
    assert line.endswith("重み重み = x + 無い") and mark == "   | " + " " * 19 + "^^^^"


@pytest.mark.parametrize(("line", "shown"), [
    ("y = x € 2", ["`€`"]), ("y = x ⇒⇔ 2", ["`⇒⇔`"]), ("y = x && y", ["`&`"]), ("y = x − 2", ["`−`"]),
    ("y = 🚀🚀🛰", ["`🚀🚀🛰`"]), ("y = x² + größe", ["`²`"]),
])  # fmt: skip
def test_one_fault_for_what_has_no_meaning(line: str, shown: list[str]) -> None:
    faults = lex(Source("model.tl", line)).diagnostics
    assert [fault.message.partition(" has no")[0] for fault in faults] == shown
