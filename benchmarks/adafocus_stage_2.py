"""AdaFocus's stage 2 on many and on few videos: its default length beside four times the updates, both patch
policies, and the most-moving patch.

python benchmarks/adafocus_stage_2.py runs/study/seed-0/agents/adafocus-36/cache

Takes caches with patches and a classifier, of which stage 2 begins; several are compared in one table. Writes
runs/benchmarks/adafocus_stage_2.csv. The classifier is that of stage 1 in every row.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from agents.adafocus import AdaFocus, AdaFocusSettings
from agents.adafocus.methods import entry_of
from agents.adafocus.policies import WIDTHS, PolicyName
from agents.adafocus.settings import POLICY, PolicyTraining
from baselines.patches import most_moving_patches
from video_env.cache.store import Cache
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.protocols import Entry
from video_env.models.stopping import Length


def most_moving(cache: Cache, split: str) -> float:
    policy = most_moving_patches(cache, split)
    options = {"observation": "index"}
    entry = Entry(
        "most-moving-patch", "most-moving patch", "heuristic", {}, 0, "PatchSelect-v0", policy, options
    )
    return float(evaluate(entry, cache, split)["correct"].mean())


def trained(cache: Cache, settings: AdaFocusSettings) -> tuple[dict[str, Any], int]:
    """What a training of stage 2 comes to, and how many updates it took."""
    agent = AdaFocus(cache, settings)
    agent.train_policy()
    history = agent.stage_history[POLICY]
    best = max(history, key=lambda row: row["score"])
    tables = {split: evaluate(entry_of(agent), cache, split) for split in ("validation", "test")}
    updates = int(history[-1]["updates"])
    row = {
        "updates": updates, "best_after": int(best["updates"]), "ended": agent.stage_ended[POLICY],
        "seconds": agent.stage_seconds[POLICY], "top1_train": tables["test"]["top1_train"].iloc[0],
        **{f"top1_{split}": table["correct"].mean() for split, table in tables.items()},
    }  # fmt: skip
    return row, updates


def rows(cache: Cache, seeds: int, networks: list[PolicyName]) -> Iterator[dict[str, Any]]:
    videos = len(cache.rows("train"))
    heuristic = {f"top1_{split}": most_moving(cache, split) for split in ("validation", "test")}
    yield {"videos": videos, "policy": "most_moving_patch", **heuristic}
    for network in networks:
        for seed in range(seeds):
            settings = AdaFocusSettings(
                patch_size=cache.sources("patches")["patches"]["patch_size"],
                policy=PolicyTraining(network=network), seed=seed,
            )  # fmt: skip
            row, updates = trained(cache, settings)
            yield {"videos": videos, "policy": network, "length": "default", "seed": seed, **row}
            # No patience, and rates that fall along a cosine: all the updates are made.
            four_times = Length(updates=4 * updates, round=settings.policy.length.round, patience=0)
            longer = replace(settings, policy=replace(settings.policy, length=four_times))
            row, _ = trained(cache, longer)
            yield {"videos": videos, "policy": network, "length": "four times", "seed": seed, **row}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("caches", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", choices=list(WIDTHS), default=list(WIDTHS))
    options = parser.parse_args()
    file = Path("runs/benchmarks/adafocus_stage_2.csv")
    file.parent.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    for cache in options.caches:
        for row in rows(Cache(cache), options.seeds, options.networks):
            print(
                {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}
            )
            found.append(row)
            pd.DataFrame(found).round(4).to_csv(file, index=False)
    print(f"written: {file}")


if __name__ == "__main__":
    main()
