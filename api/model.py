"""A model's text with its sizes, ready to be compiled, built or looked into.

Nothing here imports the compiler until it is needed: a program that has been compiled before comes from the cache.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapeless import cache as disk
from tapeless.abi.dtypes import PRECISIONS, DType
from tapeless.runtime import arguments, pickles
from tapeless.runtime.errors import ModelWarning, UserError
from tapeless.runtime.image import Image, pack
from tapeless.runtime.program import GROUPS, Group, Program
from tapeless.runtime.threads import processors
from tapeless.runtime.turns import BUILDING

if TYPE_CHECKING:
    from tapeless.codegen.program.tuning import Plans, Tuned
    from tapeless.compiler.language.files import Files, Reach
    from tapeless.inspector import Inspection
    from tapeless.pipeline import Pipeline

MOST_BYTES = 1_000_000  # of a text


def load(
    source: str | PathLike[str],
    *,
    model: str | None = None,
    freeze: str | Sequence[str] = (),
    imports: Reach = "anywhere",
    **sizes: int | float,
) -> Model:
    """A model from a file, or from the text itself if `source` has more than one line.

    `sizes` override the model's own arguments and free dimensions; `model` chooses among several in one file. `freeze`:
    patterns of the names of parameters that training leaves alone, such as `"encoder.*"`, besides those the text
    says. `imports="beside"` keeps what the text imports to its own folder (for a text without a file: the current
    one), for texts of strangers.
    """
    if imports not in ("anywhere", "beside"):
        raise UserError(f'texts are imported from "anywhere" or from "beside" the model, not from {imports!r}')
    patterns = (freeze,) if isinstance(freeze, str) else tuple(freeze)
    if isinstance(source, str) and "\n" in source:
        _require_short("the text", len(source.encode("utf-8", "surrogatepass")))
        return Model(source, "<text>", model, sizes, patterns, imports)
    path = Path(source)
    try:
        return Model(_text(path), str(path), model, sizes, patterns, imports)
    except FileNotFoundError:
        near = [str(other) for other in sorted(path.parent.glob("*.tl"))[:5]] if path.parent.is_dir() else []
        raise UserError(f"there is no file {path}" + (f"; there is {', '.join(near)}" if near else "")) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text in UTF-8: byte {error.start} can't be read") from None
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from None


def _text(path: Path) -> str:
    """The text of a model's own file, which may be a pipe."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    _require_short(str(path), len(content))
    return content.decode("utf-8")


def _require_short(what: str, count: int) -> None:
    if count > MOST_BYTES:
        raise UserError(f"{what} is no model: a text has at most {MOST_BYTES:,} bytes")


