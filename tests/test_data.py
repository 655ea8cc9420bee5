"""Candidate sampling, decoding, and the built-in data set."""

import itertools
import time
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from video_env.data import demo
from video_env.data.annotations import read_csv
from video_env.data.decode import VideoError, read_candidates, read_frames
from video_env.data.sampling import candidate_indices


def test_candidates_are_centres_of_uniform_segments() -> None:
    assert candidate_indices(30, 3).tolist() == [4, 14, 24]
    assert candidate_indices(36, 12).tolist() == list(range(1, 36, 3))
    assert candidate_indices(10, 10, first=5).tolist() == list(range(5, 15))


def test_short_video_repeats_its_last_frame() -> None:
    assert candidate_indices(3, 6).tolist() == [0, 1, 2, 2, 2, 2]


def test_random_candidates_stay_in_their_segment_and_reach_all_of_it() -> None:
    generator = np.random.default_rng(0)
    drawn = np.stack([candidate_indices(31, 4, generator=generator) for _ in range(500)])
    edges = [0, 7, 15, 23, 31]
    for segment, (low, high) in enumerate(itertools.pairwise(edges)):
        assert set(drawn[:, segment]) == set(range(low, high))


def test_decoded_frames_are_the_right_ones(tmp_path: Path) -> None:
    """Each frame has a grey level of its own, so a wrong frame cannot pass."""
    levels = np.arange(36) * 6 + 20
    frames = np.broadcast_to(levels[:, None, None, None], (36, 64, 96, 3)).astype(np.uint8)
    demo.write_video(tmp_path / "video.mp4", frames)
    indices = np.array([35, 0, 17, 18, 5])
    read = read_frames(tmp_path / "video.mp4", indices, 32)
    assert read.shape == (5, 32, 32, 3)
    assert np.abs(read.mean(axis=(1, 2, 3)) - levels[indices]).max() < 3
    video = read_candidates(tmp_path / "video.mp4", 6, 64, start_seconds=1.0, end_seconds=2.0)
    assert video.frame_indices.tolist() == [12, 14, 16, 18, 20, 22]
    assert np.allclose(video.timestamps_seconds, video.frame_indices / 12, atol=1e-3)


def test_a_video_shorter_than_the_candidates_repeats_its_last_frame(tmp_path: Path) -> None:
    frames = np.repeat(np.array([40, 120, 200], np.uint8), 64 * 64 * 3).reshape(3, 64, 64, 3)
    demo.write_video(tmp_path / "short.mp4", frames)
    video = read_candidates(tmp_path / "short.mp4", 5, 64)
    assert video.frame_indices.tolist() == [0, 1, 2, 2, 2]
    assert video.frames.mean(axis=(1, 2, 3)) == pytest.approx([40, 120, 200, 200, 200], abs=3)
    with pytest.raises(VideoError, match=r"no frame between 5.0 and None seconds; the file holds 3 frames"):
        read_candidates(tmp_path / "short.mp4", 5, 64, start_seconds=5.0)


def test_decoders_agree(demo_videos: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchcodec", reason="the other decoder is not installed", exc_type=Exception)
    path = demo_videos / "videos" / "train-00000.mp4"
    first, second = (read_candidates(path, 7, 48, decoder=decoder) for decoder in ("decord", "torchcodec"))
    assert np.array_equal(first.frames, second.frames)
    assert first.timestamps_seconds == pytest.approx(second.timestamps_seconds, abs=1e-6)
    for broken in broken_files(tmp_path, path).values():
        with pytest.raises(VideoError, match=broken.name):
            read_candidates(broken, 7, 48, decoder="torchcodec")


def test_frames_are_scaled_by_the_shorter_side_and_cut_in_the_middle(tmp_path: Path) -> None:
    frames = np.zeros((4, 64, 128, 3), np.uint8)
    frames[:, :, 32:96] = 200  # what the centre cut must show, and nothing else
    demo.write_video(tmp_path / "video.mp4", frames)
    assert read_frames(tmp_path / "video.mp4", np.array([0]), 64).min() > 150
    corners = read_frames(tmp_path / "video.mp4", np.array([0]), 64, shorter_side=65)
    assert corners.shape == (1, 64, 64, 3)


def broken_files(folder: Path, good: Path) -> dict[str, Path]:
    whole = good.read_bytes()
    contents = {"empty": b"", "text": b"no video at all", "truncated": whole[: len(whole) // 2]}
    paths = {"no_frames": folder / "no_frames.mp4"}
    with av.open(str(paths["no_frames"]), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    for name, content in contents.items():
        paths[name] = folder / f"{name}.mp4"
        paths[name].write_bytes(content)
    return paths | {"missing": folder / "missing.mp4"}


def test_broken_files_are_errors_that_name_them(tmp_path: Path, demo_videos: Path) -> None:
    for path in broken_files(tmp_path, demo_videos / "videos" / "train-00000.mp4").values():
        with pytest.raises(VideoError, match=path.name):
            read_frames(path, np.array([0]), 32)
        reasons = set()
        for _ in range(2):
            with pytest.raises(VideoError) as error:
                read_frames(path, np.array([0]), 32)
            reasons.add(str(error.value))
            time.sleep(0.6)
        assert len(reasons) == 1  # no clock in it: failures.csv follows from the files alone
    with pytest.raises(VideoError, match="frames 0 to 35"):
        read_frames(demo_videos / "videos" / "train-00000.mp4", np.array([36]), 32)


def test_demo_data_is_decided_by_its_seed() -> None:
    first, again, other = (demo.plan(demo.DemoData(20, 10, 10, seed=seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert np.array_equal(demo.render(first[3]), demo.render(again[3]))
    assert not np.array_equal(demo.render(first[3]), demo.render(other[3]))


def test_demo_videos_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    for video in demo.plan(demo.DemoData(20, 10, 10))[:4]:
        frames = demo.render(video)
        written = set()
        for number in range(6):
            demo.write_video(tmp_path / f"{number}.mp4", frames)
            written.add((tmp_path / f"{number}.mp4").read_bytes())
        assert len(written) == 1


def test_demo_splits_share_no_digit() -> None:
    seen = {split: {digit.tobytes() for of in demo._digits(split).values() for digit in of}
            for split in demo.DIGIT_SHARES}  # fmt: skip
    for one, other in itertools.combinations(seen.values(), 2):
        assert len(one) > 100
        assert not one & other


def test_demo_objects_are_seen_exactly_in_their_candidates() -> None:
    """Rendering a video without its objects changes the candidates that show them and no others."""
    plan = demo.plan(demo.DemoData(30, 10, 10))
    assert any(video.windows[0] == video.windows[1] for video in plan)
    assert any(video.windows[0] != video.windows[1] for video in plan)
    for video in plan[:5]:
        shown = {frame for window in video.object_candidates for frame in window}
        hidden = demo.DemoVideo(video.name, video.split, video.label, ((0, 0), (0, 0)), video.seed)
        difference = np.abs(demo.render(video).astype(int) - demo.render(hidden)).max(axis=(1, 2, 3))
        changed = {index // demo.FRAMES_PER_CANDIDATE for index in np.flatnonzero(difference)}
        assert changed == shown


def test_demo_annotations_are_readable_and_balanced(demo_videos: Path) -> None:
    read = read_csv(demo_videos / "annotations.csv", demo_videos / "videos")
    assert len(read.classes) == 10
    counts = pd.crosstab(read.table["split"], read.table["label"])
    assert (counts.max(axis=1) - counts.min(axis=1)).max() == 0
