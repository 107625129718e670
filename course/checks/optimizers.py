"""Checks of the exercises on Optax's rules beside torch's: ported, put into a loop, scheduled, written. Needs NumPy,
JAX and optax.

Lesson: 04_optimizers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from course.checks.core import check, function, same, wrong

LESSON = "04_optimizers"


@check(
    LESSON,
    "optimizer.param_groups[0] is a dict of the numbers in force: lr, weight_decay, momentum or betas, …",
    "torch.optim.AdamW is a subclass of Adam: ask for it first, or compare type(optimizer).",
    "The decay of SGD and Adam is added to the gradient: optax.chain(optax.add_decayed_weights(d), …).",
    "AdamW is optax.adamw with every number handed over: learning_rate, b1, b2, eps, weight_decay.",
    points=3,
)
def ported_rule(rng: np.random.Generator, rule_like: Any) -> None:
    """Optax's rule of a torch optimizer: SGD, Adam or AdamW; walked beside it, with random settings."""
    import torch

    answer = function(rule_like, "rule_like(optimizer)")
    start, pushes = rng.normal(size=(3, 2)).astype("f"), rng.normal(size=(6, 3, 2)).astype("f")

    def walk(kind: Any, **settings: Any) -> np.ndarray:
        weight = torch.nn.Parameter(torch.tensor(start))
        optimizer, path = kind([weight], **settings), []
        for push in pushes:
            weight.grad = torch.tensor(push)
            optimizer.step()
            path.append(weight.detach().numpy().copy())
        return np.stack(path)

    sgd, adam, adamw = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
    for kind, nesterov in ((sgd, True), (sgd, False), (adam, None), (adamw, None)):
        made_with, rate, decay = rng.uniform([0.2, 0.05, 0.2], [0.3, 0.1, 0.4]).tolist()
        how: dict[str, Any] = {"lr": rate, "weight_decay": decay}
        if kind is sgd:
            how |= {"momentum": float(rng.uniform(0.5, 0.9)), "nesterov": nesterov}
        else:
            b1, b2, eps = rng.uniform([0.5, 0.7, 0.1], [0.8, 0.95, 0.3]).tolist()
            how |= {"betas": (b1, b2), "eps": eps}
        optimizer = kind([torch.nn.Parameter(torch.zeros(3, 2))], **how | {"lr": made_with})
        optimizer.param_groups[0]["lr"] = rate  # as a scheduler would
        name = f"{kind.__name__} with {', '.join(how)}"
        slips: dict[str, Any] = {
            "weight_decay is left out": partial(walk, kind, **how | {"weight_decay": 0.0}),
            "the rate that the optimizer was made with; a scheduler changes that of param_groups": (
                partial(walk, kind, **how | {"lr": made_with})),
        }  # fmt: skip
        if kind is sgd:
            slips |= {
                "momentum is left out": partial(walk, sgd, **how | {"momentum": 0.0, "nesterov": False}),
                "nesterov is not handed over": partial(walk, sgd, **how | {"nesterov": not nesterov}),
                "the decay stands behind the rule; torch adds it to the gradient": (
                    partial(_decayed_last, start, pushes, how)),
            }  # fmt: skip
        else:
            less = {key: value for key, value in how.items() if key not in ("betas", "eps")}
            slips |= {
                "betas and eps are left at their defaults": partial(walk, kind, **less),
                "betas are left at their defaults": partial(walk, kind, **less, eps=how["eps"]),
                "eps is left at its default": partial(walk, kind, **less, betas=how["betas"]),
                "b1 and b2 are swapped": partial(walk, kind, **how | {"betas": how["betas"][::-1]}),
            }
            if kind is adam:
                slips["AdamW's decay; that of Adam goes into the gradient"] = partial(walk, adamw, **how)
            else:
                subclass = "Adam's decay; AdamW is a subclass of Adam, so isinstance(…, Adam) takes both"
                slips[subclass] = partial(walk, adam, **how)
        expected = walk(kind, **how)
        got = _walk(_rule(answer(optimizer), "rule_like"), jnp.asarray(start), list(map(jnp.asarray, pushes)))
        same(np.stack(got), expected, f"the weights in {len(pushes)} steps of {name}", rtol=1e-4, slips=slips)


