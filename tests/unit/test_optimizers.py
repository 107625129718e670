"""The optimizers that optax lacks step as torch's: in float64 over 50 steps, jitted."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
import torch
from flax import serialization
from torch.optim import lr_scheduler

from course import optimizers

STEPS = 50
SHAPES = {"kernel": (4, 3), "bias": (3,)}


@pytest.fixture
def both64(x64):
    """float64 on both sides: PyTorch keeps some scalars of an optimizer in its default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def walk(dtype, seed=0):
    rng = np.random.default_rng(seed)
    start = {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}
    return start, [{name: rng.normal(size=s).astype(dtype) for name, s in SHAPES.items()} for _ in range(STEPS)]


def torch_path(make, dtype=np.float64, step=lambda optimizer: optimizer.step()):
    start, gradients = walk(dtype)
    weights = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in start.items()}
    optimizer, path = make(list(weights.values())), []
    for gradient in gradients:
        for name, weight in weights.items():
            weight.grad = torch.from_numpy(gradient[name].copy())
        step(optimizer)
        path.append({name: weight.detach().numpy().copy() for name, weight in weights.items()})
    return path


def jax_path(rule, dtype=np.float64):
    start, gradients = walk(dtype)
    weights = jax.tree.map(jnp.asarray, start)
    state, path = rule.init(weights), []

    @jax.jit
    def step(weights, state, gradient):
        updates, state = rule.update(gradient, state, weights)
        return optax.apply_updates(weights, updates), state

    for gradient in gradients:
        weights, state = step(weights, state, gradient)
        path.append(weights)
    return path


def assert_same(ours, theirs, tolerance):
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for name in SHAPES:
            np.testing.assert_allclose(a[name], b[name], rtol=tolerance, atol=tolerance, err_msg=f"{step}, {name}")
            assert a[name].dtype == b[name].dtype


ADAMW = optax.chain(
    optimizers.scale_by_amsgrad(), optax.add_decayed_weights(0.01), optax.scale_by_learning_rate(0.1)
)  # fmt: skip
PAIRS = {
    "amsgrad": (
        lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True), optimizers.amsgrad(0.1),
    ),
    "amsgrad, all settings": (
        lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1, amsgrad=True),
        optimizers.amsgrad(0.1, 0.5, 0.9, 1e-3, 0.1),
    ),
    "amsgrad, no momentum": (
        lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.0, 0.9), amsgrad=True), optimizers.amsgrad(0.1, b1=0.0, b2=0.9),
    ),
    "AdamW, amsgrad": (lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True), ADAMW),
    "nadam": (lambda p: torch.optim.NAdam(p, lr=0.1), optimizers.nadam(0.1)),
    "nadam, all settings": (
        lambda p: torch.optim.NAdam(p, 0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1, momentum_decay=0.1),
        optimizers.nadam(0.1, 0.5, 0.9, 1e-3, 0.1, 0.1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_steps_as_torch_in_float64(name, both64):
    theirs, ours = PAIRS[name]
    assert_same(jax_path(ours), torch_path(theirs), 1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_steps_as_torch_in_float32(name):
    theirs, ours = PAIRS[name]
    assert_same(jax_path(ours, np.float32), torch_path(theirs, np.float32), 1e-5)


@pytest.mark.parametrize("rule", [optimizers.amsgrad, optimizers.nadam])
def test_a_schedule_is_a_rate(rule, x64):
    assert_same(jax_path(rule(lambda step: 0.1)), jax_path(rule(0.1)), 1e-14)
    slower = jax_path(rule(lambda step: 0.1 / (1 + step)))
    assert abs(slower[0]["bias"] - jax_path(rule(0.1))[0]["bias"]).max() == 0
    assert abs(slower[9]["bias"] - jax_path(rule(0.1))[9]["bias"]).max() > 0.01


@pytest.mark.parametrize("rule", [optimizers.amsgrad, optimizers.nadam])
@pytest.mark.parametrize("b1", [0.0, 0.9])
def test_hyperparameters_may_be_injected(rule, b1, x64):
    settings = {"learning_rate": 0.1, "b1": b1, "weight_decay": 0.1}
    assert_same(jax_path(optax.inject_hyperparams(rule)(**settings)), jax_path(rule(**settings)), 1e-14)
    injected = optax.inject_hyperparams(rule)(0.1)
    state = injected.init(jnp.ones(3))
    state.hyperparams["learning_rate"] = jnp.array(0.0)
    updates, _ = jax.jit(injected.update)(jnp.ones(3), state, jnp.ones(3))
    assert (updates == 0).all()


@pytest.mark.parametrize("rule", [optimizers.amsgrad(0.1), optimizers.nadam(0.1)], ids=["amsgrad", "nadam"])
def test_a_run_goes_on_from_its_state_as_bytes(rule):
    _, gradients = walk(np.float32)
    step, start = jax.jit(rule.update), rule.init(gradients[0])
    for gradient in gradients[:5]:
        _, start = step(gradient, start)
    resumed = serialization.from_bytes(rule.init(gradients[0]), serialization.to_bytes(start))
    for gradient in gradients[5:8]:
        expected, start = step(gradient, start)
        updates, resumed = step(gradient, resumed)
        jax.tree.map(np.testing.assert_array_equal, updates, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("rule", [optimizers.amsgrad(0.1), optimizers.nadam(0.1)], ids=["amsgrad", "nadam"])
def test_trees_with_holes_and_halves(rule, dtype):
    weights = {"w": jnp.ones(3, dtype), "none": None, "empty": {}, "no rows": jnp.zeros((0, 2), dtype)}
    state, grads = rule.init(weights), jax.tree.map(lambda w: w / 2, weights)
    state = jax.lax.fori_loop(0, 3000, lambda i, state: rule.update(grads, state)[1], state)
    updates, after = jax.jit(rule.update)(grads, state)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, weights)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(updates))
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, state)
    # -0.1, were the second moment exact: in 8 or 11 bits it stops growing on its way
    assert ((updates["w"] < -0.09) & (updates["w"] > -0.15)).all()


@pytest.mark.parametrize("b1, b2", [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9)])
def test_betas_are_checked(b1, b2):
    for rule in (optimizers.amsgrad, optimizers.nadam):
        with pytest.raises(ValueError, match=rf"expected b1 and b2 in \[0, 1\), got {b1} and {b2}"):
            rule(0.1, b1, b2)


