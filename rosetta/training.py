"""Training loops

The loop is your own on both sides. What PyTorch does by side effects, hooks and modes is a value here, returned and
handed on; losses stay on the device until they are looked at.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import linen as nn
from flax import nnx
from flax.training.early_stopping import EarlyStopping

from rosetta.kinds import Pair, integers, normal
from rosetta.optimizers import NO_GRADIENT, layer, model, params


class Epochs(Pair):
    """Loop over batches"""

    inputs = {"w": normal(3), "batches": normal(4, 5, 3)}
    no_gradient = NO_GRADIENT
    note = (
        "`lax.scan` is the loop compiled: state goes round, what each step returns is stacked. A Python loop works too."
    )

    def torch(w, batches):
        sgd, losses = torch.optim.SGD([w.requires_grad_()], lr=0.1), []
        for x in batches:
            sgd.zero_grad(), losses.append((x @ w).square().mean())
            losses[-1].backward(), sgd.step()
        return w, torch.stack(losses)

    def jax(w, batches):
        def step(w, x):
            loss, grad = jax.value_and_grad(lambda w: ((x @ w) ** 2).mean())(w)
            return w - 0.1 * grad, loss

        return jax.lax.scan(step, w, batches)


class CollectLosses(Pair):
    """Keep the losses of all steps"""

    inputs = {"x": normal(5, 3)}
    no_gradient = "numbers to be looked at"
    note = (
        "`float(loss)` in each step waits for it, as `.item()` does on a GPU. Keep the arrays, and look once, at the "
        "end."
    )

    def torch(x):
        losses = [row.square().mean().item() for row in x]
        return torch.tensor(losses)

    def jax(x):
        losses = [(row**2).mean() for row in x]
        return jnp.stack(losses)


class EarlyStop(Pair):
    """Stop early"""

    inputs = {"losses": [3.0, 2.0, 2.5, 1.5, 1.6, 1.7, 1.4]}
    note = (
        "`patience` bad values are let pass, the next one stops. `update` changes nothing: it returns the next state."
    )

    def torch(losses):
        best, bad, epoch = float("inf"), 0, 0
        while bad < 2:
            best, bad = (losses[epoch], 0) if losses[epoch] < best else (best, bad + 1)
            epoch += 1
        return epoch, best

    def jax(losses):
        stop, epoch = EarlyStopping(patience=1), 0
        while not stop.should_stop:
            stop = stop.update(losses[epoch])
            epoch += 1
        return epoch, stop.best_metric


class RunningMean(Pair):
    """Running mean of a metric"""

    inputs = {"values": normal(4, 5)}
    no_gradient = "a metric"
    note = (
        "Updates change it in place, as NNX does; `reset()` starts anew. There is `Accuracy`, `Welford`, `MultiMetric` "
        "too."
    )

    def torch(values):
        total, count = 0.0, 0
        for batch in values:
            total, count = total + batch.sum(), count + batch.numel()
        return total / count

    def nnx(values):
        mean = nnx.metrics.Average("loss")
        for batch in values:
            mean.update(loss=batch)
        return mean.compute()

    def claims():
        assert nnx.metrics.Accuracy and nnx.metrics.Welford and nnx.metrics.MultiMetric
        mean = nnx.metrics.Average("loss")
        mean.update(loss=jnp.ones(3))
        mean.reset()
        mean.update(loss=jnp.zeros(2))
        assert mean.compute() == 0


class MeanOfMeans(Pair):
    """Mean loss over batches of unequal size"""

    inputs = {"x": normal(7)}
    note = "A mean of the batches' means gives the short batch too much weight, on both sides: add up sums."

    def torch(x):
        return sum(batch.square().sum() for batch in x.split(3)) / len(x)

    def jax(x):
        return sum((batch**2).sum() for batch in jnp.split(x, [3, 6])) / len(x)

    def claims():
        x = np.array([0.0, 0, 0, 0, 0, 0, 7])
        assert np.mean([batch.mean() for batch in np.split(x, [3, 6])]) > 2 * x.mean()


class Evaluate(Pair):
    """Evaluate without gradients"""

    inputs = {"model": model, "layer": layer, "params": params, "x": normal(8, 3)}
    no_gradient = "there is none"
    also = ("torch.no_grad", "torch.inference_mode", "nn.Module.eval")
    note = (
        "What is not differentiated records nothing, so nothing is switched off; `eval()` is for dropout and batch "
        "norm."
    )

    def torch(model, x):
        model.eval()
        with torch.no_grad():
            return model(x)

    def nnx(layer, x):
        layer.eval()
        return layer(x)

    def linen(params, x):
        return nn.Dense(1).apply({"params": params}, x)


class StepHook(Pair):
    """Look at every step (hooks of an optimizer)"""

    inputs = {"w": normal(3), "g": normal(3), "seen": []}
    no_gradient = NO_GRADIENT
    also = ("optim.Optimizer.register_step_post_hook", "optim.Optimizer.register_step_pre_hook")
    note = "A link of the chain sees what passes. Under `jit` it is traced once: call out by `jax.debug.callback`."

    def torch(w, g, seen):
        w.grad, sgd = g, torch.optim.SGD([w], lr=0.1)
        sgd.register_step_pre_hook(lambda optimizer, args, kwargs: seen.append(w.grad.abs().max()))
        sgd.step()
        return w, seen

    def jax(w, g, seen):
        look = optax.stateless(lambda grads, _: seen.append(jnp.abs(grads).max()) or grads)
        rule = optax.chain(look, optax.sgd(0.1))
        updates, _ = rule.update(g, rule.init(w), w)
        return optax.apply_updates(w, updates), seen

    def claims():
        seen = []
        look = optax.stateless(lambda grads, _: jax.debug.callback(seen.append, grads) or grads)
        for _ in range(2):
            jax.jit(look.update)(jnp.ones(()), look.init(None))
        jax.effects_barrier()
        assert len(seen) == 2


class AfterBackwardHook(Pair):
    """Change a weight's gradient (tensor hooks)"""

    inputs = {"w": normal(3), "x": normal(3)}
    no_gradient = "its result is a gradient"
    also = ("Tensor.register_post_accumulate_grad_hook",)
    note = "A weight's gradient is a value: change it after `jax.grad`. For those on the way there is `jax.custom_vjp`."

    def torch(w, x):
        w.requires_grad_().register_hook(lambda grad: grad.clamp(-0.5, 0.5))
        (w * x).sum().backward()
        return w.grad

    def jax(w, x):
        grads = jax.grad(lambda w: (w * x).sum())(w)
        return jax.tree.map(lambda g: jnp.clip(g, -0.5, 0.5), grads)


