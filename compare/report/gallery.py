"""The report's videos: their frames and each method's choices, as compact blocks of data.

| block | content |
| --- | --- |
| `gallery` | ids, labels and classes; methods with their settings; the names of the other blocks |
| `strips-0`, ... | images of 50 videos each: all candidate frames side by side, WebP in base64 |
| `choices-0`, ... | the choices of one method at one setting with one seed: columns of numbers in base64 |

The page reads a block when it needs it, so that it opens fast with thousands of videos too.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from compare.run_folder import Run
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.labels import method_labels, point_label, setting_label
from video_env.evaluation.results import Setting, by_point

BLOCK = 50
"""Videos of one block of images."""

NOWHERE = 255
"""Coordinate of a patch in a frame that the method did not look at."""


def gallery_blocks(run: Run, kinds: Mapping[str, str], videos: int) -> dict[str, Any]:
    """All blocks by name, plain data for JSON.

    Args:
        run: the comparison. All its caches hold the same videos and frames; the first seed's are shown.
        kinds: by method's id ``frames`` or ``patches``, in the order of the page.
        videos: the first so many of the split.

    Raises:
        InputError: the results lack a video of the split.
    """
    cache = run.cache(run.seeds[0])
    rows = cache.rows(run.split)
    shown = rows[:videos]
    ids = cache.index["video"].iloc[shown].astype(str).to_list()
    label_sets = cache.label_sets()
    choices, listed = _choices(run, cache, kinds, ids)
    gallery = {
        "videos": ids,
        "videosOfSplit": len(rows),
        "labels": [list(label_sets[row]) for row in shown],
        "classes": [str(name) for name in cache.classes],
        "candidates": cache.num_candidates,
        "seconds": _base64(cache["timestamp_seconds"][shown], "<f4")
        if "timestamp_seconds" in cache
        else None,
        "seeds": sorted(int(seed) for seed in run.results["seed"].unique()),
        "methods": listed,
        "frame": None,
        "stripBlock": BLOCK,
    }
    strips: dict[str, Any] = {}
    if "frames" in cache:
        _, height, width, _ = cache["frames"].shape[1:]
        gallery["frame"] = [width, height]
        side = 96 if len(shown) <= 500 else 64
        for number, start in enumerate(range(0, len(shown), BLOCK)):
            frames = cache["frames"][shown[start : start + BLOCK]]
            strips[f"strips-{number}"] = [strip(of_video, side) for of_video in frames]
    return {"gallery": gallery, **choices, **strips}


def strip(frames: np.ndarray, side: int) -> str:
    """Frames uint8 [T, H, W, 3] side by side, at most ``side`` pixels high: WebP in base64."""
    count, height, width, _ = frames.shape
    image = Image.fromarray(frames.transpose(1, 0, 2, 3).reshape(height, count * width, 3))
    if height > side:
        image = image.resize((count * round(width * side / height), side), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=60, method=2)
    return base64.b64encode(file.getvalue()).decode()


def _choices(
    run: Run, cache: Cache, kinds: Mapping[str, str], ids: Sequence[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The blocks of choices, and the methods with the settings that the blocks belong to."""
    results = run.results
    titles = method_labels(results)
    points: dict[str, list[tuple[float, Setting, pd.DataFrame]]] = {method: [] for method in kinds}
    for point, rows in by_point(results):
        points[point.method].append((float(rows["gflops"].mean()), point.setting, rows))
    # All methods are first shown at about the same cost.
    usual = float(np.median([np.median([gflops for gflops, _, _ in own]) for own in points.values()]))
    listed: list[dict[str, Any]] = []
    blocks: dict[str, Any] = {}
    for method, kind in kinds.items():
        settings: list[dict[str, Any]] = []
        for gflops, setting, rows in sorted(points[method], key=lambda one: one[0]):
            of_seed = {}
            for seed, chosen in rows.groupby("seed"):
                block = f"choices-{len(blocks)}"
                where = f"{run.folder}: results of {point_label(titles[method], setting)}, seed {seed}"
                blocks[block] = _columns(_in_order(chosen, ids, where), cache.num_candidates, kind)
                of_seed[str(seed)] = block
            share = _patch_share(cache, setting) if kind == "patches" else None
            settings.append(
                {"label": setting_label(setting), "gflops": gflops, "share": share, "blocks": of_seed}
            )
        distance = [abs(np.log(max(setting["gflops"], 1e-12) / max(usual, 1e-12))) for setting in settings]
        listed.append(
            {
                "id": method, "label": titles[method], "kind": kind, "usual": int(np.argmin(distance)),
                "settings": settings,
            }
        )  # fmt: skip
    return blocks, listed


def _in_order(table: pd.DataFrame, ids: Sequence[str], where: str) -> pd.DataFrame:
    """One row for each video, in the order of the page."""
    places = pd.Index(table["video"].astype(str)).get_indexer(pd.Index(ids))
    if (places < 0).any():
        raise InputError(f"{where}: no row of video {ids[int((places < 0).argmax())]!r}, which the cache has")
    return table.iloc[places]


def _columns(table: pd.DataFrame, count: int, kind: str) -> dict[str, str]:
    """A result table's rows [V] as numbers in base64, little-endian.

    ``prediction`` int32 and ``correct`` uint8 [V]; ``probability`` of the predicted and ``truth`` of the
    true class, uint8 [V] in percent; ``gflops`` float32 [V]; ``chosen``, bits [V, T] from the lowest, each
    video's in bytes of its own; of patches ``patches`` uint8 [V, T, 2], (row, column) in 254ths, 255 where
    it did not look.
    """
    chosen = np.zeros((len(table), count), bool)
    for row, frames in enumerate(table["selected"]):
        chosen[row, np.asarray(frames, np.int64)] = True
    columns = {
        "prediction": _base64(table["prediction"], "<i4"),
        "correct": _base64(table["correct"], "u1"),
        "truth": _base64(_percent(table["confidence"]), "u1"),
        "gflops": _base64(table["gflops"], "<f4"),
        "chosen": _base64(np.packbits(chosen, axis=1, bitorder="little"), "u1"),
    }
    if "scores" in table and table["scores"].notna().all():
        scores, predicted = np.stack(table["scores"].to_list()), table["prediction"].to_numpy()
        # Where no frame was chosen nothing is predicted (-1), and all classes are as probable.
        probability = scores[np.arange(len(scores)), np.maximum(predicted, 0)]
        columns["probability"] = _base64(_percent(probability), "u1")
    if kind == "patches":
        points = np.full((len(table), count, 2), NOWHERE, np.uint8)
        for row, found in enumerate(table["patches"]):
            points[row, chosen[row]] = np.round(np.reshape(found, (-1, 2)) * 254)
        columns["patches"] = _base64(points, "u1")
    return columns


def _patch_share(cache: Cache, setting: Setting) -> float | None:
    """Side of a patch divided by the side of a frame. None, and then no patches are drawn, where the setting
    has no ``patch_size`` or the cache does not say how large the frames were that they were cut from."""
    size = setting.get("patch_size")
    source = cache.meta["arrays"].get("patches", {}).get("source", {})
    frame_size = source.get("frame_size", cache.meta.get("frame_size"))
    if not isinstance(size, (int, float)) or not frame_size or not 0 < size <= frame_size:
        return None
    return float(size / frame_size)


def _percent(values: Any) -> np.ndarray:
    return np.round(np.asarray(values, float) * 100)


def _base64(values: Any, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(dtype)).tobytes()).decode()