class Model:
    """One model of one file."""

    def __init__(
        self, text: str, file: str, model: str | None, sizes: Mapping[str, int | float], freeze: Sequence[str] = (),
        imports: Reach = "anywhere", files: Files | None = None,
    ) -> None:  # fmt: skip
        self.text = text
        self.file = file
        self.name = model
        self.sizes = {name: arguments.size(name, value) for name, value in sizes.items()}
        self.freeze = tuple(freeze)
        self.imports = imports
        self._files = files
        self._pipelines: dict[tuple[str, int | None], Pipeline] = {}

    def compile(
        self,
        batch: int | None = None,
        seed: int = 0,
        dtype: str = "float32",
        threads: int | None = None,
        cache: bool | str | PathLike[str] = True,
        max_memory: int | str | None = None,
        target: str | None = None,
        tune: bool = False,
    ) -> Program:
        """The model as a native program with fresh weights from `seed`.

        `batch` is the number of rows of a training step (None: as the model says); every other call takes any number
        of rows. `threads`: see Program. `cache`: whether compiled programs are kept on disk, or the folder for them.
        `max_memory`: the most bytes that state, gradients and the workspace of a training step may take together, a
        number or a text like "2G" (None: as the model says); for it, forward values are made again in the backward
        half instead of kept, as few as it takes. UserError where that is not possible, when training begins.
        `target`: the instructions to use, such as "x86-64-v3" on a processor that has more (None: all that this one
        has). UserError, when the program is first used, if this machine does not run it.
        `tune`: measure first how the kernels of a training step are best made on this machine, see `tune`.

        What the text allows and hardly means is told as ModelWarning. Its faults are told when the program is first
        used.
        """
        store = disk.Cache(None if cache is True else Path(cache)) if cache else disk.NoCache()
        self._tell(_dtype(dtype), store)
        compiled = _Compiled(self, _dtype(dtype), store, _memory(max_memory), target)
        if tune:
            for _ in compiled.tune(batch):
                pass
        return Program(compiled, seed, threads, batch, compiled.replay)

    def tune(
        self, batch: int | None = None, dtype: str = "float32", cache: bool | str | PathLike[str] = True
    ) -> Iterator[Tuned]:
        """Measures on this machine, kernel by kernel, how a training step of `batch` rows is best made, and gives what
        was found of each: its plan and how long a call takes, before and after. When all are done, the plans are kept
        in the cache, and programs that are compiled from then on are made by them. What they compute stays the same
        bytes.
        """
        store = disk.Cache(None if cache is True else Path(cache)) if cache else disk.NoCache()
        yield from _Compiled(self, _dtype(dtype), store).tune(batch)

    def sized_for(self, data: Mapping[str, Any]) -> Model:
        """The model with the sizes that it leaves free (a dimension that is neither `batch` nor an argument) taken from
        arrays by name. DataError if two arrays disagree."""
        from tapeless import dimensions

        declared = dimensions.declarations(self.text, self.file, self.name)
        if declared is None:
            return self
        shapes = {name: tuple(getattr(array, "shape", ())) for name, array in data.items()}
        found = dimensions.sizes(declared.free() - self.sizes.keys(), declared.data, shapes)
        return Model(self.text, self.file, self.name, {**self.sizes, **found}, self.freeze, self.imports, self.files)

    def build(
        self,
        folder: str | PathLike[str],
        target: str | None = None,
        batch: int | None = None,
        dtype: str = "float32",
        max_memory: int | str | None = None,
    ) -> list[Path]:
        """Writes the program as a library for C: object file, header, manifest, and a shared library if this machine
        has a compiler and the target is its own. The paths of what was written."""
        from tapeless.build import build

        self._tell(_dtype(dtype), disk.NoCache())
        with BUILDING:
            return build(self.pipeline(dtype, _memory(max_memory)), Path(folder), target, batch)

    def inspect(
        self,
        dtype: str = "float32",
        batch: int | None = None,
        target: str | None = None,
        max_memory: int | str | None = None,
    ) -> Inspection:
        """Every stage of the compilation as text, down to the machine code of a target (None: this machine)."""
        from tapeless.inspector import Inspection

        return Inspection(self.pipeline(dtype, _memory(max_memory)), batch, target)

    def check(self) -> str:
        """The warnings about the text, empty if there are none. Raises SourceError with all faults, if it has any."""
        with BUILDING:
            pipeline = self.pipeline("float32")
            if any(port.role == "loss" for port in pipeline.model.forward[True].outputs):
                pipeline.entry("train_step")
            return "\n\n".join(pipeline.warnings())

    def _tell(self, dtype: str, store: disk.Cache) -> None:
        """Warn the caller's caller of what is allowed in the text but hardly meant."""
        for text in self._remarks(dtype, store):
            warnings.warn(text, ModelWarning, stacklevel=3)

    def _remarks(self, dtype: str, store: disk.Cache) -> Sequence[str]:
        """The warnings about the text, kept beside the programs made of it, so that those need no compiler. None of
        a text that is faulty, or whose sizes are not known yet.
        """
        with BUILDING, contextlib.suppress(UserError):
            key = disk.key(**self.identity, dtype=dtype, entries=("warnings",), capacity=None)
            with contextlib.suppress(ValueError):
                stored: object = json.loads(store.get(key) or b"")
                if isinstance(stored, list) and all(isinstance(text, str) for text in stored):
                    return stored
            found = self.pipeline(DType(dtype).numpy).warnings()
            store.put(key, json.dumps(found).encode())
            return found
        return ()

    def pipeline(self, dtype: str, memory: int | None = None) -> Pipeline:
        """The stages of the compilation in one precision, made once for a bound on memory."""
        short = _dtype(dtype)
        if (short, memory) not in self._pipelines:
            from tapeless.pipeline import Pipeline

            made = Pipeline(self.files, self.name, self.sizes, DType(short), self.freeze, memory=memory)
            self._pipelines[short, memory] = made
        return self._pipelines[short, memory]

    @property
    def files(self) -> Files:
        """The text and those that it imports, read when first asked for: what is compiled is what the cache is asked
        for.
        """
        if self._files is None:
            from tapeless.compiler.language.files import files
            from tapeless.compiler.messages.diagnostics import Source

            self._files = files(Source(self.file, self.text), self.imports)
        return self._files

    @cached_property
    def identity(self) -> dict[str, object]:
        """What, of this model, decides the bytes of its programs: its files, its sizes."""
        return {
            "files": [(source.file, source.text) for source in self.files.sources],
            "model": self.name,
            "sizes": self.sizes,
            "freeze": self.freeze,
        }

    def __getstate__(self) -> dict[str, Any]:
        """With the texts of all its files: a copy means the same, wherever it is and whatever becomes of them."""
        kept = {name: value for name, value in vars(self).items() if name != "identity"}
        return pickles.stamped({**kept, "_files": self.files, "_pipelines": {}})

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        vars(self).update(pickles.opened(pickled, "a model"))

    def __repr__(self) -> str:
        return f"<model {self.name or 'of'} {self.file}>"


