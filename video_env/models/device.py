"""Where networks run."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from video_env.errors import InputError

# A forked process (Gymnasium's AsyncVectorEnv starts such) inherits torch's pool of threads without the
# threads: it would wait for them for ever. With one thread it needs no pool.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def resolve_device(device: str | torch.device) -> torch.device:
    """``auto`` is the first GPU if there is one, else the CPU.

    Raises:
        InputError: the device does not exist here; the message lists those that do.
    """
    available = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if device == "auto":
        return torch.device(available[1] if len(available) > 1 else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {device!r}: expected auto, {', '.join(available)}") from error
    if (found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count()) or found.type not in (
        "cpu",
        "cuda",
    ):
        raise InputError(f"device {str(device)!r} is not there; expected auto, {', '.join(available)}")
    return found


def processor_name() -> str:
    """As the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def machine_name(device: str | torch.device) -> str:
    """What speeds are of: the device's GPU where it is one, the processor and the number of its cores.

    Raises:
        InputError: the device does not exist here.
    """
    found = resolve_device(device)
    names = [torch.cuda.get_device_name(found)] if found.type == "cuda" else []
    return ", ".join([*names, processor_name(), f"{os.cpu_count()} cores"])
