"""The main job on the built-in data set: video files to an accuracy-vs-budget curve."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from agents.adafocus import AdaFocus
from agents.adafocus_settings import AdaFocusSettings
from agents.adafocus_v2 import AdaFocusV2
from agents.adafocus_v2_settings import AdaFocusV2Settings
from agents.ocsampler import OCSamplerSettings
from baselines.patches import PATCH_RULES
from baselines.sb3 import AlgorithmName, SB3Settings
from compare.methods import (
    ALL_FRAMES,
    UNTRAINED_FRAMES,
    adafocus_entry,
    adafocus_name,
    adafocus_v2_entry,
    adafocus_v2_name,
    ocsampler_entry,
    saved_entry,
    train_adafocus,
    train_adafocus_v2,
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
from video_env.evaluation.plots import plot_patches, plot_selections
from video_env.evaluation.selections import write_selections
from video_env.models.backbones import FrameNetwork
from video_env.models.classifiers import ClassifierName
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
        patch_sizes: sides of patches in pixels, one AdaFocus each.
        compared_size: the one of them at which the other ways to choose patches are compared.
        exit_costs: λ of PPOs that choose patches and may stop, one each.
        adafocus: what the AdaFocus trainings share.
        gru_hidden: width of the published GRU classifier, with which AdaFocus is trained too at the compared
            size; 0 for no such training.
        adafocus_v2: what the AdaFocusV2 trainings share, one at each patch size.
        exit_shares: budgets of AdaFocusV2's conditional exit at the compared size, as shares of the GFLOPs of
            all frames.
        fully_connected: train an AdaFocusV2 with the published policy too, at the compared size.
        patch_ppo: training of a PPO that chooses patches.
        patch_recurrent_ppo: of a RecurrentPPO.
        patch_sac: of a SAC, which chooses any point.
        patch_exit: what the trainings of PPOs that may stop share.
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
    patch_sizes: tuple[int, ...] = (24, 36, 48)
    compared_size: int = 36
    exit_costs: tuple[float, ...] = (4.0, 8.0, 12.0)
    adafocus: AdaFocusSettings = field(default_factory=AdaFocusSettings)
    gru_hidden: int = 128
    adafocus_v2: AdaFocusV2Settings = field(default_factory=AdaFocusV2Settings)
    exit_shares: tuple[float, ...] = (0.9, 0.75, 0.6, 0.5)
    fully_connected: bool = True
    patch_ppo: SB3Settings = field(default_factory=lambda: SB3Settings(environment="PatchSelect-v0"))
    patch_recurrent_ppo: SB3Settings = field(
        default_factory=lambda: SB3Settings(algorithm="recurrent-ppo", environment="PatchSelect-v0")
    )
    patch_sac: SB3Settings = field(
        default_factory=lambda: SB3Settings(algorithm="sac", environment="PatchSelectContinuous-v0")
    )
    patch_exit: SB3Settings = field(
        default_factory=lambda: SB3Settings(
            environment="PatchSelect-v0", allow_exit=True, hyperparameters={"ent_coef": 0.01}
        )
    )


def _check(settings: DemoSettings) -> None:
    if settings.patch_sizes and settings.compared_size not in settings.patch_sizes:
        raise InputError(
            f"compared_size: found {settings.compared_size}, expected one of patch_sizes "
            f"{settings.patch_sizes}"
        )


def run_demo(out: Path, settings: DemoSettings, *, seeds: int = 1, device: str = "auto") -> pd.DataFrame:
    """Do everything that is not done yet under ``out`` and return the summary table.

    Raises:
        InputError: ``out`` holds a run of other settings.
    """
    _check(settings)
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
    summary = write_summary(
        results, out, title="built-in data set, test split", curves=_curves(results, settings)
    )
    for seed in range(seeds):
        of_seed = results[results["seed"] == seed]
        write_selections(
            Cache(out / f"seed-{seed}" / "cache"), of_seed, out / f"seed-{seed}" / "selections.jsonl"
        )
    first, cache = results[results["seed"] == 0], Cache(out / "seed-0" / "cache")
    _draw_selections(cache, first, out / "selections.png")
    pictures = "curve.png, selections.png"
    if settings.patch_sizes:
        _draw_patches(cache, first, settings, out)
        pictures += ", patch-curve.png, patches.png"
    print(
        f"\nPictures and tables are in {out}: {pictures}, summary.csv; of each seed: results/, "
        "selections.jsonl, agents/, cache/"
    )
    return summary


def _curves(results: pd.DataFrame, settings: DemoSettings) -> dict[str, Callable[[str], bool]]:
    """Two pictures, for one would have too many lines: which frames, with AdaFocus among them, and where in
    them."""
    if not settings.patch_sizes:
        return {"curve.png": lambda method: True}
    of_patches = set(results["method"][results["exit_after"].notna()])
    beside = {
        adafocus_name(settings.adafocus.classifier), adafocus_v2_name(settings.adafocus_v2), "patch oracle",
    }  # fmt: skip
    return {
        "curve.png": lambda method: method not in of_patches or method in beside,
        "patch-curve.png": lambda method: method in {*of_patches, ALL_FRAMES},
    }


def run_seed(frames: Cache, out: Path, settings: DemoSettings, seed: int, device: str) -> None:
    """Everything that depends on the seed: networks, agents, result tables."""
    folder = out / f"seed-{seed}"
    _heading(f"3. networks, seed {seed}")
    cache = _train_networks(frames, folder, settings, seed, device)
    _heading(f"4. agents, seed {seed}")
    # The test split is read here and nowhere else; every choice was made on the validation split.
    agents = folder / "agents"
    methods = [*_frame_methods(cache, agents, settings, seed, device)]
    if settings.patch_sizes:
        methods += _patch_methods(cache, agents, settings, seed, device)
    for name, entries in methods:
        file = folder / "results" / f"{name.replace(', ', '-').replace(' ', '-')}.parquet"
        if not file.is_file():
            tables = [
                evaluate(entry, on, "test")
                for on, entry in tqdm(entries(), desc=f"testing {name}", unit="setting")
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


Method = tuple[str, Callable[[], list[tuple[Cache, Entry]]]]
"""A method's name, and what trains it where it needs that and gives its entries, each with its cache."""


