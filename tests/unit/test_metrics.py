"""Accuracy, confusion, cross-validation and the rivals."""

import ml_dtypes
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix

from course.data import load_titanic
from course.metrics import accuracy, baselines, confusion, cross_validate, gender_rule, summary


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_and_confusion_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    logits, y = rng.normal(size=50), rng.integers(0, 2, 50).astype(np.float32)
    assert accuracy(logits, y) == pytest.approx(accuracy_score(y, logits > 0))
    table = confusion(logits, y)
    np.testing.assert_array_equal(table.to_numpy(), confusion_matrix(y, logits > 0))
    assert table.loc["died", "survived"] == ((y == 0) & (logits > 0)).sum()


def test_a_logit_above_zero_predicts_survival():
    logits, survived = np.array([-3.0, -0.4, -1e-9, 0.0, 1e-9, 0.4, 3.0]), np.array([0, 0, 0, 0, 1, 1, 1.0])
    assert accuracy(logits, survived) == 1 and accuracy(logits, 1 - survived) == 0
    assert accuracy(logits, np.zeros(7)) == pytest.approx(4 / 7)
    assert confusion(logits, survived).to_numpy().tolist() == [[4, 0], [0, 3]]


def test_confusion_keeps_a_class_that_nobody_predicts():
    assert confusion(np.array([-1.0, -2.0]), np.array([1.0, 0.0])).to_numpy().tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize("measure", [accuracy, confusion])
@pytest.mark.parametrize("shape", [(4, 1), (3,), (5,), ()])
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


@pytest.mark.slow
def test_rivals_stand_in_their_known_order():
    table = baselines(load_titanic(), seed=0)
    assert table.index.tolist() == ["gender rule", "logistic regression", "gradient boosting"]
    assert table["accuracy"].between([0.77, 0.79, 0.80], [0.79, 0.83, 0.83]).all()
    assert table.loc["gender rule", "accuracy"] < table["accuracy"].drop("gender rule").min()


def test_the_gender_rule_is_1_for_a_woman():
    passengers = load_titanic().head(20)
    assert gender_rule(passengers).tolist() == [1.0 if sex == "female" else -1.0 for sex in passengers["sex"]]


def test_summary():
    assert summary(np.array([0.7, 0.9])).to_dict() == pytest.approx({"accuracy": 0.8, "sd": 0.1})


@pytest.mark.parametrize("measure", [accuracy, confusion])
@pytest.mark.parametrize(
    ("logits", "y", "message"),
    [
        (np.full(5, np.nan), np.zeros(5), "without NaN, got 5 of 5, the first in row 0; the model diverged"),
        ([1.0, np.nan], [0, 1], "without NaN, got 1 of 2, the first in row 1"),
        ([1.0, 2.0], [0, 2], "labels 0 or 1, got 2 in row 1; pass the labels second"),
        ([1.0, 2.0], [0, -1], "labels 0 or 1, got -1 in row 1"),
        ([1.0, 2.0], [0.0, np.nan], "labels 0 or 1, got nan in row 1"),
        ([0, 1], [0.3, -0.7], "labels 0 or 1, got 0.3 in row 0"),
        ([], [], "at least one passenger, got none"),
        (["1", "2"], [0, 1], "logits as real numbers, got <U1"),
        ([1.0, None], [0, 1], "logits as real numbers, got object"),
        ([1j, 1.0], [0, 1], "logits as real numbers, got complex128"),
        ([1.0, 2.0], ["died", "survived"], "labels as real numbers, got <U8"),
    ],
)
def test_what_is_no_prediction_or_label_is_refused(measure, logits, y, message):
    """NaN is not above 0, so a diverged model scored as "all died"."""
    with pytest.raises((TypeError, ValueError), match=message):
        measure(logits, y)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, bool, ml_dtypes.bfloat16])
def test_any_real_dtype_is_measured(dtype):
    assert accuracy(np.array([1, 0, 1, 0]).astype(dtype), np.array([1, 0, 0, 0]).astype(dtype)) == 0.75
    assert accuracy([np.inf, -np.inf], [True, False]) == 1.0


@pytest.mark.parametrize("scores", [[], [0.8, np.nan]])
def test_a_summary_of_nothing_is_refused(scores):
    with pytest.raises(ValueError, match="expected finite accuracies, at least one"):
        summary(np.array(scores))
