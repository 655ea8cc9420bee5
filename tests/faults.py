"""A command ended at each of its file events: killed, or with a disk that is full; then run again.

A case is a module-level ``Case``, named as "tests.test_cache_faults:RECOGNIZER". ``faults(case, folder)``
runs it in a process of its own, which forks for every run, so that nothing of one run is left for the next.
Events are what a command does below its folder through ``os`` and ``video_env.files``: making a file or a
folder, writing, syncing, renaming, linking, deleting.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from video_env import files
from video_env.errors import InputError

KILLED, REFUSED, FAILED = 77, 78, 79


@dataclass(frozen=True)
class Case:
    """A command to be ended.

    Attributes:
        prepare: makes what the command starts from in a folder.
        command: the command; what it writes lies in that folder.
        check: raises if what an ended command left in the folder cannot be used.
        content: of a file, by its relative path, what must be the same in the end; None for nothing. By
            default all bytes.
    """

    prepare: Callable[[Path], None]
    command: Callable[[Path], None]
    check: Callable[[Path], None] = lambda folder: None
    content: Callable[[Path, bytes], Any] = lambda path, data: data


def faults(case: str, folder: Path, *, sample: int | None = None, seed: int = 0) -> dict[str, Any]:
    """End a case at every event, or at a random sample of them, in each way.

    Returns:
        ``events``: how many there are; ``tried``; ``wrong``: a line for each point with another outcome than
        that of the uninterrupted command.
    """
    arguments = [case, str(folder), str(-1 if sample is None else sample), str(seed)]
    root = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def events(root: Path, at: Callable[[int, str, str], None]) -> Iterator[None]:
    """Call ``at`` with number, kind and path just before each file event below a folder."""
    count, below = 0, os.path.realpath(root)

    def where(path: Any, directory: int | None = None) -> str:
        if isinstance(path, int):
            return str(Path(f"/proc/self/fd/{path}").readlink())
        start = Path(f"/proc/self/fd/{directory}").readlink() if directory is not None else Path.cwd()
        return str(Path(start, os.fsdecode(path)))

    def happens(kind: str, path: str) -> None:
        nonlocal count
        if os.path.realpath(Path(path).parent).startswith(below):
            count += 1
            at(count, kind, path)

    real: dict[str, Any] = {}

    def patched(name: str) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if name != "open" or (arguments and arguments[0] & os.O_CREAT):
                directory = options.get("dir_fd") or options.get("src_dir_fd")
                happens(name, where(path, directory))
            return real[name](path, *arguments, **options)

        return call

    def write(file: files.PartialFile, data: Any) -> int:
        half = memoryview(data).cast("B")[: len(memoryview(data).cast("B")) // 2]
        written = file.tell()
        try:
            happens("write", where(file.fileno()))
        except OSError as error:
            file.failure = error
            raise
        except SystemExit:
            real_write(file, half)  # killed in the middle of it
            file.flush()
            os._exit(KILLED)
        assert file.tell() == written
        return real_write(file, data)

    real_write = files.PartialFile.write
    names = ("open", "fsync", "replace", "rename", "unlink", "remove", "rmdir", "mkdir", "link")
    for name in names:
        real[name] = getattr(os, name)
        setattr(os, name, patched(name))
    files.PartialFile.write = write  # type: ignore[method-assign]
    try:
        yield
    finally:
        for name in names:
            setattr(os, name, real[name])
        files.PartialFile.write = real_write  # type: ignore[method-assign]


def killing(number: int) -> Callable[[int, str, str], None]:
    """Ends the process at an event; a write is half done by then."""

    def at(count: int, kind: str, path: str) -> None:
        if count == number:
            if kind == "write":
                raise SystemExit
            os._exit(KILLED)

    return at


def failing(number: int) -> Callable[[int, str, str], None]:
    """From an event on, the disk is full: nothing can be made or written, though deleted."""

    def at(count: int, kind: str, path: str) -> None:
        if count >= number and kind not in ("unlink", "remove", "rmdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return at


def _forked(action: Callable[[], None]) -> int:
    """Runs an action in a process of its own; its exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 0
    try:
        action()
    except InputError as error:
        status = REFUSED if "No space left on device" in str(error) else FAILED
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    except BaseException:
        status = FAILED
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _tree(case: Case, folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith(".lock"):
            content = case.content(path.relative_to(folder), path.read_bytes())
            if content is not None:
                found[str(path.relative_to(folder))] = content
    return found


def _main(name: str, folder: Path, sample: int, seed: int) -> None:
    module, _, attribute = name.partition(":")
    case: Case = getattr(importlib.import_module(module), attribute)
    start, whole, seen = folder / "start", folder / "whole", folder / "events.jsonl"
    start.mkdir(parents=True)
    assert _forked(lambda: case.prepare(start)) == 0, "cannot be prepared"
    shutil.copytree(start, whole, symlinks=True)

    def record(count: int, kind: str, path: str) -> None:
        with seen.open("a") as file:
            file.write(json.dumps([kind, path]) + "\n")

    def uninterrupted() -> None:
        with events(whole, record):
            case.command(whole)

    assert _forked(uninterrupted) == 0, "fails uninterrupted"
    expected, happened = _tree(case, whole), [json.loads(line) for line in seen.read_text().splitlines()]
    points = [(way, number) for way in (killing, failing) for number in range(1, len(happened) + 1)]
    if 0 <= sample < len(points):
        points = random.Random(seed).sample(points, sample)
    wrong = []
    for way, number in points:
        kind, path = happened[number - 1]
        where = f"{way.__name__} at event {number} ({kind} {Path(path).relative_to(whole.resolve())})"
        place = folder / f"{way.__name__}-{number}"
        shutil.copytree(start, place, symlinks=True)

        def ended(place: Path = place, way: Any = way, number: int = number) -> None:
            with events(place, way(number)):
                case.command(place)

        status = _forked(ended)
        if status != (KILLED if way is killing else REFUSED) and not (way is failing and status == 0):
            wrong.append(f"{where}: exit status {status}")
        if _forked(lambda place=place: case.check(place)):
            wrong.append(f"{where}: what is left cannot be used")
        # Where only deleting was left to do, a full disk hinders nothing.
        if status != 0 and _forked(lambda place=place: case.command(place)):
            wrong.append(f"{where}: does not go on")
            continue
        found = _tree(case, place)
        different = [path for path in {**expected, **found} if expected.get(path) != found.get(path)]
        if different:
            wrong.append(f"{where}: different in the end: {', '.join(sorted(different)[:5])}")
        else:
            shutil.rmtree(place)
    print(json.dumps({"events": len(happened), "tried": len(points), "wrong": wrong}))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
