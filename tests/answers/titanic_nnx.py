"""Answers to the exercises of 01b_titanic_nnx."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from tests.answers import right, wrong

TRUE = {"seed": False, "scale": False, "integers": True, "width": True, "evaluation": True}

wrong("nnx_compilations", "a new object of one structure")(TRUE | {"seed": True})
wrong("nnx_compilations", "is an input of the program")(TRUE | {"scale": True})
wrong("nnx_compilations", "the dtype of an argument")(TRUE | {"integers": False})
wrong("nnx_compilations", "other shapes of the weights")(TRUE | {"width": False})
wrong("nnx_compilations", "and that is structure")(TRUE | {"evaluation": False})
wrong("nnx_compilations", "expected bool")({name: str(value) for name, value in TRUE.items()})
right("nnx_compilations")(dict(reversed(TRUE.items())))
right("nnx_compilations")({name: np.bool_(value) for name, value in TRUE.items()})


def each(model, loss_fn, batches):
    return zip(*(nnx.value_and_grad(loss_fn)(model, x, y) for x, y in batches), strict=True)


def mean_of(trees):
    return jax.tree.map(lambda *parts: sum(parts) / len(parts), *trees)


@wrong("accumulated_step", "the sum of the gradients")
def summed(model, optimizer, loss_fn, batches):
    losses, grads = each(model, loss_fn, batches)
    optimizer.update(model, jax.tree.map(lambda *parts: sum(parts), *grads))
    return sum(losses) / len(losses)


@wrong("accumulated_step", "nothing adds up by itself")
def as_in_torch(model, optimizer, loss_fn, batches):
    total = 0.0
    for x, y in batches:
        loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
        total += loss
    optimizer.update(model, grads)
    return total / len(batches)


@wrong("accumulated_step", "an update for each batch")
def many_updates(model, optimizer, loss_fn, batches):
    total = 0.0
    for x, y in batches:
        loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
        optimizer.update(model, grads)
        total += loss
    return total / len(batches)


@wrong("accumulated_step", "in this order")
def swapped(model, optimizer, loss_fn, batches):
    losses, grads = each(model, loss_fn, batches)
    optimizer.update(mean_of(grads), model)
    return sum(losses) / len(losses)


@wrong("accumulated_step", "the last batch's loss")
def last_loss(model, optimizer, loss_fn, batches):
    losses, grads = each(model, loss_fn, batches)
    optimizer.update(model, mean_of(grads))
    return losses[-1]


KEPT_GRADS = []


@wrong("accumulated_step", "of the step before are still in the sum")
def never_cleared(model, optimizer, loss_fn, batches):
    losses, grads = each(model, loss_fn, batches)
    KEPT_GRADS.append((optimizer, mean_of(grads)))
    optimizer.update(model, jax.tree.map(lambda *g: sum(g), *(g for owner, g in KEPT_GRADS if owner is optimizer)))
    return sum(losses) / len(losses)


@wrong("accumulated_step", "a function without `return`")
def not_returned(model, optimizer, loss_fn, batches):
    _, grads = each(model, loss_fn, batches)
    optimizer.update(model, mean_of(grads))


@right("accumulated_step")
def one_loss_of_all(model, optimizer, loss_fn, batches):
    def whole(model):
        return sum(loss_fn(model, x, y) for x, y in batches) / len(batches)

    loss, grads = nnx.value_and_grad(whole)(model)
    optimizer.update(model, grads)
    return loss


@right("accumulated_step")
@nnx.jit(static_argnums=2)
def running_sum(model, optimizer, loss_fn, batches):
    total, added = jnp.zeros(()), jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param))
    for x, y in batches:
        loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
        total, added = total + loss / len(batches), jax.tree.map(lambda a, g: a + g / len(batches), added, grads)
    optimizer.update(model, added)
    return total


def copier(turn=lambda kernel: kernel.T, box=True, kernels=True, biases=True):
    def copy_weights(model, weights):
        for name in ("hidden", "middle", "out"):
            layer = getattr(model, name)
            kernel, bias = jnp.asarray(turn(weights[f"{name}.weight"])), jnp.asarray(weights[f"{name}.bias"])
            if not box:
                layer.kernel, layer.bias = kernel, bias
                continue
            if kernels:
                layer.kernel[...] = kernel
            if biases:
                layer.bias[...] = bias

    return copy_weights


def by_shape(kernel):
    """Transpose where the shape says so, which a square one does not."""
    return kernel if kernel.shape[0] == kernel.shape[1] else kernel.T


wrong("copied_weights", "a square one does not")(copier(by_shape))
wrong("copied_weights", "the Param was replaced")(copier(box=False))
wrong("copied_weights", "the kernels alone")(copier(biases=False))
wrong("copied_weights", "the biases alone")(copier(kernels=False))
wrong("copied_weights", "raised an error")(copier(lambda kernel: kernel))


@wrong("copied_weights", "the model was not changed")
def a_new_model(model, weights):
    model = nnx.clone(model)
    copier()(model, weights)
    return model


right("copied_weights")(copier())


@right("copied_weights")
def by_update(model, weights):
    tree = {}
    for key, array in weights.items():
        name, kind = key.split(".")
        tree.setdefault(name, {})["kernel" if kind == "weight" else kind] = jnp.asarray(array.T)
    nnx.update(model, tree)


@right("copied_weights")
def new_params(model, weights):
    for name in ("hidden", "middle", "out"):
        getattr(model, name).kernel = nnx.Param(jnp.asarray(weights[f"{name}.weight"]).swapaxes(0, 1))
        getattr(model, name).bias = nnx.Param(jnp.asarray(weights[f"{name}.bias"]))


def fill(x, y, size):
    more = size - len(x)
    return np.pad(x, ((0, more), (0, 0))), np.pad(y, (0, more)), np.r_[np.ones(len(x), "f"), np.zeros(more, "f")]


def losses(model, x, y):
    return optax.sigmoid_binary_cross_entropy(model(x), y)


def loss(model, x, y, weight):
    return losses(model, x, y) @ weight / weight.sum()


wrong("full_batches", "divide by the real ones")(fill, lambda model, x, y, w: (losses(model, x, y) * w).mean())
wrong("full_batches", "the weights are not used")(fill, lambda model, x, y, w: losses(model, x, y).mean())
wrong("full_batches", "the sum, not the mean")(fill, lambda model, x, y, w: losses(model, x, y) @ w)
wrong("full_batches", "the logits are weighted")(
    fill, lambda model, x, y, w: optax.sigmoid_binary_cross_entropy(w * model(x), w * y).mean()
)
wrong("full_batches", "the other way round")(lambda x, y, size: (*fill(x, y, size)[:2], 1 - fill(x, y, size)[2]), loss)
wrong("full_batches", "the rows that are missing")(lambda x, y, size: (x, y, np.ones(len(x), "f")), loss)
wrong("full_batches", "the padding stands in front")(
    lambda x, y, size: tuple(np.roll(a, size - len(x), 0) for a in fill(x, y, size)), loss
)
wrong("full_batches", "a boolean mask")(fill, lambda model, x, y, w: losses(model, x, y)[w > 0].mean())
right("full_batches")(fill, loss)


def repeated(x, y, size):
    rows = np.minimum(np.arange(size), len(x) - 1)
    return x[rows], y[rows], (np.arange(size) < len(x)).astype(np.float32)


right("full_batches")(repeated, lambda model, x, y, w: jnp.average(losses(model, x, y), weights=w))
