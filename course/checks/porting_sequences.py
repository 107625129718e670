"""Checks of the exercises on recurrent layers, masks and silent indices. Needs NumPy, JAX, optax and flax.

Lesson: 06b_porting_sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from course import porting
from course.checks.core import check, function, keyed, operations, predicted, same, wrong

LESSON = "06b_porting_sequences"


@check(
    LESSON,
    "A compiled program cannot raise over a value. torch's eager one can.",
    "Lookups by jnp.take or take_along_axis fill in NaN; plain indexing clamps; negative indices count from the end.",
    "jnp.where's gradient multiplies the branch not taken by 0. What is 0 times infinity?",
    points=2,
)
def loud_or_quiet(rng: np.random.Generator, loud_or_quiet: Any) -> None:
    """What six doubtful expressions do: raise, give NaN, or give a number; measured by running them."""
    import torch
    import torch.nn.functional as F

    label = int(rng.integers(5, 20))
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    thunks: dict[str, Callable[[], Any]] = {
        "torch label": lambda: F.cross_entropy(torch.zeros(1, 5), torch.tensor([label])).numpy(),
        "optax label": lambda: cross_entropy(jnp.zeros((1, 5)), jnp.array([label])),
        "optax negative": lambda: cross_entropy(jnp.zeros((1, 5)), jnp.array([-1])),
        "embed": lambda: nnx.Embed(5, 2, rngs=nnx.Rngs(0))(jnp.array([5])),
        "table": lambda: jnp.ones((5, 2))[jnp.array([5])],
        "sqrt": lambda: jax.grad(lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0))(0.0),
    }
    keyed(loud_or_quiet, thunks)
    clamps = "plain indexing of a JAX array clamps: index 5 of 5 rows gives the last one"
    fills = "a lookup by jnp.take or take_along_axis fills in NaN where the index is out of range"
    slips = {
        "torch label": {"nan": "torch runs eagerly, and looks at its labels", "number": "torch looks at its labels"},
        "optax label": {"raises": "a compiled program cannot raise over a value that it meets", "number": fills},
        "optax negative": {
            "nan": "a negative index is in range: it counts from the end",
            "raises": "a negative index is in range: it counts from the end",
        },
        "embed": {"raises": "a compiled program cannot raise over a value that it meets", "number": fills},
        "table": {"raises": f"no error: {clamps}", "nan": clamps},
        "sqrt": {
            "number": "jnp.where masks the value; the gradient of the branch not taken is 0 times infinity",
            "raises": "no error, a value; and where masks values, not the slopes behind them",
        },
    }
    for name, thunk in thunks.items():
        predicted(loud_or_quiet[name], _outcome(thunk), f"{name!r}", slips[name])


def _outcome(thunk: Callable[[], Any]) -> str:
    try:
        value = np.asarray(thunk())
    except Exception:  # which error it is differs by framework and version
        return "raises"
    return "nan" if np.isnan(value).any() else "number"


@check(
    LESSON,
    "Write down for each of the two what True, or 0, means: seen or hidden?",
    "A key is visible where both allow it: & of the two, each turned into 'True is visible'.",
    "padding is about keys, the last axis: ~padding[:, None, None, :].",
    points=2,
)
def flax_mask(rng: np.random.Generator, flax_mask: Any) -> None:
    """One boolean mask for flax from torch's two; against which of torch's attention weights are not 0."""
    import torch

    answer = function(flax_mask, "flax_mask(additive, padding)")
    for _ in range(2):
        sentences, steps, window = int(rng.integers(2, 4)), int(rng.integers(6, 9)), int(rng.integers(3, 5))
        back = np.arange(steps)[:, None] - np.arange(steps)  # how far a key lies behind its query
        hidden = (back < 0) | (back >= window)
        additive = np.where(hidden, -np.inf, 0.0).astype("f")
        padding = np.arange(steps) >= steps - np.arange(sentences)[:, None] % window  # every query keeps a key
        scores = torch.from_numpy(rng.normal(size=(sentences, 2, steps, steps))) + torch.from_numpy(additive)
        scores = scores.masked_fill(torch.from_numpy(padding)[:, None, None, :], -torch.inf)
        expected = (scores.softmax(-1) > 0).numpy()[:, :1]  # the same for all heads
        keys, queries = padding[:, None, None, :], padding[:, None, :, None]
        got = answer(jnp.asarray(additive), jnp.asarray(padding))
        same(
            got, expected, f"the mask of {sentences} sentences of {steps}", dtype=bool,
            slips={
                "True means visible in flax, and hidden in torch: the mask is the wrong way round": ~expected,
                "visible where one of the two allows it; a key must be allowed by both: &": ~hidden | ~keys,
                "the padding hides queries (rows); it must hide keys, the last axis": ~hidden & ~queries,
                "the padding is the wrong way round: True is padding": ~hidden & keys,
                "the window is the wrong way round: 0 is seen, -inf is hidden, and bool(-inf) is True": hidden & ~keys,
                "the padding is left out": np.broadcast_to(~hidden, expected.shape),
                "the window is left out": np.broadcast_to(~keys, expected.shape),
                "the axis for the heads is missing, (B, 1, T, T)": expected[:, 0],
                "queries and keys are swapped: rows are queries": expected.swapaxes(-1, -2),
                "an additive mask, as torch's; flax's attention takes booleans": np.where(expected, 0.0, -np.inf),
            },
        )  # fmt: skip


@check(
    LESSON,
    "The carry is h. What changes from step to step, x and first, goes in as a pair of arrays, time first.",
    "step(h, (x, first)) returns (h, h): the next carry, and what is stacked.",
    "scan returns the last carry, then the outputs, time first: move the axis back, and swap the two.",
    points=3,
)
def episodes(rng: np.random.Generator, episodes: Any) -> None:
    """A recurrent layer that forgets at the start of an episode, as a scan; against torch's loop."""
    import torch

    answer = function(episodes, "episodes(params, x, first)")

    def by_torch(arrays: Any, when: str = "before", memory: bool = True) -> tuple[np.ndarray, np.ndarray]:
        w, u, b, x, first = map(torch.from_numpy, arrays)
        h, outputs = torch.zeros(len(x), len(u)), []
        for t in range(x.shape[1]):
            h = torch.where(first[:, t, None], 0.0, h) if when == "before" else h
            h = torch.where(~first[:, t, None], 0.0, h) if when == "inverted" else h
            h = torch.tanh(x[:, t] @ w + (h @ u if memory else 0) + b)
            outputs.append(h)
            h = torch.where(first[:, t, None], 0.0, h) if when == "after" else h
        return torch.stack(outputs, 1).numpy(), h.numpy()

    for _ in range(2):
        batch, width, hidden = (int(n) for n in rng.permutation([2, 3, 4]))
        steps = int(rng.integers(6, 9))
        w, u, b = (rng.normal(size=size).astype("f") for size in ((width, hidden), (hidden, hidden), hidden))
        x, first = rng.normal(size=(batch, steps, width)).astype("f"), np.zeros((batch, steps), bool)
        first[np.arange(batch), rng.integers(1, steps - 2, batch)] = True
        first[0, -1] = True  # the last state of one is that of a new episode
        arrays = (w, u, b, x, first)
        expected = by_torch(arrays)
        params = {"w": jnp.asarray(w), "u": jnp.asarray(u), "b": jnp.asarray(b)}
        same(
            answer(params, jnp.asarray(x), jnp.asarray(first)), expected, f"outputs and state after {steps} steps",
            rtol=1e-4,
            slips={
                "`first` is not used: the memory runs on into the next episode": by_torch(arrays, "never"),
                "the memory is wiped after the step; it must be before": by_torch(arrays, "after"),
                "jnp.where(condition, where true, where false): the two are swapped": by_torch(arrays, "inverted"),
                "the carry is never used, or step returns the old one": by_torch(arrays, memory=False),
                "scan returns (carry, outputs); torch's function (outputs, state)": expected[::-1],
                "scan's own return value, (carry, outputs with time first)": (expected[1], expected[0].swapaxes(0, 1)),
                "the outputs have time first still; move the axis back": (expected[0].swapaxes(0, 1), expected[1]),
                "the last state is missing: torch returns (outputs, state)": expected[0],
                "the state is that of the first step": (expected[0], expected[0][:, 0]),
            },
        )  # fmt: skip
    longer = [(jnp.zeros((batch, n, width), jnp.float32), jnp.zeros((batch, n), bool)) for n in (5, 20)]
    counts = [sum(operations(answer, params, *arrays).values()) for arrays in longer]
    if counts[0] != counts[1]:
        wrong(
            "the program grows with the number of steps.", expected=counts[0], got=counts[1],
            slip="a Python loop over time records every step; jax.lax.scan records one",
        )  # fmt: skip


