"""Whether a cache holds the arrays that an agent was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from video_env.cache.store import Cache
from video_env.errors import InputError


def require_same_sources(path: Path, sees: dict[str, dict[str, Any]], cache: Cache) -> None:
    """Features of other networks would mean nothing to an agent, and look no different to a program.

    Args:
        path: the agent's file.
        sees: the sources of what it sees, when it was trained (``Cache.sources``).
        cache: that it shall act on.

    Raises:
        InputError: the cache's are others.
        CacheError: it has no such array.
    """
    for name, found in cache.sources(*sees).items():
        if (known := sees[name]) != found:
            different = [key for key in {**known, **found} if known.get(key) != found.get(key)]
            then, now = (", ".join(f"{key} {one.get(key)}" for key in different) for one in (known, found))
            raise InputError(
                f"agent {path}: was trained on {name} made with {then}, cache {cache.path} has it with "
                f"{now}; expected a cache whose {name} was made in the same way"
            )
