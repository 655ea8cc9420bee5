"""Whether an import finds this project's packages, and the start of the command ``video-env``.

Their names are short: a file of the user's that is called ``compare.py`` or ``agents.py`` and stands earlier
on Python's path hides the package of that name, and what fails then names neither. This module stands by
itself, so that nothing of that kind hides it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("video_env", "agents", "baselines", "compare")
HERE = Path(__file__).resolve().parent


def require_own(*names: str) -> None:
    """Raise ImportError where a file or folder of another's hides one of these packages."""
    for name in names:
        spec = find_spec(name)
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or [])]
        found = next((Path(place).resolve() for place in places if place), None)
        if found not in (HERE / name / "__init__.py", HERE / name):
            raise ImportError(
                f"the package {name} of video-env is not found at {HERE / name}"
                if found is None
                else f"{found} hides the package {name} of video-env: rename it, or run from another folder "
                "(Python looks in the current folder and in PYTHONPATH first)",
                name=name,
            )


def main() -> int:
    """The command ``video-env``; see ``compare.command_line``."""
    try:
        require_own(*PACKAGES)
    except ImportError as error:
        print(f"video-env: {error}", file=sys.stderr)
        return 2
    from compare.command_line.main import main as command

    return command()
