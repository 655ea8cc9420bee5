"""Records of settings: where two of them differ, in words."""

from __future__ import annotations

from typing import Any

NAMED = 5  # differences that a message names; the rest are counted
LONGEST = 80  # characters of a value


def difference(found: Any, wanted: Any) -> str:
    """Where two records of plain data differ, as in ``patch_size 36 there, 48 asked for``.

    Tuples and lists of equal entries are equal, as they are in JSON.

    Args:
        found: what is there: numbers, text, lists, and dicts of these by name, nested as they come.
        wanted: what was asked for.

    Returns:
        The differences, joined by semicolons, with dots in the names of nested entries; a value that one side
        lacks is ``nothing``. Empty where the records are equal.
    """
    differences = _differences(found, wanted, "")
    named = [
        f"{name} {_text(there)} there, {_text(asked_for)} asked for".strip()
        for name, there, asked_for in differences[:NAMED]
    ]
    more = len(differences) - NAMED
    return "; ".join([*named, f"and {more} more"] if more > 0 else named)


class _Nothing:
    """What stands for an entry that is missing; None is a value."""


def _differences(found: Any, wanted: Any, name: str) -> list[tuple[str, Any, Any]]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [
            difference
            for key in {**found, **wanted}
            for difference in _differences(
                found.get(key, _Nothing), wanted.get(key, _Nothing), f"{name}.{key}" if name else str(key)
            )
        ]
    return [] if _as_json(found) == _as_json(wanted) else [(name, found, wanted)]


def _as_json(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_as_json(entry) for entry in value]
    if isinstance(value, dict):
        return {name: _as_json(entry) for name, entry in value.items()}
    return value


def _text(value: Any) -> str:
    text = "nothing" if value is _Nothing else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
