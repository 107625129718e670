"""Byte-pair pieces of texts, and sequences of them. Needs NumPy and Grain."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import grain
import numpy as np

START = 0  # the token before a document: byte 0, which no text has
WORDS = re.compile(r" ?[^\W\d_]+| ?\d| ?[^\s\w]+|_|\s+")


class Pieces:
    """Byte-pair pieces: the bytes, and as many of the pairs that are most frequent in `texts` as make `size` of both.

    A text is worked on as a string of pieces: the character with the code point k stands for piece k. START stands
    between words, which no pair crosses.

    Raises:
      ValueError: fewer pieces than bytes, or more than a string can hold.
    Example: >>> Pieces(["a rose is a rose"], 258).encode(" rose").tolist()
    """

    def __init__(self, texts: Sequence[str], size: int):
        if not 256 <= size < 0xD800:
            raise ValueError(f"expected vocab from 256 to {0xD800 - 1}, got {size}; the 256 bytes come first")
        self.bytes, self.pairs = [bytes([i]) for i in range(256)], list[str]()
        words = Counter(word for text in texts for word in WORDS.findall(text))
        string, often = _string(words), np.array(list(words.values()))
        while len(self.bytes) < size:
            codes = _codes(string)
            weights = often[np.cumsum(codes == START)]
            inside = (codes[:-1] != START) & (codes[1:] != START)
            pairs, which = np.unique((codes[:-1] * size + codes[1:])[inside], return_inverse=True)
            if not len(pairs):
                break  # each word is a piece
            left, right = divmod(int(pairs[np.bincount(which, weights[:-1][inside]).argmax()]), size)
            self.pairs.append(chr(left) + chr(right))
            string = string.replace(self.pairs[-1], chr(len(self.bytes)))
            self.bytes.append(self.bytes[left] + self.bytes[right])

    def encode(self, text: str) -> np.ndarray:
        """The pieces of a text, (n,), int32."""
        string = _string(WORDS.findall(text))
        for piece, pair in enumerate(self.pairs, start=256):
            string = string.replace(pair, chr(piece))
        return _codes(string.replace(chr(START), "")).astype(np.int32)

    def decode(self, pieces: Sequence[int] | np.ndarray) -> str:
        """The text of pieces; bytes that are no UTF-8 become the replacement character."""
        return b"".join(self.bytes[piece] for piece in pieces).decode("utf-8", "replace")


def _string(words: Iterable[str]) -> str:
    return chr(START).join(words).encode().decode("latin-1")  # a byte, a character


def _codes(string: str) -> np.ndarray:
    return np.frombuffer(string.encode("utf-32-le"), np.uint32).astype(np.int64)


def sequences(tokens: np.ndarray, context: int, seed: int) -> grain.MapDataset:
    """The sequences of all steps, each (context + 1,), int32, shuffled anew in each epoch, without end.

    Step k takes those from k * batch on: what a step sees depends on its number alone, which a checkpoint holds, and
    not on how many processes read. Each process reads the rows of its own devices.

    Raises:
      ValueError: the text is shorter than a sequence.
    """
    if len(tokens) <= context:
        raise ValueError(f"expected more than {context} tokens, got {len(tokens)}; give --context a smaller value")
    windows = np.lib.stride_tricks.sliding_window_view(tokens, context + 1)[:: max(1, context // 4)]
    return grain.MapDataset.source(windows).seed(seed).shuffle().repeat()


def stream(texts: Sequence[str], pieces: Pieces) -> np.ndarray:
    """The tokens of texts, one after the other, each after START; (n,), int32."""
    return np.concatenate([np.append(np.int32(START), pieces.encode(text)) for text in texts])


def held_out(texts: Sequence[str], pieces: Pieces, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (n, context + 1), int32, and which of their last `context` tokens count, (n, context), bool.

    Each token of each text counts once, with at least half a context before it where the text has it.
    """
    rows, counted, stride = [], [], max(1, context // 2)
    for text in texts:
        tokens = np.append(np.int32(START), pieces.encode(text))
        for begin in range(0, max(1, len(tokens) - 1 - context + stride), stride):
            row, places = tokens[begin : begin + context + 1], np.arange(1, context + 1)
            rows.append(np.pad(row, (0, context + 1 - len(row))))
            counted.append((places < len(row)) & ((places > context - stride) | (begin == 0)))
    return np.stack(rows), np.stack(counted)
