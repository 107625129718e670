"""Answers to the exercises of 01a_titanic_torch."""

import copy

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.utils.rnn import pad_sequence

from tests.answers import right, wrong


def detective(copied=(), parts=("weights", "gradients", "buffers", "optimizer", "generator"), whole=False, none=True):
    """An answer that copies what it is told to, and looks at these parts alone."""

    def changed(step, model, optimizer, x, y):
        def look():
            places = {
                "weights": list(model.state_dict().values()) if whole else [w.data for w in model.parameters()],
                "gradients": [w.grad for w in model.parameters() if none or w.grad is not None],
                "buffers": list(model.buffers()),
                "optimizer": [t for moments in optimizer.state.values() for t in moments.values()],
                "generator": [torch.get_rng_state()],
            }
            clone = {p: [t if t is None else t.detach().clone() for t in places[p]] for p in copied}
            return {p: (places | clone)[p] for p in parts}

        before = look()
        step(model, optimizer, x, y)
        after = look()
        alike = {
            p: len(before[p]) == len(after[p])
            and all(a is b or (a is not None and b is not None and torch.equal(a, b))
                    for a, b in zip(before[p], after[p], strict=True))
            for p in before
        }  # fmt: skip
        return {p for p in before if not alike[p]}

    return changed


ALL = ("weights", "gradients", "buffers", "optimizer", "generator")
wrong("changed", "kept weights are the live tensors")(detective())
wrong("changed", "changed in place")(detective(tuple(p for p in ALL if p != "gradients")))
wrong("changed", "BatchNorm's averages are buffers")(detective(ALL, tuple(p for p in ALL if p != "buffers")))
wrong("changed", "Adam's moments change in place")(detective(tuple(p for p in ALL if p != "optimizer")))
wrong("changed", "dropout and shuffling draw")(detective(ALL, tuple(p for p in ALL if p != "generator")))
wrong("changed", "state_dict() holds both")(detective(ALL, whole=True))


@wrong("changed", "the step ran on a copy")
def on_a_copy(step, model, optimizer, x, y):
    model = copy.deepcopy(model)
    return detective(ALL)(step, model, torch.optim.Adam(model.parameters()), x, y)


@wrong("changed", "was called 2 times")
def twice(step, model, optimizer, x, y):
    step(model, optimizer, x, y)
    return detective(ALL)(step, model, optimizer, x, y)


@wrong("changed", "return the names")
def not_returned(step, model, optimizer, x, y):
    detective(ALL)(step, model, optimizer, x, y)


right("changed")(detective(ALL, none=False))


@right("changed")
def by_bytes(step, model, optimizer, x, y):
    def look():
        def of(tensors):
            return [None if t is None else t.detach().numpy().tobytes() for t in tensors]

        return {
            "weights": of(model.parameters()),
            "gradients": of(w.grad for w in model.parameters()),
            "buffers": of(model.buffers()),
            "optimizer": of(t for s in optimizer.state_dict()["state"].values() for t in s.values()),
            "generator": of([torch.get_rng_state()]),
        }

    before = look()
    step(model, optimizer, x, y)
    after = look()
    return [name for name in before if before[name] != after[name]]


def by_group(source, table, how="median"):
    return table["age"].fillna(table["pclass"].map(source.groupby("pclass")["age"].agg(how))).to_numpy()


def scale(a, b, source=None, ddof=0):
    source = a if source is None else source
    return (a - source.mean()) / source.std(ddof=ddof), (b - source.mean()) / source.std(ddof=ddof)


@wrong("ages_by_class", "were fitted on test")
def each_for_itself(train, test):
    a, b = by_group(train, train), by_group(test, test)
    return scale(a, a)[0], scale(b, b)[0]


@wrong("ages_by_class", "carries test into training")
def everybody(train, test):
    both = pd.concat([train, test])
    a, b = by_group(both, train), by_group(both, test)
    return scale(a, b, np.concatenate([a, b]))


@wrong("ages_by_class", "their own mean and deviation")
def own_scale(train, test):
    a, b = by_group(train, train), by_group(train, test)
    return scale(a, a)[0], scale(b, b)[0]


wrong("ages_by_class", "say ddof=0")(lambda a, b: scale(by_group(a, a), by_group(a, b), ddof=1))
wrong("ages_by_class", "the mean of the class")(lambda a, b: scale(by_group(a, a, "mean"), by_group(a, b, "mean")))
wrong("ages_by_class", "one median for all")(
    lambda a, b: scale(*(t["age"].fillna(a["age"].median()).to_numpy() for t in (a, b)))
)
wrong("ages_by_class", "fill first")(lambda a, b: scale(by_group(a, a), by_group(a, b), a["age"].dropna().to_numpy()))
wrong("ages_by_class", "not standardised")(lambda a, b: (by_group(a, a), by_group(a, b)))


