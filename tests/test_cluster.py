"""Jobs on a Ray cluster, of two nodes on this machine: what `jobs.run` promises anywhere, and what
is lost with a node, a driver or a wrong address."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import cells
import psutil
import pytest
from pydantic import TypeAdapter
from test_notebooks import CHANGES, TINY

from ded import jobs, params, store
from ded.errors import JobError, ParameterError
from ded.options import Cluster
from ded.params.schemas import Jobs

ROOT = Path(__file__).parents[1]
NOTEBOOK = "03_trajectory_diversity"
SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
really = pytest.mark.skipif(
    not find_spec("ray") and not os.environ.get("DED_REQUIRE_RAY"), reason="Ray is not installed"
)


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes, a core each."""
    from ray.cloudpickle import register_pickle_by_value
    from ray.cluster_utils import Cluster as Nodes

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
    nodes = Nodes(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    nodes.add_node(**SMALL)
    yield nodes
    import ray

    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def cluster(nodes, tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))
    return Cluster(address=nodes.address)


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def node_of_this_process():
    import ray

    return ray.get_runtime_context().get_node_id()


# ---- what needs no Ray --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, address",
    [
        ("ray", "auto"),
        ("ray:auto", "auto"),
        ("ray:10.0.0.1:6379", "10.0.0.1:6379"),
        ("ray://head:10001", "ray://head:10001"),
        ({"address": "ray", "gpus_per_job": 8}, "auto"),
    ],
)
def test_n_jobs_may_name_a_cluster(value, address):
    n_jobs = TypeAdapter(Jobs).validate_python(value)
    assert n_jobs.address == address
    loaded = params.load("lab", "01", {"n_jobs": value})["n_jobs"]
    assert TypeAdapter(Jobs).validate_python(loaded) == n_jobs  # as a notebook gets it


@pytest.mark.parametrize(
    "value, message",
    [
        (-1, "n_jobs = -1: Input should be greater than or equal to 0"),
        ("slurm", "n_jobs.address = 'slurm' is no address of a Ray cluster; allowed: ray"),
        (
            {"address": "ray", "gpus_per_jobs": 8},
            "gpus_per_jobs = 8: unknown parameter; nearest: gpus_per_job",
        ),
        ({"gpus_per_job": 8}, "n_jobs.address is missing"),
    ],
)
def test_a_wrong_n_jobs_is_one_error(value, message):
    with pytest.raises(ParameterError, match="1 problem") as caught:
        params.load("lab", "01", {"n_jobs": value})
    assert message in str(caught.value)


@pytest.mark.skipif(bool(find_spec("ray")), reason="Ray is installed")
def test_without_ray_it_says_what_to_install():
    with pytest.raises(JobError, match=r"^n_jobs asks for Ray.*pip install 'ded\[ray\]'"):
        jobs.run(abs, [{"x": 1}], Cluster(address="auto"))


# ---- with Ray -----------------------------------------------------------------------------------


@really
def test_jobs_run_on_all_nodes_with_one_thread_and_their_environment(cluster):
    def job(x):
        time.sleep(0.5)
        threads = {os.environ[name] for name in jobs.THREAD_VARIABLES}
        return x, threads, os.environ["OURS"], str(store.root()), node_of_this_process()

    cluster = cluster.model_copy(update={"environment": {"OURS": "yes"}})
    results = jobs.run(job, [{"x": x} for x in range(6)], cluster)
    assert [result[0] for result in results] == list(range(6))
    assert all(result[1:4] == ({"1"}, "yes", os.environ["DED_STORE"]) for result in results)
    assert len({result[4] for result in results}) == 2


@really
def test_the_first_failure_names_its_arguments_and_stops_the_rest(cluster, tmp_path):
    def job(index):
        if index == 1:
            raise ValueError("no such style")
        time.sleep(1)
        (tmp_path / str(index)).touch()

    with pytest.raises(JobError, match=r"^job 2 of 40 failed: job\(index=1\): ValueError") as error:
        jobs.run(job, [{"index": i} for i in range(40)], cluster)
    assert isinstance(error.value.__cause__, ValueError)
    assert "in job" in "".join(error.value._render_traceback_())
    done = len(list(tmp_path.glob("[0-9]*")))
    time.sleep(2)
    assert len(list(tmp_path.glob("[0-9]*"))) == done < 20


