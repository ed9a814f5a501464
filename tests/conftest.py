"""Fixtures that several files share: lab models trained for a moment. They know nothing, and load
and run like any other."""

import os
import signal

import hypothesis
import pytest

from ded import store

# A runner in the background may ignore SIGINT, which children inherit: the tests of Ctrl-C would
# wait for nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("ded", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("ded")

TINY = ("student_1", "ancestor", "random")
# Files whose tests all have a marker; single tests of other files are decorated.
MARKED = {
    "slow": ("test_interruption", "test_notebooks", "test_presets", "test_training_processes"),
    "sandbox": ("test_grading_code", "test_sandbox"),
    "engines": ("test_cluster", "test_engines", "test_vllm"),
}
# begun first, so that no process waits for another's
LONGEST = ("test_notebooks", "test_presets", "test_openai", "test_training_processes")


def pytest_collection_modifyitems(items):
    for item in items:
        for marker, files in MARKED.items():
            if item.path.stem in files:
                item.add_marker(marker)
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture(autouse=True)
def no_run_goes_on():
    """A recorder that a test does not finish marks the process as its run: not beyond the test."""
    yield
    os.environ.pop(store.RUN, None)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """The folder of `TINY`, built as `ded lab build` builds them, two thousand times shorter."""
    import torch

    from ded.lab import build

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("lab")
    for name in TINY:
        build.build(name, folder, scale=0.0005)
    return folder


@pytest.fixture
def tiny(tiny_models, tmp_path, monkeypatch):
    """The tiny models as the lab, and an empty store."""
    monkeypatch.setenv("DED_LAB", str(tiny_models))
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))
    return tiny_models
