"""What an entry of the Rosetta stone is, and how it is run. The entries are data; this is all the machinery there is.

An entry is a class whose docstring is its title. Its functions take no `self`; what they return is compared:

    class Clamp(Pair):
        '''Limit values to a range'''

        inputs = {"x": normal(3, 4)}

        def torch(x):
            return x.clamp(-1, 1)

        def jax(x):
            return jnp.clip(x, -1, 1)

What a note says beyond the two functions stands in `claims`, as assertions.

An entry that differs on purpose is a trap: `trap` says the difference in a sentence, `differ` checks it, `fix`, where
there is one, is what to write instead and must equal PyTorch's result, `lesson` is the lesson that shows the trap and
the tag of the cell that does, where there is one.

`also` lists spellings in PyTorch that an entry answers beside those of its own PyTorch side: the index of names
(rosetta/names.py) is made of both.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import inspect
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

from course import porting
from tools.environment import double_precision

GROUPS = (
    "creation", "indexing", "elementwise", "reductions", "linear_algebra", "random_numbers", "autograd", "control_flow",
    "layers", "activations", "initialization", "images", "sequences", "modules", "losses", "optimizers", "schedules",
    "training", "data", "devices", "mixed_precision", "saving", "compiling", "debugging", "parallelism",
)  # fmt: skip

Draw = Callable[[np.random.Generator], Any]


def normal(*shape: int) -> Draw:
    """float32 standard normals."""
    return lambda rng: rng.normal(size=shape).astype(np.float32)


def positive(*shape: int) -> Draw:
    """float32 between 0.1 and 1."""
    return lambda rng: rng.uniform(0.1, 1, size=shape).astype(np.float32)


def integers(low: int, high: int, *shape: int) -> Draw:
    """int64 in [low, high), as PyTorch has them; JAX makes int32 of them."""
    return lambda rng: rng.integers(low, high, size=shape)


def booleans(*shape: int) -> Draw:
    """Fair coins."""
    return lambda rng: rng.random(shape) < 0.5


def spd(size: int) -> Draw:
    """A well-conditioned symmetric positive definite float32 matrix, (size, size)."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        root = rng.normal(size=(size, size))
        return (root @ root.T / size + np.eye(size)).astype(np.float32)

    return draw


def key() -> Draw:
    """A PRNG key, for the JAX side."""
    return lambda rng: jax.random.key(int(rng.integers(2**31)))


def folder() -> Draw:
    """The path of a fresh folder, removed at the end; each side gets one of its own."""

    def draw(rng: np.random.Generator) -> Path:
        path = Path(tempfile.mkdtemp(prefix="rosetta-"))
        atexit.register(shutil.rmtree, path, ignore_errors=True)
        return path

    return draw


