"""Checks of the exercises on Linen's trees, shared layers, kept states, one program. Needs NumPy, JAX, flax and optax.

Lesson: 01c_titanic_linen.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import errors
from flax import linen as nn
from flax.training.train_state import TrainState

from course.checks.core import check, function, predicted_parts, same, wrong

LESSON = "01c_titanic_linen"


@check(
    LESSON,
    "Under @nn.compact a layer without a name is called after its class and its turn.",
    "A kernel is (in, out); one of the layers has no bias.",
    "Adam keeps two moments for each weight, and a count; the TrainState adds its step.",
    "init looked at the input: its width is in the first kernel, the number of its rows nowhere.",
    points=2,
)
def linen_tree(rng: np.random.Generator, tree: Any) -> None:
    """Names, shapes and leaves of a model's variables, against those that init makes."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.relu(nn.Dense(8)(x))
            x = nn.Dense(4, use_bias=False)(x)
            return nn.Dense(1, name="head")(x)

    def fits(shape: tuple[int, int]) -> bool:
        try:
            model.apply({"params": params}, jnp.zeros(shape))
        except errors.ScopeParamShapeError:
            return False
        return True

    model = Net()
    params = model.init(jax.random.key(int(rng.integers(100))), jnp.zeros((32, 5)))["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-3))
    second = next(name for name, layer in params.items() if layer["kernel"].shape == (8, 4))
    truth = {
        "second": second,
        "kernel": params["Dense_0"]["kernel"].shape,
        "arrays": len(jax.tree.leaves(params)),
        "leaves": len(jax.tree.leaves(state)),
        "rows": fits((7, 5)),
        "columns": fits((32, 6)),
    }
    torch_like = "torch's layout; flax's kernel is (in, out)"
    predicted_parts(
        tree, truth,
        {
            "second": {"dense_2": "counting starts at 0", "dense": "each layer has a number, from 0 on"},
            "kernel": {(8, 5): torch_like, (32, 8): "the rows of the example are no part of a weight",
                       (5, 32): "the rows of the example are no part of a weight"},
            "arrays": {6: "one layer has no bias", 3: "a layer has a kernel, and mostly a bias"},
            "leaves": {
                10: "Adam has two moments for each array, and they stand beside the weights",
                15: "without Adam's count and the step",
                16: "Adam's count and the state's step are two numbers",
                18: "functions, such as apply_fn and tx, are no leaves",
                19: "functions, such as apply_fn and tx, are no leaves",
            },
            "rows": {False: "weights do not depend on how many rows there are"},
            "columns": {True: "the first kernel has as many rows as the input of init had columns"},
        },
        "tree",
    )  # fmt: skip


@check(
    LESSON,
    "Under @nn.compact each nn.Dense(...) in the code makes a layer. How many towers do two passes make?",
    "Declare the layers once, in setup, under the names self.hidden and self.out; use them twice in __call__.",
    "def tower(self, x): return self.out(nn.tanh(self.hidden(x)))",
    points=3,
)
def siamese(rng: np.random.Generator, Siamese: Any) -> None:
    """Two inputs through one tower: its parameters once, and torch's output for torch's weights."""
    import torch

    for _ in range(2):
        d, width, size = (int(number) for number in rng.choice(np.arange(3, 8), 3, replace=False))
        model = function(Siamese, "Siamese(width, size)")(width, size)
        if not isinstance(model, nn.Module):
            wrong("Siamese(width, size) is no Linen module.", got=f"a {type(model).__name__}")

        def init(*arguments: Any, model: Any = model) -> Any:
            try:
                return model.init(*arguments)
            except errors.NameInUseError:
                wrong(
                    "the model makes two layers of one name.",
                    slip="nn.Dense(..., name=...) stands in what runs twice; make each layer once, use it twice",
                )

        a, b = rng.normal(size=(2, 6, d)).astype("f")
        variables = function(init, "init(key, a, b)")(jax.random.key(0), a, b)
        params = variables["params"]
        shapes = {
            "hidden": {"bias": (width,), "kernel": (d, width)}, "out": {"bias": (size,), "kernel": (width, size)},
        }  # fmt: skip
        got = jax.tree.map(jnp.shape, params)
        kernels = [shape for shape in jax.tree.leaves(got, is_leaf=lambda s: isinstance(s, tuple)) if len(shape) == 2]
        if got != shapes:
            slip = ""
            if len(kernels) == 4:
                slip = "two towers: the second pass made layers of its own; make each layer once, use it twice"
            elif sorted(kernels) == sorted([(d, width), (width, size)]):
                slip = "the names: the layers are to be called hidden and out"
            elif sorted(kernels) == sorted([(d, size), (size, width)]):
                slip = "width and size are swapped"
            elif len(kernels) == 2:
                slip = "the sizes of the two layers: features -> width -> size"
            wrong("the parameters are not those of one tower.", expected=str(shapes), got=str(got), slip=slip)
        layers = torch.nn.Linear(d, width), torch.nn.Linear(width, size)
        weights = {
            name: {"kernel": layer.weight.detach().numpy().T.copy(), "bias": layer.bias.detach().numpy().copy()}
            for name, layer in zip(("hidden", "out"), layers, strict=True)
        }

        def tower(x: np.ndarray, tanh: bool = True, layers: Any = layers) -> Any:
            hidden = layers[0](torch.from_numpy(x))
            return layers[1](torch.tanh(hidden) if tanh else torch.relu(hidden))

        result = function(model.apply, "apply(variables, a, b)")({"params": weights}, a, b)
        difference = tower(a) - tower(b)
        same(
            result, (difference**2).sum(-1), "the distances of 6 pairs", rtol=1e-4,
            slips={
                "the mean over the features, not the sum": (difference**2).mean(-1),
                "the root of the sum; torch's lines take none": (difference**2).sum(-1).sqrt(),
                "absolute values, not squares": difference.abs().sum(-1),
                "summed over the pairs too: sum over the last axis": (difference**2).sum(),
                "relu for tanh": ((tower(a, False) - tower(b, False)) ** 2).sum(-1),
            },
        )  # fmt: skip


@check(
    LESSON,
    "A step returns the next state. What is a copy of the best one, if no step can change it?",
    "state, _ = step(state, batch) in the loop; best = state where the loss is below the best so far.",
    "Count the steps since the last improvement, and set the count back at each.",
    points=2,
)
def best_state(rng: np.random.Generator, best_state: Any) -> None:
    """The best of the states that a loop went through, and when it stopped; against a loop that copies."""
    answer = function(best_state, "best_state(step, evaluate, state, batches, patience)")

    def run(curve: np.ndarray, moves: np.ndarray, w: np.ndarray, patience: int, how: str = "") -> tuple[Any, int]:
        """torch's loop: one model that changes, and copies of it."""
        model: dict[str, Any] = {"w": w.copy(), "count": 0}
        low, waited, steps = np.inf, 0, 0
        best = None
        for move in moves:
            if how != "stays":
                model = {"w": model["w"] + move, "count": model["count"] + 1}
            steps += 1
            loss = curve[int(model["count"])]
            if loss < low:
                best, low, waited = model, loss, (waited if how == "no reset" else 0)
            else:
                waited += 1
                if waited == patience + (how == "late"):
                    break
        return (model if how == "last" else best), steps

    for _ in range(3):
        size, patience, n = int(rng.integers(2, 5)), int(rng.integers(3, 5)), 16
        curve = 2.0 + rng.random(n + 1)
        curve[:8] = [0, 9, 8, 8.5, 7, 7.5, 6, 5]  # two steps back, then on
        moves, w = rng.normal(size=(n, size)).astype("f"), rng.normal(size=size).astype("f")
        curve[8 : 8 + patience + 1] = 5.5 + np.arange(patience + 1)  # here patience ends
        calls: list[int] = []

        def step(state: Any, batch: Any, calls: list[int] = calls) -> tuple[Any, Any]:
            calls.append(1)
            return {"w": state["w"] + batch, "count": state["count"] + 1}, jnp.sum(batch)

        def evaluate(state: Any, curve: Any = curve) -> Any:
            return jnp.asarray(curve)[state["count"]]

        start = {"w": jnp.asarray(w), "count": jnp.zeros((), jnp.int32)}
        got = answer(step, evaluate, start, list(moves), patience)
        if not isinstance(got, tuple | list) or len(got) != 2:
            wrong("expected the pair (best, steps).", got=got)
        best, steps = run(curve, moves, w, patience)
        same(
            got[0], best, "the best state", rtol=1e-4,
            slips={
                "nothing is learned: step returns the new state, and nobody keeps it": {"w": w, "count": 0},
                "the last state, not the best": run(curve, moves, w, patience, "last")[0],
                "the state after the first step": {"w": w + moves[0], "count": 1},
                                "the best loss, not the state that has it": curve[1 : steps + 1].min(),
                "the count of steps without improvement is never set back": run(
                    curve, moves, w, patience, "no reset"
                )[0],
            },
        )  # fmt: skip
        same(
            got[1], steps, f"the number of steps, with a patience of {patience}", exact_shape=False,
            slips={
                "the count of steps without improvement is never set back": run(
                    curve, moves, w, patience, "no reset"
                )[1],
                "one step too many: stop when as many steps as patience in a row brought nothing": steps + 1,
                "one step too few": steps - 1,
                "all batches were used: the loop does not stop": n,
                "the best state's step, not the last": int(best["count"]),
            },
        )  # fmt: skip
        if len(calls) != steps:
            wrong("step was called another number of times.", expected=steps, got=len(calls))


@check(
    LESSON,
    "optax.adam(rate) has new functions for each rate, and they are part of what is compiled. What is not?",
    "A number that is an argument of the compiled step is an input. optax.scale_by_adam() is Adam without its rate.",
    "step(params, opt_state, rate): updates, opt_state = tx.update(grads, opt_state), then p - rate * u.",
    points=4,
)
def sweep(rng: np.random.Generator, sweep: Any) -> None:
    """Adam at several rates in one program; against torch.optim.Adam, and by counting traces of the loss."""
    import torch

    answer = function(sweep, "sweep(loss, params, rates, steps)")
    d = int(rng.integers(3, 6))
    w, b = rng.normal(size=d).astype("f"), np.float32(rng.uniform(0, 1))
    target = w + (rng.choice([-1, 1], d) * rng.uniform(2, 4, d)).astype("f")  # farther away than any run gets
    rates = [float(rate) for rate in rng.permutation([0.01, 0.03, 0.1, 0.2, 0.3])]

    def of(w: Any, b: Any, target: Any) -> Any:
        return 0.01 * ((w - target) ** 4).sum() + 0.01 * (b + 3.0) ** 4

    def run(count: int, steps: int) -> tuple[Any, int]:
        traces: list[int] = []

        def loss(params: Any) -> Any:
            traces.extend([1] * any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(params)))
            return of(params["w"], params["b"], jnp.asarray(target))

        got = answer(loss, {"w": jnp.asarray(w), "b": jnp.asarray(b)}, rates[:count], steps)
        return got, len(traces)

    def by_torch(steps: int, rates: list[float], how: str = "") -> np.ndarray:
        def fresh() -> list[Any]:
            return [torch.tensor(array, requires_grad=True) for array in (w, b)]

        finals, weights = [], fresh()
        optimizer = torch.optim.Adam(weights, rates[0], maximize=how == "up")
        for rate in rates:
            if how != "weights":
                new = fresh()
                with torch.no_grad():
                    for weight, value in zip(weights, new, strict=True):
                        weight.copy_(value)
            if how not in ("weights", "moments"):
                optimizer = torch.optim.Adam(weights, rate, maximize=how == "up")
            optimizer.param_groups[0]["lr"] = rate
            for _ in range(steps):
                optimizer.zero_grad()
                value = of(weights[0], weights[1], torch.from_numpy(target))
                value.backward()
                optimizer.step()
            finals.append(
                float(
                    value.detach() if how == "before" else of(weights[0], weights[1], torch.from_numpy(target)).detach()
                )
            )
        return np.array(finals)

    few, few_traces = run(2, 3)
    many, many_traces = run(5, 3)
    for got, n in ((many, 5), (few, 2)):
        same(
            np.asarray([float(part) for part in got]) if isinstance(got, list | tuple) else got,
            by_torch(3, rates[:n]), f"the last losses at {n} rates", rtol=1e-4,
            slips={
                "each rate goes on from the weights of the one before; all start at params": by_torch(
                    3, rates[:n], "weights"
                ),
                "the sign: the loss goes up": by_torch(3, rates[:n], "up"),
                "the loss before the last update, which value_and_grad returns": by_torch(3, rates[:n], "before"),
                "every rate gives the same: the first one was compiled in": np.repeat(by_torch(3, rates[:1]), n),
                "plain gradient descent, no Adam": lambda n=n: _descended(of, w, b, target, rates[:n]),
            } | ({} if n < 5 else {  # at two small rates it makes no difference
                "Adam's moments are those of the rate before; make a new state for each rate": by_torch(
                    3, rates, "moments"
                ),
            }),
        )  # fmt: skip
    _, long_traces = run(2, 6)
    if long_traces > few_traces:
        wrong(
            f"3 steps trace the loss {few_traces} times, 6 steps {long_traces} times.",
            slip="the step is not compiled, or compiled anew each time: one jax.jit, outside of loops",
        )
    if many_traces > few_traces:
        wrong(
            f"2 rates trace the loss {few_traces} times, 5 rates {many_traces} times.",
            slip="a program for each rate: optax.adam(rate) is new functions each time, and jax.jit inside the loop "
            "a new cache; make the rate an argument of one compiled step",
        )


def _descended(of: Any, w: Any, b: Any, target: Any, rates: list[float]) -> np.ndarray:
    finals = []
    for rate in rates:
        params: Any = (jnp.asarray(w), jnp.asarray(b))
        for _ in range(3):
            grads = jax.grad(of, (0, 1))(*params, jnp.asarray(target))
            params = jax.tree.map(lambda p, g, rate=rate: p - rate * g, params, grads)
        finals.append(float(of(*params, jnp.asarray(target))))
    return np.array(finals)
