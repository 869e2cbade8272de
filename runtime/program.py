"""A compiled program with its memory: train it, evaluate it, ask it for predictions and gradients.

Machine code is asked for in groups of entries, each when it is first needed, and all groups share one state.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tapeless.runtime import (
    arguments,
    belonging,
    buffers,
    checkpoint,
    confusion,
    data,
    pickles,
    restoring,
    resumption,
    sampling,
    threads,
    training,
)
from tapeless.runtime.buffers import Array, Views
from tapeless.runtime.call import Call, Memory
from tapeless.runtime.context import seed_words
from tapeless.runtime.data import Data, Examples
from tapeless.runtime.errors import DataError, UserError
from tapeless.runtime.foreign import as_array
from tapeless.runtime.image import Image
from tapeless.runtime.manifest import Entry, Manifest
from tapeless.runtime.prompt import Prompts
from tapeless.runtime.ready import Ready
from tapeless.runtime.restoring import Checkpoint
from tapeless.runtime.run import Options, Run
from tapeless.runtime.staging import StagedCall, call_over
from tapeless.runtime.stepping import Carry, Stepper
from tapeless.runtime.turns import Turns, alone

Group = Literal["start", "predict", "step", "evaluate", "gradients", "apply", "train"]
GROUPS: dict[Group, tuple[str, ...]] = {
    "start": ("init", "permutation"),
    "predict": ("predict",),
    "step": ("step",),
    "evaluate": ("evaluate",),
    "gradients": ("gradients",),
    "apply": ("apply",),
    "train": ("init", "permutation", "train_step"),
}

Images = Callable[[Group, int | None], Image]
"""Machine code for a group of entries, for batches of at least that many rows (None: as the program was compiled)."""
Replay = Callable[[Mapping[str, Array], Mapping[str, Array], Array], tuple[str, bool] | None]
"""Why the step that comes next from a state is not finite, over a batch, which are certain rows of the data: in
words, and whether weights may have brought it about. None where that can't be told.
"""


class Program:
    """One model, compiled, with one set of weights.

    `parameters`, `state` and `hyper` are live views by name: `program.parameters["h.W"][...] = W` sets a weight.
    Weights start from `seed`. `threads` is how many native threads run a call (None: as many as its work
    pays for, fewer while the machine is busy); results are the same bytes for any number. `batch` is the number of
    rows of a training step (None: as the model's `train` section says).

    Methods may be called from any thread: one is served at a time, and beside a `fit` between two of its steps, with
    the weights as they are then. The views are memory itself: what another thread trains changes while they are
    read.
    """

    def __init__(
        self,
        images: Images,
        seed: int = 0,
        threads: int | None = None,
        batch: int | None = None,
        replay: Replay | None = None,
    ) -> None:
        self._source = images
        self.replay = replay
        self._seed = seed_words(seed)
        self._begin()
        self.batch = arguments.rows_of_a_batch(batch)
        self.threads = arguments.threads(threads)
        self.progress: resumption.Progress | None = None  # where the last run stands
        self.run: Run | None = None  # what the last `fit` did, however it ended
        self.alphabet: str | None = None  # the characters that a model of text calls 0, 1, ...; kept with the weights

    def _begin(self) -> None:
        """What no copy of a program has from another: locks, machine code and memory, made when first needed."""
        self.turns = Turns()
        self._images: dict[tuple[Group, int | None], Image] = {}
        self._memory: Memory | None = None
        self._views: Views | None = None
        self._by_roles: dict[tuple[str, ...], Views] = {}
        self._steppers: dict[int, Stepper] = {}  # by the rows that they were compiled for
        self._ready: dict[str, Ready] = {}  # by entry
        self._calls: dict[tuple[Image, str, int | None, int], Call] = {}  # without data, to be made `over` some
        self._prompts: dict[tuple[int | None, int | None], Prompts] = {}  # by `batch` and `threads`
        self._initialised = False
        # what memory is to hold when there is some, in place of starting values
        self._restored: dict[str, Array] | None = None

    # -- copies and pickles: the model's text and all that the program keeps, as it is between two steps

    @alone
    def __getstate__(self) -> dict[str, Any]:
        fixed = {"source": self._source, "seed": self._seed, "batch": self.batch, "threads": self.threads,
            "alphabet": self.alphabet,
                 "replay": self.replay}  # fmt: skip
        run = None if self.run is None else replace(self.run, program=None)
        state = self._restored if not self._initialised else {name: view.copy() for name, view in self.state.items()}
        return pickles.stamped(
            {**fixed, "state": state, "progress": copy.deepcopy(self.progress), "run": copy.deepcopy(run)}
        )

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        found = pickles.opened(pickled, "a program")
        self._source, self._seed, self.replay = found["source"], found["seed"], found["replay"]
        self._begin()
        self.batch, self.threads, self.alphabet = found["batch"], found["threads"], found["alphabet"]
        self.progress, self.run, self._restored = found["progress"], found["run"], found["state"]
        if self.run is not None:
            self.run.program = self

    @alone
    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        made = memo[id(self)] = type(self).__new__(type(self))
        made.__setstate__(self.__getstate__())
        made._images = dict(self._images)  # machine code is as good for both
        return made

    def _restore(self, memory: Memory, kept: Mapping[str, Array]) -> None:
        """Fills memory with what a copy or a pickle has brought. UserError if this program keeps something else."""
        slots = self.manifest.state.slots
        if {slot.name: slot.shape for slot in slots} != {name: array.shape for name, array in kept.items()}:
            raise UserError(
                "this pickle of a program holds other parameters and state than its text asks for now: it is of "
                "another state of the package"
            )
        for name, view in Views(memory.state, slots).items():
            view[...] = kept[name]

    # -- machine code and memory, made when first needed

    @alone
    def image(self, group: Group, capacity: int | None = None) -> Image:
        """The machine code of a group of entries, for at least `capacity` rows in a batch."""
        capacity = capacity or self.batch
        key = (group, capacity)
        if key not in self._images:
            image = self._source(group, capacity)
            for entry in GROUPS[group]:
                if entry not in image.manifest.entries:
                    raise UserError(f"the program {image.manifest.model} was built without `{entry}`")
            self._images[key] = image
        return self._images[key]

    @alone
    def having(self, entry: str) -> Image:
        """Machine code that has an entry: what is there already, else the smallest group with it."""
        groups = [group for group, names in GROUPS.items() if entry in names]
        return self.image(next((group for group in groups if (group, self.batch) in self._images), groups[0]))

    @property
    @alone
    def manifest(self) -> Manifest:
        if not self._images:
            self.image("start")
        return next(iter(self._images.values())).manifest

    @alone
    def memory(self) -> Memory:
        """The state and the rest, initialised from the seed unless weights have been loaded."""
        memory = self._allocated()
        if not self._initialised:
            if self._restored is None:
                Call(self.having("init"), "init", memory, 1, seed=self._seed).run(0, 0)
            else:
                self._restore(memory, self._restored)
            self._initialised, self._restored = True, None
        return memory

    def _allocated(self) -> Memory:
        if self._memory is None:
            state, self._views = buffers.block(self.manifest.state)
            gradients, self._gradients = buffers.block(self.manifest.gradients)
            self._memory = Memory(state, gradients)
        return self._memory

    @alone
    def _slots(self, *roles: str) -> Views:
        memory = self.memory()
        if roles not in self._by_roles:
            slots = self.manifest.state.slots
            chosen = tuple(slot for slot in slots if slot.role in roles) if roles else slots
            self._by_roles[roles] = Views(memory.state, chosen)
        return self._by_roles[roles]

    @property
    def parameters(self) -> Views:
        return self._slots("param")

    @property
    def state(self) -> Views:
        """Everything the program keeps: parameters, layer and optimizer state, hyper-parameters, counters."""
        return self._slots()

    @property
    def hyper(self) -> Views:
        """The optimizer's numbers, such as `Adam.lr`; a change holds from the next step on."""
        return self._slots("hyper")

    @alone
    def reset(self, seed: int) -> None:
        """Starts again from fresh weights."""
        self.turns.require_rest("reset")
        self._seed, self._initialised, self._restored, self.progress = seed_words(seed), False, None, None

    # -- running

    def bind(self, entry: str, inputs: Data, targets: Data = None) -> Examples:
        """Data checked against what an entry takes."""
        return self._bound(self.having(entry), entry, inputs, targets)

    def _bound(self, image: Image, entry: str, inputs: Data, targets: Data = None, some: bool = True) -> Examples:
        specs = image.manifest.entries[entry].data
        if entry not in self._ready:
            self._ready[entry] = Ready(specs)
        ready = self._ready[entry].examples(inputs, targets)
        return ready or data.bind(specs, inputs, targets, image.manifest.data, some)

    def _call(self, image: Image, entry: str, examples: Examples, outputs: Sequence[Array] = ()) -> Call | StagedCall:
        """A call over checked data; what calls of an entry have in common is kept from one to the next."""
        if examples.streamed:
            return call_over(image, entry, self.memory(), self.threads, examples, outputs=outputs)
        key = (image, entry, self.threads, threads.processors())
        if key not in self._calls:
            nothing, found = np.empty(0), image.manifest.entries[entry]
            self._calls[key] = Call(
                image, entry, self.memory(), self.threads, [nothing] * len(found.data), [nothing] * len(found.outputs)
            )
        if not self._initialised:
            self.memory()
        return self._calls[key].over(examples.arrays, outputs)

    def fit(self, inputs: Data = None, targets: Data = None, **options: Any) -> Run:
        """Trains on the examples; a model without data takes one step each epoch. The options, and what they are by
        default, are those of `run.Options`.

        An array `alphabet` of characters among the inputs is kept with the weights, for `tapeless sample`.
        """
        arguments.known(options, Options.__dataclass_fields__)
        chosen = Options(**options)
        with self.turns.training():
            self.alphabet = sampling.alphabet_among(inputs) or self.alphabet
            return training.fit(self, inputs, targets, chosen)

    @alone
    def evaluate(self, inputs: Data = None, targets: Data = None) -> dict[str, float]:
        """The loss and the metrics over all the examples, each batch weighed by its rows."""
        return self.evaluate_examples(self._bound(self.having("evaluate"), "evaluate", inputs, targets))

    @alone
    def evaluate_examples(self, examples: Examples, order: Array | None = None) -> dict[str, float]:
        """As `evaluate`, on checked data; with `order`, on those rows alone."""
        image = self.having("evaluate")
        if order is None:
            call = self._call(image, "evaluate", examples)
        else:
            call = call_over(image, "evaluate", self.memory(), self.threads, examples, order)
        rows = examples.rows if order is None else len(order)
        call.run(0, rows)
        return averages(image.manifest.entries["evaluate"], call.sums, rows)

    @alone
    def predict(self, inputs: Data = None) -> Array | dict[str, Array]:
        """The model's outputs for any number of rows, also none: an array, or a dict by name if the model has
        several. One that does not depend on the data has no axis of rows.
        """
        if not self._initialised:
            self.memory()
        asked = self.batch, self.threads
        prompts = self._prompts.get(asked)
        if prompts is None:
            prompts = self._prompts[asked] = Prompts(self.image("predict"), "predict", self.memory(), self.threads)
        outputs = prompts.answer(inputs)
        if outputs is None:
            outputs = self._predicted(inputs)
        return outputs[0] if len(outputs) == 1 else dict(zip(prompts.outputs, outputs, strict=True))

    def _predicted(self, inputs: Data) -> list[Array]:
        image = self.image("predict")
        entry = image.manifest.entries["predict"]
        examples = self._bound(image, "predict", inputs, some=False)
        outputs = [np.empty(spec.concrete(examples.rows), spec.dtype) for spec in entry.outputs]
        if not examples.rows and all(output.size == 0 for output in outputs):
            pass  # no rows in, none out
        elif not examples.rows:
            outputs = self._without_rows(image, entry)
        else:
            self._call(image, "predict", examples, outputs).run(0, examples.rows)
        return outputs

    def _without_rows(self, image: Image, entry: Entry) -> list[Array]:
        """Outputs for no rows, some of which are the same for all rows: those of one that is blank, and of the
        others nothing.
        """
        blank = Examples(tuple(np.zeros(spec.concrete(1), spec.dtype) for spec in entry.data), 1)
        outputs = [np.zeros(spec.concrete(1), spec.dtype) for spec in entry.outputs]
        call_over(image, "predict", self.memory(), self.threads, blank, outputs=outputs).run(0, 1)
        return [output if spec.concrete(0) == output.shape else np.zeros(spec.concrete(0), spec.dtype)
                for spec, output in zip(entry.outputs, outputs, strict=True)]  # fmt: skip

    @alone
    def step(self, inputs: Data, carry: Carry | None = None) -> tuple[Array | dict[str, Array], Carry]:
        """The outputs at one place of a sequence, from its data and what the places before have left, and what it
        leaves itself.

        `carry` is what the step before gave; None begins a sequence. Inputs and outputs are those of `predict` at
        that place: the axis of the sequence is left out, so `text: int[batch, t]` is `[rows]` here. Steps over a
        sequence give what
        `predict` gives over all of it. UserError where the model is no such model, or the sequence is at its end.
        """
        memory = self.memory()
        capacity = 1 << (max(data.leading(inputs), 1) - 1).bit_length()  # powers of two: few programs serve all sizes
        if capacity not in self._steppers:
            self._steppers[capacity] = Stepper(self.image("step", capacity), memory, self.threads or 1)
        stepper = self._steppers[capacity]
        outputs, after = stepper.step(inputs, carry)
        if len(outputs) == 1:
            return outputs[0], after
        return dict(zip(stepper.outputs, outputs, strict=True)), after

    @property
    def places(self) -> int | None:
        """How many steps a sequence has at most; None where it may go on for ever."""
        return self.image("step", 1).manifest.entries["step"].places

    @alone
    def confusion(self, inputs: Data, targets: Data = None) -> npt.NDArray[np.int64] | None:
        """For a classifier, how often a row of the class of its row was predicted to be of the class of its column;
        None if the program is none: it has one target, labels below a bound, and one output of as many scores."""
        return confusion.table(self, inputs, targets)

    @property
    def output_names(self) -> tuple[str, ...]:
        """What `predict` gives, in order."""
        return tuple(spec.name for spec in self.image("predict").manifest.entries["predict"].outputs)

    @alone
    def gradients(self, inputs: Data = None, targets: Data = None) -> dict[str, Array]:
        """The gradient of the loss for these examples, taken as one batch: arrays by the parameters' names."""
        self._differentiate(inputs, targets)
        return {name: view.copy() for name, view in self._gradients.items()}

    @alone
    def value_and_grad(
        self, vector: npt.ArrayLike, inputs: Data = None, targets: Data = None
    ) -> tuple[float, npt.NDArray[np.float64]]:
        """The loss and its gradient at the parameters `vector`, flat as `self.vector()` is: made for scipy.optimize.

        The program's parameters are set to `vector`.
        """
        self.set_vector(vector)
        loss = self._differentiate(inputs, targets)
        return loss, _flat(self._gradients.values())

    @alone
    def vector(self) -> npt.NDArray[np.float64]:
        """All trainable parameters, one after the other, as one flat vector."""
        return _flat(self.trainable())

    @alone
    def set_vector(self, vector: npt.ArrayLike) -> None:
        """Sets all trainable parameters from one flat vector."""
        self.turns.require_rest("set_vector", callbacks=True)
        flat = as_array("vector", vector)
        views = self.trainable()
        count = sum(view.size for view in views)
        if flat.shape != (count,):
            raise DataError(f"the parameters are a vector of {count} numbers, not of shape {list(flat.shape)}")
        start = 0
        for view in views:
            view[...] = flat[start : start + view.size].reshape(view.shape)
            start += view.size

    @alone
    def apply(self, gradients: Mapping[str, npt.ArrayLike]) -> None:
        """One step of the optimizer with the given gradients, all of them, by the parameters' names."""
        self.turns.require_rest("apply", callbacks=True)
        image, memory = self.image("apply"), self.memory()
        for name, view in self._gradients.items():
            if name not in gradients:
                raise DataError(f"the gradient of `{name}` is missing")
            value = as_array(name, gradients[name])
            if value.shape != view.shape:
                raise DataError(f"the gradient of `{name}` is {list(value.shape)}, not {list(view.shape)}")
            view[...] = value
        self.progress = None
        Call(image, "apply", memory, self.threads).run(0, 0)

    def trainable(self) -> list[Array]:
        """Live views of the parameters that training changes, in the order of `vector`."""
        parameters = self.parameters
        return [parameters[slot.name] for slot in self.manifest.gradients.slots]

    def _differentiate(self, inputs: Data, targets: Data) -> float:
        """Fills the gradient block for all rows taken as one batch; the loss."""
        image = self.image("gradients")
        entry = image.manifest.entries["gradients"]
        examples = self._bound(image, "gradients", inputs, targets)
        if examples.rows > image.manifest.capacity:
            # Powers of two: few programs serve all sizes.
            image = self.image("gradients", 1 << (examples.rows - 1).bit_length())
        arrays = [data.native(spec, array) for spec, array in zip(entry.data, examples.arrays, strict=True)]
        call = self._call(image, "gradients", Examples(tuple(arrays), examples.rows))
        call.run(0, examples.rows)
        return averages(entry, call.sums, examples.rows)["loss"]

    # -- checkpoints

    def save(self, path: str | Path) -> None:
        """Writes everything the program keeps into a safetensors file, whole or not at all: parameters, state of layers
        and optimizer, hyper-parameters, counters and, after `fit`, where the run stands, so that it can be resumed."""
        checkpoint.save(path, *self._contents())  # beside a run that goes on: writing takes longer than copying

    @alone
    def _contents(self) -> tuple[dict[str, Array], dict[str, str]]:
        """What a checkpoint holds, at this moment between two steps: tensors of its own, and metadata."""
        metadata = {"format": "3", "program": belonging.record(self.manifest).to_json()}
        if self.alphabet is not None:
            metadata["alphabet"] = self.alphabet
        if self.progress is not None:
            metadata |= {"training": self.progress.to_json(), "image": self.image("train").digest}
        tensors = resumption.contents(self.state, self.progress)
        return {name: np.array(tensor) for name, tensor in tensors.items()}, metadata

    @alone
    def load(self, path: str | Path, only: str | Iterable[str] | None = None) -> None:
        """Takes over the weights, and all else that fits, from a file that `save` wrote.

        `only`: patterns of names, such as `"encoder.*"`: of any safetensors file, the parameters and states of
        layers so called, by their names; the others stay as they are.
        """
        self.turns.require_rest("load", callbacks=True)
        if only is None:
            self._take(restoring.read(path, self.manifest))
            return
        tensors = restoring.read_some(path, self.manifest, (only,) if isinstance(only, str) else tuple(only))
        for name, tensor in tensors.items():
            self.state[name][...] = tensor
        self.progress = None

    @alone
    def resume(self, path: str | Path) -> list[str]:
        """Takes over a checkpoint as a whole, to continue its run; remarks about it. `fit(..., resume=path)` calls
        this. CheckpointError if it is not one of this very program, or holds no run."""
        self.turns.require_rest("resume", callbacks=True)
        image = self.image("train")
        found = restoring.read_run(path, self.manifest, image.manifest.entries["train_step"])
        assert found.progress is not None and found.record is not None
        anew = belonging.anew(found.record, self.manifest.settings)
        self._take(found)
        notes = [
            f"`{name}` is {value:g}, as the text says now"
            for name, value in (*found.changed.items(), *anew.items())
            if value is not None
        ]
        for name, value in found.changed.items():
            self.state[name][...] = value
        found.progress.go_on(**anew)
        if found.image != image.digest and not found.changed:  # these are in the code that starts a program
            notes.append(
                "the checkpoint was written by other machine code (another processor or version); training continues "
                "from it, but not to the same last bit"
            )
        return notes

    def _take(self, found: Checkpoint) -> None:
        self._allocated()
        if not self._initialised and not all(slot.name in found.tensors for slot in self.manifest.state.slots):
            self.memory()
        assert self._views is not None
        for name, tensor in found.tensors.items():
            self._views[name][...] = tensor
        self.progress, self._initialised, self._restored = found.progress, True, None
        self.alphabet = found.alphabet if found.alphabet is not None else self.alphabet

    def __repr__(self) -> str:
        manifest = self.manifest
        count = sum(slot.size for slot in manifest.state.with_role("param"))
        return f"<program {manifest.model}: {count:,} parameters, {manifest.dtype}, batches of {manifest.capacity}>"


def _flat(views: Iterable[Array]) -> npt.NDArray[np.float64]:
    """All numbers, one after the other; none at all for a model without parameters."""
    return np.concatenate([np.empty(0), *(view.ravel() for view in views)])


def averages(entry: Entry, sums: Iterable[float], rows: int) -> dict[str, float]:
    """An entry's sums over batches as losses and metrics over all rows, by name."""
    return entry.averages(sums, rows)


__all__ = ["GROUPS", "Group", "Images", "Program", "Replay", "averages"]
