"""The best fixed subset: the same N frames for every video, those that serve the training videos best.

Whoever chooses frames video by video must do better than this: it knows where in a video the frames lie that
decide the label on average, and nothing of the video at hand.
"""

from __future__ import annotations

import numpy as np

from baselines.heuristics import FixedSubsets, NumFrames, check_num_frames
from video_env.cache.store import Cache
from video_env.evaluation.protocols import Entry
from video_env.evaluation.registry import Job, method

BATCH = 1024  # videos whose subset tables are in memory at once


def best_fixed_subset(cache: Cache, num_frames: int) -> FixedSubsets:
    """The N candidates that together give the true class the highest mean probability in the training split.

    All C(T, N) subsets are tried, in the table of the recognizer's verdicts. Of equal ones the first counts,
    by the subsets' bits.

    Args:
        cache: with ``subset_confidence`` and a training split.
        num_frames: N.

    Raises:
        InputError: N is not from 1 to T, or the cache has no training split.
        CacheError: it has no subset table.
    """
    check_num_frames(cache, num_frames)
    table, rows = (
        cache["subset_confidence"],
        cache.rows("train"),
    )  # none with more than 12 candidates
    bits = 1 << np.arange(cache.num_candidates)
    sets = (np.arange(1 << cache.num_candidates)[:, None] & bits) > 0
    sets = sets[sets.sum(axis=1) == num_frames]
    total = np.zeros(len(sets))
    for start in range(0, len(rows), BATCH):
        total += table[rows[start : start + BATCH]][:, sets @ bits].astype(np.float64).sum(axis=0)
    best = sets[int(total.argmax())]
    return FixedSubsets(np.broadcast_to(best, (len(cache), cache.num_candidates)), "nothing")


@method(
    "best-fixed-subset", title="best fixed subset", family="heuristic",
    about="the same N frames for every video, the best ones of the training split", settings=NumFrames(),
)  # fmt: skip
def entries(job: Job, settings: NumFrames) -> list[Entry]:
    return [
        job.entry(
            {"num_frames": count}, "FrameSelectOneStep-v0", best_fixed_subset(job.cache, count),
            options={"num_frames": count, "observation": "index"},
        )
        for count in settings.num_frames
    ]  # fmt: skip