def _frame_methods(
    cache: Cache, folder: Path, settings: DemoSettings, seed: int, device: str
) -> Iterator[Method]:
    def trained(shared: OCSamplerSettings, name: str, **options: Any) -> tuple[Cache, Entry]:
        own = replace(shared, seed=seed, **options)
        return cache, ocsampler_entry(
            train_ocsampler(cache, own, folder / f"ocsampler-{name}.pt", device=device)
        )

    def budget() -> list[tuple[Cache, Entry]]:
        trained(settings.ocsampler, "budget", cost_per_gflop=settings.budget_costs[0])
        file = folder / "ocsampler-budget.pt"
        return [
            (cache, saved_entry(file, cache, cost_per_gflop=cost, device=device))
            for cost in settings.budget_costs
        ]

    def untrained(name: str, counts: tuple[int, ...]) -> list[tuple[Cache, Entry]]:
        return [(cache, untrained_entry(name, cache, "test", count, seed)) for count in counts]

    def sb3(varied: str, value: Any, algorithm: AlgorithmName) -> tuple[Cache, Entry]:
        own = replace(settings.ppo, algorithm=algorithm, seed=seed, **{varied: value})
        return _sb3(cache, own, folder / f"{algorithm}-{value:g}.zip", device)

    for name in UNTRAINED_FRAMES:
        counts = (cache.num_candidates,) if name == ALL_FRAMES else settings.untrained_frames
        yield name, partial(untrained, name, counts)
    yield (
        "OCSampler",
        lambda: [trained(settings.ocsampler, f"{n}", num_frames=n) for n in settings.ocsampler_frames],
    )
    yield (
        "OCSampler end to end",
        lambda: [
            trained(settings.end_to_end, f"end-to-end-{n}", num_frames=n) for n in settings.end_to_end_frames
        ],
    )
    if settings.budget_costs:
        yield "OCSampler budget", budget
    yield "ppo", lambda: [sb3("num_frames", count, "ppo") for count in settings.ppo_frames]
    yield (
        "maskable-ppo",
        lambda: [sb3("cost_per_gflop", cost, "maskable-ppo") for cost in settings.maskable_ppo_costs],
    )


