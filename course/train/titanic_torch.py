"""The Titanic MLP and its training loop in PyTorch. Needs torch, pandas and tqdm.

Lesson: 01a_titanic_torch; later lessons import it from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm


class TitanicMLP(nn.Module):
    """15 features, one hidden ReLU layer, one logit.

    Taught in 01a_titanic_torch.
    """

    def __init__(self, features: int = 15, width: int = 64):
        super().__init__()
        self.hidden = nn.Linear(features, width)
        self.out = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.hidden(x))  # (B, width)
        return self.out(x).squeeze(-1)  # (B,)


def loss_fn(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy of the model's logits: x (B, d), y (B,) -> ().

    Taught in 01a_titanic_torch.
    """
    logits = model(x)
    return binary_cross_entropy_with_logits(logits, y)


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """One update of the model in place; returns the loss before it, ().

    Taught in 01a_titanic_torch.
    """
    optimizer.zero_grad()
    loss = loss_fn(model, x, y)
    loss.backward()
    optimizer.step()
    return loss.detach()


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Iterable[tuple[torch.Tensor, torch.Tensor]],
    epochs: int,
    valid: tuple[torch.Tensor, torch.Tensor] | None = None,
    step: Callable[[nn.Module, torch.optim.Optimizer, torch.Tensor, torch.Tensor], torch.Tensor] = train_step,
) -> pd.DataFrame:
    """Train for some epochs; returns a table with a row per epoch: mean training loss, validation loss if asked.

    Taught in 01a_titanic_torch.
    """
    history = []
    for _ in tqdm(range(epochs), desc="epochs"):
        losses = [step(model, optimizer, x, y) for x, y in loader]
        row = {"train": torch.stack(losses).mean().item()}
        if valid is not None:
            with torch.no_grad():
                row["valid"] = loss_fn(model, *valid).item()
        history.append(row)
    return pd.DataFrame(history)
