# mypy: allow-untyped-defs, allow-untyped-calls
"""A classifier of digits in PyTorch, with augmentation and BatchNorm. Needs torch.

The same definitions stand in the capstone's notebook. Lesson: 05b_checkpoints.
"""

import torch


class DigitNetTorch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8 * 4 * 4, 10)

    def forward(self, x):  # (n, 1, 8, 8)
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.nn.functional.max_pool2d(x, 2)
        return self.head(x.flatten(1))


def augment_torch(images, flips, shifts):  # (n, 1, 8, 8), (n,) bool, (n, 2) of 0, 1, 2
    images = torch.where(flips[:, None, None, None], images.flip(3), images)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    rows = [image[:, i : i + 8, j : j + 8] for image, (i, j) in zip(padded, shifts.tolist(), strict=True)]
    return torch.stack(rows)


def train_torch(model, x, y, batches, flips, shifts):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    losses = []
    model.train()
    for rows, flip, shift in zip(batches, flips, shifts, strict=True):
        optimizer.zero_grad()
        logits = model(augment_torch(x[rows], flip, shift))
        loss = torch.nn.functional.cross_entropy(logits, y[rows], label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def accuracy_torch(model, x, y):
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(1) == y).double().mean().item()
