"""Our methods: a function each, which the registry (``video_env.evaluation.registry``) lists by name."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

from agents.adafocus.settings import AdaFocusSettings
from agents.adafocus_v2.settings import AdaFocusV2Settings
from agents.ocsampler.settings import OCSamplerSettings
from baselines.early_exit import EarlyExit
from baselines.heuristics import HEURISTICS
from baselines.patches import PATCH_RULES
from baselines.sb3 import ALGORITHMS, AlgorithmName, EnvironmentName, SB3Settings
from compare.entries import (
    ALL_FRAMES,
    adafocus_entry,
    adafocus_v2_entry,
    ocsampler_entry,
    patches_of_adafocus,
    saved_entry,
    train_adafocus,
    train_adafocus_v2,
    train_ocsampler,
    train_sb3_to_file,
    untrained_entry,
)
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.protocols import Entry
from video_env.evaluation.registry import Job, method
from video_env.models.conditional_exit import DEFAULT_EXIT, ExitRule


def _require_unset(training: Any, **given_by: str) -> None:
    """What a curve varies is given by the curve's own settings, and the seed by the comparison.

    Raises:
        InputError: it is given in the settings that the trainings share, where it would be overwritten.
    """
    for name, elsewhere in {**given_by, "seed": "seeds of the comparison"}.items():
        default = next(item.default for item in fields(training) if item.name == name)
        if (found := getattr(training, name)) != default:
            raise InputError(f"training.{name}: found {found}; it is given by {elsewhere}")


# Frames without a training.


@dataclass(frozen=True)
class NumFrames:
    """Numbers of frames.

    Attributes:
        num_frames: numbers of frames, one point on the curve each.
    """

    num_frames: tuple[int, ...] = (1, 2, 3, 4, 6)


def _untrained(title: str, about: str) -> None:
    @method(title.replace(" ", "-"), about=about, settings=NumFrames(), trains=False)
    def untrained(job: Job, settings: NumFrames) -> list[Entry]:
        return [untrained_entry(title, job.cache, job.split, n, job.seed) for n in settings.num_frames]


for _title, _about in {
    "uniform": "the centres of N uniform segments",
    "random": "N random frames",
    "centre": "the N frames in the middle",
    "motion": "the N frames that differ most from the one before",
    "single-frame confidence": "the N frames of which the recognizer, seeing one alone, is surest",
    "oracle": "the N frames that are best by the true label: the upper bound",
}.items():
    assert _title in (*HEURISTICS, "oracle")
    _untrained(_title, _about)


@method("all-frames", about="every candidate frame", trains=False)
def all_frames(job: Job, settings: object) -> list[Entry]:
    return [untrained_entry(ALL_FRAMES, job.cache, job.split, 0, job.seed)]


@dataclass(frozen=True)
class EarlyExitSettings:
    """Budgets and the rule of the exit.

    Attributes:
        mean_frames: budgets, frames per training video on average, one point on the curve each.
        rule: when a video is left.
    """

    mean_frames: tuple[float, ...] = (2.0, 3.0, 4.0, 6.0, 8.0)
    rule: ExitRule = DEFAULT_EXIT


@method(
    "early-exit",
    about="uniform frames from coarse to fine until the recognizer is sure (after FrameExit)",
    settings=EarlyExitSettings(),
    trains=False,
)
def early_exit(job: Job, settings: EarlyExitSettings) -> list[Entry]:
    return [
        Entry(
            "early exit", f"{budget:g} frames", job.seed, "FrameSelect-v0",
            EarlyExit(job.cache, job.split, budget, settings.rule), {"observation": "index"},
        )
        for budget in settings.mean_frames
    ]  # fmt: skip


# OCSampler.


@dataclass(frozen=True)
class OCSamplerCurve:
    """OCSamplers for several numbers of frames.

    Attributes:
        num_frames: numbers of frames, one training each.
        training: what the trainings share.
    """

    num_frames: tuple[int, ...] = (1, 2, 3, 4)
    training: OCSamplerSettings = field(default_factory=OCSamplerSettings)

    def __post_init__(self) -> None:
        _require_unset(self.training, num_frames="num_frames")


def _ocsamplers(job: Job, settings: OCSamplerCurve, name: str) -> list[Entry]:
    entries = []
    for count in settings.num_frames:
        own = replace(settings.training, num_frames=count, seed=job.seed)
        agent = train_ocsampler(job.cache, own, job.folder / f"{name}-{count}.pt", device=job.device)
        entries.append(ocsampler_entry(agent))
    return entries


@method("ocsampler", about="N frames in one step, trained on cached features", settings=OCSamplerCurve())
def ocsampler(job: Job, settings: OCSamplerCurve) -> list[Entry]:
    return _ocsamplers(job, settings, "ocsampler")


@method(
    "ocsampler-end-to-end",
    about="the same, trained with its skim network from frames, by the exact gradient",
    settings=OCSamplerCurve((1, 2, 3), OCSamplerSettings(skim="small_skim", estimator="exact", epochs=15)),
)
def ocsampler_end_to_end(job: Job, settings: OCSamplerCurve) -> list[Entry]:
    return _ocsamplers(job, settings, "ocsampler-end-to-end")


@dataclass(frozen=True)
class Costs:
    """An OCSampler with a frame-number budget.

    Attributes:
        costs: λ, one point on the curve each.
        training: of the one agent; its λ is turned afterwards.
    """

    costs: tuple[float, ...] = (1.0, 4.0, 12.0, 24.0)
    training: OCSamplerSettings = field(default_factory=OCSamplerSettings)

    def __post_init__(self) -> None:
        _require_unset(self.training, cost_per_gflop="costs")


@method("ocsampler-budget", about="the same with a frame-number budget", settings=Costs())
def ocsampler_budget(job: Job, settings: Costs) -> list[Entry]:
    if not settings.costs:
        raise InputError("costs: found none, expected at least one")
    file = job.folder / "ocsampler-budget.pt"
    own = replace(settings.training, seed=job.seed, cost_per_gflop=settings.costs[0])
    train_ocsampler(job.cache, own, file, device=job.device)
    return [saved_entry(file, job.cache, cost_per_gflop=cost, device=job.device) for cost in settings.costs]


# AdaFocus, whose first two stages make the patches that all of PatchSelect-v0 needs.


@dataclass(frozen=True)
class AdaFocusSizes:
    """AdaFocus at several patch sizes.

    Attributes:
        patch_sizes: sides of patches in pixels of the cache's frames, one training each.
        training: what the trainings share.
    """

    patch_sizes: tuple[int, ...] = (24, 36, 48)
    training: AdaFocusSettings = field(default_factory=AdaFocusSettings)

    def __post_init__(self) -> None:
        _require_unset(self.training, patch_size="patch_sizes")


def _sizes(cache: Cache, asked: tuple[int, ...]) -> tuple[int, ...]:
    """The patch sizes that were asked for; in a cache that has patches already, their own.

    Raises:
        InputError: that is none of those asked for.
    """
    if "patches" not in cache:
        return asked
    own = cache.meta["arrays"]["patches"]["source"].get("patch_size")
    if own is None:
        return asked[:1]
    if own not in asked:
        raise InputError(
            f"patch_sizes: found {', '.join(map(str, asked))}; cache {cache.path} has patches of {own} "
            "pixels already, and no others can be chosen on it"
        )
    return (own,)


def _adafocus_settings(job: Job, size: int, curve: AdaFocusSizes) -> AdaFocusSettings:
    return replace(curve.training, patch_size=size, seed=job.seed)


def _patch_cache(job: Job, size: int) -> Cache:
    """The cache with patches of this size: the comparison's own, or that of the method ``adafocus``."""
    if "patches" in job.cache:
        return job.cache
    own = _adafocus_settings(job, size, job.settings["adafocus"])
    return patches_of_adafocus(job.cache, own, job.folder / f"adafocus-{size}", device=job.device)


