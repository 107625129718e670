"""The Titanic passengers: load, check, split, and turn into numbers.

Taught in 01a_titanic_torch. Needs NumPy and pandas; the two splitting functions also use scikit-learn.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

_HERE = Path(__file__).resolve()
_PLACES = (_HERE.parents[1] / "data" / "titanic.csv", _HERE.with_name("titanic.csv"))  # a checkout, a wheel
EMBEDDED = next((place for place in _PLACES if place.is_file()), _PLACES[0])
"""The titanic3 table that ships with the course: 1309 passengers (see data/README.md)."""
SHA256 = "98919d5c63fefef712481a38acd0d154887c4d96280af2c834a921ea05d124ee"
"""SHA-256 of the embedded table."""


class DataError(ValueError):
    """A table that can't be used as it is; the message names file, row, column, value and remedy."""


@dataclass(frozen=True)
class _Column:
    """What one column may hold. A required column has a value in every row."""

    kaggle: str
    expected: str
    parse: Callable[[str], object]
    accept: Callable[[object], bool] = lambda value: True
    required: bool = True


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text):
        raise ValueError
    return int(text)


def _real(text: str) -> float:
    if not re.fullmatch(r"[+-]?\d+(\.\d*)?", text):  # not float(): it would take 'nan', 'inf' and '1_0'
        raise ValueError
    return float(text)


