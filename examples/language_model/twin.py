"""The same model in PyTorch, layer by layer, and its training step. Needs PyTorch, NumPy and optax.

`course.porting.torch_to_nnx(twin, model)` and `nnx_to_torch(model, twin)` carry the weights: all layers have the same
paths. Lesson: 07_porting_checkpoints.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from examples.language_model.config import Config
from examples.language_model.model import rotary
from examples.language_model.step import schedule


def rotate(x: torch.Tensor) -> torch.Tensor:
    """Queries or keys x (batch, heads, length, size), turned by their positions."""
    cos, sin = (torch.as_tensor(table, dtype=x.dtype)[:, 0] for table in rotary(x.shape[2], x.shape[3]))
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


class Block(nn.Module):
    """Attention to the tokens before, then an MLP, each added to its input."""

    def __init__(self, config: Config):
        super().__init__()
        width, hidden = config.width, config.hidden
        self.heads = config.heads
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (batch, length, width) to the same."""
        y = self.attention_norm(x)
        query, key, value = (
            part(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(rotate(query), rotate(key), value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))  # flax's gelu


class GPT(nn.Module):
    """Tokens (batch, length), int64, to the logits (batch, length, vocab) of the ones that follow."""

    def __init__(self, config: Config):
        super().__init__()
        self.embed = nn.Embedding(config.vocab, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=1e-6)
        self.head = nn.Linear(config.width, config.vocab, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of every position."""
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def losses(twin: GPT, config: Config, batches: list[np.ndarray]) -> list[float]:
    """Train the twin as `step.make_step` does, without dropout; the loss of each batch (batch, context + 1).

    The schedule is optax's own function, so that only model, loss, clipping and AdamW are compared.
    """
    matrices = [p for p in twin.parameters() if p.ndim > 1]
    scales = [p for p in twin.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": scales, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.95), eps=1e-8)
    rule, found = schedule(config), []
    for number, batch in enumerate(batches):
        tokens = torch.as_tensor(batch, dtype=torch.int64)
        loss = F.cross_entropy(twin(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        grads = [p.grad for p in twin.parameters() if p.grad is not None]
        norm = torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()
        if norm >= config.clip:  # clip_grad_norm_ divides by norm + 1e-6; optax by the norm
            for grad in grads:
                grad *= config.clip / norm
        for group in optimizer.param_groups:
            group["lr"] = np.asarray(rule(number)).item()
        optimizer.step()
        found.append(loss.item())
    return found
