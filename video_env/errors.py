"""The one exception for bad input: files, arguments and data that a user can mend."""

from dataclasses import fields
from typing import Any


class InputError(ValueError):
    """Input that cannot be used.

    The message names the file, row or argument, what was found there and what was expected. The
    command line prints it without a traceback; every other exception is a defect of this package.

    Args:
        message: see above.
        needs: what is missing, in a word, where there is a common way to make it: an array's name
            (``frames``, ``skim``, ``glance``, ...), ``cache``, ``recognizer``, ``classifier``, ``classes``,
            ``redrawn-cache``, ``sb3-record``, ``method``. The command line says how.
    """

    def __init__(self, message: str = "", *, needs: str | None = None) -> None:
        super().__init__(message)
        self.needs = needs


def require_positive(settings: object, *names: str) -> None:
    """Raise InputError unless these attributes are finite numbers above 0."""
    for name in names:
        value = getattr(settings, name)
        if not 0 < value < float("inf"):
            raise InputError(f"{name}: found {value}, expected a number above 0")


def require_unused(settings: Any, *names: str, because: str) -> None:
    """Raise InputError where a setting is given that another one makes meaningless.

    Args:
        settings: a dataclass's instance.
        names: of its fields that mean nothing now; each must have its default.
        because: the setting that makes them so, in words.
    """
    for item in fields(settings):
        if item.name in names and (found := getattr(settings, item.name)) != item.default:
            raise InputError(f"{item.name}: found {found}; it means nothing with {because}")


def require_seed(seed: int) -> None:
    """Raise InputError for a negative seed, which no generator takes."""
    if seed < 0:
        raise InputError(f"seed: found {seed}, expected 0 or more")


def require_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise InputError unless a setting is one of the allowed values."""
    if value not in allowed:
        raise InputError(f"{name} {value!r}: expected one of {', '.join(allowed)}")
