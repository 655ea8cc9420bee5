"""Methods as entries of an evaluation: untrained ones by name, agents trained to files and read from them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from agents.adafocus.agent import METHODS as STAGES
from agents.adafocus.agent import AdaFocus
from agents.adafocus.settings import CLASSIFIER, AdaFocusSettings
from agents.adafocus_v2.agent import AdaFocusV2
from agents.adafocus_v2.settings import AdaFocusV2Settings
from agents.common.agent_files import read_agent
from agents.ocsampler.agent import OCSampler
from agents.ocsampler.settings import OCSamplerSettings
from baselines.heuristics import HEURISTICS, check_num_frames
from baselines.oracle import oracle
from baselines.patches import PATCH_RULES, patch_setting
from baselines.sb3 import SB3Policy, SB3Settings, train_sb3
from baselines.sb3_files import is_whole, load_sb3, read_sb3_record, require_fits, save_sb3
from baselines.tuned import Tuned
from compare.run_folder import difference
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.protocols import Entry, Training
from video_env.files import alone, delete
from video_env.models import processes
from video_env.models.conditional_exit import DEFAULT_EXIT, ExitRule
from video_env.models.tensors import read_tensors

ONE_STEP, PATCH_SELECT = "FrameSelectOneStep-v0", "PatchSelect-v0"
ALL_FRAMES = "all frames"
UNTRAINED_FRAMES = (*HEURISTICS, "oracle", ALL_FRAMES)
UNTRAINED = (*UNTRAINED_FRAMES, *PATCH_RULES)


def untrained_entry(name: str, cache: Cache, split: str, num_frames: int, seed: int = 0) -> Entry:
    """A heuristic, an oracle, or all candidate frames; the number of frames is not of those for patches.

    Raises:
        InputError: the name is unknown, the number of frames does not fit the cache, or it lacks patches.
    """
    if name not in UNTRAINED:
        raise InputError(f"method {name!r}: expected a saved agent's file or one of {', '.join(UNTRAINED)}")
    if name in PATCH_RULES:
        setting, rule = patch_setting(cache), PATCH_RULES[name](cache, split, seed)
        return Entry(name, setting, seed, PATCH_SELECT, rule, {"observation": "index"})
    if name == ALL_FRAMES:
        num_frames = cache.num_candidates
    check_num_frames(cache, num_frames)
    if name == "oracle":
        policy = oracle(cache, num_frames, split)
    else:
        policy = HEURISTICS["uniform" if name == ALL_FRAMES else name](cache, num_frames, split, seed)
    options = {"num_frames": num_frames, "observation": "index"}
    return Entry(name, f"N = {num_frames}", seed, ONE_STEP, policy, options)


def train_ocsampler(
    cache: Cache,
    settings: OCSamplerSettings,
    file: Path,
    *,
    drawn: Sequence[Cache] = (),
    device: str = "auto",
) -> OCSampler:
    """Train an OCSampler to a file, from where an interrupted call left off; a finished one is loaded."""
    agent, checkpoint = (
        OCSampler(cache, settings, drawn=drawn, device=device),
        file.with_suffix(".checkpoint"),
    )
    with alone(file, checkpoint):
        if file.is_file():
            finished = read_agent(file, "OCSampler")
            found = {"settings": finished.settings, "trained_on": finished.trained_on}
            wanted = {"settings": asdict(settings), "trained_on": agent.trained_on}
            _require_same_training(file, found, wanted)
            delete(checkpoint)  # of a call that ended between its last two steps
            return OCSampler.load(file, cache=cache, device=device)
        agent.learn(log_folder=file.with_suffix(""), checkpoint=checkpoint)
        agent.save(file)
        delete(checkpoint)
    return agent


def ocsampler_entry(agent: OCSampler) -> Entry:
    """The agent with N frames for every video, or with its frame-number budget if it has a λ."""
    method, setting = ocsampler_name(agent.settings), f"N = {agent.settings.num_frames}"
    options: dict[str, Any] = {"observation": agent.observation, "num_frames": agent.settings.num_frames}
    if agent.cost_per_gflop is not None:
        method, setting = f"{method}, budget", f"λ = {agent.cost_per_gflop:g}"
        del options["num_frames"]
    training = Training(agent.training_seconds, stages=1, settings=_count(asdict(agent.settings)))
    return Entry(method, setting, agent.settings.seed, ONE_STEP, agent, options, training)


def ocsampler_name(settings: OCSamplerSettings) -> str:
    """The agent's name in tables and curves, by how it is trained."""
    return (
        "OCSampler"
        + ("" if settings.skim == "cached" else ", end to end")
        + ("" if settings.estimator == "sampled" else ", exact")
    )


