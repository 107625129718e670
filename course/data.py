"""The Titanic passengers: load, check, split, and turn into numbers.

Lesson: 01a_titanic_torch. Needs NumPy and pandas; the two splitting functions also use scikit-learn.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from course.checked_csv import Column, DataError, integer, parse_column, read_rows, real

_HERE = Path(__file__).resolve()
_PLACES = (_HERE.parents[1] / "data" / "titanic.csv", _HERE.with_name("titanic.csv"))  # a checkout, a wheel
EMBEDDED = next((place for place in _PLACES if place.is_file()), _PLACES[0])
"""The titanic3 table that ships with the course: 1309 passengers (see data/README.md)."""
SHA256 = "98919d5c63fefef712481a38acd0d154887c4d96280af2c834a921ea05d124ee"
"""SHA-256 of the embedded table."""


COLUMNS = {
    "survived": Column("Survived", "0 or 1", integer, lambda v: v in (0, 1)),
    "pclass": Column("Pclass", "1, 2 or 3", integer, lambda v: v in (1, 2, 3)),
    "name": Column("Name", "a name", str),
    "sex": Column("Sex", "'female' or 'male'", str, lambda v: v in ("female", "male")),
    "age": Column("Age", "years, above 0 and up to 120", real, lambda v: 0 < v <= 120, required=False),
    "sibsp": Column("SibSp", "a count, 0 or more", integer, lambda v: v >= 0),
    "parch": Column("Parch", "a count, 0 or more", integer, lambda v: v >= 0),
    "ticket": Column("Ticket", "a ticket number", str),
    "fare": Column("Fare", "pounds, 0 or more", real, lambda v: v >= 0, required=False),
    "cabin": Column("Cabin", "cabin numbers", str, required=False),
    "embarked": Column("Embarked", "'C', 'Q' or 'S'", str, lambda v: v in ("C", "Q", "S"), required=False),
}
"""The columns that both titanic3 and Kaggle's tables have, under their titanic3 names."""


def load_titanic(path: str | Path | None = None, *, labelled: bool = True) -> pd.DataFrame:
    """Read a Titanic table, the course's own or Kaggle's, and check every field of it.

    Nothing is dropped, filled or coerced: an empty field becomes a missing value, anything else that is not
    what the column may hold is an error.

    Args:
      path: a CSV file with titanic3's or Kaggle's column names; the embedded table where None.
      labelled: whether the table has the label; False for Kaggle's test.csv.
    Returns:
      One row a passenger, under titanic3's names: survived (int64, where labelled), pclass, sibsp, parch
      (int64), age in years and fare in pounds (float64, NaN where missing), name, sex, ticket, cabin,
      embarked (text, missing where empty), then the table's other columns as text.
    Raises:
      FileNotFoundError: there is no such file.
      DataError: the table is not what it should be; the message names file, row (the header is row 1),
        column, value and remedy.
    Example:
      >>> load_titanic().shape
      (1309, 14)
    """
    path, sha256 = (EMBEDDED, SHA256) if path is None else (Path(path), None)
    header, rows = read_rows(path, sha256)
    names = _titanic3_names(path, header, labelled)
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    parsed = {
        name: parse_column(path, shown, COLUMNS.get(name, Column(shown, "text", str, required=False)), columns[name])
        for name, shown in zip(names, header, strict=True)
    }
    ordered = [name for name in COLUMNS if name in parsed] + [name for name in names if name not in COLUMNS]
    frame = pd.DataFrame({name: parsed[name] for name in ordered})
    twice = frame.duplicated(["name", "ticket"], keep=False)
    if twice.any():
        first = frame[twice].iloc[0]
        places = np.flatnonzero((frame["name"] == first["name"]) & (frame["ticket"] == first["ticket"])) + 2
        raise DataError(
            f"{path}: rows {places[0]} and {places[1]}, columns name and ticket: expected every passenger once, "
            f"got {first['name']!r} with ticket {first['ticket']!r} twice; delete one of the rows"
        )
    return frame


