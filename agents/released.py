"""The published systems with their released weights: ``load_released(system, checkpoint, ...)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from agents.adafocus.released import ReleasedAdaFocus, flattened, load_adafocus
from agents.adafocus_v2.network import AdaFocusV2Network
from agents.adafocus_v2.released import load_adafocus_v2
from agents.common.released_checkpoints import load_checkpoint
from agents.ocsampler.released import ReleasedOCSampler, load_ocsampler
from video_env.errors import require_choice

SYSTEMS: dict[str, Callable[..., Any]] = {
    "ocsampler": partial(load_checkpoint, "ocsampler", load_ocsampler),
    "adafocus": partial(load_checkpoint, "adafocus", load_adafocus, prepare=flattened),
    "adafocus-v2": partial(load_checkpoint, "adafocus-v2", load_adafocus_v2),
}


def load_released(
    system: str, state_dict_or_path: Mapping[str, Any] | str | Path, **options: Any
) -> ReleasedOCSampler | ReleasedAdaFocus | AdaFocusV2Network:
    """A published system with the weights of a released checkpoint.

    Args:
        system: ``ocsampler``, ``adafocus`` (the first version) or ``adafocus-v2``.
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
        InputError: the system or an option is unknown or out of range, the file is missing or
            unreadable, or its entries do not fit (one message lists all that are missing, unexpected
            or mis-shaped).
    """
    require_choice("system", system, tuple(SYSTEMS))
    return SYSTEMS[system](state_dict_or_path, **options)
