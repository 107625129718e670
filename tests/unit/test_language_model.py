"""The language model's parts: options, sharding rules, pieces, sequences, the baseline, the step, the program."""

import csv
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from course.train import resumable
from examples.language_model import corpus, data, sharding, step, train
from examples.language_model.baseline import ngram_bits
from examples.language_model.config import Config, OptionError

SMALL = {"vocab": 270, "context": 8, "width": 16, "layers": 1, "heads": 2, "hidden": 16, "batch": 4, "warmup": 2}
TEXTS = ["a rose is a rose is a rose. " * 3, "no roses, two noses; é and ü.", "\n\n  x_1 = 10\n"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--widht", "3"], "did you mean --width"),
        (["width", "3"], "did you mean --width"),
        (["--qqq", "3"], "field of"),
        (["--width", "x"], "--width and int, got 'x'"),
        (["--width"], "got None"),
        (["--remat", "maybe"], "bool"),
        (["--heads", "3"], "heads=3"),
        (["--accumulate", "5"], "accumulate=5"),
        (["--dtype", "int8"], "float32, bfloat16"),
        (["--steps", "0"], "steps above 0"),
        (["--dropout", "1"], "dropout in"),
    ],
)
def test_a_bad_option_says_what_was_expected(options, words):
    with pytest.raises(OptionError, match=words):
        Config.from_options(options)


def test_options_set_fields():
    config = Config.from_options(["--remat", "--rate", "1e-2", "--weight-decay", "0", "--profile", "false"], steps=7)
    assert (config.remat, config.rate, config.weight_decay, config.profile, config.steps) == (True, 1e-2, 0, False, 7)


def test_a_bad_option_ends_the_program_with_2(capsys):
    assert train.main(["--stepz", "3"]) == 2
    assert "did you mean --steps" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["rows=1", "data", "data=0", "data=1,data=1", "data=7919"])
def test_a_bad_mesh_is_refused(text):
    with pytest.raises(sharding.MeshError, match="expected"):
        sharding.make_mesh(text)


def test_every_matrix_has_a_rule():
    state = jax.eval_shape(lambda: step.init(Config(**SMALL)))
    mesh = jax.sharding.AbstractMesh((2, 2), ("fsdp", "tensor"))
    for path, leaf in jax.tree.leaves_with_path(state):
        name = "/".join(str(part.key) for part in path if hasattr(part, "key"))
        assert bool(sharding.spec(name, mesh)) == (leaf.ndim > 1), name
    with pytest.raises(sharding.MeshError, match="divide"):
        sharding.checked("up/kernel", (16, 15), mesh)


def test_pieces_give_the_text_back():
    pieces = data.Pieces(TEXTS, 270)
    assert len(pieces.bytes) == 270 and b" rose" in pieces.bytes
    for text in [*TEXTS, "unseen: 東京 _ \t end", ""]:
        assert pieces.decode(pieces.encode(text)) == text
    assert len(pieces.encode(TEXTS[0])) < len(TEXTS[0]) / 2
    few = data.Pieces(["aaaaa b"], 500)  # there are not so many pairs
    assert [few.bytes[piece] for piece in few.encode("aaaaa b")] == [b"aaaaa", b" b"] and len(few.bytes) < 262
    for size in (100, 60_000):
        with pytest.raises(ValueError, match=r"256 to 55295, got .*; the 256 bytes"):
            data.Pieces(TEXTS, size)


@pytest.mark.parametrize("context", [1, 7, 8])
def test_held_out_counts_each_token_once(context):
    pieces = data.Pieces(TEXTS, 256)
    rows, counted = data.held_out(TEXTS, pieces, context)
    wanted = Counter(token for text in TEXTS for token in pieces.encode(text).tolist())
    assert Counter(rows[:, 1:][counted].tolist()) == wanted
    assert rows.shape[1] == context + 1 and counted.shape == (len(rows), context)


