"""Gymnasium environments over a cache. ``task`` has the two views of a task, the files that
end in ``_select`` are the tasks, and the others what these share."""
