"""Named arrays of features for every video, on disk: read memory-mapped, written so that nothing is lost."""

from video_env.cache.store import Cache, CacheError

__all__ = ["Cache", "CacheError"]
