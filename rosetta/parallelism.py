"""Parallelism

There is one process a machine, not one a device. A sharding says how an array lies on a mesh of devices; `jit` splits
the work accordingly and puts in the communication. Here the mesh has one device; lesson 11 runs on eight.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

from rosetta.kinds import Pair, folder, normal

WRITES = "PyTorch's collectives write in place"


class Collective:
    """For a pair whose torch side runs in a process group of one."""

    @classmethod
    def result(cls, side, drawn):
        if side != "torch":
            return super().result(side, drawn)
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        try:
            return super().result(side, drawn)
        finally:
            torch.distributed.destroy_process_group()


def over_replicas(function):
    """A function of each replica's row, with collectives over "data": on one device all of them do nothing."""
    return jax.vmap(function, axis_name="data")


class RankAndWorld(Pair):
    """Rank and world size"""

    also = (
        "distributed.init_process_group",
        "distributed.get_rank",
        "distributed.get_world_size",
        "distributed.destroy_process_group",
        "distributed.is_initialized",
    )
    note = "A process drives all devices of its machine: `jax.device_count()` counts those of all processes."

    def torch():
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        torch.distributed.destroy_process_group()
        return rank, world

    def jax():
        return jax.process_index(), jax.process_count()


class DataParallel(Pair):
    """Gradients of a batch spread over devices"""

    also = ("nn.DataParallel", "nn.parallel.DataParallel")
    inputs = {"w": normal(3), "x": normal(8, 3)}
    no_gradient = "its result is a gradient"
    note = "`jit` sees where the arrays lie. The mean goes over the whole batch, so nothing is left to average."

    def torch(w, x):
        model = torch.nn.Linear(3, 1, bias=False)
        model.load_state_dict({"weight": w[None]})
        model = torch.nn.DataParallel(model)  # DistributedDataParallel: one process a device, the same numbers
        model(x).square().mean().backward()
        return model.module.weight.grad[0]

    def jax(w, x):
        mesh = Mesh(np.array(jax.devices()), ("data",))
        w = jax.device_put(w, NamedSharding(mesh, P()))  # everywhere
        x = jax.device_put(x, NamedSharding(mesh, P("data")))  # in parts
        return jax.jit(jax.grad(lambda w, x: ((x @ w) ** 2).mean()))(w, x)


class AllReduce(Collective, Pair):
    """Average over devices by hand"""

    also = ("distributed.all_reduce", "distributed.reduce", "distributed.ReduceOp")
    inputs = {"x": normal(8)}
    no_gradient = "PyTorch's collectives write in place"
    note = "Public as `jax.shard_map` from 0.7; older texts import it from `jax.experimental`."

    def torch(x):
        mean = x.mean()
        torch.distributed.all_reduce(mean)
        return mean / torch.distributed.get_world_size()

    def jax(x):
        mesh = Mesh(np.array(jax.devices()), ("data",))

        def mean(part):
            return jax.lax.pmean(part.mean(), "data")

        return jax.shard_map(mean, mesh=mesh, in_specs=P("data"), out_specs=P())(x)

    def claims():
        rows = jnp.arange(16.0).reshape(4, 4)  # a row for each of four replicas
        assert jnp.array_equal(over_replicas(lambda row: jax.lax.psum(row, "data"))(rows), rows.sum(0) + 0 * rows)


class ReplicaMean(Pair):
    """Batch statistics over all replicas"""

    also = ("nn.SyncBatchNorm", "distributed.nn.functional.all_reduce")
    inputs = {"x": normal(4, 8, 3)}
    note = "An axis named by `vmap` can be reduced over like one of a mesh, so a collective can be tried on one device."

    def torch(x):
        return x - x.mean(dim=(0, 1))  # what SyncBatchNorm subtracts; x is (replicas, batch, features)

    def jax(x):
        def replica(x):
            return x - jax.lax.pmean(x.mean(axis=0), axis_name="data")

        return jax.vmap(replica, axis_name="data")(x)


