"""Commands that are killed at the files they touch: in processes that fork from one that has imported all.

An audit hook counts what a command is about to do to files below a folder (open for writing, rename, delete,
make or remove a folder, link), and ends the process by SIGKILL before the one with a given number.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}


@dataclass
class Outcome:
    """How a command ended: its status (negative for a signal), what it touched, and what it printed."""

    status: int
    touched: list[str]
    printed: str


class Commands:
    """Runs ``video-env`` commands, each in a process of its own; ``end`` ends the process that they fork from."""

    def __init__(self, folder: Path) -> None:
        self._output = folder / "printed.txt"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.killed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self, *commands: list[Any], below: Path, at: int | None = None, largest: int | None = None
    ) -> list[Outcome]:
        """The commands, side by side.

        Args:
            commands: their arguments.
            below: where it counts what they touch.
            at: the number, from 0, of what they are killed before; None to let them end.
            largest: bytes that a file can have, as if the disk were full then.
        """
        order = {
            "commands": [[str(word) for word in command] for command in commands],
            "below": str(below), "at": at, "output": str(self._output),
            "largest": largest,
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return [Outcome(**one) for one in json.loads(self._process.stdout.readline())]

    def printed(self) -> str:
        """What the first command has printed so far."""
        file = Path(f"{self._output}.0")
        return file.read_text() if file.exists() else ""

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _watch(below: str, at: int | None, record: Path) -> None:
    """In the process of a command: count, and kill."""
    touched = 0
    log = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal touched
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in _EVENTS:
            path = arguments[0]
        else:
            return
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        name = os.fsdecode(path)
        # Not what Stable-Baselines3 and TensorBoard log, nor locks: nobody reads them.
        if not name.startswith(below) or name.endswith(".lock") or "tfevents" in name:
            return
        if at is not None and touched == at:
            os.kill(os.getpid(), signal.SIGKILL)
        touched += 1
        os.write(log, f"{event} {name}\n".encode())

    sys.addaudithook(hook)


def _serve() -> None:
    import torch

    from compare.command_line.main import main
    from video_env.evaluation import registry

    torch.set_num_threads(1)
    registry.load()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        order = json.loads(line)
        children = []
        for number, command in enumerate(order["commands"]):
            output, record = (Path(f"{order['output']}.{number}{end}") for end in ("", ".touched"))
            child = os.fork()
            if child == 0:
                into = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(into, 1)
                os.dup2(into, 2)
                status = 1
                try:
                    if order["largest"] is not None:
                        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest"], resource.RLIM_INFINITY))
                    _watch(order["below"], order["at"], record)
                    sys.argv = ["video-env", *command]
                    status = main(command)
                except SystemExit as end:
                    status = end.code if isinstance(end.code, int) else 1
                except BaseException:
                    import traceback

                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(status)
            children.append((child, output, record))
        outcomes = []
        for child, output, record in children:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            touched = record.read_text().splitlines() if record.exists() else []
            outcomes.append({"status": status, "touched": touched, "printed": output.read_text()})
        print(json.dumps(outcomes), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
