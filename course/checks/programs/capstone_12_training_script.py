"""A PyTorch training script: autocast, accumulated gradients, clipping, warm-up, resume. Needs NumPy and torch.

The same definitions stand in the capstone's notebook. Lesson: 12_tracing_paper.
"""

# ruff: noqa
# mypy: ignore-errors
import numpy as np
import torch
import torch.nn.functional as F

SIZE, PARTS, RATE, WARMUP, LIMIT, SMOOTHING = 16, 4, 3e-2, 4, 1.0, 0.1


def rows_of(step, count):  # the data's order follows from the step's number, so that a run can go on anywhere
    return np.random.default_rng(step).permutation(count)[: PARTS * SIZE].reshape(PARTS, SIZE)


class TorchNet(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = torch.nn.Linear(64, width)
        self.norm = torch.nn.LayerNorm(width)
        self.out = torch.nn.Linear(width, 10)

    def forward(self, x):
        return self.out(F.gelu(self.norm(self.inner(x))))


def torch_gradients(model, x, y, half):  # (PARTS, SIZE, 64), (PARTS, SIZE) -> the mean loss
    total = 0.0
    for part_x, part_y in zip(x, y, strict=True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = F.cross_entropy(model(part_x), part_y, label_smoothing=SMOOTHING) / len(x)
        loss.backward()  # adds to .grad
        total += loss.item()
    return total


def torch_optimizer(model, rate, warmup):
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1]},  # with AdamW's default decay
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, rate)
    return adamw, torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: min(1.0, (step + 1) / warmup))


def torch_fit(model, x, y, path, until, half=True):
    adamw, schedule = torch_optimizer(model, RATE, WARMUP)
    start, losses = 0, []
    if path.exists():
        saved = torch.load(path)
        start = saved["steps"]
        for part, name in (model, "model"), (adamw, "adamw"), (schedule, "schedule"):
            part.load_state_dict(saved[name])
    for step in range(start, until):
        rows = rows_of(step, len(x))
        adamw.zero_grad()
        losses.append(torch_gradients(model, x[rows], y[rows], half))
        torch.nn.utils.clip_grad_norm_(model.parameters(), LIMIT)
        adamw.step()
        schedule.step()
        states = {"model": model.state_dict(), "adamw": adamw.state_dict(), "schedule": schedule.state_dict()}
        torch.save({"steps": step + 1, **states}, path)
    return losses
