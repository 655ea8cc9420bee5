"""The lists that people have, each in its real form, and folders of frames."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compare.command_line.main import main
from video_env.cache.build import build_cache
from video_env.cache.decoding import BuildSettings
from video_env.cache.store import Cache
from video_env.data.annotations import Annotations
from video_env.data.decode import VideoError, read_candidates
from video_env.data.reading import read_annotations
from video_env.errors import InputError


def files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"video")
    return folder


def frames(folder: Path, count: int = 6, name: str = "img_{:05d}.jpg", first: int = 1) -> Path:
    """Images whose grey level tells their number."""
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        Image.new("RGB", (40, 32), (20 * number,) * 3).save(folder / name.format(number))
    return folder


def rows(found: Annotations) -> list[tuple[str, str, str, str]]:
    return [
        (row.video, row.path, found.classes[row.label], row.split) for row in found.table.itertuples(index=False)
    ]  # fmt: skip


def test_activitynet(tmp_path: Path) -> None:
    database = {
        "one": {"subset": "training", "annotations": [{"label": "Archery", "segment": [1.0, 9.5]},
                                                      {"label": "Archery", "segment": [20.0, 31.0]}]},
        "two": {"subset": "validation", "annotations": [{"label": "Surfing", "segment": [0.0, 5.0]},
                                                        {"label": "Archery", "segment": [6.0, 9.0]}]},
        "gone": {"subset": "training", "annotations": [{"label": "Zumba", "segment": [0.0, 5.0]}]},
        "hidden": {"subset": "testing"},
    }  # fmt: skip
    file = tmp_path / "activity_net.v1-3.min.json"
    file.write_text(json.dumps({"version": "VERSION 1.3", "taxonomy": [], "database": database}))
    found = read_annotations(file, files(tmp_path / "videos", "v_one.mp4", "sub/v_two.mkv"))
    # A class whose videos are missing keeps its number: numbers do not depend on the disk.
    assert found.classes == ("Archery", "Surfing", "Zumba")
    assert rows(found) == [
        ("one", "v_one.mp4", "Archery", "train"),
        ("two", "sub/v_two.mkv", "Surfing", "validation"),
    ]
    assert found.table["labels"].tolist() == [[0], [1, 0]]
    said = "\n".join(found.summary())
    assert "format: activitynet" in said
    assert "without a label, left out: 1" in said
    assert "without a file, left out: 1 (gone)" in said


def test_kinetics(tmp_path: Path) -> None:
    file = tmp_path / "val.csv"
    file.write_text(
        "label,youtube_id,time_start,time_end,split\nabseiling,-3B32lodo2M,59,69,train\n"
        '"zumba, slow",0Wkb,4,14,val\n'
    )
    videos = files(tmp_path / "videos", "abseiling/-3B32lodo2M_000059_000069.mp4", "0Wkb.webm")
    assert rows(read_annotations(file, videos)) == [
        ("-3B32lodo2M_000059_000069", "abseiling/-3B32lodo2M_000059_000069.mp4", "abseiling", "train"),
        ("0Wkb_000004_000014", "0Wkb.webm", "zumba, slow", "validation"),
    ]


@pytest.mark.parametrize("separator", [" ", ",", ";"])
def test_released_lists_and_their_class_file(tmp_path: Path, separator: str) -> None:
    for name in ("v_a", "my clip"):
        frames(tmp_path / "frames" / name)
    (tmp_path / "train.txt").write_text(separator.join(["v_a", "6", "2", "0"]) + "\n")
    (tmp_path / "val.txt").write_text(separator.join(["my clip", "6", "1"]) + "\n")
    (tmp_path / "classInd.txt").write_text("1 Archery\n2 Ballet dancing\n3 Surfing\n")
    lists = {"train": tmp_path / "train.txt", "validation": tmp_path / "val.txt"}
    found = read_annotations(lists, tmp_path / "frames")
    assert rows(found) == [
        ("v_a", "v_a", "Surfing", "train"), ("my clip", "my clip", "Ballet dancing", "validation"),
    ]  # fmt: skip
    assert found.table["labels"].tolist() == [[2, 0], [1]]
    assert f"classes of {tmp_path / 'classInd.txt'}" in found.notes


def test_something_and_jester(tmp_path: Path) -> None:
    first = tmp_path / "train.csv"
    first.write_text("100;Holding something\n7;Doing other things\n")
    for name in ("100", "7"):
        frames(tmp_path / "frames" / name, name="{:05d}.jpg")
    found = read_annotations({"train": first}, tmp_path / "frames")
    assert rows(found) == [
        ("100", "100", "Holding something", "train"), ("7", "7", "Doing other things", "train")
    ]  # fmt: skip
    second, labels = tmp_path / "train.json", tmp_path / "labels.json"
    entries = [
        {"id": "7", "label": "holding a pen", "template": "Holding [something]", "placeholders": ["a pen"]}
    ]
    second.write_text(json.dumps(entries))
    labels.write_text(json.dumps({"Holding something": "1", "Closing something": "0"}))
    found = read_annotations({"test": second}, files(tmp_path / "webm", "7.webm"), labels)
    assert rows(found) == [("7", "7.webm", "Holding something", "test")]
    assert found.classes == ("Closing something", "Holding something")


def test_mmaction_ucf101_and_hmdb51(tmp_path: Path) -> None:
    videos = files(tmp_path / "videos", "some path/a.mp4", "b.mp4")
    (tmp_path / "list.txt").write_text("some path/a.mp4 0\nb.mp4 1\n")
    assert rows(read_annotations({"train": tmp_path / "list.txt"}, videos)) == [
        ("some path/a.mp4", "some path/a.mp4", "0", "train"), ("b.mp4", "b.mp4", "1", "train"),
    ]  # fmt: skip
    ucf = files(tmp_path / "ucf", "Archery/v_Archery_g01_c01.avi", "Biking/v_Biking_g01_c01.avi")
    (tmp_path / "trainlist01.txt").write_text("Archery/v_Archery_g01_c01.avi 1\n")
    (tmp_path / "testlist01.txt").write_text("Biking/v_Biking_g01_c01.avi\n")
    lists = {"train": tmp_path / "trainlist01.txt", "test": tmp_path / "testlist01.txt"}
    assert [row[2:] for row in rows(read_annotations(lists, ucf))] == [
        ("Archery", "train"),
        ("Biking", "test"),
    ]
    hmdb = files(tmp_path / "hmdb", "wave/x.avi", "wave/y.avi", "clap/z.avi", "clap/unused.avi")
    for name, text in (("wave", "x.avi 1 \ny.avi 2 \n"), ("clap", "z.avi 1 \nunused.avi 0 \n")):
        (tmp_path / "splits").mkdir(exist_ok=True)
        (tmp_path / "splits" / f"{name}_test_split2.txt").write_text(text)
    found = read_annotations(tmp_path / "splits" / "wave_test_split2.txt", hmdb)
    assert [row[1:] for row in rows(found)] == [
        ("clap/z.avi", "clap", "train"), ("wave/x.avi", "wave", "train"), ("wave/y.avi", "wave", "test"),
    ]  # fmt: skip


def test_labels_behind_a_file_are_not_taken_for_a_count(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.mp4 0 2\nb.mp4 1 2\n")
    found = read_annotations({"train": tmp_path / "list.txt"}, files(tmp_path / "videos", "a.mp4", "b.mp4"))
    assert found.table["labels"].tolist() == [[0, 2], [1, 2]]


def test_two_numberings_of_the_classes(tmp_path: Path) -> None:
    frames(tmp_path / "frames" / "a")
    (tmp_path / "list.txt").write_text("a 6 1\n")
    (tmp_path / "classInd.txt").write_text("1 Archery\n2 Surfing\n")
    with pytest.raises(InputError, match="class 0 is 'Surfing', but 'Archery' in .*classInd.txt"):
        read_annotations({"test": tmp_path / "list.txt"}, tmp_path / "frames", ["Surfing", "Archery"])


def test_folders(tmp_path: Path) -> None:
    videos = files(tmp_path / "set", "train/a class/1.mp4", "val/a class/2.mp4", "val/b/3.mp4")
    frames(videos / "train" / "b" / "clip")
    assert [row[1:] for row in rows(read_annotations(videos, videos))] == [
        ("train/a class/1.mp4", "a class", "train"), ("train/b/clip", "b", "train"),
        ("val/a class/2.mp4", "a class", "validation"), ("val/b/3.mp4", "b", "validation"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "format", "message"),
    [
        ("a 6 1\n", "released", "says no split; expected a file for each split"),
        (
            "label,youtube_id,time_start,time_end,split\nx,a,0,10,train\n",
            "released",
            "looks like the format kinetics",
        ),
        ("a 6 1\n", "kinetics", "looks like the format released, not kinetics"),
        (
            "label,youtube_id,time_start,time_end,split\nx,a,0,10,holdout\n",
            "auto",
            "found the split 'holdout'",
        ),
        (
            "label,youtube_id,time_start,time_end,split\nx,zz,0,10,train\n",
            "auto",
            "found none of the 1 videos",
        ),
        ("label,youtube_id,time_start,time_end,split\nx,a,0,ten,train\n", "auto", "line 2: expected seconds"),
        ("video,path,label\n", "auto", "no column split"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, format: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_annotations(tmp_path / "list.csv", files(tmp_path / "videos", "a.mp4"), format=format)


def test_frames_are_those_of_their_numbers(tmp_path: Path) -> None:
    folder = frames(tmp_path / "clip", count=8, first=3)
    (folder / "flow_x_00001.jpg").write_bytes((folder / "img_00003.jpg").read_bytes())
    found = read_candidates(folder, 4, 32, frames_rate=10.0)
    assert found.num_frames == 8
    assert np.allclose(found.timestamps_seconds, found.frame_indices / 10)
    assert np.allclose(found.frames.mean(axis=(1, 2, 3)), 20 * (3 + found.frame_indices), atol=2)
    (folder / "img_00005.jpg").unlink()
    with pytest.raises(VideoError, match="1 frames are missing: 5"):
        read_candidates(folder, 4, 32)
    (folder / "img_00005.jpg").write_bytes(b"no image")
    with pytest.raises(VideoError, match=r"img_00005.jpg: no readable image"):
        read_candidates(folder, 8, 32)


def test_two_commands_from_a_released_list_to_a_recognizer(tmp_path: Path) -> None:
    for split in ("train", "val"):
        lines = []
        for number in range(12):
            frames(tmp_path / "frames" / f"{split}{number}", count=5, first=1 + 5 * (number % 2))
            lines.append(f"{split}{number} 5 {number % 2}\n")
        (tmp_path / f"{split}.txt").write_text("".join(lines))
    out = tmp_path / "cache"
    assert main(["cache", "build", "--videos", f"{tmp_path / 'frames'}", "--annotations",
                 f"train={tmp_path / 'train.txt'}", f"validation={tmp_path / 'val.txt'}", "--out", f"{out}",
                 "--skim", "none", "--embedding", "none", "--num-candidates", "4", "--frame-size", "24"]) == 0  # fmt: skip
    assert main(["train", "recognizer", f"{out}", "--network", "small", "--small.backbone.epochs", "1"]) == 0
    assert main(["cache", "verify", f"{out}"]) == 0
    assert len(Cache(out)) == 24


def test_a_folder_with_a_gap_is_a_failure_of_the_build(tmp_path: Path) -> None:
    for name in ("good", "bad", "cut"):
        frames(tmp_path / "frames" / name)
    (tmp_path / "frames" / "bad" / "img_00003.jpg").unlink()
    (tmp_path / "frames" / "cut" / "img_00006.jpg").unlink()
    (tmp_path / "list.txt").write_text("good 6 0\nbad 6 1\ncut 6 1\n")
    annotations = read_annotations({"train": tmp_path / "list.txt"}, tmp_path / "frames")
    cache = build_cache(annotations, tmp_path / "cache", BuildSettings(num_candidates=3, frame_size=16))
    assert cache.index["video"].tolist() == ["good"]
    failures = (tmp_path / "cache" / "failures.csv").read_text()
    assert "1 frames are missing: 3" in failures
    assert "holds 5 frames, expected 6 as listed" in failures
