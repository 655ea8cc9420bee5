"""The documentation: the site builds without a warning and without network, and what it says is there."""

from __future__ import annotations

import ast
import contextlib
import html
import importlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache as cached
from itertools import takewhile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
from gymnasium.utils.env_checker import check_env

import video_env  # noqa: F401  (registers the environments)
from video_env.cache.store import Cache
from video_env.errors import InputError
from video_env.evaluation import registry
from video_env.evaluation.evaluate import evaluate
from video_env.evaluation.labels import point_label
from video_env.evaluation.results import setting_columns, setting_of

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
READMES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*READMES, *(page for page in DOCS.rglob("*.md") if not re.search(r"-v\d+$", page.stem))]


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html", source, out]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    built = build(DOCS, out)
    assert built.returncode == 0, built.stderr
    return out


def test_every_environment_has_a_page(site: Path) -> None:
    own = [name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("video_env.")]
    assert own
    for name in own:
        page = re.sub(r"<[^>]*>", "", (site / "environments" / f"{name}.html").read_text())
        assert str(gym.make(name).action_space) in html.unescape(page)
        assert "Episode End" in page


def test_the_site_needs_no_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|link|iframe|source)\b[^>]*\b(?:src|href)=\"([^\"]+)\"", page.read_text()
        )
        assert loaded
        assert not [one for one in loaded if re.match(r"(https?:)?//", one)], page


def test_what_is_not_there_fails_the_build(tmp_path: Path) -> None:
    """Each line of this site is a mistake, and each is found."""
    (tmp_path / "conf.py").write_text(
        f"import sys\nsys.path[:0] = [{str(DOCS)!r}, {str(ROOT)!r}]\nmyst_heading_anchors = 3\n"
        "extensions = ['myst_parser', '_generate.claims', '_generate.code', '_generate.results', '_generate.speed']\n"
    )
    mistakes = {
        "```{results} study-all.csv\nocsampler\nalchemist\n```": "no row of 'alchemist'",
        "```{results} study-all.csv\nuniform | num_frames = 99\n```": "no row of 'uniform | num_frames = 99'",
        "```{results} study-all.csv\nuniform | beauty = 2\n```": "no row of 'uniform | beauty = 2'",
        "```{results} nothing.csv\n```": "no file docs/results/nothing.csv",
        "```{claims}\nabsent.csv | all videos\n```": "no file docs/results/absent.csv",
        "```{trainings} versions-training.csv\n:by: method\n:show: beauty\n```": "no column beauty",
        "```{speed} cache_opening.json\nboiling | boiling: degrees\n```": "no result 'boiling: degrees'",
        "{source}`video_env/nothing.py`": "video_env/nothing.py: no such file",
        "{source}`video_env/errors.py::Nothing`": "defines no Nothing",
        "{source}`video_env/cache/store.py::Cache.nothing`": "defines no Cache.nothing",
        "```{docstring} video_env.nothing\n```": "No module named 'video_env.nothing'",
        "[there](#nowhere)": "nowhere",
        "": "docs/results/environments.json: no page shows it",
    }
    (tmp_path / "index.md").write_text("# Mistakes\n\n" + "\n\n".join(mistakes))
    built = build(tmp_path, tmp_path / "out")
    assert built.returncode != 0
    for message in mistakes.values():
        assert message in built.stderr
    assert "cache_opening.json: no page shows it" not in built.stderr
    assert "no row of 'ocsampler'" not in built.stderr


@pytest.mark.parametrize("file", READMES, ids=lambda file: file.name)
def test_links_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", file.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = file.parent / path if path else file
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ +(.+)$", there.read_text(), re.MULTILINE)
            # As GitHub makes anchors of headings.
            assert anchor in {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}, (
                target
            )


