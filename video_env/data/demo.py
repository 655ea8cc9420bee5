"""The built-in data set: short procedural videos in which a few frames, and a small part of each,
decide the label.

What it is. Every video is 36 frames of 96x96 pixels. Two different *objects* appear in it, each for
2 to 4 of the 12 candidate segments; an object is a warm-hued disc badge, 28 pixels across (7% of the
frame), holding a real handwritten digit (scikit-learn's ``load_digits``) from 0 to 4. The class is
the unordered pair of digits, so there are 10 classes, frames complement each other, and in most
videos no single frame decides. Videos differ in how many frames they need: in a third of them both
objects share one window, so that one good frame suffices, and the contrast of a digit varies by
±40%, so that some are read at a glance and others only from several views. Distractors fill every
frame: two badges of the same size in other hues that hold shuffled quarters of digits, three bars of
clutter, and a panning background of colour noise.

What it is not. It says nothing about recognising actions. The warm hue makes *finding* an object easy
and *reading* it hard, on purpose, as low resolution does in real video: a skim network at 16x16
pixels can see that a badge is there, never which digit it holds. Motion carries no information about
the class.

Digits of the validation and test videos are drawn from digits that no training video shows.
"""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from video_env.files import write_bytes, writing
from video_env.orphans import end_with_parent

FRAME_SIZE = 96
NUM_CANDIDATES = 12
FRAMES_PER_CANDIDATE = 3
NUM_FRAMES = NUM_CANDIDATES * FRAMES_PER_CANDIDATE
FRAMES_PER_SECOND = 12
DIGITS = range(5)
CLASSES = tuple(itertools.combinations(DIGITS, 2))
BADGE_SIZE = 28
SHARED_WINDOW_SHARE = 1 / 3
DIGIT_SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}


@dataclass(frozen=True)
class DemoData:
    """Size and seed of the data set.

    Attributes:
        train: number of training videos.
        validation: number of validation videos.
        test: number of test videos.
        seed: everything in the videos follows from it.
    """

    train: int = 1600
    validation: int = 300
    test: int = 400
    seed: int = 0

    def splits(self) -> dict[str, int]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