def plateau_rates(values, **settings):
    """The rates after each look, in torch and in JAX."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, **settings)
    rule = optimizers.reduce_on_plateau(learning_rate=0.1, **settings)
    state, update, theirs, ours = rule.init(None), jax.jit(rule.update), [], []
    for value in values:
        schedule.step(value)
        theirs.append(optimizer.param_groups[0]["lr"])
        updates, state = update(jnp.array(0.1), state, value=value)
        assert float(updates) == float(state.scale) * 0.1
        ours.append(float(updates))
    return theirs, ours


SETTINGS = [
    {}, {"patience": 0}, {"patience": 3, "factor": 0.5}, {"mode": "max", "patience": 2}, {"factor": 0.0, "patience": 4},
    {"threshold": 0.1, "threshold_mode": "abs", "patience": 2}, {"threshold": 0.2, "patience": 1, "cooldown": 3},
    {"mode": "max", "threshold": 0.3, "threshold_mode": "abs", "patience": 1, "cooldown": 1},
    {"patience": 1, "min_lr": 2e-3}, {"patience": 1, "factor": 0.9, "eps": 5e-3}, {"patience": 0, "eps": 1e-4},
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_a_plateau_is_torchs(settings, seed, x64):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=60) + np.linspace(2, -1, 60)  # of both signs: "rel" turns round at 0
    values[rng.integers(60, size=3)] = np.nan
    theirs, ours = plateau_rates(values.tolist(), **settings)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert len(set(theirs)) > 1 or settings == {}


def test_a_plateau_in_a_chain_counts_values_alone(x64):
    rule = optax.chain(optax.sgd(0.1), optimizers.reduce_on_plateau(patience=0, factor=0.5))
    state, grads, weights = rule.init(jnp.ones(3)), jnp.ones(3), jnp.ones(3)
    scales = []
    for value in (None, 1.0, None, 2.0, None, 0.5):
        updates, state = jax.jit(rule.update)(grads, state, weights, value=value)
        scales.append(float(updates[0] / -0.1))
    assert scales == [1, 1, 1, 0.5, 0.5, 0.5]


def test_optax_waits_for_one_bad_value_less(x64):
    theirs, _ = plateau_rates([1.0] * 8, patience=2)
    for patience, same in ((2, False), (3, True)):
        rule, rates = optax.contrib.reduce_on_plateau(patience=patience), []
        state = rule.init(jnp.array(0.1))
        for _ in theirs:
            updates, state = rule.update(jnp.array(0.1), state, value=1.0)
            rates.append(float(updates))
        assert np.allclose(rates, theirs, rtol=1e-12) == same


def test_a_plateau_runs_in_a_scan():
    rule = optimizers.reduce_on_plateau(patience=1)
    state = rule.init(None)
    last, _ = jax.lax.scan(lambda s, v: (rule.update(jnp.ones(2), s, value=v)[1], None), state, jnp.ones(6))
    np.testing.assert_allclose(last.scale, 0.01, rtol=1e-6)  # at the third and fifth value
    updates, _ = rule.update({"w": jnp.ones(2, jnp.bfloat16)}, last)
    assert updates["w"].dtype == jnp.bfloat16


def test_a_plateau_for_each_of_an_ensemble():
    def scales(factor, rate):
        rule = optimizers.reduce_on_plateau(factor=factor, patience=0, min_lr=0.02, learning_rate=rate)
        state = rule.init(None)
        for _ in range(3):
            _, state = rule.update(None, state, value=1.0)
        return state.scale

    found = jax.vmap(scales)(jnp.array([0.5, 0.1, 0.1]), jnp.array([1.0, 1.0, 0.1]))
    np.testing.assert_allclose(found, [0.25, 0.02, 0.2], rtol=1e-6)


def test_a_plateaus_settings_are_checked():
    for settings, words in (
        ({"mode": "least"}, 'expected "min" or "max"'), ({"threshold_mode": "relative"}, 'expected "min" or "max"'),
        ({"factor": 1.0}, r"expected a factor in \[0, 1\), got 1.0"), ({"factor": -0.1}, "expected a factor"),
        ({"learning_rate": 0.0}, "expected a learning_rate above 0, got 0.0"),
        ({"learning_rate": optax.constant_schedule(0.1)}, "got <function .* a number"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            optimizers.reduce_on_plateau(**settings)
    rule = optimizers.reduce_on_plateau()
    with pytest.raises(ValueError, match=r"expected value \(\), got \(2,\); take the mean"):
        rule.update(jnp.ones(2), rule.init(None), value=jnp.ones(2))


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [1e-5, 1.0, 100.0])
def test_clipping_is_torchs(norm_type, max_norm, x64):
    _, gradients = walk(np.float64)
    link = optimizers.clip_by_global_norm(max_norm, norm_type)
    for grads in gradients:
        weights = [torch.nn.Parameter(torch.zeros(SHAPES[name], dtype=torch.float64)) for name in SHAPES]
        for name, weight in zip(SHAPES, weights, strict=True):
            weight.grad = torch.from_numpy(grads[name].copy())
        expected = torch.nn.utils.clip_grad_norm_(weights, max_norm, norm_type)
        clipped, norm = jax.jit(optimizers.clip_grad_norm, static_argnums=2)(grads, max_norm, norm_type)
        chained, _ = link.update(grads, link.init(grads))
        np.testing.assert_allclose(norm, expected, rtol=1e-14)
        for name, weight in zip(SHAPES, weights, strict=True):
            np.testing.assert_allclose(clipped[name], weight.grad, rtol=1e-13, atol=1e-18)
            np.testing.assert_allclose(chained[name], weight.grad, rtol=1e-13, atol=1e-18)


def test_clipping_at_its_edges():
    zeros, norm = optimizers.clip_grad_norm({"w": jnp.zeros(3)}, 1.0)
    assert float(norm) == 0 and (zeros["w"] == 0).all()
    spoiled, norm = optimizers.clip_grad_norm({"w": jnp.ones(3), "b": jnp.array([jnp.nan])}, 1.0)
    assert jnp.isnan(norm) and jnp.isnan(spoiled["w"]).all()
    half, _ = optimizers.clip_grad_norm({"w": jnp.full(3, 2.0, jnp.bfloat16)}, 1.0)
    assert half["w"].dtype == jnp.bfloat16
    large, norm = optimizers.clip_grad_norm({"w": jnp.full(4, 300.0, jnp.float16)}, 1.0)  # 300^2 is inf in float16
    assert norm == 600 and np.allclose(large["w"], 0.5, rtol=1e-3) and large["w"].dtype == jnp.float16
    theirs = torch.nn.utils.get_total_norm([torch.full((4,), 300.0, dtype=torch.float16)])
    assert float(theirs) == 600
    assert optimizers.total_norm({}) == 0 and optimizers.total_norm({"w": jnp.zeros((0, 2))}, jnp.inf) == 0
    for call in (optimizers.total_norm, optimizers.clip_by_global_norm):
        with pytest.raises(ValueError, match=r"expected a norm_type above 0, got 0\.0"):
            call(1.0, norm_type=0.0)
