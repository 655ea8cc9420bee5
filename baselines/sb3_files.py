"""Saved models of Stable-Baselines3: a .zip of tensors, and beside it our record, from which the algorithm is
built anew.

Stable-Baselines3's own ``load`` runs code that is pickled in the .zip; nothing here does. Of the .zip only
the policy's tensors are read. The record is written last and holds the .zip's SHA-256, so that a model never
passes for one with another's settings, or half a file for a whole one.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from tqdm import tqdm

from baselines.sb3 import SB3Settings, build, make_environments
from baselines.sb3_training import SB3Training, train_sb3
from baselines.tuned import Tuned, tuned_from
from video_env.cache.store import Cache
from video_env.envs.costs import describe_relative_cost
from video_env.errors import InputError
from video_env.files import alone, sha256_of, write_bytes
from video_env.models.backbones import load_state
from video_env.models.optimise import seeded
from video_env.models.stopping import Ended
from video_env.models.tensors import read_tensors
from video_env.settings import difference

WEIGHTS = "policy.pth"
"""The member of the .zip that holds the policy's tensors."""

_SPARE = 1 << 20
"""Bytes that this member may have beside its tensors: names, alignment."""


@dataclass(frozen=True)
class SB3Record:
    """What stands beside a saved model, as .json.

    Attributes:
        sha256: of the .zip.
        settings: see ``SB3Settings``.
        tuned: what the algorithm was built with.
        shapes: of what it observes, and its ``actions`` (their number, or their shape in a list).
        trained_on: tells the data apart that it was trained on.
        sees: the sources of what it sees (``Cache.sources``).
        training_seconds: that its training took.
        history, ended: of its training, see ``SB3Training``.
    """

    sha256: str
    settings: SB3Settings
    tuned: Tuned
    shapes: dict[str, Any]
    trained_on: str
    sees: dict[str, dict[str, Any]]
    training_seconds: float
    history: list[dict[str, float]]
    ended: Ended


def save_sb3(training: SB3Training, settings: SB3Settings, file: Path, *, trained_on: str, sees: Any) -> None:
    """Write a model with Stable-Baselines3's ``save``, and then the record that makes it count.

    Args:
        training: with the settings; its model is written.
        settings: of the algorithm and its training.
        file: the .zip; the record goes beside it.
        trained_on, sees: see ``SB3Record``.
    """
    data, model = io.BytesIO(), training.model
    model.save(data)
    record = {
        "sha256": write_bytes(file, data.getvalue()),
        "settings": asdict(settings),
        "tuned": settings.tuned().record(),
        "shapes": _shapes(model.observation_space, model.action_space),
        "trained_on": trained_on,
        "sees": sees,
        "training_seconds": training.seconds,
        "history": training.history,
        "ended": training.ended,
    }
    write_bytes(file.with_suffix(".json"), json.dumps(record, indent=1).encode())


def train_to_file(cache: Cache, settings: SB3Settings, file: Path, *, device: str = "auto") -> None:
    """Train an algorithm to a .zip file, its record beside it as .json; what is done is kept.

    Raises:
        InputError: the file holds a model that was trained otherwise.
    """
    if settings.of_patches:
        trained_on = f"{cache.identity}, glance+patches {cache.fingerprint('glance', 'patches')}"
        sees = cache.sources("glance", "patches", "classifier.safetensors")
    else:
        trained_on, sees = f"{cache.identity}, skim {cache.content('skim')}", cache.sources("skim")
    with alone(file, file.with_suffix(".json")):
        if is_whole(file):
            found = read_sb3_record(file)
            different = difference(
                _training(found.settings, found.tuned, found.trained_on),
                _training(settings, settings.tuned(), trained_on),
            )
            if different:
                raise InputError(
                    f"{file}: holds an agent that was trained otherwise: {different}. Choose another file, "
                    "or delete this one"
                )
            return
        if file.exists():
            tqdm.write(f"{file}: unfinished, there is no record that belongs to it; it is trained anew")
        if (cost := settings.cost_of_all_frames) is not None:
            tqdm.write(f"{file}: {describe_relative_cost(cost, settings.all_frames_gflops(cache))}")
        training = train_sb3(cache, settings, device=device, log_folder=file.with_suffix(""))
        save_sb3(training, settings, file, trained_on=trained_on, sees=sees)


def _training(settings: SB3Settings, tuned: Tuned, trained_on: str) -> dict[str, Any]:
    return {"settings": asdict(settings), "tuned": tuned.record(), "trained_on": trained_on}


