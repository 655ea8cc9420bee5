"""The demonstration and the study: video files of the built-in data set to accuracy-vs-budget curves.

Both do the same work. The documents' figures come from the study; the demonstration has fewer test videos,
methods and settings, to show all of it within minutes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from compare.report.page import write_report
from compare.run import Machine, compare
from compare.run_folder import Run
from video_env.cache.build import build_cache
from video_env.cache.decoding import BuildSettings
from video_env.cache.derive import derive
from video_env.cache.store import Cache
from video_env.data import demo as data
from video_env.data.annotations import read_csv
from video_env.errors import InputError
from video_env.evaluation import registry
from video_env.files import alone, write_bytes, writing
from video_env.models.backbones import FrameNetwork
from video_env.models.optimise import seeded
from video_env.models.train_backbone import BackboneTraining, ImageTraining, SkimTraining, train_on_images
from video_env.models.train_recognizer import RecognizerTraining, recognizer_accuracy, train_recognizer
from video_env.models.train_small import SmallTraining, save_weights, train_small_networks

LEFT_OUT = (
    "adafocus-gru", "adafocus-v2-fully-connected", "recurrent-ppo", "patch-a2c", "patch-trpo", "patch-dqn",
    "patch-qr-dqn", "patch-recurrent-ppo", "patch-sac", "patch-td3",
)  # fmt: skip
"""Variants that the study leaves out unless they are named, to end within half an hour for each seed."""

SHOWN = (
    "uniform", "random", "oracle", "all-frames", "ocsampler", "maskable-ppo", "adafocus", "adafocus-v2",
)  # fmt: skip
"""Methods of the demonstration."""

FEWER: dict[str, dict[str, Any]] = {
    "ocsampler": {"num_frames": (1, 2, 3)},
    "maskable-ppo": {"costs_of_all_frames": (0.5, 2.0)},
    "adafocus": {
        "training": {
            "networks": {"length": {"updates": 300, "patience": 0}},
            "random_patches": {"length": {"updates": 400, "patience": 0}},
        }
    },
    "adafocus-v2": {"training": {"length": {"updates": 900, "patience": 0}}},
}
"""By method, the settings of the demonstration that are not the study's. Networks on frames have a fixed
length, the shortest that shows what they learn. All training videos are kept: with half of them AdaFocusV2
does not begin to learn, and a comparison would say that it cannot."""

FRAME_ARRAYS = ("frame_index", "timestamp_seconds", "frames")


@dataclass(frozen=True)
class DataSettings:
    """Settings of the videos and networks; those of the methods are the registry's.

    Attributes:
        data: the videos.
        still_images: how many still images stand in for pretraining.
        stills: how they are learned.
        backbone: how the recognizer's backbone learns the videos.
        skim: how the backbone's features are distilled into the skim network.
        recognizer: how the recognizer is trained on the features.
    """

    data: data.DemoData = field(default_factory=data.DemoData)
    still_images: int = 12_000
    stills: ImageTraining = field(default_factory=ImageTraining)
    backbone: BackboneTraining = field(default_factory=BackboneTraining)
    skim: SkimTraining = field(default_factory=SkimTraining)
    recognizer: RecognizerTraining = field(default_factory=lambda: RecognizerTraining(hidden=128))


def study(
    out: Path,
    settings: DataSettings,
    *,
    methods: Sequence[str] = (),
    method_settings: object = None,
    modules: Sequence[str] = (),
    seeds: int = 1,
    machine: Machine = Machine(),  # noqa: B008
    command: Sequence[str] | None = None,
) -> Run:
    """From videos to a report: do everything that is not done yet under ``out``, and sum it up.

    Args:
        out: folder of everything that is written.
        settings: of the videos and networks.
        methods: their ids; by default all of them but ``LEFT_OUT``.
        method_settings: an instance of ``registry.settings_type``.
        modules: where methods stand that are not ours.
        seeds: trainings of every network and agent.
        machine: how the work is spread.
        command: the command line that asks for it, to be kept with the run.

    Raises:
        InputError: ``out`` holds a run of other settings.
    """
    names = list(methods) or [name for name in registry.methods() if name not in LEFT_OUT]
    registry.find(names)  # fail before the videos are written
    with alone(out):
        return _study(out, settings, names, method_settings, modules, seeds, machine, command)


def _study(
    out: Path,
    settings: DataSettings,
    names: Sequence[str],
    method_settings: object,
    modules: Sequence[str],
    seeds: int,
    machine: Machine,
    command: Sequence[str] | None,
) -> Run:
    _claim(out, settings)
    _heading("1. videos")
    _write_videos(out, settings.data)
    _heading("2. cache of frames")
    annotations = read_csv(out / "annotations.csv", out / "videos")
    build = BuildSettings(num_candidates=data.NUM_CANDIDATES, frame_size=data.FRAME_SIZE)
    frames = build_cache(annotations, out / "cache", build)
    caches = []
    for seed in range(seeds):
        _heading(f"3. networks, seed {seed}")
        caches.append(_train_networks(frames, out / f"seed-{seed}", settings, seed, machine.device))
    _heading("4. methods")
    # The test split is read here and nowhere else; every choice was made on the validation split.
    run = compare(
        names, caches, out, seeds=seeds, settings=method_settings, modules=modules,
        title="built-in data set, test split", machine=machine, command=command,
    )  # fmt: skip
    _heading("5. report")
    print(f"written: {write_report(run)}")
    return run


def demonstrate(
    out: Path,
    *,
    machine: Machine = Machine(),  # noqa: B008
    command: Sequence[str] | None = None,
) -> Run:
    """The study in little: fewer videos to test on, the methods ``SHOWN`` with fewer settings, one seed.

    Args:
        out: folder of everything that is written.
        machine: how the work is spread.
        command: the command line that asks for it, to be kept with the run.

    Raises:
        InputError: ``out`` holds a run of other settings.
    """
    methods = registry.find(SHOWN)
    own = {registry.attribute(one.id): _changed(one.settings, FEWER.get(one.id, {})) for one in methods}
    settings = DataSettings(data=data.DemoData(validation=150, test=200))
    return study(
        out, settings, methods=SHOWN, method_settings=registry.settings_type(methods)(**own), machine=machine,
        command=command,
    )  # fmt: skip


def _changed(settings: Any, changes: dict[str, Any]) -> Any:
    """Settings with some changed, in nested ones too."""
    nested = {
        name: _changed(getattr(settings, name), value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return replace(settings, **nested)


def contact_sheet(file: Path, settings: data.DemoData, *, videos: int = 10) -> None:
    """One row of candidate frames per video, to look at the data set without writing it."""
    rows = []
    for video in data.plan(settings)[:videos]:
        frames = data.render(video)[data.FRAMES_PER_CANDIDATE // 2 :: data.FRAMES_PER_CANDIDATE]
        rows.append(np.concatenate(list(frames), axis=1))
    with writing(file) as picture:
        Image.fromarray(np.concatenate(rows)).save(picture, "PNG")


def _claim(out: Path, settings: DataSettings) -> None:
    record = json.loads(json.dumps(asdict(settings)))
    file = out / "settings.json"
    if file.is_file() and json.loads(file.read_text()) != record:
        raise InputError(
            f"{out}: holds a run with other settings (see {file}); choose another folder or delete it"
        )
    write_bytes(file, json.dumps(record, indent=1).encode())


def _write_videos(out: Path, settings: data.DemoData) -> None:
    if (out / "annotations.csv").is_file():
        return
    with tqdm(total=sum(settings.splits().values()), desc="writing videos", unit="video") as progress:
        for done in data.write_demo_data(settings, out):
            progress.update(done)


def _train_networks(frames: Cache, folder: Path, settings: DataSettings, seed: int, device: str) -> Cache:
    weights = folder / "pretrained.safetensors"
    cache = derive(frames, folder / "cache", FRAME_ARRAYS)
    if not weights.is_file():
        with seeded(seed):
            network = FrameNetwork("small")
        images, labels = data.render_stills(settings.still_images, seed)
        train_on_images(network, images, labels, replace(settings.stills, seed=seed), device)
        save_weights(network, weights)
    small = SmallTraining(
        str(weights), replace(settings.backbone, seed=seed), replace(settings.skim, seed=seed)
    )
    cache = train_small_networks(cache, small, device)
    cache = train_recognizer(cache, replace(settings.recognizer, seed=seed), device)
    accuracy = recognizer_accuracy(cache, "validation", device)
    print(f"recognizer on all candidates, validation top-1: {accuracy:.3f}")
    return cache


def _heading(text: str) -> None:
    print(f"\n== {text}", flush=True)