@check(
    LESSON,
    "Three slips: where the state is made, what `update` is handed, and what is done with the updates.",
    "rule.update(grads, state, params), then optax.apply_updates(params, updates), which adds.",
    "The carry of a lax.scan, or of a lax.fori_loop, is the pair (params, state).",
    points=2,
)
def fitted_weights(rng: np.random.Generator, fitted: Any) -> None:
    """A training loop with any rule, its loss traced and not called at every step; against torch's loop."""
    import torch

    answer = function(fitted, "fitted(loss, params, rule, steps)")
    rate, momentum, decay = rng.uniform([0.01, 0.7, 0.2], [0.02, 0.9, 0.5]).tolist()
    rows, size, steps = int(rng.integers(5, 9)), int(rng.integers(2, 5)), int(rng.integers(12, 20))
    x, y = rng.normal(size=(rows, size)).astype("f"), rng.normal(size=rows).astype("f")
    params = {"w": rng.normal(size=size).astype("f"), "b": np.float32(rng.normal())}
    calls: list[int] = []

    def loss(params: Any) -> jax.Array:
        calls.append(1)
        return ((jnp.asarray(x) @ params["w"] + params["b"] - jnp.asarray(y)) ** 2).mean()

    def by_torch(make: Callable[[Any], Any], steps: int = steps) -> dict[str, np.ndarray]:
        w, b = (torch.tensor(params[name], requires_grad=True) for name in ("w", "b"))
        optimizer = make([w, b])
        for _ in range(steps):
            optimizer.zero_grad()
            ((torch.tensor(x) @ w + b - torch.tensor(y)) ** 2).mean().backward()
            optimizer.step()
        return {"w": w.detach().numpy(), "b": b.detach().numpy()}

    def sgd(rate: float = rate, momentum: float = momentum, **how: Any) -> Callable[[Any], Any]:
        return lambda p: torch.optim.SGD(p, rate, momentum=momentum, **how)

    cases: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "SGD with momentum": (
            optax.sgd(rate, momentum=momentum), sgd(), {
                "uphill: updates are to be added, they carry the minus": lambda: by_torch(sgd(maximize=True)),
                "the state is made anew in every step, or it is not carried on": lambda: by_torch(sgd(momentum=0.0)),
                "uphill, and without the state": lambda: by_torch(sgd(momentum=0.0, maximize=True)),
                "the weights that it began with": params,
                "one step; params are not carried on": lambda: by_torch(sgd(), 1),
                "a step too many": lambda: by_torch(sgd(), steps + 1),
                "a step too few": lambda: by_torch(sgd(), steps - 1),
                "the gradient itself is subtracted, times the rate": lambda: by_torch(sgd(momentum=0.0)),
            }),
        "AdamW": (
            optax.adamw(rate, weight_decay=decay), lambda p: torch.optim.AdamW(p, rate, weight_decay=decay), {
                "the decay is missing: is update handed the params?": (
                    lambda: by_torch(lambda p: torch.optim.AdamW(p, rate, weight_decay=0.0))),
            }),
    }  # fmt: skip
    for name, (rule, make, slips) in cases.items():
        calls.clear()
        got = answer(loss, jax.tree.map(jnp.asarray, params), rule, steps)
        same(got, by_torch(make), f"the weights after {steps} steps of {name}", rtol=1e-4, atol=1e-5, slips=slips)
        if len(calls) > 6:
            wrong(
                f"loss was called {len(calls)} times by Python in {steps} steps.",
                slip="the loop runs in Python, step by step; trace it once, in lax.scan or a jitted step",
            )


@check(
    LESSON,
    "torch's scheduler counts epochs, the rule's state counts updates: epoch = count // per_epoch.",
    "The epoch since the last restart is epoch % first; no `if`, count is traced.",
    "floor + (peak - floor) * (1 + jnp.cos(jnp.pi * t / first)) / 2 for t epochs since the restart.",
    points=2,
)
def restarting_rate(rng: np.random.Generator, warm_restarts: Any) -> None:
    """A schedule of Optax's form beside torch's CosineAnnealingWarmRestarts, called once an epoch."""
    import torch

    answer = function(warm_restarts, "warm_restarts(peak, floor, first, per_epoch)")
    for first, per_epoch in rng.integers([3, 2], [6, 5], (2, 2)).tolist():
        peak, floor = rng.uniform([0.1, 0.02], [0.3, 0.06]).tolist()
        count = 2 * first * per_epoch + 5

        def rates(first: int = first, every: int = per_epoch, peak: float = peak, floor: float = floor,
                  count: int = count) -> np.ndarray:  # fmt: skip
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], peak)
            scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, first, eta_min=floor)
            seen = []
            for step in range(1, count + 1):
                seen.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                if step % every == 0:
                    scheduler.step()
            return np.array(seen)

        epoch = np.arange(count) // per_epoch
        half = (peak - floor) / 2

        def falling(t: np.ndarray, half: float = half, floor: float = floor, first: int = first) -> np.ndarray:
            return floor + half * (1 + np.cos(np.pi * t / first))

        exact = np.arange(count) / per_epoch
        schedule = function(answer(peak, floor, first, per_epoch), "the schedule")
        got = function(jax.jit(jax.vmap(schedule)), "the schedule, jitted, of a count")(jnp.arange(count))
        same(
            got, rates(), f"the rates of {count} updates (first={first}, per_epoch={per_epoch})", rtol=1e-4,
            slips={
                "updates are taken for epochs: divide the count by per_epoch": partial(rates, every=1),
                "no restart: past its end the cosine climbs again": falling(epoch),
                "no restart: the rate stays at the floor": falling(np.minimum(epoch, first)),
                "the rate falls within an epoch: torch's stands until scheduler.step(), so // and not /": (
                    falling(exact % first)),
                "it goes down to 0, not to the floor": partial(rates, floor=0.0),
                "floor is a rate, as eta_min is; it is taken for a fraction of the peak": (
                    partial(rates, floor=floor * peak)),
                "a restart an epoch late: first epochs are a period": partial(rates, first=first + 1),
                "the lowest rate comes at the last epoch of a period; torch's would come one later": (
                    falling(epoch % first * first / (first - 1))),
                "it rises: 1 + cos, not 1 - cos": falling(first - epoch % first),
            },
        )  # fmt: skip


