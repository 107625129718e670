"""Checks of the exercises on clocks that wait, loops inside the program, and shuffling. Needs NumPy, JAX and optax.

Lesson: 10_jit_speed.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from course.checks.core import check, function, keyed, operations, predicted_parts, same, wrong

LESSON = "10_jit_speed"


class _Clock:
    """A clock that stands still, except where work is queued or waited for."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class _Pending:
    """What a compiled function returns: there at once, finished later."""

    def __init__(self, clock: _Clock, ready: float) -> None:
        self.clock, self.ready = clock, ready

    def block_until_ready(self) -> _Pending:
        self.clock.now = max(self.clock.now, self.ready)
        return self

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        self.block_until_ready()
        return np.zeros(())

    def __float__(self) -> float:
        return float(self.__array__())


@check(
    LESSON,
    "The call returns when the work is queued. What makes Python wait until it is done?",
    "jax.block_until_ready(result) waits for every leaf; only then is the clock read again.",
    "The first call stands apart: start = clock(); jax.block_until_ready(f(x)); first = clock() - start.",
    points=2,
)
def first_and_steady(rng: np.random.Generator, first_and_steady: Any) -> None:
    """Seconds of the first call and of a later one, by a clock and a function that are simulated."""
    answer = function(first_and_steady, "first_and_steady(f, x, clock, repeats)")
    for repeats in (5, 7):
        queue, compiling = 1e-3 * rng.uniform(1, 2), rng.uniform(2, 3)
        work = 0.1 + 0.02 * np.arange(repeats - 1) + 0.01 * rng.uniform(size=repeats - 1)
        work = rng.permutation(np.append(work, 1.5))  # one call is disturbed
        work = np.concatenate([[0.3], work])
        clock, called = _Clock(), list[float]()

        def f(x: Any, clock: Any = clock, called: Any = called, work: Any = work, queue: float = queue,
              compiling: float = compiling) -> Any:  # fmt: skip
            turn = len(called)
            called.append(clock.now)
            clock.now += queue + (compiling if turn == 0 else 0)
            seconds = work[turn] if turn < len(work) else 0.15
            soon, late = (_Pending(clock, clock.now + part * seconds) for part in (0.3, 1.0))
            return {"loss": soon, "params": (late, soon)}

        got = answer(f, "x", clock, repeats)
        later = queue + work[1:]
        first, steady = compiling + queue + work[0], float(np.median(later))
        same(
            got, (first, steady), f"(first, steady) of {repeats} repeats", rtol=1e-6,
            slips={
                "the clock is read when the work is queued, not when it is done": (compiling + queue, queue),
                "only the first leaf is waited for; jax.block_until_ready takes the whole tree": (
                    compiling + queue + 0.3 * work[0], float(np.median(queue + 0.3 * work[1:])),
                ),
                "the mean; one disturbed call moves it, and hardly moves the median": (first, later.mean()),
                "the minimum, not the median": (first, later.min()),
                "the first call, with its compilation, is among the later ones": (
                    first, float(np.median(np.append(later, first)[: repeats + 1])),
                ),
                "the time of all later calls together": (first, later.sum()),
                "the pair is swapped": (steady, first),
                "the first call is not waited for": (compiling + queue, steady),
            },
        )  # fmt: skip
        if len(called) != repeats + 1:
            wrong(f"f ran {len(called)} times.", expected=repeats + 1, slip="one first call, then `repeats` more")


