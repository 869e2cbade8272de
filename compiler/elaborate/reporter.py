"""Diagnostics as they are found, each said once."""

from __future__ import annotations

from dataclasses import dataclass, field

from tapeless.compiler.messages.diagnostics import Diagnostic
from tapeless.ir.graph import Span


@dataclass(eq=False)
class Reporter:
    """Keeps diagnostics, in the order in which they are found."""

    diagnostics: list[Diagnostic] = field(default_factory=list)
    reported: set[tuple[str, Span | None]] = field(default_factory=set)

    def report(self, diagnostic: Diagnostic) -> None:
        """Keep a diagnostic, once for each code and place."""
        key = (diagnostic.code, diagnostic.span)
        if key not in self.reported:
            self.reported.add(key)
            self.diagnostics.append(diagnostic)

    @property
    def failed(self) -> bool:
        """Whether a fault is among them, and not warnings alone."""
        return any(found.severity == "error" for found in self.diagnostics)