def train_adafocus(
    cache: Cache, settings: AdaFocusSettings, folder: Path, *, device: str = "auto", validate: bool = False
) -> AdaFocus:
    """Train an AdaFocus in a folder, from where an interrupted call left off: its stages, its cache with the
    patches (unless the cache given has them), and ``agent.pt``."""
    with alone(folder):
        agent = AdaFocus(cache, settings, folder=folder, device=device)
        agent.learn(log_folder=folder / "logs", validate=validate)
        agent.save(folder / "agent.pt")
    return agent


def patches_of_adafocus(
    cache: Cache, settings: AdaFocusSettings, folder: Path, *, device: str = "auto"
) -> Cache:
    """The cache with patches that ``train_adafocus`` makes in this folder, by its first two stages alone."""
    with alone(folder):
        agent = AdaFocus(cache, settings, folder=folder, device=device)
        agent.fine_tune_networks(log_folder=folder / "logs" / "stage-0")
        agent.train_on_random_patches(log_folder=folder / "logs" / "stage-1")
    assert agent.patch_cache is not None
    return agent.patch_cache


def adafocus_entry(agent: AdaFocus, *, fine_tuned: bool = True) -> Entry:
    """The agent with its classifier of stage 3, or with that of stage 1."""
    assert agent.patch_cache is not None
    options: dict[str, Any] = {"observation": "index"}
    fine_tuned = fine_tuned and CLASSIFIER in agent.stage_seconds
    if fine_tuned:
        options["classifier"] = agent.classifier
    method = adafocus_name(agent.classifier.name) + ("" if fine_tuned else ", stage 2")
    setting = patch_setting(agent.patch_cache)
    last = CLASSIFIER if fine_tuned else CLASSIFIER - 1
    history, before = [], 0.0
    # Stage 0 prepares the networks, as torchvision's weights do elsewhere; the other three are its own.
    for stage, seconds in sorted(agent.stage_seconds.items()):
        if 0 < stage <= last:
            rows = agent.stage_history.get(stage, [])
            history += [{**row, "seconds": before + row["seconds"]} for row in rows if "validation" in row]
            before += seconds
    training = Training(
        before, stages=len(STAGES) - 2 + fine_tuned, settings=_count(asdict(agent.settings)),
        history=_curve(history) if fine_tuned else (),  # stage 3's begins with it
    )  # fmt: skip
    return Entry(
        method, setting, agent.settings.seed, PATCH_SELECT, agent, options, training, agent.patch_cache
    )


def adafocus_name(classifier: str) -> str:
    """The agent's name in tables and curves, by its classifier."""
    return "AdaFocus" if classifier == "running_max" else "AdaFocus, GRU classifier"


def train_adafocus_v2(
    cache: Cache, settings: AdaFocusV2Settings, folder: Path, *, device: str = "auto", validate: bool = False
) -> AdaFocusV2:
    """Train an AdaFocusV2 in a folder, from where an interrupted call left off: its checkpoint, and
    ``agent.pt``."""
    with alone(folder) if processes.is_first() else nullcontext():
        processes.wait()  # until it is ours
        agent = AdaFocusV2(cache, settings, folder=folder, device=device)
        agent.learn(log_folder=folder / "logs", validate=validate)
        agent.save(folder / "agent.pt")
    return agent


def adafocus_v2_entry(
    agent: AdaFocusV2,
    gflops: float | None = None,
    rule: ExitRule = DEFAULT_EXIT,
    *,
    method: str | None = None,
) -> Entry:
    """The agent on all frames, or with conditional exit at a budget in GFLOPs per video."""
    method, setting = method or adafocus_v2_name(agent.settings), f"{agent.settings.patch_size}²"
    options: dict[str, Any] = {}
    if gflops is not None:
        agent.thresholds(gflops, rule)  # an impossible budget is said here
        special = "" if rule == DEFAULT_EXIT else f" by {rule.criterion}, {rule.schedule}, every {rule.every}"
        method = f"{method}, exit{special}"
        setting = f"{setting}, {gflops:.3g} GFLOPs"
        options = {"gflops": gflops, "rule": rule}
    training = Training(
        agent.training_seconds, stages=1, settings=_count(asdict(agent.settings)),
        history=_curve(agent.history),
    )  # fmt: skip
    return Entry(method, setting, agent.settings.seed, None, agent, options, training)


def adafocus_v2_name(settings: AdaFocusV2Settings) -> str:
    """The agent's name in tables and curves, by its policy and the ingredients that are not as by default."""
    policy = ", fully connected policy" if settings.policy == "fully_connected" else ""
    default = asdict(AdaFocusV2Settings().ingredients)
    different = [
        f", {'with' if there else 'no'} {name.replace('_', ' ')}"
        for name, there in asdict(settings.ingredients).items()
        if there != default[name]
    ]
    return f"AdaFocusV2{policy}{''.join(different)}"


