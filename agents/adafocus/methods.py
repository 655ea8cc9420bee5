"""AdaFocus in the registry: methods to compare, its files, and its released checkpoints.

Its first two stages also make the patch features that all methods for PatchSelect-v0 stand on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from agents.adafocus.agent import METHODS as STAGES
from agents.adafocus.agent import AdaFocus
from agents.adafocus.released import flattened, load_adafocus
from agents.adafocus.settings import CLASSIFIER, POLICY, AdaFocusSettings
from agents.common.agent_files import holds_agent
from agents.common.released_caches import as_numbered, is_own_network, require_input
from agents.common.released_checkpoints import load_checkpoint
from video_env.cache.build import build_cache
from video_env.cache.decoding import BuildSettings
from video_env.cache.store import Cache
from video_env.data.annotations import Annotations
from video_env.evaluation.agent_kinds import AgentKind, ReleasedSystem, agent_kind, released_system
from video_env.evaluation.patch_sizes import patch_setting, sizes_to_choose
from video_env.evaluation.protocols import Entry, Training
from video_env.evaluation.registry import PREPARATIONS, Job, method, require_unset
from video_env.files import alone, sha256_of
from video_env.models.classifiers import NAME
from video_env.models.patch_arrays import PATCHES, add_patches
from video_env.models.stopping import Ended

FAMILY = "adafocus"


def train_to_folder(cache: Cache, settings: AdaFocusSettings, folder: Path, *, device: str = "auto") -> None:
    """Train an AdaFocus in a folder, from where an interrupted call left off: its stages, its cache with the
    patch features (unless the cache given has them), and ``agent.pt``."""
    with alone(folder):
        agent = AdaFocus(cache, settings, folder=folder, device=device)
        agent.learn(log_folder=folder / "logs")
        agent.save(folder / "agent.pt")


def load_from_folder(cache: Cache, folder: Path, *, device: str = "auto") -> AdaFocus:
    """The agent that ``train_to_folder`` saved, on the cache with its patches."""
    return AdaFocus.load(folder / "agent.pt", cache=patches_in(cache, folder), device=device)


def patches_in(cache: Cache, folder: Path) -> Cache:
    """The cache with the patch features that an agent of this folder acts on."""
    return cache if PATCHES in cache else Cache(folder / "cache")


def title_of(classifier: str) -> str:
    """What people read: the agent's name with its classifier."""
    return "AdaFocus" if classifier == "running_max" else "AdaFocus, GRU classifier"


def point_of(agent: AdaFocus, *, fine_tuned: bool = True) -> dict[str, Any]:
    """The agent's point on its curve as fields of an ``Entry``, with its classifier of stage 3, or with that
    of stage 1."""
    assert agent.patch_cache is not None
    options: dict[str, Any] = {"observation": "index"}
    fine_tuned = fine_tuned and CLASSIFIER in agent.stage_seconds
    if fine_tuned:
        options["classifier"] = agent.classifier
    last = CLASSIFIER if fine_tuned else CLASSIFIER - 1
    history, seconds, updates = [], 0.0, 0.0
    # Stage 0 prepares the networks, as torchvision's weights do elsewhere; the other three are its own.
    for stage, own in sorted(agent.stage_seconds.items()):
        if 0 < stage <= last:
            rows = [
                {**row, "seconds": seconds + row["seconds"], "updates": updates + row["updates"]}
                for row in agent.stage_history.get(stage, [])
            ]
            seconds, updates = seconds + own, rows[-1]["updates"] if rows else updates
            # Before the policy's first round the patches are random: that is no point of its curve.
            history += rows if stage >= POLICY else []
    training = Training.of(
        seconds, asdict(agent.settings), stages=len(STAGES) - 2 + fine_tuned,
        history=history if fine_tuned else (),  # stage 3's begins with it
        ended=_ended(agent, last),
    )  # fmt: skip
    return {
        "setting": patch_setting(agent.patch_cache), "environment": "PatchSelect-v0", "policy": agent,
        "options": options, "training": training, "cache": agent.patch_cache,
    }  # fmt: skip


def _ended(agent: AdaFocus, last: int) -> Ended:
    """Why the training up to a stage ended; a stage that reached its limit could have learned more."""
    words = {ended for stage, ended in agent.stage_ended.items() if 0 < stage <= last}
    ranked: tuple[Ended, ...] = ("limit", "patience", "fixed")
    return next((word for word in ranked if word in words), "")


# To compare.


@dataclass(frozen=True)
class AdaFocusSizes:
    """AdaFocus at several patch sizes.

    Attributes:
        patch_sizes: sides of patches in pixels of the cache's frames, one training each.
        training: what the trainings share.
    """

    patch_sizes: tuple[int, ...] = (36,)
    training: AdaFocusSettings = field(default_factory=AdaFocusSettings)

    def __post_init__(self) -> None:
        require_unset(self.training, patch_size="patch_sizes")


def patches(job: Job, patch_size: int) -> Cache:
    """The cache with patch features of this size: the job's own, or that which the first two stages of the
    method ``adafocus`` make."""
    if PATCHES in job.cache or job.folder is None:
        _ = job.cache[PATCHES]  # its error says what is missing
        return job.cache
    folder = job.file(f"adafocus-{patch_size}")
    settings = job.settings.get("adafocus", AdaFocusSizes()).training
    with alone(folder):
        agent = AdaFocus(
            job.cache, replace(settings, patch_size=patch_size, seed=job.seed), folder=folder,
            device=job.device,
        )  # fmt: skip
        agent.fine_tune_networks(log_folder=folder / "logs" / "stage-0")
        agent.train_on_random_patches(log_folder=folder / "logs" / "stage-1")
    assert agent.patch_cache is not None
    return agent.patch_cache


