"""Answers to the exercises of capstone_12_training_script."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

from tests.answers import right, wrong

PARTS, SIZE = 4, 16


def rows_of(step, count):
    return np.random.default_rng(step).permutation(count)[: PARTS * SIZE].reshape(PARTS, SIZE)


def network(*, eps=1e-5, approximate=False, store=jnp.float32, last=True, activation=None, cast=None, names=None):
    inner, norm, out = names or ("inner", "norm", "out")

    class Net(nnx.Module):
        def __init__(self, width, dtype, *, rngs):
            kinds = {"dtype": dtype, "param_dtype": store(dtype) if store is not jnp.float32 else store}
            setattr(self, inner, nnx.Linear(64, width, rngs=rngs, **kinds))
            setattr(self, norm, nnx.LayerNorm(width, epsilon=eps, rngs=rngs, **kinds))
            setattr(self, out, nnx.Linear(width, 10, rngs=rngs, **(kinds if last else {})))

        def __call__(self, x):
            hidden = getattr(self, norm)(getattr(self, inner)(x))
            hidden = activation(hidden) if activation else nnx.gelu(hidden, approximate=approximate)
            logits = getattr(self, out)(hidden)
            return logits if cast is None else logits.astype(cast)

    return Net


wrong("script_model", "the tanh approximation")(network(approximate=True))
wrong("script_model", "LayerNorm's epsilon")(network(eps=1e-6))
wrong("script_model", "both flax's defaults")(network(eps=1e-6, approximate=True))
wrong("script_model", "ReLU")(network(activation=nnx.relu))
wrong("script_model", "param_dtype is what a layer stores")(network(store=lambda dtype: dtype))
wrong("script_model", "hand dtype to every layer")(network(last=False))
wrong("script_model", "as in PyTorch")(network(names=("fc1", "ln", "fc2")))
wrong("script_model", "the logits are float32")(network(cast=jnp.float32))
right("script_model")(network(activation=lambda x: x * 0.5 * (1 + lax.erf(x / 2**0.5)).astype(x.dtype)))


@right("script_model")
class WithLists(nnx.Module):
    def __init__(self, width, dtype=None, rngs=None):
        self.inner, self.out = (nnx.Linear(i, o, dtype=dtype, rngs=rngs) for i, o in ((64, width), (width, 10)))
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, dtype=dtype, use_fast_variance=False, rngs=rngs)

    def __call__(self, x):
        return self.out(jax.nn.gelu(self.norm(self.inner(x)), False))


def loss_of(model, x, y, smoothing=0.1, cast=True):
    logits = model(x)
    labels = optax.smooth_labels(jax.nn.one_hot(y, 10), smoothing)
    return optax.softmax_cross_entropy(logits.astype(jnp.float32) if cast else logits, labels).mean()


def by_loop(*, divide=True, only=None, swap=False, **options):
    def accumulated(model, x, y):
        parts = [
            nnx.value_and_grad(lambda model, x=a, y=b: loss_of(model, x, y, **options))(model)
            for a, b in zip(x, y, strict=True)
        ]
        if only is not None:
            parts = [parts[only]]
        total = jax.tree.map(lambda *leaves: sum(leaves) / (len(leaves) if divide else 1), *parts)
        return total[::-1] if swap else total

    return accumulated


wrong("script_gradients", "divides each loss by their number")(by_loop(divide=False))
wrong("script_gradients", "only the last part's loss")(by_loop(only=-1))
wrong("script_gradients", "only the first part's loss")(by_loop(only=0))
wrong("script_gradients", "the labels are not smoothed")(by_loop(smoothing=0.0))
wrong("script_gradients", "cast the logits to float32")(by_loop(cast=False))
wrong("script_gradients", "script_gradients")(by_loop(swap=True))


@wrong("script_gradients", "the sum over the parts, where the mean is due")
def the_mean_loss_and_summed_gradients(model, x, y):
    return by_loop()(model, x, y)[0], by_loop(divide=False)(model, x, y)[1]


@wrong("script_gradients", "in JAX nothing accumulates by itself")
def forgets_to_add(model, x, y):
    return by_loop()(model, x, y)[0], by_loop(only=-1)(model, x, y)[1]


@wrong("script_gradients", "the model sees all parts at once")
def all_at_once(model, x, y):
    return nnx.value_and_grad(lambda model: loss_of(model, x.reshape(-1, 64), y.reshape(-1)))(model)


right("script_gradients")(by_loop())
right("script_gradients")(nnx.jit(by_loop()))


def chained(*, decay=1e-2, mask=True, order="clip first", late=1, warm=True):
    def make_optimizer(rate, warmup, limit):
        def at(count):
            return rate * jnp.minimum(1.0, (count + late) / warmup) if warm else rate

        chosen = (lambda params: jax.tree.map(lambda p: p.ndim > 1, params)) if mask else None
        clip, adamw = optax.clip_by_global_norm(limit), optax.adamw(at, weight_decay=decay, mask=chosen)
        return optax.chain(*{"clip first": (clip, adamw), "clip last": (adamw, clip), "no clip": (adamw,)}[order])

    return make_optimizer


wrong("script_optimizer", "Optax's weight decay, 1e-4, or none")(chained(decay=1e-4))
wrong("script_optimizer", "only matrices decay")(chained(mask=False))
wrong("script_optimizer", "the updates are clipped")(chained(order="clip last"))
wrong("script_optimizer", "nothing is clipped")(chained(order="no clip"))
wrong("script_optimizer", "the warm-up begins at rate 0")(chained(late=0))
wrong("script_optimizer", "there is no warm-up")(chained(warm=False))
wrong("script_optimizer", "1e-4, or none")(chained(decay=0.0))


@right("script_optimizer")
def with_a_joined_schedule(rate, warmup, limit):
    schedule = optax.linear_schedule(rate / warmup, rate, warmup - 1)
    return optax.chain(
        optax.clip_by_global_norm(limit),
        optax.scale_by_adam(),
        optax.add_decayed_weights(1e-2, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params)),
        optax.scale_by_learning_rate(schedule),
    )


@right("script_optimizer")
def with_two_groups(rate, warmup, limit):
    def at(count):
        return jnp.where(count < warmup, (count + 1) / warmup, 1.0) * rate

    def labels(params):
        return jax.tree.map(lambda p: "matrix" if p.ndim > 1 else "rest", params)

    groups = {"matrix": optax.adamw(at, weight_decay=0.01), "rest": optax.adam(at)}
    return optax.chain(optax.clip_by_global_norm(limit), optax.partition(groups, labels))


@nnx.jit
def train_step(model, optimizer, x, y):
    loss, grads = by_scan(model, x, y)
    optimizer.update(model, grads)
    return loss


def by_scan(model, x, y):
    graphdef, params = nnx.split(model)

    def add(total, part):
        value, slopes = jax.value_and_grad(lambda params: loss_of(nnx.merge(graphdef, params), *part))(params)
        return jax.tree.map(lambda t, new: t + new / len(x), total, (value, slopes)), None

    return lax.scan(add, (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)), (x, y))[0]


tx = chained()(3e-2, 4, 1.0)  # one for all runs: another one compiles anew


def run_with(*, keep="all", begin="saved", data="step", returned="new", in_place=True):
    def fit(model, x, y, folder, until):
        folder.mkdir(exist_ok=True)
        path, start, losses = folder / "run.pickle", 0, []
        run = model if in_place else nnx.clone(model), None
        run = run[0], nnx.Optimizer(run[0], tx, wrt=nnx.Param)
        if path.exists():
            step, arrays, losses = pickle.loads(path.read_bytes())
            saved = jax.tree.unflatten(jax.tree.structure(nnx.state(run)), arrays)
            if keep == "model":
                nnx.update(run[0], saved[0])
            elif keep == "optimizer":
                nnx.update(run[1], saved[1])
            elif keep == "all":
                nnx.update(run, saved)
            start = step if begin == "saved" else 0
            losses = losses if returned == "all" else []
        for step in range(start, until):
            rows = rows_of(step - start if data == "again" else step, len(x))
            losses.append(float(train_step(*run, x[rows], y[rows])))
        path.write_bytes(pickle.dumps((until, [np.asarray(a) for a in jax.tree.leaves(nnx.state(run))], losses)))
        return losses

    return fit


wrong("script_run", "the optimizer's state is lost")(run_with(keep="model"))
wrong("script_run", "the weights are lost")(run_with(keep="optimizer"))
wrong("script_run", "nothing is restored but the step")(run_with(keep="nothing"))
wrong("script_run", "the resumed run begins at step 0")(run_with(begin="zero"))
wrong("script_run", "takes the data from the beginning")(run_with(data="again"))
wrong("script_run", "is not trained")(run_with(in_place=False))
right("script_run")(run_with())


@right("script_run")
def as_an_array(model, x, y, folder, until):
    return np.array(run_with()(model, x, y, folder, until))