@wrong("ages_by_class", "changed a table")
def in_place(train, test):
    medians = train.groupby("pclass")["age"].median()
    for table in (train, test):
        table["age"] = table["age"].fillna(table["pclass"].map(medians))
    return scale(train["age"].to_numpy(), test["age"].to_numpy())


@right("ages_by_class")
def series(train, test):
    own = train["age"].fillna(train.groupby("pclass")["age"].transform("median"))
    other = test["age"].fillna(test["pclass"].map(dict(train.groupby("pclass")["age"].median())))
    return [(ages - own.mean()) / own.std(ddof=0) for ages in (own, other)]


@right("ages_by_class")
def in_numpy(train, test):
    def fill(table):
        ages, classes = table["age"].to_numpy().copy(), table["pclass"].to_numpy()
        for c in (1, 2, 3):
            ages[np.isnan(ages) & (classes == c)] = np.nanmedian(train["age"][train["pclass"] == c])
        return ages

    return scale(fill(train), fill(test))


def losses(model, loader, mode=False, back=True, count=lambda y: len(y), graph=False):
    before = model.training
    if mode is not None:
        model.train(mode)
    with torch.set_grad_enabled(graph):
        total = sum(bce(model(x), y) * count(y) for x, y in loader)
    if back:
        model.train(before)
    return total, sum(count(y) for _, y in loader)


def mean_of(**settings):
    def mean_loss(model, loader):
        total, count = losses(model, loader, **settings)
        return (total / count).item()

    return mean_loss


wrong("mean_loss", "a short batch counts as much")(mean_of(count=lambda y: 1))
wrong("mean_loss", "BatchNorm in training mode")(mean_of(mode=None))
wrong("mean_loss", "model.eval() stays in force")(mean_of(back=False))
wrong("mean_loss", "the sum over the rows")(lambda model, loader: losses(model, loader)[0])
wrong("mean_loss", "the short batch is left out")(lambda model, loader: mean_of()(model, loader[:-1]))


@wrong("mean_loss", "records a graph")
def with_a_graph(model, loader):
    total, count = losses(model, loader, graph=True)
    return total / count


@wrong("mean_loss", "does not leave in it")
def always_training(model, loader):
    loss = mean_of()(model, loader)
    model.train()
    return loss


@right("mean_loss")
def all_rows_at_once(model, loader):
    x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
    return mean_of()(model, [(x, y)])


@right("mean_loss")
def a_tensor(model, loader):
    total, count = losses(model, loader)
    return total / count


def collate(length=lambda longest, multiple: -(-longest // multiple) * multiple, front=False, mask=None, dtype=None):
    def padded(samples, multiple):
        longest = length(max(len(s) for s, _ in samples), multiple)
        x = torch.zeros(len(samples), longest, samples[0][0].shape[1])
        real = torch.zeros(len(samples), longest, dtype=torch.bool)
        for i, (s, _) in enumerate(samples):
            where = slice(longest - len(s), longest) if front else slice(0, len(s))
            x[i, where], real[i, where] = s, True
        return x, real if mask is None else mask(x, real), torch.tensor([y for _, y in samples], dtype=dtype)

    return padded


wrong("padded_collate", "rounded up to a multiple")(collate(lambda longest, multiple: longest))
wrong("padded_collate", "needs no more")(collate(lambda longest, multiple: (longest // multiple + 1) * multiple))
wrong("padded_collate", "the padding stands in front")(collate(front=True))
wrong("padded_collate", "it is to say what is real")(collate(mask=lambda x, real: ~real))
wrong("padded_collate", "a real row may hold zeros")(collate(mask=lambda x, real: (x != 0).any(-1)))
wrong("padded_collate", "the mask has another dtype")(collate(mask=lambda x, real: real.float()))
wrong("padded_collate", "y has another dtype")(collate(dtype=torch.float64))
wrong("padded_collate", "raised an error")(lambda samples, multiple: torch.utils.data.default_collate(samples))


@right("padded_collate")
def with_torchs_padding(samples, multiple):
    x = pad_sequence([s for s, _ in samples], batch_first=True)
    x = torch.nn.functional.pad(x, (0, 0, 0, -x.shape[1] % multiple))
    lengths = torch.tensor([len(s) for s, _ in samples])
    return x, torch.arange(x.shape[1])[None] < lengths[:, None], torch.tensor([y for _, y in samples])


right("padded_collate")(collate())