class _Compiled:
    """Machine code for groups of a model's entries, from the cache or from the compiler: what a Program asks."""

    def __init__(
        self, model: Model, dtype: str, store: disk.Cache, memory: int | None = None, target: str | None = None
    ) -> None:
        self._model, self._dtype, self._store, self._memory = model, dtype, store, memory
        self._target = None if target == "host" else target
        self._tuned: dict[int | None, Plans] = {}

    def __call__(self, group: Group, capacity: int | None) -> Image:
        with BUILDING:  # whoever waits for another thread's compilation finds it in the cache
            return self._image(group, capacity)

    def replay(self, state: Mapping[str, Any], batch: Mapping[str, Any], rows: Any) -> tuple[str, bool] | None:
        """See `runtime.program.Replay`."""
        from tapeless.replay import first_not_finite

        # what has stopped training is to be told, whatever goes wrong with the reason
        with BUILDING, contextlib.suppress(Exception):
            return first_not_finite(self._model.pipeline(self._long()), state, batch, rows)
        return None

    def _long(self) -> str:
        return DType(self._dtype).numpy

    def _image(self, group: Group, capacity: int | None) -> Image:
        plans = self._plans(capacity)
        key = self._key(GROUPS[group], capacity, plans)
        stored = self._store.get(key)
        if stored is not None:
            # What is whole but no image was put there by something else: it is compiled again and replaced.
            with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError):
                return Image.from_bytes(stored)
        from tapeless.pipeline import target_to_run

        pipeline = self._model.pipeline(self._long(), self._memory)
        made = pipeline.image(GROUPS[group], target_to_run(self._target), capacity, plans, processors())
        self._store.put(key, pack(made.manifest, made.code))
        return Image.from_object(made.manifest, made.code)

    def tune(self, capacity: int | None) -> Iterator[Tuned]:
        """See `Model.tune`."""
        found: list[Tuned] = []
        measured = self._model.pipeline(self._long(), self._memory).tune(("train_step",), capacity, self._target)
        while True:
            with BUILDING:  # not while the caller looks at what was found, who may never ask for more
                one = next(measured, None)
            if one is None:
                break
            found.append(one)
            yield one
        self._tuned[capacity] = {one.key: one.best for one in found if one.best != one.expected}
        self._store.put(self._key(("plans",), capacity, {}), json.dumps(self._tuned[capacity]).encode())

    def _plans(self, capacity: int | None) -> Plans:
        """What tuning has found for so many rows."""
        if capacity not in self._tuned:
            self._tuned[capacity] = {}
            with contextlib.suppress(ValueError):
                stored: object = json.loads(self._store.get(self._key(("plans",), capacity, {})) or b"")
                if isinstance(stored, dict) and all(isinstance(plan, str) for plan in stored.values()):
                    self._tuned[capacity] = stored
        return self._tuned[capacity]

    def _key(self, entries: Sequence[str], capacity: int | None, plans: Plans) -> str:
        chosen = {"plans": plans} if plans else {}
        same = {**self._model.identity, "dtype": self._dtype, "memory": self._memory, "target": self._target}
        return disk.key(**same, entries=entries, capacity=capacity, **chosen)


def _memory(most: int | str | None) -> int | None:
    """A bound on memory in bytes."""
    from tapeless.compiler.language.byte_sizes import bytes_of

    count = bytes_of(str(most)) if isinstance(most, int | str) and not isinstance(most, bool) else None
    if most is not None and count is None:
        raise UserError(f"max_memory is a number of bytes above 0, or a text like '512M' or '2G', not {most!r}")
    return count


def _dtype(name: str) -> str:
    if name not in PRECISIONS:
        raise UserError(f"a program computes in {' or '.join(PRECISIONS)}, not in {name!r}")
    return str(PRECISIONS[name])