def _patch_methods(
    cache: Cache, folder: Path, settings: DemoSettings, seed: int, device: str
) -> Iterator[Method]:
    """Every patch size has a cache of its own, with the networks that AdaFocus's stage 1 trained for it."""

    @lru_cache
    def trained(size: int, classifier: ClassifierName) -> tuple[Cache, AdaFocus]:
        compared = classifier != settings.adafocus.classifier
        hidden = settings.gru_hidden if compared else settings.adafocus.hidden
        own = replace(settings.adafocus, patch_size=size, classifier=classifier, hidden=hidden, seed=seed)
        name = f"adafocus-{size}" + ("" if classifier == settings.adafocus.classifier else f"-{classifier}")
        agent = train_adafocus(cache, own, folder / name, device=device)
        assert agent.patch_cache is not None
        return agent.patch_cache, agent

    def adafocus(sizes: tuple[int, ...], classifier: ClassifierName) -> list[tuple[Cache, Entry]]:
        agents = [trained(size, classifier) for size in sizes]
        return [
            (on, adafocus_entry(agent, fine_tuned=fine_tuned))
            for on, agent in agents
            for fine_tuned in (False, True)
        ]

    def second(size: int, shared: AdaFocusV2Settings) -> tuple[tuple[Cache, Entry], AdaFocusV2]:
        own = replace(shared, patch_size=size, seed=seed)
        name = f"adafocus-v2-{size}" + ("" if shared == settings.adafocus_v2 else f"-{shared.policy}")
        agent = train_adafocus_v2(cache, own, folder / name, device=device)
        return (cache, adafocus_v2_entry(agent)), agent

    def adafocus_v2() -> list[tuple[Cache, Entry]]:
        entries = []
        for size in settings.patch_sizes:
            entry, agent = second(size, settings.adafocus_v2)
            entries.append(entry)
            if size == settings.compared_size:
                entries += [
                    (cache, adafocus_v2_entry(agent, share * agent.gflops)) for share in settings.exit_shares
                ]
        return entries

    def rule(name: str) -> list[tuple[Cache, Entry]]:
        caches = [trained(size, settings.adafocus.classifier)[0] for size in settings.patch_sizes]
        return [(on, untrained_entry(name, on, "test", 0, seed)) for on in caches]

    def sb3(own: SB3Settings, **options: Any) -> tuple[Cache, Entry]:
        on, _ = trained(settings.compared_size, settings.adafocus.classifier)
        name = own.title().replace(", ", "-").replace(" ", "-")
        name += f"-{options['cost_per_gflop']:g}" if own.allow_exit else ""
        return _sb3(on, replace(own, seed=seed, **options), folder / f"{name}.zip", device)

    yield "AdaFocus", lambda: adafocus(settings.patch_sizes, settings.adafocus.classifier)
    if settings.gru_hidden and settings.adafocus.classifier != "gru":
        yield "AdaFocus GRU", lambda: adafocus((settings.compared_size,), "gru")
    yield "AdaFocusV2", adafocus_v2
    if settings.fully_connected and settings.adafocus_v2.policy != "fully_connected":
        own_v2 = replace(settings.adafocus_v2, policy="fully_connected", policy_hidden=128)
        yield "AdaFocusV2 fully connected", lambda: [second(settings.compared_size, own_v2)[0]]
    for name in PATCH_RULES:
        yield name, partial(rule, name)
    for own in (settings.patch_ppo, settings.patch_recurrent_ppo, settings.patch_sac):
        yield own.title(), partial(lambda own: [sb3(own)], own)
    if settings.exit_costs:
        yield (
            "patch-ppo exit",
            lambda: [sb3(settings.patch_exit, cost_per_gflop=cost) for cost in settings.exit_costs],
        )


def _sb3(cache: Cache, settings: SB3Settings, file: Path, device: str) -> tuple[Cache, Entry]:
    train_sb3_to_file(cache, settings, file, device=device)
    return cache, saved_entry(file, cache, device=device)


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


def _draw_patches(
    cache: Cache, results: pd.DataFrame, settings: DemoSettings, out: Path, *, count: int = 2
) -> None:
    """Frames of a few test videos with the patches that each method chose at the compared size."""
    setting = f"{settings.compared_size}²"
    methods = ("random patch", "most-moving patch", "PPO, patches", "AdaFocus", "AdaFocusV2", "patch oracle")
    videos = []
    for row in cache.rows("test")[:count]:
        facts = cache.index.iloc[row]
        rows = []
        for method in methods:
            chosen = results[
                (results["video"] == facts["video"])
                & (results["method"] == method)
                & (results["setting"] == setting)
            ]
            for points, right in zip(chosen["patches"], chosen["correct"], strict=True):
                rows.append((method, np.reshape(points, (-1, 2)), bool(right)))
        heading = f"{facts['video']}: {cache.classes[facts['label']]}"
        videos.append((heading, cache["frames"][int(row)], rows))
    share = settings.compared_size / int(cache.meta["frame_size"])
    plot_patches(videos, out / "patches.png", patch_share=share)


def _marks(frames: Iterator[int] | np.ndarray, count: int) -> np.ndarray:
    marked = np.zeros(count, bool)
    marked[list(frames)] = True
    return marked


def _heading(text: str) -> None:
    print(f"\n== {text}", flush=True)
