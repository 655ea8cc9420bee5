"""The main job on the built-in data set: video files to an accuracy-vs-budget curve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from agents.ocsampler import OCSampler, OCSamplerSettings
from baselines.sb3 import SB3Settings
from compare.methods import (
    ALL_FRAMES,
    UNTRAINED,
    ocsampler_entry,
    saved_entry,
    train_ocsampler,
    train_sb3_to_file,
    untrained_entry,
)
from compare.summary import write_summary
from video_env.cache.build import BuildSettings, build_cache
from video_env.cache.derive import derive
from video_env.cache.store import Cache, write_bytes
from video_env.data import demo as data
from video_env.data.annotations import read_csv
from video_env.errors import InputError
from video_env.evaluation.evaluate import Entry, evaluate, read_results, write_results
from video_env.evaluation.plots import plot_selections
from video_env.evaluation.selections import write_selections
from video_env.models.backbones import FrameNetwork
from video_env.models.optimise import seeded
from video_env.models.train_backbone import BackboneTraining, ImageTraining, SkimTraining, train_on_images
from video_env.models.train_recognizer import RecognizerTraining, recognizer_accuracy, train_recognizer
from video_env.models.train_small import SmallTraining, save_weights, train_small_networks

FRAME_ARRAYS = ("frame_index", "timestamp_seconds", "frames")


@dataclass(frozen=True)
class DemoSettings:
    """Settings of the demonstration.

    Attributes:
        data: the videos.
        still_images: how many still images stand in for pretraining.
        stills: how they are learned.
        backbone: how the recognizer's backbone learns the videos.
        skim: how the skim network learns to foretell the backbone's features.
        recognizer: how the recognizer is trained on the features.
        untrained_frames: numbers of frames for the heuristics and the oracle.
        ocsampler_frames: numbers of frames, one OCSampler each.
        end_to_end_frames: numbers of frames, one OCSampler each that is trained from frames.
        budget_costs: λ of the OCSampler with a frame-number budget, which is trained once.
        ppo_frames: numbers of frames, one PPO each.
        maskable_ppo_costs: λ, one MaskablePPO each.
        ocsampler: what the OCSamplers' trainings on cached features share.
        end_to_end: what the OCSamplers' trainings from frames share.
        ppo: what the PPOs' trainings share.
    """

    data: data.DemoData = field(default_factory=data.DemoData)
    still_images: int = 12_000
    stills: ImageTraining = field(default_factory=ImageTraining)
    backbone: BackboneTraining = field(default_factory=BackboneTraining)
    skim: SkimTraining = field(default_factory=SkimTraining)
    recognizer: RecognizerTraining = field(default_factory=lambda: RecognizerTraining(hidden=128))
    untrained_frames: tuple[int, ...] = (1, 2, 3, 4, 6)
    ocsampler_frames: tuple[int, ...] = (1, 2, 3, 4)
    end_to_end_frames: tuple[int, ...] = (1, 2, 3)
    budget_costs: tuple[float, ...] = (1.0, 4.0, 12.0, 24.0)
    ppo_frames: tuple[int, ...] = (1, 2, 3)
    maskable_ppo_costs: tuple[float, ...] = (1.0, 4.0, 12.0, 24.0)
    ocsampler: OCSamplerSettings = field(default_factory=OCSamplerSettings)
    end_to_end: OCSamplerSettings = field(
        default_factory=lambda: OCSamplerSettings(skim="small_skim", estimator="exact", epochs=15)
    )
    ppo: SB3Settings = field(default_factory=SB3Settings)


def run_demo(out: Path, settings: DemoSettings, *, seeds: int = 1, device: str = "auto") -> pd.DataFrame:
    """Do everything that is not done yet under ``out`` and return the summary table.

    Raises:
        InputError: ``out`` holds a run of other settings.
    """
    _claim(out, settings)
    _heading("1. videos")
    _write_videos(out, settings.data)
    _heading("2. cache of frames")
    annotations = read_csv(out / "annotations.csv", out / "videos")
    build = BuildSettings(num_candidates=data.NUM_CANDIDATES, frame_size=data.FRAME_SIZE)
    frames = build_cache(annotations, out / "cache", build)
    for seed in range(seeds):
        run_seed(frames, out, settings, seed, device)
    _heading("results")
    results = read_results(*(out / f"seed-{seed}" / "results" for seed in range(seeds)))
    summary = write_summary(results, out, title="built-in data set, test split")
    for seed in range(seeds):
        of_seed = results[results["seed"] == seed]
        write_selections(
            Cache(out / f"seed-{seed}" / "cache"), of_seed, out / f"seed-{seed}" / "selections.jsonl"
        )
    _draw_selections(Cache(out / "seed-0" / "cache"), results[results["seed"] == 0], out / "selections.png")
    print(
        f"\nPictures and tables are in {out}: curve.png, selections.png, summary.csv; of each seed: "
        "results/, selections.jsonl, agents/, cache/"
    )
    return summary


def run_seed(frames: Cache, out: Path, settings: DemoSettings, seed: int, device: str) -> None:
    """Everything that depends on the seed: networks, agents, result tables."""
    folder = out / f"seed-{seed}"
    _heading(f"3. networks, seed {seed}")
    cache = _train_networks(frames, folder, settings, seed, device)
    _heading(f"4. agents, seed {seed}")
    # The test split is read here and nowhere else; every choice was made on the validation split.
    for name, entries in _entries(cache, folder / "agents", settings, seed, device):
        file = folder / "results" / f"{name.replace(' ', '-')}.parquet"
        if not file.is_file():
            tables = [
                evaluate(entry, cache, "test")
                for entry in tqdm(entries, desc=f"testing {name}", unit="setting")
            ]
            write_results(pd.concat(tables, ignore_index=True), file)


def contact_sheet(file: Path, settings: data.DemoData, *, videos: int = 10) -> None:
    """One row of candidate frames per video, to look at the data set without writing it."""
    rows = []
    for video in data.plan(settings)[:videos]:
        frames = data.render(video)[data.FRAMES_PER_CANDIDATE // 2 :: data.FRAMES_PER_CANDIDATE]
        rows.append(np.concatenate(list(frames), axis=1))
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(file)


def _claim(out: Path, settings: DemoSettings) -> None:
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


def _train_networks(frames: Cache, folder: Path, settings: DemoSettings, seed: int, device: str) -> Cache:
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


def _entries(
    cache: Cache, folder: Path, settings: DemoSettings, seed: int, device: str
) -> Iterator[tuple[str, list[Entry]]]:
    """Each method's name and entries, trained where they need it."""
    for name in UNTRAINED:
        counts = (cache.num_candidates,) if name == ALL_FRAMES else settings.untrained_frames
        yield name, [untrained_entry(name, cache, "test", count, seed) for count in counts]

    def trained(shared: OCSamplerSettings, name: str, **options: Any) -> OCSampler:
        own = replace(shared, seed=seed, **options)
        return train_ocsampler(cache, own, folder / f"ocsampler-{name}.pt", device=device)

    agents = [
        trained(settings.ocsampler, f"{count}", num_frames=count) for count in settings.ocsampler_frames
    ]
    yield "OCSampler", [ocsampler_entry(agent) for agent in agents]
    agents = [
        trained(settings.end_to_end, f"end-to-end-{count}", num_frames=count)
        for count in settings.end_to_end_frames
    ]
    yield "OCSampler end to end", [ocsampler_entry(agent) for agent in agents]
    if settings.budget_costs:
        trained(settings.ocsampler, "budget", cost_per_gflop=settings.budget_costs[0])
        file = folder / "ocsampler-budget.pt"
        yield (
            "OCSampler budget",
            [saved_entry(file, cache, cost_per_gflop=cost, device=device) for cost in settings.budget_costs],
        )
    for algorithm, varied, values in (
        ("ppo", "num_frames", settings.ppo_frames),
        ("maskable-ppo", "cost_per_gflop", settings.maskable_ppo_costs),
    ):
        files = []
        for value in values:
            options = {**asdict(settings.ppo), "algorithm": algorithm, varied: value, "seed": seed}
            files.append(folder / f"{algorithm}-{value:g}.zip")
            train_sb3_to_file(cache, SB3Settings(**options), files[-1], device=device)
        yield algorithm, [saved_entry(file, cache, device=device) for file in files]


