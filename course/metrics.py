"""How good is a classifier: accuracy, confusion, cross-validation, and what to compare it with.

Lesson: 01a_titanic_torch. Needs NumPy and pandas; `baselines` also uses scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from course.data import Features, folds, labels

FitPredict = Callable[[pd.DataFrame, pd.DataFrame], np.ndarray]
"""(training table, held-out table) -> logits (n,) for the second."""


def accuracy(logits: ArrayLike, y: ArrayLike) -> float:
    """Share of passengers on the right side of zero.

    Lesson: 01a_titanic_torch.

    Args:
      logits: (n,) array of any framework, n >= 1, without NaN; above 0 predicts survival.
      y: (n,) labels, 0 or 1.
    Raises:
      ValueError: the shapes are not one and the same (n,), (n, 1) against (n,) would broadcast to (n, n); there are no
        passengers; a logit is NaN, as a model that diverged gives it; a label is neither 0 nor 1.
      TypeError: logits or labels are no real numbers.
    """
    logits, y = _paired(logits, y)
    return float(((logits > 0) == (y > 0.5)).mean())


def confusion(logits: ArrayLike, y: ArrayLike) -> pd.DataFrame:
    """Counts of predicted against true outcomes, a 2 x 2 table; arguments and errors as for `accuracy`."""
    logits, y = _paired(logits, y)
    names = np.array(["died", "survived"])
    table = pd.crosstab(
        pd.Categorical(names[(y > 0.5).astype(int)], names),
        pd.Categorical(names[(logits > 0).astype(int)], names),
        dropna=False,
    )
    return table.rename_axis(index="truth", columns="predicted")


def _paired(logits: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    logits, y = np.asarray(logits), np.asarray(y)
    if logits.ndim != 1 or logits.shape != y.shape:
        raise ValueError(
            f"expected logits and labels of one shape (n,), got {logits.shape} and {y.shape}; squeeze the last axis"
        )
    if len(y) == 0:
        raise ValueError("expected at least one passenger, got none; check what the table was filtered by")
    for name, values in (("logits", logits), ("labels", y)):
        if values.dtype.kind not in "biufV":  # V: bfloat16 and its like
            raise TypeError(f"expected {name} as real numbers, got {values.dtype}; make numbers of them first")
    lost, strange = np.isnan(logits), (y != 0) & (y != 1)
    if lost.any():
        raise ValueError(
            f"expected logits without NaN, got {lost.sum()} of {len(y)}, the first in row {lost.argmax()}; the model "
            "diverged, or was given missing values"
        )
    if strange.any():
        row = strange.argmax()
        raise ValueError(f"expected labels 0 or 1, got {y[row]} in row {row}; pass the labels second, as 0 and 1")
    return logits, y


def cross_validate(fit_predict: FitPredict, passengers: pd.DataFrame, seed: int) -> np.ndarray:
    """Accuracy on each of five stratified folds, every passenger predicted once by a model that never saw them.

    Lesson: 01a_titanic_torch.

    Args:
      fit_predict: trains on its first table and returns logits (n,) for its second.
      passengers: a labelled table from `course.data.load_titanic`.
      seed: decides the folds.
    Returns:
      (5,) float64 accuracies.
    """
    return np.array([accuracy(fit_predict(train, test), labels(test)) for train, test in folds(passengers, seed)])


def gender_rule(passengers: pd.DataFrame) -> np.ndarray:
    """Logits (n,) of the rule "women survive, men don't": 1 for a woman, -1 for a man."""
    return np.where(passengers["sex"] == "female", 1.0, -1.0)


def baselines(passengers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What a network has to beat, on the same five folds and the same features.

    Args:
      passengers: a labelled table from `course.data.load_titanic`.
      seed: decides the folds and the boosting.
    Returns:
      A table with a row for the gender rule ("women survive"), logistic regression and gradient boosting;
      columns accuracy (mean over folds) and sd (standard deviation over folds).
    """
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    def sklearn(make_estimator: Callable[[], Any]) -> FitPredict:
        def fit_predict(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
            features = Features.fit(train)
            return make_estimator().fit(features(train), labels(train)).decision_function(features(test))

        return fit_predict

    rivals = {
        "gender rule": lambda train, test: gender_rule(test),
        "logistic regression": sklearn(lambda: LogisticRegression(max_iter=1000)),
        "gradient boosting": sklearn(lambda: GradientBoostingClassifier(random_state=seed)),
    }
    return pd.DataFrame({name: summary(cross_validate(rival, passengers, seed)) for name, rival in rivals.items()}).T


def summary(scores: np.ndarray) -> pd.Series:
    """Mean and standard deviation of fold accuracies, named accuracy and sd.

    Raises:
      ValueError: there are none, or one is not finite.
    """
    if np.size(scores) == 0 or not np.isfinite(scores).all():
        raise ValueError(f"expected finite accuracies, at least one, got {scores!r:.80}; score every fold first")
    return pd.Series({"accuracy": np.mean(scores), "sd": np.std(scores)})
