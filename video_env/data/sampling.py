"""Which frames of a video are its candidates: pure functions of lengths and generators."""

from __future__ import annotations

import itertools

import numpy as np

from video_env.errors import InputError


def candidate_indices(
    num_frames: int,
    num_candidates: int,
    *,
    first: int = 0,
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """One frame from each of T uniform segments, in time order (Wang et al. 2016, TSN, section 3.1).

    Args:
        num_frames: frames to draw from, at least 1.
        num_candidates: T, the number of segments, at least 1.
        first: index of the first of these frames in the video file.
        generator: draws one frame uniformly inside each segment (training); without it the frame
            at the segment's centre is taken (testing).

    Returns:
        int64 [T], non-decreasing, in ``[first, first + num_frames)``. A video shorter than T frames
        gives each of its frames once and then repeats its last one.

    Raises:
        ValueError: a count is below 1.
    """
    if num_frames < 1 or num_candidates < 1:
        raise ValueError(
            f"num_frames and num_candidates must be at least 1, got {num_frames} and {num_candidates}"
        )
    if num_frames < num_candidates:
        return first + np.minimum(np.arange(num_candidates, dtype=np.int64), num_frames - 1)
    edges = segment_edges(num_frames, num_candidates)
    if generator is None:
        return first + (edges[:-1] + edges[1:] - 1) // 2
    return first + generator.integers(edges[:-1], edges[1:])


def segment_edges(num_frames: int, num_segments: int) -> np.ndarray:
    """int64 [num_segments + 1]: segment i of the frames is ``edges[i]`` to ``edges[i + 1]`` (excluded)."""
    return np.arange(num_segments + 1, dtype=np.int64) * num_frames // num_segments


def coarse_to_fine(num_candidates: int) -> np.ndarray:
    """int64 [T], the order in which AdaFocusV2 reads the candidates: the middle one, the first, the last,
    then the midpoints of ever smaller intervals (released code of Wang et al. 2022, AdaFocus V2).

    Raises:
        InputError: T is below 1.
    """
    if num_candidates < 1:
        raise InputError(f"num_candidates: found {num_candidates}, expected at least 1")
    last = num_candidates - 1
    order = list(dict.fromkeys([last // 2, 0, last]))
    while len(order) < num_candidates:
        read = sorted(order)
        order += [(before + after) // 2 for before, after in itertools.pairwise(read) if after - before > 1]
    return np.array(order, np.int64)
