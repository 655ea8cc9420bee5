"""The published systems with their released weights: ``load_released(method, checkpoint, ...)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.adafocus.released import ReleasedAdaFocus, flattened, load_adafocus
from agents.adafocus_v2.network import AdaFocusV2Network
from agents.adafocus_v2.released import load_adafocus_v2
from agents.ocsampler.released import ReleasedOCSampler, load_ocsampler
from video_env.errors import InputError
from video_env.models.backbones import plain_state_dict, read_checkpoint

METHODS: dict[str, Callable[..., Any]] = {"ocsampler": load_ocsampler, "adafocus": load_adafocus,
                                          "adafocus-v2": load_adafocus_v2}  # fmt: skip


def load_released(
    method: str, state_dict_or_path: Mapping[str, Any] | str | Path, **options: Any
) -> ReleasedOCSampler | ReleasedAdaFocus | AdaFocusV2Network:
    """A published system with the weights of a released checkpoint.

    Args:
        method: ``ocsampler``, ``adafocus`` (the first version) or ``adafocus-v2``.
        state_dict_or_path: the state dict, plain or under ``state_dict``, with or without
            DataParallel's ``module.``; or the path of a file of it (torch.save or safetensors), which
            is read without executing code from it. For ``adafocus`` also a released file's ``glancer``,
            ``focuser``, ``fc`` and ``policy``.
        options: what the weights do not tell. For ``ocsampler``: ``num_frames=6``, N, and
            ``shift_div=10``, of the temporal shift (8 for Mini-Kinetics). For ``adafocus``
            and ``adafocus-v2``: ``patch_size=128``.

    Returns:
        The module in evaluation mode; every other size is that of the checkpoint's entries.

    Raises:
        InputError: the method or an option is unknown or out of range, the file is missing or
            unreadable, or its entries do not fit (one message lists all that are missing, unexpected
            or mis-shaped).
    """
    if method not in METHODS:
        raise InputError(f"method {method!r}: expected one of {', '.join(METHODS)}")
    checkpoint: Any = state_dict_or_path
    where = f"{method} checkpoint"
    if isinstance(checkpoint, (str, Path)):
        where, checkpoint = f"checkpoint {checkpoint}", read_checkpoint(Path(checkpoint))
    if method == "adafocus" and isinstance(checkpoint, Mapping):
        checkpoint = flattened(checkpoint)
    state = plain_state_dict(_tensors(checkpoint), where=where)
    try:
        return METHODS[method](state, where=where, **options)
    except TypeError as error:
        raise InputError(f"{method}: {error}") from error


def _tensors(state: Any) -> Any:
    """NumPy arrays become tensors, at both levels."""
    if not isinstance(state, Mapping):
        return state
    if isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    return {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in state.items()
    }