class Pair:
    """Two functions of the same inputs; their outputs, and gradients where they exist, must agree."""

    inputs: ClassVar[dict[str, Any]] = {}  # name -> draw, or a constant
    tolerance: ClassVar[float] = 1e-5  # float32 sums in another order
    no_gradient: ClassVar[str] = ""  # why none is compared, where an output is differentiable
    note: ClassVar[str] = ""  # shown below the pair: versions, costs
    trap: ClassVar[str] = ""
    lesson: ClassVar[tuple[str, str]] = ("", "")  # (stem, the tag of a cell, "trap:…")
    also: ClassVar[tuple[str, ...]] = ()  # "nn.SiLU", "Tensor.add_"

    @classmethod
    def sides(cls) -> dict[str, Callable]:
        """The functions that an entry defines: torch, and jax or nnx and linen, and fix."""
        return {name: vars(cls)[name] for name in ("torch", "jax", "nnx", "linen", "fix") if name in vars(cls)}

    @classmethod
    def draw(cls, seed: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        return {name: value(rng) if callable(value) else value for name, value in cls.inputs.items()}

    @classmethod
    def result(cls, side: str, drawn: dict[str, Any]) -> Any:
        """What a side returns; PyTorch gets tensors, JAX arrays, each only the inputs that it names."""
        function = cls.sides()[side]
        own = {name: drawn[name] for name in inspect.signature(function).parameters}
        return function(**{name: _tensor(value) if side == "torch" else _array(value) for name, value in own.items()})

    @classmethod
    def gradients(cls, side: str, drawn: dict[str, Any]) -> dict[str, np.ndarray]:
        """Of a weighted sum of the floating outputs, for every floating input; {} where there is none."""
        function = cls.sides()[side]
        own = {name: drawn[name] for name in inspect.signature(function).parameters}
        wanted = [name for name, value in own.items() if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
        if side == "torch":
            leaves = {name: torch.from_numpy(own[name].copy()).requires_grad_() for name in wanted}
            # clone: many an idiom writes in place, which torch forbids on a leaf
            output = function(**{name: leaves[name].clone() if name in wanted else _tensor(own[name]) for name in own})
            total = sum((_weighted(leaf, torch) for leaf in flat(output) if _differentiable(leaf)), torch.zeros(()))
            if not wanted or not total.requires_grad:
                return {}
            found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
            return {name: gradient.numpy() for name, gradient in zip(wanted, found, strict=True)}

        def total_of(floats):
            output = function(**{name: floats[name] if name in floats else _array(own[name]) for name in own})
            leaves = [leaf for leaf in flat(output) if isinstance(leaf, jax.Array)]
            return sum(_weighted(leaf, jnp) for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating))

        found = jax.jit(jax.grad(total_of))({name: _array(own[name]) for name in wanted})
        return {name: np.asarray(gradient) for name, gradient in found.items()}

    @classmethod
    def check(cls, seed: int) -> None:
        """Run every side on the same random inputs; AssertionError where they do not do what the entry says."""
        if seed == 0 and "claims" in vars(cls):
            vars(cls)["claims"]()
        sides = cls.sides()
        results = {side: _result_or_error(cls, side, seed) for side in sides}
        theirs = results["torch"]
        for side in sides.keys() - {"torch"}:
            if cls.trap and side != "fix":
                arguments = {"theirs": theirs, "ours": results[side], "fixed": results.get("fix")}
                wanted = inspect.signature(vars(cls)["differ"]).parameters
                for name in arguments.keys() - wanted.keys():
                    if isinstance(arguments[name], Exception):  # `differ` must look at an error, or there must be none
                        raise arguments[name]
                assert vars(cls)["differ"](**{name: arguments[name] for name in wanted}), (cls.__name__, arguments)
            elif not (side == "fix" and isinstance(theirs, Exception)):
                assert_equal(theirs, results[side], cls.tolerance, f"{cls.__name__}, {side}")
                if seed == 0 and not cls.no_gradient:
                    expected = cls.gradients("torch", cls.draw(seed))
                    if expected:
                        assert_equal(expected, cls.gradients(side, cls.draw(seed)), cls.tolerance * 10, "gradients")


class Layer(Pair):
    """A layer built on each side from the same weights: outputs, and gradients for the inputs.

    Gradients for the weights are compared in tests/unit/test_porting_property.py.
    """

    channels_first: ClassVar[bool] = False  # x is (N, C, ...) in PyTorch and (N, ..., C) in flax

    @classmethod
    def build(cls, side: str, arguments: list[Any]) -> tuple[Any, Callable]:
        """A side's module (what NNX needs for its random streams), and a function of it and the inputs, torch's way."""
        sides = cls.sides()
        torch.manual_seed(0)
        layer = sides["torch"]().eval()
        with torch.no_grad():
            for tensor in layer.state_dict().values():
                if tensor.ndim == 1 and tensor.is_floating_point():  # scales of 1 and averages of 0 would hide much
                    tensor.uniform_(0.5, 1.5)
        if side == "torch":
            return None, lambda _, *arguments: _first(layer(*arguments))

        def last(arguments):
            return [jnp.moveaxis(x, 1, -1) for x in arguments] if cls.channels_first else arguments

        def arranged(call, *arguments):
            output = _first(call(*last(arguments)))
            return jnp.moveaxis(output, -1, 1) if cls.channels_first and output.ndim > 2 else output

        if side == "linen":
            module = sides["linen"]()
            template = jax.eval_shape(module.init, jax.random.key(0), *last(arguments))
            variables = porting.torch_to_linen(layer, template)
            return None, lambda _, *arguments: arranged(partial(module.apply, variables), *arguments)
        module = porting.torch_to_nnx(layer, sides[side](nnx.Rngs(0)))
        module.eval()
        return module, arranged

    @classmethod
    def result(cls, side: str, drawn: dict[str, Any]) -> Any:
        convert = _tensor if side == "torch" else _array
        arguments = [convert(value) for value in drawn.values()]
        module, call = cls.build(side, arguments)
        output = call(module, *arguments)
        return output.detach() if side == "torch" else output

    @classmethod
    def gradients(cls, side: str, drawn: dict[str, Any]) -> dict[str, np.ndarray]:
        floats = {name: value for name, value in drawn.items() if value.dtype.kind == "f"}
        if len(floats) < len(drawn):
            return {}  # an embedding's input has none
        if side == "torch":
            arguments = [_tensor(value).requires_grad_() for value in floats.values()]
            module, call = cls.build(side, arguments)
            found = torch.autograd.grad(_weighted(call(module, *arguments), torch), arguments)
        else:
            arguments = [_array(value) for value in floats.values()]
            module, call = cls.build(side, arguments)
            places = tuple(range(1, len(arguments) + 1))
            found = nnx.jit(nnx.grad(lambda *all: _weighted(call(*all), jnp), argnums=places))(module, *arguments)
        return {name: np.asarray(gradient) for name, gradient in zip(floats, found, strict=True)}


class Optimizer(Pair):
    """Ten steps along the same random gradients, from the same weights; `torch(params)` and `jax()` make the rule.

    In float32, and once more in float64 to 1e-12 (of a trap the fix alone). `float32_only` names sides that calculate
    in float32 with x64 on as well; `fix` is then the form that does not.
    """

    STEPS = 10
    float32_only: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def check(cls, seed: int) -> None:
        super().check(seed)
        with _all_in_float64():
            theirs = cls.result("torch", cls.draw(seed))
            for side in cls.sides().keys() - {"torch"} - ({"jax"} if cls.trap else set()):
                arguments = (theirs, cls.result(side, cls.draw(seed)), 1e-12, f"{cls.__name__}, {side} in float64")
                if side in cls.float32_only:
                    assert raises(AssertionError, assert_equal, *arguments), f"{cls.__name__}, {side}: exact in float64"
                else:
                    assert_equal(*arguments)
        assert not cls.float32_only or "fix" in cls.sides(), f"{cls.__name__}: write the exact form"

    @classmethod
    def draw(cls, seed: int) -> dict[str, Any]:
        return super().draw(seed) | {"seed": seed}

    @classmethod
    def result(cls, side: str, drawn: dict[str, Any]) -> list[np.ndarray]:
        rng, dtype = np.random.default_rng(1 + drawn.get("seed", 0)), jnp.zeros(()).dtype
        start = rng.normal(size=(4, 3)).astype(dtype)
        gradients = rng.normal(size=(cls.STEPS, 4, 3)).astype(dtype)
        path, rule = [], cls.sides()[side]
        if side == "torch":
            weights = torch.nn.Parameter(torch.from_numpy(start.copy()))
            optimizer = rule([weights])
            for gradient in gradients:
                weights.grad = torch.from_numpy(gradient.copy())
                optimizer.step()
                path.append(weights.detach().numpy().copy())
            return path
        weights, optimizer = jnp.asarray(start), rule()
        state, update = optimizer.init(weights), jax.jit(optimizer.update)
        for gradient in gradients:
            updates, state = update(jnp.asarray(gradient), state, weights)
            weights = optax.apply_updates(weights, updates)
            path.append(np.asarray(weights))
        return path

    @classmethod
    def gradients(cls, side: str, drawn: dict[str, Any]) -> dict[str, np.ndarray]:
        return {}


class Schedule(Optimizer):
    """The learning rates of 40 steps, from 0.1; `torch(optimizer)` and `jax()` make the schedule.

    Optax counts in int32, in a jitted step: so are the schedules asked.
    """

    STEPS = 40

    @classmethod
    def result(cls, side: str, drawn: dict[str, Any]) -> np.ndarray:
        rule, rates, dtype = cls.sides()[side], [], jnp.zeros(()).dtype
        if side != "torch":
            schedule = jax.jit(rule())
            return np.array([schedule(np.int32(step)) for step in range(cls.STEPS)], dtype)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        schedule = rule(optimizer)
        for _ in range(cls.STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return np.array(rates, dtype)


@contextlib.contextmanager
def _all_in_float64() -> Iterator[None]:
    """JAX with float64, and PyTorch with float64 as its default: some of its optimizers keep scalars in that."""
    torch.set_default_dtype(torch.float64)
    try:
        with double_precision():
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def raises(error: type[Exception], function: Callable, *arguments: Any) -> bool:
    """Whether a call raises this error."""
    try:
        function(*arguments)
    except error:
        return True
    return False


def entries(group: ModuleType) -> list[type[Pair]]:
    """The entries of a group's module, in the order of its source."""
    own = (value for value in vars(group).values() if isinstance(value, type) and value.__module__ == group.__name__)
    return [value for value in own if issubclass(value, Pair)]


def flat(output: Any) -> list[Any]:
    """The leaves of nested tuples, lists and dicts (by sorted key)."""
    if isinstance(output, tuple | list):
        return [leaf for item in output for leaf in flat(item)]
    if isinstance(output, dict):
        return [leaf for name in sorted(output) for leaf in flat(output[name])]
    return [output]


def assert_equal(theirs: Any, ours: Any, tolerance: float, what: str) -> None:
    """Equal leaves: shapes, floating dtypes, and values within the tolerance, absolute and relative."""
    for error in (theirs, ours):
        if isinstance(error, Exception):
            raise AssertionError(f"{what}: {error!r}") from error
    a, b = flat(theirs), flat(ours)
    assert len(a) == len(b), f"{what}: {len(a)} results in PyTorch, {len(b)} in JAX"
    for t, j in zip(a, b, strict=True):
        if isinstance(t, torch.Tensor) and isinstance(j, jax.Array) and t.is_floating_point():
            assert str(t.dtype) == f"torch.{j.dtype}", f"{what}: {t.dtype} in PyTorch, {j.dtype} in JAX"
        t, j = plain(t), plain(j)
        assert t.shape == j.shape, f"{what}: {t.shape} in PyTorch, {j.shape} in JAX"
        if t.dtype.kind in "fc":
            np.testing.assert_allclose(j, t, rtol=tolerance, atol=tolerance, err_msg=what)
        else:
            np.testing.assert_array_equal(j, t, err_msg=what)


def plain(leaf: Any) -> np.ndarray:
    """A leaf in NumPy; bfloat16, which NumPy has not, as float32."""
    if isinstance(leaf, torch.Tensor):
        leaf = leaf.detach().cpu()
        return (leaf.float() if leaf.dtype == torch.bfloat16 else leaf).numpy()
    leaf = np.asarray(leaf)
    return leaf.astype(np.float32) if leaf.dtype == jnp.bfloat16 else leaf


def _result_or_error(entry: type[Pair], side: str, seed: int) -> Any:
    """A side's result; of a trap the error too, whatever its type, for `differ` to judge. A fix must not raise."""
    try:
        return entry.result(side, entry.draw(seed))
    except Exception as error:
        if not entry.trap or side == "fix":
            raise
        return error


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else copy.copy(value)


def _array(value: Any) -> Any:
    return jnp.asarray(value) if isinstance(value, np.ndarray) else copy.copy(value)


def _differentiable(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.requires_grad


def _weighted(leaf: Any, xp: Any) -> Any:
    return (leaf * xp.cos(xp.arange(leaf.size if xp is jnp else leaf.numel()).reshape(leaf.shape) + 1.0)).sum()


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output
