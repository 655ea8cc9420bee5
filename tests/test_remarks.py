"""The lines below a summary: each is said where it is true, and only there."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from compare.remarks import remarks
from compare.summary import write_summary
from tests.result_tables import table


def join(*tables: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)


GOOD = table("good", {"num_frames": 1}, 0.9, 1, seconds=5, train=0.99, title="Good")


def test_a_sound_comparison_needs_no_remark() -> None:
    training = pd.DataFrame({"method": ["good"], "title": ["Good"], "family": [""], "num_frames": [1],
                             "seed": [0], "ended": ["patience"]})  # fmt: skip
    assert remarks(join(GOOD, table("untrained", {}, 0.5, 1)), training) == []


def test_a_method_that_is_no_better_than_a_guess_is_said_seed_by_seed() -> None:
    """Half of the videos are of one class; of 400, an accuracy of 0.52 is within chance and 0.6 is not."""
    never = table("never", {"num_frames": 2}, 0.52, 1, seconds=5, title="Never")
    once = join(
        table("once", {}, 0.9, 1, seconds=5, seeds=2),
        table("once", {}, 0.5, 1, seconds=5, seeds=1).assign(seed=2),
    )
    found = remarks(join(GOOD, never, once, table("barely", {}, 0.6, 1, seconds=5)))
    assert len(found) == 2
    assert found[0].startswith("Never, N = 2: no better than a guess: top-1 0.520 (0.4")
    assert found[0].endswith(", always the most frequent class has 0.500")
    assert found[1].startswith("once: no better than a guess in seed 2: top-1 0.500 (0.4")


def test_a_training_whose_validation_never_left_chance_is_said() -> None:
    learning = pd.DataFrame({"method": "good", "title": "Good", "family": "", "num_frames": 1, "seed": [0, 0, 1],
                             "seconds": [1.0, 2.0, 1.0], "validation": [0.4, 0.5, 0.6]})  # fmt: skip
    (line,) = remarks(GOOD, learning=learning)
    assert line.startswith("Good, N = 1: no better than a guess in seed 0: top-1 0.900 (at most 0.500 on")


@pytest.mark.parametrize(
    ("setting", "patches", "said"),
    [
        ({"cost_of_all_frames": 3.0}, False, "(all frames together cost 3, and a right answer is worth 1)"),
        ({"cost_per_gflop": 0.5}, False, "(all frames together cost 6, and a right answer is worth 1)"),
        ({"cost_per_gflop": 0.5}, True, "its λ is too high"),
        ({"num_frames": 2}, False, "takes no frame in 75% of the videos"),
    ],
)
def test_a_policy_that_takes_no_frame_is_said(setting: dict[str, float], patches: bool, said: str) -> None:
    idle = table("idle", setting, 0.8, 1, seconds=5)
    idle["frames"] = [0, 0, 0, 2] * 300
    if patches:
        idle["exit_after"] = idle["frames"]
    (line,) = remarks(idle)
    assert ": takes no frame in 75% of the videos" in line
    assert line.endswith(said)
    idle["frames"] = [0, 2] * 600
    assert remarks(idle) == []
    few = idle.assign(frames=[1] * 40 + [0] * 1160)
    assert "in 97% of the videos" in remarks(few)[0]


def test_a_large_gap_is_said_and_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learned = table(
        "learned", {"num_frames": 2}, 0.75, 1, seconds=5, train=0.99, own_gap=0.08, title="By heart"
    )
    summary = write_summary(join(GOOD, learned), tmp_path)
    printed = capsys.readouterr().out
    assert (
        "\nBy heart, N = 2: a gap of 24 points between training videos (0.990) and the test split (0.750); "
        "the recognizer on all frames has 8\n" in printed
    )
    assert printed.count("a gap of") == 1
    assert "0.990 +0.240 !" in printed
    assert "0.990   +0.090" in printed
    assert summary.set_index("method")["train_test_gap"].to_dict() == pytest.approx(
        {"good": 0.09, "learned": 0.24}
    )


def test_a_training_that_its_limit_ended_is_said_where_it_still_improved() -> None:
    """The best of the looks of seed 0 is the last one, that of seed 1 the second of four. Nothing is said where
    nothing is known."""
    named = {"method": "good", "title": "Good", "family": "", "num_frames": 1}
    training = pd.DataFrame({**named, "seed": [0, 1, 2], "ended": ["limit", "limit", "patience"]})
    looks = [(0, 1, 0.7), (0, 2, 0.8), (1, 1, 0.7), (1, 2, 0.9), (1, 3, 0.8), (1, 4, 0.8), (2, 1, 0.9)]
    learning = pd.DataFrame(
        [{**named, "seed": seed, "seconds": seconds, "validation": top1} for seed, seconds, top1 in looks]
    )
    said = "Good, N = 1: its training ended at its limit while it still improved on validation"
    assert remarks(GOOD, training, learning) == [f"{said} in seed 0"]
    assert remarks(GOOD, training) == []
    late = learning.assign(validation=0.7 + learning["seconds"] / 20)
    assert remarks(GOOD, training, late) == [f"{said} in seeds 0, 1"]
    # The score decides where there is one: it also counts what the method pays for.
    assert remarks(GOOD, training, learning.assign(score=-learning["seconds"])) == []


def test_seeds_that_differ_are_said() -> None:
    fewer = [table("fewer", {"num_frames": count}, 0.9, 1, seeds=2) for count in (1, 2)]
    mixed = [table("mixed", {"num_frames": count}, 0.9, 1, seeds=count) for count in (1, 3)]
    assert remarks(join(GOOD, GOOD.assign(method="other"), *fewer, *mixed)) == [
        "not all have the same seeds: most have 0, 1, 2, but fewer: 0, 1; mixed, N = 1: 0"
    ]
