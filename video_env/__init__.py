"""Frame and patch selection in video as Gymnasium environments over cached features.

Importing this package registers the environments; it loads neither torch nor a video decoder.
"""

from gymnasium.envs.registration import register as _register

__version__ = "0.1.0"

_ENVIRONMENTS = {
    "FrameSelect-v0": "frame_select:FrameSelect",
    "FrameSelectOneStep-v0": "frame_select:FrameSelectOneStep",
}

for _id, _class in _ENVIRONMENTS.items():
    _register(
        id=_id,
        entry_point=f"video_env.envs.{_class}Env",
        vector_entry_point=f"video_env.envs.{_class}VectorEnv",
    )
