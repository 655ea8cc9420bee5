"""Functions of lower floors as commands: their parameters become options, with what all commands have."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from video_env.cache.store import Cache

CacheFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CACHE")]

Option = tuple[Any, Any, str]
"""An option's type, its default (``inspect.Parameter.empty`` where it must be given), and its help."""

REQUIRED = inspect.Parameter.empty


def as_command(
    function: Callable[..., Any],
    run: Callable[..., None],
    *,
    instead_of: Mapping[str, Mapping[str, Option]] = {},
    also: Mapping[str, Option] = {},
) -> Callable[..., None]:
    """A command with the parameters of a function.

    Args:
        function: whose parameters and docstring become options and help. A ``cache`` is given by its folder,
            as the first argument; ``settings`` become options without a prefix.
        run: what the command does; it gets the options by name.
        instead_of: options that stand for a parameter.
        also: options that the command has beside the function's.
    """
    hints = typing.get_type_hints(function)
    parameters, helps = [], _helps(function)
    own: dict[str, Option] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in instead_of:
            own |= instead_of[name]
        elif hints[name] is Cache:
            own[name] = (CacheFolder, REQUIRED, helps[name])
        elif name == "settings":
            own[name] = (
                Annotated[hints[name], tyro.conf.arg(name="")],
                _default(parameter, hints),
                helps[name],
            )
        else:
            own[name] = (hints[name], parameter.default, helps[name])
    own |= also
    # Those without a default first, as Python wants it.
    for name, (kind, default, _) in sorted(own.items(), key=lambda item: item[1][1] is not REQUIRED):
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind, default=default)
        )

    def command(**options: Any) -> None:
        run(**options)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    first = (inspect.getdoc(function) or "").split("\nArgs:")[0].strip()
    listed = "".join(f"    {name}: {text}\n" for name, (_, _, text) in own.items())
    command.__doc__ = f"{first}\n\nArgs:\n{listed}"
    command.__name__ = function.__name__
    return command


def _default(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    return hints[parameter.name]() if parameter.default is REQUIRED else parameter.default


def _helps(function: Callable[..., Any]) -> dict[str, str]:
    """By parameter, its help in the docstring, in one line."""
    found: dict[str, str] = {}
    _, _, arguments = (inspect.getdoc(function) or "").partition("\nArgs:\n")
    last = ""
    for line in arguments.split("\n"):
        text = line.strip()
        if line.startswith("    ") and not line.startswith("     ") and ": " in text:
            last, _, first = text.partition(": ")
            found[last] = first
        elif last and line.startswith("     "):
            found[last] += f" {text}"
        elif text:
            break
    return found
