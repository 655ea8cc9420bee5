"""The environments' arguments: their defaults, what is asked of them, and how a task is made of them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from video_env.cache.store import Cache
from video_env.errors import InputError

PACKAGED_CACHE = Path(__file__).parent.parent / "packaged"

Observation = Literal["features", "index"]
MadeTask = TypeVar("MadeTask")


class Repeatable:
    """Pickles as its class and arguments, and is made of them again: tables that were read from a cache,
    open files and networks' inputs do not travel. For objects that do not change once they are made."""

    arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *positional: Any, **named: Any) -> Repeatable:
        made = super().__new__(cls)
        made.arguments = positional, named
        return made

    def _reopens(self, cache: Cache) -> Cache:
        """Have it made again with this cache: a path may be relative."""
        positional, named = self.arguments
        named = {name: value for name, value in named.items() if name != "cache"}
        self.arguments = (cache, *positional[1:]), named
        return cache

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_again, (type(self), *self.arguments)


def _make_again(kind: type, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
    return kind(*positional, **named)


def make_task(kind: type[MadeTask], options: Mapping[str, Any], *others: str) -> MadeTask:
    """A task from an environment's arguments.

    Args:
        kind: the task's class.
        options: its arguments, by name.
        others: arguments of the environment itself, which the message lists too.

    Raises:
        InputError: there is no such argument; the message lists those there are.
    """
    allowed = [*_arguments(kind), *others]
    if unknown := sorted(set(options) - set(allowed)):
        raise InputError(
            f"{', '.join(unknown)}: no argument of {kind.__name__}, which takes {', '.join(allowed)}"
        )
    return kind(**options)


def _arguments(kind: type) -> list[str]:
    """The names that a class and its bases take: a subclass passes on what it does not name."""
    found: dict[str, None] = {}
    for base in reversed(kind.__mro__[:-1]):
        if "__init__" in vars(base):
            for name, parameter in list(inspect.signature(vars(base)["__init__"]).parameters.items())[1:]:
                if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                    found[name] = None
    return list(found)


def opened_cache(cache: str | Path | Cache | None) -> Cache:
    """A cache from a path; the packaged one by default.

    Raises:
        CacheError: there is none.
        InputError: it is no path.
    """
    if isinstance(cache, Cache):
        return cache
    if cache is not None and not isinstance(cache, (str, os.PathLike)):
        raise InputError(f"cache: found {cache!r}, expected a folder's path or a Cache")
    return Cache(PACKAGED_CACHE if cache is None else Path(cache).expanduser())


def check_split(split: str) -> str:
    """The split's name, or InputError where it is no text; whether there is one the cache knows."""
    if not isinstance(split, str):
        raise InputError(f"split: found {split!r}, expected a name, such as 'train'")
    return split


def check_observation(observation: Observation) -> Observation:
    """The kind of observation, or InputError where there is none such."""
    if observation not in ("features", "index"):
        raise InputError(f"observation {observation!r}: expected features or index")
    return observation


def check_number(name: str, value: float) -> float:
    """A cost as a number, or InputError where it is none, negative, or not finite."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real) or not 0 <= value < np.inf:
        raise InputError(f"{name}: found {value!r}, expected a number of at least 0")
    return float(value)


def check_integer(name: str, value: int, low: int, high: int | None = None, *, what: str = "") -> int:
    """A whole number in a range, or InputError where it is none; ``what`` explains the upper end."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if whole and low <= value and (high is None or value <= high):
        return int(value)
    expected = f"an integer of at least {low}" if high is None else f"{low} to {high}{what}, as an integer"
    raise InputError(f"{name}: found {value!r}, expected {expected}")


def check_flag(name: str, value: bool) -> bool:
    """True or False, or InputError where it is neither."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name}: found {value!r}, expected True or False")
    return bool(value)


def known_gflops(cache: Cache, part: str) -> float:
    """The cost of a part of the recognizer, or InputError where the cache does not state it."""
    gflops = cache.gflops
    if part not in gflops:
        raise InputError(
            f"cache {cache.path}: meta.json states no GFLOPs of {part!r}; it has "
            f"{', '.join(gflops) or 'none'}"
        )
    return gflops[part]
