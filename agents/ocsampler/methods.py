"""OCSampler in the registry: methods to compare, its files, and its released checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from agents.common.agent_files import holds_agent, read_agent
from agents.common.released_caches import as_numbered, is_own_network, require_frames_kept
from agents.common.released_checkpoints import load_checkpoint
from agents.ocsampler.agent import PARTS, OCSampler
from agents.ocsampler.released import load_ocsampler
from agents.ocsampler.settings import OCSamplerSettings
from video_env.cache.build import build_cache
from video_env.cache.decoding import BuildSettings
from video_env.cache.store import Cache
from video_env.data.annotations import Annotations
from video_env.envs.costs import describe_relative_cost
from video_env.errors import InputError
from video_env.evaluation.agent_kinds import AgentKind, ReleasedSystem, agent_kind, released_system
from video_env.evaluation.protocols import Entry, Training
from video_env.evaluation.registry import Job, method, require_unset
from video_env.files import alone, delete, sha256_of
from video_env.models.encoders import CacheEncoder
from video_env.models.recognizers import NAME, store_recognizer
from video_env.models.stopping import Length
from video_env.models.train_recognizer import add_subset_tables, has_recognizer
from video_env.settings import difference

FAMILY = "ocsampler"


def train_to_file(
    cache: Cache,
    settings: OCSamplerSettings,
    file: Path,
    *,
    drawn: Sequence[Cache] = (),
    device: str = "auto",
) -> None:
    """Train an OCSampler to a file, from where an interrupted call left off; what is done is kept.

    Raises:
        InputError: the file holds an agent that was trained otherwise.
    """
    agent, checkpoint = (
        OCSampler(cache, settings, drawn=drawn, device=device),
        file.with_suffix(".checkpoint"),
    )
    with alone(file, checkpoint):
        if file.is_file():
            found = read_agent(file, "OCSampler", *PARTS)
            wanted = {"settings": asdict(settings), "trained_on": agent.trained_on}
            if different := difference({name: getattr(found, name) for name in wanted}, wanted):
                raise InputError(
                    f"{file}: holds an agent that was trained otherwise: {different}. Choose another file, "
                    "or delete this one"
                )
        else:
            if (cost := settings.cost_of_all_frames) is not None:
                tqdm.write(f"{file}: {describe_relative_cost(cost, agent.all_frames_gflops)}")
            agent.learn(log_folder=file.with_suffix(""), checkpoint=checkpoint)
            agent.save(file)
        delete(checkpoint)


def title_of(settings: OCSamplerSettings) -> str:
    """What people read: the agent's name with how it is trained."""
    return (
        "OCSampler"
        + ("" if settings.skim == "cached" else ", end to end")
        + ("" if settings.estimator == "sampled" else ", exact")
    )


def point_of(agent: OCSampler) -> dict[str, Any]:
    """The agent's point on its curve as fields of an ``Entry``: N frames for every video, or λ of its
    frame-number budget if it has one."""
    options: dict[str, Any] = {"observation": agent.observation}
    setting: dict[str, float] = {"num_frames": agent.settings.num_frames}
    if agent.cost_per_gflop is None:
        options["num_frames"] = agent.settings.num_frames
    elif agent.cost_of_all_frames is not None:
        setting = {"cost_of_all_frames": agent.cost_of_all_frames}
    else:
        setting = {"cost_per_gflop": agent.cost_per_gflop}
    return {
        "setting": setting, "environment": "FrameSelectOneStep-v0", "policy": agent, "options": options,
        "training": Training.of(
            agent.training_seconds, asdict(agent.settings), history=agent.history, ended=agent.ended
        ),
    }  # fmt: skip


# To compare.


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
        require_unset(self.training, num_frames="num_frames")


def train_curve(job: Job, settings: OCSamplerCurve) -> None:
    for count in settings.num_frames:
        own = replace(settings.training, num_frames=count, seed=job.seed)
        train_to_file(job.cache, own, _file(job, count), device=job.device)


