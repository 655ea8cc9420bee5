"""The study in little: from videos to a report by every kind of method, and on where it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from agents.adafocus.settings import (
    AdaFocusSettings,
    ClassifierTraining,
    NetworkTraining,
    PolicyTraining,
    RandomPatchTraining,
)
from agents.adafocus_v2.settings import AdaFocusV2Settings
from agents.ocsampler.settings import OCSamplerSettings
from baselines.sb3 import SB3Settings
from compare.command_line.main import main
from compare.demonstration import FEWER, LEFT_OUT, SHOWN, DataSettings, study
from compare.run import Machine
from video_env.data.demo import DemoData
from video_env.errors import InputError
from video_env.evaluation import registry
from video_env.models.stopping import Length
from video_env.models.train_backbone import BackboneTraining, ImageTraining, SkimTraining
from video_env.models.train_recognizer import RecognizerTraining

QUICK = DataSettings(
    data=DemoData(train=40, validation=10, test=12),
    still_images=128,
    stills=ImageTraining(epochs=1),
    backbone=BackboneTraining(epochs=1, least_steps=1, batch_size=8),
    skim=SkimTraining(epochs=1, least_steps=1),
    recognizer=RecognizerTraining(hidden=16, epochs=1, least_steps=1),
)
METHODS = (
    "uniform", "oracle", "all-frames", "early-exit", "ocsampler", "ocsampler-budget", "ppo", "maskable-ppo", "adafocus",
    "adafocus-v2", "random-patch", "patch-oracle", "patch-ppo", "patch-sac", "patch-ppo-exit",
)  # fmt: skip


def quick_methods() -> object:
    """Settings of these methods with which everything runs and nothing is learned."""
    short: dict[str, bool | int | float | str] = {"batch_size": 32, "n_epochs": 1}
    changes: dict[str, dict[str, object]] = {
        "uniform": {"num_frames": (1, 2)},
        "oracle": {"num_frames": (1, 2)},
        "ocsampler": {"num_frames": (2,), "training": OCSamplerSettings(length=Length(epochs=1))},
        "ocsampler_budget": {
            "costs_of_all_frames": (0.5,),
            "training": OCSamplerSettings(length=Length(epochs=1)),
        },
        "ppo": {"num_frames": (2,), "training": SB3Settings(steps=256, num_envs=16, hyperparameters=short)},
        "maskable_ppo": {
            "costs_of_all_frames": (0.5,),
            "training": SB3Settings("maskable-ppo", steps=256, num_envs=16, hyperparameters=short),
        },
        "adafocus": {
            "patch_sizes": (24, 36),
            "training": AdaFocusSettings(
                networks=NetworkTraining(length=Length(epochs=1)),
                random_patches=RandomPatchTraining(Length(epochs=1)),
                policy=PolicyTraining(Length(epochs=1), hidden=16),
                fine_tuning=ClassifierTraining(Length(epochs=1)),
            ),
        },
        "adafocus_v2": {"patch_sizes": (36,), "training": AdaFocusV2Settings(length=Length(epochs=1))},
        "random_patch": {"patch_sizes": (24, 36)},
        "patch_oracle": {"patch_sizes": (36,)},
        "patch_ppo": {
            "training": SB3Settings("ppo", "PatchSelect-v0", steps=192, num_envs=8, hyperparameters=short)
        },
        "patch_sac": {
            "training": SB3Settings(
                "sac",
                "PatchSelectContinuous-v0",
                steps=200,
                num_envs=8,
                hyperparameters={"learning_starts": 80},
            )
        },
        "patch_ppo_exit": {
            "costs_of_all_frames": (0.5,),
            "training": SB3Settings(
                "ppo", "PatchSelect-v0", allow_exit=True, steps=96, num_envs=8, hyperparameters=short
            ),
        },
    }
    defaults = registry.settings_type(registry.find(METHODS))()
    return replace(
        defaults, **{name: replace(getattr(defaults, name), **change) for name, change in changes.items()}
    )


def test_demo_does_the_whole_job_and_picks_up_where_it_was(tmp_path: Path) -> None:
    registry.load()
    options = {"methods": METHODS, "method_settings": quick_methods(), "seeds": 2, "machine": Machine(jobs=1)}
    summary = study(tmp_path, QUICK, **options).table("summary")
    assert summary is not None
    assert summary["seeds"].eq(2).all()
    assert {
        "uniform", "oracle", "all-frames", "early-exit", "ocsampler", "ocsampler-budget", "ppo", "maskable-ppo",
        "adafocus", "adafocus-stage-2", "adafocus-v2", "random-patch", "patch-oracle", "patch-ppo",
        "patch-ppo-exit", "patch-sac", "adafocus-v2-exit",
    } == set(summary["method"])  # fmt: skip
    for name in ("curve.png", "selections.png", "patches.png", "patch-curve.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 10
    assert (tmp_path / "report.html").stat().st_size > 50_000
    assert pd.read_csv(tmp_path / "claims.csv")["claim"].nunique() == 6
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")
              if path.is_file() and path.suffix in (".mp4", ".npy", ".safetensors", ".pt", ".zip", ".parquet")}  # fmt: skip
    (tmp_path / "seed-1" / "results" / "ocsampler.parquet").unlink()
    again = study(tmp_path, QUICK, **options).table("summary")
    assert again is not None
    assert again["top1"].tolist() == summary["top1"].tolist()
    redone = {path.name for path, moment in before.items() if path.stat().st_mtime_ns != moment}
    # AdaFocus's agent is written anew, with the same content, when its trainings are looked through.
    assert redone <= {"ocsampler.parquet", "results.parquet"}
    with pytest.raises(InputError, match="holds a run with other settings"):
        study(tmp_path, replace(QUICK, still_images=64), **options)


def test_contact_sheet(tmp_path: Path) -> None:
    assert main(["study", "--show-data", "--out", str(tmp_path)]) == 0
    assert Image.open(tmp_path / "data.png").size == (12 * 96, 10 * 96)


def test_the_lists_of_methods_name_methods() -> None:
    registry.load()
    assert {*SHOWN, *FEWER, *LEFT_OUT} <= set(registry.methods())
    assert set(FEWER) <= set(SHOWN)