def code(page: Path) -> Iterator[tuple[str, str]]:
    """The language and text of every block of code, and every code span as one of bash."""
    text, blocks = (
        page.read_text(),
        re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2$", re.MULTILINE | re.DOTALL),
    )
    for indent, _, language, block in blocks.findall(text):
        yield language, re.sub(f"^{indent}", "", block, flags=re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", blocks.sub("", text)):
        yield "bash", re.sub(r"\s+", " ", span)


def named_commands() -> Iterator[tuple[Path, list[str]]]:
    """Every use of the command line, as its words after ``video-env``."""
    for page in PAGES:
        for language, block in code(page):
            for line in block.splitlines() if language == "bash" else ():
                found = re.search(r"(?:\bvideo-env|-m compare) +(?=[a-z])(.*)", line)
                if found:
                    yield page, shlex.split(found[1], comments=True)


@cached
def help_of(*words: str) -> str:
    """What a command prints for ``--help``; empty where there is no such command."""
    from compare.command_line.main import main

    status: Any = 0
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
        try:
            status = main([*words, "--help"])
        except SystemExit as ended:
            status = ended.code
    return "" if status else printed.getvalue()


def command_of(words: list[str]) -> list[str]:
    """The words that name the command: one, or two where it has sub-commands."""
    subcommands = re.search(r"{(.*?)}", help_of(words[0]).partition("\n\n")[0])
    named = set(subcommands[1].split(",")) if subcommands and words[0] in GROUPS else set()
    return words[:2] if len(words) > 1 and words[1] in named else words[:1]


GROUPS = ("cache", "train", "evaluate")


def test_commands_exist_with_their_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    used = list(named_commands())
    assert len(used) > 40
    for page, words in used:
        command, written = command_of(words), f"{page.name}: video-env {' '.join(words)}"
        # A group alone may be spoken of, but something that it does not have may not be done.
        rest = words[len(command) :]
        assert not (rest and command[0] in GROUPS and len(command) == 1), written
        # The options of a comparison follow from the methods named.
        methods: list[str] = []
        if "--methods" in words:
            named = words[words.index("--methods") + 1 :]
            methods = [
                "--methods",
                *(w for w in takewhile(lambda w: w[0] != "-", named) if w in registry_ids()),
            ]
        known = help_of(*command, *methods)
        assert known, written
        for option in rest:
            if re.match(r"--[a-z]", option):
                assert option.partition("=")[0] in re.findall(r"--[a-z][\w.-]*", known), written


@cached
def registry_ids() -> frozenset[str]:
    registry.load()
    return frozenset(registry.methods())


def test_methods_named_in_comparisons_are_there() -> None:
    own = {"every-second"}  # of docs/examples
    for page, words in named_commands():
        if "--methods" in words:
            named = takewhile(lambda word: word[0] != "-", words[words.index("--methods") + 1 :])
            unknown = set(named) - registry_ids() - own - {"ID", "...", "METHOD"}
            assert not unknown, f"{page.name}: {unknown}"


def test_every_method_is_on_a_page() -> None:
    """By its id, or by its title."""
    pages = "\n".join(page.read_text() for page in (DOCS / "methods").glob("*.md"))
    for one in registry.methods().values():
        said = re.compile(rf"(?<![\w-])({re.escape(one.id)}|{re.escape(one.title)})(?![\w-])")
        assert said.search(pages), one.id


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


def test_the_table_in_the_readme_is_the_saved_one() -> None:
    """Every row of README's results is the row of the study's summary that it names."""
    saved = pd.read_csv(DOCS / "results" / "study-all.csv")
    columns = setting_columns(saved)
    rows = {point_label(row["title"], setting_of(row, columns)): row for row in saved.to_dict("records")}
    text = (ROOT / "README.md").read_text()
    table = re.search(r"^\| method \| frames .*\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table
    shown = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table[1].splitlines()]
    assert len(shown) > 5
    for method, frames, top1, gflops, difference in shown:
        row = rows[method]
        assert float(frames) == pytest.approx(row["frames"], abs=0.005)
        assert numbers(top1) == pytest.approx([row["top1"], row["top1_low"], row["top1_high"]], abs=0.00051)
        assert float(gflops) == pytest.approx(row["gflops"], rel=0.005)
        expected = [row[f"difference_to_uniform{end}"] for end in ("", "_low", "_high")]
        assert numbers(difference) == pytest.approx([one for one in expected if one == one], abs=0.00051)


def numbers(cell: str) -> list[float]:
    return [float(one.replace("−", "-")) for one in re.findall(r"[+−-]?\d+\.\d+", cell.replace("–", " "))]


def test_python_examples_import_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    blocks = [(page, block) for page in PAGES for language, block in code(page) if language == "python"]
    assert blocks
    for page, block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), f"{page.name}: {node.module}.{name.name}"
            elif isinstance(node, ast.Import):
                for name in node.names:
                    importlib.import_module(name.name)