def _adafocus(job: Job, settings: AdaFocusSizes, name: str) -> list[Entry]:
    entries = []
    for size in _sizes(job.cache, settings.patch_sizes):
        own = _adafocus_settings(job, size, settings)
        agent = train_adafocus(
            job.cache, own, job.folder / f"{name}-{size}", device=job.device, validate=_validates(job)
        )
        entries += [adafocus_entry(agent, fine_tuned=fine_tuned) for fine_tuned in (False, True)]
    return entries


def _validates(job: Job) -> bool:
    return bool((job.cache.index["split"] == "validation").any())


@method(
    "adafocus", about="a patch in every frame, chosen by PPO: the first version", settings=AdaFocusSizes()
)
def adafocus(job: Job, settings: AdaFocusSizes) -> list[Entry]:
    return _adafocus(job, settings, "adafocus")


@method(
    "adafocus-gru",
    about="the same with the published GRU classifier",
    settings=AdaFocusSizes((36,), AdaFocusSettings(classifier="gru", hidden=128)),
)
def adafocus_gru(job: Job, settings: AdaFocusSizes) -> list[Entry]:
    return _adafocus(job, settings, "adafocus-gru")


@dataclass(frozen=True)
class AdaFocusV2Sizes:
    """AdaFocusV2 at several patch sizes.

    Attributes:
        patch_sizes: sides of patches in pixels of the cache's frames, one training each.
        exit_sizes: those of them at which conditional exit is evaluated too.
        exit_shares: its budgets, as shares of the GFLOPs of all frames, one point on the curve each.
        rule: of that exit.
        training: what the trainings share.
    """

    patch_sizes: tuple[int, ...] = (36, 48)
    exit_sizes: tuple[int, ...] = (36,)
    exit_shares: tuple[float, ...] = (0.9, 0.75, 0.6, 0.5)
    rule: ExitRule = DEFAULT_EXIT
    training: AdaFocusV2Settings = field(default_factory=AdaFocusV2Settings)

    def __post_init__(self) -> None:
        _require_unset(self.training, patch_size="patch_sizes")