def _draw_selections(cache: Cache, results: pd.DataFrame, file: Path, *, count: int = 3) -> None:
    """Filmstrips of a few test videos, with what each method chose at about two frames."""
    wanted = {
        "uniform": "N = 2", "motion": "N = 2", "PPO": "N = 2", "MaskablePPO": "λ = 4",
        "OCSampler": "N = 2", "OCSampler, budget": "λ = 4", "oracle": "N = 2",
    }  # fmt: skip
    videos = []
    for row in cache.rows("test")[:count]:
        facts = cache.index.iloc[row]
        strips: list[tuple[str, np.ndarray, bool | None]] = [
            (f"shows {digit}", _marks(map(int, shown.split()), cache.num_candidates), None)
            for digit, shown in zip(
                cache.classes[facts["label"]].split("+"), facts["object_candidates"].split(";"), strict=True
            )
        ]
        of_video = results[results["video"] == facts["video"]]
        for method, setting in wanted.items():
            for _, choice in of_video[
                (of_video["method"] == method) & (of_video["setting"] == setting)
            ].iterrows():
                strips.append(
                    (
                        f"{method}, {setting}",
                        _marks(choice["selected"], cache.num_candidates),
                        bool(choice["correct"]),
                    )
                )
        videos.append(
            (f"{facts['video']}: {cache.classes[facts['label']]}", cache["frames"][int(row)], strips)
        )
    plot_selections(videos, file)


def _marks(frames: Iterator[int] | np.ndarray, count: int) -> np.ndarray:
    marked = np.zeros(count, bool)
    marked[list(frames)] = True
    return marked


def _heading(text: str) -> None:
    print(f"\n== {text}", flush=True)
