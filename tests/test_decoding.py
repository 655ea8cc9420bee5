"""An index is a frame: what is read is what decoding from the start gives, whatever the file and the
decoder."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video_files import FILES, SIZE, decoded_from_start, ffmpeg, number_in, varying, write
from video_env.data.decode import VideoError, read_candidates, read_frames
from video_env.data.other_decoders import _PROVED, frames_by
from video_env.data.sampling import candidate_indices
from video_env.data.video_file import VideoFile

DECODERS = ["auto", *(name for name in ("decord", "torchcodec") if importlib.util.find_spec(name))]


@pytest.fixture(scope="module", params=FILES)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / request.param
    FILES[request.param](path)
    return path


def test_there_are_enough_kinds_of_files() -> None:
    assert len(FILES) >= 40


def test_an_index_is_a_frame(file: Path) -> None:
    """Neither in order nor at random nor all at once does one frame differ in one pixel from the
    reference."""
    expected, _ = decoded_from_start(file)
    count = len(expected)
    generator = np.random.default_rng(0)
    for indices in (
        np.arange(count),
        generator.integers(count, size=12),
        np.array([count - 1]),
        np.array([0, 0]),
    ):
        assert np.array_equal(read_frames(file, indices, SIZE), expected[indices])
    with pytest.raises(VideoError, match=f"holds frames 0 to {count - 1}"):
        read_frames(file, np.array([count]), SIZE)


@pytest.mark.parametrize("decoder", DECODERS)
def test_candidates_are_the_frames_that_their_indices_name(file: Path, decoder: str) -> None:
    expected, shown = decoded_from_start(file)
    video = read_candidates(file, 10, SIZE, decoder=decoder)  # type: ignore[arg-type]
    assert video.num_frames == len(expected)
    assert video.frame_indices.tolist() == candidate_indices(len(expected), 10).tolist()
    numbers = [number_in(frame) for frame in expected]
    assert [number_in(frame) for frame in video.frames] == [numbers[index] for index in video.frame_indices]
    difference = np.abs(video.frames.astype(int) - expected[video.frame_indices])
    assert difference.max() == 0 if decoder == "auto" else difference.mean() < 3
    times = video.timestamps_seconds
    assert np.isfinite(times).all()
    assert (np.diff(times) > 0).all()
    assert times[0] >= 0
    assert 0 < video.frames_per_second < 100
    if shown is not None and (np.diff(shown) > 0).all():  # else the container knows no times, or falls back
        assert np.diff(times) == pytest.approx(np.diff(shown[video.frame_indices]), abs=2e-3)


def test_the_reference_shows_the_frames_that_were_written(file: Path) -> None:
    """From a trim's beginning on; a trim ends among packets, so that the last frames may lack one between
    them."""
    frames = decoded_from_start(file)[0]
    if file.name.startswith("turned"):
        frames = np.stack(
            [np.rot90(frame, -int(file.name.split(".")[0].split("-")[1]) // 90) for frame in frames]
        )
    numbers = [number_in(frame) for frame in frames]
    if file.name == "joined.ts":
        assert numbers == 2 * list(range(90))
    elif file.name.startswith("trimmed"):
        assert (np.diff(numbers[:-3]) == 1).all()
        assert (np.diff(numbers) > 0).all()
    else:
        assert numbers == list(range(90 - len(numbers), 90))


def test_frames_are_turned_as_the_file_says(tmp_path: Path) -> None:
    """ffmpeg turns them too, unless it is told not to."""
    for degrees in (90, 270):
        path = tmp_path / f"turned-{degrees}.mp4"
        FILES[path.name](path)
        ffmpeg("-i", path, "-c:v", "ffv1", "-pix_fmt", "rgb24", tmp_path / "upright.mkv")
        upright, _ = decoded_from_start(tmp_path / "upright.mkv")
        read = read_frames(path, np.array([0, 50]), SIZE)
        assert np.abs(read.astype(int) - upright[[0, 50]]).max() <= 2


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.5, 6.0), (7.25, 7.75)])
def test_times_decide_parts(tmp_path: Path, container: str, start: float, end: float) -> None:
    path = tmp_path / f"recording.{container}"
    times = np.array(varying()) / 1000
    write(path, "libx264", times=varying())
    video = read_candidates(path, 5, SIZE, start_seconds=start, end_seconds=end)
    inside = np.flatnonzero((times >= start) & (times < end))
    assert video.frame_indices.tolist() == candidate_indices(len(inside), 5, first=inside[0]).tolist()
    assert video.timestamps_seconds == pytest.approx(times[video.frame_indices], abs=2e-3)
    with pytest.raises(
        VideoError, match=r"no frame between 50.0 and 60.0 seconds; the file holds 90 frames, shown"
    ):
        read_candidates(path, 5, SIZE, start_seconds=50.0, end_seconds=60.0)


def test_seconds_are_those_of_a_player_where_the_picture_begins_late(tmp_path: Path) -> None:
    path = tmp_path / "late-picture.mp4"
    FILES[path.name](path)
    assert read_candidates(path, 90, SIZE).timestamps_seconds[0] == pytest.approx(1.5, abs=0.05)
    early = read_candidates(path, 4, SIZE, end_seconds=2.0)
    assert early.frame_indices.max() < 16


def test_random_candidates_are_drawn_alike_where_the_packets_promise_other_frames(tmp_path: Path) -> None:
    """Such a file is decoded twice, and the second choice must not go on with the first one's generator."""
    path = tmp_path / "from-between-keyframes.ts"
    FILES[path.name](path)
    count = len(decoded_from_start(path)[0])
    drawn = read_candidates(path, 6, SIZE, generator=np.random.default_rng(7)).frame_indices
    assert drawn.tolist() == candidate_indices(count, 6, generator=np.random.default_rng(7)).tolist()


