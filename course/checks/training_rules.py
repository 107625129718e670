"""Checks of the exercises on rates by depth, gradients in parts, trained biases, skipped steps. Needs NumPy, JAX, optax
and flax.

Lesson: 04b_training_rules.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from course.checks.core import check, function, operations, same, wrong

LESSON = "04b_training_rules"


@check(
    LESSON,
    "optax.partition takes a dict of rules by name, and a tree of names: here {name: name for name in params}.",
    "The layer's number is int(name.removeprefix('layer')); as text, layer10 comes before layer9.",
    "With n layers, layer i is n - i below the head: its rate is rate * factor ** (n - i).",
    points=2,
)
def layerwise_rates(rng: np.random.Generator, layerwise: Any) -> None:
    """Adam with a rate for every depth; against torch's parameter groups."""
    answer = function(layerwise, "layerwise(params, rate, factor)")
    for count in (int(rng.integers(3, 6)), int(rng.integers(11, 13))):
        rate, factor = rng.uniform([0.1, 0.5], [0.3, 0.8]).tolist()
        names = [*(f"layer{n}" for n in range(count)), "head"]
        start = {name: {"kernel": rng.normal(size=2).astype("f")} for name in names}
        pushes = [{name: {"kernel": rng.normal(size=2).astype("f")} for name in names} for _ in range(2)]
        exact = {name: rate * factor ** (count - n) for n, name in enumerate(names)}
        walk = partial(_adam_by_groups, start, pushes)
        rule = answer(jax.tree.map(jnp.asarray, start), rate, factor)
        got = _walk(rule, "layerwise", jax.tree.map(jnp.asarray, start), jax.tree.map(jnp.asarray, pushes), jit=False)
        same(
            got[-1], walk(exact), f"the weights of {count} layers and the head after 2 steps", rtol=1e-4,
            slips={
                "the layers are ordered as text, in which layer10 comes before layer9": partial(walk, {
                    name: rate * factor ** (count - n)
                    for n, name in enumerate([*sorted(name for name in names if name != "head"), "head"])}),
                "the first layer is the fastest; the rate shrinks from the head down": partial(walk, {
                    name: rate * factor ** (n if name != "head" else 0) for n, name in enumerate(names)}),
                "the order is turned round: the head is the slowest": partial(walk, {
                    name: rate * factor**n for n, name in enumerate(names)}),
                "the last layer has the head's rate; it is one below": partial(walk, {
                    name: rate * factor ** max(count - 1 - n, 0) for n, name in enumerate(names)}),
                "all layers have one rate, rate * factor": partial(walk, {
                    name: rate * (factor if name != "head" else 1.0) for name in names}),
                "all rates are the same: Adam divides by the gradient's size, so a factor in front of it is lost": (
                    partial(walk, dict.fromkeys(names, rate))),
            },
        )  # fmt: skip