def find_kaggle(name: str = "train.csv", root: str | Path = "/kaggle/input") -> Path | None:
    """Find the Titanic competition's file under Kaggle's mount, wherever the dataset was attached.

    Args:
      name: "train.csv" or "test.csv".
      root: the folder to search, at any depth.
    Returns:
      The first file of that name whose header is the competition's, or None.
    """
    for path in sorted(Path(root).glob(f"**/{name}")):
        with path.open("rb") as file:
            if {b"PassengerId", b"Pclass"} <= set(file.readline().strip().split(b",")):
                return path
    return None


def _titanic3_names(path: Path, header: list[str], labelled: bool) -> list[str]:
    """The header in titanic3's names, or an error that names what is missing and what stands there instead."""
    to_titanic3 = {column.alias: name for name, column in COLUMNS.items()}
    names = [to_titanic3.get(name, name) for name in header]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: row 1: expected every column once, got {name!r} twice; delete or rename one")
    kaggle = any(name in to_titanic3 for name in header)
    strange = {n.lower(): n for n in header if n not in COLUMNS and n not in to_titanic3}
    for name, column in COLUMNS.items():
        if name in names or (name == "survived" and not labelled):
            continue
        wanted = column.alias if kaggle else name
        near = difflib.get_close_matches(wanted.lower(), strange, n=1, cutoff=0.5)
        remedy = f"rename {strange[near[0]]!r} to {wanted!r}" if near else "fetch the file again"
        if name == "survived":
            remedy += ", or pass labelled=False for a table without labels"
        raise DataError(f"{path}: row 1: expected a column {wanted!r}, got {', '.join(header)}; {remedy}")
    return names


class Split(NamedTuple):
    """Three tables without a passenger in common."""

    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame


def split(frame: pd.DataFrame, seed: int, *, valid: float = 0.16, test: float = 0.2) -> Split:
    """Split into training, validation and test passengers, each with the same share of survivors.

    Args:
      frame: a labelled table from `load_titanic`.
      seed: decides who goes where; the same seed gives the same split.
      valid: share of all passengers in the validation split, in (0, 1).
      test: share of all passengers in the test split, in (0, 1).
    Returns:
      `Split(train, valid, test)`, each with the columns and dtypes of `frame`.
    Raises:
      ValueError: the shares leave nothing for training, or the table has no labels.
    """
    from sklearn.model_selection import train_test_split

    labels(frame)

    if not (valid > 0 and test > 0 and valid + test < 1):
        raise ValueError(
            f"expected valid and test above 0 and together below 1, got valid={valid}, test={test}; lower one of them"
        )
    rest, test_frame = train_test_split(frame, test_size=test, stratify=frame["survived"], random_state=seed)
    train_frame, valid_frame = train_test_split(
        rest, test_size=valid / (1 - test), stratify=rest["survived"], random_state=seed
    )
    return Split(train_frame, valid_frame, test_frame)


