"""Weights that are spread over processes (FSDP2), and the same weights whole.

A sharded tensor is a DTensor: arithmetic on it works on the process's own part. What gathers or scatters must be called by
every process alike.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: Any, *, device: str, dtype: torch.dtype) -> None:
    """Spreads a transformer's float32 parameters over all processes, block by block; one process keeps all of them.

    Forwards compute in dtype, gradients are the float32 mean over processes. Every process must then run the same
    number of forwards and backwards.
    """
    mesh = _mesh(device)
    precision = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for block in model.transformer_blocks:
        fully_shard(block, mesh=mesh, mp_policy=precision)
    # By default the outermost parameters stay gathered after a forward, and would be stale once others are put in place.
    fully_shard(model, mesh=mesh, mp_policy=precision, reshard_after_forward=True)


def _mesh(device: str) -> DeviceMesh:
    kind = device.split(":")[0]
    if not dist.is_initialized():  # one process, which nobody launched
        backend = "nccl" if kind == "cuda" else "gloo"
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    return init_device_mesh(kind, (dist.get_world_size(),))


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, in every process."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, the same in every process, spread as another is."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
