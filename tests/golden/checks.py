"""The published systems' golden cases, on any device: how far ours are from what was recorded.

Each check gives a deviation by the output's name. They are computed in float32: on a GPU, turn TF32 off
(``float32_alone``), which keeps ten bits of a number only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from agents.adafocus.patch_policy import PatchPolicy
from agents.adafocus.patch_ppo import PPOCoefficients, Rollout, ppo_loss
from agents.adafocus.released import ReleasedAdaFocus
from agents.adafocus_v2.loss import training_loss
from agents.adafocus_v2.network import AdaFocusV2Network
from agents.adafocus_v2.settings import Ingredients
from agents.ocsampler.released import ReleasedOCSampler
from agents.ocsampler.set_probability import log_set_probability
from agents.ocsampler.training import policy_gradient_loss
from agents.released import load_released
from tests import golden
from video_env.cache.derive import cache_from_arrays
from video_env.envs.rewards import Choice, quality
from video_env.models.conditional_exit import (
    CRITERIA,
    confidences,
    exit_after,
    exit_shares,
    solve_thresholds,
)
from video_env.models.recognizers import store_recognizer
from video_env.models.verdicts import Verdicts, subset_bits

OCSAMPLER, ADAFOCUS, UPDATE = "ocsampler_10to6", "adafocus_v1_p128", "adafocus_v1_ppo_update"
ADAFOCUS_V2, EXIT = "adafocus_v2_mbv2_p96", "adafocus_v2_exit"


class Deviation(NamedTuple):
    """How far an output is from the recorded one, as a share of the recorded scale (its largest absolute
    value) or, where it must be exact, as the number of values that differ; and how far it may be."""

    found: float
    allowed: float = 1e-3

    @property
    def within(self) -> bool:
        return self.found <= self.allowed  # never of a NaN


Deviations = dict[str, Deviation]


def deviation(ours: Any, recorded: Any, allowed: float = 1e-3) -> Deviation:
    """Of an array or a tensor on any device."""
    found, known = _array(ours), np.asarray(recorded)
    if found.shape != known.shape:
        return Deviation(float("inf"), allowed)
    return Deviation(float(np.abs(found - known).max() / np.abs(known).max()), allowed)


def differing(ours: Any, recorded: Any) -> Deviation:
    """Of values that must be exactly those recorded."""
    found, known = _array(ours), np.asarray(recorded)
    return Deviation(float((found != known).sum()) if found.shape == known.shape else float("inf"), 0.0)


def require(deviations: Deviations) -> None:
    """Raise AssertionError unless all are within what is allowed; the message lists the others."""
    beyond = {name: one for name, one in deviations.items() if not one.within}
    assert deviations
    assert not beyond, beyond


@contextmanager
def float32_alone() -> Iterator[None]:
    """No TF32 inside: a GPU's convolutions round to it by default."""
    own = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [backend.allow_tf32 for backend in own]
    try:
        for backend in own:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, allowed in zip(own, before, strict=True):
            backend.allow_tf32 = allowed


def frames_of(case: str) -> torch.Tensor:
    """The case's input, float32 [B, T, 3, 224, 224]."""
    facts = golden.read(case)[0]
    return golden.video(facts["video_seed"], tuple(facts["video_shape"])).view(2, -1, 3, 224, 224)


def ocsampler_state() -> dict[str, torch.Tensor]:
    """The checkpoint that the OCSampler was recorded with."""
    state, scale = golden.state_dict(OCSAMPLER), golden.read(OCSAMPLER)[0]["config"]["head_scale"]
    for name in ("cls_head.fc.weight", "cls_head.fc.bias"):
        state[name] = state[name] * scale
    return state


def ocsampler_network() -> ReleasedOCSampler:
    return load_released("ocsampler", ocsampler_state(), num_frames=6, shift_div=10)  # type: ignore[return-value]


def adafocus_network() -> ReleasedAdaFocus:
    return load_released("adafocus", golden.state_dict(ADAFOCUS), patch_size=128)  # type: ignore[return-value]


def adafocus_v2_network() -> AdaFocusV2Network:
    return load_released("adafocus-v2", golden.state_dict(ADAFOCUS_V2), patch_size=96)  # type: ignore[return-value]


@torch.no_grad()
def ocsampler_choice_and_scores(network: ReleasedOCSampler, frames: torch.Tensor) -> Deviations:
    """Network in evaluation mode, and frames, on one device; so too below."""
    recorded, output = golden.read(OCSAMPLER)[1], network(frames)
    return {
        "frames": differing(output.frames, recorded["test_indices"]),
        "frame_probs": deviation(output.frame_probs, recorded["frame_probs"]),
        "scores": deviation(output.scores, recorded["test_scores"]),
    }


