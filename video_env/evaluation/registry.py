"""The registry of methods that can be compared.

A method gives its entries, one for each point on its curve, for one seed::

    @method("every-second", about="every second candidate", settings=Settings())
    def every_second(job: Job, settings: Settings) -> list[Entry]: ...

Where it has something to train, that is another function, which trains one seed into ``job.folder``::

    @method("my-agent", about="...", settings=Settings(), train=train_my_agent)

Where the module is imported, the method is in the registry: by a command's option ``modules``, or by an
installed package that names it in the entry-point group ``video_env.methods``. Our own are in the ``methods``
modules of ``agents`` and ``baselines``.
"""

from __future__ import annotations

import importlib
import inspect
import keyword
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.protocols import Entry, Policy, Recogniser
from video_env.evaluation.results import Setting
from video_env.files import plain_name

ENTRY_POINTS = "video_env.methods"

OWN = (
    "baselines.methods",
    "baselines.best_fixed_subset",
    "agents.ocsampler.methods",
    "agents.adafocus.methods",
    "agents.adafocus_v2.methods",
)
"""Modules of our own methods, imported by name: they stand on higher floors."""


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
        folder: where it keeps what it trains; None where nothing may be trained.
        settings: of all methods of the comparison, by id, for those that build on another one.
        device: where networks run: auto, cpu, cuda:0, ...
        method: whose work it is.
    """

    cache: Cache
    split: str
    seed: int
    folder: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    method: Method | None = None

    def file(self, name: str) -> Path:
        """A file or folder in ``folder``, where those of all methods lie side by side.

        Args:
            name: begins with the method's id, or with that of one that it builds on.

        Raises:
            InputError: nothing may be trained, or another method might use the same name.
        """
        if self.folder is None:
            raise InputError("folder: found none, expected one for what is trained")
        ids = () if self.method is None else (self.method.id, *self.method.builds_on)
        if ids and not any(name == id or name.startswith((f"{id}-", f"{id}.")) for id in ids):
            raise InputError(
                f"file {name!r}: expected a name that begins with the method's id ({' or '.join(ids)}): "
                "the files of all methods lie side by side"
            )
        return self.folder / name

    def entry(
        self,
        setting: Setting,
        environment: str | None,
        policy: Policy | Recogniser,
        *,
        variant: str | None = None,
        **rest: Any,
    ) -> Entry:
        """A point of the job's method.

        Args:
            setting: the point, such as ``{"num_frames": 2}``.
            environment, policy: see ``Entry``.
            variant: tells a second curve of the method apart: ``exit`` makes ``adafocus-v2-exit``, with the
                title ``AdaFocusV2, exit``.
            rest: further fields of ``Entry``: ``options``, ``training``, ``cache``.
        """
        assert self.method is not None
        id, title = self.method.id, self.method.title
        if variant is not None:
            id, title = f"{id}-{variant}", f"{title}, {variant.replace('-', ' ')}"
        return Entry(id, title, self.method.family, setting, self.seed, environment, policy, **rest)

    def patches(self, patch_size: int) -> Cache:
        """The job's cache with patch features of this size: as it is where it has them, else with those that
        the preparation ``patches`` makes in ``folder``.

        Raises:
            InputError: the cache has none and nothing may be trained, or it has patches of another size.
        """
        return PREPARATIONS["patches"](self, patch_size)


Entries = Callable[[Job, Any], list[Entry]]
Train = Callable[[Job, Any], None]
Preparation = Callable[[Job, int], Cache]


@dataclass(frozen=True)
class Method:
    """A method that can be compared.

    Attributes:
        id: in tables and on the command line.
        title: the name that people read.
        family: what it belongs to; ``bound`` for references: oracles and all frames.
        about: what it does, in a few words.
        settings: its default ones, a dataclass; they are the command line's ``--ID.SETTING``.
        entries: gives an entry for each point on its curve; trained ones are read from ``job.folder``.
        train: trains one seed into ``job.folder``, as far as that is not done yet, in a process of its own;
            None for a method without a training.
        prepare: likewise makes what an untrained method stands on, such as patch features.
        builds_on: ids of methods whose settings decide its results too, and whose trainings it uses.
    """

    id: str
    title: str
    family: str
    about: str
    settings: Any
    entries: Entries
    train: Train | None = None
    prepare: Train | None = None
    builds_on: tuple[str, ...] = ()

    @property
    def has_work(self) -> bool:
        """Whether something is trained or prepared before the method can be evaluated."""
        return self.train is not None or self.prepare is not None

    def do_work(self, job: Job) -> None:
        """Train or prepare one seed."""
        if (work := self.train or self.prepare) is not None:
            work(replace(job, method=self), self._settings(job))

    def list_entries(self, job: Job) -> list[Entry]:
        """The entries of one seed, after its work.

        Raises:
            InputError: there are none, or two are the same point.
        """
        entries = self.entries(replace(job, method=self), self._settings(job))
        if not entries:
            raise InputError("gave no entries, expected at least one")
        points = [(entry.method, dict(entry.setting)) for entry in entries]
        for entry in entries:
            if entry.method != self.id and entry.method in _METHODS:
                raise InputError(f"gave an entry of another method, {entry.method}; choose another variant")
            if entry.seed != job.seed:
                raise InputError(f"gave an entry of seed {entry.seed}, expected {job.seed} (job.seed)")
        for entry, point in zip(entries, points, strict=True):
            if points.count(point) > 1:
                raise InputError(f"its settings give {entry.label} twice")
        return entries

    def _settings(self, job: Job) -> Any:
        return job.settings.get(self.id, self.settings)


_METHODS: dict[str, Method] = {}
PREPARATIONS: dict[str, Preparation] = {}
"""By name, what several methods stand on and one of them makes; see ``Job.patches``."""


def method(
    id: str,
    *,
    about: str,
    title: str | None = None,
    family: str = "own",
    settings: Any = NoSettings(),
    train: Train | None = None,
    prepare: Train | None = None,
    builds_on: tuple[str, ...] = (),
) -> Callable[[Entries], Entries]:
    """Register the decorated function, which gives a method's entries.

    Args:
        id: of the method.
        about, settings, train, prepare, builds_on: as of ``Method``.
        title: by default the id with spaces.
        family: by default ``own``, that of methods which users add.

    Raises:
        InputError: the id is taken or no id, the settings are no dataclass, or there are both ``train`` and
            ``prepare``.
    """
    if not attribute(id).isidentifier() or keyword.iskeyword(attribute(id)) or id != id.lower():
        raise InputError(
            f"method {id!r}: expected an id of small letters, digits and hyphens that begins with a letter; "
            "the title may be any text"
        )
    if train is not None and prepare is not None:
        raise InputError(f"method {id!r}: found train and prepare, expected one of them")
    if not is_dataclass(settings) or isinstance(settings, type):
        raise InputError(
            f"method {id!r}: expected the settings as a dataclass's instance, found {settings!r}"
        )

    def add(entries: Entries) -> Entries:
        plain_name(id, Path(inspect.getfile(entries)), "method")  # its files are called after it
        before = next((one for one in _METHODS.values() if attribute(one.id) == attribute(id)), None)
        # A module that is imported a second time, under another name or anew, is no second method.
        if before is not None and (before.id != id or _place(before.entries) != _place(entries)):
            raise InputError(
                f"method {id!r}: is registered already, by {before.entries.__module__}; now "
                f"{entries.__module__} adds it"
            )
        _METHODS[id] = Method(
            id, title or id.replace("-", " "), family, about, settings, entries, train, prepare, builds_on
        )
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
    for own in OWN:
        importlib.import_module(own)
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


def methods() -> dict[str, Method]:
    """The methods by id."""
    return dict(_METHODS)


def find(ids: Iterable[str]) -> list[Method]:
    """The methods of these ids.

    Raises:
        InputError: one is unknown (the message lists the known ones), or named twice.
    """
    ids = list(ids)
    for name in ids:
        if name not in _METHODS:
            raise InputError(
                f"method {name!r}: expected one of {', '.join(_METHODS)}, or one of your own", needs="method"
            )
        if ids.count(name) > 1:
            raise InputError(f"method {name!r}: named twice")
    return [_METHODS[name] for name in ids]


def with_those_built_on(methods: Iterable[Method]) -> list[Method]:
    """These methods after all those that they build on, each once.

    Raises:
        InputError: methods build on each other in a circle.
    """
    found: dict[str, Method] = {}

    def add(one: Method, above: tuple[str, ...]) -> None:
        if one.id in above:
            raise InputError(f"method {one.id!r}: builds on itself, by {' and '.join(above)}")
        for other in find(one.builds_on):
            add(other, (*above, one.id))
        found[one.id] = one

    for one in methods:
        add(one, ())
    return list(found.values())


def settings_type(methods: Iterable[Method]) -> type:
    """A dataclass with the settings of these methods, each under its name, for a command line."""
    return make_dataclass(
        "MethodSettings",
        [
            (attribute(one.id), type(one.settings), field(default_factory=partial(replace, one.settings)))
            for one in methods
        ],
        frozen=True,
    )


def settings_of(methods: Iterable[Method], given: object = None) -> dict[str, Any]:
    """The settings of these methods by name: those given, an instance of a ``settings_type``, or their
    defaults."""
    names = {item.name for item in fields(cast(Any, given))} if given is not None else set()
    return {
        one.id: getattr(given, attribute(one.id)) if attribute(one.id) in names else one.settings
        for one in methods
    }


def require_unset(training: Any, **given_by: str) -> None:
    """What a curve varies is given by the curve's own settings, and the seed by the comparison.

    Args:
        training: the settings that the trainings of a curve share, a dataclass.
        given_by: by a setting's name, what gives it instead.

    Raises:
        InputError: it is given in the shared settings, where it would be overwritten.
    """
    for name, elsewhere in {**given_by, "seed": "seeds of the comparison"}.items():
        default = next(item.default for item in fields(training) if item.name == name)
        if (found := getattr(training, name)) != default:
            raise InputError(f"training.{name}: found {found}; it is given by {elsewhere}")


def attribute(name: str) -> str:
    """A method's name as that of an attribute."""
    return name.replace("-", "_")
