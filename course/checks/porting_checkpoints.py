"""Checks of the exercises on files of weights, wrong gradients and momentum. Needs NumPy, JAX, optax and flax.

Lesson: 07_porting_checkpoints.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from course import porting
from course.checks.core import check, float64, function, keyed, predicted, raised, same, wrong

LESSON = "07_porting_checkpoints"


@check(
    LESSON,
    "str.lstrip strips characters, not a prefix, and str.replace looks everywhere. There may be two prefixes.",
    'while name.startswith(("module.", "_orig_mod.")): cut up to the first dot.',
    "array.astype(np.float32) where array.dtype == np.float16, and the array as it is elsewhere.",
    points=2,
)
def cleaned(rng: np.random.Generator, cleaned: Any) -> None:
    """A checkpoint's names without the prefixes that wrappers put there, and float16 as float32."""
    answer = function(cleaned, "cleaned(arrays)")
    layers = ("modules.0", "mlp.module", "adapter.module.fc", "_embed", "encoder._orig_mod.fc", "order", "stem")
    for prefix in ("module.", "_orig_mod.module.", "module._orig_mod.", "_orig_mod.", ""):
        expected: dict[str, np.ndarray] = {}
        for layer in rng.permutation(layers):
            expected[f"{layer}.weight"] = rng.normal(size=(2, int(rng.integers(2, 5)))).astype("f2").astype("f")
            expected[f"{layer}.scale"] = rng.normal(size=3)
            expected[f"{layer}.num_batches_tracked"] = rng.integers(3000, 9000, ())[...].astype(np.int64)
        given = {
            prefix + name: array.astype("f2") if array.dtype == np.float32 else array
            for name, array in expected.items()
        }
        got = answer(dict(given))
        if not isinstance(got, dict):
            wrong("expected a dict of names and arrays.", got=got)
        slips = {
            "str.lstrip takes off any of these characters, not a prefix; see str.removeprefix": {
                name.lstrip("module.") for name in given
            },
            "only one prefix is cut off, or both in one order; there may be two, in either order": {
                name.removeprefix("module.").removeprefix("_orig_mod.") for name in given
            },
            "only one prefix is cut off, or both in one order; the other order occurs as well": {
                name.removeprefix("_orig_mod.").removeprefix("module.") for name in given
            },
            "only one prefix is cut off; there may be two": {
                name.removeprefix("module.") if name.startswith("module.") else name.removeprefix("_orig_mod.")
                for name in given
            },
            "str.replace cuts inside a name too: adapter.module.fc has a layer of that name": {
                name.replace("module.", "").replace("_orig_mod.", "") for name in given
            },
            "the names are as they were": set(given),
        }
        if got.keys() != expected.keys():
            slip = next((text for text, names in slips.items() if names == set(map(str, got))), "")
            odd = sorted(set(map(str, got)) - expected.keys()) or ["fewer names"]
            wrong(f"other names, with the prefix {prefix!r}.", expected=sorted(expected)[0], got=odd[0], slip=slip)
        for name, array in sorted(expected.items(), key=lambda item: item[1].dtype.kind != "i"):
            if not hasattr(got[name], "dtype"):
                wrong(f"{name}: no array.", got=got[name])
            if np.dtype(got[name].dtype) != array.dtype:
                slip = "float16 becomes float32" if array.dtype == np.float32 else "only float16 changes its dtype"
                if array.dtype.kind == "i":
                    slip += "; a count of batches is a whole number"
                wrong(f"{name} has another dtype: {got[name].dtype}, not {array.dtype}.", slip=slip)
            same(got[name], array, name, rtol=0, atol=0)