class MicroBatches(Pair):
    """Accumulate gradients over micro-batches"""

    inputs = {"w": normal(3), "x": normal(4, 8, 3)}
    no_gradient = "its result is a gradient"
    note = "In an optimizer: `optax.MultiSteps(optax.adam(1e-3), 4)`."

    def torch(w, x):
        w.requires_grad_()
        for micro in x:
            loss = (micro @ w).square().mean() / len(x)
            loss.backward()
        return w.grad

    def jax(w, x):
        def step(total, micro):
            grads = jax.grad(lambda w: ((micro @ w) ** 2).mean())(w)
            return total + grads / len(x), None

        return jax.lax.scan(step, jnp.zeros_like(w), x)[0]


class AllGather(Collective, Pair):
    """Gather from all devices"""

    inputs = {"x": normal(8)}
    no_gradient = WRITES
    also = (
        "distributed.all_gather", "distributed.all_gather_into_tensor", "distributed.all_gather_object",
        "distributed.gather",
    )  # fmt: skip
    note = "Between processes, of NumPy arrays: `jax.experimental.multihost_utils.process_allgather`."

    def torch(x):
        parts = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, x)
        return torch.cat(parts)

    def jax(x):
        mesh = Mesh(np.array(jax.devices()), ("data",))
        gather = lambda part: jax.lax.all_gather(part, "data", tiled=True)  # noqa: E731
        return jax.shard_map(gather, mesh=mesh, in_specs=P("data"), out_specs=P(), check_vma=False)(x)

    def claims():
        rows = jnp.arange(16.0).reshape(4, 4)
        gathered = over_replicas(lambda row: jax.lax.all_gather(row, "data", tiled=True))(rows)
        assert all(jnp.array_equal(every, rows.ravel()) for every in gathered)


