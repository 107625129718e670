"""Checks of the capstone on a training script: 16 bits, accumulation, resume. Needs NumPy, JAX and flax.

Lesson: 12_tracing_paper.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from course import porting
from course.checks.core import check, function, same, wrong
from course.failures import last_lines

LESSON = "capstone_12_training_script"
WIDTH = 12


class _Net(nnx.Module):
    """A network with the names of the exercise's, which notes the shapes that it is called with."""

    def __init__(self, dtype: Any = None) -> None:
        rngs = nnx.Rngs(0)
        self.inner = nnx.Linear(64, WIDTH, dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-5, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(WIDTH, 10, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        _SHAPES.append(jnp.shape(x))
        return self.out(nnx.gelu(self.norm(self.inner(x)), approximate=False))


_SHAPES: list[tuple[int, ...]] = []  # of the inputs of every call of a _Net


def _program() -> Any:
    from course.checks.programs import capstone_12_training_script

    return capstone_12_training_script


def _torch_net(rng: np.random.Generator, inner: float = 0.02, norm: float = 1.0, out: float = 0.3) -> Any:
    """A TorchNet with random weights of these sizes, all of which matter: biases and scales too."""
    import torch

    net = _program().TorchNet(WIDTH)
    with torch.no_grad():
        for name, p in net.named_parameters():
            scale = {"inner": inner, "norm": 0.5 * norm, "out": out}[name.partition(".")[0]]
            shift = norm if name == "norm.weight" else 0.0
            p.copy_(torch.tensor(shift + scale * rng.normal(size=tuple(p.shape)), dtype=torch.float32))
    return net


def _port(net: Any, model: Any) -> Any:
    arrays = {name: tensor.detach().numpy().copy() for name, tensor in net.state_dict().items()}
    return porting.arrays_to_nnx(arrays, model)


def _images(rng: np.random.Generator, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Patterns of ten kinds with noise, (*shape, 64), and their kinds."""
    kinds = rng.integers(0, 10, shape)
    x = rng.uniform(0, 1, (10, 64))[kinds] + 0.3 * rng.normal(size=(*shape, 64))
    return x.astype("f"), kinds


def _by_name(tree: Any, what: str) -> dict[str, np.ndarray]:
    """Arrays of a tree under torch's names, kernels as torch lays them out."""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        where = jax.tree_util.keystr(path)
        layer = next((name for name in ("inner", "norm", "out") if f"'{name}'" in where or f".{name}" in where), "")
        kind = next((name for name in ("kernel", "scale", "bias") if name in where), "")
        if layer and kind:
            array = np.asarray(leaf)
            found[f"{layer}.{'bias' if kind == 'bias' else 'weight'}"] = array.T if kind == "kernel" else array
    if len(found) != 6:
        wrong(f"{what}: expected a tree like the model's, six arrays.", got=sorted(found), slip="nnx.value_and_grad "
              "returns loss and gradients, a tree like the model's weights")  # fmt: skip
    return found


def _near(got: Any, expected: Any, tolerance: float) -> bool:
    """Whether the leaves agree; then there is no slip to look for."""
    try:
        gaps = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - b).max(), got, expected)
    except (TypeError, ValueError):
        return False
    return max(jax.tree.leaves(gaps)) < tolerance


def _equations(jaxpr: Any, names: tuple[str, ...]) -> list[Any]:
    """Equations of these primitives, inner jaxprs included."""
    found = []
    for equation in jaxpr.eqns:
        found += [equation] if equation.primitive.name in names else []
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            found += _equations(inner, names) if hasattr(inner, "eqns") else []
    return found


def _types(equations: list[Any]) -> set[str]:
    return {str(value.aval.dtype) for equation in equations for value in equation.invars}


@check(
    LESSON,
    "nnx.Linear(64, width, dtype=dtype, rngs=rngs): dtype is what it computes in, its weights stay float32.",
    "LayerNorm's epsilon is 1e-6 in flax and 1e-5 in PyTorch.",
    "F.gelu is the exact one; nnx.gelu is the tanh approximation, unless approximate=False.",
    points=2,
)
def script_model(rng: np.random.Generator, Net: Any) -> None:
    """The network with PyTorch's weights: its logits in float32, and which arrays are bfloat16."""
    import torch
    import torch.nn.functional as F

    make = function(Net, "Net(width, dtype, rngs=rngs)")
    net, (x, _) = _torch_net(rng, 0.005, 2.0, 1.0), _images(rng, 8)  # a small variance shows the epsilon
    model = make(WIDTH, jnp.float32, rngs=nnx.Rngs(0))
    if not isinstance(model, nnx.Module):
        wrong("expected an nnx.Module.", got=model)
    try:
        model = _port(net, model)
    except porting.PortingError as error:
        wrong(
            "PyTorch's weights do not fit.", got=last_lines(error, 4),
            slip="the layers are called inner, norm and out, as in PyTorch",
        )  # fmt: skip
    rows, w = torch.tensor(x), dict(net.named_parameters())

    def logits(eps: float = 1e-5, activation: Any = F.gelu) -> np.ndarray:
        hidden = F.layer_norm(net.inner(rows), (WIDTH,), w["norm.weight"], w["norm.bias"], eps)
        return net.out(activation(hidden)).detach().numpy()

    def tanh_gelu(hidden: Any) -> Any:
        return F.gelu(hidden, approximate="tanh")

    usage = "Net(width, dtype, rngs=rngs)(x)"
    got, expected = function(model, usage)(jnp.asarray(x)), net(rows).detach().numpy()
    same(
        got, expected, "the logits in float32", rtol=4e-6, atol=4e-6,
        slips={} if _near(got, expected, 4e-5) else {
            "LayerNorm's epsilon: 1e-6 is flax's default, PyTorch's is 1e-5": logits(1e-6),
            "the tanh approximation of GELU; F.gelu is exact": logits(activation=tanh_gelu),
            "epsilon and GELU are both flax's defaults, not PyTorch's": logits(1e-6, tanh_gelu),
            "ReLU, where PyTorch has GELU": logits(activation=F.relu),
            "no LayerNorm": lambda: net.out(F.gelu(net.inner(rows))).detach().numpy(),
        },
    )  # fmt: skip
    half = make(WIDTH, jnp.bfloat16, rngs=nnx.Rngs(0))
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(nnx.state(half, nnx.Param))}
    if kinds != {"float32"}:
        wrong(
            f"with dtype=bfloat16 the weights are {', '.join(sorted(kinds))}.",
            slip="param_dtype is what a layer stores; dtype what it computes in. Small updates are lost in 16 bits",
        )  # fmt: skip
    half = _port(net, half)
    graphdef, state = nnx.split(half)
    program = jax.make_jaxpr(lambda state, x: nnx.merge(graphdef, state)(x))(state, jnp.asarray(x))
    products, out = _equations(program.jaxpr, ("dot_general",)), function(half, usage)(jnp.asarray(x))
    if str(out.dtype) != "bfloat16" or _types(products) != {"bfloat16"}:
        wrong(
            f"with dtype=bfloat16 the logits are {out.dtype}, and products take {', '.join(sorted(_types(products)))}.",
            slip="hand dtype to every layer, or it is promoted to float32 in silence; the loss casts, not the model",
        )  # fmt: skip
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = net(rows).detach().float().numpy()
    same(np.asarray(out, np.float32), theirs, "the logits in bfloat16", rtol=0.05)  # two or three digits


