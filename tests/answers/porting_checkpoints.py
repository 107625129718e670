"""Answers to the exercises of 07_porting_checkpoints."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from course import porting
from tests.answers import right, wrong


def with_names(name_of, cast=lambda a: a.astype(np.float32) if a.dtype == np.float16 else a):
    return lambda arrays: {name_of(name): cast(array) for name, array in arrays.items()}


def bare(name):
    return re.sub(r"^(module\.|_orig_mod\.)+", "", name)


wrong("cleaned", "not a prefix")(with_names(lambda name: name.lstrip("module.")))
wrong("cleaned", "only one prefix")(
    with_names(lambda n: n.removeprefix("module.") if n.startswith("module.") else n.removeprefix("_orig_mod."))
)
wrong("cleaned", "or both in one order")(with_names(lambda n: n.removeprefix("module.").removeprefix("_orig_mod.")))
wrong("cleaned", "str.replace cuts inside")(with_names(lambda n: n.replace("module.", "").replace("_orig_mod.", "")))
wrong("cleaned", "the names are as they were")(with_names(lambda n: n))
wrong("cleaned", "a count of batches")(with_names(bare, lambda a: a.astype(np.float32)))
wrong("cleaned", "float16 becomes float32")(with_names(bare, lambda a: a))
wrong("cleaned", "only float16 changes")(with_names(bare, lambda a: a.astype("f") if a.dtype.kind == "f" else a))
wrong("cleaned", "expected a dict")(lambda arrays: list(with_names(bare)(arrays).items()))
right("cleaned")(with_names(bare))


@right("cleaned")
def by_parts(arrays):
    result = {}
    for name, array in arrays.items():
        parts = name.split(".")
        while parts[0] in ("module", "_orig_mod"):
            parts.pop(0)
        result[".".join(parts)] = jnp.asarray(array, "f") if array.dtype == "f2" else array
    return result


NAMES = {"net.embeddings.proj": "patch", "net.encoder.layer.*.attention_norm": "blocks/*/norm"}
NAMES |= {f"net.encoder.layer.*.mlp.dense_{end}": f"blocks/*/{to}" for end, to in (("in", "up"), ("out", "down"))}
IGNORE = ["net.embeddings.position_ids", "net.pooler", "fc"]
BY_BLOCK = {"net.embeddings.proj": "patch"} | {
    path.replace("*", str(n)): to.replace("*", str(n))
    for path, to in NAMES.items() for n in range(2) if "*" in path
}  # fmt: skip
wrong("port_of_a_file", "a line for each block")({"names": BY_BLOCK, "ignore": IGNORE, "keep": ["head"]})
wrong("port_of_a_file", "only the model has `head`")({"names": NAMES, "ignore": IGNORE, "keep": []})
wrong("port_of_a_file", "net.pooler is in the file alone")(
    {"names": NAMES, "ignore": ["net.embeddings.position_ids", "fc"], "keep": ["head"]}
)
wrong("port_of_a_file", "net.embeddings.position_ids is in the file alone")(
    {"names": NAMES, "ignore": IGNORE[1:], "keep": ["head"]}
)
wrong("port_of_a_file", "the first: fc.weight")(
    {"names": NAMES | {"fc": "head"}, "ignore": IGNORE[:2], "keep": []},
)
wrong("port_of_a_file", "belongs into names")(
    {"names": {}, "ignore": ["net", "fc"], "keep": ["patch", "blocks", "head"]}
)
wrong("port_of_a_file", "a list of paths")({"names": NAMES, "ignore": IGNORE, "keep": "head"})
wrong("port_of_a_file", "problems, the first")(
    {"names": NAMES | {"net.encoder.layer.*.mlp.dense_in": "blocks.*.dense_in"}, "ignore": IGNORE, "keep": ["head"]}
)
right("port_of_a_file")(
    {"names": {k: v.replace("/", ".") for k, v in NAMES.items()}, "ignore": IGNORE, "keep": ["head"]}
)
right("port_of_a_file")(
    {
        "names": {f"{path}.{end}": f"{to}/{place}" for path, to in NAMES.items() for end, place in (
            ("weight", "scale" if to.endswith("norm") else "kernel"), ("bias", "bias"))},
        "ignore": ["*.embeddings.position_ids", "net.pooler.weight", "net.pooler.bias", "fc.weight", "fc.bias"],
        "keep": ("head.kernel", "head.bias"),
    }
)  # fmt: skip

SPOILT = {1: ("wrong", "right", "right", "right"), 2: ("zero", "zero", "right", "right")}
SPOILT[3] = ("wrong", "wrong", "zero", "right")
wrong("gradients_from_the_end", "another way to the loss, past `a`")(SPOILT | {1: ("zero", "right", "right", "right")})
wrong("gradients_from_the_end", "nothing is stopped between")(SPOILT | {1: ("wrong", "zero", "right", "right")})
wrong("gradients_from_the_end", "the sum itself is stopped")(SPOILT | {2: ("wrong", "zero", "right", "right")})
wrong("gradients_from_the_end", "it is closed")(SPOILT | {3: ("wrong", "wrong", "wrong", "right")})
wrong("gradients_from_the_end", "the way through `b`")(SPOILT | {3: ("right", "right", "zero", "right")})
wrong("gradients_from_the_end", "expected four words")(SPOILT | {3: ("wrong", "zero", "right")})
wrong("gradients_from_the_end", "right, wrong or zero")(SPOILT | {3: ("wrong", "wrong", "none", "right")})
right("gradients_from_the_end")({slip: list(row) for slip, row in SPOILT.items()})
right("gradients_from_the_end")({slip: tuple(word.upper() for word in row) for slip, row in SPOILT.items()})


def resumed(change=lambda buffer: buffer):
    def state(rule, model, buffers):
        decay, momentum, scale = rule.init(nnx.state(model, nnx.Param))
        changed = {name: change(buffer) for name, buffer in buffers.items()}
        return decay, momentum._replace(trace=porting.arrays_to_nnx(changed, momentum.trace, gradients=True)), scale

    return state


wrong("resumed_state", "the run starts anew")(lambda rule, model, buffers: rule.init(nnx.state(model, nnx.Param)))
wrong("resumed_state", "taken with a minus")(resumed(lambda b: -b))
wrong("resumed_state", "applied twice")(resumed(lambda b: 0.9 * b))
wrong("resumed_state", "divided by the momentum")(resumed(lambda b: b / 0.9))
wrong("resumed_state", "damped by 1 - momentum")(resumed(lambda b: 0.1 * b))
wrong("resumed_state", "no TraceState")(
    lambda rule, model, buffers: tuple(
        porting.arrays_to_nnx(buffers, s.trace, gradients=True) if hasattr(s, "trace") else s
        for s in rule.init(nnx.state(model, nnx.Param))
    )
)
wrong("resumed_state", "expected optax's state")(lambda rule, model, buffers: resumed()(rule, model, buffers)[1])
wrong("resumed_state", "with your state, raised an error")(
    lambda rule, model, buffers: (
        resumed()(rule, model, buffers)[0],
        resumed()(rule, model, buffers)[1]._replace(trace=buffers),
        resumed()(rule, model, buffers)[2],
    )
)


@right("resumed_state")
def through_a_model(rule, model, buffers):
    first, second, third = rule.init(nnx.state(model, nnx.Param))
    trace = nnx.state(porting.arrays_to_nnx(buffers, nnx.clone(model)), nnx.Param)
    return first, type(second)(trace=trace), third


@right("resumed_state")
def by_hand(rule, model, buffers):
    first, second, third = rule.init(nnx.state(model, nnx.Param))
    flax = {"conv": (2, 3, 1, 0), "out": (1, 0)}

    def place(path, leaf):
        layer, what = path[0].key, path[1].key
        if what == "bias":
            return jnp.asarray(buffers[f"{layer}.bias"])
        return jnp.asarray(buffers[f"{layer}.weight"]).transpose(flax[layer])

    return first, second._replace(trace=jax.tree_util.tree_map_with_path(place, second.trace)), third
