"""Trained methods side by side on one cache: accuracy over GFLOPs, and what their training took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from agents.adafocus import METHODS as STAGES
from agents.adafocus_settings import AdaFocusSettings
from agents.adafocus_v2_settings import AdaFocusV2Settings
from compare.methods import (
    adafocus_entry,
    adafocus_name,
    adafocus_v2_entry,
    adafocus_v2_name,
    train_adafocus,
    train_adafocus_v2,
)
from compare.summary import write_summary
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.evaluate import Entry, evaluate, read_results, write_results
from video_env.evaluation.plots import plot_learning

MethodName = Literal["adafocus", "adafocus-v2"]


@dataclass(frozen=True)
class ComparisonSettings:
    """What is compared.

    Attributes:
        exit_shares: budgets of the conditional exit, as shares of the GFLOPs of all frames.
        adafocus: the first version.
        adafocus_v2: the second.
    """

    exit_shares: tuple[float, ...] = (0.9, 0.75, 0.6, 0.5)
    adafocus: AdaFocusSettings = field(default_factory=AdaFocusSettings)
    adafocus_v2: AdaFocusV2Settings = field(default_factory=AdaFocusV2Settings)


@dataclass(frozen=True)
class Trained:
    """A trained method.

    Attributes:
        name: in tables.
        stages: that its training has.
        settings: how many numbers and names its training depends on.
        seconds: that its training took.
        history: rows of ``seconds`` of training so far and the top-1 on the validation split then.
        entries: what to evaluate, each on its cache.
    """

    name: str
    stages: int
    settings: int
    seconds: float
    history: list[dict[str, float]]
    entries: list[tuple[Cache, Entry]]


def compare(
    methods: tuple[MethodName, ...],
    cache: Cache,
    out: Path,
    settings: ComparisonSettings,
    *,
    seeds: int,
    accuracies: tuple[float, ...],
    split: str,
    device: str,
) -> pd.DataFrame:
    """Train what is not trained yet under ``out``, evaluate it, and return the table of trainings.

    Writes result tables (``results/``), ``summary.csv``, ``areas.csv``, ``curve.png``, ``learning.csv`` and
    ``learning.png`` (validation accuracy over training time), and ``training.csv``.

    Raises:
        InputError: ``out`` holds trainings of other settings, or the cache lacks what a method needs.
    """
    if len(set(methods)) < len(methods):
        raise InputError(f"methods: found {', '.join(methods)}, expected each once")
    for needed in (split, "validation"):
        cache.rows(needed)  # its error lists the splits that there are
    least = 1 / cache.num_candidates
    shares = settings.exit_shares
    if len(set(shares)) < len(shares) or not all(least <= share <= 1 for share in shares):
        raise InputError(f"exit_shares: found {shares}, expected different ones from {least:.3g} to 1")
    learning, trainings = [], []
    for method in methods:
        for seed in range(seeds):
            folder = out / "agents" / f"{method}-{seed}"
            trained = TRAINERS[method](cache, settings, folder, seed, device)
            tables = [evaluate(entry, on, split) for on, entry in trained.entries]
            write_results(pd.concat(tables, ignore_index=True), out / "results" / f"{method}-{seed}.parquet")
            curve = pd.DataFrame(trained.history, columns=["seconds", "validation"]).dropna()
            if curve.empty:
                raise InputError(f"{folder}: holds a training that was not validated; move it away")
            learning.append(curve.assign(method=trained.name, seed=seed))
            reached = {
                f"seconds to {accuracy:g}": curve["seconds"][curve["validation"] >= accuracy].min()
                for accuracy in accuracies
            }
            row = {
                "method": trained.name,
                "seed": seed,
                "stages": trained.stages,
                "settings": trained.settings,
            }
            trainings.append({**row, "training seconds": trained.seconds, **reached})
    # Only what was asked for now, whatever else an earlier call left there.
    files = [out / "results" / f"{method}-{seed}.parquet" for method in methods for seed in range(seeds)]
    write_summary(read_results(*files), out, title=f"{cache.path.name}, {split} split")
    pd.concat(learning, ignore_index=True).to_csv(out / "learning.csv", index=False)
    plot_learning(pd.read_csv(out / "learning.csv"), out / "learning.png")
    table = pd.DataFrame(trainings)
    table.to_csv(out / "training.csv", index=False)
    return table


def _adafocus(cache: Cache, settings: ComparisonSettings, folder: Path, seed: int, device: str) -> Trained:
    own = replace(settings.adafocus, seed=seed)
    agent = train_adafocus(cache, own, folder, device=device, validate=True)
    assert agent.patch_cache is not None
    history, before = [], 0.0
    for stage, seconds in sorted(agent.stage_seconds.items()):
        history += [
            {"seconds": before + row["seconds"], "validation": row["validation"]}
            for row in agent.stage_history.get(stage, [])
            if "validation" in row
        ]
        before += seconds
    entries = [(agent.patch_cache, adafocus_entry(agent, fine_tuned=last)) for last in (False, True)]
    # Stages 1 to 3 are AdaFocus's own; stage 0 prepares its networks, as torchvision's weights do elsewhere.
    return Trained(
        adafocus_name(own.classifier), len(STAGES) - 1, _count(asdict(own)), agent.training_seconds, history,
        entries,
    )  # fmt: skip


def _adafocus_v2(cache: Cache, settings: ComparisonSettings, folder: Path, seed: int, device: str) -> Trained:
    own = replace(settings.adafocus_v2, seed=seed)
    agent = train_adafocus_v2(cache, own, folder, device=device, validate=True)
    budgets = [None, *(share * agent.gflops for share in settings.exit_shares)]
    entries = [(cache, adafocus_v2_entry(agent, budget)) for budget in budgets]
    return Trained(
        adafocus_v2_name(own), 1, _count(asdict(own)), agent.training_seconds, agent.history, entries
    )


TRAINERS: dict[str, Callable[[Cache, ComparisonSettings, Path, int, str], Trained]] = {
    "adafocus": _adafocus,
    "adafocus-v2": _adafocus_v2,
}


def _count(settings: Any) -> int:
    """Numbers and names in nested settings, the seed aside."""
    if isinstance(settings, (tuple, list)):
        return sum(map(_count, settings))
    if not isinstance(settings, dict):
        return 1
    return sum(_count(value) for name, value in settings.items() if name != "seed")
