"""The text, its pieces, batches of it, and the baseline that a model has to beat. Needs NumPy and Grain.

The text is the course's own: what lessons, exercises and pages say, and the docstrings of the package. It is read from
the repository each time, in the order of paths, so that all processes have the same.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import grain
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
START = 0  # the token before a document: byte 0, which no text has
WORDS = re.compile(r" ?[^\W\d_]+| ?\d| ?[^\s\w]+|_|\s+")


def documents(root: Path = ROOT) -> dict[str, str]:
    """The course's text by path: prose of the lessons' sources, pages, docstrings.

    Raises:
      FileNotFoundError: the folder is none of the repository.
    """
    texts = {path: (root / path).read_text("utf-8") for path in ("README.md", "CONTRIBUTING.md", "TEACHING.md")}
    for file in sorted((root / "notebooks" / "src").rglob("*.py")):
        cells = re.split(r"^# %%", file.read_text("utf-8"), flags=re.MULTILINE)
        prose = (cell.partition("\n")[2] for cell in cells if cell.startswith(" [markdown]"))
        texts[file.relative_to(root).as_posix()] = re.sub("^# ?", "", "\n".join(prose), flags=re.MULTILINE)
    for file in sorted((root / "course").rglob("*.py")):
        nodes = ast.walk(ast.parse(file.read_text("utf-8")))
        documented = ast.Module, ast.ClassDef, ast.FunctionDef
        strings = [ast.get_docstring(node) for node in nodes if isinstance(node, documented)]
        texts[file.relative_to(root).as_posix()] = "\n\n".join(filter(None, strings))
    return {path: text for path, text in texts.items() if text.strip()}


def split(texts: dict[str, str]) -> tuple[list[str], list[str]]:
    """Documents to train on, and every tenth or so, by its name's hash, held out. A lesson and its exercises, which
    speak of the same, have one name."""
    parts: tuple[list[str], list[str]] = [], []
    for path, text in texts.items():
        parts[hashlib.sha256(Path(path).stem.encode()).digest()[0] % 10 == 0].append(text)
    return parts


class Pieces:
    """Byte-pair pieces: the bytes, and as many of the pairs that are most frequent in `texts` as make `size` of both.

    Raises:
      ValueError: fewer pieces than bytes.
    Example: >>> Pieces(["a rose is a rose"], 258).encode(" rose").tolist()
    """

    def __init__(self, texts: Sequence[str], size: int):
        if size < 256:
            raise ValueError(f"expected vocab of at least 256, got {size}; the 256 bytes come first")
        self.bytes = [bytes([i]) for i in range(256)]
        self.ranks: dict[tuple[int, int], int] = {}
        counts = Counter(word for text in texts for word in WORDS.findall(text))
        words = [list(word.encode()) for word in counts]
        pairs: Counter[tuple[int, int]] = Counter()
        where: dict[tuple[int, int], set[int]] = {}
        for i, (word, count) in enumerate(zip(words, counts.values(), strict=True)):
            for pair in pairwise(word):
                pairs[pair] += count
                where.setdefault(pair, set()).add(i)
        frequencies = list(counts.values())
        while len(self.bytes) < size and pairs:
            best = max(pairs, key=pairs.__getitem__)  # of several the one that was met first
            new = len(self.bytes)
            self.ranks[best] = new
            self.bytes.append(self.bytes[best[0]] + self.bytes[best[1]])
            for i in sorted(where.pop(best)):
                for pair in pairwise(words[i]):
                    pairs[pair] -= frequencies[i]
                words[i] = _merged(words[i], best, new)
                for pair in pairwise(words[i]):
                    pairs[pair] += frequencies[i]
                    where.setdefault(pair, set()).add(i)
            pairs.pop(best, None)
        self._word = cache(self._encode_word)

    def encode(self, text: str) -> np.ndarray:
        """The pieces of a text, (n,), int32."""
        return np.array([piece for word in WORDS.findall(text) for piece in self._word(word)], np.int32)

    def decode(self, pieces: Sequence[int] | np.ndarray) -> str:
        """The text of pieces; bytes that are no UTF-8 become the replacement character."""
        return b"".join(self.bytes[piece] for piece in pieces).decode("utf-8", "replace")

    def _encode_word(self, word: str) -> list[int]:
        pieces = list(word.encode())
        while len(pieces) > 1:
            best = min(pairwise(pieces), key=lambda pair: self.ranks.get(pair, len(self.bytes)))
            if best not in self.ranks:
                break
            pieces = _merged(pieces, best, self.ranks[best])
        return pieces


def _merged(pieces: list[int], pair: tuple[int, int], new: int) -> list[int]:
    out: list[int] = []
    for piece in pieces:
        if out and (out[-1], piece) == pair:
            out[-1] = new
        else:
            out.append(piece)
    return out


class Windows:
    """Sequences of length + 1 tokens from every `stride`-th place on, as Grain reads them."""

    def __init__(self, tokens: np.ndarray, length: int, stride: int):
        self.tokens, self.length, self.stride = tokens, length, stride

    def __len__(self) -> int:
        return max(0, (len(self.tokens) - self.length - 1) // self.stride + 1)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.tokens[i * self.stride :][: self.length + 1]


def sequences(tokens: np.ndarray, context: int, seed: int) -> grain.MapDataset:
    """The sequences of all steps, each (context + 1,), int32, shuffled anew in each epoch, without end.

    Step k takes those from k * batch on: what a step sees depends on its number alone, which a checkpoint holds, and
    not on how many processes read. Each process reads the rows of its own devices.

    Raises:
      ValueError: the text is shorter than a sequence.
    """
    windows = Windows(tokens, context, max(1, context // 4))
    if not len(windows):
        raise ValueError(f"expected more than {context} tokens, got {len(tokens)}; give --context a smaller value")
    return grain.MapDataset.source(windows).seed(seed).shuffle().repeat()


def stream(texts: Sequence[str], pieces: Pieces) -> np.ndarray:
    """The tokens of texts, one after the other, each after START; (n,), int32."""
    return np.concatenate([np.append(np.int32(START), pieces.encode(text)) for text in texts])


def held_out(texts: Sequence[str], pieces: Pieces, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (n, context + 1), int32, and which of their last `context` tokens count, (n, context), bool.

    Each token of each text counts once, with at least half a context before it where the text has it.
    """
    rows, counted, half = [], [], context // 2
    for text in texts:
        tokens = np.append(np.int32(START), pieces.encode(text))
        done = 1
        while done < len(tokens):
            begin = max(0, done - 1 - half)
            row = tokens[begin : begin + context + 1]
            places = np.arange(1, context + 1) + begin
            rows.append(np.pad(row, (0, context + 1 - len(row))))
            counted.append((places >= done) & (places < len(tokens)))
            done = begin + len(row)
    return np.stack(rows), np.stack(counted)


