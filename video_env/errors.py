"""The one exception for bad input: files, arguments and data that a user can mend."""


class InputError(ValueError):
    """Input that cannot be used.

    The message names the file, row or argument, what was found there and what was expected. The
    command line prints it without a traceback; every other exception is a defect of this package.
    """


def require_positive(settings: object, *names: str) -> None:
    """Raise InputError unless these attributes are finite numbers above 0."""
    for name in names:
        value = getattr(settings, name)
        if not 0 < value < float("inf"):
            raise InputError(f"{name}: found {value}, expected a number above 0")


def require_seed(seed: int) -> None:
    """Raise InputError for a negative seed, which no generator takes."""
    if seed < 0:
        raise InputError(f"seed: found {seed}, expected 0 or more")


def require_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise InputError unless a setting is one of the allowed values."""
    if value not in allowed:
        raise InputError(f"{name} {value!r}: expected one of {', '.join(allowed)}")