def _problem(rng: np.random.Generator) -> dict[str, Any]:
    n, d, held = rng.permutation(np.arange(9, 14))[:3]
    x, y = rng.normal(size=(n, d)).astype("f"), rng.normal(size=n).astype("f")
    epochs, batch = 6, 3
    orders = np.stack([rng.permutation(n)[: n // batch * batch].reshape(-1, batch) for _ in range(epochs)])
    return {
        "params": {"w": rng.normal(size=d).astype("f"), "b": np.float32(0.1)},
        "train": (x, y),
        "valid": (rng.normal(size=(held, d)).astype("f"), rng.normal(size=held).astype("f")),
        "orders": orders.astype(np.int32),
    }


def _by_torch(problem: dict[str, Any], rate: float, momentum: float, forget: bool = False) -> tuple[Any, ...]:
    """The weights after each epoch, and the validation losses."""
    import torch

    weights = {name: torch.tensor(value, requires_grad=True) for name, value in problem["params"].items()}
    (x, y), (x_valid, y_valid) = (tuple(map(torch.tensor, problem[part])) for part in ("train", "valid"))

    def loss(x: Any, y: Any) -> Any:
        return ((torch.tanh(x @ weights["w"]) + weights["b"] - y) ** 2).mean()

    optimizer = torch.optim.SGD(weights.values(), rate, momentum)
    kept, losses = [], []
    for epoch in torch.tensor(problem["orders"]).long():
        if forget:
            optimizer = torch.optim.SGD(weights.values(), rate, momentum)
        for rows in epoch:
            optimizer.zero_grad()
            loss(x[rows], y[rows]).backward()
            optimizer.step()
        kept.append({name: value.detach().numpy().copy() for name, value in weights.items()})
        with torch.no_grad():
            losses.append(float(loss(x_valid, y_valid)))
    return kept, np.array(losses, "f")


@check(
    LESSON,
    "Two scans, one in the other: over the epochs, and over the steps of an epoch.",
    "What a later epoch must know is the carry: weights, optimizer state, the best weights and their loss.",
    "Start with jnp.inf as the best loss; the weights go into jnp.where(loss < best_loss, new, old), leaf by leaf.",
    points=4,
)
def fit_keeping_best(rng: np.random.Generator, fit_keeping_best: Any) -> None:
    """Training in one program that returns the epoch with the best validation loss; against torch's loop."""
    answer = function(fit_keeping_best, "fit_keeping_best(loss_fn, optimizer, params, train, valid, orders)")
    for _ in range(80):  # until best, worst and last epoch differ, and the best is clearly the best
        problem, rate = _problem(rng), float(rng.uniform(0.08, 0.15))
        kept, losses = _by_torch(problem, rate, 0.9)
        best = int(losses.argmin())
        gap = np.sort(losses)[1] - losses.min()
        apart = [np.abs(one["w"] - kept[best]["w"]).max() for i, one in enumerate(kept) if i != best]
        if 0 < best < len(losses) - 1 > losses.argmax() and gap > 0.02 and min(apart) > 0.1:
            break
    calls: list[int] = []

    def loss_fn(params: Any, x: Any, y: Any) -> Any:
        calls.append(len(x))
        return ((jnp.tanh(x @ params["w"]) + params["b"] - y) ** 2).mean()

    steps: list[int] = []
    sgd = optax.sgd(rate, momentum=0.9)

    def update(*args: Any, **kwargs: Any) -> Any:
        steps.append(1)
        return sgd.update(*args, **kwargs)

    optimizer = optax.GradientTransformation(sgd.init, update)
    on_device = jax.tree.map(jnp.asarray, problem)
    order = ("params", "train", "valid", "orders")
    got = answer(loss_fn, optimizer, *(on_device[name] for name in order))
    forgetful, forgetful_losses = _by_torch(problem, rate, 0.9, forget=True)
    plain, plain_losses = _by_torch(problem, rate, 0.0)
    first = {
        "loss": jnp.mean((jnp.tanh(problem["valid"][0] @ problem["params"]["w"]) + 0.1 - problem["valid"][1]) ** 2)
    }
    same(
        got, (kept[best], losses), f"(best weights, validation losses) of {len(losses)} epochs", rtol=3e-4, atol=1e-4,
        slips={
            "the last weights, not the best": (kept[-1], losses),
            "the worst weights: keep the new ones where their loss is lower": (kept[int(losses.argmax())], losses),
            "the best loss is not remembered; each epoch is compared with the one before": lambda: (
                kept[max(i for i in range(1, len(losses)) if losses[i] < losses[i - 1])], losses,
            ),
            "the optimizer's state starts anew in every epoch; it belongs into the carry": (
                forgetful[int(forgetful_losses.argmin())], forgetful_losses,
            ),
            "the updates have no momentum: the optimizer's state is not carried from step to step": (
                plain[int(plain_losses.argmin())], plain_losses,
            ),
            "the validation loss is taken before the epoch": (
                kept[best], np.append(float(first["loss"]), losses[:-1]).astype("f"),
            ),
            "the weights after the epoch behind the best": (kept[best + 1], losses),
            "the best weights alone": kept[best],
        },
    )  # fmt: skip
    if len(steps) > 3 or len(calls) > 9:
        wrong(
            f"loss_fn ran {len(calls)} times in Python, optimizer.update {len(steps)} times.",
            slip="a Python loop over epochs or steps; with lax.scan each is traced a few times at most",
        )


def _measured_traces() -> dict[str, int]:
    """The four programs of the exercise, run; how often Python ran `step` in each."""
    ran: list[int] = []

    def step(w: Any, x: Any) -> Any:
        ran.append(1)
        return w - 0.1 * x.mean()

    def count(program: Any) -> int:
        ran.clear()
        program()
        return len(ran)

    x = jnp.ones(100)

    def a_call_per_step() -> None:
        w, fast = jnp.zeros(()), jax.jit(step)
        for _ in range(3):
            for start in range(0, 100, 32):
                w = fast(w, x[start : start + 32])

    def jit_in_the_loop() -> None:
        w = jnp.zeros(())
        for _ in range(3):
            w = jax.jit(lambda w, x: step(w, x))(w, x)

    def one_scan() -> None:
        @jax.jit
        def run(w: Any, batches: Any) -> Any:
            return jax.lax.scan(lambda w, x: (step(w, x), None), w, batches)[0]

        run(jnp.zeros(()), jnp.ones((500, 32)))
        run(jnp.ones(()), jnp.zeros((500, 32)))

    def scans_of_two_lengths() -> None:
        @jax.jit
        def run(w: Any, batches: Any) -> Any:
            return jax.lax.scan(lambda w, x: (step(w, x), None), w, batches)[0]

        for length in (500, 400, 500):
            run(jnp.zeros(()), jnp.ones((length, 32)))

    programs = {f.__name__: f for f in (a_call_per_step, jit_in_the_loop, one_scan, scans_of_two_lengths)}
    return {name: count(program) for name, program in programs.items()}


@check(
    LESSON,
    "Python runs a jitted function once for each new combination of shapes and dtypes.",
    "How many rows has the last batch of each epoch? And is a new lambda a function that jit has seen before?",
    "A scan's body is traced once whatever its length; but the length is a shape of the program around it.",
    points=2,
)
def times_traced(rng: np.random.Generator, traces: Any) -> None:
    """How often Python runs a step in four programs, measured."""
    slips: dict[str, dict[Any, str]] = {
        "a_call_per_step": {
            12: "the number of calls; only new shapes are traced",
            1: "the last batch of an epoch has 4 rows: another shape, another trace",
            6: "the cache is kept from epoch to epoch",
        },
        "jit_in_the_loop": {1: "each turn makes a new lambda, and jit's cache knows functions by identity"},
        "one_scan": {
            500: "the turns of the scan; its body is traced, not run",
            1000: "the turns of the scan; its body is traced, not run",
            2: "new values are no new shapes",
        },
        "scans_of_two_lengths": {
            1: "the length is part of the shape of `batches`",
            3: "the third call has the shapes of the first",
            1400: "the turns of the scans; a body is traced, not run",
        },
    }
    keyed(traces, slips)
    predicted_parts(traces, _measured_traces(), slips, "step in {}")


@check(
    LESSON,
    "Look at which key each epoch draws with.",
    "jax.random.split(key, epochs) gives a key for each; jax.vmap or lax.map draws with each.",
    "A whole permutation of the rows is drawn first, and cut to a multiple of the batch size afterwards.",
    points=2,
)
def epoch_orders(rng: np.random.Generator, epoch_orders: Any) -> None:
    """Row numbers of each batch of each epoch: permutations, independent, uniform."""
    answer = function(epoch_orders, "epoch_orders(key, rows, batch, epochs)")
    for rows, batch, epochs in ((int(rng.integers(10, 20)), 4, 8), (12, 3, 4)):
        key = jax.random.key(int(rng.integers(10**6)))
        what = f"the orders of {epochs} epochs of {rows} rows by {batch}"
        got, again = (np.asarray(answer(key, rows, batch, epochs)) for _ in range(2))
        if got.shape != (epochs, rows // batch, batch):
            slip = "the rest of the rows, less than a batch, is dropped" if got.size > rows // batch * batch else ""
            wrong(f"{what} have another shape.", expected=(epochs, rows // batch, batch), got=got, slip=slip)
        if got.dtype.kind not in "iu" or got.min() < 0 or got.max() >= rows:
            wrong(f"{what}: expected integers from 0 to {rows - 1}.", got=got)
        flat = got.reshape(epochs, -1)
        if any(len(set(epoch)) < len(epoch) for epoch in flat.tolist()):
            wrong("a row comes twice in an epoch.", got=flat[0], slip="drawn with replacement; jax.random.permutation")
        if (got != again).any():
            wrong("the same key gives another order.", slip="randomness that does not come from the key")
        if all((epoch == flat[0]).all() for epoch in flat):
            wrong("all epochs have the same order.", got=flat[:2], slip="one key for all epochs; split it")
        if all(set(epoch) == set(flat[0]) for epoch in flat) and rows % batch:
            wrong("the same rows are left out in every epoch.", slip="cut after the permutation, not before")
        if (np.asarray(answer(jax.random.key(1), rows, batch, epochs)) == got).all():
            wrong("another key gives the same order.", slip="the key is ignored")
    many = np.asarray(answer(key, 6, 2, 4000)).reshape(4000, 6)
    first = np.bincount(many[:, 0], minlength=6) / 4000
    next_is_greater = np.mean((many[:, 1] - many[:, 0]) % 6 == 1)
    # 0.05 is more than seven standard deviations of either, sqrt(p (1 - p) / 4000)
    if abs(next_is_greater - 1 / 5) > 0.05 or len(set(map(tuple, many.tolist()))) < 300:
        wrong("rows stay together.", slip="batches or a starting point are shuffled, not the rows")
    if np.abs(first - 1 / 6).max() > 0.05:
        wrong("not every row comes first equally often.", expected=np.full(6, 1 / 6), got=first)
    lags = np.mean(many[1:] == many[:-1])
    if abs(lags - 1 / 6) > 0.05:
        wrong("an epoch's order depends on that of the one before.", slip="a key used twice")
    few, more = (sum(operations(lambda key, n=n: answer(key, 6, 2, n), key).values()) for n in (4, 32))
    if more > 2 * few + 8:
        wrong(f"the program grows with the epochs: {few} operations become {more}.", slip="a Python loop over epochs")
