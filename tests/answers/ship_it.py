"""Answers to the exercises of 15_ship_it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from tests.answers import right, wrong

PLATFORMS = ("cpu", "cuda", "tpu")


def shipping(
    scaled=lambda x, mean, scale: (x - mean) / scale, last=jax.nn.softmax, platforms=PLATFORMS, size="n",
    finish=lambda exported: exported.serialize(),
):  # fmt: skip
    def ship(params, mean, scale):
        def predict(x):
            return last(scaled(x, mean, scale) @ params["w"] + params["b"])

        (n,) = export.symbolic_shape(size) if isinstance(size, str) else (size,)
        rows = jax.ShapeDtypeStruct((n, len(mean)), jnp.float32)
        return finish(export.export(jax.jit(predict), platforms=platforms)(rows))

    return ship


wrong("shipped_pipeline", "the rows are not scaled")(shipping(scaled=lambda x, mean, scale: x))
wrong("shipped_pipeline", "multiplied by scale")(shipping(scaled=lambda x, mean, scale: (x - mean) * scale))
wrong("shipped_pipeline", "the softmax belongs to the program")(shipping(last=lambda logits: logits))
wrong("shipped_pipeline", "it goes over the classes")(shipping(last=lambda logits: jax.nn.softmax(logits, 0)))
wrong("shipped_pipeline", "a sigmoid")(shipping(last=jax.nn.sigmoid))
wrong("shipped_pipeline", "for this machine's alone")(shipping(platforms=None))
wrong("shipped_pipeline", "a fixed number of rows")(shipping(size=4))
wrong("shipped_pipeline", "call .serialize()")(shipping(finish=lambda exported: exported))
wrong("shipped_pipeline", "a forgotten return")(shipping(finish=lambda exported: None))
wrong("shipped_pipeline", "export.export(...)(rows).serialize()")(
    shipping(finish=lambda exported: exported.mlir_module_serialized)
)


@wrong("shipped_pipeline", "constants of the function, not arguments")
def with_arguments(params, mean, scale):
    def predict(params, mean, scale, x):
        return jax.nn.softmax((x - mean) / scale @ params["w"] + params["b"])

    (n,) = export.symbolic_shape("n")
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (params, mean, scale))
    rows = jax.ShapeDtypeStruct((n, len(mean)), jnp.float32)
    return export.export(jax.jit(predict), platforms=PLATFORMS)(*shapes, rows).serialize()


@right("shipped_pipeline")
def folded_into_the_weights(params, mean, scale):
    w = params["w"] / scale[:, None]
    b = params["b"] - mean @ w

    @jax.jit
    def predict(x):
        logits = jnp.einsum("bd,dk->bk", x, w, precision="highest") + b
        exps = jnp.exp(logits - logits.max(-1, keepdims=True))
        return exps / exps.sum(-1, keepdims=True)

    shapes = export.symbolic_args_specs(jnp.zeros((1, len(mean)), jnp.float32), "batch, _")
    return bytes(export.export(predict, platforms=["tpu", "cuda", "cpu"])(shapes).serialize())


@right("shipped_pipeline")
def row_by_row(params, mean, scale):
    one = lambda row: jax.nn.softmax((row - mean) / scale @ params["w"] + params["b"])  # noqa: E731
    n = export.symbolic_shape("n")[0]
    shape = jax.ShapeDtypeStruct((n, mean.size), np.float32)
    return export.export(jax.jit(jax.vmap(one)), platforms=PLATFORMS)(shape).serialize(vjp_order=1)


RIGHT = {
    "averaged": "exports", "counted": "refused", "doubled": "exports", "halved": "exports", "looped": "refused",
    "padded": "refused",
}  # fmt: skip

wrong("symbolic_batches", "like a number that is known later")({**RIGHT, "averaged": "refused"})
wrong("symbolic_batches", "len() is Python's")({**RIGHT, "counted": "exports"})
wrong("symbolic_batches", "is at least 1")({**RIGHT, "doubled": "refused"})
wrong("symbolic_batches", "b // 2 is a dimension too")({**RIGHT, "halved": "refused"})
wrong("symbolic_batches", "Python unrolls this loop")({**RIGHT, "looped": "exports"})
wrong("symbolic_batches", "8 - b is negative for large b")({**RIGHT, "padded": "exports"})
wrong("symbolic_batches", "expected str")({**RIGHT, "averaged": True})
wrong("symbolic_batches", "expected a dict with the keys")({"averaged": "exports"})
right("symbolic_batches")(RIGHT)
right("symbolic_batches")({name: f" {RIGHT[name].upper()}" for name in sorted(RIGHT, reverse=True)})


def chunks(
    choose=lambda sizes, rows: min(size for size in sizes if size >= rows), fill=np.zeros, cut=True, step=max,
    parts=lambda x, size: [x[at : at + size] for at in range(0, len(x), size)],
    join=np.concatenate,
):  # fmt: skip
    def predict_all(compiled, x):
        found = []
        for part in parts(x, step(compiled)):
            rows = fill((choose(compiled, len(part)), x.shape[1]), x.dtype)
            rows[: len(part)] = part
            predictions = compiled[len(rows)](rows)
            found.append(predictions[: len(part)] if cut else predictions)
        return join(found)

    return predict_all


wrong("padded_chunks", "the filling are to be cut off")(chunks(cut=False))
wrong("padded_chunks", "always the largest program")(chunks(choose=lambda sizes, rows: max(sizes)))
wrong("padded_chunks", "the order of the dict says nothing")(
    chunks(choose=lambda sizes, rows: next(size for size in sizes if size >= rows))
)
wrong("padded_chunks", "rows beyond the largest size are dropped")(chunks(parts=lambda x, size: [x[:size]]))
wrong("padded_chunks", "fewer than the largest size, are dropped")(
    chunks(parts=lambda x, size: [x[at : at + size] for at in range(0, len(x) - size + 1, size)] or [x])
)
wrong("padded_chunks", "only the last part is returned")(chunks(join=lambda found: found[-1]))
wrong("padded_chunks", "more calls than needed")(chunks(step=min))
wrong("padded_chunks", "np.empty holds what was there")(chunks(fill=np.ones))
wrong("padded_chunks", "raised an error")(lambda compiled, x: compiled[len(x)](x))


@wrong("padded_chunks", "exactly its own shape")
def unfilled(compiled, x):
    largest = max(compiled)
    parts = [x[at : at + largest] for at in range(0, len(x), largest)]
    return np.concatenate([compiled[min(s for s in compiled if s >= len(part))](part) for part in parts])


@wrong("padded_chunks", "rows that are sent twice")
def filled_with_the_last_row(compiled, x):
    largest, found = max(compiled), []
    for at in range(0, len(x), largest):
        part = x[at : at + largest]
        size = min(size for size in compiled if size >= len(part))
        found.append(compiled[size](np.pad(part, ((0, size - len(part)), (0, 0)), mode="edge"))[: len(part)])
    return np.concatenate(found)


@right("padded_chunks")
def by_recursion(compiled, x):
    largest = max(compiled)
    if len(x) > largest:
        return [*by_recursion(compiled, x[:largest]), *by_recursion(compiled, x[largest:])]
    size = sorted(size for size in compiled if size >= len(x))[0]
    return list(compiled[size](jnp.pad(x, ((0, size - len(x)), (0, 0))))[: len(x)])


@right("padded_chunks")
def into_one_array(compiled, x):
    sizes, result, at = sorted(compiled), np.empty(len(x), np.float32), 0
    while at < len(x):
        size = next((size for size in sizes if size >= len(x) - at), sizes[-1])
        count = min(size, len(x) - at)
        filled = np.vstack([x[at : at + count], np.zeros((size - count, x.shape[1]), np.float32)])
        result[at : at + count] = compiled[size](filled)[:count]
        at += count
    return result


def reader(
    kinds=lambda value: type(value) in (int, float), lengths=True, empty=True, finite=True, dtype=np.float32,
    caught=(RecursionError,), huge=(OverflowError,), load=json.loads, error=ValueError,
):  # fmt: skip
    def read_rows(body, columns):
        try:
            rows = load(body)
        except caught:
            raise ValueError("expected rows, got lists in lists") from None
        if not isinstance(rows, list) or (empty and not rows):
            raise error("expected rows")
        for row in rows:
            if not isinstance(row, list) or (lengths and len(row) != columns) or not all(map(kinds, row)):
                raise error("expected numbers")
        try:
            x = np.array(rows, np.float64).astype(dtype)
        except huge:
            raise ValueError("expected smaller numbers") from None
        if finite and not np.isfinite(x).all():
            raise ValueError("expected finite numbers")
        return x

    return read_rows


wrong("strict_rows", "True is an int for isinstance")(reader(kinds=lambda value: isinstance(value, int | float)))
wrong("strict_rows", "text that looks like a number is text")(
    reader(kinds=lambda value: type(value) in (int, float, str) and value != "a")
)
wrong("strict_rows", "look at np.isfinite")(reader(finite=False))
wrong("strict_rows", "compare the length of each row")(reader(lengths=False))
wrong("strict_rows", "an empty batch")(reader(empty=False))
wrong("strict_rows", "a RecursionError")(reader(caught=()))
wrong("strict_rows", "or an OverflowError")(reader(huge=()))
wrong("strict_rows", "NumPy's default is 64")(reader(dtype=np.float64))
wrong("strict_rows", "TypeError, where a ValueError was due")(reader(error=TypeError))
wrong("strict_rows", "cut to integers")(reader(dtype=np.int32))
wrong("strict_rows", "look at the kinds of values")(lambda body, columns: np.asarray(json.loads(body), np.float32))


def no_constant(name):
    raise ValueError(name)


@right("strict_rows")
def by_type_and_shape(body, columns):
    try:
        rows = np.array(json.loads(body, parse_constant=no_constant), dtype=object)
        if rows.ndim != 2 or rows.shape[1] != columns or not len(rows):
            raise ValueError(f"expected (n, {columns}), got {rows.shape}")
        if {type(value) for value in rows.ravel()} - {int, float}:
            raise ValueError("expected numbers")
        x = np.float32(rows.astype(float))
    except (RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None
    if not np.isfinite(x).all():
        raise ValueError("expected numbers that float32 holds")
    return x


@right("strict_rows")
def value_by_value(body, columns):
    def number(value):
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= np.finfo("f").max:
            raise ValueError(f"expected a number, got {value!r:.20}")
        return float(value)

    try:
        rows = json.loads(body.decode())
        if [len(row) for row in rows] != [columns] * len(rows) or not rows or not isinstance(rows, list):
            raise ValueError("expected rows")
        return jnp.array([[number(value) for value in row] for row in rows], jnp.float32)
    except (TypeError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None