@pytest.mark.parametrize("decoder", DECODERS[1:])
def test_other_decoders_decode_what_they_are_proved_right_for(tmp_path: Path, decoder: str) -> None:
    name = "h264-b.mp4"
    FILES[name](tmp_path / name)
    video = VideoFile(tmp_path / name)
    assert video.kind in _PROVED[decoder]
    assert frames_by(decoder, video, lambda times: np.array([3, 50])) is not None
    FILES["trimmed.mp4"](tmp_path / "trimmed.mp4")
    assert frames_by(decoder, VideoFile(tmp_path / "trimmed.mp4"), lambda times: np.array([3])) is None


def test_what_is_no_video_says_so(tmp_path: Path) -> None:
    playlist = tmp_path / "list.m3u8"
    write(tmp_path / "real.ts", "libx264")
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nreal.ts\n#EXT-X-ENDLIST\n")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    for name, message in {
        "list.m3u8": "list of other files|cannot be read",
        "pipe.mp4": "no regular file",
        "folder.mp4": "no numbered images in this folder",
        "loop.mp4": "no such file",
    }.items():
        with pytest.raises(VideoError, match=message) as error:
            read_frames(tmp_path / name, np.array([0]), 32)
        assert name in str(error.value)


def test_names_and_tags_of_any_kind(tmp_path: Path) -> None:
    """Tags in another encoding than UTF-8 are of no concern."""
    write(tmp_path / "tagged.avi", "mpeg4")
    data = (tmp_path / "tagged.avi").read_bytes()
    at = data.index(b"Lavf")
    (tmp_path / "tagged.avi").write_bytes(data[:at] + b"caf\xe9" + data[at + 4 :])
    assert number_in(read_frames(tmp_path / "tagged.avi", np.array([41]), SIZE)[0]) == 41


def test_logging_of_pyav_stays_as_it_was(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", "libx264")
    av.logging.set_level(av.logging.WARNING)
    try:
        read_frames(tmp_path / "a.mp4", np.array([0]), SIZE)
        assert av.logging.get_level() == av.logging.WARNING
        assert av.logging.get_skip_repeated()
    finally:
        av.logging.set_level(None)


@pytest.mark.slow
def test_large_frames_are_scaled_one_by_one(tmp_path: Path) -> None:
    """Of 24 frames of 8K, at most four are in memory beside the result, the decoder's own included."""
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=7680x4320:r=10", "-frames:v", "24", "-c:v", "libx264", "-preset", "ultrafast",
        "-pix_fmt", "yuv420p", tmp_path / "8k.mp4",
    )  # fmt: skip
    script = (
        "import resource, sys, numpy as np\n"
        "from video_env.data.decode import read_frames\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "result = read_frames(sys.argv[1], np.arange(24), 224)\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print((after - before) * 1024 - result.nbytes)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "8k.mp4")], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 4 * 7680 * 4320 * 3