@check(
    LESSON,
    "reshape puts the parts in front: (n, …) becomes (parts, n // parts, …).",
    "lax.scan goes through the parts; its carry is the sum of the gradients so far, zeros in the beginning.",
    "Each part's loss is a mean, so the sum of the gradients is to be divided by parts.",
    points=3,
)
def gradient_in_parts(rng: np.random.Generator, in_parts: Any) -> None:
    """The gradient of a batch, part after part, as a scan; against torch's accumulation in .grad."""
    import torch

    answer = function(in_parts, "in_parts(loss, params, x, y, parts)")
    for parts in (int(rng.integers(5, 8)), int(rng.integers(2, 4))):
        rows, size = int(rng.integers(2, 4)), int(rng.integers(2, 5))
        x, y = rng.normal(size=(parts * rows, size)).astype("f"), rng.normal(size=parts * rows).astype("f")
        params = {"w": rng.normal(size=(size, 3)).astype("f"), "v": rng.normal(size=3).astype("f")}
        seen: list[int] = []

        def loss(params: Any, x: jax.Array, y: jax.Array, seen: list[int] = seen) -> jax.Array:
            seen.append(len(x))
            return ((jnp.tanh(x @ params["w"]) @ params["v"] - y) ** 2).mean()

        def by_torch(of: Any, over: float, rows: int = rows, x: Any = x, y: Any = y, params: Any = params) -> Any:
            w, v = (torch.tensor(params[name], requires_grad=True) for name in ("w", "v"))
            for n in of:
                a, b = (torch.tensor(array[n * rows : (n + 1) * rows]) for array in (x, y))
                (((torch.tanh(a @ w) @ v - b) ** 2).mean() / over).backward()
            return {name: part.grad.numpy() for name, part in (("w", w), ("v", v)) if part.grad is not None}

        arrays = jax.tree.map(jnp.asarray, params), jnp.asarray(x), jnp.asarray(y)
        got = answer(loss, *arrays, parts)
        calls = list(seen)
        same(
            got, by_torch(range(parts), parts), f"the gradient of {parts} parts of {rows} rows", rtol=1e-4,
            slips={
                "the sum of the parts' gradients; each is of a mean, so divide by parts": partial(
                    by_torch, range(parts), 1.0),
                "the last part alone": partial(by_torch, range(parts - 1, parts), 1.0),
                "the last part alone, divided by parts": partial(by_torch, range(parts - 1, parts), parts),
                "the first part alone": partial(by_torch, range(1), 1.0),
                "the first part counts twice: the carry begins at zeros": partial(by_torch, [0, *range(parts)], parts),
                "divided by the rows, not by the parts": partial(by_torch, range(parts), parts * rows),
            },
        )  # fmt: skip
        if any(length != rows for length in calls):
            wrong(
                f"loss was called with {max(calls)} rows, not {rows}.",
                slip="the whole batch at once, whose activations were not to be held together",
            )
        program = operations(lambda *arrays: answer(loss, *arrays, parts), *arrays)  # noqa: B023
        if len(calls) >= parts > 4:
            wrong(
                f"Python called loss {len(calls)} times for {parts} parts.",
                slip="a Python loop: every part is traced anew, and the program grows with them; use lax.scan",
            )
        if not program["scan"] + program["while"]:
            wrong(
                "there is no loop in the program.",
                slip="jax.vmap takes all parts at once, a Python loop unrolls into a program that grows; use lax.scan",
            )


