"""Pictures of videos: which methods and settings they show, whatever these are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import compare.pictures
from compare.pictures import draw_pictures
from compare.run_folder import Run, claim
from tests.result_tables import entry
from video_env.cache.store import Cache
from video_env.envs.options import PACKAGED_CACHE
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.results import join_results, write_results


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is handed to the plots, of a comparison with methods of odd names."""
    cache = Cache(PACKAGED_CACHE)
    run = claim(tmp_path, caches={0: cache}, split="test", title="", methods={})
    frames = [evaluate(entry("uniform", cache, "test", count), cache, "test") for count in (1, 2, 6)]
    patches = evaluate(entry("random-patch", cache, "test"), cache, "test")
    leaves = patches.assign(
        selected=patches["selected"].map(lambda chosen: chosen[:3]),
        patches=patches["patches"].map(lambda points: points[:6]), exit_after=3,
    )  # fmt: skip
    tables = [
        *frames,
        *(table.assign(method="own", title="centre, N = 6") for table in frames[1:]),
        patches,
        patches.assign(method="own-patches", title="centre of mass, stage 2, GRU", temperature=0.5),
        leaves.assign(method="own-patches", title="centre of mass, stage 2, GRU", temperature=2.0),
        patches.assign(method="small", title="36²", patch_size=24),
        patches.assign(method="centre-patch", title="centre patch"),
    ]
    write_results(join_results(tables), run.folder / "results.parquet")
    found: dict[str, Any] = {"folder": tmp_path}
    monkeypatch.setattr(
        compare.pictures, "plot_selections", lambda videos, file: found.update(selections=videos)
    )
    monkeypatch.setattr(
        compare.pictures, "plot_patches",
        lambda videos, file, patch_share: found.update(patches=videos, share=patch_share),
    )  # fmt: skip
    draw_pictures(Run(tmp_path), videos=2)
    return found


def test_frames_are_shown_where_choices_differ_most(drawn: dict[str, Any]) -> None:
    assert len(drawn["selections"]) == 2
    for _, _, strips in drawn["selections"]:
        marked = {label: int(marks.sum()) for label, marks, right in strips if right is not None}
        assert marked == {"uniform, N = 2": 2, "centre, N = 6, N = 2": 2}


def test_patches_are_shown_at_the_size_that_most_methods_have(drawn: dict[str, Any]) -> None:
    cache = Cache(PACKAGED_CACHE)
    assert drawn["share"] == 36 / cache.meta["frame_size"]
    for _, _, rows in drawn["patches"]:
        looked = {label: len(points) for label, points, _ in rows}
        # Each method at the setting at which it looks at most frames; the centre is known without a picture.
        count = cache.num_candidates
        assert looked == {"random patch": count, "centre of mass, stage 2, GRU": count}


def test_every_choice_is_written_for_programs(drawn: dict[str, Any]) -> None:
    lines = pd.DataFrame(
        json.loads(line)
        for line in (drawn["folder"] / "seed-0" / "selections.jsonl").read_text().splitlines()
    )
    settings = lines.groupby("method", sort=False)["setting"].agg(
        lambda of: list({json.dumps(one): one for one in of}.values())
    )
    assert settings["uniform"] == [{"num_frames": 1}, {"num_frames": 2}, {"num_frames": 6}]
    assert settings["own-patches"] == [
        {"patch_size": 36, "temperature": 0.5},
        {"patch_size": 36, "temperature": 2},
    ]
