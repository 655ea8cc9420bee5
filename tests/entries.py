"""Entries as the commands make them: an untrained method by its id, a saved agent by its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from video_env.cache.store import Cache
from video_env.evaluation import registry
from video_env.evaluation.agent_kinds import AGENT_KINDS
from video_env.evaluation.protocols import Entry
from video_env.evaluation.registry import Job
from video_env.models.tensors import read_tensors

registry.load()

KINDS = {"OCSampler": "ocsampler", "AdaFocus": "adafocus", "AdaFocusV2": "adafocus-v2"}


def untrained(id: str, cache: Cache, split: str = "test", num_frames: int = 2, seed: int = 0) -> Entry:
    """The only point of a method; of methods for frames that with N frames."""
    (method,) = registry.find([id])
    settings = method.settings
    if hasattr(settings, "num_frames"):
        settings = replace(settings, num_frames=(num_frames,))
    (entry,) = method.list_entries(Job(cache, split, seed, None, {id: settings}))
    return entry


def saved(file: Path, cache: Cache, *, device: str = "cpu", **options: Any) -> Entry:
    """What ``video-env evaluate KIND --agent FILE`` evaluates."""
    kind = "sb3"
    if file.suffix != ".zip":
        kind = KINDS.get(read_tensors(file, what=str(file)).get("agent"), "ocsampler")
    return AGENT_KINDS[kind].entry(cache=cache, agent=file, device=device, **options)
