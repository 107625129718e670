"""Checks of the exercises on exported programs, symbolic dimensions, padding and bad input. Needs NumPy and JAX.

Lesson: 15_ship_it.
"""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from course.checks.core import check, function, predicted_parts, same, wrong

LESSON = "15_ship_it"
PLATFORMS = ("cpu", "cuda", "tpu")


@check(
    LESSON,
    "Write predict(x) first, with mean, scale and the weights as constants; export(jax.jit(predict), platforms=...).",
    'The open dimension: (n,) = export.symbolic_shape("n"), then jax.ShapeDtypeStruct((n, d), jnp.float32).',
    "export.export(...)(rows) is an Exported; .serialize() makes bytes of it.",
    points=3,
)
def shipped_pipeline(rng: np.random.Generator, ship: Any) -> None:
    """The bytes of a program with scaling, weights and softmax in it; its results against PyTorch."""
    import torch

    d, k = int(rng.integers(3, 6)), int(rng.integers(3, 6))
    w, b = rng.normal(size=(d, k)).astype("f"), rng.normal(size=k).astype("f")
    mean, scale = (2 + rng.normal(size=d)).astype("f"), rng.uniform(2.0, 4.0, d).astype("f")
    blob = function(ship, "ship(params, mean, scale)")({"w": w, "b": b}, mean, scale)
    if isinstance(blob, export.Exported):
        wrong("ship is to return bytes.", got="an Exported", slip="call .serialize() on it")
    if not isinstance(blob, bytes | bytearray):
        wrong("ship is to return bytes.", got=blob, slip="a forgotten return, or the function that was to be exported")
    try:
        program = export.deserialize(bytearray(blob))
    except Exception:  # any bytes may come
        wrong("these bytes are no program of jax.export.", slip="export.export(...)(rows).serialize()")
    if len(program.in_avals) != 1:
        wrong(
            f"the program takes {len(program.in_avals)} arrays, where rows alone were asked for.",
            slip="mean, scale and weights are constants of the function, not arguments of it",
        )
    shape, dtype = program.in_avals[0].shape, program.in_avals[0].dtype
    if len(shape) != 2 or not export.is_symbolic_dim(shape[0]):
        wrong(
            f"the program takes {program.in_avals[0]}, where any number of rows was asked for.",
            slip='a fixed number of rows; (n,) = export.symbolic_shape("n")',
        )
    if shape[1] != d or dtype != np.float32:
        wrong(f"the program takes {program.in_avals[0]}, where (n, {d}) float32 was asked for.")
    if set(program.platforms) != set(PLATFORMS):
        wrong(
            f"the program is for {', '.join(program.platforms)}, where {', '.join(PLATFORMS)} were asked for.",
            slip="without platforms=(...) a program is lowered for this machine's alone",
        )
    for rows in (int(rng.integers(2, 9)), 1):
        x = rng.normal(size=(rows, d)).astype("f") + 2
        tensor = torch.from_numpy(x)
        scaled = (tensor - torch.from_numpy(mean)) / torch.from_numpy(scale)
        logits = scaled @ torch.from_numpy(w) + torch.from_numpy(b)
        try:
            got = program.call(x)
        except Exception as error:  # a constraint on n, say
            wrong(f"the program refuses {rows} rows.", got=f"{type(error).__name__}", slip="a constraint on n")
        raw, off = tensor @ torch.from_numpy(w) + torch.from_numpy(b), tensor - torch.from_numpy(mean)
        same(
            got, logits.softmax(-1).numpy(), f"the probabilities of {rows} rows", rtol=1e-4, atol=1e-5,
            slips={
                "the rows are not scaled; the client would have to know mean and scale": raw.softmax(-1).numpy(),
                "the logits; the softmax belongs to the program": logits.numpy(),
                "softmax over the rows; it goes over the classes, the last axis": logits.softmax(0).numpy(),
                "multiplied by scale, where it divides": (
                    (off * torch.from_numpy(scale)) @ torch.from_numpy(w) + torch.from_numpy(b)
                ).softmax(-1).numpy(),
                "a sigmoid, where softmax was asked for": logits.sigmoid().numpy(),
            },
        )  # fmt: skip


