"""Files of saved agents: one record for all kinds of agents, written and read as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.models.stopping import Ended
from video_env.models.tensors import read_tensors, write_tensors
from video_env.settings import difference

_NEEDED = {"settings", "trained_on", "shape"}


@dataclass(frozen=True)
class AgentRecord:
    """What an agent's file holds.

    Attributes:
        agent: its kind.
        settings: ``asdict`` of its settings.
        trained_on: tells the data apart that it was trained on.
        sees: the sources of the arrays that it sees (``Cache.sources``); none where it looks at frames.
        shape: sizes of what it sees, which those of a cache must equal, by name.
        seconds: of training, by stage; an agent with a single stage has stage 0.
        history: the report of each round, with the ``seconds`` so far, by stage.
        parts: what it is made of, by name: state dicts, tensors, and how networks are built.
        ended: why the training ended, by stage.
    """

    agent: str
    settings: dict[str, Any]
    trained_on: str
    shape: dict[str, Any]
    sees: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    history: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    ended: dict[int, Ended] = field(default_factory=dict)

    def require_fits(self, path: Path, cache: Cache, shape: Mapping[str, Any]) -> None:
        """Raise InputError unless what the agent sees has, in a cache, the sizes and the sources that it had
        in training: features of other networks would mean nothing to it, and look no different to a program.

        Args:
            path: the agent's file.
            cache: what it will act on.
            shape: the cache's sizes, of the names in ``shape``; those that are left out may differ.

        Raises:
            InputError: see above.
            CacheError: the cache lacks an array that the agent sees.
        """
        cache.require_sources(self.sees, of=f"agent {path}")
        if different := difference(dict(shape), {name: self.shape[name] for name in shape}):
            raise InputError(f"agent {path}: does not fit cache {cache.path}: {different}")


def write_agent(path: Path, record: AgentRecord) -> None:
    """Write an agent's file, which is whole then or as it was before.

    Raises:
        InputError: it cannot be written.
    """
    saved = {name: value for name, value in vars(record).items() if name != "parts"}
    write_tensors(path, {**saved, **record.parts})


def read_agent(path: Path, agent: str, *parts: str) -> AgentRecord:
    """The record in an agent's file, which is read without executing code from it.

    Args:
        path: the file.
        agent: the kind that it should hold.
        parts: names of those that it needs.

    Raises:
        InputError: the file is missing, cannot be read, holds something else, or lacks an entry.
    """
    if not path.is_file():
        raise InputError(f"agent {path}: no such file")
    saved = read_tensors(path, what=f"agent {path}: not a readable agent, expected what its save() wrote")
    if not isinstance(saved, dict) or saved.get("agent") != agent:
        found = saved.get("agent") if isinstance(saved, dict) else type(saved).__name__
        raise InputError(f"agent {path}: found {found!r}, expected an {agent}")
    if missing := (_NEEDED | set(parts)) - set(saved):
        raise InputError(
            f"agent {path}: no entry {', '.join(sorted(missing))}; of another version, or damaged"
        )
    with understanding(path):
        # Earlier versions wrote the seconds of a single stage under another name, and no history of some.
        seconds = saved.get("seconds", saved.get("training_seconds", {}))
        return AgentRecord(
            agent, dict(saved["settings"]), str(saved["trained_on"]), dict(saved["shape"]),
            dict(saved.get("sees", {})), _by_stage(seconds), _by_stage(saved.get("history", {})),
            {name: saved[name] for name in parts}, _by_stage(saved.get("ended", {})),
        )  # fmt: skip


def holds_agent(path: Path, agent: str) -> bool:
    """Whether a file is of an agent of this kind; of a file that is none it is not."""
    try:
        saved = read_tensors(path, what=f"agent {path}")
    except InputError:
        return False
    return isinstance(saved, dict) and saved.get("agent") == agent


@contextmanager
def understanding(path: Path) -> Iterator[None]:
    """Make of what is read from a file an agent: entries of other kinds than expected are the file's fault.

    Raises:
        InputError: instead of the errors that such entries lead to.
    """
    try:
        yield
    except InputError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"agent {path}: of another version, or damaged ({error!r})") from error


def _by_stage(value: Any) -> dict[int, Any]:
    return {int(stage): entry for stage, entry in value.items()} if isinstance(value, dict) else {0: value}
