"""Caches of one's own videos that are made with a released checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agents.common.released_checkpoints import INPUT_SIZE
from video_env.cache.decoding import BuildSettings
from video_env.cache.store import Cache
from video_env.data.annotations import Annotations
from video_env.errors import InputError
from video_env.files import sha256_of


def as_numbered(annotations: Annotations, count: int, checkpoint: Path) -> Annotations:
    """The annotations with as many classes as the checkpoint has.

    Numbered classes may lack the last ones; named ones must be all there, or their numbers would mean
    something else.

    Raises:
        InputError: a label is none of the checkpoint's classes.
    """
    found, numbered = len(annotations.classes), all(name.isdecimal() for name in annotations.classes)
    if found > count or (found < count and not numbered):
        highest = f"labels up to {found - 1}" if numbered else f"{found} classes by name"
        raise InputError(
            f"annotations: found {highest}, expected the {count} classes of checkpoint {checkpoint} "
            f"(labels 0 to {count - 1}, numbered as it was trained)"
        )
    return replace(annotations, classes=(*annotations.classes, *map(str, range(found, count))))


def require_frames_kept(settings: BuildSettings) -> None:
    """Raise InputError unless the cache keeps frames, which the checkpoint's networks look at."""
    if not settings.keep_frames:
        raise InputError("keep_frames: found False, expected True: the checkpoint's networks look at frames")


def require_input(settings: BuildSettings, num_candidates: int | None = None) -> None:
    """Raise InputError unless frames have the released size, and are as many as the checkpoint takes."""
    require_frames_kept(settings)
    if settings.frame_size != INPUT_SIZE:
        raise InputError(f"frame_size: found {settings.frame_size}, expected {INPUT_SIZE} as released")
    if num_candidates not in (None, settings.num_candidates):
        raise InputError(
            f"num_candidates: found {settings.num_candidates}, expected {num_candidates}, as many as the "
            "checkpoint was trained with"
        )


def is_own_network(cache: Cache, name: str, checkpoint: Path) -> bool:
    """Whether a network of the cache (recognizer or classifier) is the checkpoint's own."""
    training = cache.meta.get("training", {}).get(name) or {}
    return training.get("checkpoint") == f"sha256:{sha256_of(checkpoint)}"
