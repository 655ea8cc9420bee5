"""AdaFocusV2 in the registry: methods to compare, its files, and its released checkpoints."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from agents.adafocus_v2.agent import AdaFocusV2
from agents.adafocus_v2.released import load_adafocus_v2
from agents.adafocus_v2.settings import AdaFocusV2Settings
from agents.common.agent_files import holds_agent
from agents.common.released_caches import as_numbered, require_input
from agents.common.released_checkpoints import load_checkpoint
from video_env.cache.build import build_cache
from video_env.cache.decoding import BuildSettings
from video_env.cache.store import Cache
from video_env.data.annotations import Annotations
from video_env.errors import InputError
from video_env.evaluation.agent_kinds import AgentKind, ReleasedSystem, agent_kind, released_system
from video_env.evaluation.protocols import Entry, Training
from video_env.evaluation.registry import Job, method, require_unset
from video_env.files import alone
from video_env.models import processes
from video_env.models.conditional_exit import DEFAULT_EXIT, ExitRule

FAMILY = "adafocus-v2"


def train_to_folder(
    cache: Cache, settings: AdaFocusV2Settings, folder: Path, *, device: str = "auto"
) -> None:
    """Train an AdaFocusV2 in a folder, from where an interrupted call left off: its checkpoint, and
    ``agent.pt``."""
    with alone(folder) if processes.is_first() else nullcontext():
        processes.wait()  # until it is ours
        agent = AdaFocusV2(cache, settings, folder=folder, device=device)
        agent.learn(log_folder=folder / "logs")
        agent.save(folder / "agent.pt")


def title_of(settings: AdaFocusV2Settings) -> str:
    """What people read: the agent's name with its policy and the ingredients that are not as by default."""
    policy = ", fully connected policy" if settings.policy == "fully_connected" else ""
    default = asdict(AdaFocusV2Settings().ingredients)
    different = [
        f", {'with' if there else 'no'} {name.replace('_', ' ')}"
        for name, there in asdict(settings.ingredients).items()
        if there != default[name]
    ]
    return f"AdaFocusV2{policy}{''.join(different)}"


def point_of(agent: AdaFocusV2, gflops: float | None = None, rule: ExitRule = DEFAULT_EXIT) -> dict[str, Any]:
    """The agent's point on its curve as fields of an ``Entry``: on all frames, or with conditional exit at a
    budget in GFLOPs per video.

    Raises:
        InputError: the budget cannot be met.
    """
    setting: dict[str, Any] = {"patch_size": agent.settings.patch_size}
    options: dict[str, Any] = {}
    if gflops is not None:
        agent.thresholds(gflops, rule)  # an impossible budget is said here
        options = {"gflops": gflops, "rule": rule}
        setting["gflops_budget"] = gflops
        for name, value in asdict(rule).items():
            if value != getattr(DEFAULT_EXIT, name):
                setting[f"exit_{name}"] = value
    training = Training.of(
        agent.training_seconds, asdict(agent.settings), history=agent.history, ended=agent.ended
    )
    return {
        "setting": setting, "environment": None, "policy": agent, "options": options, "training": training,
    }  # fmt: skip


# To compare.


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

    patch_sizes: tuple[int, ...] = (36,)
    exit_sizes: tuple[int, ...] = (36,)
    exit_shares: tuple[float, ...] = (0.9, 0.75, 0.6, 0.5)
    rule: ExitRule = DEFAULT_EXIT
    training: AdaFocusV2Settings = field(default_factory=AdaFocusV2Settings)

    def __post_init__(self) -> None:
        require_unset(self.training, patch_size="patch_sizes")


def train_sizes(job: Job, settings: AdaFocusV2Sizes) -> None:
    shares, least = settings.exit_shares, 1 / job.cache.num_candidates
    if len(set(shares)) < len(shares) or not all(least <= share <= 1 for share in shares):
        raise InputError(f"exit_shares: found {shares}, expected different ones from {least:.3g} to 1")
    for size in settings.patch_sizes:
        own = replace(settings.training, patch_size=size, seed=job.seed)
        train_to_folder(job.cache, own, _folder(job, size), device=job.device)


def _folder(job: Job, size: int) -> Path:
    assert job.method is not None
    return job.file(f"{job.method.id}-{size}")


@method(
    "adafocus-v2", title="AdaFocusV2", family=FAMILY,
    about="a patch in every frame, trained end to end, with conditional exit", settings=AdaFocusV2Sizes(),
    train=train_sizes,
)  # fmt: skip
def adafocus_v2(job: Job, settings: AdaFocusV2Sizes) -> list[Entry]:
    entries = []
    for size in settings.patch_sizes:
        agent = AdaFocusV2.load(_folder(job, size) / "agent.pt", cache=job.cache, device=job.device)
        entries.append(job.entry(**point_of(agent)))
        for share in settings.exit_shares if size in settings.exit_sizes else ():
            point = point_of(agent, share * agent.gflops, settings.rule)
            entries.append(job.entry(**point, variant="exit"))
    return entries


