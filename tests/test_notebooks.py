"""Every notebook runs from top to bottom, in its short setting, and is stored with its outputs."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_ENV_SHORT", "1")
    monkeypatch.setenv("VIDEO_ENV_RUN", str(tmp_path / "none"))
    # Run elsewhere, so that nothing is written beside it; what it reads of the repository stands there too.
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (tmp_path / "docs").symlink_to(FOLDER.parent / "docs")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(file, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook_is_stored_with_outputs(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert pictures, "a notebook shows pictures"


def test_all_four_are_there() -> None:
    assert [file.stem for file in NOTEBOOKS] == [
        "01_quickstart", "02_accuracy_vs_budget", "03_patches_v1_v2", "04_your_videos",
    ]  # fmt: skip
