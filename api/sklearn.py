"""Models as estimators of scikit-learn: `Classifier` and `Regressor`. Needs scikit-learn, the extra `sklearn`.

The model has one input, real, `[batch, d]`, and one target. Where `d` is a name (an argument of the model, or a free
size) it is the number of features in X. For `Classifier` the target is `int[batch] < n` and some output is
`[batch, n]`; where `n` is a name it is the number of classes in y, two at least. For `Regressor` the target is real,
`[batch]` or `[batch, m]`, and some output has its shape; where `m` is a name it is the number of columns in y. Sizes
given as `sizes` are left as they are.
"""

from __future__ import annotations

import contextlib
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from tapeless import dimensions
from tapeless.model import Model, load
from tapeless.runtime import confusion, pickles
from tapeless.runtime.errors import UserError
from tapeless.runtime.manifest import TensorSpec

if TYPE_CHECKING:
    from tapeless.runtime.program import Program

Array = npt.NDArray[Any]

CLASSIFIER = """\
model Classifier(features = 1, classes = 2, hidden = 64):
    input  x: [batch, features]
    target y: int[batch] < classes
    h      = Dense(x, hidden, relu)
    logits = Dense(h, classes)
    output probs = softmax(logits)
    loss   cross_entropy(logits, y)

train Classifier:
    optimizer Adam(lr = 3e-3)
    epochs 100
    batch 32
"""
REGRESSOR = """\
model Regressor(features = 1, outputs = 1, hidden = 64):
    input  x: [batch, features]
    target y: [batch, outputs]
    h      = Dense(x, hidden, relu)
    output z = Dense(h, outputs)
    loss   mean((z - y) ** 2)

train Regressor:
    optimizer Adam(lr = 3e-3)
    epochs 100
    batch 32
"""


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What both have in common. `model` is a path or the text of a model; by default a network with one hidden layer.

    `name` chooses among several models of a file, `sizes` sets their sizes ({"hidden": 128}; a grid search sets one as
    `sizes__hidden`) and `hyper` the optimizer's numbers ({"Adam.lr": 1e-3}). `random_state` decides starting weights,
    order and dropout. The rest is as for `tapeless.Options`; None leaves it to the model's `train` section.

    After `fit`, `program_` is the trained program, `run_` holds the learning curves, and `n_epochs_` their length.
    """

    _model_default = ""

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        name: str | None = None,
        sizes: dict[str, int | float] | None = None,
        hyper: dict[str, float] | None = None,
        epochs: int | None = None,
        batch: int | None = None,
        validation: float | None = None,
        patience: int | None = None,
        monitor: str | None = None,
        rising: bool | None = None,
        dtype: str = "float32",
        threads: int | None = None,
        random_state: Any = 0,
        progress: bool = False,
        cache: bool | str | PathLike[str] = True,
    ) -> None:
        self.model = model
        self.name = name
        self.sizes = sizes
        self.hyper = hyper
        self.epochs = epochs
        self.batch = batch
        self.validation = validation
        self.patience = patience
        self.monitor = monitor
        self.rising = rising
        self.dtype = dtype
        self.threads = threads
        self.random_state = random_state
        self.progress = progress
        self.cache = cache

    def set_params(self, **params: Any) -> Self:
        """As in scikit-learn; `sizes__hidden` and `hyper__Adam.lr` set one entry of `sizes` and of `hyper`."""
        plain: dict[str, Any] = {}
        for key, value in params.items():
            group, nested, inner = key.partition("__")
            if nested and group in ("sizes", "hyper"):
                plain[group] = {**(plain.get(group) or getattr(self, group) or {}), inner: value}
            else:
                plain[key] = value
        return super().set_params(**plain)  # type: ignore[no-any-return]

    # -- fitting

    def _model(self) -> Model:
        """The model as its file says now or, of an estimator that came out of a pickle, as it said when that was
        written.
        """
        kept: tuple[object, Model] | None = getattr(self, "_kept", None)
        if kept is not None and kept[0] == (self.model, self.name):
            return kept[1]
        return load(self._model_default if self.model is None else self.model, model=self.name)

    def _fit(self, X: Array, y: Array, classes: int | None) -> None:
        """Trains on checked data. `classes` is the number of them, for a classifier."""
        base = self._fitted = self._model()
        sizes = self._all_sizes(base, X, y, classes)
        model = Model(base.text, base.file, self.name, sizes, (), base.imports, base.files)
        program = model.compile(
            batch=self.batch, seed=self._seed(), dtype=self.dtype, threads=self.threads, cache=self.cache
        )
        self._find_data(program)
        for name, value in (self.hyper or {}).items():
            if name not in program.hyper:
                raise UserError(f"the optimizer has no number {name!r}; it has {', '.join(program.hyper)}")
            program.hyper[name][...] = value
        try:
            program.fit(
                {self._input: X, self._target: y}, epochs=self.epochs, validation=self.validation,
                patience=self.patience,
                monitor=self.monitor, rising=self.rising, progress=self.progress,
            )  # fmt: skip
        finally:  # after Ctrl-C, too, it can predict with what it has learnt
            if (run := program.run) is not None:
                self.run_, self.n_epochs_, self.program_ = run, run.epochs, program

    def _all_sizes(self, base: Model, X: Array, y: Array, classes: int | None) -> dict[str, int | float]:
        """The sizes given, and those that the data decide."""
        declared = dimensions.declarations(base.text, base.file, self.name)
        given = dict(self.sizes or {})
        if declared is None:  # compiling says what is wrong
            return given
        shapes = {item.name: (X if item.role == "input" else y).shape for item in declared.data}
        wanted = (declared.free() | declared.arguments) - given.keys() - {"batch"}
        found: dict[str, int | float] = dict(dimensions.sizes(frozenset(wanted), declared.data, shapes))
        if classes is not None:
            bounds = {item.bound for item in declared.data if item.role == "target" and item.bound in wanted}
            found |= {bound: max(classes, 2) for bound in bounds if bound is not None}
        return given | found

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _find_data(self, program: Program) -> None:
        """Names the one input, the one target and the output to predict with. UserError if the model is not so."""
        entry = program.having("evaluate").manifest.entries["evaluate"]
        inputs = [spec for spec in entry.data if spec.role == "input"]
        targets = [spec for spec in entry.data if spec.role == "target"]
        if len(inputs) != 1 or len(targets) != 1 or len(inputs[0].shape) != 2 or inputs[0].dtype.kind != "f":
            raise UserError(
                "for scikit-learn a model has one input, real, of shape [batch, d], and one target; "
                f"this has {', '.join(map(str, inputs))} and {', '.join(map(str, targets)) or 'no target'}"
            )
        output = self._output_for(program, targets[0])
        if output is None:
            raise UserError(f"no output of the model has the shape that the target `{targets[0]}` asks for")
        self._input, self._target, self._output = inputs[0].name, targets[0].name, output

    def _output_for(self, program: Program, target: TensorSpec) -> str | None:
        raise AssertionError("each kind of estimator says which output it predicts with")

    # -- predicting

    def _predicted(self, X: npt.ArrayLike) -> Array:
        check_is_fitted(self)
        result = self.program_.predict({self._input: self._checked(X)})
        return result[self._output] if isinstance(result, dict) else result

    def _checked(self, X: npt.ArrayLike) -> Array:
        return np.asarray(validate_data(self, X, reset=False, dtype=[np.float64, np.float32]))

    # -- copies and pickles: they keep the texts of the model, and mean the same wherever they are

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        with contextlib.suppress(UserError):  # a file that can't be read is told where it is needed
            model = self._fitted if hasattr(self, "_fitted") else self._model()
            state["_kept"] = ((self.model, self.name), model)
        return pickles.stamped(state)

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        super().__setstate__(pickles.opened(pickled, "an estimator"))

    def __sklearn_clone__(self) -> Self:
        made = super().__sklearn_clone__()
        if hasattr(self, "_kept"):
            made._kept = self._kept
        return made  # type: ignore[no-any-return]


class Classifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    __doc__ = _Estimator.__doc__

    _model_default = CLASSIFIER

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, labels = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        self._fit(np.asarray(X), labels.astype(np.int32), len(self.classes_))
        return self

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """The probability of each class, as ordered in `classes_`. Scores that are no probabilities are taken as
        logits."""
        scores = self._predicted(X).astype(np.float64)
        if (scores < 0).any() or not np.allclose(scores.sum(axis=1), 1, atol=1e-3):
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = scores[:, : len(self.classes_)]
        return np.asarray(scores / scores.sum(axis=1, keepdims=True))

    def predict(self, X: npt.ArrayLike) -> Array:
        chosen = self.predict_proba(X).argmax(axis=1)  # raises NotFittedError before there are classes
        return np.asarray(self.classes_[chosen])

    def _output_for(self, program: Program, target: TensorSpec) -> str | None:
        entries = program.having("evaluate").manifest.entries, program.image("predict").manifest.entries
        found = confusion.classes(entries[0]["evaluate"], entries[1]["predict"])
        if found is not None and found[0].bound is not None and found[0].bound < len(self.classes_):
            raise UserError(f"the model has {found[0].bound} classes, and y {len(self.classes_)}")
        return None if found is None else found[1].name


class Regressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    __doc__ = _Estimator.__doc__

    _model_default = REGRESSOR

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True)
        y = np.asarray(y)
        self._columns = y.ndim == 2
        self._fit(np.asarray(X), y if self._columns else self._as_declared(y), None)
        return self

    def _as_declared(self, y: Array) -> Array:
        """One column, where the target is declared as a table."""
        base = self._model()
        declared = dimensions.declarations(base.text, base.file, self.name)
        tables = declared is not None and any(len(i.dims) == 2 for i in declared.data if i.role == "target")
        return y[:, np.newaxis] if tables else y

    def predict(self, X: npt.ArrayLike) -> Array:
        result = self._predicted(X).astype(np.float64)
        return result if self._columns or result.ndim == 1 else result[:, 0]

    def _output_for(self, program: Program, target: TensorSpec) -> str | None:
        outputs = program.image("predict").manifest.entries["predict"].outputs
        return next((spec.name for spec in outputs if spec.shape == target.shape and spec.dtype.kind == "f"), None)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
