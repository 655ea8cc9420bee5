"""What a summary's reader should know before trusting a row, in plain lines: they stand below the table and
on the report's page."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator

import pandas as pd

from compare.trainings import still_improving
from video_env.evaluation.budget import LARGE_GAP, guess
from video_env.evaluation.labels import method_labels, point_label
from video_env.evaluation.metrics import bootstrap_interval
from video_env.evaluation.results import Point, at_setting, by_point, selects_patches
from video_env.models.stopping import at_chance

FEW_FRAMES = 0.05
"""A policy with fewer frames per video on average takes none, by and large."""


def remarks(
    results: pd.DataFrame, training: pd.DataFrame | None = None, learning: pd.DataFrame | None = None
) -> list[str]:
    """One line for each of these, as far as it is found:

    1. a learned method that is no better than a guess without looking (``budget.guess``): the 95% interval of
       its top-1 reaches down to it, or no look at the validation split was clearly above it
       (``stopping.at_chance``); seed by seed;
    2. a policy that takes no frame in most videos, or fewer than 0.05 per video;
    3. a method that is more than 10 points better on training videos than on those tested, with the
       recognizer's own gap: it was trained on the same videos, so a method that chooses perfectly has it too;
    4. a training that was ended by its limit while it still improved on the validation split;
    5. methods that were tested with other seeds than most.

    Args:
        results: a result table; join several first.
        training: a row per training, as in ``training.csv``; its column ``ended`` tells of limits.
        learning: a row per look at the validation split, as in ``learning.csv``.
    """
    titles = method_labels(results)
    points = [
        (point_label(titles[point.method], point.setting), point, rows) for point, rows in by_point(results)
    ]
    return [
        *_guessing(points, guess(results), learning),
        *_idle(points),
        *_memorising(points),
        *_limited(titles, training, learning),
        *_other_seeds(titles, points),
    ]


Named = list[tuple[str, Point, pd.DataFrame]]


def _guessing(points: Named, chance: float, learning: pd.DataFrame | None) -> Iterator[str]:
    for name, point, rows in points:
        if not (rows["training_seconds"] > 0).any():
            continue
        found: dict[int, str] = {}
        for seed in (seeds := sorted(rows["seed"].unique().tolist())):
            correct = rows.loc[rows["seed"] == seed, "correct"].to_numpy(float)
            low, high = bootstrap_interval(correct[None])
            looks = _of_training(learning, point, seed)
            if low <= chance:
                found[seed] = f"{correct.mean():.3f} ({low:.3f}-{high:.3f})"
            elif looks is not None and at_chance(looks["validation"].max(), chance):
                found[seed] = f"{correct.mean():.3f} (at most {looks['validation'].max():.3f} on validation)"
        if found:
            yield (
                f"{name}: no better than a guess{_in_seeds(found, seeds)}: top-1 "
                f"{', '.join(found.values())}, always the most frequent class has {chance:.3f}"
            )


def _idle(points: Named) -> Iterator[str]:
    for name, point, rows in points:
        none = (rows["frames"] == 0).mean()
        if rows["frames"].mean() >= FEW_FRAMES and none <= 0.5:
            continue
        line, price = f"{name}: takes no frame in {none:.0%} of the videos", point.setting
        if {"cost_of_all_frames", "cost_per_gflop"} & set(price):
            line += "; its λ is too high"
            cost = price.get("cost_of_all_frames")
            if cost is None and not selects_patches(rows).any():
                cost = price["cost_per_gflop"] * rows["all_frames_gflops"].mean()
            if cost is not None and not pd.isna(cost):
                line += f" (all frames together cost {cost:.3g}, and a right answer is worth 1)"
        yield line


def _memorising(points: Named) -> Iterator[str]:
    for name, _, rows in points:
        trained = rows.groupby("seed")["top1_train"].first().mean()
        tested = rows["correct"].mean()
        recognizer = rows.groupby("seed")["recognizer_gap"].first().mean()
        own = "" if pd.isna(recognizer) else f"; the recognizer on all frames has {100 * recognizer:.0f}"
        if trained - tested > LARGE_GAP:
            yield (
                f"{name}: a gap of {100 * (trained - tested):.0f} points between training videos "
                f"({trained:.3f}) and the {rows['split'].iloc[0]} split ({tested:.3f}){own}"
            )


def _limited(
    titles: dict[str, str], training: pd.DataFrame | None, learning: pd.DataFrame | None
) -> Iterator[str]:
    if training is None or "ended" not in training:
        return
    for point, rows in by_point(training):
        if point.method not in titles:
            continue
        ended = [
            seed
            for seed in rows.loc[rows["ended"] == "limit", "seed"]
            if _still_improved(_of_training(learning, point, seed))
        ]
        if ended:
            name = point_label(titles[point.method], point.setting)
            where = _in_seeds(ended, rows["seed"].tolist())
            yield f"{name}: its training ended at its limit while it still improved on validation{where}"


def _still_improved(looks: pd.DataFrame | None) -> bool:
    if looks is None or len(looks) < 2:
        return False
    score = looks["score" if "score" in looks and looks["score"].notna().all() else "validation"]
    return still_improving(score.tolist())


def _of_training(learning: pd.DataFrame | None, point: Point, seed: int) -> pd.DataFrame | None:
    """The looks at the validation split of one training; None where there were none."""
    if learning is None or learning.empty:
        return None
    own = (learning["method"] == point.method) & (learning["seed"] == seed)
    own &= at_setting(learning, **point.setting)
    return learning[own] if own.any() else None


def _other_seeds(titles: dict[str, str], points: Named) -> Iterator[str]:
    methods: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    named: list[tuple[str, str, tuple[int, ...]]] = []
    for name, point, rows in points:
        seeds = tuple(sorted(rows["seed"].unique().tolist()))
        methods[point.method].add(seeds)
        # Where all settings of a method have the same seeds, it is one thing to say.
        named.append((titles[point.method], name, seeds))
    (usual, _), *others = Counter(seeds for _, _, seeds in named).most_common()
    if others:
        one = {titles[method] for method, found in methods.items() if len(found) == 1}
        listed = dict.fromkeys(
            f"{title if title in one else name}: {_numbers(seeds)}"
            for title, name, seeds in named
            if seeds != usual
        )
        yield f"not all have the same seeds: most have {_numbers(usual)}, but {'; '.join(listed)}"


def _in_seeds(found: Collection[int], of: Collection[int]) -> str:
    """Which seeds, where not all are meant."""
    if len(found) == len(of):
        return ""
    return f" in seed{'s' if len(found) > 1 else ''} {_numbers(found)}"


def _numbers(of: Iterable[int]) -> str:
    return ", ".join(str(int(one)) for one in of)
