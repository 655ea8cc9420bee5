"""Do the default lengths hold, whatever the number of training videos? A small study for each.

python benchmarks/training_videos.py --sizes 200 340 1000

Each has networks, recognizer and agents of its own, by default settings; all have the same 300 validation and
400 test videos. What is done already is not done again. Writes docs/results/training_videos.csv: how each
training ended, and its accuracy on training, validation and test videos.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from compare.demonstration import DataSettings, study
from compare.run import Machine
from video_env.data.demo import DemoData
from video_env.evaluation import registry

METHODS = ("uniform", "all-frames", "ocsampler", "ppo", "maskable-ppo", "adafocus", "adafocus-v2")
SETTINGS = {
    "uniform": {"num_frames": (2,)}, "ocsampler": {"num_frames": (2,)}, "ppo": {"num_frames": (2,)},
    "maskable_ppo": {"costs_of_all_frames": (0.5,)},
}  # fmt: skip


def table(folder: Path, videos: int) -> pd.DataFrame:
    """Rows of a study, with the number of its training videos."""
    summary, training = (pd.read_csv(folder / name) for name in ("summary.csv", "training.csv"))
    ended = training.groupby("method")[["ended", "best_validation"]].first()
    columns = ["method", "title", "top1_train", "top1", "gflops", "training_seconds"]
    rows = summary[columns].merge(ended, left_on="method", right_index=True, how="left")
    rows.insert(0, "training", [f"{videos} videos, {title}" for title in rows["title"]])
    rows.insert(1, "seed", 0)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 340, 1000])
    parser.add_argument("--folder", type=Path, default=Path("runs/training-videos"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/training_videos.csv"))
    parser.add_argument("--jobs", type=int, help="trainings beside each other")
    options = parser.parse_args()
    registry.load()
    methods = registry.find(METHODS)
    own = {registry.attribute(one.id): one.settings for one in methods}
    own |= {name: replace(own[name], **changes) for name, changes in SETTINGS.items()}  # type: ignore[type-var]
    settings = registry.settings_type(methods)(**own)
    found = []
    for size in options.sizes:
        folder = options.folder / str(size)
        study(
            folder, DataSettings(data=DemoData(train=size)), methods=METHODS, method_settings=settings,
            machine=Machine(jobs=options.jobs),
        )  # fmt: skip
        found.append(table(folder, size))
    pd.concat(found).to_csv(options.out, index=False, float_format="%.4f")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
