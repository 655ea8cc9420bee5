"""The published AdaFocus against its golden cases and the costs that the paper's models have."""

import numpy as np
import pytest
import torch

from agents.patch_policy import PatchPolicy
from agents.patch_ppo import PPOCoefficients, Rollout, ppo_loss
from tests import golden
from tests.test_published import close

UPDATE = "adafocus_v1_ppo_update"


def own_name(released: str) -> str:
    """Of the patch policy's entries."""
    return (
        released.replace("state_encoder", "encoder").replace("actor.0", "actor").replace("critic.0", "critic")
    )


def test_golden_ppo_update() -> None:
    facts, recorded = golden.read(UPDATE)
    config = facts["config"]
    policy = PatchPolicy(
        config["state_channels"], config["state_size"] ** 2, config["num_positions"], hidden=config["hidden"]
    )
    policy.load_state_dict({own_name(name): value for name, value in golden.state_dict(UPDATE).items()})
    maps, actions = torch.from_numpy(recorded["states"]), torch.from_numpy(recorded["actions"])
    log_probabilities, values, _ = policy(maps)
    assert close(log_probabilities.gather(-1, actions[..., None])[..., 0].detach(), recorded["logprobs"])
    assert close(values.detach(), recorded["values"])
    entropy = -(log_probabilities.exp() * log_probabilities).sum(-1)
    assert close(entropy.detach(), recorded["entropy"])

    behaviour, rewards = (
        torch.from_numpy(recorded["behaviour_logprobs"]),
        torch.from_numpy(recorded["rewards"]),
    )
    coefficients = PPOCoefficients(
        config["gamma"], config["clip"], config["value_coef"], config["entropy_coef"]
    )
    assert coefficients == PPOCoefficients()
    optimiser = torch.optim.Adam(policy.parameters(), lr=config["lr"], betas=tuple(config["adam_betas"]))
    loss, _ = ppo_loss(policy, maps, Rollout(actions, behaviour, rewards, 0.0), coefficients)
    loss.backward()
    optimiser.step()
    for name in facts["state_dict"]:
        parameter = policy.get_parameter(own_name(name))
        assert parameter.grad is not None
        assert close(parameter.grad, recorded[f"grad/{name}"]), name
        assert close(parameter.detach(), recorded[f"after/{name}"]), name
        moved = np.abs(recorded[f"after/{name}"] - golden.state_dict(UPDATE)[name].numpy()).max()
        assert np.abs(parameter.detach().numpy() - recorded[f"after/{name}"]).max() < 0.05 * moved, name