@method(
    "adafocus-v2-fully-connected", title="AdaFocusV2, fully connected policy", family=FAMILY,
    about="the same with the published policy",
    settings=AdaFocusV2Sizes(
        (36,), (), training=AdaFocusV2Settings(policy="fully_connected", policy_hidden=128)
    ),
    train=train_sizes,
)  # fmt: skip
def adafocus_v2_fully_connected(job: Job, settings: AdaFocusV2Sizes) -> list[Entry]:
    return adafocus_v2(job, settings)


# One agent and its file.


def train_agent(
    cache: Cache,
    out: Path,
    device: str = "auto",
    settings: AdaFocusV2Settings = AdaFocusV2Settings(),  # noqa: B008
) -> None:
    """Train an AdaFocusV2 on the frames of a cache, end to end; an interrupted training goes on.

    Under torchrun every process takes a share of each batch; their number must divide the parts.

    Args:
        cache: Folder of a cache with frames; where the focus network starts from the cache, also with the
            small network of its embedding.
        out: Folder of the agent (agent.pt), its checkpoint and its logs.
        device: auto, cpu, cuda:0, ...
        settings: Settings of the agent and its training.
    """
    with processes.joined(device) as own:
        train_to_folder(cache, settings, out, device=own)
        if processes.is_first():
            agent = AdaFocusV2.load(out / "agent.pt", cache=cache, device=own)
            print(f"{out / 'agent.pt'}: {title_of(settings)}, trained in {agent.training_seconds:.0f} s")


def evaluate_agent(
    cache: Cache,
    agent: Path,
    gflops: float | None = None,
    exit: ExitRule = ExitRule(),  # noqa: B008
    device: str = "auto",
) -> Entry:
    """Evaluate a saved AdaFocusV2.

    Args:
        cache: Folder of the cache, with frames.
        agent: File of the agent (agent.pt).
        gflops: Budget per video, kept to by conditional exit; all frames by default.
        exit: Rule of the exit.
        device: auto, cpu, cuda:0, ...
    """
    return entry_of(AdaFocusV2.load(agent, cache=cache, device=device), gflops, exit)


def entry_of(
    agent: AdaFocusV2,
    gflops: float | None = None,
    rule: ExitRule = DEFAULT_EXIT,
    *,
    released: bool = False,
) -> Entry:
    """An agent by itself as an entry of an evaluation; see ``point_of``.

    Raises:
        InputError: there is a rule without a budget, or the budget cannot be met.
    """
    if rule != DEFAULT_EXIT and gflops is None:
        raise InputError("exit: found a rule without a budget, expected gflops too")
    id, title = "adafocus-v2", title_of(agent.settings)
    if released:
        id, title = "adafocus-v2-released", "AdaFocusV2, released"
    if gflops is not None:
        id, title = f"{id}-exit", f"{title}, exit"
    return Entry(id, title, FAMILY, seed=agent.settings.seed, **point_of(agent, gflops, rule))


agent_kind(
    AgentKind(
        "adafocus-v2",
        "AdaFocusV2",
        train_agent,
        evaluate_agent,
        holds=partial(holds_agent, agent="AdaFocusV2"),
    )
)


# Released checkpoints.


def build_released_cache(
    annotations: Annotations,
    out: Path,
    settings: BuildSettings,
    checkpoint: Path,
    patch_size: int = 128,
    device: str = "auto",
) -> Cache:
    """Build a cache of frames for a released AdaFocusV2, which looks at them by itself.

    Args:
        annotations: Table of the videos, their labels numbered as the checkpoint's classes are.
        out: Folder of the cache.
        settings: How videos are read.
        checkpoint: The released file.
        patch_size: Side of a patch in pixels.
        device: auto, cpu, cuda:0, ...
    """
    network = load_checkpoint("adafocus-v2", load_adafocus_v2, checkpoint, patch_size=patch_size)
    require_input(settings, network.num_frames)
    return build_cache(as_numbered(annotations, network.classes, checkpoint), out, settings)


def evaluate_released(
    cache: Cache,
    checkpoint: Path,
    patch_size: int = 128,
    gflops: float | None = None,
    exit: ExitRule = ExitRule(),  # noqa: B008
    device: str = "auto",
) -> Entry:
    """Evaluate a released AdaFocusV2; its budget is solved on the cache's training videos.

    Args:
        cache: Folder of the cache, with frames.
        checkpoint: The released file.
        patch_size: Side of a patch in pixels.
        gflops: Budget per video, kept to by conditional exit; all frames by default.
        exit: Rule of the exit.
        device: auto, cpu, cuda:0, ...
    """
    network = load_checkpoint("adafocus-v2", load_adafocus_v2, checkpoint, patch_size=patch_size)
    agent = AdaFocusV2.from_released(network, cache, device=device)
    if gflops is not None:
        agent.calibrate()
    return entry_of(agent, gflops, exit, released=True)


released_system(ReleasedSystem("adafocus-v2", "AdaFocusV2", build_released_cache, evaluate_released))