def folds(frame: pd.DataFrame, seed: int, k: int = 5) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield k (train, test) pairs; every passenger is in exactly one test table, survivors evenly spread.

    Args:
      frame: a labelled table from `load_titanic`.
      seed: decides who goes where; the same seed gives the same folds.
      k: number of folds, >= 2.
    Raises:
      ValueError: the table has no labels.
    """
    from sklearn.model_selection import StratifiedKFold

    labels(frame)

    for train, test in StratifiedKFold(k, shuffle=True, random_state=seed).split(frame, frame["survived"]):
        yield frame.iloc[train], frame.iloc[test]


TITLES = ("Mr", "Mrs", "Miss", "Master")
"""The titles that the model is given. "Master" marks a boy; ages are missing, titles never are."""
FEATURES = (
    *("age", "fare", "sibsp", "parch"),
    *("class_1", "class_2", "class_3", "female"),
    *("from_C", "from_Q", "from_S"),
    *(f"title_{title}" for title in TITLES),
)
"""Names of the 15 model inputs, in column order."""


@dataclass(frozen=True)
class Features:
    """Turn passengers into 15 numbers each, with constants taken from the training split alone.

    Lesson: 01a_titanic_torch.

    Attributes:
      fill: what stands in for a missing value: the training medians of age (years) and fare (pounds), and
        the most frequent port.
      mean: training means of age, log(1 + fare), sibsp, parch, (4,) float64.
      scale: their training standard deviations, (4,) float64.
    """

    fill: dict[str, float | str]
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, train: pd.DataFrame) -> Features:
        """Take medians, the most frequent port, means and scales from a training table.

        A column that is the same in all rows gets the scale 1: it is shifted to 0, and says nothing.

        Raises:
          ValueError: columns are missing, or a column without any value leaves nothing to fill gaps with.
        """
        _check_columns(train)
        for name in ("age", "fare", "embarked"):
            if train[name].isna().all():
                raise ValueError(
                    f"expected at least one passenger whose {name!r} is known, got {len(train)} without; fit on more"
                )
        fill: dict[str, float | str] = {
            "age": float(train["age"].median()),
            "fare": float(train["fare"].median()),
            "embarked": str(train["embarked"].mode()[0]),
        }
        numbers = _numbers(train, fill)
        varies = numbers.max(axis=0) > numbers.min(axis=0)  # the deviation of equal numbers need not round to 0
        return cls(fill, numbers.mean(axis=0), np.where(varies, numbers.std(axis=0), 1.0))

    def __call__(self, frame: pd.DataFrame) -> np.ndarray:
        """Features of any table from `load_titanic`: (n, 15) float32, columns as in `FEATURES`.

        Raises:
          ValueError: columns are missing, or hold what is no class, sex, port or finite number.
        """
        _check_columns(frame)
        port = frame["embarked"].fillna(self.fill["embarked"])
        title = frame["name"].str.extract(r", ([^.]+)\.", expand=False)
        flags = [frame["pclass"] == 1, frame["pclass"] == 2, frame["pclass"] == 3, frame["sex"] == "female"]
        flags += [port == "C", port == "Q", port == "S"]
        flags += [title == t for t in TITLES]
        scaled = (_numbers(frame, self.fill) - self.mean) / self.scale  # (n, 4)
        return np.column_stack([scaled, *flags]).astype(np.float32)  # (n, 15)


def _numbers(frame: pd.DataFrame, fill: dict[str, float | str]) -> np.ndarray:
    """Age, log(1 + fare), sibsp, parch with missing values filled: (n, 4) float64."""
    age, fare = frame["age"].fillna(fill["age"]), np.log1p(frame["fare"].fillna(fill["fare"]))
    return np.column_stack([age, fare, frame["sibsp"], frame["parch"]]).astype(np.float64)


def _check_columns(frame: pd.DataFrame) -> None:
    """Refuse a table that `load_titanic` cannot have made: its features would be NaN, or zeros without a word."""
    for name in ("pclass", "sex", "embarked", "age", "fare", "sibsp", "parch", "name"):
        column = COLUMNS[name]
        if name not in frame:
            raise ValueError(f"expected a column {name!r}, got {list(frame)}; read the table with load_titanic")
        values = frame[name].dropna() if not column.required else frame[name]
        if column.parse is str:
            fits = values.map(lambda value, accept=column.accept: isinstance(value, str) and bool(accept(value)))
        elif values.dtype.kind not in "iuf":
            fits = pd.Series(False, values.index)
        elif name == "pclass":
            fits = values.isin((1, 2, 3))
        else:
            fits = values.between(0, np.finfo(float).max if name == "fare" else 2.0**63)  # a fare's logarithm is taken
        if not fits.all():
            place = int(np.flatnonzero(~fits.to_numpy(bool))[0])
            got = f"{str(values.iloc[place])!r} ({values.dtype}) in row {values.index[place]}"
            raise ValueError(
                f"expected {column.expected} in column {name!r}, got {got}; read the table with load_titanic"
            )


def labels(frame: pd.DataFrame) -> np.ndarray:
    """1.0 for a survivor, 0.0 otherwise: (n,) float32.

    Raises:
      ValueError: the table has no labels, or one is neither 0 nor 1.
    """
    if "survived" not in frame:
        raise ValueError(
            f"expected a table with the column 'survived', got {list(frame)}; only labelled tables have it"
        )
    if not frame["survived"].isin((0, 1)).all():
        raise ValueError("expected labels 0 or 1 in 'survived', got others; read the table with load_titanic")
    return frame["survived"].to_numpy(np.float32)