def ocsampler_loss_and_gradient(network: ReleasedOCSampler, frames: torch.Tensor, folder: Path) -> Deviations:
    """The agent's own rewards, on a cache (made in the folder) with the golden embeddings, and its own
    loss."""
    facts, recorded = golden.read(OCSAMPLER)
    config = facts["config"]
    with torch.no_grad():
        embedding = network.embedding.look(frames).cpu().numpy()
    index = pd.DataFrame({"video": ["a", "b"], "label": recorded["labels"], "split": "train"})
    classes = [str(number) for number in range(config["num_classes"])]
    cache = cache_from_arrays(folder / "cache", index, {"embedding": embedding}, classes, {"embedding": 4.1})
    cache = store_recognizer(cache, network.recognizer, network.recognizer.gflops())
    verdicts, videos = Verdicts(cache, cache.rows("train")), np.arange(2)

    def score(chosen: np.ndarray) -> np.ndarray:
        mask = np.zeros((2, config["num_candidates"]), np.int8)
        np.put_along_axis(mask, chosen, 1, axis=1)
        choice = Choice(verdicts, videos, mask, mask @ subset_bits(config["num_candidates"]))
        return quality("largest_probability")(choice)

    sampled, baseline = score(recorded["sampled"]), score(recorded["baseline"])
    network.zero_grad()
    log_probabilities = network.log_probabilities(frames)
    chosen = torch.from_numpy(recorded["sampled"]).to(frames.device)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=-1)
    gain = torch.from_numpy(sampled - baseline).to(log_probabilities)
    loss = policy_gradient_loss(log_probabilities, chosen, gain) - config["entropy_coef"] * entropy.mean()
    loss.backward()
    probability = log_set_probability(log_probabilities, chosen).exp().mean()
    return {
        "sampled_score": deviation(sampled.mean(), recorded["sampled_score"]),
        "baseline_score": deviation(baseline.mean(), recorded["baseline_score"]),
        "reward": deviation((sampled - baseline).mean(), recorded["reward"]),
        "set_prob_mean": deviation(probability, recorded["set_prob_mean"]),
        "entropy_times_rate": deviation(config["entropy_coef"] * entropy, recorded["entropy_times_rate"]),
        "loss": deviation(loss, recorded["loss"]),
        "grad_logit_weight": deviation(network.policy.score.weight.grad, recorded["grad_logit_weight"]),
    }


@torch.no_grad()
def adafocus_positions_and_scores(network: ReleasedAdaFocus, frames: torch.Tensor) -> Deviations:
    """In one pass, and the environment's way, frame by frame."""
    recorded, output = golden.read(ADAFOCUS)[1], network(frames)
    chosen = (output.points @ torch.tensor([42.0, 6.0], device=frames.device)).round().long()
    features = network.focus.look(network._patches(frames, chosen))
    classifier, hidden, stepwise = network.classifier, torch.zeros(2, 1024, device=frames.device), []
    for frame in range(16):
        inputs = classifier.glance_input(output.glance_features[:, frame])
        inputs = inputs + classifier.patch_input(features[:, frame])
        hidden = classifier.step(hidden, inputs[:, None])[:, 0]
        stepwise.append(classifier.scores(hidden))
    return {
        "positions": deviation(output.points, recorded["actions"], 1e-6),
        "glance_features": deviation(output.glance_features, recorded["global_features"]),
        "logits": deviation(output.logits, recorded["logits"]),
        "logits, frame by frame": deviation(torch.stack(stepwise, dim=1), recorded["logits"]),
        "stage3_logits": deviation(output.logits, recorded["stage3_logits"]),
        "video_logits": deviation(output.logits[:, -1], recorded["video_logits"]),
    }


def adafocus_ppo_update(device: torch.device) -> Deviations:
    """Loss, gradients and one step of Adam."""
    facts, recorded = golden.read(UPDATE)
    config, initial = facts["config"], golden.state_dict(UPDATE)
    policy = PatchPolicy(
        config["state_channels"], config["state_size"] ** 2, config["num_positions"], hidden=config["hidden"]
    )
    policy.load_state_dict({_own_name(name): value for name, value in initial.items()})
    policy.to(device)
    maps, actions, behaviour, rewards = (
        torch.from_numpy(recorded[name]).to(device)
        for name in ("states", "actions", "behaviour_logprobs", "rewards")
    )
    log_probabilities, values, _ = policy(maps)
    taken = log_probabilities.gather(-1, actions[..., None])[..., 0]
    found = {
        "logprobs": deviation(taken, recorded["logprobs"]),
        "values": deviation(values, recorded["values"]),
        "entropy": deviation(-(log_probabilities.exp() * log_probabilities).sum(-1), recorded["entropy"]),
    }
    coefficients = PPOCoefficients(
        config["gamma"], config["clip"], config["value_coef"], config["entropy_coef"]
    )
    optimiser = torch.optim.Adam(policy.parameters(), lr=config["lr"], betas=tuple(config["adam_betas"]))
    loss, _ = ppo_loss(policy, maps, Rollout(actions, behaviour, rewards, 0.0), coefficients)
    loss.backward()
    optimiser.step()
    for name, before in initial.items():
        parameter, after = policy.get_parameter(_own_name(name)), recorded[f"after/{name}"]
        found[f"grad/{name}"] = deviation(parameter.grad, recorded[f"grad/{name}"])
        found[f"after/{name}"] = deviation(parameter, after)
        # Of how far the step moved it, which is little beside its scale.
        moved = np.abs(after - before.numpy()).max()
        found[f"step/{name}"] = Deviation(float(np.abs(_array(parameter) - after).max() / moved), 0.05)
    return found