@check(
    LESSON,
    "One part at a time: only then is there never more than one part's activations.",
    "lax.scan over (x, y), or a Python loop: loss and gradients of a part, added up in float32, divided by the parts.",
    "Cast the logits before the loss: model(x).astype(jnp.float32).",
    "optax.smooth_labels(jax.nn.one_hot(y, 10), 0.1) and optax.softmax_cross_entropy are PyTorch's label smoothing.",
    points=3,
)
def script_gradients(rng: np.random.Generator, accumulated: Any) -> None:
    """The mean loss and its gradients over parts of a batch, against PyTorch's .grad."""
    import torch
    import torch.nn.functional as F

    answer = function(accumulated, "accumulated(model, x, y)")
    parts, size = int(rng.integers(3, 6)), int(rng.integers(4, 8))
    net, (x, y) = _torch_net(rng), _images(rng, parts, size)
    rows, labels = torch.tensor(x), torch.tensor(y)
    loss = _program().torch_gradients(net, rows, labels, False)
    grads = {name: np.asarray(p.grad) for name, p in net.named_parameters()}

    def slip(parts_of: Any, smoothing: float) -> Any:
        value = F.cross_entropy(net(rows[parts_of].reshape(-1, 64)), labels[parts_of].reshape(-1),
                                label_smoothing=smoothing)  # fmt: skip
        slopes = torch.autograd.grad(value, list(net.parameters()))
        return dict(zip(grads, (slope.numpy() for slope in slopes), strict=True)), float(value.detach())

    def times(factor: float) -> dict[str, np.ndarray]:
        return {name: factor * grad for name, grad in grads.items()}

    model = _port(net, _Net())
    _SHAPES.clear()
    got = answer(model, jnp.asarray(x), jnp.asarray(y))
    calls = list(_SHAPES)
    if not isinstance(got, tuple | list) or len(got) != 2:
        wrong("expected two results, (loss, gradients).", got=str(got)[:200])
    (unsmoothed, plain), (last, last_loss), (first, first_loss) = (
        slip(slice(None), 0.0), slip(slice(-1, None), 0.1), slip(slice(0, 1), 0.1)
    )  # fmt: skip
    same(
        got[0], np.float32(loss), f"the loss of {parts} parts", rtol=1e-4,
        slips={
            "the sum over the parts; PyTorch's code divides each loss by their number": np.float32(loss * parts),
            "the labels are not smoothed": np.float32(plain),
            "only the last part's loss": np.float32(last_loss), "only the first part's loss": np.float32(first_loss),
        },
    )  # fmt: skip
    same(
        _by_name(got[1], "the gradients"), grads, f"the gradients of {parts} parts", rtol=1e-4, atol=1e-5,
        slips={
            "the sum over the parts, where the mean is due": times(parts),
            "only the last part's gradients: in JAX nothing accumulates by itself": last,
            "only the first part's gradients": first,
            "the labels are not smoothed": unsmoothed,
            "the last part's gradients, divided by the parts": {name: grad / parts for name, grad in last.items()},
        },
    )  # fmt: skip

    def leaves(state: Any, x: jax.Array, y: jax.Array) -> Any:
        return jax.tree.leaves(answer(nnx.merge(graphdef, state), x, y))

    half = _port(net, _Net(jnp.bfloat16))
    graphdef, state = nnx.split(half)
    program = jax.make_jaxpr(leaves)(state, jnp.asarray(x), jnp.asarray(y)).jaxpr
    whole = any(np.prod(shape[:-1]) >= parts * size for shape in _SHAPES)
    if whole or (len(calls) < parts and not _equations(program, ("scan", "while"))):
        wrong(
            "the model sees all parts at once.",
            slip="right numbers, and the memory of the whole batch: take one part after the other, with lax.scan",
        )
    halved, slopes = answer(half, jnp.asarray(x), jnp.asarray(y))
    kinds = {str(array.dtype) for array in _by_name(slopes, "the gradients").values()}
    found = {str(getattr(halved, "dtype", "")), *kinds}
    if found != {"float32"} or "bfloat16" in _types(_equations(program, ("log",))):
        wrong(
            f"with a bfloat16 model the loss is computed in bfloat16, or comes out as {', '.join(sorted(found))}.",
            slip="cast the logits to float32 before the loss, and add up in float32",
        )
    same(halved, np.float32(loss), "the loss of a bfloat16 model", rtol=0.03)


