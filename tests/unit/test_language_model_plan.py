"""The plan of a step: what is read from a program, formulas against XLA, the roofline by hand, bad input."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import language_model_plan
from examples.language_model import plan
from examples.language_model.config import Config, OptionError
from examples.language_model.plan import ACCELERATORS, Operation, Program

ROOT = Path(__file__).parents[2]

PARTITIONED = """
HloModule jit_step

%body.1 (p: (f32[])) -> (f32[]) {
  %a = bf16[8,16]{1,0} parameter(0)
  %b = bf16[16,4]{1,0} parameter(1)
  %dot.1 = bf16[8,4]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %all-gather.1 = bf16[64]{0} all-gather(%x), channel_id=1, replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}
  %all-reduce.1 = f32[8]{0} all-reduce(%x), channel_id=2, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
  %dynamic-slice.1 = f32[4]{0} dynamic-slice(%all-reduce.1, %i), dynamic_slice_sizes={4}
  %all-reduce.2 = f32[8]{0} all-reduce(%x), channel_id=3, replica_groups=mesh['a'=4,'b'=2] {'a'}, to_apply=%add
  %dynamic-slice.2 = f32[4]{0} dynamic-slice(%all-reduce.2, %i), dynamic_slice_sizes={4}
  %add.2 = f32[8]{0} add(%all-reduce.2, %x)
  %collective-permute.1 = s32[6]{0} collective-permute(%x), channel_id=4, source_target_pairs={{0,0},{1,3},{3,1}}
  %while.1 = (f32[]) while(%x), condition=%cond.1, body=%body.1
  ROOT %out = f32[4]{0} copy(%x)
}
"""


def test_products_and_collectives_are_read_from_the_partitioned_program():
    assert plan.operations(PARTITIONED, turns=3) == {
        Operation("dot", 2 * (8 * 16 + 16 * 4 + 8 * 4), 2 * 8 * 4 * 16): 3,
        Operation("all-gather", 128, group=(0, 2, 4, 6)): 1,
        Operation("reduce-scatter", 32, group=(0, 1)): 1,  # an all-reduce of which only slices are used
        Operation("all-reduce", 32, group=(0, 2, 4, 6)): 1,
        Operation("collective-permute", 24, group=(1, 3)): 1,
    }


def test_what_each_layer_adds_is_added():
    dot, sent = Operation("dot", 10, 20), Operation("all-reduce", 5, group=(0, 1))
    few, more = Program({dot: 3, sent: 1}, 100.0, 50.0, 60.0), Program({dot: 5, sent: 1}, 110.0, 53.0, 100.0)
    assert plan.extrapolate(few, more, 10) == Program({dot: 23, sent: 1}, 200.0, 80.0, 460.0)


def test_the_roofline_by_hand():
    h100 = ACCELERATORS["h100"]
    assert plan.seconds_of(Operation("dot", 1, 989_400_000_000), h100) == pytest.approx(1e-3)  # computing is longer
    assert plan.seconds_of(Operation("dot", 3_350_000_000, 1), h100) == pytest.approx(1e-3)  # memory is
    near, nodes = tuple(range(8)), tuple(range(0, 256, 8))
    # 450 GB over NVLink among 8: a ring sends 7/8 of it in a second, an all-reduce twice that
    assert plan.seconds_of(Operation("all-gather", 450_000_000_000, group=near), h100) == pytest.approx(7 / 8)
    assert plan.seconds_of(Operation("all-reduce", 450_000_000_000, group=near), h100) == pytest.approx(7 / 4)
    # one GPU of each of 32 nodes: its adapter's 50 GB/s; all 256: the eight adapters of each node
    assert plan.seconds_of(Operation("reduce-scatter", 50_000_000_000, group=nodes), h100) == pytest.approx(31 / 32)
    everyone = Operation("all-gather", 400_000_000_000, group=tuple(range(256)))
    assert plan.seconds_of(everyone, h100) == pytest.approx(255 / 256)
    assert plan.seconds_of(Operation("collective-permute", 450_000_000_000, group=(0, 1)), h100) == pytest.approx(1)


def test_a_row_of_the_roofline_by_hand():
    config, mesh = Config(batch=32, context=64), SimpleNamespace(size=16, axis_names=("data", "tensor"))
    mesh.devices = SimpleNamespace(shape=(2, 8))
    operations = {
        Operation("dot", 1, 989_400_000_000): 3,  # 1 ms each
        Operation("all-gather", 450_000_000, group=tuple(range(8))): 2,  # 7/8 ms each
        Operation("all-reduce", 50_000_000, group=(0, 8)): 1,  # 1 ms
    }
    state = {"parameters": 0.4e9, "moving average": 0.4e9, "optimizer": 0.675e9, "gradients": 0.4e9, "activations": 1e9}
    row = plan.roofline(Program(operations, 0, 0, 0), config, mesh, "h100", state)
    sizes = {"products ms": 3, "optimizer ms": 1, "sent on tensor ms": 1.75, "sent on data, fsdp ms": 1}
    sizes |= {"overlapped ms": 4, "one after the other ms": 6.75, "share of memory": 2.875 / 80}
    assert {name: row[name] for name in sizes} == pytest.approx(sizes)
    assert row["tokens/s"] == pytest.approx(32 * 64 / 6.75e-3)
    assert row["MFU"] == pytest.approx(plan.flops(config) / (16 * 989.4e12 * 6.75e-3))


@pytest.mark.parametrize("text", ["350M", "1B", "8B", "1.5e9", "70B"])
def test_a_model_of_about_so_many_parameters(text):
    wanted = plan.parse_parameters(text)
    shape = plan.shape_of(wanted, 32768)
    got = shape["layers"] * 12 * shape["width"] ** 2 + 2 * 32768 * shape["width"]
    assert math.isclose(got, wanted, rel_tol=0.05) and shape["width"] == 128 * shape["heads"]


@pytest.mark.parametrize("text", ["", "big", "-1B", "0", "1 B", "1X", "B"])
def test_what_is_no_number_of_parameters_is_refused(text):
    with pytest.raises(OptionError, match=r"expected a number of parameters, got .*; write --params 1B"):
        plan.parse_parameters(text)


def test_fewer_parameters_than_embeddings_take_are_refused():
    with pytest.raises(OptionError, match=r"expected --params above .*, got 1,000; ask for more"):
        plan.shape_of(1000, 32768)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--params 1B --mesh data=32,tensor=8 --accelerator h101", "expected accelerators among a100, .*'h101'; take"),
        ("--params one --mesh data=2", "expected a number of parameters, got 'one'; write"),
        ("--params 1B --mesh data=2 --widht 256", "got '--widht'; did you mean --width"),
        ("--params 1B --mesh data=2 --batch many", "expected --batch and int, got 'many'; write"),
        ("--params 1B --mesh data=2 --vocab many", "expected --vocab and int, got 'many'; write"),
        ("--params 1B --mesh data=1000000", "expected at most 4096 devices, got 1000000; take"),
    ],
)
def test_bad_options_are_named_and_the_exit_code_is_2(options, message, capsys):
    assert plan.main(options.split()) == 2
    printed = capsys.readouterr()
    assert not printed.out and re.search(message, printed.err), printed.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--params 1B --mesh dat=2", "expected axes among data .*, got 'dat=2'"),
        ("--params 1B --mesh data=two", "expected axes among data .*, got 'data=two'"),
        ("--params 1B --mesh tensor=5", "expected heads that tensor=5 divides, got 16; take"),
        ("--params 1B --mesh data=3 --batch 16", "expected tokens .* to divide by .*'data': 3.*; take another mesh"),
    ],
)
def test_a_mesh_that_does_not_fit_is_named_and_the_exit_code_is_2(options, message):
    command = [sys.executable, "-m", "examples.language_model.plan", *options.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout and done.stderr.count("\n") == 1
    assert re.search(message, done.stderr), done.stderr


MEASURE = """
import dataclasses, json, sys
import jax, jax.numpy as jnp
jax.config.update("jax_num_cpu_devices", 4)
from jax.sharding import NamedSharding, PartitionSpec
from course.sharding import collectives
from examples.language_model import plan, sharding
from examples.language_model.config import Config

