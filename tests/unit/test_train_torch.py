"""The torch loop learns, and changes what it should."""

import numpy as np
import torch

from course.loaders import make_loader
from course.train import titanic_torch as lesson

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 15)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.float32)


def test_a_model_gives_one_logit_a_passenger():
    model, x = lesson.TitanicMLP(), torch.from_numpy(X)
    assert model(x).shape == (96,) and model(x[0]).shape == ()
    assert model.hidden.weight.shape == (64, 15)


def test_a_step_returns_the_loss_and_changes_the_weights():
    model = lesson.TitanicMLP()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    before, expected = model.out.weight.clone(), lesson.loss_fn(model, x, y).item()
    loss = lesson.train_step(model, optimizer, x, y)
    assert loss.item() == expected and not loss.requires_grad
    assert not torch.equal(model.out.weight, before)


def test_fit_learns_and_records_an_epoch_a_row():
    torch.manual_seed(0)
    model = lesson.TitanicMLP()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    valid = torch.from_numpy(X), torch.from_numpy(Y)
    history = lesson.fit(model, optimizer, make_loader(X, Y, 32, 0), 15, valid)
    assert history.shape == (15, 2) and list(history) == ["train", "valid"]
    assert history["valid"].iloc[-1] < 0.5 * history["valid"].iloc[0]
    assert list(lesson.fit(model, optimizer, make_loader(X, Y, 32, 0), 1)) == ["train"]
