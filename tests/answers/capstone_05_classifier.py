"""Answers to the capstone after 05."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from course import layers
from tests.answers import right, wrong


def draw(key, n):
    first, second = jax.random.split(key)
    return jax.random.bernoulli(first, 0.5, (n,)), jax.random.randint(second, (n, 2), 0, 3)


def augment(images, flips, shifts, axis=1, swap=False, flip_last=False):
    def one(image, flip, shift):
        def turned(image):
            return jnp.where(flip, jnp.flip(image, axis), image)

        image = image if flip_last else turned(image)
        i, j = shift[::-1] if swap else shift
        image = jax.lax.dynamic_slice(jnp.pad(image, ((1, 1), (1, 1), (0, 0))), (i, j, 0), (8, 8, 1))
        return turned(image) if flip_last else image

    return jax.vmap(one)(images, flips, shifts)


def with_numpy(key, n):
    rng = np.random.default_rng()
    return rng.uniform(size=n) < 0.5, rng.integers(0, 3, (n, 2))


def reused(key, n):
    one = jax.random.uniform(key, (n,))
    return one < 0.5, jnp.stack([jnp.int32(3 * one), jnp.int32(3 * jax.random.uniform(key, (n,)))], axis=1)


wrong("digit_augment", "rows and columns of the shift")(draw, lambda *a: augment(*a, swap=True))
wrong("digit_augment", "not columns")(draw, lambda *a: augment(*a, axis=0))
wrong("digit_augment", "torch flips first")(draw, lambda *a: augment(*a, flip_last=True))
wrong("digit_augment", "not flipped")(draw, lambda images, flips, shifts: augment(images, flips & False, shifts))
wrong("digit_augment", "the key is reused")(reused, augment)
wrong("digit_augment", "upper end out")(
    lambda key, n: (draw(key, n)[0], jax.random.randint(key, (n, 2), 0, 2)), augment
)
wrong("digit_augment", "do not come from the key")(with_numpy, augment)
wrong("digit_augment", "made inside")(lambda key, n: draw(jax.random.key(0), n), augment)
right("digit_augment")(draw, augment)


def drawn_at_once(key, n):
    numbers = jax.random.uniform(key, (n, 3))
    return numbers[:, 0] < 0.5, jnp.floor(3 * numbers[:, 1:]).astype(int)


right("digit_augment")(drawn_at_once, augment)


def net(norm=lambda rngs: layers.BatchNorm(8, rngs=rngs), first=True, mode=None, padding=1):
    class DigitNet(nnx.Module):
        def __init__(self, *, rngs):
            self.conv = nnx.Conv(1, 8, (3, 3), padding=padding, rngs=rngs)
            self.norm = norm(rngs)
            self.head = nnx.Linear(128, 10, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.norm(self.conv(x), use_running_average=mode))
            x = nnx.max_pool(x, (2, 2), strides=(2, 2))
            x = x.transpose(0, 3, 1, 2) if first else x
            return self.head(x.reshape(len(x), -1))

    return DigitNet


wrong("digit_model", "channels last")(net(first=False))
wrong("digit_model", "flax's default")(net(lambda rngs: nnx.BatchNorm(8, rngs=rngs)))
wrong("digit_model", "flax's is what is kept")(net(lambda rngs: nnx.BatchNorm(8, momentum=0.1, rngs=rngs)))
wrong("digit_model", "flax's is what is kept")(net(lambda rngs: layers.BatchNorm(8, momentum=0.1, rngs=rngs)))
wrong("digit_model", "the biased one")(net(lambda rngs: nnx.BatchNorm(8, momentum=0.9, rngs=rngs)))
wrong("digit_model", "the other mode")(net(mode=False))
wrong("digit_model", "expected a class")(net()(rngs=nnx.Rngs(0)))
right("digit_model")(net())
right("digit_model")(net(padding="SAME"))


def share(mode=True, back=True, of=jnp.mean):
    def accuracy(model, x, y):
        if mode:
            model.eval()
        found = of(model(x).argmax(axis=1) == y)
        if back:
            model.train()
        return found

    return accuracy


wrong("digit_accuracy", "training mode")(share(mode=False))
wrong("digit_accuracy", "stale mode")(share(back=False))
wrong("digit_accuracy", "the number of right ones")(share(of=jnp.sum))
wrong("digit_accuracy", "in percent")(share(of=lambda right: 100 * right.mean()))
wrong("digit_accuracy", "the share of wrong ones")(share(of=lambda right: 1 - right.mean()))
right("digit_accuracy")(share())
right("digit_accuracy")(lambda model, x, y: float(share(of=lambda right: np.asarray(right).mean())(model, x, y)))


DECAY, SGD = optax.add_decayed_weights(1e-3), optax.sgd(0.1, momentum=0.9)


def run(decay=DECAY, sgd=SGD, smooth=0.1, use=augment, mode=True,
        lost=False, jit=nnx.jit):  # fmt: skip
    def train(model, x, y, batches, flips, shifts):
        tx = optax.chain(decay, sgd)
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

        def loss_fn(model, images, labels):
            target = optax.smooth_labels(jax.nn.one_hot(labels, 10), smooth)
            return optax.softmax_cross_entropy(model(images), target).mean()

        @jit
        def step(model, optimizer, *each):
            rows, flip, shift = each
            loss, grads = nnx.value_and_grad(loss_fn)(model, use(x[rows], flip, shift), y[rows])
            optimizer.update(model, grads)
            return loss

        model.train() if mode else model.eval()
        losses = []
        for each in zip(batches, flips, shifts, strict=True):
            optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param) if lost else optimizer
            losses.append(float(step(model, optimizer, *each)))
        return losses

    return train


wrong("digit_run", "weight_decay is missing")(run(decay=optax.identity()))
wrong("digit_run", "momentum is missing")(run(sgd=optax.sgd(0.1)))
wrong("digit_run", "the optimizer's state is lost")(run(lost=True))
wrong("digit_run", "label_smoothing is missing")(run(smooth=0.0))
wrong("digit_run", "Nesterov")(run(sgd=optax.sgd(0.1, momentum=0.9, nesterov=True)))
wrong("digit_run", "not augmented")(run(use=lambda images, flip, shift: images))
wrong("digit_run", "evaluation mode")(run(mode=False))
right("digit_run")(run())
right("digit_run")(
    run(decay=optax.identity(), sgd=optax.chain(optax.add_decayed_weights(1e-3), optax.trace(0.9), optax.scale(-0.1)))
)
