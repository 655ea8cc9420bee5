"""Which patch sizes can be chosen on a cache, and the setting that tables show."""

from __future__ import annotations

from video_env.cache.store import Cache
from video_env.errors import InputError


def patch_setting(cache: Cache) -> dict[str, int]:
    """The size of a cache's patches as a setting, ``{"patch_size": 36}``; empty where patches were computed
    elsewhere and the size is unknown."""
    _ = cache["patches"]  # its error says what is missing
    size = cache.meta["arrays"]["patches"]["source"].get("patch_size")
    return {"patch_size": int(size)} if size else {}


DEFAULT_SIZES = (36,)
"""For caches without patches where none is asked for: a seventh of the built-in videos' frames."""


def sizes_to_choose(cache: Cache, asked: tuple[int, ...]) -> tuple[int, ...]:
    """The patch sizes that were asked for; in a cache that has patches already, their own.

    Args:
        cache: with patches or without.
        asked: none asks for the cache's own size, or for ``DEFAULT_SIZES`` where it has none.

    Raises:
        InputError: the cache's own is none of those asked for.
    """
    if "patches" not in cache:
        return asked or DEFAULT_SIZES
    own = cache.meta["arrays"]["patches"]["source"].get("patch_size")
    if own is None:
        return asked[:1] or DEFAULT_SIZES[:1]
    if asked and own not in asked:
        raise InputError(
            f"patch_sizes: found {', '.join(map(str, asked))}; cache {cache.path} has patches of {own} "
            "pixels already, and no others can be chosen on it"
        )
    return (own,)
