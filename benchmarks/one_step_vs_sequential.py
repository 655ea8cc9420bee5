"""One decision for all frames beside one decision per frame: OCSampler and MaskablePPO on one cache.

python benchmarks/one_step_vs_sequential.py runs/study/seed-0

From decoded frames in memory to the class scores: skim network, policy, the recognizer's backbone on the
chosen frames, consensus. OCSampler runs its policy once and the backbone on all chosen frames together;
MaskablePPO decides frame by frame, and is measured both as it acts (each frame is processed when it is
chosen) and at its best (all its decisions first, then the chosen frames together, as its observations
allow here).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from report import alternating_seconds, median_ratio, write_report

from baselines.sb3 import SB3Policy
from video_env.cache.store import Cache
from video_env.evaluation import registry
from video_env.evaluation.agent_kinds import AGENT_KINDS
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.protocols import Policy
from video_env.models.device import resolve_device
from video_env.models.recognizers import load_recognizer
from video_env.models.redraw import encoders_of


class Recognition:
    """The networks of a cache at work on the frames of its test videos."""

    def __init__(self, cache: Cache, rows: np.ndarray) -> None:
        self.device = resolve_device("auto")
        encoders = encoders_of(cache)
        self.skim, self.backbone = encoders["skim"].network, encoders["embedding"].network
        self.recognizer = load_recognizer(cache, self.device)
        self.rows, self.frames = rows, torch.from_numpy(cache["frames"][rows]).to(self.device)

    def look(self, video: np.ndarray) -> np.ndarray:
        """Skim features [B, T, D]."""
        return self.skim(self.frames[video]).cpu().numpy()

    def embed(self, video: np.ndarray, frame: np.ndarray) -> torch.Tensor:
        """Features of one frame of each of these videos [M, D]."""
        return self.backbone(self.frames[video, frame])

    def scores(self, embedding: torch.Tensor, chosen: np.ndarray) -> torch.Tensor:
        """Class scores, from the features of the chosen frames, in the order of ``chosen.nonzero()``."""
        mask = torch.from_numpy(chosen).to(self.device)
        spread = embedding.new_zeros(*chosen.shape, embedding.shape[-1])
        spread[mask] = embedding
        return self.recognizer(spread, mask)

    def all_at_once(self, video: np.ndarray, chosen: np.ndarray) -> torch.Tensor:
        which, frame = chosen.nonzero()
        return self.scores(self.embed(video[which], frame), chosen)

    def one_step(self, policy: Policy, num_frames: int, video: np.ndarray) -> torch.Tensor:
        action, _ = policy.predict({"features": self.look(video)})
        chosen = np.zeros(action.shape, bool)
        np.put_along_axis(chosen, np.argsort(-action, axis=1)[:, :num_frames], True, axis=1)
        return self.all_at_once(video, chosen)

    def sequential(self, policy: SB3Policy, video: np.ndarray, *, process_at_once: bool) -> torch.Tensor:
        self.look(video)  # the policy holds the same features in its table
        count, num_candidates = len(video), self.frames.shape[1]
        chosen = np.zeros((count, num_candidates), bool)
        kept: dict[tuple[int, int], torch.Tensor] = {}
        going = np.arange(count)
        while going.size:
            observation = {"video": self.rows[video[going], None], "selected": chosen[going].astype(np.int8)}
            mask = np.concatenate([~chosen[going], np.ones((len(going), 1), bool)], axis=1)
            action = np.asarray(policy.predict(observation, action_masks=mask)[0])
            goes_on = action < num_candidates
            going, action = going[goes_on], action[goes_on]
            chosen[going, action] = True
            if process_at_once and going.size:
                features = self.embed(video[going], action)
                kept.update(zip(zip(going.tolist(), action.tolist(), strict=True), features, strict=True))
            going = going[~chosen[going].all(axis=1)]
        if not process_at_once:
            return self.all_at_once(video, chosen)
        ordered = [kept[pair] for pair in zip(*(axis.tolist() for axis in chosen.nonzero()), strict=True)]
        width = self.backbone.features
        return self.scores(torch.stack(ordered) if ordered else torch.empty(0, width), chosen)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path, help="folder of one seed of a demonstration")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    cache = Cache(options.run / "cache")
    registry.load()
    kinds, agents = AGENT_KINDS, options.run / "agents"
    entries = {
        "OCSampler": kinds["ocsampler"].entry(cache=cache, agent=agents / "ocsampler-2.pt"),
        "MaskablePPO": kinds["sb3"].entry(cache=cache, agent=agents / "maskable-ppo-0.5.zip"),
    }
    results: dict[str, float] = {}
    for entry in entries.values():
        table = evaluate(entry, cache, "test")
        results[f"{entry.label}: top-1"] = float(table["correct"].mean())
        results[f"{entry.label}: GFLOPs per video"] = float(table["gflops"].mean())
        results[f"{entry.label}: frames"] = float(table["frames"].mean())
    work = Recognition(cache, cache.rows("test"))
    one, many = entries["OCSampler"].policy, entries["MaskablePPO"].policy
    assert isinstance(many, SB3Policy)
    for batch, count in ((1, 64), (32, 320)):
        parts = np.arange(count).reshape(-1, batch)

        def over(run: Callable[[np.ndarray], torch.Tensor], parts: np.ndarray = parts) -> Callable[[], None]:
            def task() -> None:
                with torch.inference_mode():
                    for video in parts:
                        run(video).sum().item()

            return task

        seconds = alternating_seconds(
            {
                "OCSampler": over(lambda video: work.one_step(one, 2, video)),
                "MaskablePPO, as it acts": over(
                    lambda video: work.sequential(many, video, process_at_once=True)
                ),
                "MaskablePPO, at its best": over(
                    lambda video: work.sequential(many, video, process_at_once=False)
                ),
            },
            rounds=options.rounds,
        )
        for name, of_task in seconds.items():
            results[f"batch {batch}: {name}: videos per second"] = count / float(np.median(of_task))
        for name in ("as it acts", "at its best"):
            ratio = median_ratio(seconds[f"MaskablePPO, {name}"], seconds["OCSampler"])
            results[f"batch {batch}: OCSampler over MaskablePPO {name}: times faster"] = ratio
    write_report("one_step_vs_sequential", results)


if __name__ == "__main__":
    main()