def _verdicts() -> dict[str, str]:
    """The functions of the exercise, exported."""

    def averaged(x: Any) -> Any:
        return x.sum(axis=0) / x.shape[0]

    def counted(x: Any) -> Any:
        return x.sum(axis=0) / len(x)

    def doubled(x: Any) -> Any:
        return 2 * x if x.shape[0] >= 1 else x

    def halved(x: Any) -> Any:
        return x[: x.shape[0] // 2]

    def looped(x: Any) -> Any:
        return jnp.stack([row.sum() for row in x])

    def padded(x: Any) -> Any:
        return jnp.pad(x, ((0, 8 - x.shape[0]), (0, 0)))

    (b,) = export.symbolic_shape("b")
    found = {}
    for f in (averaged, counted, doubled, halved, looped, padded):
        try:
            export.export(jax.jit(f))(jax.ShapeDtypeStruct((b, 3), jnp.float32))
            found[f.__name__] = "exports"
        except Exception:  # InconclusiveDimensionOperation, TypeError
            found[f.__name__] = "refused"
    return found


@check(
    LESSON,
    "A symbolic dimension can be added, multiplied and divided. What can't be done is to know it, or to compare it.",
    "Comparisons are decided where they hold for every b from 1 on.",
    "len(x) is Python's: it must return an int. So must the number of turns of a Python loop.",
    points=2,
)
def symbolic_batches(rng: np.random.Generator, verdicts: Any) -> None:
    """Which functions export with a symbolic batch; measured by exporting them."""
    slips: dict[str, dict[Any, str]] = {
        "averaged": {"refused": "x.shape[0] takes part in arithmetic like a number that is known later"},
        "counted": {"exports": "len() is Python's, and must return an int; x.shape[0] need not be one"},
        "doubled": {"refused": "a symbolic dimension is at least 1, so this comparison is decided"},
        "halved": {"refused": "b // 2 is a dimension too: the result is (b // 2, 3)"},
        "looped": {"exports": "Python unrolls this loop while tracing, and would have to know how often"},
        "padded": {"exports": "8 - b is negative for large b, and nothing says that b is small"},
    }
    predicted_parts(verdicts, _verdicts(), slips, '"{}"')


@check(
    LESSON,
    "range(0, len(x), max(compiled)) walks over the parts; the last one may be shorter.",
    "The program of a part: min(size for size in compiled if size >= len(part)).",
    "Copy the part into zeros of that size, call, and keep the first len(part) predictions.",
    points=3,
)
def padded_chunks(rng: np.random.Generator, predict_all: Any) -> None:
    """Predictions of any number of rows by programs of a few sizes; each program notes its calls."""
    answer = function(predict_all, "predict_all(compiled, x)")
    small = int(rng.integers(2, 4))
    middle, large = small + int(rng.integers(2, 4)), small + int(rng.integers(6, 9))
    d, sizes = int(rng.integers(2, 4)), [middle, large, small]
    weights = rng.uniform(0.5, 1.5, d).astype("f")
    for n in (small, small - 1, small + 1, large, middle, 2 * large + small + 1, large + 1, 2 * large):
        x = rng.uniform(1.0, 2.0, (n, d)).astype("f")
        calls: list[tuple[int, np.ndarray]] = []

        def program(size: int, calls: list[tuple[int, np.ndarray]] = calls) -> Any:
            def call(rows: Any) -> np.ndarray:
                rows = np.asarray(rows)
                if rows.shape != (size, d):
                    wrong(
                        f"the program for {size} rows was called with {rows.shape}.",
                        slip="a compiled program takes exactly its own shape; fill up with zeros",
                    )
                calls.append((size, rows.copy()))
                return rows @ weights

            return call

        got = answer({size: program(size) for size in sizes}, x)
        if isinstance(got, list):
            got = np.asarray(got, np.float32)
        rest = n % large
        due = [large] * (n // large) + ([min(size for size in sizes if size >= rest)] if rest else [])
        expected = x @ weights
        filled = [expected[at : at + large] for at in range(0, n, large)]
        whole = np.concatenate([np.pad(part, (0, size - len(part))) for part, size in zip(filled, due, strict=True)])
        same(
            got, expected, f"the predictions of {n} rows with programs for {sizes}", rtol=1e-4, atol=1e-5,
            slips={
                "the predictions of the filling are to be cut off": whole,
                "rows beyond the largest size are dropped": expected[:large],
                "the last rows, fewer than the largest size, are dropped": expected[: n - rest],
                "only the last part is returned; collect them": filled[-1],
            },
        )  # fmt: skip
        used = [size for size, _ in calls]
        if sorted(used) != sorted(due):
            slip = "the order of the dict says nothing; take the smallest size that holds what is left"
            if set(used) == {large}:
                slip = "always the largest program: one row would cost as much as all; take the smallest that holds it"
            elif len(used) > len(due):
                slip = "more calls than needed; full batches of the largest size first"
            wrong(f"for {n} rows the programs {used} were called, where {due} were due.", slip=slip)
        sent = np.concatenate([rows for _, rows in calls])
        inside = (sent[:, None] == x).all(axis=-1).any(axis=-1)  # which of them are x's
        if sent[~inside].any():
            wrong(f"{n} rows: the filling is not zeros.", got=sent[~inside][-1], slip="np.empty holds what was there")
        if inside.sum() != n:
            wrong(f"{n} rows: {inside.sum()} were sent.", slip="rows that are sent twice as filling; fill with zeros")


@check(
    LESSON,
    'json.loads raises a JSONDecodeError, which is a ValueError; "[" * 100000 makes it a RecursionError.',
    "type(value) in (int, float) leaves out True, which is an int for isinstance.",
    "json.loads reads NaN, Infinity and 1e999: look at np.isfinite in the end, in float32.",
    "An integer of 400 digits is an OverflowError for NumPy.",
    points=3,
)
def strict_rows(rng: np.random.Generator, read_rows: Any) -> None:
    """Rows out of a request's body, or a ValueError; judged with bodies that NumPy would take, and others."""
    answer = function(read_rows, "read_rows(body, columns)")
    columns = int(rng.integers(2, 5))
    for n in (1, int(rng.integers(2, 6))):
        rows = [[int(v) if rng.random() < 0.4 else float(v) for v in row] for row in rng.integers(-9, 9, (n, columns))]
        rows[0][0] = 0.25
        got = answer(json.dumps(rows).encode(), columns)
        same(
            got, np.array(rows, "f"), f"the rows of {n} by {columns} numbers", rtol=1e-6,
            slips={"the numbers are cut to integers": np.array(rows, int)},
        )  # fmt: skip
        if str(getattr(got, "dtype", "")) != "float32":
            wrong(
                "the rows are not float32.", got=got, slip="the program was exported for float32; NumPy's default is 64"
            )

    def text(value: str) -> bytes:
        rest = ", ".join(["1.5"] * (columns - 1))
        return f"[[{rest}, {value}], [{rest}, 1]]".encode()

    row = "[" + ", ".join(["1"] * columns) + "]"
    quotes, bools = "text that looks like a number is text", "True is an int for isinstance, and 1.0 for NumPy"
    finite = "json.loads reads it, though it is no JSON; look at np.isfinite"
    large = "it becomes infinity in float32, or an OverflowError"
    length, shape = "compare the length of each row", "look at the kinds of values before NumPy does"
    bad = {
        "no bytes": (b"", "json.loads raises a ValueError for it; let it through"),
        "half a list": (b"[[1, 2", "json.loads raises a ValueError for it; let it through"),
        "bytes that are no text": (b"\xff\xff\xff", "json.loads raises a ValueError for it; let it through"),
        "a number": (b"3", shape),
        "null": (b"null", shape),
        "an object": (b'{"rows": [[1, 2]]}', shape),
        "no rows": (b"[]", "a program refuses an empty batch; ask for one row at least"),
        "numbers in place of rows": (b"[1, 2]", shape),
        "text in place of rows": (('["' + "1" * columns + '"]').encode(), shape),
        "a row too short": (f"[{row}, [{'1, ' * (columns - 2)}1]]".encode(), length),
        "a row too long": (f"[[{'1, ' * columns}1]]".encode(), length),
        "text": (text('"a"'), quotes),
        "a number as text": (text('"0.5"'), quotes),
        "true": (text("true"), bools),
        "null in a row": (text("null"), "None is NaN for NumPy"),
        "a list in a row": (text("[1]"), shape),
        "NaN": (text("NaN"), finite),
        "Infinity": (text("-Infinity"), finite),
        "1e999": (text("1e999"), large),
        "1e39": (text("1e39"), large),
        "an integer of 400 digits": (text("9" * 400), large),
        "100,000 brackets": (b"[" * 100_000, "lists in lists without an end are a RecursionError"),
    }
    for what, (body, slip) in bad.items():
        try:
            with np.errstate(all="ignore"):
                got = read_rows(body, columns)
        except ValueError:
            continue
        except Exception as error:  # the learner's function raised another than it should
            wrong(
                f"{what}: {type(error).__name__}, where a ValueError was due.",
                got=body[:60].decode("latin-1"),
                slip=slip,
            )
        wrong(f"{what}: accepted without a word.", got=got, slip=slip)
