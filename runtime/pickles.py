"""Pickles say which version of the package wrote them, and no other one reads them: what lasts is a file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any

from tapeless.runtime.errors import UserError

STAMP = "tapeless version"


def version() -> str:
    try:
        return version_of("tapeless")
    except PackageNotFoundError:  # it lies on the path without being installed
        return "not installed"


def stamped(state: Mapping[str, Any]) -> dict[str, Any]:
    """What goes into a pickle."""
    return {**state, STAMP: version()}


def opened(state: Mapping[str, Any], what: str) -> dict[str, Any]:
    """What has come out of a pickle of `what`. UserError if another version wrote it."""
    found = dict(state)
    written = found.pop(STAMP, "unknown")
    if written != version():
        raise UserError(
            f"this pickle of {what} was written by tapeless {written}, and this is {version()}: a pickle is for "
            "the version that wrote it. "
            "Weights go from one to the other as a file: `program.save(file)` there, `program.load(file)` here"
        )
    return found
