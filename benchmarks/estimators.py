"""Reward against updates: the sampled policy gradient beside the exact one, same seeds.

python benchmarks/estimators.py runs/study/seed-0/cache

Writes runs/benchmarks/estimators.csv and draws estimators.png from it. The reward is the exact expected
quality of N drawn frames under the policy, over all training videos, whatever the policy is trained by.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from agents.ocsampler.agent import OCSampler
from agents.ocsampler.set_probability import log_probability_of_all_sets
from agents.ocsampler.settings import OCSamplerSettings
from agents.ocsampler.training_videos import SplitVideos
from video_env.cache.store import Cache
from video_env.models.stopping import Length

EVERY = 5


def learning_curve(cache: Cache, settings: OCSamplerSettings) -> list[dict[str, float]]:
    agent = OCSampler(cache, settings)
    videos = SplitVideos(cache, "train", settings.reward, None, agent.device)
    everything = np.arange(len(videos))
    qualities = torch.from_numpy(videos.quality_of_all_sets(everything, settings.num_frames))
    rows: list[dict[str, float]] = []
    updates = 0

    def record(agent: OCSampler) -> None:
        nonlocal updates
        updates += 1
        if updates % EVERY == 0 or updates == 1:
            with torch.no_grad():
                log_p = agent.policy(videos.features(everything)).cpu()
            expected = log_probability_of_all_sets(log_p, settings.num_frames).exp() * qualities
            rows.append({"updates": updates, "reward": float(expected.sum(dim=-1).mean())})

    agent.learn(callback=record)
    return rows


def draw(table: pd.DataFrame, file: Path) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained", dpi=150)
    axes = figure.subplots()
    for estimator, style in (("exact", "-"), ("sampled", "--")):
        for number, (num_frames, group) in enumerate(
            table[table["estimator"] == estimator].groupby("num_frames")
        ):
            by_update = group.groupby("updates")["reward"]
            mean, low, high = by_update.mean(), by_update.min(), by_update.max()
            axes.plot(mean.index, mean, style, color=f"C{number}", label=f"{estimator}, N = {num_frames}")
            axes.fill_between(mean.index, low, high, color=f"C{number}", alpha=0.15, linewidth=0)
    axes.set_xlabel("updates of the policy")
    axes.set_ylabel("expected reward: the true class's probability")
    axes.set_title(f"built-in data, {table['seed'].nunique()} seeds: mean, and range", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cache", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    cache = Cache(options.cache)
    rows = [
        {"estimator": estimator, "num_frames": num_frames, "seed": seed, **row}
        for num_frames in (2, 4)
        for estimator in ("exact", "sampled")
        for seed in range(options.seeds)
        for row in learning_curve(
            cache,
            OCSamplerSettings(
                num_frames=num_frames,
                estimator=estimator,  # type: ignore[arg-type]
                length=Length(epochs=options.epochs),
                seed=seed,
            ),
        )
    ]
    folder = Path("runs/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "estimators.csv", index=False)
    draw(pd.read_csv(folder / "estimators.csv"), folder / "estimators.png")
    print(f"written: {folder / 'estimators.csv'}, {folder / 'estimators.png'}")


if __name__ == "__main__":
    main()
