"""What the published agents are compared with: heuristics, the oracle, Stable-Baselines3."""

from video_env_packages import require_own as _require_own

_require_own("video_env")
