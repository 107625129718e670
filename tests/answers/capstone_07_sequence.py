"""Answers to the capstone on a sequence model with packed input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from course import layers
from tests.answers import right, wrong


def by_ends(self, x, lengths):
    carries, _ = self.rnn(x, seq_lengths=lengths, return_carry=True)
    return [carry[1] for carry in carries]


def reader(states=by_ends, cell=layers.LSTMCell, embed=lambda words, width, rngs: nnx.Embed(words, width, rngs=rngs)):
    class Reader(nnx.Module):
        def __init__(self, words, width, hidden, classes, *, rngs):
            self.embed = embed(words, width, rngs)
            self.rnn = nnx.Bidirectional(
                nnx.RNN(cell(width, hidden, rngs=rngs), rngs=rngs),
                nnx.RNN(cell(width, hidden, rngs=rngs), rngs=rngs),
                rngs=rngs,
            )
            self.out = nnx.Linear(2 * hidden, classes, rngs=rngs)

        def __call__(self, tokens, lengths):
            return self.out(jnp.concatenate(states(self, self.embed(tokens), lengths), axis=1))

    return Reader


def padded_embed(words, width, rngs):
    return layers.Embed(words, width, padding_idx=0, rngs=rngs)


def without_lengths(self, x, lengths):
    carries, _ = self.rnn(x, return_carry=True)
    return [carry[1] for carry in carries]


def half_without(self, x, lengths):
    return by_ends(self, x, lengths)[0], without_lengths(self, x, lengths)[1]


def other_half_without(self, x, lengths):
    return without_lengths(self, x, lengths)[0], by_ends(self, x, lengths)[1]


def at_last_word(self, x, lengths):
    y = self.rnn(x, seq_lengths=lengths)
    return [y[jnp.arange(len(x)), lengths - 1]]


def last_column(self, x, lengths):
    return [self.rnn(x)[:, -1]]


def cells_not_hidden(self, x, lengths):
    carries, _ = self.rnn(x, seq_lengths=lengths, return_carry=True)
    return [carry[0] for carry in carries]


READER = reader(embed=padded_embed)
wrong("reader_model", "the padding is read")(reader(without_lengths, embed=padded_embed))
wrong("reader_model", "the backward direction starts in the padding")(reader(half_without, embed=padded_embed))
wrong("reader_model", "the last column, after the padding")(reader(other_half_without, embed=padded_embed))
wrong("reader_model", "has read one word only")(reader(at_last_word, embed=padded_embed))
wrong("reader_model", "the outputs of the last column")(reader(last_column, embed=padded_embed))
wrong("reader_model", "c instead of h")(reader(cells_not_hidden, embed=padded_embed))
wrong("reader_model", "swapped")(reader(lambda *args: by_ends(*args)[::-1], embed=padded_embed))
wrong("reader_model", "no nnx.Module")(lambda *_, rngs: None)
wrong("reader_model", "the arguments; it is called as")(type("Reader", (), {"__init__": lambda self: None}))
right("reader_model")(READER)
right("reader_model")(reader(cell=nnx.OptimizedLSTMCell, embed=padded_embed))


@right("reader_model")
class MaskedByHand(nnx.Module):
    def __init__(self, words, width, hidden, classes, *, rngs):
        self.embed = padded_embed(words, width, rngs)
        self.rnn = nnx.Bidirectional(
            nnx.RNN(layers.LSTMCell(width, hidden, rngs=rngs)), nnx.RNN(layers.LSTMCell(width, hidden, rngs=rngs))
        )
        self.out = nnx.Linear(2 * hidden, classes, rngs=rngs)
        self.hidden = hidden

    def __call__(self, tokens, lengths):
        x = self.embed(tokens)

        def end(cell, order):
            zeros = jnp.zeros((len(x), self.hidden))
            carry = zeros, zeros
            for t in order:
                new, _ = cell(carry, x[:, t])
                inside = (t < lengths)[:, None]
                carry = jax.tree.map(lambda a, b, inside=inside: jnp.where(inside, a, b), new, carry)
            return carry[1]

        steps = range(x.shape[1])
        forward, backward = end(self.rnn.forward_rnn.cell, steps), end(self.rnn.backward_rnn.cell, steps[::-1])
        return self.out(jnp.concatenate([forward, backward], -1))


def rows(sentences, labels, size, length, fill=0, shortest=1, front=False, own=True, full=True, real=True):
    result = []
    for start in range(0, len(sentences), size):
        part = sentences[start : start + size]
        n = len(part)
        total = size if full else n
        tokens, lengths = np.full((total, length), fill), np.full(total, shortest)
        targets = np.zeros(total, int)
        for row, sentence in enumerate(part):
            place = slice(length - len(sentence), None) if front else slice(len(sentence))
            tokens[row, place] = sentence
            lengths[row] = len(sentence) if own else length
            targets[row] = labels[start + row]
        lengths[n:] = shortest if own else length
        tokens[n:, 0] = 0
        here = np.arange(total) < n
        result.append((tokens, lengths, targets, here if real else ~here))
    return result


wrong("reader_batches", "the last, short batch is dropped")(lambda s, y, n, t: rows(s[: len(s) // n * n], y, n, t))
wrong("reader_batches", "one shape for all batches")(lambda s, y, n, t: rows(s, y, n, t, full=False))
wrong("reader_batches", "padded in front")(lambda s, y, n, t: rows(s, y, n, t, front=True))
wrong("reader_batches", "padded with -1")(lambda s, y, n, t: rows(s, y, n, t, fill=-1))
wrong("reader_batches", "the padded length")(lambda s, y, n, t: rows(s, y, n, t, own=False))
wrong("reader_batches", "a length of 0")(lambda s, y, n, t: rows(s, y, n, t, shortest=0))
wrong("reader_batches", "True is a real row")(lambda s, y, n, t: rows(s, y, n, t, real=False))
wrong("reader_batches", "the shape")(lambda s, y, n, t: rows(s, y, n, max(map(len, s[:n]))))
wrong("reader_batches", "hold words")(
    lambda s, y, n, t: [
        (np.where(b[3][:, None], b[0], b[0][0]), *b[1:]) for b in rows(s, y, n, t)
    ]
)  # fmt: skip
right("reader_batches")(rows)
right("reader_batches")(lambda s, y, n, t: [tuple(map(jnp.asarray, batch)) for batch in rows(s, y, n, t)])


def maker(rule=None):
    rule = rule or optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.2, momentum=0.9))
    return lambda model: nnx.Optimizer(model, rule, wrt=nnx.Param)


def stepper(reduce=lambda losses, real: jnp.where(real, losses, 0.0).sum() / real.sum(), update=True, returns=True):
    @nnx.jit
    def train_step(model, optimizer, batch):
        tokens, lengths, labels, real = batch

        def loss_fn(model):
            losses = optax.softmax_cross_entropy_with_integer_labels(model(tokens, lengths), labels)
            return reduce(losses, real)

        loss, grads = nnx.value_and_grad(loss_fn)(model)
        if update:
            optimizer.update(model, grads)
        return loss if returns else None

    return train_step


SGD = optax.sgd(0.2, momentum=0.9)
MAKE, STEP = maker(), stepper()
wrong("reader_step", "the mean over all rows")(MAKE, stepper(lambda losses, real: losses.mean()))
wrong("reader_step", "divided by all rows")(MAKE, stepper(lambda losses, real: jnp.where(real, losses, 0).mean()))
wrong("reader_step", "the sum, not the mean")(MAKE, stepper(lambda losses, real: jnp.where(real, losses, 0).sum()))
wrong("reader_step", "the weights are as they were")(MAKE, stepper(update=False))
wrong("reader_step", "a function without `return`")(MAKE, stepper(returns=False))
wrong("reader_step", "nothing is clipped")(maker(SGD), STEP)
wrong("reader_step", "every number is clipped")(maker(optax.chain(optax.clip(0.5), SGD)), STEP)
wrong("reader_step", "every array is clipped")(
    maker(
        optax.chain(
            optax.stateless(
                lambda g, p: jax.tree.map(lambda g: g * jnp.minimum(1, 0.5 / jnp.linalg.norm(g.ravel())), g)
            ),
            SGD,
        )
    ),
    STEP,
)
wrong("reader_step", "no momentum")(maker(optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.2))), STEP)
wrong("reader_step", "Nesterov's momentum")(
    maker(optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.2, momentum=0.9, nesterov=True))), STEP
)
wrong("reader_step", "momentum as an average")(
    maker(optax.chain(optax.clip_by_global_norm(0.5), optax.ema(0.9, debias=False), optax.scale(-0.2))), STEP
)
wrong("reader_step", "the weights after three steps")(
    maker(optax.chain(optax.trace(0.9), optax.clip_by_global_norm(0.5), optax.scale(-0.2))), STEP
)
wrong("reader_step", "no nnx.Optimizer")(lambda model: SGD, STEP)
right("reader_step")(MAKE, STEP)


def with_weights(model, optimizer, batch):
    tokens, lengths, labels, real = map(jnp.asarray, batch)

    def loss_fn(model):
        log = jax.nn.log_softmax(model(tokens, lengths))
        return -(log[jnp.arange(len(labels)), labels] * real / real.sum()).sum()

    loss, grads = nnx.value_and_grad(loss_fn, argnums=nnx.DiffState(0, nnx.Param))(model)
    optimizer.update(model, grads)
    return loss.item()


right("reader_step")(
    maker(optax.chain(optax.clip_by_global_norm(0.5), optax.trace(0.9), optax.scale_by_learning_rate(0.2))),
    with_weights,
)


def accuracy(count=lambda hits, real: ((hits & real).sum(), real.sum()), mean=False):
    def accuracy_of(model, batches):
        pairs = []
        for tokens, lengths, labels, real in batches:
            hits = np.asarray(model(tokens, lengths)).argmax(1) == labels
            pairs.append(count(hits, real))
        if mean:
            return float(np.mean([right / total for right, total in pairs]))
        right, total = np.sum(pairs, axis=0)
        return right / total

    return accuracy_of


wrong("reader_accuracy", "rows that are not real are counted")(accuracy(lambda hits, real: (hits.sum(), len(hits))))
wrong("reader_accuracy", "divided by all rows")(accuracy(lambda hits, real: ((hits & real).sum(), len(hits))))
wrong("reader_accuracy", "the mean of the batches' accuracies")(accuracy(mean=True))
wrong("reader_accuracy", "counted as hits")(accuracy(lambda hits, real: (hits.sum(), real.sum())))
wrong("reader_accuracy", "the number of hits")(accuracy(lambda hits, real: ((hits & real).sum(), 1 / 3)))
wrong("reader_accuracy", "the last batch alone")(lambda model, batches: accuracy()(model, batches[-1:]))
right("reader_accuracy")(accuracy())


@right("reader_accuracy")
def joined(model, batches):
    tokens, lengths, labels, real = (np.concatenate(part) for part in zip(*batches, strict=True))
    return jnp.mean(model(tokens, lengths).argmax(-1) == labels, where=real)


def fitter(make=MAKE, step=STEP, epochs_of=lambda n: n, batches_of=rows, fresh=None, report=None, copy=False):
    def fit(model, sentences, labels, size, length, epochs):
        model = nnx.clone(model) if copy else model
        optimizer, losses = make(model), []
        for _ in range(epochs_of(epochs)):
            optimizer = make(model) if fresh == "epoch" else optimizer
            start = len(losses)
            for batch in batches_of(sentences, labels, size, length):
                optimizer = make(model) if fresh == "step" else optimizer
                losses.append(float(step(model, optimizer, batch)))
            if report:
                losses[start:] = [report(losses[start:])]
        return losses

    return fit


FIT = fitter()
wrong("reader_run", "one bias a cell")(reader(cell=nnx.OptimizedLSTMCell, embed=padded_embed), FIT)
wrong("reader_run", "a new optimizer for each epoch")(READER, fitter(fresh="epoch"))
wrong("reader_run", "momentum")(READER, fitter(fresh="step"))
wrong("reader_run", "only one epoch")(READER, fitter(epochs_of=lambda n: 1))
wrong("reader_run", "the mean loss of each epoch")(READER, fitter(report=np.mean))
wrong("reader_run", "the last, short batch is dropped")(
    READER, fitter(batches_of=lambda s, y, n, t: rows(s[: len(s) // n * n], y, n, t))
)
wrong("reader_run", "the sum is divided by all rows")(
    READER, fitter(step=stepper(lambda losses, real: jnp.where(real, losses, 0).mean()))
)
wrong("reader_run", "nothing is clipped")(READER, fitter(make=maker(SGD)))
wrong("reader_run", "not a copy")(READER, fitter(copy=True))
right("reader_run")(READER, FIT)
right("reader_run")(READER, lambda *args: tuple(map(jnp.float32, FIT(*args))))
