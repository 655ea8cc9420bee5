"""A damaged file is no whole file: it is named, and does nothing to the others."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.video_files import DAMAGES, damaged, ffmpeg
from video_env.cache import decoding
from video_env.cache.build import build_cache
from video_env.cache.decoding import BuildSettings
from video_env.cache.store import Cache
from video_env.data.annotations import Annotations
from video_env.data.decode import DamagedError, VideoError, read_candidates

SETTINGS = BuildSettings(num_candidates=8, frame_size=120, shard_size=16, max_failures=10**6)
ENCODERS = {
    "mp4": ("-c:v", "libx264", "-movflags", "+faststart"),
    "mkv": ("-c:v", "libx264"),
    "avi": ("-c:v", "mpeg4", "-q:v", "4"),
    "webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file for each container: 100 frames of moving patterns and noise, a keyframe in each second."""
    folder = tmp_path_factory.mktemp("good")
    source = (
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=160x120:d=4:r=25",
        "-vf",
        "noise=alls=12:all_seed=1",
        "-g",
        "25",
    )
    for container, encoder in ENCODERS.items():
        ffmpeg(*source, *encoder, "-pix_fmt", "yuv420p", folder / f"good.{container}")
    return {container: folder / f"good.{container}" for container in ENCODERS}


def foreign_files(folder: Path, good: Path) -> list[str]:
    """Names of files that are something else than their names say."""
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video at all\n" * 100)
    (folder / "zeros.mp4").write_bytes(bytes(10_000))
    (folder / "noise.mkv").write_bytes(random.Random(0).randbytes(50_000))
    (folder / "archive.avi").write_bytes(b"PK\3\4" + bytes(2_000))
    (folder / "picture.webm").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2_000))
    (folder / "playlist.mp4").write_text(f"#EXTM3U\n#EXTINF:4,\n{good.name}\n#EXT-X-ENDLIST\n")
    (folder / "header-only.mp4").write_bytes(good.read_bytes()[:600])
    (folder / "folder.mp4").mkdir()
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "nowhere.mp4").symlink_to("not-there.mp4")
    os.mkfifo(folder / "pipe.mp4")
    return [entry.name for entry in sorted(folder.iterdir())]