def _file(job: Job, count: int) -> Path:
    assert job.method is not None
    return job.file(f"{job.method.id}-{count}.pt")


@method(
    "ocsampler", title="OCSampler", family=FAMILY, about="N frames in one step, trained on cached features",
    settings=OCSamplerCurve(), train=train_curve,
)  # fmt: skip
def ocsampler(job: Job, settings: OCSamplerCurve) -> list[Entry]:
    agents = [
        OCSampler.load(_file(job, count), cache=job.cache, device=job.device) for count in settings.num_frames
    ]
    return [job.entry(**point_of(agent)) for agent in agents]


@method(
    "ocsampler-end-to-end", title="OCSampler, end to end, exact", family=FAMILY,
    about="the same, trained with its skim network from frames, by the exact gradient",
    settings=OCSamplerCurve(
        (1, 2, 3),
        OCSamplerSettings(skim="small_skim", estimator="exact", length=Length(1500, round=25, patience=4)),
    ),
    train=train_curve,
)  # fmt: skip
def ocsampler_end_to_end(job: Job, settings: OCSamplerCurve) -> list[Entry]:
    return ocsampler(job, settings)


@dataclass(frozen=True)
class BudgetCurve:
    """An OCSampler with a frame-number budget.

    Attributes:
        costs_of_all_frames: λ as the share of quality that all candidates together may cost, one point on the
            curve each.
        training: of the one agent; its λ is turned afterwards.
    """

    costs_of_all_frames: tuple[float, ...] = (0.15, 0.5, 1.0, 2.0)
    training: OCSamplerSettings = field(default_factory=OCSamplerSettings)

    def __post_init__(self) -> None:
        by = "costs_of_all_frames"
        require_unset(self.training, cost_per_gflop=by, cost_of_all_frames=by)
        if not self.costs_of_all_frames:
            raise InputError(f"{by}: found none, expected at least one")


def train_budget(job: Job, settings: BudgetCurve) -> None:
    own = replace(settings.training, seed=job.seed, cost_of_all_frames=settings.costs_of_all_frames[0])
    train_to_file(job.cache, own, job.file("ocsampler-budget.pt"), device=job.device)


@method(
    "ocsampler-budget", title="OCSampler, budget", family=FAMILY,
    about="the same with a frame-number budget", settings=BudgetCurve(), train=train_budget,
)  # fmt: skip
def ocsampler_budget(job: Job, settings: BudgetCurve) -> list[Entry]:
    file, entries = job.file("ocsampler-budget.pt"), []
    for cost in settings.costs_of_all_frames:
        agent = OCSampler.load(file, cache=job.cache, device=job.device)
        agent.cost_of_all_frames = cost
        entries.append(job.entry(**point_of(agent)))
    return entries


# One agent and its file.


def train_agent(
    cache: Cache,
    out: Path,
    drawn: tuple[Path, ...] = (),
    device: str = "auto",
    settings: OCSamplerSettings = OCSamplerSettings(),  # noqa: B008
) -> None:
    """Train an OCSampler on a cache; an interrupted training goes on.

    Args:
        cache: Folder of the cache.
        out: File of the agent (.pt); logs go to a folder of the same name.
        drawn: Caches with other random candidates of the same videos, which training takes in turn instead
            of the cache's own.
        device: auto, cpu, cuda:0, ...
        settings: Settings of the agent and its training.
    """
    if out.suffix != ".pt":
        raise InputError(f"out {out}: expected a name that ends in .pt")
    train_to_file(cache, settings, out, drawn=[Cache(one) for one in drawn], device=device)
    agent = OCSampler.load(out, cache=cache, device=device)
    seconds = agent.training_seconds
    print(f"{out}: {title_of(settings)}, N = {settings.num_frames}, trained in {seconds:.0f} s")