def train_sb3_to_file(cache: Cache, settings: SB3Settings, file: Path, *, device: str = "auto") -> None:
    """Train a Stable-Baselines3 algorithm to a .zip file, its settings beside it as .json."""
    if settings.of_patches:
        trained_on = f"{cache.identity}, glance+patches {cache.fingerprint('glance', 'patches')}"
        sees = cache.sources("glance", "patches", "classifier.safetensors")
    else:
        trained_on, sees = f"{cache.identity}, skim {cache.content('skim')}", cache.sources("skim")
    with alone(file, file.with_suffix(".json")):
        if is_whole(file):
            found = read_sb3_record(file)
            _require_same_training(
                file,
                _sb3_training(found.settings, found.tuned, found.trained_on),
                _sb3_training(settings, settings.tuned(), trained_on),
            )
            return
        if file.exists():
            tqdm.write(f"{file}: unfinished, there is no record that belongs to it; it is trained anew")
        begun = time.perf_counter()
        model = train_sb3(cache, settings, device=device, log_folder=file.with_suffix(""))
        seconds = time.perf_counter() - begun
        save_sb3(model, settings, file, trained_on=trained_on, sees=sees, seconds=seconds)


def _sb3_training(settings: SB3Settings, tuned: Tuned, trained_on: str) -> dict[str, Any]:
    return {"settings": asdict(settings), "tuned": tuned.record(), "trained_on": trained_on}


def saved_entry(
    file: Path,
    cache: Cache,
    *,
    cost_per_gflop: float | None = None,
    gflops: float | None = None,
    rule: ExitRule = DEFAULT_EXIT,
    device: str = "auto",
) -> Entry:
    """A saved agent: an OCSampler's, AdaFocus's or AdaFocusV2's file, or a Stable-Baselines3 .zip with its
    .json beside it.

    Args:
        file: the agent.
        cache: what it will act on.
        cost_per_gflop: λ of an OCSampler's frame-number budget, instead of its own.
        gflops: budget per video of an AdaFocusV2, which then exits early.
        rule: of that exit.
        device: where it runs.

    Raises:
        InputError: the file is missing, is no agent, was trained for another cache's shape or networks, has
            no budget that a λ could steer or no exit, or the budget is out of its range.
    """
    kind = None if file.suffix == ".zip" else _agent_of(file)
    if kind != "AdaFocusV2" and gflops is not None:
        raise InputError(f"gflops {gflops:g}: {file} has no conditional exit")
    if kind in ("AdaFocus", "AdaFocusV2") and cost_per_gflop is not None:
        raise InputError(f"cost_per_gflop {cost_per_gflop}: {file} has no frame-number budget")
    if kind == "AdaFocusV2":
        return adafocus_v2_entry(AdaFocusV2.load(file, cache=cache, device=device), gflops, rule)
    if kind == "AdaFocus":
        return adafocus_entry(AdaFocus.load(file, cache=cache, device=device))
    if file.suffix != ".zip":
        agent = OCSampler.load(file, cache=cache, device=device)
        if cost_per_gflop is not None:
            agent.cost_per_gflop = cost_per_gflop
        return ocsampler_entry(agent)
    if cost_per_gflop is not None:
        raise InputError(f"cost_per_gflop {cost_per_gflop}: {file} has no frame-number budget")
    record = read_sb3_record(file)
    settings = record.settings
    require_fits(file, record, cache)
    policy = SB3Policy(load_sb3(settings, file, cache, device, tuned=record.tuned))
    count = _count(asdict(settings) | record.tuned.record())
    return Entry(
        settings.title(), settings.setting(cache), settings.seed, settings.environment_id, policy,
        settings.environment_options(), Training(record.training_seconds, stages=1, settings=count),
    )  # fmt: skip


def _curve(history: Sequence[dict[str, float]]) -> tuple[dict[str, float], ...]:
    return tuple(
        {"seconds": row["seconds"], "validation": row["validation"]} for row in history if "validation" in row
    )


def _count(settings: Any) -> int:
    """Numbers and names in nested settings, the seed aside."""
    if isinstance(settings, (tuple, list)):
        return sum(map(_count, settings))
    if not isinstance(settings, dict):
        return 1
    return sum(_count(value) for name, value in settings.items() if name != "seed")


def _agent_of(file: Path) -> str | None:
    """The kind of agent that a file holds; None where loading it will have to say what is wrong."""
    try:
        return str(read_tensors(file, what=str(file))["agent"])
    except (InputError, KeyError, TypeError, IndexError):
        return None


def _require_same_training(file: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    # As json gives both back: one may come from there.
    found, wanted = (json.loads(json.dumps({name: one[name] for name in wanted})) for one in (found, wanted))
    if found != wanted:
        raise InputError(
            f"{file}: holds an agent that was trained otherwise: {difference(found, wanted)}. Choose another "
            "file, or delete this one"
        )
