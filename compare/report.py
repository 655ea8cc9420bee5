"""A comparison as one HTML file."""

from __future__ import annotations

from pathlib import Path

from compare.run import Run


def write_report(run: Run, file: Path | None = None, *, videos: int | None = None) -> Path:
    return run.folder / "report.html"
