"""Accuracy, confusion, cross-validation and the rivals."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix

from course.data import load_titanic
from course.metrics import accuracy, baselines, confusion, cross_validate, summary


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_and_confusion_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    logits, y = rng.normal(size=50), rng.integers(0, 2, 50).astype(np.float32)
    assert accuracy(logits, y) == pytest.approx(accuracy_score(y, logits > 0))
    table = confusion(logits, y)
    np.testing.assert_array_equal(table.to_numpy(), confusion_matrix(y, logits > 0))
    assert table.loc["died", "survived"] == ((y == 0) & (logits > 0)).sum()


def test_confusion_keeps_a_class_that_nobody_predicts():
    assert confusion(np.array([-1.0, -2.0]), np.array([1.0, 0.0])).to_numpy().tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize("measure", [accuracy, confusion])
@pytest.mark.parametrize("shape", [(4, 1), (3,), ()])
def test_shapes_that_would_broadcast_are_refused(measure, shape):
    with pytest.raises(ValueError, match="expected logits and labels of one shape"):
        measure(np.zeros(shape), np.zeros(4))


def test_cross_validation_scores_unseen_passengers():
    seen = []

    def fit_predict(train, test):
        assert not set(train.index) & set(test.index)
        seen.extend(test.index)
        return np.where(test["sex"] == "female", 1.0, -1.0)

    scores = cross_validate(fit_predict, load_titanic(), seed=0)
    assert scores.shape == (5,) and sorted(seen) == list(range(1309))
    assert scores.mean() == pytest.approx(0.78, abs=0.001)  # the gender rule is right on 1021 of 1309


def test_rivals_stand_in_their_known_order():
    table = baselines(load_titanic(), seed=0)
    assert table.index.tolist() == ["gender rule", "logistic regression", "gradient boosting"]
    assert table["accuracy"].between([0.77, 0.79, 0.80], [0.79, 0.83, 0.83]).all()
    assert table.loc["gender rule", "accuracy"] < table["accuracy"].drop("gender rule").min()


def test_summary():
    assert summary(np.array([0.7, 0.9])).to_dict() == pytest.approx({"accuracy": 0.8, "sd": 0.1})
