"""The examples of CONTRIBUTING.md: each is run as it stands on the page."""

import re
import shutil
from pathlib import Path

import pytest

from ded import curation, generation, problems

ROOT = Path(__file__).parents[1]
SECTIONS = re.split(r"^### ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)[1:]
EXAMPLES = {
    section.splitlines()[0]: code
    for section in SECTIONS
    for code in re.findall(r"^```python\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
}
REGISTRIES = (problems.SOURCES, generation.ENGINES, curation.RULES, curation.METRICS)


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A copy of what parameters are read from, and an empty store; ends without what an example
    registers."""
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))
    before = [dict(registry) for registry in REGISTRIES]
    yield
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(entries)


def run(name):
    exec(compile(EXAMPLES[name], f"CONTRIBUTING.md, {name!r}", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "An arm"])
def test_an_example_runs(name, workshop):
    run(name)


@pytest.mark.slow
def test_the_example_of_an_arm_trains_and_scores_it(workshop, tiny):
    run("An arm")


def test_each_kind_of_thing_that_can_be_added_has_an_example():
    kinds = "A source of questions", "An engine", "A rule of selection", "A metric", "An arm"
    assert tuple(EXAMPLES) == (*kinds, "A preset")
