"""A comparison's folder: what it holds, who wrote it, and whether this version can read it.

| file | what is in it |
| --- | --- |
| `run.json` | how it was made: version, split, caches, methods' settings, commands, packages, machines |
| `results.parquet` | all result tables joined (see ``video_env.evaluation.results``) |
| `summary.csv`, `areas.csv` | a row per method and setting; the area under each method's curve |
| `training.csv`, `learning.csv` | a row per training, with how it ended; validation accuracy over its time |
| `claims.csv`, `claims.md` | the papers' claims with our measurements |
| `curve.png`, ... | pictures of these tables |
| `seed-0/results/METHOD.parquet` | what one method chose with one seed; what is there is not done again |
| `seed-0/agents/`, `seed-0/logs/` | trained agents; what their trainings printed |
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

import video_env
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation.results import read_results
from video_env.evaluation.tables import read_table
from video_env.files import alone, plain_name, write_bytes
from video_env.models.device import processor_name
from video_env.settings import difference

FORMAT = 7
"""Changes whenever another version could misread a run's folder."""

TABLES = (
    "results.parquet", "summary.csv", "areas.csv", "training.csv", "learning.csv", "claims.csv", "claims.md",
)  # fmt: skip
PICTURES = ("curve.png", "patch-curve.png", "sb3-curve.png", "learning.png", "selections.png", "patches.png")
REPORT = "report.html"

PACKAGES = ("gymnasium", "numpy", "pandas", "sb3-contrib", "stable-baselines3", "torch", "torchvision")