def is_whole(file: Path) -> bool:
    """Whether a .zip is there with the record that belongs to it, whatever else that says."""
    try:
        return bool(json.loads(file.with_suffix(".json").read_text())["sha256"] == sha256_of(file))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_sb3_record(file: Path) -> SB3Record:
    """The record beside a saved model.

    Args:
        file: the .zip.

    Raises:
        InputError: there is none, it cannot be read, or it belongs to another .zip.
    """
    beside = file.with_suffix(".json")
    if not file.is_file():
        raise InputError(f"model {file}: no such file")
    try:
        found = json.loads(beside.read_text())
        missing = [name for name in SB3Record.__dataclass_fields__ if name not in found]
    except FileNotFoundError:
        raise InputError(
            f"{beside}: no such file; expected the record that save_sb3 writes beside a model. Another model "
            "is evaluated in Python, as SB3Policy(model)",
            needs="sb3-record",
        ) from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{beside}: expected the settings of the agent beside it ({error})") from error
    if missing:
        raise InputError(
            f"{beside}: has no {', '.join(missing)}; of another version, or damaged. Delete it and the agent "
            "beside it to train again"
        )
    try:
        settings = SB3Settings(**found["settings"])
        tuned = tuned_from(found["tuned"])
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{beside}: settings of another version ({error})") from error
    if found["sha256"] != (own := sha256_of(file)):
        raise InputError(
            f"model {file}: its SHA-256 is {own[:12]}…, {beside} is the record of one with "
            f"{str(found['sha256'])[:12]}…; it is damaged, another one, or its training was interrupted: the "
            "command that trained it trains it anew"
        )
    return SB3Record(**{**found, "settings": settings, "tuned": tuned})


def require_fits(file: Path, record: SB3Record, cache: Cache) -> None:
    """Raise InputError unless the model observes what a cache gives, made by the networks that it was trained
    on, and its actions are those there.

    Args:
        file: the model.
        record: beside it.
        cache: what it will act on.

    Raises:
        InputError: see above.
        CacheError: the cache lacks an array that the model observes.
    """
    environment = make_environments(cache, record.settings, _any_split(cache), 1)
    found = _shapes(environment.observation_space, environment.action_space)
    if different := difference(found, record.shapes):
        raise InputError(
            f"model {file}: does not fit cache {cache.path} in what it observes or does: {different}"
        )
    cache.require_sources(record.sees, of=f"model {file}")


def load_sb3(
    settings: SB3Settings, path: Path, cache: Cache, device: str = "auto", *, tuned: Tuned | None = None
) -> BaseAlgorithm:
    """Build the algorithm anew and read the policy's tensors of a saved model; its features come from this
    cache. To train it further, or for models of other programs, there is Stable-Baselines3's own ``load``,
    which runs what is pickled in the file: for files that you trust.

    Args:
        settings: that it was trained with.
        path: what Stable-Baselines3's ``save`` wrote.
        cache: that it will act on.
        device: where it runs.
        tuned: what it was built with, if that is not what the settings say now.

    Raises:
        InputError: the file is missing, no such model, or trained on a cache of another shape.
    """
    with seeded(settings.seed):  # so that reading a file does not change what is drawn after
        environment = make_environments(cache, settings, _any_split(cache), 1)
        model = build(cache, settings, tuned or settings.tuned(), device, environment, to_train=False)
    state = _tensors(path, model.policy)
    load_state(model.policy, state, where=f"model {path} as {settings.algorithm} for cache {cache.path}")
    model.policy.set_training_mode(False)
    if model.use_sde:
        model.policy.reset_noise()  # type: ignore[operator]  # drawn for the weights that are there now
    return model


def _tensors(path: Path, policy: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The policy's tensors in a .zip; nothing is extracted, and no more is read than they can take."""
    if not path.is_file():
        raise InputError(f"model {path}: no such file")
    most = 2 * sum(tensor.nbytes for tensor in policy.state_dict().values()) + _SPARE
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename == WEIGHTS]
            if len(members) != 1:
                raise InputError(f"model {path}: found {len(members)} members {WEIGHTS}, expected one")
            if members[0].file_size > most:
                raise InputError(
                    f"model {path}: {WEIGHTS} has {members[0].file_size:,} bytes, expected at most {most:,} "
                    "for such a policy"
                )
            data = archive.read(members[0])
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise InputError(f"model {path}: cannot be read as a .zip ({error})") from error
    state = read_tensors(io.BytesIO(data), what=f"model {path}, {WEIGHTS}")
    if not isinstance(state, dict) or not all(isinstance(each, torch.Tensor) for each in state.values()):
        raise InputError(f"model {path}, {WEIGHTS}: expected a dict of tensors by name")
    return state


def _shapes(observation: gym.Space[Any], action: gym.Space[Any]) -> dict[str, Any]:
    """By name, as json gives them back."""
    assert isinstance(observation, gym.spaces.Dict)
    seen = {name: list(space.shape or ()) for name, space in observation.spaces.items()}
    return {**seen, "actions": int(getattr(action, "n", 0)) or list(action.shape or ())}


def _any_split(cache: Cache) -> str:
    """One that the cache has: what is observed is the same in all."""
    return str(cache.index["split"].iloc[0])
