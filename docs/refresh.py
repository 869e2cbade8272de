"""Makes the examples of output in docs/*.md anew: python docs/refresh.py

A comment before a fenced block says what it shows, in fields on lines of their own:

    inspect: arguments of `tapeless inspect` after the model
    from:    a regular expression for the first line shown
    to:      one for the line after the last (to the end if left out)
    keep:    one for the lines to keep among those (all if left out); what is left out shows as `...`

Between the comments `operations` and `end of operations` stands what `operations_table.py` makes.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from click.testing import CliRunner
from operations_table import tables

from tapeless.commands.main import commands

DOCS = Path(__file__).parent
MODEL = "examples/digits/digits.tl"
BLOCK = re.compile(r"(<!--\n(?P<fields>inspect:.*?)-->\n```(?P<language>\w*)\n)(?P<body>.*?)(\n```\n)", re.DOTALL)

OPERATIONS = re.compile(r"(<!-- operations -->\n).*(\n\n<!-- end of operations -->)", re.DOTALL)


def refreshed(text: str) -> str:
    """A page with its blocks made anew. Raises LookupError where a block shows a line that is no longer there."""
    text = OPERATIONS.sub(lambda match: match[1] + tables() + match[2], text)
    return BLOCK.sub(lambda match: match[1] + _shown(match["fields"]) + match[5], text)


def _shown(fields: str) -> str:
    wanted = dict(re.findall(r"^(\w+): +(.*)$", fields, re.MULTILINE))
    result = CliRunner().invoke(commands, ["inspect", str(DOCS.parent / MODEL), *shlex.split(wanted["inspect"])])
    if result.exit_code:
        raise LookupError(f"{wanted['inspect']}: {result.output}")
    lines = result.output.replace(str(DOCS.parent) + "/", "").splitlines()
    first = _find(lines, wanted["from"], 0)
    last = _find(lines, wanted["to"], first + 1) if "to" in wanted else len(lines)
    shown: list[str] = []
    for line in lines[first:last]:
        if re.search(wanted.get("keep", ""), line):
            shown.append(line)
        elif shown and shown[-1] != "...":
            shown.append("...")
    while shown and shown[-1] in ("...", ""):
        shown.pop()
    return "\n".join(shown)


def _find(lines: list[str], pattern: str, start: int) -> int:
    for k in range(start, len(lines)):
        if re.search(pattern, lines[k]):
            return k
    raise LookupError(f"no line matches {pattern!r}")


if __name__ == "__main__":
    for page in sorted(DOCS.glob("*.md")):
        page.write_text(refreshed(page.read_text("utf-8")), "utf-8")
