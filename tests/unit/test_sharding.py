"""Collectives and bytes, on four simulated devices in a process of their own: the tests' process has one device."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from course import sharding

PROGRAM = """
import jax
jax.config.update("jax_num_cpu_devices", 4)
import jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from course.sharding import bytes_per_device, collectives

mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "model"))
everybody = Mesh(np.array(jax.devices()), ("all",))

def put(shape, *spec, mesh=mesh):
    return jax.device_put(jnp.ones(shape), NamedSharding(mesh, P(*spec)))

def rows(f, *args, **options):
    table = collectives(jax.jit(f, **options).lower(*args).compile())
    return [tuple(row) for row in table.itertuples(index=False)]

x = put((8, 4), "data")
print(rows(lambda x: x + 1, x))
print(rows(lambda x: x.sum(0), x))
print(rows(lambda x: x * 2, x, out_shardings=NamedSharding(mesh, P())))
print(rows(lambda x: x.sum(), put((8, 4), "all", mesh=everybody)))

def by_hand(f, spec=P("all"), out=P("all")):
    return jax.shard_map(f, mesh=everybody, in_specs=spec, out_specs=out)

y = put((16, 4), "all", mesh=everybody)
print(rows(by_hand(lambda x: jax.lax.psum_scatter(jax.lax.all_gather(x, "all", tiled=True), "all", tiled=True)), y))
print(rows(by_hand(lambda x: jax.lax.ppermute(x, "all", [(i, (i + 1) % 4) for i in range(4)])), y))
print(rows(by_hand(lambda x: jax.lax.all_to_all(x, "all", 0, 0, tiled=True)), y))

def loop(x):
    turn = [(i, (i + 1) % 4) for i in range(4)]
    inner = lambda x, _: (jax.lax.ppermute(jnp.tanh(x), "all", turn), None)
    return jax.lax.scan(lambda x, _: (jax.lax.scan(inner, jnp.sin(x), length=5)[0], None), x, length=3)[0]

print(rows(by_hand(loop), y))
print(bytes_per_device({"x": x, "y": y, "host": np.ones(3), "key": jax.random.key(0)}))
print(bytes_per_device(jax.ShapeDtypeStruct((8, 4), jnp.bfloat16, sharding=NamedSharding(mesh, P("data", "model")))))
"""


def test_collectives_and_bytes_of_programs_on_four_devices():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    nothing, over_data, gathered, everybody, there_and_back, ring, exchange, loop, *sizes = done.stdout.splitlines()
    assert nothing == "[]"
    assert over_data == "[('all-reduce', 2, 1, 16)]"  # four columns
    assert gathered == "[('all-gather', 2, 1, 128)]"  # the whole array
    assert everybody == "[('all-reduce', 4, 1, 4)]"
    assert there_and_back == "[('all-gather', 4, 1, 256), ('reduce-scatter', 4, 1, 256)]"
    assert ring == "[('collective-permute', 0, 1, 64)]"
    assert exchange == "[('all-to-all', 4, 1, 64)]"
    assert loop == "[('collective-permute', 0, 15, 960)]"  # 3 x 5 turns
    assert sizes == [str(64 + 64 + 24 + 8), "16"]


class Text(jax.stages.Compiled):
    """A compiled program that is only its text."""

    def __init__(self, text):
        self.text = text

    def as_text(self):
        return self.text


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("f32[8]{0} all-reduce(%x), replica_groups=mesh['a'=4,'b'=2] {'a','b'}", ("all-reduce", 8, 1, 32)),
        ("f32[8]{0} all-reduce(%x), replica_groups=mesh['a'=4] {'a':(1)2}", ("all-reduce", 2, 1, 32)),
        (
            "f32[8]{0} all-reduce(%x), replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}",
            ("all-reduce", 2, 1, 32),
        ),
        ("(f32[2]{0}, bf16[3]{0}) all-reduce(%x, %y), replica_groups=[2,4]<=[8]", ("all-reduce", 4, 1, 14)),
        ("(f32[2]{0}, f32[8]{0}) all-gather-start(%x), replica_groups={{0,1,2,3}}", ("all-gather", 4, 1, 32)),
        ("f32[] all-reduce-start(%x), replica_groups={}", ("all-reduce", 16, 1, 4)),
        ("f8e4m3fn[6]{0} all-to-all(%x), replica_groups={{0,1},{2,3}}", ("all-to-all", 2, 1, 6)),
    ],
)
def test_every_way_of_writing_a_collective(operation, expected):
    text = (
        f"HloModule m, num_partitions=16\n\nENTRY %main (x: f32[2]) -> f32[2] {{\n  %y = {operation}, metadata={{}}\n"
    )
    text += "  %z = f32[8]{0} all-gather-done(%y)\n}\n"
    (row,) = sharding.collectives(Text(text)).itertuples(index=False)
    assert tuple(row) == expected


@pytest.mark.parametrize(
    ("groups", "first"),
    [
        ("{{0,2},{1,3}}", (0, 2)),
        ("[4,2]<=[8]", (0, 1)),
        ("[2,4]<=[4,2]T(1,0)", (0, 2, 4, 6)),
        ("mesh['a'=2,'b'=4] {'b'}", (0, 1, 2, 3)),
        ("mesh['a'=2,'b'=4] {'b':(1)2}", (0, 2)),
        ("mesh['a'=2,'b'=4] {'b':(2)2}", (0, 1)),
        ("mesh['a'=2,'b'=1,'c'=4], device_ids=([4,2]T(1,0)) {'c'}", (0, 2, 4, 6)),
        ("mesh['a'=2,'b'=4] {'a','b'}", tuple(range(8))),
    ],
)
def test_groups_in_every_form(groups, first):
    text = f"%y = f32[8]{{0}} all-reduce(%x), channel_id=1, replica_groups={groups}, use_global_device_ids=true"
    (line,) = sharding.instructions(text)
    assert line.group == first


def test_another_form_of_groups_is_refused():
    (line,) = sharding.instructions("%y = f32[8]{0} all-reduce(%x), channel_id=1, replica_groups=?")
    with pytest.raises(ValueError, match="expected the groups of a collective"):
        _ = line.group


def test_one_device_sends_nothing_and_the_table_keeps_its_columns():
    table = sharding.collectives(jax.jit(jnp.sin).lower(1.0).compile())
    assert isinstance(table, pd.DataFrame) and table.empty and list(table) == ["kind", "devices", "count", "bytes"]
    assert sharding.bytes_per_device([jnp.ones((3, 2)), np.ones(2, np.int8)]) == 26


def test_errors_say_what_to_pass():
    with pytest.raises(TypeError, match=r"got Lowered; pass jax\.jit\(f\)\.lower\(\.\.\.\)\.compile\(\)"):
        sharding.collectives(jax.jit(jnp.sin).lower(1.0))
    with pytest.raises(TypeError, match=r"got str at \['name'\]; pass a tree of arrays"):
        sharding.bytes_per_device({"name": "w"})
