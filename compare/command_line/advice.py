"""Which command makes what is missing: lower floors say what they lack, this says what to do."""

from __future__ import annotations

from video_env.errors import InputError

_PATCHES = "video-env cache add makes it, and so does video-env train adafocus, in OUT/cache"
_TABLE = "video-env train recognizer makes it, for up to 12 candidate frames"

ADVICE = {
    "cache": "video-env cache build makes one",
    "frames": "video-env cache build keeps them, without --no-keep-frames",
    "skim": "video-env cache build or video-env train recognizer --network small makes it",
    "embedding": "video-env cache build or video-env train recognizer --network small makes it",
    "subset_confidence": _TABLE,
    "subset_prediction": _TABLE,
    "recognizer": "video-env train recognizer makes it",
    "glance": _PATCHES,
    "patches": _PATCHES,
    "classifier": _PATCHES,
    "classes": "--classes FILE gives them",
    "redrawn-cache": "video-env cache like CACHE --random-epoch 1 makes one",
    "sb3-record": "video-env train sb3 writes both files",
    "method": "--modules adds your own",
    "untrained-method": "--modules adds your own, and compare trains those that need a training",
    "weights": (
        "--skim-weights FILE and --embedding-weights FILE give them; to do without, build with --skim none "
        "--embedding none and run video-env train recognizer --network small"
    ),
}
"""By what an error needs."""


def with_advice(error: InputError) -> str:
    """An error's message, with the command or option that gives what it needs."""
    advice = ADVICE.get(error.needs or "")
    return f"{error}; {advice}" if advice else str(error)
