"""``video-env train``: the recognizer, or one agent of any kind in the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import tyro

from compare.command_line.signatures import CacheFolder, as_command
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.agent_kinds import AGENT_KINDS, AgentKind
from video_env.models.device import resolve_device
from video_env.models.train_recognizer import (
    RecognizerTraining,
    has_recognizer,
    recognizer_accuracy,
    train_recognizer,
)
from video_env.models.train_small import SmallTraining, train_small_networks


def commands() -> dict[str, Callable[..., None]]:
    """By name: recognizer, and every kind of agent."""
    return {"recognizer": recognizer, **{kind.name: _agent(kind) for kind in AGENT_KINDS.values()}}


def recognizer(
    cache: CacheFolder,
    network: Literal["cached", "small"] = "cached",
    overwrite: bool = False,
    device: str = "auto",
    small: SmallTraining = SmallTraining(),  # noqa: B008
    recognizer: Annotated[RecognizerTraining, tyro.conf.arg(name="")] = RecognizerTraining(),  # noqa: B008
) -> None:
    """Train the recognizer on cached embeddings and store it, and its verdicts on all subsets, in the cache.

    Args:
        cache: Folder of the cache.
        network: cached uses the embeddings that are there; small first trains the two small networks on
            the cached frames, for caches without features.
        overwrite: Replace a recognizer (and small networks) that the cache has.
        device: auto, cpu, cuda:0, ...
        small: How small networks are trained.
        recognizer: How the recognizer is trained.
    """
    if network == "cached" and small != SmallTraining():
        raise InputError("small: found settings of small networks; they mean nothing with network cached")
    opened = Cache(cache)
    resolve_device(device)
    if has_recognizer(opened) and not overwrite:
        print(f"{opened.path} has a recognizer, which is kept; --overwrite trains a new one")
    if network == "small":
        opened = train_small_networks(opened, small, device, overwrite=overwrite)
    opened = train_recognizer(opened, recognizer, device, overwrite=overwrite)
    for split in ("train", "validation"):
        if (opened.index["split"] == split).any():
            print(f"top-1 on all candidates, {split}: {recognizer_accuracy(opened, split, device):.3f}")


def _agent(kind: AgentKind) -> Callable[..., None]:
    def run(cache: Any, **options: Any) -> None:
        kind.train(cache=Cache(cache), **options)

    return as_command(kind.train, run)