@check(
    LESSON,
    "The filter: nnx.All(nnx.Param, nnx.PathContains('bias')).",
    "It stands in two places: wrt= of nnx.Optimizer, and nnx.DiffState(0, filter) as argnums of nnx.grad.",
    "optimizer.update(model, grads), in this order.",
    points=3,
)
def trained_biases(rng: np.random.Generator, train_biases: Any) -> None:
    """An NNX model of which only biases are trained, with AdamW, which decays whatever it holds; against torch."""
    answer = function(train_biases, "train_biases(model, loss, rule, batches)")
    size = int(rng.integers(2, 5))
    rate, decay = rng.uniform([0.05, 0.3], [0.1, 0.6]).tolist()
    shapes = {"inner": (size, 4), "outer": (4, 1)}
    start = {name: rng.normal(size=shape).astype("f") for name, shape in shapes.items()}
    biases = {name: rng.normal(size=shape[-1]).astype("f") for name, shape in shapes.items()}
    batches = [(rng.normal(size=(6, size)).astype("f"), rng.normal(size=6).astype("f")) for _ in range(3)]
    model = _Two(start, biases)

    def loss(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return ((model(x) - y) ** 2).mean()

    given = [(jnp.asarray(x), jnp.asarray(y)) for x, y in batches]
    optimizer = answer(model, loss, optax.adamw(rate, weight_decay=decay), given)
    found = {name: {"kernel": getattr(model, name).kernel, "bias": getattr(model, name).bias} for name in shapes}
    if not all(isinstance(box, nnx.Param) for layer in found.values() for box in layer.values()):
        wrong("a Param is gone.", slip="an array assigned over it")
    for name, kernel in start.items():
        now = np.asarray(found[name]["kernel"][...])
        if not np.array_equal(now, kernel):
            only = np.allclose(now, kernel * (1 - rate * decay) ** len(batches), rtol=1e-4)
            wrong(
                f"{name}.kernel has moved.", expected=kernel, got=now,
                slip="a gradient of 0 still lets AdamW decay it; wrt= of the optimizer is to name the biases alone"
                if only else "kernels are trained too: neither wrt= nor DiffState leaves them out",
            )  # fmt: skip
    walk = partial(_biases_by_torch, start, biases, batches, rate, decay)
    same(
        {name: found[name]["bias"][...] for name in shapes}, walk(), "the biases after 3 batches", rtol=1e-4,
        slips={
            "nothing is trained: were the arguments of update swapped, or was a copy trained?": biases,
            "the last layer's bias alone": partial(walk, only="outer"),
            "the first layer's bias alone": partial(walk, only="inner"),
            "one batch alone": partial(walk, steps=1),
            "the optimizer is made anew for every batch, so its moments are lost": partial(walk, renew=True),
        },
    )  # fmt: skip
    if not isinstance(optimizer, nnx.Optimizer):
        wrong("expected the nnx.Optimizer back.", got=optimizer, slip="" if optimizer else "a forgotten return")
    if any(leaf.ndim > 1 for leaf in jax.tree.leaves(nnx.state(optimizer))):
        wrong(
            "the optimizer keeps moments of the kernels.",
            slip="wrt=nnx.Param holds all; name the biases there as well as in DiffState",
        )


@check(
    LESSON,
    "optax.global_norm(grads) is over all leaves; compare so that nan counts as too long: norm <= limit.",
    "Skipping is jnp.where(calm, new, old), leaf by leaf: for the updates old is 0, for the state it is the state.",
    "A gradient set to 0 is no skipped step: momentum goes on moving the weights.",
    points=3,
)
def skipped_steps(rng: np.random.Generator, without_spikes: Any) -> None:
    """A rule that skips a step where the gradient is too long or not finite; against NumPy."""
    answer = function(without_spikes, "without_spikes(rule, limit)")
    rate, momentum, limit = rng.uniform([0.1, 0.6, 2.0], [0.2, 0.9, 3.0]).tolist()
    shapes = {"a": (int(rng.integers(2, 5)), 2), "b": (int(rng.integers(3, 6)),)}
    start = {name: rng.normal(size=shape).astype("f") for name, shape in shapes.items()}
    pushes = []
    for length in (0.5, 0.8, 1.3, 0.7, 5.0, 0.9):  # in units of the limit; 1.3 is below it in each leaf
        push = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        pushes.append(
            {name: (part / np.linalg.norm(part) * length * limit / 2**0.5).astype("f") for name, part in push.items()}
        )
    broken = {name: part.copy() for name, part in pushes[0].items()}
    broken["b"][0] = np.nan

    def walk(how: str = "skip", by_leaf: bool = False, turned: bool = False, pushes: Any = pushes) -> list[Any]:
        weights, speed, path = dict(start), {name: np.zeros_like(part) for name, part in start.items()}, []
        for push in pushes:
            lengths = {name: float(np.linalg.norm(part)) for name, part in push.items()}
            whole = sum(length**2 for length in lengths.values()) ** 0.5
            for name, part in push.items():
                length = lengths[name] if by_leaf else whole
                calm = (length <= limit) != turned
                moved = momentum * speed[name] + (part * min(1, limit / length) if how == "clip" else part)
                if how == "zero":
                    moved = momentum * speed[name] + part * calm
                if calm or how in ("poison", "clip", "zero", "all"):
                    speed[name] = moved
                if calm or how in ("clip", "zero", "all", "through"):
                    step = part if how == "through" and not calm else rate * moved
                    weights[name] = weights[name] - step * (-1 if how == "through" and not calm else 1)
            path.append(dict(weights))
        return path

    rule = answer(optax.sgd(rate, momentum=momentum), limit)
    tree = partial(jax.tree.map, jnp.asarray)
    same(
        _walk(rule, "without_spikes", tree(start), [tree(push) for push in pushes]), walk(),
        f"the weights in {len(pushes)} steps, the third and the fifth to be skipped,", rtol=1e-4,
        slips={
            "nothing is skipped": partial(walk, "all"),
            "the gradient is clipped, and the step is taken": partial(walk, "clip"),
            "the weights stand still, but the state has taken the spike in; it is to be kept as it was": partial(
                walk, "poison"),
            "the gradient is set to 0, and momentum goes on moving the weights": partial(walk, "zero"),
            "the raw gradient is added where the step is to be skipped": partial(walk, "through"),
            "every leaf is judged by its own norm; the norm is over all of them": partial(walk, by_leaf=True),
            "turned round: the calm steps are skipped": partial(walk, turned=True),
            "all steps are skipped": [start] * len(pushes),
        },
    )  # fmt: skip
    got = _walk(rule, "without_spikes", tree(start), [tree(push) for push in (pushes[0], broken, pushes[1])])
    if any(np.isnan(part).any() for part in jax.tree.leaves(got)):
        wrong(
            "a gradient with nan gets into the weights.",
            slip="nan > limit is False, and 0 * nan is nan: ask whether norm <= limit, and choose with jnp.where",
        )
    same(got, walk(pushes=[pushes[0], broken, pushes[1]]), "the weights, the second gradient nan,", rtol=1e-4)


# --- inside ------------------------------------------------------------------------------------------------


def _walk(rule: Any, maker: str, params: Any, pushes: list[Any], jit: bool = True) -> list[Any]:
    """The weights after each of several gradients."""
    if not (hasattr(rule, "init") and hasattr(rule, "update")):
        wrong(f"{maker} is to return a rule of Optax, with init and update.", got=rule)
    state = function(rule.init, "rule.init(params)")(params)
    step = function(jax.jit(rule.update) if jit else rule.update, "rule.update(grads, state, params)")
    path = []
    for push in pushes:
        pair = step(push, state, params)
        if not isinstance(pair, tuple) or len(pair) != 2:
            wrong("update is to return the pair (updates, state).", got=pair)
        updates, state = pair
        trees: list[Any] = [jax.tree.structure(updates), jax.tree.structure(params)]
        if trees[0] != trees[1]:
            wrong("the updates are another tree than the weights.", expected=params, got=updates)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path


def _adam_by_groups(start: Any, pushes: Any, rates: dict[str, float]) -> dict[str, Any]:
    import torch

    weights = {name: torch.nn.Parameter(torch.tensor(layer["kernel"])) for name, layer in start.items()}
    optimizer = torch.optim.Adam([{"params": [weight], "lr": rates[name]} for name, weight in weights.items()])
    for push in pushes:
        for name, weight in weights.items():
            weight.grad = torch.tensor(push[name]["kernel"])
        optimizer.step()
    return {name: {"kernel": weight.detach().numpy()} for name, weight in weights.items()}


def _biases_by_torch(start: Any, biases: Any, batches: Any, rate: float, decay: float, only: str = "", steps: int = 3,
                     renew: bool = False) -> dict[str, np.ndarray]:  # fmt: skip
    import torch

    inner, outer = (torch.tensor(start[name]) for name in ("inner", "outer"))
    found = {name: torch.tensor(bias, requires_grad=True) for name, bias in biases.items()}
    chosen = [found[only]] if only else list(found.values())
    optimizer = torch.optim.AdamW(chosen, rate, weight_decay=decay)
    for x, y in batches[:steps]:
        if renew:
            optimizer = torch.optim.AdamW(chosen, rate, weight_decay=decay)
        optimizer.zero_grad()
        hidden = torch.tanh(torch.tensor(x) @ inner + found["inner"])
        (((hidden @ outer + found["outer"])[:, 0] - torch.tensor(y)) ** 2).mean().backward()
        optimizer.step()
    return {name: bias.detach().numpy() for name, bias in found.items()}


class _Two(nnx.Module):
    """Two dense layers with the weights that they are given."""

    def __init__(self, kernels: dict[str, np.ndarray], biases: dict[str, np.ndarray]) -> None:
        def layer(name: str) -> nnx.Linear:
            made = nnx.Linear(*kernels[name].shape, rngs=nnx.Rngs(0))
            made.kernel = nnx.Param(jnp.asarray(kernels[name]))
            made.bias = nnx.Param(jnp.asarray(biases[name]))
            return made

        self.inner, self.outer = layer("inner"), layer("outer")

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer(jnp.tanh(self.inner(x)))[:, 0]