class _Block(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(6, epsilon=1e-5, rngs=rngs)
        self.up, self.down = nnx.Linear(6, 12, rngs=rngs), nnx.Linear(12, 6, rngs=rngs)


class _Model(nnx.Module):
    def __init__(self, blocks: int, classes: int, *, rngs: nnx.Rngs):
        self.patch = nnx.Conv(1, 6, (3, 3), strides=3, padding="VALID", rngs=rngs)
        self.blocks = nnx.List([_Block(rngs=rngs) for _ in range(blocks)])
        self.head = nnx.Linear(6, classes, rngs=rngs)


@check(
    LESSON,
    "Run porting.arrays_to_nnx with what you have: the error lists every array without a place, from both sides.",
    "A star stands for one part of a path, on both sides: net.encoder.layer.*.mlp.dense_in -> blocks/*/up.",
    "What only the file has goes into ignore (three things), what only the model has into keep (one).",
    points=3,
)
def port_of_a_file(rng: np.random.Generator, port: Any) -> None:
    """names, ignore and keep for a file of any number of blocks; every array must arrive."""
    keyed(port, {"names", "ignore", "keep"})
    for key in ("ignore", "keep"):
        if isinstance(port[key], str):
            wrong(f"{key} is a text.", got=port[key], slip=f"a list of paths, [{port[key]!r}]")
    for blocks in (2, 4):
        sizes = {"net.embeddings.proj": (6, 1, 3, 3), "net.pooler": (6, 6), "fc": (10, 6)}
        for n in range(blocks):
            start = f"net.encoder.layer.{n}"
            sizes |= {f"{start}.attention_norm": (6,)}
            sizes |= {f"{start}.mlp.dense_in": (12, 6), f"{start}.mlp.dense_out": (6, 12)}
        arrays: dict[str, np.ndarray] = {"net.embeddings.position_ids": np.arange(16, dtype=np.int32)}
        for layer, shape in sizes.items():
            arrays[f"{layer}.weight"] = rng.normal(size=shape).astype("f")
            arrays[f"{layer}.bias"] = rng.normal(size=shape[0]).astype("f")
        model: Any = nnx.eval_shape(lambda blocks=blocks: _Model(blocks, 3, rngs=nnx.Rngs(0)))
        nnx.update(model, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), nnx.state(model)))
        head = rng.normal(size=(6, 3)).astype("f"), rng.normal(size=3).astype("f")
        model.head.kernel[...], model.head.bias[...] = map(jnp.asarray, head)
        try:
            porting.arrays_to_nnx(arrays, model, **port)
        except porting.PortingError as error:
            one = error.problems[0]
            name = one.torch or one.flax
            slip = ""
            if name.startswith("net.encoder.layer.2"):
                slip = "a line for each block; a star, layer.*, serves any number of them"
            elif "head" in name and not port["keep"]:
                slip = "only the model has `head`: keep"
            elif name == "net.embeddings.position_ids" or name.startswith(("net.pooler", "fc")):
                slip = f"{name.removesuffix('.weight').removesuffix('.bias')} is in the file alone: ignore"
            wrong(
                f"with {blocks} blocks, {len(error.problems)} problems, the first: {name}: {one.wrong}.",
                slip=slip or one.remedy,
            )  # fmt: skip
        except (TypeError, ValueError, AttributeError) as error:
            raised(error, "porting.arrays_to_nnx(arrays, model, **port)")
        places: dict[str, Any] = {"net.embeddings.proj": model.patch}
        for n, block in enumerate(model.blocks):
            start = f"net.encoder.layer.{n}"
            places |= {f"{start}.attention_norm": block.norm}
            places |= {f"{start}.mlp.dense_in": block.up, f"{start}.mlp.dense_out": block.down}
        for layer, module in places.items():
            bias = module.bias[...]
            lost = {
                "what has a layer on both sides belongs into names; ignore and keep leave it out": np.zeros_like(bias)
            }
            text = f"the bias of {layer}, with {blocks} blocks,"
            same(bias, arrays[f"{layer}.bias"], text, rtol=0, atol=0, slips=lost)
            weight = (module.scale if hasattr(module, "scale") else module.kernel)[...]
            total = np.sort(np.ravel(arrays[f"{layer}.weight"]))
            same(np.sort(np.ravel(weight)), total, f"the weights of {layer}, sorted", rtol=0, atol=0)
        same((model.head.kernel[...], model.head.bias[...]), head, "the head, as it was drawn", rtol=0, atol=0)


@check(
    LESSON,
    "Draw the graph: gradients flow backwards along every line; + sends them both ways.",
    "A weight's gradient is right where all ways from its layer to the loss are open, zero where none is.",
    points=2,
)
def gradients_from_the_end(rng: np.random.Generator, gradients: Any) -> None:
    """Which gradients three misplaced stop_gradients spoil; measured by jax.grad."""
    names = ("stem", "a", "b", "out")
    words = {"right", "wrong", "zero"}
    keyed(gradients, {1, 2, 3})
    for row in gradients.values():
        if not isinstance(row, list | tuple) or len(row) != 4 or not all(isinstance(word, str) for word in row):
            wrong("expected four words for each slip.", got=row)
        if not {" ".join(word.casefold().split()) for word in row} <= words:
            wrong("expected the words right, wrong or zero.", got=row)
    params = {name: jnp.asarray(rng.normal(size=(3, 3)).astype("f")) for name in names}
    x = jnp.asarray(rng.normal(size=3).astype("f"))
    stop = jax.lax.stop_gradient

    def loss(params: Any, slip: int) -> jax.Array:
        h = jnp.tanh(params["stem"] @ x)
        h = h + jnp.tanh(params["a"] @ (stop(h) if slip == 1 else h))
        h = stop(h) if slip == 2 else h
        inner = jnp.tanh(params["b"] @ h)
        h = h + (stop(inner) if slip == 3 else inner)
        return ((params["out"] @ h - 1.0) ** 2).sum()

    true = jax.grad(loss)(params, 0)
    hints = {
        (1, "zero"): "the stem has another way to the loss, past `a`",
        (1, "right"): "the way through `a` is closed for all that stands before it",
        (2, "wrong"): "there is no other way: the sum itself is stopped",
        (2, "right"): "there is no other way: the sum itself is stopped",
        (3, "right"): "the way through `b` is closed",
        (3, "zero"): "before `b` there is another way to the loss, past it",
        (3, "wrong"): "`b` has one way to the loss, and it is closed",
    }
    for slip in (1, 2, 3):
        found = jax.grad(loss)(params, slip)
        for name, word in zip(names, gradients[slip], strict=True):
            gap = float(jnp.abs(found[name] - true[name]).max())
            size = float(jnp.abs(found[name]).max())
            truth = "zero" if size == 0 else "right" if gap <= 1e-5 * (1 + size) else "wrong"
            plain = " ".join(word.casefold().split())
            behind = truth == "right" and plain != "right"
            text = "nothing is stopped between this layer and the loss" if behind else hints.get((slip, plain), "")
            predicted(word, truth, f"slip {slip}, {name}", {plain: text} if text else None)


