"""Parallelism

There is one process a machine, not one a device. A sharding says how an array lies on a mesh of devices; `jit` splits
the work accordingly and puts in the communication. Here the mesh has one device; lesson 11 runs on eight.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rosetta.kinds import Pair, normal


class RankAndWorld(Pair):
    """Rank and world size"""

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


class AllReduce(Pair):
    """Average over devices by hand"""

    inputs = {"x": normal(8)}
    no_gradient = "PyTorch's collectives write in place"
    note = "Public as `jax.shard_map` from 0.7; older texts import it from `jax.experimental`."

    @classmethod
    def result(cls, side, drawn):
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        try:
            return super().result(side, drawn)
        finally:
            torch.distributed.destroy_process_group()

    def torch(x):
        mean = x.mean()
        torch.distributed.all_reduce(mean)
        return mean / torch.distributed.get_world_size()

    def jax(x):
        mesh = Mesh(np.array(jax.devices()), ("data",))

        def mean(part):
            return jax.lax.pmean(part.mean(), "data")

        return jax.shard_map(mean, mesh=mesh, in_specs=P("data"), out_specs=P())(x)


class ReplicaMean(Pair):
    """Batch statistics over all replicas"""

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
