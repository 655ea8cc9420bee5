"""Labels as they stand in an annotation file, to class numbers and the classes' names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from video_env.errors import InputError

LARGEST_ANYWAY = 100
TIMES_THE_LABELS = 10
"""Without a list of the classes, numbers are taken as they are below 100, or below 10 times the number of
different labels: a subset of a numbering passes, a typo does not make a class of every number below it."""

_NUMBER = re.compile(r"[0-9]+")
_LIKE_A_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
_BEYOND = 10**18

Labels = Sequence[Sequence[str]]


def number_labels(
    labels: Labels,
    where: Callable[[int], str],
    classes: Sequence[str] | None = None,
    *,
    taken_below: int = 0,
) -> tuple[list[list[int]], tuple[str, ...]]:
    """Numbers of the labels, and the classes' names.

    Args:
        labels: of each video, one or several, as text.
        where: says where a video's labels stand, for messages.
        classes: the classes' names, where there is a list of them: a label is then one of these names, or,
            if none of the names is a number itself, a number into the list. Without a list labels are either
            all numbers, which are kept, or all names, which are numbered in alphabetical order.
        taken_below: numbers below this are taken without a list, however few labels there are: where a
            checkpoint says how many classes there are, and is asked later.

    Returns:
        Each video's class numbers, and the name of every class: the list's, the names themselves, or the
        numbers as they are written.

    Raises:
        InputError: a label is no class, or the labels are a mixture; the message names the first such row.
    """
    if classes is not None:
        return _in_list(labels, where, tuple(classes)), tuple(classes)
    kinds = [[bool(_NUMBER.fullmatch(label)) for label in of_video] for of_video in labels]
    numbers, total = sum(map(sum, kinds)), sum(map(len, kinds))
    if numbers == total:
        return _as_numbers(labels, where, taken_below)
    if all(_LIKE_A_NUMBER.fullmatch(label) for of_video in labels for label in of_video):
        row, label = _first(labels, kinds, False)
        raise InputError(
            f"{where(row)}: found {label!r}, expected a whole number from 0, in the digits 0 to 9, as all "
            "are numbers"
        )
    if numbers:
        odd = numbers < total - numbers  # those that are fewer are the odd ones
        row, label = _first(labels, kinds, odd)
        raise InputError(
            f"{where(row)}: found {label!r}, which is {'a' if odd else 'no'} number, where {numbers} of "
            f"{total} labels are numbers; expected only numbers, only names, or a list of the classes",
            needs="classes",
        )
    names = sorted({label for of_video in labels for label in of_video})
    number = {name: index for index, name in enumerate(names)}
    return [[number[label] for label in of_video] for of_video in labels], tuple(names)


def class_list(classes: str | Path | Sequence[str]) -> tuple[str, ...]:
    """The classes' names, from a file with one name per line, or as they are.

    Two other forms of files are known: lines that number the names, from 0 or 1 (``1 ApplyEyeMakeup``), and a
    JSON object of names with their numbers from 0.

    Raises:
        InputError: the file cannot be read, or a name is empty or there twice; the message names the line.
    """
    if isinstance(classes, (str, os.PathLike)):
        source = f"class list {Path(classes).expanduser()}"
        try:
            text = Path(classes).expanduser().read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise InputError(f"{source}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{source}: no text in UTF-8 ({error})") from error
        names = _names_in(text, source) if text.strip() else []
    else:
        source, names = "class list", [str(name) for name in classes]
    if not names:
        raise InputError(f"{source}: empty, expected one name per line")
    line_of: dict[str, int] = {}
    for line, name in enumerate(names, start=1):
        if not name:
            raise InputError(f"{source}, line {line}: found nothing, expected a name")
        if name in line_of:
            raise InputError(
                f"{source}, line {line}: found {name!r}, which is in line {line_of[name]} already"
            )
        line_of[name] = line
    return tuple(names)


def _names_in(text: str, source: str) -> list[str]:
    """The names in a class list's text, in their order."""
    if text.lstrip().startswith("{"):
        try:
            numbers = {str(name): int(number) for name, number in json.loads(text).items()}
        except (TypeError, ValueError) as error:
            raise InputError(f"{source}: no JSON object of names and their numbers ({error})") from error
        if sorted(numbers.values()) != list(range(len(numbers))):
            raise InputError(f"{source}: expected the numbers 0 to {len(numbers) - 1}, each of one name")
        return sorted(numbers, key=numbers.__getitem__)
    names = [line.strip() for line in text.rstrip().split("\n")]
    numbered = [re.fullmatch(r"(\d+)[ \t,]+(.*\D.*)", name) for name in names]
    found = [match for match in numbered if match is not None]
    if len(found) == len(names):
        first = int(found[0][1])
        if first in (0, 1) and [int(match[1]) for match in found] == list(range(first, first + len(names))):
            return [match[2] for match in found]
    return names


def _in_list(labels: Labels, where: Callable[[int], str], classes: tuple[str, ...]) -> list[list[int]]:
    number_of = {name: number for number, name in enumerate(classes)}
    # Where names are numbers themselves, a number could mean either: it is a name.
    by_number = not any(_NUMBER.fullmatch(name) for name in classes)
    result = []
    for row, of_video in enumerate(labels):
        numbers = []
        for label in of_video:
            number = number_of.get(label)
            if number is None and by_number and _NUMBER.fullmatch(label):
                number = _value(label)
            if number is None or number >= len(classes):
                also = f", or a number from 0 to {len(classes) - 1}" if by_number else ""
                raise InputError(
                    f"{where(row)}: found {label!r}, expected one of the {len(classes)} names of the class "
                    f"list ({', '.join(classes[:3])}{', …' if len(classes) > 3 else ''}){also}"
                )
            numbers.append(number)
        result.append(list(dict.fromkeys(numbers)))
    return result


def _as_numbers(
    labels: Labels, where: Callable[[int], str], taken_below: int
) -> tuple[list[list[int]], tuple[str, ...]]:
    written: dict[int, str] = {}
    for row, of_video in enumerate(labels):
        for label in of_video:
            first = written.setdefault(_value(label), label)
            if first != label:
                raise InputError(
                    f"{where(row)}: found {label!r}, which is {first!r} elsewhere; expected one way to write "
                    "a class number"
                )
    limit = max(LARGEST_ANYWAY, TIMES_THE_LABELS * len(written), taken_below)
    for row, of_video in enumerate(labels):
        for label in of_video:
            if _value(label) >= limit:
                raise InputError(
                    f"{where(row)}: found {label!r}, expected a number below {limit}, as there are "
                    f"{len(written)} different labels; of larger numbers a list of the classes says that "
                    "they are meant",
                    needs="classes",
                )
    classes = tuple(written.get(number, str(number)) for number in range(max(written) + 1))
    return [[_value(label) for label in of_video] for of_video in labels], classes


def _value(label: str) -> int:
    """A class number; Python refuses to read thousands of digits, and no class has so large a number."""
    digits = label.lstrip("0")
    return int(digits or "0") if len(digits) <= 18 else _BEYOND


def _first(labels: Labels, kinds: list[list[bool]], kind: bool) -> tuple[int, str]:
    """The first label of a kind, and its row."""
    return next(
        (row, label)
        for row, of_video in enumerate(labels)
        for label, found in zip(of_video, kinds[row], strict=True)
        if found == kind
    )
