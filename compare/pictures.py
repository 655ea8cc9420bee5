"""Pictures of a comparison that show videos: the frames that each method chose, and where it looked."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from compare.run_folder import Run
from compare.summary import in_order, methods_shown
from video_env.cache.store import Cache
from video_env.data.demo import NUM_CANDIDATES
from video_env.evaluation.labels import method_labels, point_label
from video_env.evaluation.plots import plot_patches, plot_selections
from video_env.evaluation.results import points_of, selects_patches, setting_columns, setting_of
from video_env.evaluation.selections import write_selections

Strip = tuple[str, np.ndarray, bool | None]

NO_PATCHES_DRAWN = (
    "adafocus-stage-2", "adafocus-gru", "adafocus-gru-stage-2", "adafocus-v2-fully-connected",
    "adafocus-v2-exit", "patch-ppo-exit", "centre-patch",
)  # fmt: skip
"""Ids of methods whose patches are almost those of another method, or are known without a picture."""


def draw_pictures(run: Run, *, videos: int = 3) -> None:
    """Draw what the methods of the first seed chose in a few videos, and write every seed's choices.

    ``selections.png`` shows the methods that choose frames and ``patches.png`` those that choose patches, as
    far as the run has such methods and its cache has frames. ``seed-*/selections.jsonl`` holds all choices.

    Args:
        run: the comparison, whose folder the files go to.
        videos: how many videos of the split ``selections.png`` shows.
    """
    for seed in run.seeds:
        of_seed = run.results[run.results["seed"] == seed]
        # A cache of features that were computed elsewhere does not know its frames' numbers.
        if len(of_seed) and "frame_index" in run.cache(seed):
            write_selections(run.cache(seed), of_seed, run.folder / f"seed-{seed}" / "selections.jsonl")
    seed = run.seeds[0]
    cache, results = run.cache(seed), run.results[run.results["seed"] == seed]
    if "frames" not in cache:
        return
    rows = cache.rows(run.split)[:videos]
    of_patches = selects_patches(results)
    chosen = _near_two_frames(results[~of_patches])
    if len(chosen):
        strips = [(*_headed(cache, row), _selections(cache, row, chosen)) for row in rows]
        plot_selections(strips, run.folder / "selections.png")
    looked = _at_one_size(results[of_patches])
    if len(looked):
        share = float(looked["patch_size"].iloc[0]) / int(cache.meta["frame_size"])
        views = [(*_headed(cache, row), _patches(cache, row, looked)) for row in rows[:2]]
        plot_patches(views, run.folder / "patches.png", patch_share=share)


def _near_two_frames(results: pd.DataFrame) -> pd.DataFrame:
    """Each method at the setting whose mean number of frames is nearest to 2, where choices differ most."""
    points = points_of(results)
    away = (results.groupby(points)["frames"].mean() - 2).abs().rename("away").to_frame()
    away["method"] = results.groupby(points)["method"].first()
    nearest = away.loc[away.groupby("method")["away"].idxmin()]
    # A method that processes four frames and more has another budget.
    return in_order(results[points.isin(nearest.index[nearest["away"] < 2])])


def _at_one_size(results: pd.DataFrame) -> pd.DataFrame:
    """The methods to show at the patch size that most of them have, each with its longest look."""
    if "patch_size" not in results or results["patch_size"].isna().all():
        return results.iloc[:0]
    size = results.groupby("patch_size")["method"].nunique().idxmax()
    at_size = results[results["patch_size"] == size]
    points = points_of(at_size)
    looks = at_size.groupby(points)["exit_after"].mean().to_frame()
    looks["method"] = at_size.groupby(points)["method"].first()
    longest = at_size[points.isin(looks.groupby("method")["exit_after"].idxmax())]
    longest = longest[~longest["method"].isin(NO_PATCHES_DRAWN)]
    return in_order(longest[longest["method"].isin(methods_shown(longest))])


def _headed(cache: Cache, row: int) -> tuple[str, np.ndarray]:
    facts = cache.index.iloc[row]
    return f"{facts['video']}: {cache.classes[facts['label']]}", cache["frames"][int(row)]


def _selections(cache: Cache, row: int, results: pd.DataFrame) -> list[Strip]:
    facts = cache.index.iloc[row]
    strips: list[Strip] = []
    # Videos of the built-in data set say which candidates show what.
    if "object_candidates" in facts and cache.num_candidates == NUM_CANDIDATES:
        objects = zip(
            cache.classes[facts["label"]].split("+"), facts["object_candidates"].split(";"), strict=True
        )
        strips += [
            (f"shows {name}", _marks(map(int, shown.split()), cache.num_candidates), None)
            for name, shown in objects
        ]
    titles, columns = method_labels(results), setting_columns(results)
    for choice in results[results["video"] == facts["video"]].to_dict("records"):
        label = point_label(titles[choice["method"]], setting_of(choice, columns))
        marks = _marks(choice["selected"], cache.num_candidates)
        strips.append((label, marks, bool(choice["correct"])))
    return strips


def _patches(cache: Cache, row: int, results: pd.DataFrame) -> list[tuple[str, np.ndarray, bool]]:
    of_video, titles = results[results["video"] == cache.index["video"].iloc[row]], method_labels(results)
    return [
        (titles[choice.method], np.reshape(choice.patches, (-1, 2)), bool(choice.correct))
        for choice in of_video.itertuples()
    ]


def _marks(frames: Iterable[int], count: int) -> np.ndarray:
    marked = np.zeros(count, bool)
    marked[list(frames)] = True
    return marked
