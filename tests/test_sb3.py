"""Stable-Baselines3's algorithms: on known optima, through its own means, and by RL Zoo's trainer."""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.save_util import load_from_zip_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from baselines.features import CandidateFeatures, GlanceFeatures
from baselines.policies import SelectionActorCriticPolicy, SelectionSACPolicy
from baselines.sb3 import ALGORITHMS, SB3Policy, SB3Settings
from baselines.sb3_files import train_to_file
from baselines.sb3_training import train_sb3
from baselines.tuned import FOLDER, read_tuned
from baselines.vec_env import StableBaselinesVecEnv
from tests.conftest import write_known_patch_cache, write_patch_cache
from tests.entries import saved
from video_env.cache.store import Cache
from video_env.envs.options import PACKAGED_CACHE
from video_env.errors import InputError
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.protocols import Entry

CACHED = {"cache": str(PACKAGED_CACHE)}


def vector(environment: str, num_envs: int = 8, **options: object) -> StableBaselinesVecEnv:
    options = {"observation": "index", **options}
    return StableBaselinesVecEnv(
        gym.make_vec(environment, num_envs=num_envs, vectorization_mode="vector_entry_point", **options)
    )


def one_step(num_envs: int = 8, **options: object) -> StableBaselinesVecEnv:
    return vector("FrameSelectOneStep-v0", num_envs, num_frames=2, **options)


@pytest.fixture(scope="module")
def known_patches(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return write_known_patch_cache(tmp_path_factory.mktemp("known-patches") / "cache")


def on_test(cache: Cache, settings: SB3Settings) -> tuple[float, float]:
    """Accuracy and mean number of frames of what was learned."""
    policy = SB3Policy(train_sb3(cache, settings, device="cpu").model)
    entry = Entry("m", "", "", {}, 0, settings.environment_id, policy, settings.environment_options(cache))
    table = evaluate(entry, cache, "test")
    return float(table["correct"].mean()), float(table["frames"].mean())


FRAMES = {
    "ppo": SB3Settings("ppo", steps=60_000, num_envs=64),
    "a2c": SB3Settings("a2c", steps=40_000, num_envs=64),
    "dqn": SB3Settings("dqn", steps=12_000),
    "qr-dqn": SB3Settings("qr-dqn", steps=12_000),
    "trpo": SB3Settings("trpo", steps=40_000, num_envs=64),
    "maskable-ppo": SB3Settings("maskable-ppo", steps=60_000, num_envs=64),
    "sac": SB3Settings("sac", steps=12_000),
    "td3": SB3Settings("td3", steps=12_000),
}


@pytest.mark.parametrize("algorithm", FRAMES)
def test_every_algorithm_finds_the_frames(known_cache: Cache, algorithm: str) -> None:
    """Two frames of six: by chance 0.07 of the videos are right. Those that the comparisons lean on find
    nearly all, and no frame too many. RecurrentPPO is not here: one right frame alone lowers the confidence,
    and it learns to stop at once; it proves itself on patches."""
    settings = FRAMES[algorithm]
    if settings.environment_id != "FrameSelectOneStep-v0":  # there N is fixed
        settings = replace(settings, cost_per_gflop=0.15)
    correct, frames = on_test(known_cache, settings)
    assert correct >= (0.9 if algorithm in ("ppo", "maskable-ppo") else 0.5)
    assert frames < (3 if algorithm in ("ppo", "maskable-ppo") else 6)


PATCHES = {
    "ppo": SB3Settings("ppo", "PatchSelect-v0", steps=12_000, num_envs=64),
    "a2c": SB3Settings("a2c", "PatchSelect-v0", steps=20_000, num_envs=64),
    "dqn": SB3Settings("dqn", "PatchSelect-v0", steps=8_000),
    "qr-dqn": SB3Settings("qr-dqn", "PatchSelect-v0", steps=8_000),
    "trpo": SB3Settings("trpo", "PatchSelect-v0", steps=12_000, num_envs=64),
    "recurrent-ppo": SB3Settings("recurrent-ppo", "PatchSelect-v0", steps=12_000, num_envs=64),
    "sac": SB3Settings("sac", "PatchSelectContinuous-v0", steps=6_000),
    "td3": SB3Settings("td3", "PatchSelectContinuous-v0", steps=6_000),
}


QUICK = ("a2c", "dqn", "recurrent-ppo", "td3")


@pytest.mark.parametrize(
    "algorithm", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PATCHES]
)
def test_every_algorithm_finds_the_patches(known_patches: Cache, algorithm: str) -> None:
    """One position of nine in each of three frames, any of which tells the label: by chance 0.65 of the
    videos are right, since without it both labels are as likely."""
    assert on_test(known_patches, PATCHES[algorithm])[0] >= 0.85


