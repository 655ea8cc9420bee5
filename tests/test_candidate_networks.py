"""Networks over candidates and the policies on them: what shared weights must keep, whatever was learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.ocsampler.networks import CandidatePolicy
from baselines.features import CandidateFeatures, GlanceFeatures, Layout
from baselines.heads import Point, PointCritic, Scores, ScoresCritic
from baselines.policies import SelectionActorCriticPolicy
from baselines.sb3 import ALGORITHMS, SB3Settings
from baselines.sb3_files import load_sb3, train_to_file
from baselines.sb3_training import train_sb3
from baselines.vec_env import StableBaselinesVecEnv
from tests.conftest import write_cache, write_patch_cache
from video_env.cache.store import Cache
from video_env.data.patches import grid_points
from video_env.errors import InputError
from video_env.models.candidate_networks import NETWORKS, build_candidate_network

SHUFFLED = torch.tensor([3, 0, 5, 1, 4, 2])


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return write_cache(tmp_path_factory.mktemp("frames") / "cache")


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return write_patch_cache(tmp_path_factory.mktemp("patches") / "cache")


def network(name: str, num_candidates: int = 6) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_candidate_network(name, 5, num_candidates, 8)  # type: ignore[arg-type]


def keeps_permutations(name: str) -> bool:
    candidates = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(1))
    one = network(name)
    return torch.allclose(one(candidates)[:, SHUFFLED], one(candidates[:, SHUFFLED]), atol=1e-6)


def keeps_shifts(name: str) -> bool:
    """An event of three frames, three candidates later; as far from the borders as a convolution reaches."""
    event = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1))
    videos = torch.zeros(2, 4, 24, 5)
    videos[0, :, 9:12], videos[1, :, 12:15] = event, event
    early, late = network(name, 24)(videos.flatten(0, 1)).unflatten(0, (2, 4))
    return torch.allclose(early[:, 6:15], late[:, 9:18], atol=1e-6)


def test_which_networks_share_their_weights() -> None:
    """Of attention's candidates the order does not matter; a convolution knows neighbours, but not where it is;
    flat's weights are each candidate's own."""
    assert {name: keeps_permutations(name) for name in NETWORKS} == {
        "attention": True, "convolution": False, "flat": False, "linear": True
    }  # fmt: skip
    assert {name: keeps_shifts(name) for name in NETWORKS} == {
        "attention": True, "convolution": True, "flat": False, "linear": True
    }  # fmt: skip


def test_attention_is_that_of_torch() -> None:
    one, candidates = network("attention"), torch.randn(4, 6, 5)
    with torch.no_grad():
        each = torch.relu(one.each(candidates))  # type: ignore[operator]
        query, key, value = one.project(one.norm(each)).split(8, dim=-1)  # type: ignore[operator]
        seen = F.scaled_dot_product_attention(query, key, value)
        expected = torch.relu(one.join(torch.cat([each, seen], dim=-1)))  # type: ignore[operator]
        assert torch.allclose(one(candidates), expected, atol=1e-6)


def test_ocsampler_scores_by_any_network() -> None:
    features = torch.randn(3, 6, 5)
    for name in NETWORKS:
        probabilities = CandidatePolicy(name, 5, 6, 8)(features).exp()
        assert probabilities.shape == (3, 6)
        assert torch.allclose(probabilities.sum(dim=1), torch.ones(3))
    with pytest.raises(InputError, match="network 'mean': expected one of attention"):
        build_candidate_network("mean", 5, 6, 8)  # type: ignore[arg-type]


# Policies of every algorithm.


ON_POLICY = {"n_steps": 4, "batch_size": 16}
OFF_POLICY = {
    "learning_starts": 16, "batch_size": 16, "buffer_size": 64, "train_freq": 1, "gradient_steps": 1
}  # fmt: skip
QUICK: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("ppo", "maskable-ppo", "recurrent-ppo", "trpo"), ON_POLICY),
    "a2c": {"n_steps": 4},
    **dict.fromkeys(("dqn", "qr-dqn", "sac", "td3"), OFF_POLICY),
}


def settings(algorithm: str, environment: str, **options: Any) -> SB3Settings:
    return SB3Settings(
        algorithm, environment, steps=32, num_envs=4, hyperparameters=QUICK[algorithm], **options  # type: ignore[arg-type]
    )  # fmt: skip


EVERYWHERE = [
    (name, environment, allow_exit)
    for name, algorithm in ALGORITHMS.items()
    for environment in algorithm.environments
    for allow_exit in ((False, True) if environment.startswith("Patch") else (False,))
]


@pytest.mark.parametrize(("algorithm", "environment", "allow_exit"), EVERYWHERE)
def test_every_algorithm_everywhere_comes_back_from_its_file(
    tmp_path: Path, frames: Cache, patches: Cache, algorithm: str, environment: str, allow_exit: bool
) -> None:
    chosen = settings(algorithm, environment, allow_exit=allow_exit)
    cache = patches if chosen.of_patches else frames
    trained = train_sb3(cache, chosen, device="cpu").model
    train_to_file(cache, chosen, tmp_path / "model.zip", device="cpu")
    loaded = load_sb3(chosen, tmp_path / "model.zip", cache, "cpu")
    env: Any = trained.get_env()
    observation = env.reset()
    actions = [model.predict(observation, deterministic=True)[0] for model in (trained, loaded)]
    assert np.array_equal(*actions)
    seen: Any = trained.policy.obs_to_tensor(observation)[0]
    before = scores(trained, seen)
    assert torch.equal(before, scores(loaded, seen))
    with torch.no_grad():
        for parameter in loaded.policy.parameters():
            parameter.normal_()
    assert not torch.allclose(before, scores(loaded, seen))


def scores(model: BaseAlgorithm, observation: dict[str, torch.Tensor]) -> torch.Tensor:
    """What a model's greedy action is made of, [B, actions] (of quantiles [B, quantiles, actions])."""
    policy: Any = model.policy
    with torch.no_grad():
        if hasattr(policy, "q_net"):
            return policy.q_net(observation)
        if hasattr(policy, "quantile_net"):
            return policy.quantile_net(observation)
        if hasattr(policy, "actor"):
            actor = policy.actor
            return actor.mu(actor.extract_features(observation, actor.features_extractor))
        features = policy.extract_features(observation)
        if hasattr(policy, "lstm_actor"):
            state = (torch.ones(1, len(features), policy.lstm_output_dim),) * 2
            features, _ = policy._process_sequence(
                features, state, torch.zeros(len(features)), policy.lstm_actor
            )
        return policy.action_net(features)