COLUMNS = {
    "survived": _Column("Survived", "0 or 1", _integer, lambda v: v in (0, 1)),
    "pclass": _Column("Pclass", "1, 2 or 3", _integer, lambda v: v in (1, 2, 3)),
    "name": _Column("Name", "a name", str),
    "sex": _Column("Sex", "'female' or 'male'", str, lambda v: v in ("female", "male")),
    "age": _Column("Age", "years, above 0 and up to 120", _real, lambda v: 0 < v <= 120, required=False),
    "sibsp": _Column("SibSp", "a count, 0 or more", _integer, lambda v: v >= 0),
    "parch": _Column("Parch", "a count, 0 or more", _integer, lambda v: v >= 0),
    "ticket": _Column("Ticket", "a ticket number", str),
    "fare": _Column("Fare", "pounds, 0 or more", _real, lambda v: v >= 0, required=False),
    "cabin": _Column("Cabin", "cabin numbers", str, required=False),
    "embarked": _Column("Embarked", "'C', 'Q' or 'S'", str, lambda v: v in ("C", "Q", "S"), required=False),
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
    header, rows = _read(path, sha256)
    names = _titanic3_names(path, header, labelled)
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    parsed = {name: _parse(path, header[i], name, columns[name]) for i, name in enumerate(names)}
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


def _read(path: Path, sha256: str | None = None) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV file as text, each row as wide as the header."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a CSV file, got nothing there; check the path")
    raw = path.read_bytes()
    if sha256 and hashlib.sha256(raw).hexdigest() != sha256:
        raise DataError(
            f"{path}: expected the table with SHA-256 {sha256}, got another file; fetch data/titanic.csv again"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: row {row}: expected UTF-8 text, got the byte {raw[error.start]:#04x}; "
            "save the file with the encoding UTF-8"
        ) from None
    rows = []
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        for fields in reader:
            if rows and fields and len(fields) != len(rows[0]):
                raise DataError(
                    f"{path}: row {len(rows) + 1}: expected {len(rows[0])} fields, got {len(fields)} "
                    f"({','.join(fields)[:60]!r}); the row is cut off or a field needs quotes"
                )
            if not fields:
                raise DataError(f"{path}: row {len(rows) + 1}: expected a passenger, got an empty line; delete it")
            rows.append(fields)
    except csv.Error as error:
        raise DataError(
            f"{path}: row {len(rows) + 1}: expected a complete row, got {error}; "
            "the file is cut off or a quote is not closed: fetch it again"
        ) from None
    if len(rows) < 2:
        got = "an empty file" if not rows else "a header without rows"
        raise DataError(f"{path}: expected a header and at least one passenger, got {got}; fetch it again")
    if rows[-1][-1] == "" and not text.endswith(("\n", "\r")):
        raise DataError(
            f"{path}: row {len(rows)}, column {rows[0][-1]!r}: expected a value or a line break, got the end of the "
            "file; it may be cut off: fetch it again, or end its last line"
        )
    return rows[0], rows[1:]


def _titanic3_names(path: Path, header: list[str], labelled: bool) -> list[str]:
    """The header in titanic3's names, or an error that names what is missing and what stands there instead."""
    if len(header) == 1:
        separator = next((mark for mark in (";", "\t", "|") if mark in header[0]), None)
        got = f"{separator!r} between the columns" if separator else f"the single column {header[0]!r}"
        raise DataError(f"{path}: row 1: expected columns separated by commas, got {got}; save it as CSV with commas")
    to_titanic3 = {column.kaggle: name for name, column in COLUMNS.items()}
    names = [to_titanic3.get(name, name) for name in header]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: row 1: expected every column once, got {name!r} twice; delete or rename one")
    kaggle = any(name in to_titanic3 for name in header)
    for name, column in COLUMNS.items():
        if name in names or (name == "survived" and not labelled):
            continue
        wanted = column.kaggle if kaggle else name
        near = difflib.get_close_matches(wanted.lower(), [n.lower() for n in header], n=1, cutoff=0.5)
        got = next((n for n in header if near and n.lower() == near[0] and n not in to_titanic3), None)
        remedy = "fetch the file again" if got is None else f"rename {got!r} to {wanted!r}"
        if name == "survived":
            remedy += ", or pass labelled=False for a table without labels"
        raise DataError(f"{path}: row 1: expected a column {wanted!r}, got {', '.join(header)}; {remedy}")
    return names


def _parse(path: Path, shown: str, name: str, texts: tuple[str, ...]) -> pd.Series:
    """One column as a Series; `shown` is the column's name in the file."""
    column = COLUMNS.get(name, _Column(shown, "text", str, required=False))
    values = []
    for row, text in enumerate(texts, start=2):
        if text == "" and not column.required:
            values.append(None)
            continue
        try:
            value = column.parse(text)
            if text == "" or not column.accept(value):
                raise ValueError
        except ValueError:
            missing = "" if column.required else ", or leave the field empty where it is unknown"
            raise DataError(
                f"{path}: row {row}, column {shown!r}: expected {column.expected}, got {text!r}; "
                f"correct the value{missing}"
            ) from None
        values.append(value)
    dtype = {_integer: "int64", _real: "float64"}.get(column.parse, "object")
    return pd.Series(values, dtype=dtype)


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
      ValueError: the shares leave nothing for training.
    """
    from sklearn.model_selection import train_test_split

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
    """
    from sklearn.model_selection import StratifiedKFold

    for train, test in StratifiedKFold(k, shuffle=True, random_state=seed).split(frame, frame["survived"]):
        yield frame.iloc[train], frame.iloc[test]


TITLES = ("Mr", "Mrs", "Miss", "Master")  # "Master" marks a boy; ages are missing, titles never are
FEATURES = (
    *("age", "fare", "sibsp", "parch"),
    *("class_1", "class_2", "class_3", "female"),
    *("from_C", "from_Q", "from_S"),
    *(f"title_{title}" for title in TITLES),
)
"""Names of the 15 model inputs, in column order."""
_SCALED = 4  # the first four are standardised, the others are 0 or 1


@dataclass(frozen=True)
class Features:
    """Turn passengers into 15 numbers each, with constants taken from the training split alone.

    Taught in 01a_titanic_torch.

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
        """Take medians, the most frequent port, means and scales from a training table."""
        fill = {
            "age": float(train["age"].median()),
            "fare": float(train["fare"].median()),
            "embarked": str(train["embarked"].mode()[0]),
        }
        numbers = _numbers(train, fill)
        return cls(fill, numbers.mean(axis=0), numbers.std(axis=0))

    def __call__(self, frame: pd.DataFrame) -> np.ndarray:
        """Features of any table from `load_titanic`: (n, 15) float32, columns as in `FEATURES`."""
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


def labels(frame: pd.DataFrame) -> np.ndarray:
    """1.0 for a survivor, 0.0 otherwise: (n,) float32."""
    return frame["survived"].to_numpy(np.float32)
