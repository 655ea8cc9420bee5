"""The network held fixed and the algorithm varied, and the other way round, on one cache.

python benchmarks/networks.py runs/study/seed-0/cache --seeds 3

OCSampler and PPO choose N = 2 frames in one step, MaskablePPO one frame after another at λ; each is trained
with each network that sees the candidates beside each other, of the same width, otherwise by default. What is
trained already is not trained again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from agents.ocsampler import methods as ocsampler
from agents.ocsampler.settings import OCSamplerSettings
from baselines import methods as sb3
from baselines.sb3 import SB3Settings
from baselines.sb3_files import train_to_file
from baselines.tuned import read_tuned
from video_env.cache.store import Cache
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.protocols import Entry
from video_env.models.candidate_networks import NetworkName

NETWORKS: tuple[NetworkName, ...] = ("convolution", "attention", "flat")

HIDDEN = read_tuned("ppo", "FrameSelectOneStep-v0").policy_options["hidden"]


class Trained(NamedTuple):
    """An algorithm with a network."""

    algorithm: str
    network: NetworkName
    seed: int
    entry: Entry


def trained(cache: Cache, folder: Path, seeds: int, cost: float, steps: int | None) -> Iterator[Trained]:
    """Train, or read what is trained, one after another."""
    algorithms: tuple[Literal["ppo", "maskable-ppo"], ...] = ("ppo", "maskable-ppo")
    for network in NETWORKS:
        for seed in range(seeds):
            own = OCSamplerSettings(policy=network, hidden=HIDDEN, seed=seed)
            file = folder / f"ocsampler-{network}-{seed}.pt"
            ocsampler.train_to_file(cache, own, file)
            yield Trained("OCSampler", network, seed, ocsampler.evaluate_agent(cache, file))
            for algorithm in algorithms:
                price = {} if algorithm == "ppo" else {"cost_of_all_frames": cost}
                settings = SB3Settings(algorithm, network=network, steps=steps, seed=seed, **price)
                file = folder / f"{algorithm}-{network}-{seed}.zip"
                train_to_file(cache, settings, file)
                yield Trained(settings.title(), network, seed, sb3.evaluate_agent(cache, file))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cache", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cost-of-all-frames", type=float, default=0.5, help="λ of MaskablePPO")
    parser.add_argument("--steps", type=int, help="most environment steps; tuned by default")
    parser.add_argument("--folder", type=Path, default=Path("runs/networks"), help="for what is trained")
    parser.add_argument("--out", type=Path, default=Path("docs/results/networks.csv"))
    options = parser.parse_args()
    cache, rows = Cache(options.cache), []
    options.folder.mkdir(parents=True, exist_ok=True)
    for one in trained(cache, options.folder, options.seeds, options.cost_of_all_frames, options.steps):
        tables = {split: evaluate(one.entry, cache, split) for split in ("train", "validation", "test")}
        rows.append(
            {
                "algorithm and network": f"{one.algorithm}, {one.network}",
                "algorithm": one.algorithm,
                "network": one.network,
                "seed": one.seed,
                **{f"top1_{split}": table["correct"].mean() for split, table in tables.items()},
                **{name: tables["test"][name].mean() for name in ("frames", "gflops")},
                "training_seconds": one.entry.training.seconds,
            }
        )
        print(rows[-1], flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(options.out, index=False, float_format="%.4f")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