def ngram_bits(train: Sequence[str], test: Sequence[str], order: int = 5) -> float:
    """Bits a character of an n-gram model on `test`: bytes, interpolated Kneser-Ney (Chen and Goodman 1998).

    Each order takes a discount n1 / (n1 + 2 n2) from its counts and gives it to the order below, whose counts are of
    distinct bytes before; below the first stands 1/256.
    """
    if not 1 <= order <= 7:
        raise ValueError(f"expected an order from 1 to 7, got {order}; grams are kept in 64 bits")
    seen, asked = (_grams(texts, order) for texts in (train, test))
    probability = np.full(len(asked), 1 / 256)
    levels, (grams, counts) = [], np.unique(seen, return_counts=True)
    for n in range(order, 0, -1):
        levels.append((n, grams, counts))
        grams, counts = np.unique(grams & np.uint64(256 ** (n - 1) - 1), return_counts=True)
    for n, grams, counts in reversed(levels):
        contexts, inverse = np.unique(grams >> np.uint64(8), return_inverse=True)
        total, kinds = np.bincount(inverse, counts), np.bincount(inverse)
        ones, twos = (counts == 1).sum(), (counts == 2).sum()
        discount = ones / (ones + 2 * twos) if ones else 0.0
        gram = asked & np.uint64(256**n - 1)
        count, of_context = _found(grams, counts, gram), _found(contexts, total, gram >> np.uint64(8))
        known = of_context > 0
        left = np.maximum(count - discount, 0) + discount * _found(contexts, kinds, gram >> np.uint64(8)) * probability
        probability = np.where(known, left / np.where(known, of_context, 1), probability)
    return float(-np.log2(probability).sum() / sum(map(len, test)))


def _grams(texts: Sequence[str], order: int) -> np.ndarray:
    """Each byte with those before it as one number, the newest byte lowest; START stands before a text."""
    all_grams = []
    for text in texts:
        padded = np.frombuffer(bytes([START] * (order - 1)) + text.encode(), np.uint8).astype(np.uint64)
        count = len(padded) - order + 1
        all_grams.append(sum(padded[k : k + count] << np.uint64(8 * (order - 1 - k)) for k in range(order)))
    return np.concatenate(all_grams)


def _found(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The values of wanted keys, 0 where there is none; `keys` is sorted."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
