"""Rows as aligned text: what `make run` and the benchmarks print. Needs nothing but Python."""

from __future__ import annotations


def print_table(rows: list[dict]) -> None:
    """Print rows with equal keys under a header, columns of numbers flush right; no rows print nothing.

    Args:
      rows: one dict a line; a float is shown with four digits, None as "-", anything else as its text.
    """
    if not rows:
        return
    lines = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    columns = list(zip(*lines, strict=True))
    aligned = []
    for column in columns:
        width = max(map(len, column))
        numbers = all(_is_number(cell) for cell in column[1:])
        aligned.append([cell.rjust(width) if numbers else cell.ljust(width) for cell in column])
    for line in zip(*aligned, strict=True):
        print("  ".join(line).rstrip())


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell == "-"
    return True
