"""The baselines in the registry: heuristics, bounds, early exit, and Stable-Baselines3's algorithms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from baselines.early_exit import EarlyExit
from baselines.heuristics import HEURISTICS, FixedSubsets, NumFrames, check_num_frames, uniform
from baselines.oracle import oracle
from baselines.patches import PATCH_RULES, FixedPatches
from baselines.sb3 import ALGORITHMS, AlgorithmName, EnvironmentName, SB3Policy, SB3Settings
from baselines.sb3_files import load_sb3, read_sb3_record, require_fits, train_to_file
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.agent_kinds import AgentKind, agent_kind
from video_env.evaluation.patch_sizes import patch_setting, sizes_to_choose
from video_env.evaluation.protocols import Entry, Training
from video_env.evaluation.registry import Job, method, require_unset
from video_env.models.conditional_exit import DEFAULT_EXIT, ExitRule

HEURISTIC, BOUND, SB3 = "heuristic", "bound", "stable-baselines3"
ONE_STEP: EnvironmentName = "FrameSelectOneStep-v0"
SEQUENTIAL: EnvironmentName = "FrameSelect-v0"
GRID: EnvironmentName = "PatchSelect-v0"
ANY_POINT: EnvironmentName = "PatchSelectContinuous-v0"


# Frames without a training.


Choose = Callable[[Cache, int, str, int], FixedSubsets]


def _choice_of_frames(id: str, title: str, family: str, about: str, choose: Choose) -> None:
    @method(id, title=title, family=family, about=about, settings=NumFrames())
    def entries(job: Job, settings: NumFrames) -> list[Entry]:
        return [_of_frames(job, count, choose) for count in settings.num_frames]


def _of_frames(job: Job, num_frames: int, choose: Choose) -> Entry:
    check_num_frames(job.cache, num_frames)
    policy = choose(job.cache, num_frames, job.split, job.seed)
    options = {"num_frames": num_frames, "observation": "index"}
    return job.entry({"num_frames": num_frames}, ONE_STEP, policy, options=options)


for _id, _title, _about in (
    ("uniform", "uniform", "the centres of N uniform segments"),
    ("random", "random", "N random frames"),
    ("centre", "centre", "the N frames in the middle"),
    ("motion", "motion", "the N frames that differ most from the one before"),
    (
        "single-frame-confidence", "single-frame confidence",
        "the N frames of which the recognizer, seeing one alone, is surest",
    ),
):  # fmt: skip
    _choice_of_frames(_id, _title, HEURISTIC, _about, HEURISTICS[_id])

_choice_of_frames(
    "oracle", "oracle", BOUND, "the N frames that are best by the true label: the upper bound",
    lambda cache, num_frames, split, seed: oracle(cache, num_frames, split),
)  # fmt: skip


@method("all-frames", family=BOUND, about="every candidate frame")
def all_frames(job: Job, settings: object) -> list[Entry]:
    count = job.cache.num_candidates
    return [_of_frames(job, count, lambda cache, num_frames, split, seed: uniform(cache, num_frames))]


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
    "early-exit", family=HEURISTIC, settings=EarlyExitSettings(),
    about="uniform frames from coarse to fine until the recognizer is sure (after FrameExit)",
)  # fmt: skip
def early_exit(job: Job, settings: EarlyExitSettings) -> list[Entry]:
    return [
        job.entry(
            {"mean_frames": budget}, SEQUENTIAL, EarlyExit(job.cache, job.split, budget, settings.rule),
            options={"observation": "index"},
        )
        for budget in settings.mean_frames
    ]  # fmt: skip


# Patches without a training; the preparation ``patches`` makes their features.


@dataclass(frozen=True)
class PatchSizes:
    """Patch sizes.

    Attributes:
        patch_sizes: sides of patches in pixels of the cache's frames, one point on the curve each; by default
            that of the cache's patches, or 36 where it has none.
    """

    patch_sizes: tuple[int, ...] = ()


def _prepare_patches(job: Job, settings: PatchSizes) -> None:
    for size in sizes_to_choose(job.cache, settings.patch_sizes):
        job.patches(size)


def _choice_of_patches(
    id: str, title: str, family: str, about: str, choose: Callable[[Cache, str, int], FixedPatches]
) -> None:
    @method(
        id, title=title, family=family, about=about, settings=PatchSizes(), prepare=_prepare_patches,
        builds_on=("adafocus",),
    )  # fmt: skip
    def entries(job: Job, settings: PatchSizes) -> list[Entry]:
        caches = [job.patches(size) for size in sizes_to_choose(job.cache, settings.patch_sizes)]
        return [
            job.entry(
                patch_setting(on), GRID, choose(on, job.split, job.seed), options={"observation": "index"},
                cache=on,
            )
            for on in caches
        ]  # fmt: skip


for _id, _title, _family, _about in (
    ("random-patch", "random patch", HEURISTIC, "a random patch in every frame"),
    ("centre-patch", "centre patch", HEURISTIC, "the patch in the middle of every frame"),
    ("most-moving-patch", "most-moving patch", HEURISTIC, "the patch that differs most from before"),
    (
        "patch-oracle", "patch oracle", BOUND,
        "the patch that most raises the true class's probability, frame by frame",
    ),
):  # fmt: skip
    _choice_of_patches(_id, _title, _family, _about, PATCH_RULES[_id])


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
        require_unset(self.training, num_frames="num_frames")


@dataclass(frozen=True)
class SB3Costs:
    """An algorithm that weighs accuracy against GFLOPs.

    Attributes:
        costs_of_all_frames: λ as the share of quality that all frames together may cost, one training each.
        training: what the trainings share.
    """

    costs_of_all_frames: tuple[float, ...] = (0.15, 0.5, 1.0, 2.0)
    training: SB3Settings = field(default_factory=SB3Settings)

    def __post_init__(self) -> None:
        by = "costs_of_all_frames"
        require_unset(self.training, cost_per_gflop=by, cost_of_all_frames=by)


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
        require_unset(self.training)


@dataclass(frozen=True)
class SB3PatchCosts:
    """An algorithm that may stop before the last frame.

    Attributes:
        patch_size: side of a patch in pixels of the cache's frames.
        costs_of_all_frames: λ as the share of quality that all frames together, glanced and looked at, may
            cost, one training each.
        training: what the trainings share.
    """

    patch_size: int = 36
    costs_of_all_frames: tuple[float, ...] = (0.1, 0.2)
    training: SB3Settings = field(default_factory=SB3Settings)

    def __post_init__(self) -> None:
        by = "costs_of_all_frames"
        require_unset(self.training, cost_per_gflop=by, cost_of_all_frames=by)


Runs = Callable[[Job, Any], list[tuple[Cache, str, dict[str, Any]]]]
"""Of a method's settings its trainings: the cache, what the file's name ends in, and the settings varied."""


def _learner(id: str, *, title: str, about: str, settings: Any, runs: Runs, on_patches: bool = False) -> None:
    """Register an algorithm with a training for each of its runs."""

    def train(job: Job, settings: Any) -> None:
        for on, name, varied in runs(job, settings):
            own = replace(settings.training, seed=job.seed, **varied)
            train_to_file(on, own, job.file(f"{id}-{name}.zip"), device=job.device)

    @method(
        id, title=title, family=SB3, about=about, settings=settings, train=train,
        builds_on=("adafocus",) if on_patches else (),
    )  # fmt: skip
    def entries(job: Job, settings: Any) -> list[Entry]:
        points = [
            point_of(job.file(f"{id}-{name}.zip"), on, device=job.device)
            for on, name, _ in runs(job, settings)
        ]
        return [job.entry(**point) for point in points]


def _by_num_frames(job: Job, settings: SB3NumFrames) -> list[tuple[Cache, str, dict[str, Any]]]:
    return [(job.cache, str(count), {"num_frames": count}) for count in settings.num_frames]


def _by_cost(job: Job, settings: SB3Costs) -> list[tuple[Cache, str, dict[str, Any]]]:
    costs = settings.costs_of_all_frames
    return [(job.cache, f"{cost:g}", {"cost_of_all_frames": cost}) for cost in costs]


def _by_patch_size(job: Job, settings: SB3Patches) -> list[tuple[Cache, str, dict[str, Any]]]:
    return [(job.patches(size), str(size), {}) for size in sizes_to_choose(job.cache, settings.patch_sizes)]


def _by_cost_of_patches(job: Job, settings: SB3PatchCosts) -> list[tuple[Cache, str, dict[str, Any]]]:
    (size,) = sizes_to_choose(job.cache, (settings.patch_size,))
    on = job.patches(size)
    costs = settings.costs_of_all_frames
    return [(on, f"{size}-{cost:g}", {"cost_of_all_frames": cost}) for cost in costs]


for _algorithm, _counts in {"ppo": (1, 2, 3), "a2c": (2,), "trpo": (2,), "sac": (2,), "td3": (2,)}.items():
    _training = SB3Settings(cast(AlgorithmName, _algorithm))
    _learner(
        _algorithm, title=_training.title(), about=f"{_training.title()}: N frames in one step",
        settings=SB3NumFrames(_counts, _training), runs=_by_num_frames,
    )  # fmt: skip
for _algorithm, _costs in {
    "maskable-ppo": (0.15, 0.5, 1.0, 2.0), "dqn": (0.5,), "qr-dqn": (0.5,), "recurrent-ppo": (0.5,),
}.items():  # fmt: skip
    _training = SB3Settings(cast(AlgorithmName, _algorithm), SEQUENTIAL)
    _learner(
        _algorithm, title=_training.title(), about=f"{_training.title()}: one frame after another, or stop",
        settings=SB3Costs(_costs, _training), runs=_by_cost,
    )  # fmt: skip
for _algorithm in ("ppo", "a2c", "trpo", "dqn", "qr-dqn", "recurrent-ppo", "sac", "td3"):
    _environment = GRID if GRID in ALGORITHMS[_algorithm].environments else ANY_POINT
    _where = "a patch of the grid" if _environment == GRID else "any point"
    _training = SB3Settings(cast(AlgorithmName, _algorithm), _environment)
    _learner(
        f"patch-{_algorithm}", title=_training.title(), settings=SB3Patches(training=_training),
        about=f"{ALGORITHMS[_algorithm].title}: {_where} in every frame", runs=_by_patch_size,
        on_patches=True,
    )  # fmt: skip
_training = SB3Settings("ppo", GRID, allow_exit=True, hyperparameters={"ent_coef": 0.01})
_learner(
    "patch-ppo-exit", title=_training.title(), settings=SB3PatchCosts(training=_training),
    about="PPO: a patch of the grid in every frame, or stop", runs=_by_cost_of_patches, on_patches=True,
)  # fmt: skip


def point_of(file: Path, cache: Cache, *, device: str = "auto") -> dict[str, Any]:
    """A saved model's point on its curve as fields of an ``Entry``.

    Raises:
        InputError: the file is missing, no such model, or does not fit the cache.
    """
    record = read_sb3_record(file)
    settings = record.settings
    require_fits(file, record, cache)
    policy = SB3Policy(load_sb3(settings, file, cache, device, tuned=record.tuned))
    return {
        "setting": settings.setting(cache), "environment": settings.environment_id, "policy": policy,
        "options": settings.environment_options(cache), "cache": cache,
        "training": Training.of(
            record.training_seconds, asdict(settings) | record.tuned.record(), history=record.history,
            ended=record.ended,
        ),
    }  # fmt: skip


def train_agent(
    cache: Cache,
    out: Path,
    device: str = "auto",
    settings: SB3Settings = SB3Settings(),  # noqa: B008
) -> None:
    """Train a Stable-Baselines3 algorithm on a cache.

    Args:
        cache: Folder of the cache.
        out: File of the model (.zip); its settings go beside it as .json, logs to a folder of the same name.
        device: auto, cpu, cuda:0, ...
        settings: Settings of the algorithm and its training.
    """
    if out.suffix != ".zip":
        raise InputError(f"out {out}: expected a name that ends in .zip")
    train_to_file(cache, settings, out, device=device)
    print(f"{out}: {settings.title()}")


def evaluate_agent(cache: Cache, agent: Path, device: str = "auto") -> Entry:
    """Evaluate a saved model of Stable-Baselines3.

    Args:
        cache: Folder of the cache.
        agent: File of the model (.zip), with its settings beside it.
        device: auto, cpu, cuda:0, ...
    """
    settings = read_sb3_record(agent).settings
    point = point_of(agent, cache, device=device)
    return Entry(settings.method(), settings.title(), SB3, seed=settings.seed, **point)


agent_kind(
    AgentKind(
        "sb3", "an algorithm of Stable-Baselines3", train_agent, evaluate_agent,
        holds=lambda file: file.suffix == ".zip",
    )
)  # fmt: skip
