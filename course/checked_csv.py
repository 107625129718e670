"""Read a CSV file strictly: every field is what its column may hold, or an error says where and what to do.

Nothing is dropped, filled or coerced on the way. Used by course.data. Needs pandas. Lesson: 01a_titanic_torch.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd


class DataError(ValueError):
    """A table that can't be used as it is; the message names file, row, column, value and remedy."""


@dataclass(frozen=True)
class Column:
    """What one column may hold. A required column has a value in every row."""

    alias: str  # the column's other name: the one in Kaggle's tables
    expected: str
    parse: Callable[[str], object]
    accept: Callable[[Any], bool] = lambda value: True  # of what `parse` makes
    required: bool = True


def integer(text: str) -> int:
    """An integer of up to 64 bits in plain digits; not int(), which would take '1_0' and digits of every script."""
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text) or not -(2**63) <= int(text) < 2**63:
        raise ValueError
    return int(text)


def real(text: str) -> float:
    """A finite decimal number; not float(), which would take 'nan', 'inf' and '1_0', and make inf of 400 digits."""
    if not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", text) or not math.isfinite(float(text)):
        raise ValueError
    return float(text)


def read_rows(path: Path, sha256: str | None = None) -> tuple[list[str], list[list[str]]]:
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
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for fields in reader:
            row = len(rows) + 1
            if not fields:
                raise DataError(f"{path}: row {row}: expected a passenger, got an empty line; delete it")
            if rows and len(fields) != len(rows[0]):
                raise DataError(
                    f"{path}: row {row}: expected {len(rows[0])} fields, got {len(fields)} "
                    f"({','.join(fields)[:60]!r}); the row is cut off or a field needs quotes"
                )
            if not rows and len(fields) == 1:
                mark = next((mark for mark in ";\t|" if mark in fields[0]), None)
                got = f"{mark!r} between the columns" if mark else f"the single column {fields[0]!r}"
                raise DataError(f"{path}: row 1: expected columns separated by commas, got {got}; save it with commas")
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


def parse_column(path: Path, shown: str, column: Column, texts: tuple[str, ...]) -> pd.Series:
    """One column as a Series; `shown` is the column's name in the file."""
    values: list[object] = []
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
    dtypes: dict[Callable[[str], object], str] = {integer: "int64", real: "float64"}
    return pd.Series(values, dtype=dtypes.get(column.parse, "object"))
