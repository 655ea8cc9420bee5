"""The roof: the command line, the methods side by side, and the demonstration."""

from video_env_packages import require_own as _require_own

_require_own("video_env", "agents", "baselines")
