"""Data flows one way: a lower layer never imports a higher one."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the ground up; packages on one line may not import each other.
LAYERS = [
    ["video_env_packages"],
    ["video_env.errors", "video_env.orphans", "video_env.settings"],
    ["video_env.files"],
    ["video_env.data"],
    ["video_env.cache"],
    ["video_env.models"],
    ["video_env.envs"],
    ["video_env.evaluation"],
    ["agents.common"],
    ["agents.ocsampler", "agents.adafocus", "agents.adafocus_v2", "baselines"],
    ["agents"],  # what all agents are reached by
    ["compare"],
]


def layer_of(module: str) -> tuple[int, str] | None:
    """The floor of the longest name that fits, and that name."""
    fitting = [
        (len(name), height, name)
        for height, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    return max(fitting)[1:] if fitting else None


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import, which this test cannot place"
            assert node.module
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = [
    file for top in ("video_env", "agents", "baselines", "compare") for file in (ROOT / top).rglob("*.py")
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_down_only(file: Path) -> None:
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    own = layer_of(module)
    if module == "video_env":
        return  # it registers the environments, whatever else is imported
    assert own is not None, f"{module} is in no layer: give it one above"
    if own[1] == "agents":
        assert module in ("agents", "agents.released"), (
            f"{module}: a new family of agents is a floor of its own"
        )
    for imported in imports(file):
        other = layer_of(imported)
        if other is not None:
            assert other[0] < own[0] or other[1] == own[1], f"{module} imports {imported}"


def test_only_the_data_layer_knows_a_video_decoder() -> None:
    """``demo.py`` writes videos."""
    decoders = {"av", "cv2", "decord", "torchcodec"}
    who = {file.name for file in FILES if {name.split(".")[0] for name in imports(file)} & decoders}
    assert who == {"video_file.py", "complaints.py", "other_decoders.py", "demo.py"}


COMMAND = re.compile(
    r"(?<![\w-])--[a-z]|\bvideo-env (cache|compare|curve|demo|evaluate|predict|report|selections|study|train)\b"
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_the_command_line_knows_commands_and_flags(file: Path) -> None:
    """What lies below says what is missing (``InputError.needs``); how a command makes it, ``compare`` adds."""
    if file.is_relative_to(ROOT / "compare"):
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = COMMAND.search(node.value)
            assert found is None, f"line {node.lineno}: {found[0]}"


def test_the_search_for_commands_finds_them() -> None:
    """As ``compare`` holds them."""
    text = "".join(file.read_text() for file in (ROOT / "compare").rglob("*.py"))
    assert {"--", "vi"} <= {found[0][:2] for found in COMMAND.finditer(text)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_long_file_gives_its_reason(file: Path) -> None:
    text = file.read_text()
    if text.count("\n") > 400:
        assert re.search(r"\blong\b", ast.get_docstring(ast.parse(text)) or ""), (
            "more than 400 lines, and no reason"
        )