@dataclass(frozen=True)
class DemoVideo:
    """One video before it is rendered: ``label`` is an index into ``CLASSES``."""

    name: str
    split: str
    label: int
    windows: tuple[tuple[int, int], tuple[int, int]]
    seed: tuple[int, ...]

    @property
    def object_candidates(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The candidate frames that show the first and the second object."""
        first, second = (tuple(range(*window)) for window in self.windows)
        return first, second


def plan(data: DemoData) -> list[DemoVideo]:
    """Every video of the data set, in order; classes are balanced within a split."""
    videos = []
    for split_index, (split, count) in enumerate(data.splits().items()):
        generator = np.random.default_rng([data.seed, split_index])
        labels = generator.permutation(np.arange(count) % len(CLASSES))
        for index in range(count):
            videos.append(
                DemoVideo(
                    name=f"{split}-{index:05d}",
                    split=split,
                    label=int(labels[index]),
                    windows=_draw_windows(generator),
                    seed=(data.seed, split_index, index),
                )
            )
    return videos


def write_demo_data(data: DemoData, folder: Path, *, processes: int | None = None) -> Iterator[int]:
    """Write the videos as H.264 mp4 files under ``folder/videos`` and ``folder/annotations.csv``.

    A generator: each item is the number of videos newly done, for a progress bar. Files that are
    there already are kept, so an interrupted call goes on where it was. The annotation file has the
    columns ``video, path, label, split`` and one more: ``object_candidates``, the candidate frames that
    show the first object and, after a semicolon, those that show the second.
    """
    videos = plan(data)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    pending = [video for video in videos if not (folder / "videos" / f"{video.name}.mp4").exists()]
    yield len(videos) - len(pending)
    with ProcessPoolExecutor(processes, get_context("forkserver"), end_with_parent) as pool:
        chunks = [pending[start : start + 16] for start in range(0, len(pending), 16)]
        yield from pool.map(_write_videos, chunks, itertools.repeat(folder / "videos"))
    write_bytes(folder / "annotations.csv", annotation_table(videos).to_csv(index=False).encode())


def annotation_table(videos: list[DemoVideo]) -> pd.DataFrame:
    """The annotation table of the planned videos, one row per video."""
    return pd.DataFrame(
        {
            "video": [video.name for video in videos],
            "path": [f"{video.name}.mp4" for video in videos],
            "label": ["+".join(map(str, CLASSES[video.label])) for video in videos],
            "split": [video.split for video in videos],
            "object_candidates": [
                ";".join(" ".join(map(str, shown)) for shown in video.object_candidates) for video in videos
            ],
        }
    )


def render(video: DemoVideo) -> np.ndarray:
    """The frames of one video, uint8 [36, 96, 96, 3]."""
    generator = np.random.default_rng(video.seed)
    frames = _background(generator)
    for _ in range(2):
        badge = _badge(_shuffled_digit(generator, video.split), generator.uniform(0.30, 0.80), generator)
        _paste(frames, badge, _drift(generator, NUM_FRAMES), range(NUM_FRAMES))
    for (start, end), digit, track in zip(
        video.windows, CLASSES[video.label], _separate_tracks(generator), strict=True
    ):
        badge = _badge(_digit(generator, video.split, digit), generator.uniform(-0.04, 0.13), generator)
        _paste(frames, badge, track, range(start * FRAMES_PER_CANDIDATE, end * FRAMES_PER_CANDIDATE))
    noise = generator.choice(_noise_bank(), NUM_FRAMES, replace=False)
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def render_stills(count: int, seed: int, size: int = 36) -> tuple[np.ndarray, np.ndarray]:
    """Still images of badges: uint8 [count, size, size, 3] and what each holds, int64 [count].

    They stand in for the published systems' ImageNet pretraining: a network learns from them to read
    the ten digits (class 10: shuffled quarters) on discs of any hue. All digits are training digits.
    """
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 11, count)
    noise, margin = _noise_bank(), FRAME_SIZE - size + 1
    images = np.empty((count, size, size, 3), np.uint8)
    for index, label in enumerate(labels.tolist()):
        if index % NUM_FRAMES == 0:
            backgrounds = _background(generator)
        (top, left), (noise_top, noise_left) = generator.integers(0, margin, (2, 2))
        image = backgrounds[index % NUM_FRAMES, top : top + size, left : left + size].copy()
        strokes = _shuffled_digit(generator, "train") if label == 10 else _digit(generator, "train", label)
        badge = _badge(strokes, generator.uniform(), generator)
        _paste(image[None], badge, generator.integers(0, size - BADGE_SIZE + 1, (1, 2)), range(1))
        image += noise[generator.integers(len(noise))][
            noise_top : noise_top + size, noise_left : noise_left + size
        ]
        images[index] = np.clip(image, 0, 255)
    return images, labels


def write_video(path: Path, frames: np.ndarray) -> None:
    """Write uint8 [T, H, W, 3] as H.264; the file appears under its name only when it is whole."""
    import av

    # Macroblock trees make libx264's output differ from call to call on frames as small as these.
    options = {"crf": "23", "preset": "veryfast", "x264-params": "threads=1:mbtree=0"}
    with writing(path) as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _write_videos(videos: list[DemoVideo], folder: Path) -> int:
    for video in videos:
        write_video(folder / f"{video.name}.mp4", render(video))
    return len(videos)


def _draw_windows(generator: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int]]:
    """The candidate segments [start, end) in which each object is seen: one shared or two disjoint."""
    first, second = generator.integers(2, 5, 2).tolist()
    if generator.random() < SHARED_WINDOW_SHARE:
        start = int(generator.integers(0, NUM_CANDIDATES - first + 1))
        return (start, start + first), (start, start + first)
    gaps = np.sort(generator.integers(0, NUM_CANDIDATES - first - second + 1, 2)).tolist()
    windows = (gaps[0], gaps[0] + first), (gaps[1] + first, gaps[1] + first + second)
    return windows if generator.random() < 0.5 else (windows[1], windows[0])


@lru_cache
def _digits(split: str) -> dict[int, np.ndarray]:
    """Handwritten digits of one split by value, uint8 [count, 8, 8]; splits share no digit."""
    from sklearn.datasets import load_digits

    images, values = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8) / 16 * 255).astype(np.uint8)
    # The file is ordered by writer; splits differ in digits, not in handwriting.
    order = np.random.default_rng(0).permutation(len(images))
    images, values = images[order], values[order]
    ends = dict(zip(DIGIT_SHARES, itertools.accumulate(DIGIT_SHARES.values()), strict=True))
    digits = {}
    for value in range(10):
        of_value = images[values == value]
        start = round((ends[split] - DIGIT_SHARES[split]) * len(of_value))
        digits[value] = of_value[start : round(ends[split] * len(of_value))]
    return digits


def _digit(generator: np.random.Generator, split: str, value: int) -> np.ndarray:
    """A digit drawn for a badge: float32 [28, 28] in [0, 1], turned and scaled a little."""
    return _scaled(generator.choice(_digits(split)[value]), generator)


def _shuffled_digit(generator: np.random.Generator, split: str) -> np.ndarray:
    """Strokes that are no digit: the quarters of a digit, each turned, in another order."""
    digit = generator.choice(_digits(split)[int(generator.integers(10))])
    quarters = [digit[row : row + 4, column : column + 4] for row in (0, 4) for column in (0, 4)]
    turned = [np.rot90(quarters[i], int(generator.integers(4))) for i in generator.permutation(4)]
    return _scaled(np.block([turned[:2], turned[2:]]), generator)


def _scaled(digit: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    size = round(23 * generator.uniform(0.9, 1.1))
    image = Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)
    image = image.rotate(generator.uniform(-12, 12), Image.Resampling.BILINEAR)
    canvas = Image.new("L", (BADGE_SIZE, BADGE_SIZE))
    canvas.paste(image, ((BADGE_SIZE - size) // 2,) * 2)
    return np.asarray(canvas, np.float32) / 255


def _badge(digit: np.ndarray, hue: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A disc with a digit: colours float32 [28, 28, 3] in 0..255 and coverage [28, 28, 1] in [0, 1]."""
    colour = np.array(colorsys.hsv_to_rgb(hue % 1, generator.uniform(0.6, 0.8), 0.75), np.float32)
    contrast = 0.6 * generator.uniform(0.6, 1.4)
    sign = 1 if generator.random() < 0.5 else -1
    colours = np.clip(colour + sign * contrast * digit[..., None], 0, 1) * 255
    grid = np.arange(BADGE_SIZE) - (BADGE_SIZE - 1) / 2
    radius = np.hypot(grid[:, None], grid)
    return colours, np.clip(BADGE_SIZE / 2 - radius, 0, 1)[..., None].astype(np.float32)


def _drift(generator: np.random.Generator, steps: int) -> np.ndarray:
    """Top-left corners of a badge that wanders, int [steps, 2], always inside the frame."""
    room = FRAME_SIZE - BADGE_SIZE
    start = generator.uniform(0, room, 2)
    moves = generator.uniform(-4, 4, (steps, 2)) / FRAMES_PER_CANDIDATE
    path = start + np.cumsum(moves + generator.uniform(-0.7, 0.7, 2), axis=0)
    return np.rint(room - np.abs(room - np.abs(path) % (2 * room))).astype(int)


def _separate_tracks(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two drifts that never come so close that one object covers the other."""
    while True:
        first, second = _drift(generator, NUM_FRAMES), _drift(generator, NUM_FRAMES)
        if np.abs(first - second).max(axis=1).min() >= BADGE_SIZE:
            return first, second


def _paste(frames: np.ndarray, badge: tuple[np.ndarray, np.ndarray], track: np.ndarray, shown: range) -> None:
    colours, coverage = badge
    for index in shown:
        row, column = track[index]
        patch = frames[index, row : row + BADGE_SIZE, column : column + BADGE_SIZE]
        patch += coverage * (colours - patch)


def _background(generator: np.random.Generator) -> np.ndarray:
    """Smooth colour noise with three bars of clutter, panning: float32 [36, 96, 96, 3] in 0..255."""
    margin = 24
    hsv = generator.uniform(0, 255, (7, 7, 3))
    hsv[..., 1] *= 0.45
    small = Image.frombytes("HSV", hsv.shape[:2], hsv.astype(np.uint8).tobytes()).convert("RGB")
    canvas = np.array(small.resize((FRAME_SIZE + margin,) * 2, Image.Resampling.BICUBIC), np.float32)
    for _ in range(3):
        height, width = generator.permutation(
            [int(generator.integers(3, 7)), int(generator.integers(20, 45))]
        )
        row, column = generator.integers(0, FRAME_SIZE + margin - np.array([height, width]))
        canvas[row : row + height, column : column + width] = generator.uniform(0, 255, 3)
    start, end = generator.integers(0, margin + 1, (2, 2))
    corners = np.rint(np.linspace(start, end, NUM_FRAMES)).astype(int)
    return np.stack([canvas[r : r + FRAME_SIZE, c : c + FRAME_SIZE] for r, c in corners])


@lru_cache
def _noise_bank() -> np.ndarray:
    """Pixel noise (σ = 8) to draw frames from; one bank for all videos, since drawing it is slow."""
    noise = np.random.default_rng(0).normal(0, 8, (4 * NUM_FRAMES, FRAME_SIZE, FRAME_SIZE, 3))
    return noise.astype(np.float32)