def test_example_of_an_environment(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    importlib.import_module("my_environment")
    env = gym.make("ClipSelect-v0", cache=cache, num_frames=3, cost_per_gflop=0.5)
    check_env(env.unwrapped, skip_render_check=True)
    _, before = env.reset(seed=0)
    _, reward, terminated, _, info = env.step(2)
    assert terminated
    assert info["selected"].tolist() == [0, 0, 1, 1, 1, 0]
    spent = info["gflops"] - before["gflops"]
    assert reward == pytest.approx(info["confidence"] - 1 / 4 - 0.5 * spent)
    envs = gym.make_vec(
        "ClipSelect-v0", 5, vectorization_mode="vector_entry_point", cache=cache, num_frames=6
    )
    envs.reset(seed=0)
    *_, infos = envs.step(np.zeros(5, int))
    assert infos["final_info"]["selected"].all()
    with pytest.raises(InputError, match="num_frames: found 7, expected 1 to 6"):
        gym.make("ClipSelect-v0", cache=cache, num_frames=7)


def test_example_of_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    read_lines = importlib.import_module("my_reader").read_lines
    file = tmp_path / "list.txt"
    file.write_text("train jumping/3.mp4 0\ntest running/1.mp4 2\n")
    annotations = read_lines(file, tmp_path)
    assert annotations.classes == ("0", "1", "2")
    assert annotations.table[["path", "label", "split"]].to_numpy().tolist() == [
        ["jumping/3.mp4", 0, "train"],
        ["running/1.mp4", 2, "test"],
    ]
    for line in ("train ../3.mp4 0", "train /3.mp4 0", "train 3.mp4", "dev 3.mp4 0", "train 3.mp4 jump"):
        file.write_text(f"test 1.mp4 1\n{line}\n")
        with pytest.raises(InputError, match="line 2"):
            read_lines(file, tmp_path)


def test_example_of_a_trained_method(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It learns the mean confidence of each candidate alone, which a loop over the table gives too."""
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    importlib.import_module("my_trained_method")
    method = registry.methods()["learned-places"]
    job = registry.Job(
        cache,
        "test",
        0,
        tmp_path,
        {"learned-places": replace(method.settings, num_frames=(2,), episodes=3000)},
    )
    method.do_work(job)
    before = (tmp_path / "learned-places.npy").read_bytes()
    method.do_work(job)
    assert (tmp_path / "learned-places.npy").read_bytes() == before
    (entry,) = method.list_entries(job)
    alone = cache["subset_confidence"][cache.rows("train")][:, 1 << np.arange(6)].astype(float).mean(axis=0)
    expected = sorted(np.argsort(alone)[-2:].tolist())
    chosen = evaluate(entry, cache, "test")["selected"].map(list).map(tuple).unique().tolist()
    assert chosen == [tuple(expected)]


def test_example_of_a_method(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    own = importlib.import_module("my_method")
    method = registry.methods()["every-second"]
    job = registry.Job(cache=cache, split="test", seed=0, folder=tmp_path, method=method)
    entries = own.every_second(job, own.EverySecondSettings((1, 3)))
    tables = [evaluate(entry, cache, "test") for entry in entries]
    assert [table["selected"].iloc[0] for table in tables] == [[0], [0, 2, 4]]
    with pytest.raises(InputError, match="expected 1 to 3"):
        own.every_second(job, own.EverySecondSettings((4,)))