def _adafocus_v2(job: Job, settings: AdaFocusV2Sizes, name: str) -> list[Entry]:
    shares, least = settings.exit_shares, 1 / job.cache.num_candidates
    if len(set(shares)) < len(shares) or not all(least <= share <= 1 for share in shares):
        raise InputError(f"exit_shares: found {shares}, expected different ones from {least:.3g} to 1")
    entries = []
    for size in settings.patch_sizes:
        own = replace(settings.training, patch_size=size, seed=job.seed)
        agent = train_adafocus_v2(
            job.cache, own, job.folder / f"{name}-{size}", device=job.device, validate=_validates(job)
        )
        budgets = [share * agent.gflops for share in shares] if size in settings.exit_sizes else []
        entries.append(adafocus_v2_entry(agent))
        entries += [adafocus_v2_entry(agent, budget, settings.rule) for budget in budgets]
    return entries


@method(
    "adafocus-v2",
    about="a patch in every frame, trained end to end, with conditional exit",
    settings=AdaFocusV2Sizes(),
)
def adafocus_v2(job: Job, settings: AdaFocusV2Sizes) -> list[Entry]:
    return _adafocus_v2(job, settings, "adafocus-v2")


@method(
    "adafocus-v2-fully-connected",
    about="the same with the published policy",
    settings=AdaFocusV2Sizes(
        (36,), (), training=AdaFocusV2Settings(policy="fully_connected", policy_hidden=128)
    ),
)
def adafocus_v2_fully_connected(job: Job, settings: AdaFocusV2Sizes) -> list[Entry]:
    return _adafocus_v2(job, settings, "adafocus-v2-fully-connected")


@dataclass(frozen=True)
class PatchSizes:
    """Patch sizes.

    Attributes:
        patch_sizes: sides of patches in pixels of the cache's frames, one point on the curve each.
    """

    patch_sizes: tuple[int, ...] = (24, 36, 48)


def _patch_rule(title: str, about: str) -> None:
    @method(title.replace(" ", "-"), about=about, settings=PatchSizes(), builds_on=("adafocus",))
    def rule(job: Job, settings: PatchSizes) -> list[Entry]:
        caches = [_patch_cache(job, size) for size in _sizes(job.cache, settings.patch_sizes)]
        return [replace(untrained_entry(title, on, job.split, 0, job.seed), cache=on) for on in caches]


for _title, _about in {
    "random patch": "a random patch in every frame",
    "centre patch": "the patch in the middle of every frame",
    "most-moving patch": "the patch that differs most from the frame before",
    "patch oracle": "the patch that most raises the true class's probability, frame by frame",
}.items():
    assert _title in PATCH_RULES
    _patch_rule(_title, _about)


# Stable-Baselines3.


@dataclass(frozen=True)
class SB3NumFrames:
    """An algorithm that chooses N frames in one step.

    Attributes:
        num_frames: numbers of frames, one training each.
        training: what the trainings share.
    """

    num_frames: tuple[int, ...] = (1, 2, 3)
    training: SB3Settings = field(default_factory=SB3Settings)

    def __post_init__(self) -> None:
        _require_unset(self.training, num_frames="num_frames")


@dataclass(frozen=True)
class SB3Costs:
    """An algorithm that weighs accuracy against GFLOPs.

    Attributes:
        costs: λ, one training each.
        training: what the trainings share.
    """

    costs: tuple[float, ...] = (1.0, 4.0, 12.0, 24.0)
    training: SB3Settings = field(default_factory=SB3Settings)

    def __post_init__(self) -> None:
        _require_unset(self.training, cost_per_gflop="costs")