mesh = sharding.make_mesh("fsdp=2,tensor=2")
config = Config(vocab=256, context=64, width=64, heads=2, hidden=256, layers=1, batch=8, remat=True)
few, more, three = (plan.compile_step(dataclasses.replace(config, layers=n), mesh) for n in (1, 2, 3))
assert not jax.live_arrays()
guess = plan.extrapolate(few, more, 2)
used = plan.memory(dataclasses.replace(config, layers=3), mesh)

x = jax.ShapeDtypeStruct((8, 16), "float32", sharding=NamedSharding(mesh, PartitionSpec("fsdp", "tensor")))
w = jax.ShapeDtypeStruct((16, 8), "float32", sharding=NamedSharding(mesh, PartitionSpec("tensor")))
compiled = jax.jit(lambda x, w: (x @ w).sum(0)).lower(x, w).compile()
theirs = {(row.kind, row.devices): (row.count, row.bytes) for row in collectives(compiled).itertuples()}
ours = {}
for one, count in plan.operations(compiled.as_text()).items():
    if one.kind != "dot":
        total = ours.get((one.kind, len(one.group)), (0, 0))
        ours[one.kind, len(one.group)] = (total[0] + count, total[1] + count * one.bytes)
accumulated = plan.compile_step(dataclasses.replace(config, accumulate=2), mesh)

