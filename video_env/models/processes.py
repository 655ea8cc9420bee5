"""Training in several processes, each with a share of every batch: what ``torchrun`` starts.

Without it there is one process, and nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from video_env.errors import InputError
from video_env.models.device import resolve_device


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that ``torchrun`` started, and leave them in the end; gives this one's device.

    GPUs are shared out and talk through NCCL; on the CPU it is gloo.

    Args:
        device: ``auto`` is one GPU for each process, or the CPU where there is none.

    Raises:
        InputError: there are more processes than GPUs, or one GPU was asked for by several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    kind = resolve_device(device).type
    if kind == "cuda":
        own = int(os.environ["LOCAL_RANK"])
        if device not in ("auto", "cuda") or own >= torch.cuda.device_count():
            raise InputError(
                f"device {device!r}: {os.environ['LOCAL_WORLD_SIZE']} processes on "
                f"{torch.cuda.device_count()} GPUs; expected auto, and no more processes than GPUs"
            )
        device = f"cuda:{own}"
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This one's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the one process that writes and reports."""
    return rank() == 0


def wait() -> None:
    """Until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def total(values: torch.Tensor) -> torch.Tensor:
    """The sum over all processes."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def from_first(value: float) -> float:
    """The first process's value, so that all decide alike."""
    if not dist.is_initialized():
        return value
    own = torch.tensor([value], dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.broadcast(own, src=0)
    return float(own)


def require_same(value: int, *, what: str) -> None:
    """Raise InputError in every process unless all found the same."""
    if not dist.is_initialized():
        return
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    own = torch.tensor([value], device=device)
    found = [torch.empty_like(own) for _ in range(count())]
    dist.all_gather(found, own)
    values = [int(one) for one in found]
    if len(set(values)) > 1:
        raise InputError(f"{what}: processes found {values}; expected a folder that all of them see")
