"""The table of methods that can be compared: ours, and those that users add in files of their own.

A method is a function that gives its entries, one for each point on its curve, for one seed::

    @method("every-second", about="every second candidate", settings=Settings())
    def every_second(job: Job, settings: Settings) -> list[Entry]: ...

Where the module is imported, the method is in the table: by a command's option ``modules``, or by an
installed package that names it in the entry-point group ``video_env.methods``.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.protocols import Entry
from video_env.files import plain_name

ENTRY_POINTS = "video_env.methods"


@dataclass(frozen=True)
class NoSettings:
    """Of a method that has none."""


@dataclass(frozen=True)
class Job:
    """What a method gets to do its work with one seed.

    Attributes:
        cache: whose videos it is trained on (split ``train``) and acts on.
        split: that it will be evaluated on; no choice may depend on it, unless the method is an oracle.
        seed: of its training and its draws.
        folder: where it keeps what it trains, so that it finds it there when it is called again.
        settings: of all methods of the comparison, by name, for those that build on another one.
        device: where networks run: auto, cpu, cuda:0, ...
    """

    cache: Cache
    split: str
    seed: int
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"


Entries = Callable[[Job, Any], list[Entry]]


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: on the command line.
        about: what it does, in a few words.
        settings: its default ones, a dataclass; they are the command line's ``--NAME.SETTING``.
        entries: trains what is not trained yet, and gives an entry for each point on its curve.
        trains: whether that takes a training, which is done beside others, in a process of its own.
        builds_on: names of methods whose settings decide its results too, and whose trainings it uses.
    """

    name: str
    about: str
    settings: Any
    entries: Entries
    trains: bool = True
    builds_on: tuple[str, ...] = ()


_TABLE: dict[str, Method] = {}


def method(
    name: str,
    *,
    about: str,
    settings: Any = NoSettings(),
    trains: bool = True,
    builds_on: tuple[str, ...] = (),
) -> Callable[[Entries], Entries]:
    """Put the decorated function into the table; the arguments are those of ``Method``.

    Raises:
        InputError: the name is taken, or the settings are no dataclass.
    """
    if not is_dataclass(settings) or isinstance(settings, type):
        raise InputError(
            f"method {name!r}: expected the settings as a dataclass's instance, found {settings!r}"
        )

    def add(entries: Entries) -> Entries:
        plain_name(name, Path(inspect.getfile(entries)), "method")  # its files are called after it
        before = _TABLE.get(name)
        # A module that is imported a second time, under another name or anew, is no second method.
        if before is not None and _place(before.entries) != _place(entries):
            raise InputError(
                f"method {name!r}: is in the table already, from {before.entries.__module__}; now "
                f"{entries.__module__} adds it"
            )
        _TABLE[name] = Method(name, about, settings, entries, trains, builds_on)
        return entries

    return add


def _place(entries: Entries) -> tuple[str, str]:
    """Where a function is written."""
    return inspect.getfile(entries), entries.__qualname__


def load(modules: Iterable[str] = ()) -> None:
    """Import our own methods, those of installed packages, and those of these modules, which are looked for
    in the current folder too.

    Raises:
        InputError: a module cannot be found or imported.
    """
    importlib.import_module("compare.methods")
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:  # whatever stands in a module of others
            raise InputError(
                f"entry point {point.name} = {point.value} ({ENTRY_POINTS}) of an installed package: cannot "
                f"be imported ({type(error).__name__}: {error}); mend or uninstall that package"
            ) from error
    for module in modules:
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        try:
            importlib.import_module(module)
        except InputError:
            raise
        except Exception as error:
            parts = module.split(".")
            packages = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
            if isinstance(error, ModuleNotFoundError) and error.name in packages:
                raise InputError(
                    f"module {module!r}: not found; expected a name to import, such as my_method for "
                    "my_method.py in the current folder"
                ) from error
            raise InputError(
                f"module {module!r}: cannot be imported ({type(error).__name__}: {error})"
            ) from error


def table() -> dict[str, Method]:
    """The methods by name."""
    return dict(_TABLE)


def find(names: Iterable[str]) -> list[Method]:
    """The methods of these names.

    Raises:
        InputError: one is unknown (the message lists the known ones), or named twice.
    """
    names = list(names)
    for name in names:
        if name not in _TABLE:
            raise InputError(
                f"method {name!r}: expected one of {', '.join(_TABLE)}, or one of your own", needs="method"
            )
        if names.count(name) > 1:
            raise InputError(f"method {name!r}: named twice")
    return [_TABLE[name] for name in names]


def with_those_built_on(methods: Iterable[Method]) -> list[Method]:
    """These methods after all those that they build on, each once."""
    found: dict[str, Method] = {}
    for one in methods:
        found.update({other.name: other for other in with_those_built_on(find(one.builds_on))})
        found[one.name] = one
    return list(found.values())


def settings_type(methods: Iterable[Method]) -> type:
    """A dataclass with the settings of these methods, each under its name, for a command line."""
    return make_dataclass(
        "MethodSettings",
        [
            (attribute(one.name), type(one.settings), field(default_factory=partial(replace, one.settings)))
            for one in methods
        ],
        frozen=True,
    )


def settings_of(methods: Iterable[Method], given: object = None) -> dict[str, Any]:
    """The settings of these methods by name: those given, an instance of a ``settings_type``, or their
    defaults."""
    names = {item.name for item in fields(cast(Any, given))} if given is not None else set()
    return {
        one.name: getattr(given, attribute(one.name)) if attribute(one.name) in names else one.settings
        for one in methods
    }


def attribute(name: str) -> str:
    """A method's name as that of an attribute."""
    return name.replace("-", "_")
