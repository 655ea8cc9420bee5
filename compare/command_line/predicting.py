"""``video-env predict``: what a method says of video files, and what it looked at."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from compare.prediction_pictures import picture_of
from video_env.cache.store import Cache
from video_env.errors import InputError, require_seed
from video_env.evaluation import registry
from video_env.evaluation.prediction import EntryOf, Failure, Prediction, agent_from, predict
from video_env.evaluation.protocols import Entry
from video_env.evaluation.registry import Job
from video_env.files import write_bytes
from video_env.models.device import resolve_device

MOST_CLASSES = 5
"""Probabilities that the text shows."""


def predict_command(
    videos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO [VIDEO ...]")],
    policy: str,
    cache: Path,
    num_frames: int | None = None,
    gflops: float | None = None,
    cost_of_all_frames: float | None = None,
    seed: int = 0,
    json_lines: bool = False,
    picture: Path | None = None,
    device: str = "auto",
) -> int:
    """Say what video files show, with a method that looks at little of them.

    A file that cannot be read is reported, and the others go on; the exit status is then 1.

    Args:
        videos: Video files.
        policy: File of a saved agent (.pt or .zip), or the id of a method that needs no training, as uniform.
        cache: Folder of the cache that gives the networks, the classes, and how videos are read.
        num_frames: Number of frames, for a method without training.
        gflops: Budget per video of an AdaFocusV2, kept to by conditional exit.
        cost_of_all_frames: λ of an OCSampler's frame-number budget: the share of quality that all candidates
            together may cost.
        seed: Seed of random draws, for a method without training.
        json_lines: Print a JSON object per video, one on each line, and nothing else.
        picture: Picture of what was looked at: a file (.png) for one video, a folder for several.
        device: auto, cpu, cuda:0, ...
    """
    opened = Cache(cache)
    resolve_device(device)
    require_seed(seed)
    if not videos:
        raise InputError("videos: found none, expected at least one file")
    if picture is not None and len(videos) > 1 and picture.suffix:
        raise InputError(
            f"picture {picture}: expected a folder for {len(videos)} videos, found a file's name"
        )
    pictures = _pictures(videos, picture)
    failed = False
    budget = {"gflops": gflops, "cost_of_all_frames": cost_of_all_frames}
    given = {name: value for name, value in budget.items() if value is not None}
    entry_of = _entry_of(policy, num_frames, given, seed, device)
    for said in predict(videos, opened, entry_of, device=device):
        if isinstance(said, Failure):
            failed = True
            print(f"video-env: {said.reason}", file=sys.stderr)
            continue
        print(json.dumps(record_of(said, opened.classes)) if json_lines else text_of(said, opened.classes))
        if file := pictures.get(said.video):
            write_bytes(file, picture_of(said))
            if not json_lines:
                print(f"  written: {file}")
        sys.stdout.flush()
    return int(failed)


def _entry_of(
    policy: str, num_frames: int | None, budget: dict[str, float], seed: int, device: str
) -> EntryOf:
    """A saved agent by its file, or a method without training by its id."""
    untrained = {name: one for name, one in registry.methods().items() if one.train is None}
    if policy not in untrained:
        if num_frames is not None:
            raise InputError(f"num_frames: found {num_frames}; it means nothing with an agent's file")
        if not Path(policy).suffix:
            raise InputError(
                f"policy {policy}: expected a file of an agent, or one of "
                + ", ".join(name for name, one in untrained.items() if one.family != "bound")
            )
        return agent_from(policy, device=device, **budget)
    for name, value in budget.items():
        raise InputError(f"{name}: found {value}; it means nothing with {policy}")
    method = untrained[policy]
    if method.family == "bound":
        raise InputError(
            f"policy {policy}: is a bound to compare with, expected a method that decides itself"
        )
    settings: Any = method.settings
    if hasattr(settings, "num_frames"):
        if num_frames is None:
            raise InputError(f"num_frames: found none, expected a number of frames for {policy}")
        settings = replace(settings, num_frames=(num_frames,))
    elif num_frames is not None:
        raise InputError(f"num_frames: found {num_frames}; it means nothing with {policy}")

    def entry(cache: Cache) -> Entry:
        return method.list_entries(Job(cache, "test", seed, None, {method.id: settings}, device))[0]

    return entry


def _pictures(videos: tuple[Path, ...], picture: Path | None) -> dict[str, Path]:
    """By video, the file of its picture; several of one name are numbered."""
    if picture is None:
        return {}
    if picture.suffix:
        if picture.suffix != ".png":
            raise InputError(f"picture {picture}: expected a name that ends in .png, or a folder")
        return {str(videos[0]): picture}
    names: dict[str, Path] = {}
    for video in videos:
        file, number = picture / f"{video.stem}.png", 1
        while file in names.values():
            number += 1
            file = picture / f"{video.stem}-{number}.png"
        names.setdefault(str(video), file)
    return names


def record_of(said: Prediction, classes: tuple[str, ...]) -> dict[str, Any]:
    """A prediction as plain data, for JSON.

    ====================== ================================================================================
    ``video``              the file, as it was given
    ``label``, ``name``    the predicted class: its number (−1 for none) and its name
    ``probabilities``      by class, in the order of the classes
    ``frame_indices``      of the frames that were looked at, in the file, from 0
    ``timestamps_seconds`` when each of them is shown
    ``frames_per_second``  mean rate of the file
    ``patches``            of patch selection: (row, column) in [0, 1] of the patch in each of these frames
    ``gflops``             10^9 multiply-adds of all that ran
    ``seconds``            that it took, decoding included
    ====================== ================================================================================
    """
    record: dict[str, Any] = {
        "video": said.video,
        "label": said.label,
        "name": said.name,
        "probabilities": {
            name: round(float(value), 4) for name, value in zip(classes, said.probabilities, strict=True)
        },
        "frame_indices": said.frame_indices.tolist(),
        "timestamps_seconds": [round(float(value), 3) for value in said.timestamps_seconds],
        "frames_per_second": round(said.frames_per_second, 6),
        "gflops": said.gflops,
        "seconds": round(said.seconds, 4),
    }
    if said.patches is not None:
        record["patches"] = said.patches.round(4).tolist()
    return record


def text_of(said: Prediction, classes: tuple[str, ...]) -> str:
    """A prediction as people read it."""
    best = (-said.probabilities).argsort(kind="stable")[:MOST_CLASSES].tolist()
    likely = ", ".join(f"{classes[number]} {said.probabilities[number]:.3f}" for number in best)
    looks = [
        f"{index} ({seconds:.2f} s)"
        for index, seconds in zip(said.frame_indices, said.timestamps_seconds, strict=True)
    ]
    if said.patches is not None:
        looks = [
            f"{look} at ({row:.2f}, {column:.2f})"
            for look, (row, column) in zip(looks, said.patches, strict=True)
        ]
    return (
        f"{said.video}: {said.name}\n  probabilities: {likely}\n"
        f"  frames looked at: {', '.join(looks) or 'none'}, of {len(said.chosen)} candidates\n"
        f"  {said.gflops:.4g} GFLOPs, {said.seconds:.3f} s"
    )
