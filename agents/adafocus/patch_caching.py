"""Caching every patch's features after AdaFocus's stage 1, with the time that counts as training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agents.adafocus.network_training import NetworkStages
from agents.common.work_clock import WorkClock
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.files import write_bytes


def cache_in_folder(networks: NetworkStages, folder: Path, record: dict[str, Any]) -> tuple[Cache, float]:
    """The cache of stage 1's patches, in ``cache`` of the agent's folder, complete and with its networks.

    Args:
        networks: trained.
        folder: the agent's; it keeps the seconds too, so that they are the same when it is opened again.
        record: how the networks were trained.

    Returns:
        The cache, and the seconds that count as training: the training videos' share, as stages 2 and 3 learn
        from no others.

    Raises:
        InputError: the seconds kept are none.
    """
    timed, out = folder / "caching-seconds.json", folder / "cache"
    clock = WorkClock(folder / "caching-began.json", out)
    if not timed.is_file():
        clock.start()
    cache = networks.cache_patches(out, record)
    if not timed.is_file():
        share = len(cache.rows("train")) / len(cache)
        write_bytes(timed, json.dumps(clock.seconds() * share).encode())
    clock.forget()
    return cache, _seconds_in(timed)


def require_no_other_patches(folder: Path, stage_file: Path) -> None:
    """Raise InputError where the folder's cache has patches of a stage 1 whose file is gone."""
    out = folder / "cache"
    gone = not stage_file.is_file()
    if gone and (out / "meta.json").is_file() and "classifier.safetensors" in Cache(out).meta["networks"]:
        raise InputError(
            f"{out}: holds the patches of another stage 1, whose file {stage_file} is gone; delete it or "
            "choose another folder"
        )


def _seconds_in(file: Path) -> float:
    try:
        seconds = float(json.loads(file.read_text()))
    except (OSError, TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InputError(
            f"{file}: expected the seconds that caching the patches took; delete the folder to train anew"
        )
    return seconds
