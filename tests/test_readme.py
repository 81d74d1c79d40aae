"""The README runs as written."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)


def test_the_tour_runs_and_prints_what_it_says(capsys):
    """All python blocks in order in one namespace; a `# …` comment after a print is its output."""
    tour = blocks("python")
    assert tour, "the README has no python block"
    scope: dict = {"__name__": "readme"}
    for block in tour:
        exec(compile(block, str(ROOT / "README.md"), "exec"), scope)
        printed = capsys.readouterr().out
        for claim in re.findall(r"^print\(.*?\)  # (.*)$", block, flags=re.M):
            assert claim in printed, f"the README promises {claim!r}; printed was:\n{printed}"


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


@pytest.mark.parametrize("folder", re.findall(r"^(\w+)/", "\n".join(blocks("text")), flags=re.M))
def test_the_map_shows_folders_that_exist(folder):
    assert (ROOT / folder).is_dir()


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?://|#)([^)]+)\)", README):
        assert (ROOT / target.split("#")[0]).exists(), target


def test_the_ci_script_is_valid_bash():
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)