def test_sequences_are_shuffled_anew_in_each_epoch():
    tokens = np.arange(100, dtype=np.int32)
    sequences, count = data.sequences(tokens, 8, seed=0), 46  # from every second place on
    epochs = [[int(sequences[e * count + i][0]) for i in range(count)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(0, 92, 2)) and epochs[0] != epochs[1]
    assert (np.diff(sequences[3]) == 1).all() and sequences[3].shape == (9,)
    with pytest.raises(ValueError, match="more than 200"):
        data.sequences(tokens, 200, seed=0)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_ngram_is_a_distribution(order):
    """Bits of one byte after a text, over all 256 bytes: the probabilities add up to 1."""
    texts, begin = ["abracadabra abba", "barbara"], "abr"
    before = ngram_bits(texts, [begin], order) * len(begin)
    # a character above 127 is two bytes: each byte that may follow is tried as a character below 128, the rest as one
    bits = [ngram_bits(texts, [begin + chr(i)], order) * (len(begin) + 1) - before for i in range(128)]
    unseen = bits[1]  # no text has it, nor one of the bytes from 128 on
    assert sum(2.0**-b for b in bits) + 128 * 2.0**-unseen == pytest.approx(1, abs=1e-9)
    assert ngram_bits(texts, texts, 5) < ngram_bits(texts, texts, 1)
    with pytest.raises(ValueError, match="order"):
        ngram_bits(texts, texts, 8)


def test_the_course_has_a_text():
    texts = corpus.documents()
    learn, test = corpus.split(texts)
    assert {"README.md", "course/timing.py", "notebooks/src/08_tracing.py"} <= set(texts)
    assert len(learn) + len(test) == len(texts) and 0.02 < sum(map(len, test)) / sum(map(len, learn)) < 0.2
    assert "import jax" not in texts["notebooks/src/08_tracing.py"]


def test_accumulation_and_remat_change_no_number():
    rng, results = np.random.default_rng(0), []
    tokens = rng.integers(0, 270, (4, 9), np.int32)
    for options in ({}, {"accumulate": 2, "remat": True}):
        config = Config(**SMALL, **options)
        state, run = step.init(config), jax.jit(step.make_step(config))
        for _ in range(3):
            state, metrics = run(state, tokens)
        results.append((metrics["loss"], state.ema))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), *results)


def test_bfloat16_keeps_float32_parameters():
    config = Config(**SMALL, dtype="bfloat16", dropout=0.1)
    tokens = jax.ShapeDtypeStruct((4, 9), jnp.int32)
    before = jax.eval_shape(lambda: step.init(config))
    after, metrics = jax.eval_shape(step.make_step(config), before, tokens)
    assert [x.dtype for x in jax.tree.leaves(before)] == [x.dtype for x in jax.tree.leaves(after)]
    assert {p.dtype for p in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}
    assert metrics["loss"].dtype == jnp.float32


@pytest.mark.slow
def test_a_stopped_run_ends_as_one_that_was_not(tmp_path, monkeypatch, capsys):
    words = [f"{a} {b} {c}. " for a in ("one", "two", "six") for b in ("red", "old") for c in ("roses", "noses")]
    monkeypatch.setattr(corpus, "documents", lambda: {f"{i}.md": word * 9 for i, word in enumerate(words * 2)})
    options = [f"--{name}={value}" for name, value in SMALL.items()]
    options = [part for option in options for part in option.split("=")]
    options += ["--steps", "6", "--evaluate_every", "3", "--dropout", "0.1", "--save_every", "0"]
    assert train.main([*options, "--folder", str(tmp_path / "whole")]) == 0
    whole = capsys.readouterr().out

    after = resumable.Run.after

    def stopped_at_4(run, number, state):
        after(run, number, state)
        if number == 4:
            raise resumable.StoppedError(number)

    monkeypatch.setattr(resumable.Run, "after", stopped_at_4)
    assert train.main([*options, "--folder", str(tmp_path / "parts")]) == 130
    monkeypatch.setattr(resumable.Run, "after", after)
    capsys.readouterr()
    assert train.main([*options, "--folder", str(tmp_path / "parts")]) == 0
    parts = capsys.readouterr().out
    assert parts.split("step 6:")[1] == whole.split("step 6:")[1]  # loss, sample, bits
    tables = [
        list(csv.DictReader((tmp_path / name / "metrics.csv").read_text().splitlines())) for name in ("whole", "parts")
    ]
    assert [{**row, "tokens_per_second": ""} for row in tables[0]] == [
        {**row, "tokens_per_second": ""} for row in tables[1]
    ]
    assert train.main([*options, "--steps", "7", "--folder", str(tmp_path / "parts")]) == 1
    assert "steps: 6 there, 7 here" in capsys.readouterr().err


def test_the_program_stays_short():
    """Lines that are not blank, docstrings and comments among them."""
    names = ("config", "data", "model", "sharding", "step", "train")
    files = [corpus.ROOT / "examples" / "language_model" / f"{name}.py" for name in names]
    lines = sum(bool(line.strip()) for file in files for line in file.read_text("utf-8").splitlines())
    assert 400 < lines < 600, lines
