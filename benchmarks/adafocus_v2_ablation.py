"""What each of AdaFocusV2's ingredients is worth on the built-in data (Wang et al. 2022, table 6).

python benchmarks/adafocus_v2_ablation.py runs/study --seeds 3

Every row is trained on the caches that ``video-env demo --seeds 3`` leaves, with the demonstration's settings
but for what the row names, and tested on the test split. What is trained already is not trained again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from agents.adafocus_v2 import AdaFocusV2
from agents.adafocus_v2.methods import entry_of, train_to_folder
from agents.adafocus_v2.settings import AdaFocusV2Settings, Ingredients
from video_env.cache.store import Cache
from video_env.evaluation.evaluate import evaluate

DEFAULT = AdaFocusV2Settings()
VARIANTS = {
    "the default: all but the stop-gradient": DEFAULT,
    "with the stop-gradient, as published": replace(DEFAULT, ingredients=Ingredients()),
    "no auxiliary supervision": replace(DEFAULT, ingredients=replace(DEFAULT.ingredients, auxiliary=False)),
    "no diversity augmentation": replace(DEFAULT, ingredients=replace(DEFAULT.ingredients, diversity=False)),
    "REINFORCE instead of interpolation": replace(
        DEFAULT, ingredients=replace(DEFAULT.ingredients, interpolation=False)
    ),
    "the published policy": replace(DEFAULT, policy="fully_connected", policy_hidden=128),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/results/adafocus_v2_ablation.csv"))
    options = parser.parse_args()
    rows = []
    for name, settings in VARIANTS.items():
        for seed in range(options.seeds):
            cache = Cache(options.run / f"seed-{seed}" / "cache")
            folder = options.run / "ablation" / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
            train_to_folder(cache, replace(settings, seed=seed), folder)
            agent = AdaFocusV2.load(folder / "agent.pt", cache=cache)
            table = evaluate(entry_of(agent), cache, "test")
            points = np.concatenate(table["patches"].to_list()).reshape(-1, 2)
            room = agent.network.frame_size - agent.network.patch_size
            spread = float(points.std(axis=0).mean()) * room
            measured = {"top1": table["correct"].mean(), "spread_pixels": spread}
            rows.append({"variant": name, "seed": seed, **measured})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out, index=False, float_format="%.4f")
    print(table.groupby("variant", sort=False)[["top1", "spread_pixels"]].mean().round(3))
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
