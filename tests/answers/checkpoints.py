"""Answers to the exercises of 05b_checkpoints."""

import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict

from tests.answers import right, wrong

GLOBAL = np.random.default_rng(0)


def by_rng(make, order=lambda rng, rows, size: rng.permutation(rows)):
    def batch_at(seed, step, rows, size):
        epoch, place = divmod(step, rows // size)
        return order(make(seed, epoch, step), rows, size)[place * size : (place + 1) * size]

    return batch_at


def of_both(seed, epoch, step):
    return np.random.default_rng([seed, epoch])


wrong("resumable_batches", "every epoch has the same order")(by_rng(lambda s, e, n: np.random.default_rng(s)))
wrong("resumable_batches", "the seed is ignored")(by_rng(lambda s, e, n: np.random.default_rng(e)))
wrong("resumable_batches", "seed + epoch")(by_rng(lambda s, e, n: np.random.default_rng(s + e)))
wrong("resumable_batches", "every batch is drawn by itself")(by_rng(lambda s, e, n: np.random.default_rng([s, n])))
wrong("resumable_batches", "goes on from call to call")(by_rng(lambda s, e, n: GLOBAL))
wrong("resumable_batches", "nothing is shuffled")(by_rng(of_both, lambda rng, rows, size: np.arange(rows)))
wrong("resumable_batches", "permute all rows and cut afterwards")(
    by_rng(of_both, lambda rng, rows, size: rng.permutation(rows // size * size))
)
wrong("resumable_batches", "batches are shuffled as a whole")(
    by_rng(of_both, lambda r, rows, size: r.permutation(np.arange(rows // size * size).reshape(-1, size)).ravel())
)
wrong("resumable_batches", "a forgotten return, or the wrong slice")(
    lambda seed, step, rows, size: np.random.default_rng([seed, step // (rows // size)]).permutation(rows)
)


@right("resumable_batches")
def by_fold_in(seed, step, rows, size):
    per_epoch = rows // size
    order = jax.random.permutation(jax.random.fold_in(jax.random.key(seed), step // per_epoch), rows)
    return jax.lax.dynamic_slice_in_dim(order, step % per_epoch * size, size)


@right("resumable_batches")
def as_a_list(seed, step, rows, size):
    order = list(range(rows))
    random.Random(f"{seed} {step // (rows // size)}").shuffle(order)
    return order[step % (rows // size) * size :][:size]


def flat(params):
    return flatten_dict(params, sep=".")


def loader(missing=True, unexpected=True, shape=lambda a, b: a.shape == b.shape, once=True,
           kind=lambda leaf: leaf.dtype, error=ValueError):  # fmt: skip
    def load_strict(arrays, params):
        leaves, faults = flat(params), []
        if missing:
            faults += [name for name in leaves if name not in arrays]
        if unexpected:
            faults += [name for name in arrays if name not in leaves]
        faults += [name for name in leaves if name in arrays and not shape(leaves[name], arrays[name])]
        if faults:
            raise error(f"do not fit: {faults if once else faults[0]}")
        found = {name: jnp.asarray(arrays.get(name, leaf), kind(leaf)) for name, leaf in leaves.items()}
        return unflatten_dict(found, sep=".")

    return load_strict


wrong("strict_loading", "what is missing keeps")(loader(missing=False))
wrong("strict_loading", "compare both sets")(loader(unexpected=False))
wrong("strict_loading", "shapes are not compared")(loader(shape=lambda a, b: True))
wrong("strict_loading", "equal sizes are not equal shapes")(loader(shape=lambda a, b: a.size == b.size))
wrong("strict_loading", "list all that is wrong")(loader(once=False))
wrong("strict_loading", "jnp.asarray(array, leaf.dtype)")(loader(kind=lambda leaf: jnp.float32))
wrong("strict_loading", "where a ValueError was due")(loader(error=KeyError))
wrong("strict_loading", "a flat dict")(lambda arrays, params: dict(arrays))
wrong("strict_loading", "the example's own values")(lambda arrays, params: params)
wrong("strict_loading", "go by name")(
    lambda arrays, params: jax.tree.unflatten(jax.tree.structure(params), list(arrays.values()))
)


@wrong("strict_loading", "where a ValueError was due")
def by_path_alone(arrays, params):
    name = lambda path: ".".join(part.key for part in path)  # noqa: E731
    return jax.tree.map_with_path(lambda path, leaf: jnp.asarray(arrays[name(path)], leaf.dtype), params)


@wrong("strict_loading", "which fits")
def all_names_listed(arrays, params):
    try:
        return loader()(arrays, params)
    except ValueError:
        raise ValueError(f"expected {list(flat(params))}, got {list(arrays)}") from None


right("strict_loading")(loader())


@right("strict_loading")
def by_recursion(arrays, params):
    faults, used = [], set()

    def walk(branch, prefix):
        result = {}
        for name, part in branch.items():
            path = prefix + name
            if isinstance(part, dict):
                result[name] = walk(part, path + ".")
                continue
            used.add(path)
            if path not in arrays or np.shape(arrays[path]) != part.shape:
                faults.append(path)
            else:
                result[name] = jnp.array(arrays[path]).astype(part.dtype)
        return result

    tree = walk(params, "")
    faults += sorted(set(arrays) - used)
    if faults:
        raise ValueError(*faults)
    return tree


def save(folder, run, **how):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, run, **{"force": True, **how})


def load(folder, example):
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder, example)


def only(*parts):
    def save_run(folder, run):
        save(folder, {part: run[part] for part in parts})

    def load_run(folder, example):
        return {**example, **load(folder, {part: example[part] for part in parts})}

    return save_run, load_run


def without_an_example(folder, example):
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder)


def once(folder, run):
    if not folder.exists():
        save(folder, run)


def with_key_data(folder, run):
    save(folder, {**run, "key": jax.random.key_data(run["key"])})


def key_data_back(folder, example):
    return load(folder, {**example, "key": jax.random.key_data(example["key"])})


wrong("saved_run", "opt_state is the example's")(*only("params", "key", "step"))
wrong("saved_run", "key is the example's")(*only("params", "opt_state", "step"))
wrong("saved_run", "step is the example's")(*only("params", "opt_state", "key"))
wrong("saved_run", "tuples come back as lists")(with_key_data, without_an_example)
wrong("saved_run", "its data alone")(with_key_data, key_data_back)
wrong("saved_run", "is from the first save")(once, load)
wrong("saved_run", "already exists")(lambda folder, run: save(folder, run, force=False), load)
wrong("saved_run", "its folder is not there")(lambda folder, run: None, lambda folder, example: example)
wrong("saved_run", "a forgotten return")(save, lambda folder, example: None)
wrong("saved_run", "params is the example's")(save, lambda folder, example: example)


def removed_first(folder, run):
    shutil.rmtree(folder, ignore_errors=True)
    checkpointer = ocp.StandardCheckpointer()
    checkpointer.save(folder, {**run, "key": jax.random.key_data(run["key"])})
    checkpointer.wait_until_finished()
    checkpointer.close()


def rewrapped(folder, example):
    found = key_data_back(folder, example)
    return {**found, "key": jax.random.wrap_key_data(found["key"])}


right("saved_run")(removed_first, rewrapped)
right("saved_run")(save, lambda folder, example: load(folder, jax.eval_shape(lambda: example)))
