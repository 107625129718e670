# mypy: allow-untyped-defs, allow-untyped-calls
"""A vibrating beam by a physics-informed network in PyTorch. Needs torch and NumPy.

Lesson: 20_high_order_pdes.
"""

from __future__ import annotations

import numpy as np
import torch

STIFFNESS = (2 / np.pi**2) ** 2  # u = sin(pi x) cos(2 t) solves u_tt + STIFFNESS u_xxxx = 0


class BeamNet(torch.nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.first = torch.nn.Linear(2, width)
        self.second = torch.nn.Linear(width, width)
        self.last = torch.nn.Linear(width, 1, bias=False)
        self.double()

    def forward(self, points):  # (n, 2), columns t and x
        z = torch.tanh(self.first(2 * points - 1))
        z = z + torch.tanh(self.second(z))
        return self.last(z)  # (n, 1)


def slope_torch(values, points, column):
    return torch.autograd.grad(values.sum(), points, create_graph=True)[0][:, [column]]


def beam_residual_torch(model, points):
    points = points.clone().requires_grad_()
    u = model(points)
    u_tt = slope_torch(slope_torch(u, points, 0), points, 0)
    u_xx = slope_torch(slope_torch(u, points, 1), points, 1)
    u_xxxx = slope_torch(slope_torch(u_xx, points, 1), points, 1)
    return u_tt + STIFFNESS * u_xxxx


def beam_loss_torch(model, inside, start, ends):
    start, ends = start.clone().requires_grad_(), ends.clone().requires_grad_()
    u_start, u_ends = model(start), model(ends)
    u_t = slope_torch(u_start, start, 0)
    u_xx = slope_torch(slope_torch(u_ends, ends, 1), ends, 1)
    at_start = (u_start - torch.sin(torch.pi * start[:, [1]])) ** 2 + u_t**2
    at_ends = u_ends**2 + 0.1 * u_xx**2  # hinged: no deflection, no bending
    return (beam_residual_torch(model, inside) ** 2).mean() + 10 * at_start.mean() + 5 * at_ends.mean()


def draw_points(steps, n, seed):
    generator = torch.Generator().manual_seed(seed)
    inside, start, ends = (
        torch.rand(steps, m, 2, generator=generator, dtype=torch.float64) for m in (n, n // 4, n // 4)
    )
    start[..., 0] = 0  # t
    ends[..., 1] = (ends[..., 1] > 0.5).double()  # x
    return inside, start, ends


def train_torch(model, points):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.95)
    losses = []
    for inside, start, ends in zip(*points, strict=True):
        optimizer.zero_grad()
        loss = beam_loss_torch(model, inside, start, ends)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


def beam_error_torch(model):
    grid = torch.linspace(0, 1, 41, dtype=torch.float64)
    t, x = torch.meshgrid(grid, grid, indexing="ij")
    exact = torch.sin(torch.pi * x) * torch.cos(2 * t)
    with torch.no_grad():
        found = model(torch.stack([t, x], dim=-1).reshape(-1, 2)).reshape(41, 41)
    return float(torch.linalg.norm(found - exact) / torch.linalg.norm(exact))