@really
def test_what_is_lost_with_a_node_runs_again(nodes, cluster, tmp_path):
    """The rest is not run twice."""
    extra = nodes.add_node(**SMALL)
    dying = extra.node_id

    def job(x):
        with (tmp_path / f"{x}-{node_of_this_process()}").open("a") as stream:
            stream.write("x")
        time.sleep(600 if node_of_this_process() == dying else 0.5)
        return x * x

    def kill():
        wait_for(lambda: list(tmp_path.glob(f"*-{dying}")))
        nodes.remove_node(extra, allow_graceful=False)

    thread = Thread(target=kill)
    thread.start()
    assert jobs.run(job, [{"x": x} for x in range(6)], cluster) == [0, 1, 4, 9, 16, 25]
    thread.join()
    begun = [file.name.split("-") for file in tmp_path.glob("[0-9]-*")]
    lost = [x for x, node in begun if node == dying]
    again = [x for x, node in begun if node != dying]
    assert len(lost) == 1 and sorted(again) == list("012345")


@really
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_goes_on_without_its_driver(cluster, tmp_path, how):
    code = f"""
        import os, pathlib, signal, time
        from ded import jobs
        from ded.options import Cluster
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
        def job(i):
            pathlib.Path({str(tmp_path)!r}, f"pid-{{os.getpid()}}").touch()
            time.sleep(600)
        jobs.run(job, [dict(i=i) for i in range(2)], Cluster(address={cluster.address!r}))
    """
    driver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        wait_for(lambda: driver.poll() is None and len(list(tmp_path.glob("pid-*"))) == 2)
        driver.send_signal(how)
        assert driver.wait(300)
        workers = [int(file.name.removeprefix("pid-")) for file in tmp_path.glob("pid-*")]
        wait_for(lambda: not any(map(psutil.pid_exists, workers)))
    finally:
        driver.kill()


@really
def test_what_the_cluster_lacks_is_said_before_any_work(nodes, cluster, tmp_path, monkeypatch):
    def refused(cluster):
        with pytest.raises(JobError) as caught:
            jobs.run((tmp_path / "worked").touch, [{}], cluster)
        return str(caught.value)

    too_much = cluster.model_copy(update={"gpus_per_job": 8})
    wants = "n_jobs: a job wants 1 CPUs and 8 GPUs of one node, and the cluster's have 1 CPUs, 0"
    assert refused(too_much).startswith(wants)
    extra = nodes.add_node(**SMALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DED_STORE", "/proc/self/cwd/own")  # of each process another
    assert "it sees another store than this machine" in refused(cluster)
    nodes.remove_node(extra)
    assert not (tmp_path / "worked").exists()


@really
def test_an_address_that_does_not_answer_is_one_error():
    code = """
from ded import jobs
from ded.options import Cluster
jobs.run(abs, [{}], Cluster(address="127.0.0.1:1"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "JobError: n_jobs: no Ray cluster answers at '127.0.0.1:1'" in done.stderr


@really
def test_a_notebook_gives_the_same_on_a_cluster(nodes, tmp_path):
    texts = []
    for place in (2, {"address": nodes.address}):
        folder = tmp_path / f"{type(place).__name__}"
        changes = TINY | CHANGES[NOTEBOOK] | {"n_replicates": 1, "students": ["lab:student_1"]}
        changes |= {"out_dir": str(folder), "n_jobs": place}
        errors = cells.run("lab", {NOTEBOOK: changes}, DED_STORE=str(folder / "store"))
        assert errors == {NOTEBOOK: ""}
        texts.append((folder / "metrics.json").read_text())
    assert texts[0] == texts[1] and json.loads(texts[0])["claims"]
