"""A PyTorch program that reads sentences of unlike length: packed input, an LSTM both ways. Needs NumPy and torch.

The same definitions stand in the capstone's notebook. Lesson: 07b_real_checkpoint.
"""

# ruff: noqa
# mypy: ignore-errors
import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

GOOD, BAD, NOT = range(12, 16), range(16, 19), 19  # 1 to 11 say nothing, 0 is the padding


def mood(sentence):  # 0, 1 or 2: more bad words than good ones, as many, or fewer
    score, sign = 0, 1
    for word in sentence:
        score += sign * ((word in GOOD) - (word in BAD))
        sign = -1 if word == NOT else 1  # "not" turns the next word around
    return 1 + (score > 0) - (score < 0)


def reviews(seed, count):
    rng = np.random.default_rng(seed)
    sentences = [rng.integers(1, 20, length) for length in rng.integers(3, 13, count)]
    return sentences, np.array([mood(sentence) for sentence in sentences])


class TorchReader(torch.nn.Module):
    def __init__(self, words, width, hidden, classes):
        super().__init__()
        self.embed = torch.nn.Embedding(words, width, padding_idx=0)
        self.rnn = torch.nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.out = torch.nn.Linear(2 * hidden, classes)

    def forward(self, tokens, lengths):  # (B, T), (B,) -> (B, classes)
        x = pack_padded_sequence(self.embed(tokens), lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.rnn(x)  # h: (2, B, hidden), what the two directions know in the end
        return self.out(torch.cat([h[0], h[1]], dim=1))


def torch_batches(sentences, labels, size):
    for start in range(0, len(sentences), size):
        part = [torch.from_numpy(sentence) for sentence in sentences[start : start + size]]
        lengths = torch.tensor([len(sentence) for sentence in part])
        yield pad_sequence(part, batch_first=True), lengths, torch.from_numpy(labels[start : start + size])


def torch_fit(model, sentences, labels, size, epochs):  # -> the loss of every step
    sgd, losses = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9), []
    for _ in range(epochs):
        for tokens, lengths, targets in torch_batches(sentences, labels, size):
            sgd.zero_grad()
            loss = F.cross_entropy(model(tokens, lengths), targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            sgd.step()
            losses.append(loss.item())
    return losses


@torch.no_grad()
def torch_accuracy(model, sentences, labels, size):
    right = 0
    for tokens, lengths, targets in torch_batches(sentences, labels, size):
        right += (model(tokens, lengths).argmax(dim=1) == targets).sum().item()
    return right / len(sentences)