@check(
    LESSON,
    "rule.init(params) makes three states, one for each part of the chain; the second one holds the trace.",
    "The buffers are laid out like gradients: porting.arrays_to_nnx(buffers, momentum.trace, gradients=True).",
    "A NamedTuple is changed by _replace, and the three states go back into a tuple.",
    points=3,
)
def resumed_state(rng: np.random.Generator, resumed_state: Any) -> None:
    """Optax's state from torch's momentum buffers; by the next step."""
    import torch

    answer = function(resumed_state, "resumed_state(rule, model, buffers)")

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.conv = nnx.Conv(2, 3, (2, 2), padding="VALID", rngs=rngs)
            self.out = nnx.Linear(3, 2, rngs=rngs)

    with float64():
        torch.manual_seed(int(rng.integers(10**6)))
        layers = {"conv": torch.nn.Conv2d(2, 3, 2), "out": torch.nn.Linear(3, 2)}
        source = torch.nn.ModuleDict(layers).double()
        rate = float(rng.uniform(0.05, 0.2))
        sgd = torch.optim.SGD(source.parameters(), lr=rate, momentum=0.9, weight_decay=1e-3)
        named = dict(source.named_parameters())

        def draw_gradients() -> dict[str, np.ndarray]:
            drawn = {name: rng.normal(size=tuple(p.shape)) for name, p in named.items()}
            for name, p in named.items():
                p.grad = torch.from_numpy(drawn[name].copy())
            return drawn

        for _ in range(3):
            draw_gradients()
            sgd.step()
        buffers = {name: sgd.state[p]["momentum_buffer"].numpy().copy() for name, p in named.items()}
        weights = {name: p.detach().numpy().copy() for name, p in named.items()}
        grads = draw_gradients()
        sgd.step()
        moved = {name: p.detach().numpy() - weights[name] for name, p in named.items()}

        model = porting.arrays_to_nnx(weights, Net(nnx.Rngs(0)))
        rule = optax.chain(optax.add_decayed_weights(1e-3), optax.trace(0.9), optax.scale(-rate))
        params: Any = nnx.state(model, nnx.Param)
        state = answer(rule, model, {name: array.copy() for name, array in buffers.items()})
        usage = "rule.update(grads, state, params), with your state,"
        if not isinstance(state, tuple) or len(state) != 3:
            wrong("expected optax's state, a tuple of three.", got=state, slip="as rule.init(params) returns it")
        if type(state[1]).__name__ != "TraceState":
            wrong("the second of the three states is no TraceState.", got=state[1], slip="momentum._replace(trace=...)")
        carried = porting.arrays_to_nnx(grads, params, gradients=True)

        def step(grads: Any, state: Any) -> Any:
            return rule.update(grads, state, params)[0]

        updates = function(step, usage)(carried, state)
        try:
            got = porting.nnx_to_arrays(updates, moved, gradients=True)
        except porting.PortingError as error:
            one = error.problems[0]
            wrong("the update has another shape.", slip=f"{one.torch or one.flax}: {one.wrong}")

        decayed = {name: grads[name] + 1e-3 * weights[name] for name in grads}

        def scaled(factor: float) -> dict[str, np.ndarray]:
            return {name: -rate * (decayed[name] + factor * buffers[name]) for name in grads}

        same(
            got, moved, "torch's next step", rtol=1e-9, atol=1e-12,
            slips={
                "the trace is left at zero: the run starts anew": scaled(0.0),
                "the buffers are taken times the rate; torch keeps them without, as optax does": scaled(0.9 * rate),
                "the buffers are taken with a minus; both keep sums of gradients": scaled(-0.9),
                "the momentum is applied twice: the trace is the buffer itself": scaled(0.81),
                "the buffers are divided by the momentum: the trace is the buffer itself": scaled(1.0),
                "the buffers are damped by 1 - momentum; torch's dampening is 0": scaled(0.09),
            },
        )  # fmt: skip