@torch.no_grad()
def adafocus_v2_positions_and_scores(network: AdaFocusV2Network, frames: torch.Tensor) -> Deviations:
    recorded, output = golden.read(ADAFOCUS_V2)[1], network(frames)
    return {
        "positions": deviation(output.points.flatten(0, 1), recorded["actions"]),
        "logits": deviation(output.logits.flatten(0, 1), recorded["logits"]),
        "video_logits": deviation(output.logits[:, -1], recorded["video_logits"]),
        "glance_logits": deviation(output.glance_logits.flatten(0, 1), recorded["global_logits"]),
        "focus_logits": deviation(output.focus_logits.flatten(0, 1), recorded["local_logits"]),
    }


def adafocus_v2_loss_and_gradients(network: AdaFocusV2Network, frames: torch.Tensor) -> Deviations:
    """In training mode, which it leaves the network in, without dropout."""
    recorded = golden.read(ADAFOCUS_V2)[1]
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    targets = F.one_hot(torch.as_tensor(recorded["labels"]), 200).float().to(frames.device)
    drawn = torch.as_tensor(recorded["random_actions"]).view(2, 16, 2).to(frames.device)
    loss = training_loss(network, frames, targets, drawn, Ingredients())
    loss.backward()

    def norm(module: nn.Module) -> float:
        return float(torch.stack([parameter.grad.norm() for parameter in module.parameters()]).norm())  # type: ignore[union-attr]

    parts = {"global_cnn": network.glance, "global_fc": network.glance_head, "local_cnn": network.focus,
             "local_fc": network.focus_head, "classifier": network.classifier}  # fmt: skip
    # Through 50 layers without trained weights the policy's gradient is a matter of rounding: grid_sample in
    # place of our patches gives 7074 with two threads, 7232 with one, 8324 without oneDNN, and 8637 in float64
    # (as do our patches, to 12 digits); recorded is 7398. test_cut_patches.py checks the gradient sharply.
    # For the two networks themselves float64 is 0.73% and 0.32% from what was recorded in float32, and float32 on
    # another processor up to 0.13%: their norms cannot be held to 0.1% everywhere.
    networks = ("global_cnn", "local_cnn")
    return {
        "loss": deviation(loss, recorded["loss"]),
        **{
            f"grad_norm_{name}": deviation(
                norm(part), recorded[f"grad_norm_{name}"], *((0.01,) if name in networks else ())
            )
            for name, part in parts.items()
        },
        "grad_norm_policy": deviation(norm(network.policy), recorded["grad_norm_policy"], 0.25),
    }  # fmt: skip


def adafocus_v2_exits() -> Deviations:
    """How many videos leave after each frame, with thresholds solved for every budget. NumPy, whatever the
    device."""
    recorded, found = golden.read(EXIT)[1], {}
    for criterion in CRITERIA:
        known, unseen = (confidences(recorded[name], criterion) for name in ("train_logits", "val_logits"))
        counts = [
            np.bincount(exit_after(unseen, solve_thresholds(known, exit_shares(ratio, 16))), minlength=17)[1:]
            for ratio in np.asarray(recorded["ratios"])
        ]
        found[f"{criterion}: exits"] = differing(np.stack(counts), recorded[f"{criterion}/exits"])
    return found


def cases(device: torch.device, folder: Path) -> dict[str, Callable[[], Deviations]]:
    """Every check on a device, by name; what it needs is built when it is called.

    Args:
        device: where the networks run.
        folder: an empty one, for a small cache.
    """

    def on_device(
        check: Callable[..., Deviations], build: Callable[[], nn.Module], case: str, *more: Any
    ) -> Any:
        return lambda: check(build().to(device), frames_of(case).to(device), *more)

    return {
        "OCSampler: choice and scores": on_device(
            ocsampler_choice_and_scores, ocsampler_network, OCSAMPLER
        ),
        "OCSampler: loss and gradient": on_device(
            ocsampler_loss_and_gradient, ocsampler_network, OCSAMPLER, folder
        ),
        "AdaFocus: positions and scores": on_device(
            adafocus_positions_and_scores, adafocus_network, ADAFOCUS
        ),
        "AdaFocus: PPO update": lambda: adafocus_ppo_update(device),
        "AdaFocusV2: positions and scores": on_device(
            adafocus_v2_positions_and_scores, adafocus_v2_network, ADAFOCUS_V2
        ),
        "AdaFocusV2: loss and gradients": on_device(
            adafocus_v2_loss_and_gradients, adafocus_v2_network, ADAFOCUS_V2
        ),
        "AdaFocusV2: exits": adafocus_v2_exits,
    }  # fmt: skip


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _own_name(released: str) -> str:
    """Of the patch policy's entries."""
    names = {
        "state_encoder.0": "reduce",
        "state_encoder.3": "encode",
        "actor.0": "actor",
        "critic.0": "critic",
    }
    for theirs, ours in names.items():
        released = released.replace(theirs, ours)
    return released