class ReduceScatter(Collective, Pair):
    """Sum over devices, each keeps a part"""

    inputs = {"x": normal(8)}
    no_gradient = WRITES
    also = ("distributed.reduce_scatter", "distributed.reduce_scatter_tensor")

    def torch(x):
        part = torch.empty(len(x) // torch.distributed.get_world_size())
        torch.distributed.reduce_scatter_single(part, x)
        return part

    def jax(x):
        mesh = Mesh(np.array(jax.devices()), ("data",))
        scatter = lambda x: jax.lax.psum_scatter(x, "data", tiled=True)  # noqa: E731
        return jax.shard_map(scatter, mesh=mesh, in_specs=P(), out_specs=P("data"), check_vma=False)(x)

    def claims():
        rows = jnp.arange(16.0).reshape(4, 4)
        parts = over_replicas(lambda row: jax.lax.psum_scatter(row, "data", tiled=True))(rows)
        assert jnp.array_equal(parts.ravel(), rows.sum(0))


class AllToAll(Collective, Pair):
    """Exchange parts between all devices"""

    inputs = {"x": normal(8)}
    no_gradient = WRITES
    also = ("distributed.all_to_all", "distributed.all_to_all_single")
    note = "Rows on each device become columns on each: a transposition."

    def torch(x):
        received = torch.empty_like(x)
        torch.distributed.all_to_all_single(received, x)
        return received

    def jax(x):
        mesh = Mesh(np.array(jax.devices()), ("data",))
        exchange = lambda part: jax.lax.all_to_all(part, "data", 0, 0, tiled=True)  # noqa: E731
        return jax.shard_map(exchange, mesh=mesh, in_specs=P("data"), out_specs=P("data"))(x)

    def claims():
        grid = jnp.arange(16.0).reshape(4, 4)
        exchanged = over_replicas(lambda row: jax.lax.all_to_all(row, "data", 0, 0))(grid)
        assert jnp.array_equal(exchanged, grid.T)


class Broadcast(Collective, Pair):
    """Send one device's values to all"""

    inputs = {"x": normal(3)}
    no_gradient = WRITES
    also = ("distributed.broadcast", "distributed.broadcast_object_list")
    note = (
        "A sharding that splits nothing puts a copy on each device. Between processes: "
        "`jax.experimental.multihost_utils.broadcast_one_to_all`."
    )

    def torch(x):
        torch.distributed.broadcast(x, src=0)
        return x

    def jax(x):
        mesh = Mesh(np.array(jax.devices()), ("data",))
        return jax.device_put(x, NamedSharding(mesh, P()))


class Scatter(Collective, Pair):
    """Split a tensor over devices"""

    inputs = {"x": normal(8)}
    no_gradient = WRITES
    also = ("distributed.scatter",)

    def torch(x):
        parts = list(x.chunk(torch.distributed.get_world_size()))
        part = torch.empty_like(parts[0])
        torch.distributed.scatter(part, parts, src=0)
        return part

    def jax(x):
        mesh = Mesh(np.array(jax.devices()), ("data",))
        return jax.device_put(x, NamedSharding(mesh, P("data"))).addressable_shards[0].data


class Barrier(Collective, Pair):
    """Wait for all processes"""

    no_gradient = "a number"
    also = ("distributed.barrier", "distributed.monitored_barrier")
    note = "Seldom needed: a collective waits by itself."

    def torch():
        torch.distributed.barrier()
        return torch.distributed.get_rank()

    def jax():
        multihost_utils.sync_global_devices("all are here")
        return jax.process_index()


class SendReceive(Pair):
    """Send to the neighbour"""

    inputs = {"x": normal(4, 3)}
    also = (
        "distributed.send", "distributed.recv", "distributed.isend", "distributed.irecv",
        "distributed.batch_isend_irecv", "distributed.P2POp",
    )  # fmt: skip
    note = "All devices take part: a list of (from, to). Who is sent nothing has zeros."

    def torch(x):
        return x.roll(1, dims=0)  # send(x, rank + 1), recv(y, rank - 1) on four ranks, a row each

    def jax(x):
        ring = [(i, (i + 1) % 4) for i in range(4)]
        send = lambda row: jax.lax.ppermute(row, "data", ring)  # noqa: E731
        return jax.vmap(send, axis_name="data")(x)

    def claims():
        mesh = Mesh(np.array(jax.devices()), ("data",))
        nobody = jax.shard_map(
            lambda x: jax.lax.ppermute(x, "data", []), mesh=mesh, in_specs=P("data"), out_specs=P("data")
        )
        assert (nobody(jnp.ones(8)) == 0).all()


class AxisIndex(Pair):
    """The rank inside a computation"""

    inputs = {"x": normal(4, 3)}

    def torch(x):
        return torch.stack([rank * row for rank, row in enumerate(x)])

    def jax(x):
        return jax.vmap(lambda row: jax.lax.axis_index("data") * row, axis_name="data")(x)


class Groups(Pair):
    """Collectives within groups of devices"""

    inputs = {"x": normal(2, 3)}
    also = ("distributed.new_group", "distributed.device_mesh.init_device_mesh", "distributed.new_subgroups")
    note = "Each axis of a mesh is a way to group its devices: no group is made, an axis is named."

    def torch(x):
        return x.sum(0, keepdim=True).expand(2, 3)  # all_reduce in groups of equal column, six ranks

    def jax(x):
        total = lambda x: jax.lax.psum(x, "rows")  # noqa: E731
        return jax.vmap(jax.vmap(total, axis_name="columns"), axis_name="rows")(x)


class Distributed(Collective, Pair):
    """Train on all devices (DistributedDataParallel)"""

    inputs = {"w": normal(3), "x": normal(8, 3)}
    no_gradient = "its result is a gradient"
    also = ("nn.parallel.DistributedDataParallel",)
    note = (
        "No wrapper: with weights everywhere and data in parts the compiled step adds the gradients up. In several "
        "processes the batch is put together by `jax.make_array_from_process_local_data`."
    )

    def torch(w, x):
        model = torch.nn.Linear(3, 1, bias=False)
        model.load_state_dict({"weight": w[None]})
        model = torch.nn.parallel.DistributedDataParallel(model)
        model(x).square().mean().backward()
        return model.module.weight.grad[0]

    def jax(w, x):
        mesh = Mesh(np.array(jax.devices()), ("data",))
        everywhere, in_parts = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
        gradient = jax.grad(lambda w, x: ((x @ w) ** 2).mean())
        return jax.jit(gradient, in_shardings=(everywhere, in_parts), out_shardings=everywhere)(w, x)

    def claims():
        sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), P("data"))
        assert jax.make_array_from_process_local_data(sharding, np.ones(8)).sharding == sharding


