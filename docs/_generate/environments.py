"""A page for every environment that this package registers, from its class's docstring.

The docstring is the specification; above it stand the spaces and a picture of the real environment on the
cache that ships with the package. The pages are written beside ``environments/index.md`` before anything is
read.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator
from PIL import Image
from sphinx.application import Sphinx

import video_env  # noqa: F401  (registers the environments)

PAGE = """\
# {id}

{summary}

![Rendered: a few random actions on a video of the cache that ships with the package]({id}.png)

```python
import gymnasium as gym
import video_env

env = gym.make("{id}")
envs = gym.make_vec("{id}", num_envs=1024, vectorization_mode="vector_entry_point")
```

| on the cache that ships with the package | |
| --- | --- |
{spaces}

{specification}
"""


def own_environments() -> dict[str, EnvSpec]:
    """By id, what this package has registered."""
    return {
        name: spec for name, spec in gym.registry.items() if str(spec.entry_point).startswith("video_env.")
    }


def page(name: str, spec: EnvSpec, env: gym.Env[Any, Any], names: list[str]) -> str:
    """The page of an environment, in Markdown.

    Args:
        name: its id.
        spec: what is registered.
        env: one of it.
        names: of all environments, which the page links to.
    """
    docstring = inspect.getdoc(load_env_creator(str(spec.entry_point)))
    if not docstring or "\n\n## " not in docstring:
        raise ValueError(f"{spec.entry_point}: expected a docstring with headings, which its page is made of")
    summary, specification = docstring.split("\n\n", 1)
    spaces = {"action space": env.action_space}
    assert isinstance(env.observation_space, gym.spaces.Dict)
    spaces |= {f"observation `{key}`": space for key, space in env.observation_space.items()}
    others = "|".join(re.escape(other) for other in names if other != name)
    return PAGE.format(
        id=name,
        summary=summary.replace("\n", " "),
        spaces="\n".join(f"| {what} | `{space}` |" for what, space in spaces.items()),
        specification=re.sub(f"`({others})`", r"[`\1`](\1.md)", specification) if others else specification,
    )


def picture(env: gym.Env[Any, Any]) -> Any:
    """What the environment renders after some random actions, uint8 [H, W, 3]."""
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(3):
        if env.step(env.action_space.sample())[2]:
            break
    return env.render()


def write_pages(app: Sphinx) -> None:
    """Write the pages, and delete those of environments that are gone."""
    folder, environments = Path(app.srcdir) / "environments", own_environments()
    for file in folder.glob("*-v[0-9]*"):
        if file.stem not in environments:
            file.unlink()
    for name, spec in environments.items():
        env = gym.make(name, render_mode="rgb_array")
        text, file = page(name, spec, env, list(environments)), folder / f"{name}.md"
        if not file.is_file() or file.read_text() != text:  # what is as it was is not read anew
            file.write_text(text)
        Image.fromarray(picture(env)).save(folder / f"{name}.png")
        env.close()


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
