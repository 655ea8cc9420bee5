"""Kinds of agents that are saved to files, and systems whose authors released their weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.protocols import Entry


@dataclass(frozen=True)
class AgentKind:
    """A kind of agent that is saved to files.

    Attributes:
        name: on the command line: ``train NAME`` and ``evaluate NAME``.
        about: what it is, in a few words.
        train: trains one to a file or folder; its parameters are the options of ``train NAME``.
        entry: reads one and gives its point on the curve; its parameters are the options of
            ``evaluate NAME``, among them ``cache``, the file ``agent`` and ``device``.
        holds: whether a file is of this kind, by which it is known where only the file is given.
    """

    name: str
    about: str
    train: Callable[..., None]
    entry: Callable[..., Entry]
    holds: Callable[[Path], bool] = lambda file: False


@dataclass(frozen=True)
class ReleasedSystem:
    """A published system whose authors released its weights.

    Attributes:
        name: on the command line: ``cache released-NAME`` and ``evaluate released-NAME``.
        about: what it is, in a few words.
        build_cache: makes a cache with a checkpoint's networks; its parameters are options of
            ``cache released-NAME``, among them ``annotations``, ``out``, ``settings``, ``checkpoint`` and
            ``device``.
        entry: gives the checkpoint's point on the curve; its parameters are the options of ``evaluate
            released-NAME``, among them ``cache``, ``checkpoint`` and ``device``.
    """

    name: str
    about: str
    build_cache: Callable[..., Cache]
    entry: Callable[..., Entry]


AGENT_KINDS: dict[str, AgentKind] = {}
RELEASED: dict[str, ReleasedSystem] = {}


def agent_kind(kind: AgentKind) -> None:
    """Register a kind of agent.

    Raises:
        InputError: the name is taken.
    """
    if AGENT_KINDS.get(kind.name, kind) != kind:
        raise InputError(f"agent kind {kind.name!r}: is registered already")
    AGENT_KINDS[kind.name] = kind


def kind_of(file: Path) -> AgentKind:
    """The kind of agent that a file holds.

    Raises:
        InputError: there is no such file, or it is of no kind known here.
    """
    if not file.is_file():
        raise InputError(f"agent {file}: no such file")
    for kind in AGENT_KINDS.values():
        if kind.holds(file):
            return kind
    raise InputError(f"agent {file}: found no agent, expected one of {', '.join(AGENT_KINDS)}")


def released_system(system: ReleasedSystem) -> None:
    """Register a released system.

    Raises:
        InputError: the name is taken.
    """
    if RELEASED.get(system.name, system) != system:
        raise InputError(f"released system {system.name!r}: is registered already")
    RELEASED[system.name] = system
