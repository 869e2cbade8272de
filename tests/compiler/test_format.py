"""The formatter: the tree stays, a second time changes nothing, and untidy programs become tidy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tapeless.compiler.language.format import formatted
from tapeless.compiler.language.parser import parse
from tapeless.compiler.language.unparse import unparse
from tapeless.compiler.messages.diagnostics import ProgramErrors, Source

ROOT = Path(__file__).parents[2]
FOUND = sorted(
    path for folder in ("compiler/std", "examples", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.tl")
)


def programs() -> dict[str, str]:
    """Every program of the repository: files, the documentation's, and the wrong ones that can be read."""
    found = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in FOUND}
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for k, block in enumerate(re.findall(r"^```(?:tl)?\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)):
            if re.match(r"(?:fn|layer|model|optimizer|#|train|import)\b", block):
                found[f"{page.name}:{k}"] = block
    for path in sorted((ROOT / "tests/compiler/diagnostics").glob("*.txt")):
        found[path.name] = path.read_text(encoding="utf-8").partition("=" * 80)[0]
    return {name: text for name, text in found.items() if not parse(Source(name, text))[1]}


PROGRAMS = programs()


@pytest.mark.parametrize("name", PROGRAMS)
def test_keeps_the_tree_and_is_idempotent(name: str) -> None:
    text = PROGRAMS[name]
    once = formatted(text)
    assert unparse(parse(Source("a", once))[0], places=False) == unparse(parse(Source("a", text))[0], places=False)
    assert formatted(once) == once


@pytest.mark.parametrize("path", [path for path in FOUND if "tests" not in path.parts], ids=lambda path: path.name)
def test_programs_of_the_repository_are_formatted(path: Path) -> None:
    assert formatted(path.read_text(encoding="utf-8")) == path.read_text(encoding="utf-8")


UNTIDY = """\


# A comment above.
fn  f( x ,y=2 )=x*-y**2+x [ 0 ]   # beside
layer L(x[..,i],units):
  param W:[i,units]~he_normal
   # in the block
  if training :
        return  x@W

        # the last of the inner block
  return -x@W
model M ( n=2 ):
    input   x :[ batch , 8 ]
    target  label:int[batch]<n
    h = f( x,y = 3 )
    for k in 0 .. n :
        h=L( h,
          8 )
    z,w = split(h[ : ,: 1 ],
       [ 2,5 ],   # where
       axis=1
    )
    s = sum[u : 2 where (u < 2)] h
    loss (mean( z ))  as  a


    metric m=mean(z)/mean(w)total
train M:
    optimizer Adam( lr=1e-3 )
    except '*.b','*.c':decay=0
    clip_norm -1.0
    stop_early patience=5 on m rising
"""
TIDY = """\
# A comment above.
fn f(x, y = 2) = x * -y ** 2 + x[0]  # beside
layer L(x[.., i], units):
    param W: [i, units] ~ he_normal
    # in the block
    if training:
        return x @ W

        # the last of the inner block
    return -x @ W

model M(n = 2):
    input  x: [batch, 8]
    target label: int[batch] < n
    h = f(x, y = 3)
    for k in 0..n:
        h = L(h,
            8)
    z, w = split(h[:, :1],
        [2, 5],  # where
        axis = 1
    )
    s = sum[u: 2 where (u < 2)] h
    loss (mean(z)) as a

    metric m = mean(z) / mean(w) total

train M:
    optimizer Adam(lr = 1e-3)
    except '*.b', '*.c': decay = 0
    clip_norm -1.0
    stop_early patience = 5 on m rising
"""


def test_untidy_becomes_tidy() -> None:
    assert formatted(UNTIDY) == TIDY


def test_columns_stay_lined_up() -> None:
    text = (
        "model M:\n    input  x: [batch, 8]   # one\n    target y: [batch]      # two\n    a    = x\n    long = a\n  "
        "  b   = x\n"
    )
    assert formatted(text) == (
        "model M:\n    input  x: [batch, 8]  # one\n    target y: [batch]     # two\n    a    = x\n    long = "
        "a\n    b = x\n"
    )


def test_a_program_with_faults_is_left_alone() -> None:
    with pytest.raises(ProgramErrors):
        formatted("model M\n")
