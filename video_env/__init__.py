"""Frame and patch selection in video as Gymnasium environments over cached features.

Importing this package registers the environments; it loads neither torch nor a video decoder.
"""

from gymnasium.envs.registration import register as _register

__version__ = "0.1.0"

_register(
    id="FrameSelect-v0",
    entry_point="video_env.envs.frame_select:FrameSelectEnv",
    vector_entry_point="video_env.envs.frame_select:FrameSelectVectorEnv",
)
_register(
    id="FrameSelectOneStep-v0",
    entry_point="video_env.envs.frame_select:FrameSelectOneStepEnv",
    vector_entry_point="video_env.envs.frame_select:FrameSelectOneStepVectorEnv",
)
_register(
    id="PatchSelect-v0",
    entry_point="video_env.envs.patch_select:PatchSelectEnv",
    vector_entry_point="video_env.envs.patch_select:PatchSelectVectorEnv",
)
_register(
    id="PatchSelectContinuous-v0",
    entry_point="video_env.envs.patch_select:PatchSelectContinuousEnv",
    vector_entry_point="video_env.envs.patch_select:PatchSelectContinuousVectorEnv",
)
