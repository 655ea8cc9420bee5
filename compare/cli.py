"""The command line: ``video-env COMMAND``; each command is a function of ``compare.commands`` or, where it
compares methods, of ``compare.comparing``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from itertools import takewhile

COMMANDS = {
    "demo": "the main job on the built-in data set, from video files to the curve",
    "cache": "decode a folder of videos into a cache",
    "cache add": "add glance maps, patch features and a classifier to a cache",
    "cache verify": "check every checksum of a cache",
    "cache extract": "make a small cache from a large one",
    "train recognizer": "train the recognizer on a cache (and small networks, where it has none)",
    "train ocsampler": "train an OCSampler on a cache",
    "train adafocus": "train an AdaFocus on a cache, all four stages",
    "train adafocus-v2": "train an AdaFocusV2 on a cache, end to end",
    "train sb3": "train a Stable-Baselines3 algorithm on a cache",
    "evaluate": "let a method choose frames or patches for every video of a split: a result table",
    "compare": "train methods and compare accuracy, cost and training",
    "report": "one HTML file of a comparison: summary, interactive curve, every video",
    "curve": "summary table and accuracy-vs-budget curve from result tables",
    "selections": "the frames chosen, as JSON lines, from result tables",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; bad input ends in one line on standard error and exit status 2."""
    arguments = [_at_home(one) for one in (sys.argv[1:] if arguments is None else arguments)]
    command = next(
        (" ".join(arguments[:words]) for words in (2, 1) if " ".join(arguments[:words]) in COMMANDS), None
    )
    if command is None:
        # After the first word of a command of two words: those that begin with it.
        begun = {name for name in COMMANDS if arguments and name.startswith(f"{arguments[0]} ")}
        print("usage: video-env COMMAND [--help]\n")
        for name, purpose in COMMANDS.items():
            if name in (begun or COMMANDS):
                print(f"  {name:17} {purpose}")
        rest = arguments[1:] if begun else arguments
        asked_for_help = not rest or rest[0] in ("-h", "--help")
        if not asked_for_help:
            print(f"\nvideo-env: no command {' '.join(arguments[:2])!r}", file=sys.stderr)
        return 0 if asked_for_help else 2

    # Imported here: decoding processes import this module, and shall not load torch.
    import tyro

    from video_env.errors import InputError

    arguments = arguments[len(command.split()) :]
    try:
        tyro.cli(_function(command, arguments), prog=f"video-env {command}", args=arguments)
    except InputError as error:
        print(f"video-env: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # its message names the file
        print(f"video-env: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nvideo-env: interrupted; run the command again", file=sys.stderr)
        return 130
    return 0


def _function(command: str, arguments: list[str]) -> Callable[..., None]:
    from compare import commands, comparing
    from video_env.evaluation import registry

    if command in ("compare", "demo"):
        registry.load(_values(arguments, "--modules"))
        return (comparing.compare_command if command == "compare" else comparing.demo_command)(arguments)
    return getattr(
        comparing if command == "report" else commands, command.replace(" ", "_").replace("-", "_")
    )


def _at_home(argument: str) -> str:
    """With the user's folder for ``~``, which shells leave as it is behind an equals sign or in quotes."""
    flag, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return flag + equals + os.path.expanduser(value)  # noqa: PTH111  (pathlib would drop a slash at the end)


def _values(arguments: list[str], flag: str) -> list[str]:
    """What follows a flag, up to the next one; or stands behind its equals sign."""
    split = [part for argument in arguments for part in (
        argument.split("=", 1) if argument.startswith(f"{flag}=") else [argument])]  # fmt: skip
    if flag not in split:
        return []
    after = split[split.index(flag) + 1 :]
    return list(takewhile(lambda value: not value.startswith("-"), after))


if __name__ == "__main__":
    sys.exit(main())
