"""The README runs as written."""

import contextlib
import doctest
import io
import re
import subprocess
import tomllib
from pathlib import Path

import jax

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FLAGS = re.MULTILINE | re.DOTALL


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, FLAGS)


def test_the_tour_runs_and_prints_what_it_says():
    """All python blocks in order in one namespace, as a user would run them, in float32.

    Behind a print a comment is its output; a text block that follows is all the output, with
    `...` for what is left out.
    """
    blocks = re.findall(r"^```python\n(.*?)^```$(?:\s*^```text\n(.*?)^```$)?", README, FLAGS)
    assert blocks, "the README has no python block"
    scope: dict = {"__name__": "readme"}
    for source, shown in blocks:
        printed = io.StringIO()
        with jax.enable_x64(False), contextlib.redirect_stdout(printed):
            exec(compile(source, str(ROOT / "README.md"), "exec"), scope)
        lines = printed.getvalue()
        claims = re.findall(r"^print\(.*\)  # (.*)$", source, flags=re.M)
        if claims:
            assert lines.splitlines() == claims, source
        if shown:
            same = doctest.OutputChecker().check_output
            options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert same(shown, lines, options), f"printed was:\n{lines}"


def test_the_commands_name_extras_and_modules_that_exist():
    shell = "\n".join(blocks("sh"))
    assert 'pip install -e ".[test]" && pytest' in shell
    assert 'pip install -e ".[experiments]" && python -m experiments.quickstart' in shell
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in re.findall(r"\[(\w+)\]\"", shell):
        assert extra in project["optional-dependencies"]
    for module in re.findall(r"python -m ((?:experiments|tests)[\w.]*)", shell):
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_the_map_shows_every_room_and_nothing_else():
    (text,) = [block for block in blocks("text") if block.startswith("wsljax/")]
    listed = set(re.findall(r"^  (\w+)/", text, re.M))
    assert listed == {path.parent.name for path in (ROOT / "wsljax").glob("*/__init__.py")}
    for folder in re.findall(r"^(\w+)/", text, re.M):
        assert (ROOT / folder).is_dir(), folder


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?://|#)([^)]+)\)", README):
        assert (ROOT / target.split("#")[0]).exists(), target


def test_the_ci_script_is_valid_bash():
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)
