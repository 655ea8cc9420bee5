"""Pictures of a comparison that show the videos: which frames each method chose, and where it looked."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from compare.run_folder import Run
from compare.summary import in_order
from video_env.cache.store import Cache
from video_env.data.demo import NUM_CANDIDATES
from video_env.evaluation.plots import plot_patches, plot_selections
from video_env.evaluation.results import selects_patches
from video_env.evaluation.selections import write_selections

Strip = tuple[str, np.ndarray, bool | None]


def draw_pictures(run: Run, *, videos: int = 3) -> None:
    """Write ``selections.png``, ``patches.png`` (as far as there are such methods and frames) of a few videos
    with the first seed, and for each seed ``selections.jsonl``."""
    for seed in run.seeds:
        of_seed = run.results[run.results["seed"] == seed]
        if len(of_seed) and "frame_index" in run.cache(seed):  # not where features were computed elsewhere
            write_selections(run.cache(seed), of_seed, run.folder / f"seed-{seed}" / "selections.jsonl")
    seed = run.seeds[0]
    cache, results = run.cache(seed), run.results[run.results["seed"] == seed]
    if "frames" not in cache:
        return
    rows = cache.rows(run.split)[:videos]
    of_patches = selects_patches(results)
    chosen = _at_two_frames(results[~of_patches])
    if len(chosen):
        strips = [(*_headed(cache, row), _selections(cache, row, chosen)) for row in rows]
        plot_selections(strips, run.folder / "selections.png")
    looked = _at_one_size(results[of_patches])
    if len(looked):
        size = float(looked["setting"].iloc[0].split("²")[0]) / int(cache.meta["frame_size"])
        views = [(*_headed(cache, row), _patches(cache, row, looked)) for row in rows[:2]]
        plot_patches(views, run.folder / "patches.png", patch_share=size)


def _at_two_frames(results: pd.DataFrame) -> pd.DataFrame:
    """Of each method the setting whose mean number of frames is nearest to 2: there choices differ most."""
    frames = results.groupby(["method", "setting"])["frames"].mean()
    away = (frames - 2).abs()
    nearest = away[away.groupby("method").transform("min") == away].reset_index().drop_duplicates("method")
    shown = nearest[nearest["frames"] < 2]  # what processes four frames and more has another budget
    return in_order(results.merge(shown[["method", "setting"]], on=["method", "setting"]))


def _at_one_size(results: pd.DataFrame) -> pd.DataFrame:
    """All methods at the patch size that most of them have, without exit."""
    plain = results[results["setting"].str.fullmatch(r"\d+²")]
    sizes = plain.groupby("setting")["method"].nunique()
    if sizes.empty:
        return plain
    beside = plain["method"].str.contains(", stage 2|, GRU|fully connected|centre", regex=True)
    return in_order(plain[(plain["setting"] == sizes.idxmax()) & ~beside])


def _headed(cache: Cache, row: int) -> tuple[str, np.ndarray]:
    facts = cache.index.iloc[row]
    return f"{facts['video']}: {cache.classes[facts['label']]}", cache["frames"][int(row)]


def _selections(cache: Cache, row: int, results: pd.DataFrame) -> list[Strip]:
    facts = cache.index.iloc[row]
    strips: list[Strip] = []
    # The built-in data set knows what is to be seen in which of its own candidates.
    if "object_candidates" in facts and cache.num_candidates == NUM_CANDIDATES:
        objects = zip(
            cache.classes[facts["label"]].split("+"), facts["object_candidates"].split(";"), strict=True
        )
        strips += [
            (f"shows {name}", _marks(map(int, shown.split()), cache.num_candidates), None)
            for name, shown in objects
        ]
    for choice in results[results["video"] == facts["video"]].itertuples():
        marks = _marks(choice.selected, cache.num_candidates)
        strips.append((f"{choice.method}, {choice.setting}", marks, bool(choice.correct)))
    return strips


def _patches(cache: Cache, row: int, results: pd.DataFrame) -> list[tuple[str, np.ndarray, bool]]:
    of_video = results[results["video"] == cache.index["video"].iloc[row]]
    return [
        (choice.method, np.reshape(choice.patches, (-1, 2)), bool(choice.correct))
        for choice in of_video.itertuples()
    ]


def _marks(frames: Iterable[int], count: int) -> np.ndarray:
    marked = np.zeros(count, bool)
    marked[list(frames)] = True
    return marked