@check(
    LESSON,
    "A chain: first the gradients are clipped, then AdamW uses them.",
    "optax.adamw's weight decay is 1e-4 and acts on everything; torch's is 1e-2, and here on matrices only: mask=.",
    "The first step's rate is rate / warmup, not 0: lambda count: rate * jnp.minimum(1, (count + 1) / warmup).",
    points=3,
)
def script_optimizer(rng: np.random.Generator, make_optimizer: Any) -> None:
    """Clipping, AdamW and warm-up over seven steps of random gradients, against PyTorch."""
    import optax
    import torch

    program, answer = _program(), function(make_optimizer, "make_optimizer(rate, warmup, limit)")
    rate, warmup, limit = float(rng.uniform(0.05, 0.1)), int(rng.integers(3, 5)), float(rng.uniform(0.3, 0.6))
    net = _torch_net(rng)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.tensor(3 + rng.normal(size=tuple(p.shape))))  # large, so that decay shows
    start = {name: p.detach().numpy().copy() for name, p in net.named_parameters()}
    adamw, schedule = program.torch_optimizer(net, rate, warmup)
    sizes = rng.permutation([0.005, 0.005, 0.01, 0.2, 0.5, 1.0, 1.0])  # of norms below the limit and above
    steps = [{name: (size * rng.normal(size=p.shape)).astype("f") for name, p in start.items()} for size in sizes]
    for step in steps:
        for name, p in net.named_parameters():
            p.grad = torch.tensor(step[name])
        torch.nn.utils.clip_grad_norm_(net.parameters(), limit)
        adamw.step()
        schedule.step()
    expected = {name: p.detach().numpy() for name, p in net.named_parameters()}

    def nested(flat: dict[str, np.ndarray]) -> Any:
        tree: dict[str, dict[str, jax.Array]] = {"inner": {}, "norm": {}, "out": {}}
        for name, array in flat.items():
            layer, kind = name.split(".")
            kernel = kind == "weight" and layer != "norm"
            key = "bias" if kind == "bias" else "kernel" if kernel else "scale"
            tree[layer][key] = jnp.asarray(array.T if kernel else array)
        return tree

    def after(tx: Any) -> dict[str, np.ndarray]:
        params = nested(start)
        state = tx.init(params)
        update = jax.jit(lambda grads, state, params: tx.update(grads, state, params))
        for step in steps:
            updates, state = update(nested(step), state, params)
            params = jax.tree.map(lambda p, u: p + u, params, updates)
        return _by_name(params, "the weights")

    def variant(decay: float = 1e-2, masked: bool = True, clip: str = "first", late: int = 1, warm: bool = True) -> Any:
        def at(count: Any) -> Any:
            return rate * jnp.minimum(1.0, (count + late) / warmup) if warm else rate

        mask = (lambda params: jax.tree.map(lambda p: p.ndim > 1, params)) if masked else None
        links: list[Any] = [optax.adamw(at, weight_decay=decay, mask=mask)]
        links = [optax.clip_by_global_norm(limit), *links] if clip == "first" else links
        links = [*links, optax.clip_by_global_norm(limit)] if clip == "last" else links
        return lambda: after(optax.chain(*links))

    tx = answer(rate, warmup, limit)
    if not (callable(getattr(tx, "init", None)) and callable(getattr(tx, "update", None))):
        wrong("expected an Optax transformation, with init and update.", got=tx)
    got = after(tx)
    same(
        got, expected, f"the weights after {len(steps)} steps", rtol=1e-5, atol=1e-5,
        slips={} if _near(got, expected, 1e-5) else {
            "Optax's weight decay, 1e-4, or none; torch's AdamW has 1e-2": variant(decay=1e-4),
            "weight decay on everything; only matrices decay here": variant(masked=False),
            "weight decay on everything, and Optax's 1e-4 in place of torch's 1e-2": variant(1e-4, masked=False),
            "the updates are clipped; clip the gradients, before AdamW": variant(clip="last"),
            "nothing is clipped": variant(clip="never"),
            "the warm-up begins at rate 0; the first step's rate is rate / warmup": variant(late=0),
            "there is no warm-up": variant(warm=False),
        },
    )  # fmt: skip