json.dump({
    "same operations": guess.operations == three.operations,
    "products": sum(one.flops * count for one, count in three.operations.items()),
    "twice": [sum(one.flops * count for one, count in p.operations.items()) for p in (few, accumulated)],
    "formula": plan.flops(dataclasses.replace(config, layers=3), again=True) / 4,
    "XLA": three.flops, "arguments": three.arguments, "temporaries": [three.temporaries, guess.temporaries],
    "guessed arguments": guess.arguments, "memory": used, "ours": sorted(map(str, ours.items())),
    "theirs": sorted(map(str, theirs.items())),
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def measured():
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_layers_that_are_counted_are_those_that_are_compiled(measured):
    assert measured["same operations"]
    assert measured["guessed arguments"] == measured["arguments"]


@pytest.mark.slow
def test_the_formula_of_products_is_exact_and_xla_counts_little_more(measured):
    assert measured["products"] == measured["formula"]
    assert measured["products"] < measured["XLA"] < 1.25 * measured["products"]  # elementwise operations; it was 1.06


@pytest.mark.slow
def test_a_batch_in_two_parts_takes_the_same_products(measured):
    once, twice = measured["twice"]
    assert once == twice


@pytest.mark.slow
def test_the_formula_of_the_state_is_exact_and_that_of_the_rest_below_the_plan(measured):
    used = measured["memory"]
    state = used["parameters"] + used["moving average"] + used["optimizer"]
    tokens, step_and_key = 4 * 65 * 4, 4 + 8
    assert measured["arguments"] == state + tokens + step_and_key
    rest = used["gradients"] + used["activations"]
    assert rest < measured["temporaries"][0] < 6 * rest  # it was 3.6


@pytest.mark.slow
def test_collectives_are_those_of_course_sharding(measured):
    assert measured["ours"] == measured["theirs"] and measured["ours"]


def test_the_page_shows_the_published_result():
    content = json.loads((ROOT / "benchmarks" / "results" / "language_model_plan-cpu.json").read_text("utf-8"))
    written = (ROOT / "examples" / "language_model" / "PLAN.md").read_text("utf-8")
    assert written == language_model_plan.page(content)


def test_counted_layers_of_the_published_plan_are_the_compiled_ones():
    content = json.loads((ROOT / "benchmarks" / "results" / "language_model_plan-cpu.json").read_text("utf-8"))
    assert content["ratios"] and all(row["measured"] == pytest.approx(1, rel=1e-3) for row in content["ratios"])
