"""Gymnasium environments over a cache. ``task`` has the two views, the other files a task each."""