def evaluate_agent(
    cache: Cache,
    agent: Path,
    cost_per_gflop: float | None = None,
    cost_of_all_frames: float | None = None,
    device: str = "auto",
) -> Entry:
    """Evaluate a saved OCSampler.

    Args:
        cache: Folder of the cache.
        agent: File of the agent (.pt).
        cost_per_gflop: λ of the frame-number budget; the agent's own by default.
        cost_of_all_frames: λ in the other form: the share of quality that all candidates together may cost.
        device: auto, cpu, cuda:0, ...
    """
    if cost_per_gflop is not None and cost_of_all_frames is not None:
        raise InputError(
            f"cost_of_all_frames: found {cost_of_all_frames}; it means nothing with cost_per_gflop, "
            "which is λ too"
        )
    loaded = OCSampler.load(agent, cache=cache, device=device)
    if cost_per_gflop is not None:
        loaded.cost_per_gflop = cost_per_gflop
    if cost_of_all_frames is not None:
        loaded.cost_of_all_frames = cost_of_all_frames
    return entry_of(loaded)


def entry_of(agent: OCSampler) -> Entry:
    """An agent by itself as an entry of an evaluation."""
    id, title = "ocsampler", title_of(agent.settings)
    if agent.cost_per_gflop is not None:
        id, title = f"{id}-budget", f"{title}, budget"
    return Entry(id, title, FAMILY, seed=agent.settings.seed, **point_of(agent))


agent_kind(
    AgentKind(
        "ocsampler", "OCSampler", train_agent, evaluate_agent, holds=partial(holds_agent, agent="OCSampler")
    )
)


# Released checkpoints.


def build_released_cache(
    annotations: Annotations,
    out: Path,
    settings: BuildSettings,
    checkpoint: Path,
    shift_div: int = 10,
    device: str = "auto",
) -> Cache:
    """Build a cache with the networks and the recognizer of a released OCSampler.

    Args:
        annotations: Table of the videos, their labels numbered as the checkpoint's classes are.
        out: Folder of the cache.
        settings: How videos are read.
        checkpoint: The released file.
        shift_div: Fold of the temporal shift; 8 for Mini-Kinetics.
        device: auto, cpu, cuda:0, ...
    """
    require_frames_kept(settings)
    network = load_checkpoint("ocsampler", load_ocsampler, checkpoint, num_frames=1, shift_div=shift_div)
    annotations = as_numbered(annotations, int(network.recognizer.config["classes"]), checkpoint)
    weights = f"sha256:{sha256_of(checkpoint)}"
    encoders = {
        name: CacheEncoder(part, weights=weights, frame_size=settings.frame_size, device=device)
        for name, part in (("skim", network.skim), ("embedding", network.embedding))
    }
    cache = build_cache(annotations, out, settings, encoders)
    if not has_recognizer(cache):
        recognizer = network.recognizer.cpu()
        cache = store_recognizer(cache, recognizer, recognizer.gflops(), {"checkpoint": weights})
    return add_subset_tables(cache, device)


def evaluate_released(
    cache: Cache, checkpoint: Path, num_frames: int = 2, shift_div: int = 10, device: str = "auto"
) -> Entry:
    """Evaluate a released OCSampler; the recognizer is the cache's.

    Args:
        cache: Folder of the cache, with frames.
        checkpoint: The released file.
        num_frames: N.
        shift_div: Fold of the temporal shift; 8 for Mini-Kinetics.
        device: auto, cpu, cuda:0, ...
    """
    network = load_checkpoint(
        "ocsampler", load_ocsampler, checkpoint, num_frames=num_frames, shift_div=shift_div
    )
    agent = OCSampler.from_released(network, cache, device=device)
    if not is_own_network(cache, NAME, checkpoint):
        print(f"the recognizer is that of {cache.path}, not the checkpoint's own")
    title = "OCSampler, released"
    return Entry("ocsampler-released", title, FAMILY, seed=0, **point_of(agent))


released_system(ReleasedSystem("ocsampler", "OCSampler", build_released_cache, evaluate_released))