def test_there_are_tuned_settings_wherever_an_algorithm_can_act() -> None:
    for name, algorithm in ALGORITHMS.items():
        for environment in algorithm.environments:
            policy = read_tuned(algorithm.tuned, environment).policy
            aliases = algorithm.kind.policy_aliases
            base = aliases.get("MultiInputPolicy") or aliases["MultiInputLstmPolicy"]
            assert issubclass(policy, base), f"{name} on {environment}"
    assert {file.stem for file in FOLDER.glob("*.yml")} == {each.tuned for each in ALGORITHMS.values()}


def test_tables_name_algorithm_and_environment() -> None:
    titles = {
        SB3Settings().title(): "PPO",
        SB3Settings("maskable-ppo").title(): "MaskablePPO",
        SB3Settings("dqn").title(): "DQN",
        SB3Settings("a2c", "FrameSelect-v0").title(): "A2C, sequential",
        SB3Settings("qr-dqn", "PatchSelect-v0", allow_exit=True).title(): "QR-DQN, patches, exit",
        SB3Settings("sac", "PatchSelectContinuous-v0").title(): "SAC, any point",
    }
    assert list(titles) == list(titles.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algorithm": "dreamer"}, "algorithm 'dreamer': expected one of ppo, a2c"),
        ({"algorithm": "dqn", "environment": "PatchSelectContinuous-v0"}, "environment of dqn .*: expected one of FrameSelect-v0, PatchSelect-v0"),
        ({"algorithm": "sac", "environment": "FrameSelect-v0"}, "expected one of FrameSelectOneStep-v0, PatchSelectContinuous-v0"),
        ({"hyperparameters": {"epochs": 3}}, "hyperparameter of ppo 'epochs': expected one of .*n_epochs"),
        ({"hyperparameters": {"gamma": 2}}, "gamma: found 2"),
        ({"steps": 0}, "steps: found 0"),
        ({"evaluate_every": -1}, "evaluate_every: found -1"),
    ],
)  # fmt: skip
def test_settings_explain_themselves(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SB3Settings(**options)  # type: ignore[arg-type]


def test_a_refused_hyperparameter_is_named(cache: Cache) -> None:
    settings = SB3Settings(steps=64, num_envs=8, hyperparameters={"batch_size": 1})
    with pytest.raises(InputError, match=r"hyperparameters .*'batch_size': 1.*ppo refuses them"):
        train_sb3(cache, settings, device="cpu")


def test_indices_and_features_are_seen_alike(patch_cache: Cache) -> None:
    """The table on the device gives what the environment would have sent."""
    frames = {"num_frames": 2, "num_envs": 6, "vectorization_mode": "vector_entry_point"}
    by_index = gym.make_vec("FrameSelectOneStep-v0", observation="index", **frames)
    by_features = gym.make_vec("FrameSelectOneStep-v0", observation="features", **frames)
    compare_extractors(CandidateFeatures, by_index, by_features, str(PACKAGED_CACHE))
    patches = {"cache": patch_cache, "num_envs": 6, "vectorization_mode": "vector_entry_point"}
    by_index = gym.make_vec("PatchSelect-v0", observation="index", **patches)
    by_features = gym.make_vec("PatchSelect-v0", observation="features", **patches)
    compare_extractors(GlanceFeatures, by_index, by_features, str(patch_cache.path))


def compare_extractors(
    kind: type, by_index: gym.vector.VectorEnv, by_features: gym.vector.VectorEnv, cache: str
) -> None:
    extractors = kind(by_index.single_observation_space, cache), kind(by_features.single_observation_space)
    extractors[1].load_state_dict(extractors[0].state_dict())
    observations = [env.reset(seed=1)[0] for env in (by_index, by_features)]
    by_index.action_space.seed(0)
    for _ in range(3):
        seen = [
            extractor({key: torch.from_numpy(value).float() for key, value in observation.items()})
            for extractor, observation in zip(extractors, observations, strict=True)
        ]
        assert seen[0].shape == (6, extractors[0].features_dim)
        assert torch.allclose(*seen, atol=1e-5)
        assert seen[0].std(dim=0).max() > 0.01
        action = by_index.action_space.sample()
        observations = [env.step(action)[0] for env in (by_index, by_features)]


def test_one_table_for_all_networks_of_a_policy() -> None:
    options = {"features_extractor_kwargs": CACHED}
    model = SAC(SelectionSACPolicy, one_step(), policy_kwargs=dict(options), device="cpu", buffer_size=64)
    other = PPO(SelectionActorCriticPolicy, one_step(), policy_kwargs=dict(options), device="cpu", n_steps=2)
    extractors = [
        model.actor.features_extractor, model.critic.features_extractor,
        model.critic_target.features_extractor, other.policy.features_extractor,
    ]  # fmt: skip
    assert len({id(extractor.table) for extractor in extractors}) == 1  # type: ignore[union-attr]


def test_the_table_must_be_of_the_environments_cache(tmp_path: Path) -> None:
    cache = write_patch_cache(tmp_path / "cache")
    space = gym.make("PatchSelect-v0", cache=cache, observation="index").observation_space
    with pytest.raises(InputError, match="has 48 videos, and the observations index 24"):
        GlanceFeatures(space, str(PACKAGED_CACHE))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected that of frame or patch selection"):
        PPO(SelectionActorCriticPolicy, "CartPole-v1")


@pytest.mark.parametrize("environment", ["FrameSelect-v0", "PatchSelect-v0", "PatchSelectContinuous-v0"])
def test_environments_pass_the_checker(environment: str) -> None:
    check_env(gym.make(environment, observation="index").unwrapped)


def test_saved_and_loaded_by_its_own_means(tmp_path: Path) -> None:
    env = vector("FrameSelect-v0")
    options = {"features_extractor_kwargs": CACHED}
    model = QRDQN(
        read_tuned("qrdqn", "FrameSelect-v0").policy, env, policy_kwargs=options, learning_starts=16,
        buffer_size=64, device="cpu", seed=0,
    )  # fmt: skip
    model.learn(64).save(tmp_path / "model.zip")
    again = QRDQN.load(tmp_path / "model.zip", device="cpu")
    observation = env.reset()
    assert np.array_equal(model.predict(observation)[0], again.predict(observation)[0])
    with torch.no_grad():
        values = [
            each.policy.quantile_net(each.policy.obs_to_tensor(observation)[0]) for each in (model, again)
        ]
    assert torch.equal(*values)
    _, parameters, _ = load_from_zip_file(tmp_path / "model.zip", device="cpu")
    # Of the features, a row per video, nothing is in the file.
    videos = len(Cache(PACKAGED_CACHE))
    assert all(videos not in weights.shape for weights in parameters["policy"].values())


def test_without_a_log_folder_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where Stable-Baselines3 would log
    train_sb3(Cache(PACKAGED_CACHE), SB3Settings("ppo", steps=256, num_envs=16), device="cpu")
    assert not list(tmp_path.iterdir())


def test_attributes_are_set_for_all_environments_or_not_at_all() -> None:
    env = one_step()
    env.set_attr("render_mode", None)
    with pytest.raises(InputError, match=r"set_attr render_mode: found indices \[0\], expected none"):
        env.set_attr("render_mode", None, indices=[0])


def test_evaluation_callback_and_tensorboard(tmp_path: Path) -> None:
    env, options = one_step(num_envs=16), {"features_extractor_kwargs": CACHED}
    model = PPO(
        SelectionActorCriticPolicy, env, n_steps=4, batch_size=32, n_epochs=1, policy_kwargs=options,
        tensorboard_log=str(tmp_path), device="cpu", seed=0,
    )  # fmt: skip
    held_out = one_step(num_envs=4, split="validation")
    held_out.seed(7)
    callback = EvalCallback(
        held_out, n_eval_episodes=40, eval_freq=8, log_path=str(tmp_path),
        best_model_save_path=str(tmp_path), verbose=0,
    )  # fmt: skip
    model.learn(128, callback=callback)
    # The callback's only evaluation is that of the best model, which it saved.
    best = PPO.load(tmp_path / "best_model.zip", device="cpu")
    held_out.seed(7)
    rewards, lengths = evaluate_policy(best, held_out, n_eval_episodes=40, return_episode_rewards=True)
    recorded = np.load(tmp_path / "evaluations.npz")
    assert recorded["results"].tolist() == [rewards]
    assert lengths == [1] * 40
    events = EventAccumulator(str(next(tmp_path.rglob("events.out.tfevents.*")).parent)).Reload()
    assert {"rollout/ep_rew_mean", "eval/mean_reward", "train/loss"} <= set(events.Tags()["scalars"])
    assert events.Scalars("eval/mean_reward")[0].value == pytest.approx(np.mean(rewards))


def rl_zoo(folder: Path, algorithm: str, environment: str, *more: str) -> str:
    command = [
        sys.executable, "-m", "rl_zoo3.train", "--algo", algorithm, "--env", environment,
        "--gym-packages", "video_env", "--conf-file", str(FOLDER / f"{algorithm}.yml"), "-f", str(folder),
        "--device", "cpu", "--num-threads", "1", "--seed", "1", *more,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_rl_zoo_trains_on_our_ids_with_our_files(tmp_path: Path) -> None:
    said = rl_zoo(
        tmp_path, "ppo", "FrameSelect-v0", "-n", "300", "--hyperparams", "n_envs:4", "--eval-freq", "100"
    )
    assert "SelectionActorCriticPolicy" in said
    folder = tmp_path / "ppo" / "FrameSelect-v0_1"
    assert (folder / "best_model.zip").is_file()
    model = PPO.load(folder / "FrameSelect-v0.zip", device="cpu")
    assert isinstance(model.policy.features_extractor, CandidateFeatures)
    action, _ = model.predict(gym.make("FrameSelect-v0").reset(seed=0)[0], deterministic=True)
    assert 0 <= action <= 12


def test_rl_zoo_trains_off_policy_with_arguments_of_the_environment(tmp_path: Path) -> None:
    quick = ["n_envs:4", "learning_starts:40", "batch_size:16"]
    rl_zoo(
        tmp_path, "td3", "FrameSelectOneStep-v0", "-n", "200", "--env-kwargs", "num_frames:2",
        "--hyperparams", *quick,
    )  # fmt: skip
    assert (tmp_path / "td3" / "FrameSelectOneStep-v0_1" / "FrameSelectOneStep-v0.zip").is_file()


def test_a_file_of_other_tuned_settings_is_not_taken_for_the_same(tmp_path: Path, cache: Cache) -> None:
    """As when a yaml file was edited since: the settings asked for are the same."""
    settings, file = (
        SB3Settings("ppo", steps=64, num_envs=4, hyperparameters={"n_steps": 16}),
        tmp_path / "a.zip",
    )
    train_to_file(cache, settings, file)
    moment = file.stat().st_mtime_ns
    train_to_file(cache, settings, file)
    assert file.stat().st_mtime_ns == moment
    record = json.loads(file.with_suffix(".json").read_text())
    record["tuned"]["arguments"]["learning_rate"] *= 2
    file.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="learning_rate .* there, .* asked for. Choose another file"):
        train_to_file(cache, settings, file)
    older = {name: value for name, value in record.items() if name != "tuned"}
    file.with_suffix(".json").write_text(json.dumps(older))
    with pytest.raises(InputError, match="has no tuned; of another version, or damaged. Delete it"):
        train_to_file(cache, settings, file)
    record["settings"]["an_unknown_one"] = 1
    file.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="settings of another version .*an_unknown_one"):
        saved(file, cache)