class TwoLosses(Pair):
    """Several losses, one backward pass"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    no_gradient = "its result is a gradient"
    note = "`has_aux=True` hands back each of them beside the gradient of their sum."

    def torch(w, x):
        fit, size = (x @ w.requires_grad_()).square().mean(), w.abs().sum()
        (fit + 0.1 * size).backward()
        return w.grad, (fit, size)

    def jax(w, x):
        def loss_fn(w):
            fit, size = ((x @ w) ** 2).mean(), jnp.abs(w).sum()
            return fit + 0.1 * size, (fit, size)

        return jax.grad(loss_fn, has_aux=True)(w)


class Unfreeze(Pair):
    """Train the head first, then everything"""

    inputs = {"body": normal(3), "head": normal(3), "g": normal(3)}
    no_gradient = NO_GRADIENT
    note = "Two rules for two phases, each with a fresh state: the first labels decide what stays."

    def torch(body, head, g):
        for weights in ([head], [head, body]):
            body.grad, head.grad = g.clone(), g.clone()
            torch.optim.SGD(weights, lr=0.1).step()
        return body, head

    def jax(body, head, g):
        params, grads = {"body": body, "head": head}, {"body": g, "head": g}
        frozen = optax.partition({True: optax.sgd(0.1), False: optax.set_to_zero()}, {"body": False, "head": True})
        for rule in (frozen, optax.sgd(0.1)):
            params = optax.apply_updates(params, rule.update(grads, rule.init(params), params)[0])
        return params


class WarmStart(Pair):
    """Start the optimizer anew"""

    inputs = {"w": normal(3), "g": normal(2, 3)}
    no_gradient = NO_GRADIENT
    note = "`rule.init` is a function: its result is the empty state, whenever it is called."

    def torch(w, g):
        for grad in g:
            adam = torch.optim.Adam([w], lr=0.1)
            w.grad = grad
            adam.step()
        return w

    def jax(w, g):
        adam = optax.adam(0.1)
        for grad in g:
            updates, _ = adam.update(grad, adam.init(w), w)
            w = optax.apply_updates(w, updates)
        return w


class AccuracyOverBatches(Pair):
    """Accuracy over all batches"""

    inputs = {"logits": normal(4, 6, 3), "labels": integers(0, 3, 4, 6)}
    note = "The counts are kept on the device."

    def torch(logits, labels):
        hits = sum((a.argmax(-1) == b).sum() for a, b in zip(logits, labels, strict=True))
        return hits / labels.numel()

    def nnx(logits, labels):
        accuracy = nnx.metrics.Accuracy()
        for a, b in zip(logits, labels, strict=True):
            accuracy.update(logits=a, labels=b)
        return accuracy.compute()