def annotations(folder: Path, names: list[str], sums: dict[str, str] | None = None) -> Annotations:
    table = pd.DataFrame({"video": names, "path": names, "label": 0, "split": "train"})
    if sums is not None:
        table["sha256"] = [sums[name] for name in names]
    return Annotations(table, ("anything",), folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def descendants() -> set[str]:
    """Ids of the processes that come from this one."""
    parent = {
        file.parent.name: file.read_text().rpartition(")")[2].split()[1]
        for file in Path("/proc").glob("[0-9]*/stat")
        if file.exists()
    }
    found, new = set(), {str(os.getpid())}
    while new:
        new = {process for process, of in parent.items() if of in new}
        found |= new
    return found


def holds_a_wrong_frame(cache: Cache, row: int, whole: np.ndarray) -> bool:
    indices = cache["frame_index"][row]
    return bool(indices.max() >= len(whole)) or not np.array_equal(cache["frames"][row], whole[indices])


@pytest.mark.parametrize("each", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_damaged_and_foreign_files_are_named_and_the_good_ones_untouched(
    tmp_path: Path, good: dict[str, Path], each: int
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    foreign = foreign_files(videos, good["mp4"])
    names, sums = [], {}
    for container, file in good.items():
        data = file.read_bytes()
        whole_name = f"whole.{container}"
        shutil.copy(file, videos / whole_name)
        for number in range(each):
            kind = DAMAGES[number % len(DAMAGES)]
            name = f"{kind}-{number:03d}.{container}"
            (videos / name).write_bytes(damaged(data, kind, random.Random(name)))
            names.append(name)
            sums[name] = hashlib.sha256(data).hexdigest()
        names.append(whole_name)
        sums[whole_name] = hashlib.sha256(data).hexdigest()
    sums |= dict.fromkeys(foreign, "0" * 64)
    alone = build_cache(annotations(videos, [f"whole.{one}" for one in good]), tmp_path / "alone", SETTINGS)
    before = descendants()  # the server that forks decoding processes stays
    cache = build_cache(annotations(videos, foreign + names), tmp_path / "cache", SETTINGS)
    again = build_cache(annotations(videos, foreign + names), tmp_path / "again", SETTINGS)
    assert contents(cache.path) == contents(again.path)
    failures = pd.read_csv(cache.path / "failures.csv", dtype=str, keep_default_na=False).set_index("video")
    assert set(foreign) <= set(failures.index)
    assert (failures["reason"] != "").all()
    assert not failures["reason"].str.contains("took longer").any()
    for container in good:
        name = f"whole.{container}"
        for array in alone.arrays:
            assert np.array_equal(cache[array][cache.row(name)], alone[array][alone.row(name)])
    whole = {
        container: read_candidates(file, 100, SETTINGS.frame_size).frames for container, file in good.items()
    }
    entered = [name for name in cache.index["video"] if not name.startswith("whole")]
    wrong = [
        name
        for name in entered
        if holds_a_wrong_frame(cache, cache.row(name), whole[name.rpartition(".")[2]])
    ]
    # What no decoder sees is rare (docs/trust/damage.md has the shares); what the checksums do not see is nothing.
    assert len(wrong) <= 0.03 * len(names), wrong
    checked = build_cache(annotations(videos, foreign + names, sums), tmp_path / "checked", SETTINGS)
    assert set(checked.index["video"]) == {f"whole.{container}" for container in good} | {
        name for name in names if (videos / name).read_bytes() == good[name.rpartition(".")[2]].read_bytes()
    }
    for _ in range(100):
        if descendants() <= before:
            break
        time.sleep(0.1)
    assert descendants() <= before


def test_damage_is_refused_or_kept_and_marked(tmp_path: Path, good: dict[str, Path]) -> None:
    data = bytearray(good["mp4"].read_bytes())
    generator = random.Random(0)
    for _ in range(6):
        data[generator.randrange(data.find(b"mdat") + 2000, len(data) - 2000)] ^= 1 << generator.randrange(8)
    (tmp_path / "damaged.mp4").write_bytes(data)
    shutil.copy(good["mp4"], tmp_path / "whole.mp4")
    with pytest.raises(DamagedError, match=r"damaged.mp4: damaged: h264: "):
        read_candidates(tmp_path / "damaged.mp4", 8, 120)
    table = annotations(tmp_path, ["damaged.mp4", "whole.mp4"])
    kept = build_cache(
        table, tmp_path / "kept", BuildSettings(num_candidates=8, frame_size=120, keep_damaged=True)
    )
    assert kept.index["damaged"].str.startswith("damaged: h264").tolist() == [True, False]
    assert kept.index["damaged"].iloc[1] == ""
    refused = build_cache(table, tmp_path / "refused", SETTINGS)
    assert refused.index["video"].tolist() == ["whole.mp4"]
    assert "damaged" not in refused.index


def test_a_checksum_finds_another_file(tmp_path: Path, good: dict[str, Path]) -> None:
    wanted = hashlib.sha256(good["mkv"].read_bytes()).hexdigest()
    assert read_candidates(good["mkv"], 4, 64, sha256=wanted.upper()).num_frames == 100
    with pytest.raises(VideoError, match=rf"its SHA-256 is [0-9a-f]{{12}}…, expected {wanted[:12]}…"):
        read_candidates(good["mp4"], 4, 64, sha256=wanted)


def die_once(path: Path, *arguments: object, **options: object) -> object:
    """In place of ``read_candidates``: a process that is ended from outside, for one video at its first try,
    for another at each."""
    tried = path.with_suffix(".tried")
    if path.stem == "always" or (path.stem == "once" and not tried.exists()):
        tried.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return read_candidates(path, *arguments, **options)  # type: ignore[arg-type]


def test_a_process_that_is_ended_from_outside_does_not_make_its_video_a_failure(
    tmp_path: Path, good: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["always.mp4", "once.mp4", *(f"other-{number}.mp4" for number in range(6))]
    for name in names:
        shutil.copy(good["mp4"], tmp_path / name)
    monkeypatch.setattr(decoding, "read_candidates", die_once)
    cache = build_cache(annotations(tmp_path, names), tmp_path / "cache", SETTINGS)
    assert cache.index["video"].tolist() == names[1:]
    failures = pd.read_csv(tmp_path / "cache" / "failures.csv")
    assert failures["video"].tolist() == ["always.mp4"]
    assert "ended its process" in failures["reason"][0]