@check(
    LESSON,
    "A run is the pair (model, optimizer); nnx.state(run) holds all its arrays, the counts of steps included.",
    "Ask the manager for its latest step; restore with nnx.state(run) as the example, and nnx.update the run.",
    "Go on with the step after the one that was saved: its rows are rows_of(step, len(x)).",
    points=4,
)
def script_run(rng: np.random.Generator, fit: Any) -> None:
    """The whole run, stopped and resumed by a fresh model, against PyTorch's that was never stopped."""
    import torch

    program, answer = _program(), function(fit, "fit(model, x, y, folder, until)")
    net, (x, y), stop, until = _torch_net(rng), _images(rng, 100), 3, 6
    start = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    rows, labels = torch.tensor(x), torch.tensor(y)

    def forgetful(*names: str) -> list[float]:
        """PyTorch's losses after a resume that leaves parts out."""
        other = program.TorchNet(WIDTH)
        other.load_state_dict(start)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "run.pt")
            program.torch_fit(other, rows, labels, path, stop, half=False)
            saved, fresh = torch.load(path), program.TorchNet(WIDTH)
            fresh.load_state_dict(start)
            adamw, schedule = program.torch_optimizer(fresh, program.RATE, program.WARMUP)
            parts = {"model": fresh, "adamw": adamw, "schedule": schedule}
            saved |= {name: parts[name].state_dict() for name in names}
            torch.save(saved, path)
            return program.torch_fit(fresh, rows, labels, path, until, half=False)

    def data_again() -> list[float]:
        """PyTorch's losses after a resume that takes the rows of the first steps once more."""
        other, losses = program.TorchNet(WIDTH), []
        other.load_state_dict(start)
        adamw, schedule = program.torch_optimizer(other, program.RATE, program.WARMUP)
        for step in (*range(stop), *range(until - stop)):
            chosen = program.rows_of(step, len(x))
            adamw.zero_grad()
            losses.append(program.torch_gradients(other, rows[chosen], labels[chosen], False))
            torch.nn.utils.clip_grad_norm_(other.parameters(), program.LIMIT)
            adamw.step()
            schedule.step()
        return losses[stop:]

    with tempfile.TemporaryDirectory() as folder:
        losses = np.array(program.torch_fit(net, rows, labels, Path(folder, "run.pt"), until, half=False), "f")
        weights = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
        torch_start = program.TorchNet(WIDTH)
        torch_start.load_state_dict(start)
        first, second = _port(torch_start, _Net()), _port(torch_start, _Net())
        before = answer(first, x, y.astype(np.int32), Path(folder, "run"), stop)
        _same_losses(before, losses[:stop], f"the losses of the first {stop} steps", {
            "the mean loss is summed over the parts": program.PARTS * losses[:stop],
        })  # fmt: skip
        after = answer(second, x, y.astype(np.int32), Path(folder, "run"), until)
    if isinstance(after, list | tuple) and len(after) == until:
        wrong(
            f"the second call ran {until} steps, though {stop} were saved.",
            slip="the resumed run begins at step 0: read the step that was saved, and restore the run",
        )
    _same_losses(after, losses[stop:], f"the losses of steps {stop + 1} to {until}, resumed", {
        "the optimizer's state is lost: moments and count, and with it the warm-up, begin anew":
            lambda: np.array(forgetful("adamw", "schedule"), "f"),
        "the weights are lost: the fresh model's are trained": lambda: np.array(forgetful("model"), "f"),
        "nothing is restored but the step": lambda: np.array(forgetful("model", "adamw", "schedule"), "f"),
        "the resumed run takes the data from the beginning: a step's rows follow from its number":
            lambda: np.array(data_again(), "f"),
    })  # fmt: skip
    same(
        _by_name(nnx.state(second, nnx.Param), "the model"), weights, "the weights after the run", rtol=1e-3, atol=1e-4,
        slips={"the model that was handed in is not trained": {name: array.numpy() for name, array in start.items()}},
    )  # fmt: skip


def _same_losses(got: Any, expected: np.ndarray, what: str, slips: dict[str, Any]) -> None:
    if not isinstance(got, list | tuple | np.ndarray | jax.Array):
        wrong(f"{what}: expected a list of numbers.", got=got)
    values = np.asarray(got, "f")
    near = values.shape == expected.shape and np.abs(values - expected).max() < 1e-3
    same(values, expected, what, rtol=1e-3, slips={} if near else slips)
