"""Whether a checkpoint belongs to a program, and if not, what differs, in words.

A program's record says what it computes and keeps, as the front end told it (`Manifest.identity`): comments, spacing
and the numbers of the optimizer are no part of that. What those numbers were is recorded beside it, so that a run
that is resumed takes up what has been changed in the text since, and no other.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tapeless.runtime.errors import CheckpointError, printable
from tapeless.runtime.manifest import Manifest, Settings
from tapeless.runtime.tensors import Malformed, parsed

ANEW = ("epochs", "patience")  # settings that a run may go on with although it was begun with others
_SHOWN = 4  # differences
_COMPARED = 200  # lines


@dataclass(frozen=True)
class Record:
    """What a program is. `lines` are those of its files without comments, `frozen` the
    parameters that training leaves alone, `hyper` the numbers that the text gives to the
    optimizer; `settings` what the text says of training."""

    digest: str
    model: str
    dtype: str
    sizes: Mapping[str, int | float] = field(default_factory=dict)
    lines: tuple[tuple[str, tuple[str, ...]], ...] = ()
    frozen: tuple[str, ...] = ()
    hyper: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(vars(self), sort_keys=True)

    def same(self, other: Record) -> bool:
        """Whether both compute the same: they mean the same, or another version of this package gave the same text a
        meaning.
        """
        return self.digest == other.digest or (bool(self.lines) and self._stated() == other._stated())

    def _stated(self) -> tuple[object, ...]:
        return self.model, self.dtype, dict(self.sizes), self.frozen, tuple(lines for _, lines in self.lines)


def record(manifest: Manifest) -> Record:
    """The record of a compiled program."""
    told = manifest.identity
    return Record(
        digest=told["digest"],
        model=manifest.model,
        dtype=manifest.dtype.name,
        sizes=told["sizes"],
        lines=tuple((name, tuple(lines)) for name, lines in told["lines"]),
        frozen=tuple(told["frozen"]),
        hyper=told["hyper"],
        settings=asdict(manifest.settings),
    )


def read(text: str) -> Record:
    """The record in a checkpoint. CheckpointError if it is none."""
    try:
        value = parsed(text, "it")
        found = Record(
            **{
                **value,
                "frozen": tuple(value["frozen"]),
                "lines": tuple((name, tuple(lines)) for name, lines in value["lines"]),
            }
        )
    except (Malformed, TypeError, ValueError, KeyError) as error:
        raise CheckpointError("the record of the program in the checkpoint can't be read") from error
    numbers = (
        [*found.sizes.values(), *found.hyper.values()]
        if _are(dict, found.sizes, found.hyper, found.settings)
        else [None]
    )
    texts = [
        found.digest,
        found.model,
        found.dtype,
        *found.frozen,
        *(text for name, lines in found.lines for text in (name, *lines)),
    ]
    if not (all(type(number) in (int, float) for number in numbers) and _are(str, *texts)):
        raise CheckpointError("the record of the program in the checkpoint can't be read")
    return found


def _are(kind: type, *values: object) -> bool:
    return all(isinstance(value, kind) for value in values)


def differences(there: Record, here: Record) -> str:
    """What a checkpoint's program is that this one is not, in a few lines."""
    found = list(_differences(there, here))
    listed = found[:_SHOWN] + ([f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else [])
    return "".join(f"\n  {line}" for line in listed)


def _differences(there: Record, here: Record) -> Iterator[str]:
    for what, one, other in (("the model is", there.model, here.model), ("numbers are", there.dtype, here.dtype)):
        if one != other:
            yield f"{what} {_short(one)} there and {_short(other)} here"
    for name in dict.fromkeys([*here.sizes, *there.sizes]):
        if there.sizes.get(name) != here.sizes.get(name):
            yield (
                f"`{_short(name)}` is {there.sizes.get(name, 'not given')} there and "
                f"{here.sizes.get(name, 'not given')} here"
            )
    for place, names, others in (("there", there.frozen, here.frozen), ("here", here.frozen, there.frozen)):
        yield from (f"`{_short(name)}` is frozen {place} alone" for name in names if name not in others)
    old, new = dict(enumerate(there.lines)), dict(enumerate(here.lines))
    for k in range(max(len(old), len(new))):
        name, before = old.get(k, ("", ()))
        name, after = new.get(k, (name, ()))
        before, after = _apart(before, after)
        place = f"{_short(name)}: " if name else ""
        for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
            if kind != "equal":
                for j in range(max(b - a, d - c)):
                    one = f"`{_short(before[a + j].strip())}`" if a + j < b else "nothing"
                    other = f"`{_short(after[c + j].strip())}`" if c + j < d else "nothing"
                    yield f"{place}{one} there and {other} here"


def _apart(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where two texts differ, without what is equal before and after; a bounded part, as comparing takes a while."""
    same = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    one, other = one[same:], other[same:]
    back = next(
        (k for k, (a, b) in enumerate(zip(one[::-1], other[::-1], strict=False)) if a != b), min(len(one), len(other))
    )
    return one[: len(one) - back][:_COMPARED], other[: len(other) - back][:_COMPARED]


def _short(text: str) -> str:
    return printable(text if len(text) <= 100 else text[:97] + "...")


def changed(there: Record, here: Record) -> dict[str, float]:
    """The numbers of the optimizer that the text gives otherwise than when the run was saved."""
    return {name: value for name, value in here.hyper.items() if name in there.hyper and there.hyper[name] != value}


_SAID = {"monitor": "what `stop_early` watches", "rising": "whether it is to rise"}


def anew(there: Record, here: Settings) -> dict[str, Any]:
    """The settings that the text gives otherwise than when the run was saved, and that may be. CheckpointError if
    others do.
    """
    now = asdict(here)
    other = {name: value for name, value in now.items() if name in there.settings and there.settings[name] != value}
    for name, value in other.items():
        if name not in ANEW:
            before, after = (_short("nothing" if one is None else str(one)) for one in (there.settings[name], value))
            raise CheckpointError(
                f"training can't be resumed: {_SAID.get(name, f'`{name}`')} is {before} there and {after} here"
            )
    return other