class Run:
    """An existing comparison.

    Args:
        folder: that it was written to.

    Raises:
        InputError: the folder holds none, or one that another version wrote.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.record = read_record(self.folder)

    @property
    def split(self) -> str:
        """That all results are of."""
        return str(self.record["split"])

    @property
    def title(self) -> str:
        """What stands above its pictures."""
        return str(self.record["title"])

    @property
    def seeds(self) -> list[int]:
        """Of its trainings."""
        return [int(seed) for seed in self.record["caches"]]

    @property
    def methods(self) -> dict[str, Any]:
        """Settings of the methods compared, by id."""
        return dict(self.record["methods"])

    @contextmanager
    def alone(self, *files: Path) -> Iterator[None]:
        """Hold all that is made of the result tables, and further files that are made of it (the report), for
        this process; whoever else wants it waits."""
        results, *others = (self.folder / name for name in (*TABLES, *PICTURES))
        with alone(results, *others, *files):
            yield

    def cache(self, seed: int) -> Cache:
        """The cache that the methods were trained on with this seed.

        Raises:
            InputError: it is gone, or another one lies there now.
        """
        path, known = self.folder / self.record["caches"][str(seed)], self.record["identities"][str(seed)]
        if not path.is_dir():
            raise InputError(
                f"{self.folder}: its cache of seed {seed} is not at {path}; move the run and the cache "
                f'together, or mend "caches" in {self.folder / "run.json"}, which is relative to the run'
            )
        cache = Cache(path)
        found = {**known, **cache.contents}
        if found != known:
            raise InputError(
                f"cache {cache.path}: has changed since the comparison in {self.folder} was made: "
                f"{difference(known, found)}"
            )
        return cache

    @cached_property
    def results(self) -> pd.DataFrame:
        """All result tables joined."""
        return read_results(self.folder / "results.parquet")

    def table(self, name: str) -> pd.DataFrame | None:
        """``summary``, ``areas``, ``training``, ``learning`` or ``claims``; None where the run has none.

        Raises:
            InputError: it cannot be read.
        """
        file = self.folder / f"{name}.csv"
        if not file.is_file() or file.read_bytes() == b"\n":  # of a table without rows
            return None
        try:
            table = read_table(file)
            missing = _COLUMNS[name] - set(table)
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: cannot be read ({error}); {_SUM_UP_AGAIN}") from error
        if missing:
            raise InputError(f"{file}: no column {', '.join(sorted(missing))}; {_SUM_UP_AGAIN}")
        return table


def read_record(folder: Path) -> dict[str, Any]:
    """A run's ``run.json``.

    Raises:
        InputError: there is none, it cannot be read, or another version wrote it.
    """
    file = folder / "run.json"
    try:
        record = json.loads(file.read_text())
        found, by = record["format"], record["version"]
    except FileNotFoundError:
        raise InputError(
            f"{folder}: holds no comparison (no run.json); video-env compare and demo make one"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: cannot be read as a comparison's record ({error!r})") from error
    if found != FORMAT:
        raise InputError(
            f"{folder}: written by video-env {by} in format {found}; the installed one reads {FORMAT}: "
            "open it with the one that wrote it, or compare anew in another folder"
        )
    for name, kind in _MEMBERS.items():
        if not isinstance(record.get(name), kind):
            raise InputError(
                f"{file}: cannot be read as a comparison's record ({name}: expected {kind.__name__}, found "
                f"{record.get(name)!r})"
            )
    for name in record["methods"]:
        plain_name(name, file, "methods")  # files are called after them
    for name in ("caches", "identities"):
        kind = str if name == "caches" else dict
        for seed, value in record[name].items():
            if not re.fullmatch("0|[1-9][0-9]{0,8}", seed) or not isinstance(value, kind):
                raise InputError(
                    f"{file}: {name}: found {seed!r}: {value!r}, expected a {kind.__name__} for each seed"
                )
    for number, machine in enumerate(record["machines"]):
        if not isinstance(machine, dict):
            raise InputError(f"{file}: machines: found {machine!r} as number {number}, expected its facts")
    if set(record["caches"]) != set(record["identities"]):
        raise InputError(f"{file}: caches and identities: expected the same seeds in both")
    return dict(record)


def require_no_links(folder: Path) -> None:
    """Raise InputError where a link, which may lead anywhere, stands in a folder of agents, results or logs.
    The run's own folder may be one, and so may a seed's cache; a picture or table that is one is replaced."""
    for seed in folder.glob("seed-*"):
        for top in map(seed.joinpath, ("results", "agents", "logs")):
            below = (Path(path, name) for path, *names in os.walk(top) for name in itertools.chain(*names))
            for path in itertools.chain((seed, top), below):
                if path.is_symlink():
                    raise InputError(f"{path}: is a link, and nothing is written through it; delete it")


_COLUMNS = {
    "summary": {
        "method", "title", "family", "seeds", "top1", "gflops", "frames", "videos_per_second", "top1_train",
        "train_test_gap",
    },
    "areas": {"method", "title", "family", "area", "gflops_low", "gflops_high"},
    "training": {"method", "title", "family", "seed", "training_seconds"},
    "learning": {"method", "title", "family", "seed", "seconds", "validation"},
    "claims": {
        "claim", "measure", "setting", "value", "low", "high", "unit", "verdict", "decides", "claim_verdict",
    },
}  # fmt: skip

_SUM_UP_AGAIN = (
    "the command that made the run sums it up again (it is in run.json, and nothing is done twice)"
)

_MEMBERS = {
    "split": str, "title": str, "caches": dict, "identities": dict, "methods": dict, "commands": list,
    "machines": list, "packages": dict,
}  # fmt: skip


def claim(
    folder: Path,
    *,
    caches: dict[int, Cache],
    split: str,
    title: str | None = None,
    methods: dict[str, Any],
    fixed: Collection[str] | None = None,
    command: Sequence[str] | None = None,
) -> Run:
    """Begin a comparison in a folder, or go on with one of the same split and data; methods are added to
    those that it has.

    Args:
        folder: made where it is missing.
        caches: by seed; those of seeds that the run has already must be the same.
        split: that results are of.
        title: stands above the pictures; by default what it was, or the data set and the split.
        methods: by name, their settings as plain data that json can hold.
        fixed: those of the run's methods whose settings may not change, since results were made with them;
            by default all.
        command: the command line that asks for it, where there is one.

    Raises:
        InputError: the folder holds a comparison of another split or cache, one of these methods with other
            settings, a comparison that another version wrote, results without a record, or other files of
            the names that a comparison writes.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, expected a folder for the comparison")
    wanted = {
        "split": split,
        "identities": {str(seed): cache.contents for seed, cache in caches.items()},
        "methods": json.loads(json.dumps(methods)),
    }
    record: dict[str, Any] = {
        "format": FORMAT, "version": video_env.__version__, "split": split,
        "title": f"{data_name(next(iter(caches.values())))}, {split} split",
        "caches": {}, "identities": {}, "methods": {}, "commands": [], "machines": [],
    }  # fmt: skip
    if (folder / "run.json").is_file():
        record = read_record(folder)
        if fixed is not None:
            record["methods"] = {
                name: own for name, own in record["methods"].items() if name in fixed or name not in methods
            }
        for name, value in wanted.items():
            # What is not asked for now may stay; what is must be as it was.
            found = _joined(value, record[name])
            asked = _joined(record[name], value)
            if found != asked:
                raise InputError(
                    f"{folder}: holds a comparison with other {_NAMES[name]}: {difference(found, asked)}; "
                    "choose another folder, or delete this one"
                )
    elif next(folder.glob("seed-*/results/*.parquet"), None) is not None:
        raise InputError(
            f"{folder}: holds results, but no run.json that says how they were made; choose another folder, "
            "or delete this one"
        )
    elif strange := [name for name in (*TABLES, *PICTURES, REPORT) if (folder / name).exists()]:
        raise InputError(
            f"{folder}: holds {', '.join(strange)}, which a comparison would overwrite, but no comparison; "
            "choose another folder"
        )
    paths = {str(seed): os.path.relpath(cache.path, folder.absolute()) for seed, cache in caches.items()}
    for name, value in (("caches", paths), *wanted.items()):
        record[name] = _joined(record[name], value)
    if title is not None:
        record["title"] = title
    if command is not None:
        line = shlex.join(["video-env", *command])
        record["commands"] = [*(before for before in record["commands"] if before != line), line]
    record["packages"] = {name: version(name) for name in PACKAGES}
    if (machine := machine_facts()) not in record["machines"]:
        record["machines"].append(machine)
    write_bytes(folder / "run.json", json.dumps(record, indent=1).encode())
    return Run(folder)


def data_name(cache: Cache) -> str:
    """The data set's name: that of the cache's folder, or of the next folder above that is not just called
    cache."""
    names = [cache.path.absolute().name, *(parent.name for parent in cache.path.absolute().parents)]
    return next((name for name in names if name and name not in ("cache", "caches", "data")), "data set")


def _joined(below: Any, above: Any) -> Any:
    """Records one over the other."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{name: _joined(below.get(name), value) for name, value in above.items()}}


_NAMES = {"split": "split", "identities": "caches", "methods": "settings"}


def machine_facts() -> dict[str, Any]:
    """Processor, cores, GPU and Python of the machine at hand."""
    import torch

    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
    }