@check(
    LESSON,
    "A rule around a rule: init is the inner one's, update calls the inner one's update first.",
    "Optax's updates are to be added: they agree with the descent where updates * grads < 0.",
    "jax.tree.map over (updates, grads) does one leaf at a time, and so the mean is that of a leaf.",
    "u * agree / jnp.maximum(agree.mean(), 1e-3)",
    points=3,
)
def cautious_rule(rng: np.random.Generator, cautious: Any) -> None:
    """A rule that leaves out what goes against the gradient, around SGD with momentum and AdamW; against NumPy."""
    answer = function(cautious, "cautious(rule)")
    rate, momentum = rng.uniform([0.1, 0.7], [0.3, 0.9]).tolist()
    shapes = {"a": (int(rng.integers(5, 8)), 3), "b": (int(rng.integers(4, 7)),)}
    start = {name: rng.normal(size=shape).astype("f") for name, shape in shapes.items()}
    pushes = [{name: rng.normal(size=shape).astype("f") for name, shape in shapes.items()} for _ in range(5)]
    speed = {name: sum(momentum ** (4 - n) * push[name] for n, push in enumerate(pushes)) for name in shapes}
    pushes.append({name: (-0.01 * speed[name]).astype("f") for name in shapes})  # nothing agrees with it

    def walk(sign: float = 1.0, whole: bool = False, scaled: Any = np.mean, least: float = 1e-3, keep: bool = True,
             caution: bool = True) -> list[dict[str, np.ndarray]]:  # fmt: skip
        weights, speed, path = dict(start), dict.fromkeys(start, np.float32(0)), []
        for push in pushes:
            speed = {name: momentum * keep * speed[name] + push[name] for name in push}
            agree = {name: (sign * speed[name] * push[name] > 0).astype("f") for name in push}
            together = np.concatenate([mask.ravel() for mask in agree.values()])
            for name, mask in agree.items():
                with np.errstate(all="ignore"):
                    factor = mask / np.maximum(scaled(together if whole else mask), least) if caution else 1.0
                    weights[name] = weights[name] - rate * speed[name] * factor
            path.append(dict(weights))
        return path

    def tree(arrays: Any) -> Any:
        return jax.tree.map(jnp.asarray, arrays)

    rule = _rule(answer(optax.sgd(rate, momentum=momentum)), "cautious")
    same(
        _walk(rule, tree(start), [tree(push) for push in pushes]), walk(), "the weights in 6 steps, around SGD,",
        rtol=1e-4, slips={
            "the sign: Optax's updates are added, so they descend where updates * grads < 0": lambda: walk(-1.0),
            "nothing is left out: the updates are the inner rule's": lambda: walk(caution=False),
            "what is left is not scaled up by the mean of the mask": lambda: walk(scaled=lambda mask: 1.0),
            "the mean is over all leaves; torch's code has one for each": lambda: walk(whole=True),
            "the sum of the mask, not its mean": lambda: walk(scaled=np.sum),
            "the inner rule's state is not carried on": lambda: walk(keep=False),
            "0 / 0 where nothing agrees: the mean is clamped at 1e-3": lambda: walk(least=0.0),
            "the weights stand still": [start] * len(pushes),
        },
    )  # fmt: skip
    rule = _rule(answer(optax.chain(optax.add_decayed_weights(0.5), optax.scale(-1.0))), "cautious")
    quiet = jax.tree.map(lambda weight: np.float32(1e-3) * np.sign(weight).astype("f"), start)
    step = _walk(rule, tree(start), [tree(quiet)])[0]
    expected = jax.tree.map(lambda weight, push: weight - (push + 0.5 * weight), start, quiet)
    same(step, expected, "the weights after a step around a rule with weight decay", rtol=1e-4)


# --- inside ------------------------------------------------------------------------------------------------


def _rule(made: Any, maker: str) -> Any:
    if not (hasattr(made, "init") and hasattr(made, "update")):
        wrong(
            f"{maker} is to return a rule of Optax, with init and update.", got=made,
            slip="optax.GradientTransformation(init, update) makes one of two functions",
        )  # fmt: skip
    return made


def _walk(rule: Any, params: Any, pushes: list[Any]) -> list[Any]:
    """The weights after each of several gradients, in steps that are compiled."""
    state = function(rule.init, "rule.init(params)")(params)
    step = function(jax.jit(rule.update), "rule.update(grads, state, params), jitted,")
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


def _decayed_last(start: np.ndarray, pushes: np.ndarray, how: dict[str, Any]) -> np.ndarray:
    weight, speed, path = start, np.zeros_like(start), []
    for push in pushes:
        speed = how["momentum"] * speed + push
        step = push + how["momentum"] * speed if how["nesterov"] else speed
        weight = weight - how["lr"] * step + how["weight_decay"] * weight
        path.append(weight)
    return np.stack(path)
