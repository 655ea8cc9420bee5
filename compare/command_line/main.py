"""Runs a command of ``video-env``, and says old spellings in the new way."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from compare.command_line.arguments import values, without

COMMANDS = {
    "demo": "a short demonstration on the built-in data set, from video files to a report",
    "study": "the whole study of the built-in data set, which the documents' figures come from",
    "cache": "build a cache from videos, add to it, verify it, take an extract of it",
    "train": "train the recognizer or an agent on a cache",
    "evaluate": "let a method choose frames or patches for every video of a split: a result table",
    "predict": "say what video files show, with a saved agent, and which frames or patches it looked at",
    "compare": "train methods and compare accuracy, cost and training",
    "report": "one HTML file of a comparison: summary, interactive curve, every video",
    "curve": "summary table and accuracy-vs-budget curve from result tables",
    "selections": "the frames chosen, from result tables, in files that other programs read",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; bad input ends in one line on standard error and exit status 2."""
    arguments = [_at_home(one) for one in (sys.argv[1:] if arguments is None else arguments)]
    command = arguments[0] if arguments and arguments[0] in COMMANDS else None
    if command is None:
        print("usage: video-env COMMAND [--help]\n")
        for name, purpose in COMMANDS.items():
            print(f"  {name:11} {purpose}")
        asked_for_help = not arguments or arguments[0] in ("-h", "--help")
        if not asked_for_help:
            print(f"\nvideo-env: no command {arguments[0]!r}", file=sys.stderr)
        return 0 if asked_for_help else 2

    # Imported here: decoding processes import this module, and shall not load torch.
    from video_env.errors import InputError

    try:
        return _run(command, _in_new_spelling(command, arguments[1:]))
    except InputError as error:
        from compare.command_line.advice import with_advice

        print(f"video-env: {with_advice(error)}", file=sys.stderr)
        return 2
    except OSError as error:  # its message names the file
        print(f"video-env: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nvideo-env: interrupted; run the command again", file=sys.stderr)
        return 130


def _run(command: str, arguments: list[str]) -> int:
    """Run a command; its exit status, which is 0 for those that return nothing."""
    import tyro

    from compare.command_line import caches, comparing, evaluating, predicting, training
    from video_env.errors import InputError
    from video_env.evaluation import registry

    modules = values(arguments, "--modules")
    registry.load(modules)
    groups = {"cache": caches.commands, "train": training.commands, "evaluate": evaluating.commands}
    if command in groups:
        known = groups[command]()
        if arguments and arguments[0] not in known and not arguments[0].startswith("-"):
            raise InputError(
                f"{command} {arguments[0]}: expected one of {', '.join(known)}", needs=_WANTED.get(command)
            )
        if modules:  # they are imported, and no option of a single method
            arguments = without(arguments, "--modules", len(modules))
        tyro.extras.subcommand_cli_from_dict(
            known, prog=f"video-env {command}", description=COMMANDS[command], args=arguments
        )
        return 0
    single: dict[str, Callable[..., int | None]] = {
        "curve": evaluating.curve, "selections": evaluating.selections, "report": comparing.report,
        "predict": predicting.predict_command,
    }  # fmt: skip
    made = {
        "compare": comparing.compare_command, "demo": comparing.demo_command,
        "study": comparing.study_command,
    }  # fmt: skip
    function = single[command] if command in single else made[command](arguments)
    return tyro.cli(function, prog=f"video-env {command}", args=arguments) or 0


_WANTED = {"evaluate": "untrained-method"}


def _in_new_spelling(command: str, arguments: list[str]) -> list[str]:
    """Arguments as they are written now. ``cache --videos ...`` goes on meaning ``cache build``.

    Raises:
        InputError: another old spelling; the message says the new one.
    """
    from video_env.errors import InputError

    flags = {argument.split("=")[0] for argument in arguments}
    if command == "cache" and arguments and arguments[0].startswith("--") and arguments[0] != "--help":
        for old, new in (
            ("--published", "video-env cache released-NAME --checkpoint FILE ..."),
            ("--like", "video-env cache like CACHE ..."),
        ):
            if old in flags:
                raise InputError(f"cache {old}: is now a command of its own: {new}")
        return ["build", *arguments]
    if command == "evaluate" and "--policy" in flags:
        policy = (values(arguments, "--policy") or ["NAME"])[0]
        if "--published" in flags:
            name = (values(arguments, "--published") or ["NAME"])[0]
            new = f"released-{name} CACHE --checkpoint {policy}"
        elif policy.endswith((".pt", ".zip")):
            new = f"KIND CACHE --agent {policy} (KIND: what video-env train made it with)"
        else:
            new = f"{policy.replace(' ', '-')} CACHE"
        raise InputError(f"evaluate --policy: is now written video-env evaluate {new} --out TABLE.parquet")
    if command == "compare" and "--path" in flags:
        raise InputError(
            "compare --path: is now written video-env compare CACHE --methods METHOD ... --out FOLDER"
        )
    return arguments


def _at_home(argument: str) -> str:
    """With the user's folder for ``~``, which shells leave as it is behind an equals sign or in quotes."""
    flag, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return flag + equals + os.path.expanduser(value)  # noqa: PTH111  (pathlib would drop a slash at the end)
