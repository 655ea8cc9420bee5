"""Released checkpoints: read without executing code, and given to the system that they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from video_env.errors import InputError
from video_env.models.backbones import plain_state_dict, read_checkpoint

System = TypeVar("System")

INPUT_SIZE = 224
"""Pixels of a frame's side that the released AdaFocus and AdaFocusV2 look at."""


def load_checkpoint(
    name: str,
    build: Callable[..., System],
    state_dict_or_path: Mapping[str, Any] | str | Path,
    *,
    prepare: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    **options: Any,
) -> System:
    """A released system with the weights of a checkpoint.

    Args:
        name: of the system, for messages.
        build: makes it from a plain state dict; gets ``where``, for its messages, and the options.
        state_dict_or_path: the state dict, plain or under ``state_dict``, with or without
            DataParallel's ``module.``; or the path of a file of it (torch.save or safetensors).
        prepare: brings another form of checkpoint into that of a state dict.
        options: what the weights do not tell.

    Raises:
        InputError: an option is unknown or out of range, the file is missing or unreadable, or its entries
            do not fit.
    """
    checkpoint: Any = state_dict_or_path
    where = f"{name} checkpoint"
    if isinstance(checkpoint, (str, Path)):
        where, checkpoint = f"checkpoint {checkpoint}", read_checkpoint(Path(checkpoint))
    if prepare is not None and isinstance(checkpoint, Mapping):
        checkpoint = prepare(checkpoint)
    state = plain_state_dict(_tensors(checkpoint), where=where)
    try:
        return build(state, where=where, **options)
    except TypeError as error:
        raise InputError(f"{name}: {error}") from error


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