@dataclass(frozen=True)
class SB3Patches:
    """An algorithm that chooses a patch in every frame.

    Attributes:
        patch_sizes: sides of patches in pixels of the cache's frames, one training each.
        training: what the trainings share.
    """

    patch_sizes: tuple[int, ...] = (36,)
    training: SB3Settings = field(default_factory=SB3Settings)

    def __post_init__(self) -> None:
        _require_unset(self.training)


def _sb3(job: Job, on: Cache, settings: SB3Settings, name: str, **varied: Any) -> Entry:
    file = job.folder / f"{name}.zip"
    train_sb3_to_file(on, replace(settings, seed=job.seed, **varied), file, device=job.device)
    return replace(saved_entry(file, on, device=job.device), cache=on)


@dataclass(frozen=True)
class SB3PatchCosts:
    """An algorithm that may stop before the last frame.

    Attributes:
        patch_size: side of a patch in pixels of the cache's frames.
        costs: λ, one training each.
        training: what the trainings share.
    """

    patch_size: int = 36
    costs: tuple[float, ...] = (4.0, 8.0)
    training: SB3Settings = field(default_factory=SB3Settings)

    def __post_init__(self) -> None:
        _require_unset(self.training, cost_per_gflop="costs")


def _chooses_num_frames(algorithm: AlgorithmName, num_frames: tuple[int, ...]) -> None:
    training = SB3Settings(algorithm)

    @method(
        algorithm,
        about=f"{training.title()}: N frames in one step",
        settings=SB3NumFrames(num_frames, training),
    )
    def entries(job: Job, settings: SB3NumFrames) -> list[Entry]:
        return [
            _sb3(job, job.cache, settings.training, f"{algorithm}-{count}", num_frames=count)
            for count in settings.num_frames
        ]


def _weighs_costs(algorithm: AlgorithmName, costs: tuple[float, ...]) -> None:
    training = SB3Settings(algorithm, "FrameSelect-v0")
    about = f"{training.title()}: one frame after another, or stop"

    @method(algorithm, about=about, settings=SB3Costs(costs, training))
    def entries(job: Job, settings: SB3Costs) -> list[Entry]:
        return [
            _sb3(job, job.cache, settings.training, f"{algorithm}-{cost:g}", cost_per_gflop=cost)
            for cost in settings.costs
        ]


def _chooses_patches(algorithm: AlgorithmName, environment: EnvironmentName) -> None:
    training, name = SB3Settings(algorithm, environment), f"patch-{algorithm}"
    where = "a patch of the grid" if environment == "PatchSelect-v0" else "any point"
    about = f"{ALGORITHMS[algorithm].title}: {where} in every frame"

    @method(name, about=about, settings=SB3Patches(training=training), builds_on=("adafocus",))
    def entries(job: Job, settings: SB3Patches) -> list[Entry]:
        return [
            _sb3(job, _patch_cache(job, size), settings.training, f"{name}-{size}")
            for size in _sizes(job.cache, settings.patch_sizes)
        ]


for _algorithm, _counts in {"ppo": (1, 2, 3), "a2c": (2,), "trpo": (2,), "sac": (2,), "td3": (2,)}.items():
    _chooses_num_frames(cast(AlgorithmName, _algorithm), _counts)
for _algorithm, _costs in {
    "maskable-ppo": (1.0, 4.0, 12.0, 24.0), "dqn": (4.0,), "qr-dqn": (4.0,), "recurrent-ppo": (4.0,),
}.items():  # fmt: skip
    _weighs_costs(cast(AlgorithmName, _algorithm), _costs)
for _algorithm in ("ppo", "a2c", "trpo", "dqn", "qr-dqn", "recurrent-ppo"):
    _chooses_patches(cast(AlgorithmName, _algorithm), "PatchSelect-v0")
for _algorithm in ("sac", "td3"):
    _chooses_patches(cast(AlgorithmName, _algorithm), "PatchSelectContinuous-v0")


@method(
    "patch-ppo-exit",
    about="PPO: a patch of the grid in every frame, or stop",
    settings=SB3PatchCosts(
        training=SB3Settings("ppo", "PatchSelect-v0", allow_exit=True, hyperparameters={"ent_coef": 0.01})
    ),
    builds_on=("adafocus",),
)
def patch_ppo_exit(job: Job, settings: SB3PatchCosts) -> list[Entry]:
    (size,) = _sizes(job.cache, (settings.patch_size,))
    on = _patch_cache(job, size)
    return [
        _sb3(job, on, settings.training, f"patch-ppo-exit-{size}-{cost:g}", cost_per_gflop=cost)
        for cost in settings.costs
    ]