PREPARATIONS["patches"] = patches


def train_sizes(job: Job, settings: AdaFocusSizes) -> None:
    for size in sizes_to_choose(job.cache, settings.patch_sizes):
        own = replace(settings.training, patch_size=size, seed=job.seed)
        train_to_folder(job.cache, own, _folder(job, size), device=job.device)


def _folder(job: Job, size: int) -> Path:
    assert job.method is not None
    return job.file(f"{job.method.id}-{size}")


@method(
    "adafocus", title="AdaFocus", family=FAMILY,
    about="a patch in every frame, chosen by PPO: the first version", settings=AdaFocusSizes(),
    train=train_sizes,
)  # fmt: skip
def adafocus(job: Job, settings: AdaFocusSizes) -> list[Entry]:
    entries = []
    for size in sizes_to_choose(job.cache, settings.patch_sizes):
        agent = load_from_folder(job.cache, _folder(job, size), device=job.device)
        entries.append(job.entry(**point_of(agent, fine_tuned=False), variant="stage-2"))
        entries.append(job.entry(**point_of(agent)))
    return entries


@method(
    "adafocus-gru", title="AdaFocus, GRU classifier", family=FAMILY,
    about="the same with the published GRU classifier",
    settings=AdaFocusSizes((36,), AdaFocusSettings(classifier="gru", hidden=128)), train=train_sizes,
)  # fmt: skip
def adafocus_gru(job: Job, settings: AdaFocusSizes) -> list[Entry]:
    return adafocus(job, settings)


# One agent and its file.


def train_agent(
    cache: Cache,
    out: Path,
    device: str = "auto",
    settings: AdaFocusSettings = AdaFocusSettings(),  # noqa: B008
) -> None:
    """Train an AdaFocus on a cache, all four stages; an interrupted training goes on.

    Args:
        cache: Folder of a cache with frames; or with glances, patch features and a classifier: then training
            begins at stage 2.
        out: Folder of the agent (agent.pt), its stages' checkpoints, its logs, and its cache of patches.
        device: auto, cpu, cuda:0, ...
        settings: Settings of the agent and its stages.
    """
    train_to_folder(cache, settings, out, device=device)
    agent = load_from_folder(cache, out, device=device)
    assert agent.patch_cache is not None
    print(
        f"{out / 'agent.pt'}: {title_of(agent.classifier.name)}, trained in {agent.training_seconds:.0f} s; "
        f"it acts on cache {agent.patch_cache.path}"
    )


def evaluate_agent(cache: Cache, agent: Path, device: str = "auto") -> Entry:
    """Evaluate a saved AdaFocus.

    Args:
        cache: Folder of the cache with its patch features (in the agent's folder: cache).
        agent: File of the agent (agent.pt).
        device: auto, cpu, cuda:0, ...
    """
    return entry_of(AdaFocus.load(agent, cache=cache, device=device))


def entry_of(agent: AdaFocus, *, fine_tuned: bool = True) -> Entry:
    """An agent by itself as an entry of an evaluation; see ``point_of``."""
    id, title = "adafocus", title_of(agent.classifier.name)
    if not fine_tuned:
        id, title = f"{id}-stage-2", f"{title}, stage 2"
    return Entry(id, title, FAMILY, seed=agent.settings.seed, **point_of(agent, fine_tuned=fine_tuned))


agent_kind(
    AgentKind(
        "adafocus",
        "AdaFocus, the first version",
        train_agent,
        evaluate_agent,
        holds=partial(holds_agent, agent="AdaFocus"),
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
    """Build a cache with the networks, the patch features and the classifier of a released AdaFocus.

    Args:
        annotations: Table of the videos, their labels numbered as the checkpoint's classes are.
        out: Folder of the cache.
        settings: How videos are read.
        checkpoint: The released file.
        patch_size: Side of a patch in pixels.
        device: auto, cpu, cuda:0, ...
    """
    network = load_checkpoint("adafocus", load_adafocus, checkpoint, prepare=flattened, patch_size=patch_size)
    require_input(settings)
    cache = build_cache(as_numbered(annotations, network.classifier.classes, checkpoint), out, settings)
    weights = f"sha256:{sha256_of(checkpoint)}"
    return add_patches(
        cache, network.glance, network.focus, network.classifier.cpu(), patch_size=patch_size,
        glance_weights=weights, focus_weights=weights, training={"checkpoint": weights}, device=device,
    )  # fmt: skip


def evaluate_released(cache: Cache, checkpoint: Path, patch_size: int = 128, device: str = "auto") -> Entry:
    """Evaluate a released AdaFocus; the classifier is the cache's.

    Args:
        cache: Folder of the cache, with glances and patch features.
        checkpoint: The released file.
        patch_size: Side of a patch in pixels.
        device: auto, cpu, cuda:0, ...
    """
    system = load_checkpoint("adafocus", load_adafocus, checkpoint, prepare=flattened, patch_size=patch_size)
    agent = AdaFocus.from_released(system, cache, device=device)
    if not is_own_network(cache, NAME, checkpoint):
        print(f"the classifier is that of {cache.path}, not the checkpoint's own")
    title = "AdaFocus, released"
    return Entry("adafocus-released", title, FAMILY, seed=0, **point_of(agent, fine_tuned=False))


released_system(
    ReleasedSystem("adafocus", "AdaFocus, the first version", build_released_cache, evaluate_released)
)
