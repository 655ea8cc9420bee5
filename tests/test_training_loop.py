"""The training loop by itself, the log that it writes, and the files of agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from agents.common.agent_files import AgentRecord, read_agent, write_agent
from agents.common.training_log import TrainingLog
from tests.conftest import interrupt_after
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.models.optimise import cosine_schedule, descend
from video_env.models.training_loop import Report, TrainingLoop, is_finished


def line(record: dict[str, Any], *, epochs: int = 4, finish: bool = True) -> TrainingLoop:
    """A line that is fitted to drawn points, and then moved."""
    torch.manual_seed(0)
    network = nn.Linear(1, 1)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)

    def epoch(number: int) -> Report:
        points = torch.from_numpy(np.random.default_rng([7, number]).normal(size=(3, 5, 1))).float()
        return {"loss": descend(optimiser, ((network(x) - 2 * x).square().mean() for x in points))}

    def move() -> Report:
        assert not network.training
        with torch.no_grad():
            network.bias += 1
        return {"moved": 1.0}

    return TrainingLoop(
        "a line", network, optimiser, epochs, epoch, cosine_schedule(optimiser, epochs), record,
        finish=move if finish else None,
    )  # fmt: skip


def weights(loop: TrainingLoop) -> list[float]:
    return [float(parameter.detach()) for parameter in loop.modules.parameters()]


@pytest.mark.parametrize("saves", [1, 3, 4, 5])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    """After the first epoch, the third, the last, and what comes after it."""
    file, whole = tmp_path / "line.pt", line({})
    whole.run()
    interrupt_after(saves, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        line({"a": 1}).run(file)
    monkeypatch.undo()
    assert is_finished(file) == (saves == 5)
    logged: list[tuple[int, list[str]]] = []
    resumed = line({"a": 1})
    seconds = resumed.run(file, lambda done, report: logged.append((done, list(report))))
    assert weights(resumed) == weights(whole)
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
    every = [(1, ["loss"]), (2, ["loss"]), (3, ["loss"]), (4, ["loss"]), (4, ["moved"])]
    assert logged == every[saves:]
    assert is_finished(file)
    assert seconds >= resumed.history[-1]["seconds"] > 0
    again = line({"a": 1})
    assert again.run(file) == seconds
    assert weights(again) == weights(whole)


def test_other_settings_and_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "line.pt"
    line({"a": 1, "rates": (1, 2)}, finish=False).run(file)
    assert is_finished(file)
    line({"a": 1, "rates": [1, 2]}, finish=False).run(file)  # as JSON would give it back
    with pytest.raises(InputError, match=r"line\.pt: made with other settings: a 1 there, 2 asked for\. "):
        line({"a": 2, "rates": (1, 2)}).run(file)
    saved = torch.load(file, weights_only=True)
    torch.save({name: value for name, value in saved.items() if name != "finished"}, file)
    with pytest.raises(InputError, match="no entry finished; of another version, or damaged. Delete it"):
        line({"a": 1, "rates": (1, 2)}).run(file)
    torch.save({**saved, "optimiser": 3}, file)
    with pytest.raises(InputError, match="not a readable checkpoint of a training .*; delete it"):
        line({"a": 1, "rates": (1, 2)}).run(file)
    torch.save({**saved, "modules": {}}, file)
    with pytest.raises(InputError, match=r"line\.pt: 2 entries do not fit: missing weight; missing bias"):
        line({"a": 1, "rates": (1, 2)}).run(file)


def test_a_log_is_begun_anew_with_its_first_entry(tmp_path: Path) -> None:
    file = tmp_path / "progress.csv"
    file.write_text("of an earlier training")
    log = TrainingLog(tmp_path, "stage-1")
    assert file.read_text() == "of an earlier training"
    log(1, {"loss": 0.5})
    log(2, {"loss": 0.25, "validation": 1.0})
    table = pd.read_csv(file)
    assert table["stage-1/loss"].tolist() == [0.5, 0.25]
    assert table["stage-1/validation"].isna().tolist() == [True, False]
    TrainingLog(None, "stage-1")(1, {"loss": 0.5})


def test_an_agents_file_gives_back_its_record(tmp_path: Path) -> None:
    file = tmp_path / "agent.pt"
    record = AgentRecord(
        "Guesser", {"seed": 3}, "some data", {"num_candidates": 6}, {"skim": {"network": "small"}},
        {0: 1.5, 2: 2.5}, {2: [{"seconds": 2.5, "loss": 0.5}]}, {"network": {"bias": torch.zeros(2)}},
    )  # fmt: skip
    write_agent(file, record)
    found = read_agent(file, "Guesser", "network")
    assert torch.equal(found.parts.pop("network")["bias"], record.parts.pop("network")["bias"])
    assert found == record
    with pytest.raises(InputError, match="no entry budget, policy; of another version, or damaged"):
        read_agent(file, "Guesser", "network", "policy", "budget")


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """The seconds of a single stage under another name, no history, or one without its stage."""
    common = {"settings": {}, "trained_on": "some data", "shape": {}, "network": {}}
    torch.save({"agent": "OCSampler", **common, "training_seconds": 2.0, "epoch": 3}, tmp_path / "a.pt")
    first = read_agent(tmp_path / "a.pt", "OCSampler", "network")
    assert (first.seconds, first.history, first.sees) == ({0: 2.0}, {}, {})
    rows = [{"seconds": 1.0, "loss": 0.5}]
    torch.save({"agent": "AdaFocusV2", **common, "seconds": 1.0, "history": rows}, tmp_path / "b.pt")
    second = read_agent(tmp_path / "b.pt", "AdaFocusV2", "network")
    assert (second.seconds, second.history) == ({0: 1.0}, {0: rows})


def test_what_does_not_fit_a_cache_is_named(tmp_path: Path, cache: Cache) -> None:
    file = tmp_path / "agent.pt"
    record = AgentRecord("Guesser", {}, "some data", {"num_candidates": 9}, cache.sources("skim"))
    with pytest.raises(
        InputError, match=r"agent\.pt: does not fit cache .*: num_candidates 6 there, 9 asked"
    ):
        record.require_fits(file, cache, {"num_candidates": cache.num_candidates})
    record.require_fits(file, cache, {})
    other = AgentRecord("Guesser", {}, "some data", {}, {"skim": {"network": "small_skim"}})
    with pytest.raises(
        InputError, match=r"has skim made otherwise .*network elsewhere there, small_skim asked"
    ):
        other.require_fits(file, cache, {})
