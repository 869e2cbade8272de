"""The estimators against scikit-learn's own checks, in pipelines and in a grid search."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import tapeless

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_diabetes, load_iris, make_regression  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks  # noqa: E402

from tapeless.sklearn import Classifier, Regressor  # noqa: E402

DIGITS = Path(__file__).parent.parent.parent / "examples" / "digits" / "digits.tl"

# The checks of scikit-learn's that are not passed, with the reasons. The estimators pass all that apply.
LEFT_OUT: dict[str, str] = {}
# The checks that scikit-learn itself skips, and why.
SKIPPED = {
    "check_array_api_input": "runs only where SciPy's array API support was switched on before it was imported",
}


# The regressor shares its code; the slow tests run the checks of both.
@parametrize_with_checks([Classifier()], expected_failed_checks=lambda estimator: LEFT_OUT)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [Classifier(), Regressor()])
def test_the_tables_above_are_true(estimator):
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    by_status = {
        status: {r["check_name"] for r in results if r["status"] == status} for status in ("failed", "skipped")
    }
    assert by_status["failed"] == set(LEFT_OUT)
    assert by_status["skipped"] <= set(SKIPPED)
    assert len(results) > 40


def test_the_digits_model_as_an_estimator(digits, cache_folder):
    image, label = digits
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    made = Classifier(DIGITS, sizes={"hidden": 32}, epochs=12, cache=cache_folder).fit(
        image[:1400], names[label[:1400]]
    )
    assert made.score(image[1400:], names[label[1400:]]) > 0.8
    assert list(made.classes_) == sorted(names) and made.n_features_in_ == 64
    np.testing.assert_allclose(made.predict_proba(image).sum(axis=1), 1)
    assert len(made.run_.curves["validation_accuracy"]) == made.n_epochs_ == 12
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(again.predict_proba(image), made.predict_proba(image))


def test_sizes_come_from_the_data_unless_given(cache_folder):
    X, y = load_iris(return_X_y=True)
    made = Classifier(epochs=1, cache=cache_folder).fit(X, y)
    assert made.program_.parameters["h.W"].shape == (4, 64)
    assert made.program_.parameters["logits.W"].shape == (64, 3)
    assert Classifier(sizes={"classes": 5}, epochs=1, cache=cache_folder).fit(X, y).predict(X).max() <= 2
    with pytest.raises(tapeless.DataError, match=r"does not fit an array of shape \[150, 4\]"):
        Classifier(sizes={"features": 5}, epochs=1, cache=cache_folder).fit(X, y)
    with pytest.raises(tapeless.UserError, match="the model has 2 classes, and y 3"):
        Classifier(sizes={"classes": 2}, epochs=1, cache=cache_folder).fit(X, y)


def test_in_a_pipeline_and_a_grid_search(cache_folder):
    X, y = load_iris(return_X_y=True)
    model = Classifier(epochs=60, batch=16, cache=cache_folder)
    assert cross_val_score(make_pipeline(StandardScaler(), model), X, y).mean() > 0.93
    grid = {"classifier__sizes__hidden": [2, 16], "classifier__hyper__Adam.lr": [1e-6, 1e-2]}
    search = GridSearchCV(make_pipeline(StandardScaler(), model), grid, cv=3).fit(X, y)
    assert search.best_score_ > 0.93 and search.best_params_["classifier__hyper__Adam.lr"] == 1e-2
    assert clone(search.best_estimator_[-1]).sizes == search.best_estimator_[-1].sizes


def test_regression(cache_folder):
    X, y = load_diabetes(return_X_y=True)
    made = make_pipeline(StandardScaler(), Regressor(epochs=120, cache=cache_folder))
    assert cross_val_score(made, X, (y - y.mean()) / y.std(), cv=3).mean() > 0.3
    X, y = make_regression(300, 6, n_targets=3, random_state=0)
    both = Regressor(epochs=60, sizes={"hidden": 48}, hyper={"Adam.lr": 0.01}, cache=cache_folder).fit(X, y / y.std())
    assert both.predict(X).shape == (300, 3) and both.score(X, y / y.std()) > 0.95
    text = (
        "model Line:\n    input x: [batch, d]\n    target y: [batch]\n    param w: [d] = 0\n"
        "    output z = x @ w\n    loss mean((z - y) ** 2)\n\ntrain Line:\n    optimizer SGD(lr = 0.1)\n    "
        "epochs 200\n"
    )
    line = Regressor(text, cache=cache_folder).fit(X, X @ np.arange(6))
    np.testing.assert_allclose(line.program_.parameters["w"], np.arange(6), atol=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("    input x: [batch, 4]\n    output z = sum(x, axis = 1)\n    loss mean(z)\n", "and no target"),
        (
            (
                "    input x: [batch, 4]\n    target y: [batch]\n    param w = 1\n    loss mean(w * y * sum(x, axis "
                "= 1))\n"
            ),
            "no output",
        ),
        ("    input x: [batch, 4]\n    target y: [batch]\n    loss mean(z)\n", "error"),
    ],
)
def test_models_that_do_not_suit(cache_folder, text, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(tapeless.UserError, match=message):
        Regressor("model M:\n" + text, cache=cache_folder).fit(X, y)
    with pytest.raises(tapeless.UserError, match="has no number 'lr'"):
        Regressor(hyper={"lr": 1}, cache=cache_folder).fit(X, y)
    with pytest.raises(NotFittedError):
        Regressor().predict(X)
