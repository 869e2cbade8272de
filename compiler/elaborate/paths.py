"""Names of parameters and states: a prefix for each body that makes one, and no name twice."""

from __future__ import annotations

from dataclasses import dataclass, field

from tapeless.compiler.elaborate.frames import Frame, join
from tapeless.compiler.elaborate.storage import Storage


@dataclass(eq=False)
class Paths:
    """The names taken in one graph."""

    storage: Storage
    taken: set[str] = field(default_factory=set)
    declared: set[str] = field(default_factory=set)

    def claim(self, wanted: str) -> str:
        """A prefix for parameters that nothing else has: the wanted one, or the wanted one numbered."""
        path, count = wanted, 1
        while path in self.taken:
            count += 1
            path = f"{wanted}_{count}"
        self.taken.add(path)
        return path

    def of(self, frame: Frame) -> str:
        """The prefix of a body's parameters, made final on first need."""
        if frame.path is None:
            if frame.caller is None:
                frame.path = ""
            elif frame.kind == "fn":
                frame.path = self.of(frame.caller)
            else:
                frame.path = self.claim(join(self.of(frame.caller), frame.segment))
        return frame.path

    def label_of(self, frame: Frame, name: str) -> str:
        """The full name of what this body stores under a name. Raises Fault if it exists."""
        label = join(self.of(frame), name, *frame.turn)
        if label in self.declared and not self.shares(frame):
            label = self.claim(label)
        if frame.kind == "optimizer":
            while label in self.storage.slots and self.storage.slots[label].role != "optimizer":
                label += "_2"
        self.declared.add(label)
        return label

    def shares(self, frame: Frame | None) -> bool:
        """Whether this body runs inside a layer made by `use`."""
        while frame is not None:
            if frame.instance is not None:
                return True
            frame = frame.caller
        return False
