"""Differing settings, in words."""

from video_env.settings import LONGEST, difference


def test_all_that_differs_is_named() -> None:
    found = {"patch_size": 36, "policy": {"hidden": 16, "rates": (1, 2)}, "old": None, "seed": 0}
    wanted = {"patch_size": 48, "policy": {"hidden": 32, "rates": [1, 2]}, "new": {"epochs": 3}, "seed": 0}
    assert difference(found, wanted) == (
        "patch_size 36 there, 48 asked for; policy.hidden 16 there, 32 asked for; "
        "old None there, nothing asked for; new nothing there, {'epochs': 3} asked for"
    )
    assert difference("train", "test") == "train there, test asked for"
    assert difference(found, found) == ""
    assert difference((1, [2, {"a": (3,)}]), [1, (2, {"a": [3]})]) == ""


def test_long_differences_are_cut() -> None:
    found = {str(number): number for number in range(8)}
    assert difference(found, {}).count("asked for") == 5
    assert difference(found, {}).endswith("4 there, nothing asked for; and 3 more")
    assert difference({"a": "x" * 1000}, {"a": "y"}) == f"a {'x' * LONGEST}… there, y asked for"
