"""The published agents, in Stable-Baselines3's shape: learn, predict, save, load."""

from video_env_packages import require_own as _require_own

_require_own("video_env")
