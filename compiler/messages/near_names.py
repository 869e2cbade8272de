"""Near names: which known name a misspelt one was meant to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tapeless.compiler.messages.newcomers_words import ARGUMENTS, ATTRIBUTES, FOREIGN, PHRASES


def distance(left: str, right: str, limit: int) -> int:
    """Damerau-Levenshtein distance (optimal string alignment), or limit + 1 where it is larger."""
    if abs(len(left) - len(right)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        before, previous, row = row, before, [i]
        for j, b in enumerate(right, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, previous[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
    return row[-1]


def meant_argument(word: str, known: Sequence[str]) -> str | None:
    """What an unknown argument was meant to be: another library's word for one that there is, or a near name."""
    other = ARGUMENTS.get(word)
    return other if other in known else nearest(word, known)


def meant(word: str, known: Sequence[str]) -> str | None:
    """What an unknown name was meant to be: another library's word for a thing that may stand here, or a near name
    of either.
    """
    if word in known:
        return word  # where it stands as something else, as a text
    if word in FOREIGN:
        return FOREIGN[word] if FOREIGN[word] in known else None
    near = nearest(word, [*known, *(other for other, ours in FOREIGN.items() if ours in known)])
    return FOREIGN.get(near, near) if near else None


def hint_for(name: str, known: Sequence[str]) -> str | None:
    """What to try in the place of an unknown name."""
    owner, _, last = name.rpartition(".")
    if last in PHRASES and owner not in known:
        return f"Write `{PHRASES[last]}`."
    if owner == "self":
        return f"There is no `self` here: write `{last}` alone."
    near = meant_attribute(owner, last, known) if owner else None
    near = near or meant(name, known)
    return f"Did you mean `{near}`?" if near else None


def meant_attribute(owner: str, last: str, known: Sequence[str]) -> str | None:
    """What `x.T`, `x.sum` or `np.tanh` was meant to be, where there are no attributes."""
    if owner in known and last in ATTRIBUTES:
        return ATTRIBUTES[last].format(owner)
    ours = last if last in known else meant(last, known) if owner not in known or last in FOREIGN else None
    return f"{ours}({owner})" if ours and owner in known else ours


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name closest to `word`, if it is close enough to be what was meant.

    One edit in three characters is allowed; a difference in case alone always counts as near. Of equally near names
    one of the same letters is meant (`tahn` is `tanh`, and not `tan`), then one that begins alike, then the first.
    """
    limit = max(1, min(3, len(word) // 3))
    best: tuple[tuple[int, bool, bool, int], str] | None = None
    letters = sorted(word.lower())
    for order, name in enumerate(known):
        if name == word:
            continue
        if name.lower() == word.lower():
            cost = 0
        elif len(word) < 2 or len(word) > 60:
            continue
        else:
            cost = distance(word.lower(), name.lower(), limit)
            if cost > limit or cost >= len(word):
                continue
        rank = (cost, sorted(name.lower()) != letters, name[:1].isupper() != word[:1].isupper(), order)
        if best is None or rank < best[0]:
            best = (rank, name)
    return best[1] if best else None