@check(
    LESSON,
    "Two differences between the states: the order of h and c, and an axis for the layers in front.",
    "rnn(x, initial_carry=(c[0], h[0]), return_carry=True) returns ((c, h), y).",
    points=2,
)
def next_chunk(rng: np.random.Generator, next_chunk: Any) -> None:
    """An LSTM that goes on from torch's state, and returns torch's state; against a torch LSTM."""
    import torch

    answer = function(next_chunk, "next_chunk(rnn, state, x)")
    torch.manual_seed(int(rng.integers(10**6)))
    batch, width, hidden = (int(n) for n in rng.permutation([2, 3, 4]))
    lstm = torch.nn.LSTM(width, hidden, batch_first=True)
    with torch.no_grad():
        for weight in lstm.parameters():
            weight.mul_(3)  # so that the memory counts
    cell = nnx.OptimizedLSTMCell(width, hidden, rngs=nnx.Rngs(0))
    rnn = porting.torch_to_nnx(lstm, nnx.RNN(cell, rngs=nnx.Rngs(0)))
    x = torch.from_numpy(rng.normal(size=(batch, 9, width)).astype("f"))
    with torch.no_grad():
        _, (h, c) = lstm(x[:, :5])

        def by_torch(state: Any) -> tuple:
            y, (h, c) = lstm(x[:, 5:], state)
            return y.numpy(), (h.numpy(), c.numpy())

        y, (last_h, last_c) = by_torch((h, c))
        swapped, fresh = by_torch((c, h)), by_torch(None)
    state = jnp.asarray(h.numpy()), jnp.asarray(c.numpy())
    same(
        answer(rnn, state, jnp.asarray(x[:, 5:].numpy())), (y, (last_h, last_c)), "outputs and state", rtol=1e-4,
        slips={
            "h and c are swapped on the way in: flax's carry is (c, h)": swapped,
            "h and c are swapped on both ways: flax's carry is (c, h)": (swapped[0], swapped[1][::-1]),
            "h and c are swapped on the way out: flax's carry is (c, h)": (y, (last_c, last_h)),
            "the state is not used: every chunk starts from zeros; initial_carry=": fresh,
            "the state has lost torch's first axis, that of the layers: h[None]": (y, (last_h[0], last_c[0])),
            "flax's carry as it is: (c, h), without torch's first axis": (y, (last_c[0], last_h[0])),
            "flax returns (carry, y), torch (y, state)": ((last_h, last_c), y),
            "nnx.RNN's own return value, (carry, y), with the carry (c, h)": ((last_c[0], last_h[0]), y),
            "the state is missing: return_carry=True": y,
            "the state that went in is returned, not the new one": (y, (h.numpy(), c.numpy())),
        },
    )  # fmt: skip
