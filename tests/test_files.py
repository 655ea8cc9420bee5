"""Writing and locking: whole or not at all, never through a link, one writer at a time."""

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from video_env.errors import InputError
from video_env.files import (
    alone,
    clear_leftovers,
    delete,
    inside,
    plain_name,
    write_array,
    write_bytes,
    writing,
)


def test_what_is_written_is_there_and_its_checksum_is_returned(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "a.bin"
    assert write_bytes(file, b"text") == hashlib.sha256(b"text").hexdigest()
    assert file.read_bytes() == b"text"
    values = np.arange(12).reshape(3, 4).T
    assert write_array(file, values) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert np.array_equal(np.load(file), values)
    assert [entry.name for entry in file.parent.iterdir()] == ["a.bin"]


def test_files_of_every_kind_are_filled(tmp_path: Path) -> None:
    with writing(tmp_path / "a.pt") as file:
        torch.save({"weights": torch.arange(5)}, file)
    assert file.sha256 == hashlib.sha256((tmp_path / "a.pt").read_bytes()).hexdigest()
    assert torch.load(tmp_path / "a.pt", weights_only=True)["weights"].tolist() == [0, 1, 2, 3, 4]
    with writing(tmp_path / "a.zip") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("one", b"1" * 1000)
    assert zipfile.ZipFile(tmp_path / "a.zip").read("one") == b"1" * 1000


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")

    def interrupted() -> None:
        with writing(tmp_path / "a") as file:
            file.write(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def full(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = rf"{tmp_path}/a: cannot be written: No space left on device"
    # /dev/full is a disk that is full: what is written fails only once buffers are emptied.
    import video_env.files as files

    real = files.os.open

    def opened(path: Any, flags: int, *more: Any) -> int:
        return real("/dev/full", os.O_RDWR) if str(path).endswith(".partial") else real(path, flags, *more)

    monkeypatch.setattr(files.os, "open", opened)
    with pytest.raises(InputError, match=expected):
        write_bytes(tmp_path / "a", b"x" * 100)
    with pytest.raises(InputError, match=expected):
        write_array(tmp_path / "a", np.zeros(1 << 20))
    with pytest.raises(InputError, match=expected), writing(tmp_path / "a") as file:
        torch.save(torch.zeros(1 << 20), file)
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=expected):
        write_bytes(tmp_path / "a", b"")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/a: cannot be written: "):
        write_bytes(tmp_path / "file" / "a", b"")
    with (
        pytest.raises(InputError, match=r"file/\.a\.lock: cannot be written: "),
        alone(tmp_path / "file" / "a"),
    ):
        pass


def test_an_error_of_reading_keeps_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"), writing(tmp_path / "a") as file:
        file.write((tmp_path / "nowhere").read_bytes())


def test_links_are_replaced_never_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys"
    keys.write_text("mine")
    (tmp_path / "a").symlink_to(keys)
    write_bytes(tmp_path / "a", b"new")
    assert (keys.read_text(), (tmp_path / "a").is_symlink()) == ("mine", False)
    # Even where the temporary name is guessed.
    monkeypatch.setattr("video_env.files.secrets.token_hex", lambda size: "0" * 16)
    (tmp_path / f".b.{'0' * 16}.partial").symlink_to(keys)
    with pytest.raises(InputError, match="b: cannot be written"):
        write_bytes(tmp_path / "b", b"new")
    (tmp_path / ".c.lock").symlink_to(keys)
    with pytest.raises(InputError, match=r"\.c\.lock: is a link"), alone(tmp_path / "c"):
        pass
    (tmp_path / "folder").symlink_to(tmp_path)
    delete(tmp_path / "folder")
    assert keys.read_text() == "mine"


def test_only_plain_names_are_taken() -> None:
    for good in ("skim", "frames of 3", "recognizer.safetensors", "größe", "a..b"):
        assert plain_name(good, Path("meta.json"), "arrays") == good
    for bad in (
        "",
        ".",
        "..",
        "../a",
        "/a",
        "a/b",
        "a\\b",
        "a\0b",
        "a\nb",
        ".hidden",
        "x" * 201,
        3,
        None,
        ["a"],
    ):
        with pytest.raises(InputError, match=r"meta\.json: arrays: found .*expected a plain name"):
            plain_name(bad, Path("meta.json"), "arrays")


def test_nothing_is_written_through_a_link_inside_a_folder(tmp_path: Path) -> None:
    (tmp_path / "real" / "networks").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").symlink_to("real")
    assert inside(tmp_path / "cache", "networks", "a") == tmp_path / "cache" / "networks" / "a"
    (tmp_path / "real" / "skim").symlink_to("../elsewhere")
    with pytest.raises(InputError, match="cache/skim: is a link"):
        inside(tmp_path / "cache", "skim", "00000.npy")


def test_the_next_writer_clears_what_killed_ones_left(tmp_path: Path) -> None:
    partial = f".{'0' * 16}.partial"
    for name in (".a", ".b", ".held"):
        (tmp_path / (name + partial)).write_text("half")
    (tmp_path / ".held.lock").touch()
    (tmp_path / "keep.partial").touch()
    with alone(tmp_path / "a"):
        assert not (tmp_path / f".a{partial}").exists()
        assert (tmp_path / f".b{partial}").exists()
    clear_leftovers(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".a.lock", ".held.lock", f".held{partial}", "keep.partial"}
    with alone(tmp_path / "c", tmp_path / "held"):  # a companion
        assert not (tmp_path / f".held{partial}").exists()


HOLD = """
import sys, time
from pathlib import Path
from video_env.files import alone
with alone(Path(sys.argv[1])):
    with alone(Path(sys.argv[1])):
        pass
    print("held", flush=True)
    sys.stdin.readline()
    print("let go", flush=True)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_the_second_waits_and_says_for_whom(tmp_path: Path, kind: str) -> None:
    thing = tmp_path / "thing"
    if kind == "folder":
        thing.mkdir()
    first = holder(thing)
    assert first.stdin
    assert first.stdout
    assert first.stdout.readline() == "held\n"
    other_name = thing
    if kind == "folder":
        (tmp_path / "link").symlink_to(thing)  # another name of the same folder
        other_name = tmp_path / "link"
    second = holder(other_name)
    assert second.stderr
    assert second.stdout
    said = second.stderr.readline()
    assert f"waiting for {thing}, which process {first.pid} on " in said
    time.sleep(0.3)
    assert second.poll() is None
    first.stdin.write("\n")
    first.stdin.flush()
    assert second.stdout.readline() == "held\n"
    assert first.stdout.read() == "let go\n"
    second.kill()  # a killed holder holds no more
    second.wait()
    with alone(thing):
        pass
    assert first.wait() == 0
    for process in (first, second):
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream
            stream.close()


def test_threads_of_one_process_wait_for_each_other(tmp_path: Path) -> None:
    events: list[str] = []

    def other() -> None:
        with alone(tmp_path / "a"):
            events.append("second")

    with alone(tmp_path / "a"):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.2)
        events.append("first")
    thread.join(timeout=10)
    assert events == ["first", "second"]


def test_a_lock_lies_inside_where_its_own_place_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    with alone(tmp_path / "cache"):
        assert (tmp_path / ".cache.lock").is_file()
    (tmp_path / ".cache.lock").unlink()
    monkeypatch.setattr("video_env.files.os.access", lambda path, mode: Path(path) != tmp_path)
    with alone(tmp_path / "cache"):
        assert (tmp_path / "cache" / ".lock").is_file()


def test_what_a_lock_says_is_printed_as_text(tmp_path: Path) -> None:
    from video_env.files import _holder

    (tmp_path / ".a.lock").write_text("process \x1b[2Jevil\n")
    assert _holder(tmp_path / ".a.lock") == "process ?[2Jevil?"
    (tmp_path / ".a.lock").write_text(json.dumps("other"))
    assert _holder(tmp_path / ".a.lock") == "another process"