class FullyShard(Collective, Pair):
    """Split the weights too (FSDP)"""

    inputs = {"w": normal(8, 2), "x": normal(8, 8)}
    no_gradient = "its result is a gradient"
    also = ("distributed.fsdp.fully_shard", "distributed.fsdp.FullyShardedDataParallel")
    note = (
        "Weights and gradients lie in parts because their shardings say so, and the moments of an optimizer with them."
    )

    def torch(w, x):
        model = torch.nn.Linear(8, 2, bias=False)
        model.load_state_dict({"weight": w.T})
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        model(x).square().mean().backward()
        return model.weight.grad.full_tensor().T

    def jax(w, x):
        mesh = Mesh(np.array(jax.devices()), ("data",))
        in_parts = NamedSharding(mesh, P("data"))
        w, x = jax.device_put((w, x), in_parts)
        gradient = jax.grad(lambda w, x: ((x @ w) ** 2).mean())
        return jax.jit(gradient, out_shardings=in_parts)(w, x)

    def claims():
        sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), P("data"))
        assert optax.adam(0.1).init(jax.device_put(jnp.ones(8), sharding))[0].mu.sharding == sharding


class ShardedTensor(Collective, Pair):
    """A tensor in parts (DTensor)"""

    inputs = {"x": normal(8, 3)}
    no_gradient = "PyTorch's parts are tensors of another class"
    also = (
        "distributed.tensor.DTensor", "distributed.tensor.distribute_tensor", "distributed.tensor.Shard",
        "distributed.tensor.Replicate", "distributed.device_mesh.DeviceMesh",
    )  # fmt: skip
    note = "`np.asarray(x)` is `full_tensor()`. Inside a jitted function: `jax.lax.with_sharding_constraint`."

    def torch(x):
        mesh = init_device_mesh("cpu", (1,), mesh_dim_names=("data",))
        x = distribute_tensor(x, mesh, [Shard(0)])
        return x.to_local(), x.redistribute(placements=[Replicate()]).to_local()

    def jax(x):
        mesh = Mesh(np.array(jax.devices()), ("data",))
        x = jax.device_put(x, NamedSharding(mesh, P("data")))
        return x.addressable_shards[0].data, jax.device_put(x, NamedSharding(mesh, P()))

    def claims():
        sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), P("data"))
        x = jax.jit(lambda x: jax.lax.with_sharding_constraint(2 * x, sharding))(jnp.ones(8))
        assert x.sharding.is_equivalent_to(sharding, 1) and np.asarray(x).tolist() == [2] * 8


class TensorParallel(Collective, Pair):
    """Split a layer over devices (tensor parallel)"""

    inputs = {"x": normal(4, 3), "w": normal(3, 8)}
    no_gradient = "PyTorch's parts are tensors of another class"
    also = (
        "distributed.tensor.parallel.parallelize_module", "distributed.tensor.parallel.ColwiseParallel",
        "distributed.tensor.parallel.RowwiseParallel",
    )  # fmt: skip
    note = "Columns: the last axis of a flax kernel. Rows: the first one."

    def torch(x, w):
        layer = torch.nn.Linear(3, 8, bias=False)
        layer.load_state_dict({"weight": w.T})
        layer = parallelize_module(layer, init_device_mesh("cpu", (1,)), ColwiseParallel())
        return layer(x)

    def jax(x, w):
        mesh = Mesh(np.array(jax.devices()), ("model",))
        kernel = jax.device_put(w, NamedSharding(mesh, P(None, "model")))
        return x @ kernel


class OnlyTheFirst(Collective, Pair):
    """On one process only"""

    inputs = {"folder": folder()}
    no_gradient = "writes a file"
    note = "Not for Orbax: all processes call `save`, and each writes its parts."

    def torch(folder):
        if torch.distributed.get_rank() == 0:
            (folder / "log.txt").write_text("epoch 1")
        return (folder / "log.txt").exists()

    def jax(folder):
        if jax.process_index() == 0:
            (folder / "log.txt").write_text("epoch 1")
        return (folder / "log.txt").exists()