def model_on_features(
    algorithm: str, environment: str, cache: Cache, policy_options: dict[str, Any], **options: Any
) -> BaseAlgorithm:
    """An untrained model with large weights, so that its scores differ."""
    env = gym.make_vec(
        environment, num_envs=2, vectorization_mode="vector_entry_point", cache=cache, observation="features",
        **options,
    )  # fmt: skip
    kind: Any = ALGORITHMS[algorithm].kind
    policy = settings(algorithm, environment).tuned().policy
    model = kind(policy, StableBaselinesVecEnv(env), policy_kwargs=policy_options, device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.normal_(0, 0.5)
    return model


@pytest.mark.parametrize(
    ("algorithm", "environment"),
    [(name, environment) for name, environment, _ in EVERYWHERE if environment.startswith("Frame")],
)
def test_permuting_candidates_permutes_their_scores(frames: Cache, algorithm: str, environment: str) -> None:
    """With attention; *stop* stays as it is. The flat network shows that the test can fail."""
    options: dict[str, Any] = {"num_frames": 2} if environment == "FrameSelectOneStep-v0" else {}
    features = torch.randn(3, 6, 5)
    chosen = torch.tensor([[0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1], [0, 1, 1, 1, 0, 0]])
    before = {"features": features, "selected": chosen}
    after = {"features": features[:, SHUFFLED], "selected": chosen[:, SHUFFLED]}
    kept = {}
    for name in ("attention", "flat"):
        model = model_on_features(algorithm, environment, frames, {"network": name, "hidden": 8}, **options)
        one, other = scores(model, before), scores(model, after)
        order = torch.cat([SHUFFLED, torch.arange(6, one.shape[-1])])
        assert one.std(dim=-1).min() > 0
        kept[name] = torch.allclose(one[..., order], other, atol=1e-4)
    assert kept == {"attention": True, "flat": False}


@pytest.mark.parametrize(
    ("algorithm", "environment"),
    [(name, environment) for name, environment, _ in EVERYWHERE if environment == "PatchSelect-v0"],
)
def test_permuting_places_permutes_the_scores_of_positions(
    patches: Cache, algorithm: str, environment: str
) -> None:
    model = model_on_features(algorithm, environment, patches, {"hidden": 8}, allow_exit=True)
    glance, order = torch.randn(3, 6, 9), torch.tensor([3, 0, 5, 1, 4, 2, 8, 6, 7, 9])
    seen = {"state": torch.randn(3, 7), "progress": torch.rand(3, 1)}
    one, other = (
        scores(model, {"glance": maps.unflatten(2, (3, 3)), **seen})
        for maps in (glance, glance[..., order[:9]])
    )
    assert one.shape[-1] == 10
    assert one.std(dim=-1).min() > 0
    assert torch.allclose(one[..., order], other, atol=1e-4)


def test_glances_are_resampled_to_the_grid(patches: Cache) -> None:
    """Also where the grid is finer than the map: as torch resamples the map itself."""
    space: Any = gym.make("PatchSelect-v0", cache=patches).observation_space
    extractor = GlanceFeatures(space, hidden=4, grid=(5, 5))
    glance = torch.randn(2, 6, 3, 3)
    finer = F.interpolate(glance, (5, 5), mode="bilinear", align_corners=True)
    with torch.no_grad():
        seen = extractor.look(glance.movedim(1, -1)).flatten(1, 2)
        expected = extractor.look(finer.movedim(1, -1)).flatten(1, 2)
        assert extractor.resample is not None
        assert torch.allclose(extractor.resample @ seen, expected, atol=1e-6)


# Heads.


def test_a_point_is_the_mean_over_positions() -> None:
    layout = Layout(9, 1, 2, (3, 3))
    for squashed in (False, True):
        head = Point(layout, 1, squashed=squashed)
        torch.nn.init.constant_(head.scores.each.weight, 200)  # the softmax takes the largest
        position = torch.tensor([0, 2, 4, 7])
        features = torch.cat([F.one_hot(position, 9), torch.ones(4, 2)], dim=1).float()
        action = head(features).tanh() if squashed else head(features)
        expected = torch.from_numpy(2 * grid_points(9)[position] - 1)
        assert action.shape == (4, 3)
        assert torch.allclose(action[:, :2], expected, atol=0.011 if squashed else 1e-6)


def test_the_critic_of_a_point_sees_what_is_there() -> None:
    """At a position its features, whatever the others are, halfway between two their mean."""
    layout = Layout(9, 4, 2, (3, 3))
    critic = PointCritic(layout, 2)
    features = torch.randn(1, layout.size)
    each, context = layout.split(features)
    points = torch.tensor([[-1.0, 1.0], [0.0, -0.5]])  # the upper right position; between 3 and 4
    there = torch.stack([each[0, 2], (each[0, 3] + each[0, 4]) / 2])
    expected = critic.value(torch.cat([there, context.expand(2, -1), points], dim=1))
    found = critic(torch.cat([features.expand(2, -1), points], dim=1))
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_critic_of_scores_joins_each_to_its_candidate() -> None:
    layout = Layout(6, 4, 3)
    critic, features, action = ScoresCritic(layout), torch.randn(2, 27), torch.randn(2, 6)
    each, context = layout.split(features)
    moved = torch.cat([each[:, SHUFFLED].flatten(1), context], dim=1)
    value = critic(torch.cat([features, action], dim=1))
    assert torch.allclose(value, critic(torch.cat([moved, action[:, SHUFFLED]], dim=1)), atol=1e-6)
    assert not torch.allclose(value, critic(torch.cat([moved, action], dim=1)), atol=1e-3)


def test_quantiles_of_each_action() -> None:
    """[B, quantiles · actions], which QR-DQN views as [B, quantiles, actions]."""
    layout = Layout(2, 3, 3)
    head, features = Scores(layout, 1, outputs=4), torch.randn(5, 9)
    each, context = layout.split(features)
    found = head(features).view(5, 4, 3)
    assert head.further is not None
    for action, expected in enumerate((head.each(each[:, 0]), head.each(each[:, 1]), head.further(context))):
        assert torch.allclose(found[..., action], expected, atol=1e-6)


def test_what_an_lstm_remembers_joins_every_choice(frames: Cache) -> None:
    model: Any = model_on_features(
        "recurrent-ppo", "FrameSelect-v0", frames, {"hidden": 8, "lstm_hidden_size": 16}
    )
    observation = {"features": np.zeros((1, 6, 5), np.float32), "selected": np.zeros((1, 6), np.int8)}
    tensors, _ = model.policy.obs_to_tensor(observation)
    start = torch.zeros(1)
    logits = []
    for memory in (0.0, 1.0):
        state = (torch.full((1, 1, 16), memory), torch.full((1, 1, 16), memory))
        distribution, after = model.policy.get_distribution(tensors, state, start)
        logits.append(distribution.distribution.logits)
        assert after[0].shape == (1, 1, 16)
    assert (logits[0] - logits[1]).abs().min() > 0


@pytest.mark.parametrize(
    "options", [{"enable_critic_lstm": False}, {"enable_critic_lstm": False, "shared_lstm": True}]
)
def test_the_critic_may_have_no_lstm_of_its_own(frames: Cache, options: dict[str, Any]) -> None:
    model: Any = model_on_features("recurrent-ppo", "FrameSelect-v0", frames, {"hidden": 8, **options})
    observation = {"features": np.zeros((2, 6, 5), np.float32), "selected": np.zeros((2, 6), np.int8)}
    tensors, _ = model.policy.obs_to_tensor(observation)
    state = (torch.zeros(1, 2, 256), torch.zeros(1, 2, 256))
    assert model.policy.predict_values(tensors, state, torch.zeros(2)).shape == (2, 1)


def test_policies_explain_themselves(frames: Cache) -> None:
    space: Any = gym.make("FrameSelect-v0", cache=frames).observation_space
    actions, rate = gym.spaces.Discrete(7), lambda _: 0.001
    with pytest.raises(InputError, match=r"net_arch: found \[64\], expected none"):
        SelectionActorCriticPolicy(space, actions, rate, net_arch=[64])
    with pytest.raises(InputError, match="network 'mean': expected one of attention"):
        SelectionActorCriticPolicy(space, actions, rate, network="mean")
    from stable_baselines3.common.torch_layers import CombinedExtractor

    with pytest.raises(InputError, match="features_extractor_class: found CombinedExtractor"):
        SelectionActorCriticPolicy(space, actions, rate, features_extractor_class=CombinedExtractor)
    assert CandidateFeatures(space, hidden=8).features_dim == 7 * 8


def test_the_network_is_a_setting_of_frames() -> None:
    assert SB3Settings("ppo", network="flat").tuned().policy_options["network"] == "flat"
    with pytest.raises(InputError, match="network 'mean': expected one of attention"):
        SB3Settings("ppo", network="mean")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="network: found flat; it means nothing with PatchSelect-v0"):
        SB3Settings("ppo", "PatchSelect-v0", network="flat")
