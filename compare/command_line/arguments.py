"""Arguments as they were typed, before they are parsed: what must be known to build the parser."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile


def values(arguments: Sequence[str], flag: str) -> list[str]:
    """What follows a flag, up to the next one; or stands behind its equals sign."""
    split = [part for argument in arguments for part in (
        argument.split("=", 1) if argument.startswith(f"{flag}=") else [argument])]  # fmt: skip
    if flag not in split:
        return []
    after = split[split.index(flag) + 1 :]
    return list(takewhile(lambda value: not value.startswith("-"), after))


def without(arguments: list[str], flag: str, count: int) -> list[str]:
    """The arguments but for a flag with so many values."""
    rest, place = list(arguments), 0
    while place < len(rest):
        if rest[place] == flag:
            del rest[place : place + 1 + count]
        elif rest[place].startswith(f"{flag}="):
            del rest[place : place + count]
        else:
            place += 1
    return rest
