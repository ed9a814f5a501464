"""Training by several processes: `accelerate launch` of the worker, and what to do when one fails.

The job, the launch configuration, checkpoints and the log lie in the training's work folder. Over
several machines the command that the log begins with is run on each of the others too, with its
--machine_rank (see docs/scaling.md).
"""

import json
import logging
import os
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ded import home, jobs
from ded.errors import TrainingError
from ded.files import read_yaml
from ded.options import Trainer
from ded.training.job import MEND, Job, micro_batch

PLAIN = {"distributed_type": "MULTI_GPU", "num_machines": 1, "mixed_precision": "no"}
log = logging.getLogger("ded")


def launch(job: Job) -> None:
    """`fit` in as many processes as the trainer asks for. TrainingError, with the end of their log,
    if one fails."""
    config, environment = configuration(job.trainer), _environment()
    n_processes = config["num_processes"]
    _check_gpus(n_processes // config["num_machines"])
    micro_batch(job, n_processes)  # an error now, not in the processes
    if config["distributed_type"] == "FSDP" and "ACCELERATE_USE_CPU" in environment:
        raise TrainingError(  # accelerate would leave the model whole, silently
            f"trainer.accelerate = {job.trainer.accelerate!r} shares the model out among GPUs, "
            f"and there are none here; on a CPU take 'ddp_2cpu'"
        )
    config_file, job_file = job.work / "accelerate.json", job.work / "job.json"
    config_file.write_text(json.dumps(config))
    job_file.write_bytes(TypeAdapter(Job).dump_json(job))
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    command = [*launcher, str(config_file), "-m", "ded.training.worker", str(job_file)]
    problem, log_file = job.work / "error.txt", job.work / "log.txt"
    problem.unlink(missing_ok=True)
    log.info("training with %d processes; their log: %s", n_processes, log_file)
    code = _run(command, log_file, environment)
    if not code:
        return
    if problem.exists():
        raise TrainingError(problem.read_text())
    text = log_file.read_text(errors="replace")
    killed = "SIGKILL" in text or "exitcode: -9" in text
    hint = f"; a process was killed, most likely for want of memory: {MEND}" if killed else ""
    failure = f"training in {n_processes} processes failed (exit code {code}){hint}"
    raise TrainingError(f"{failure}. Their log ends:\n{text[-2500:]}")


def _check_gpus(n_processes: int) -> None:
    """TrainingError where there are GPUs, and fewer than processes of this machine."""
    import torch

    if 0 < (n_gpus := torch.cuda.device_count()) < n_processes:
        mend = f"set trainer.processes to {n_gpus} or fewer, or make more of them visible"
        raise TrainingError(
            f"{n_processes} processes want a GPU each, and {n_gpus} are here: {mend}"
        )


def configuration(trainer: Trainer) -> dict[str, Any]:
    """What accelerate is told: the named file of params/accelerate/, or plain data parallelism on
    this machine."""
    config: dict[str, Any] = dict(PLAIN)
    if trainer.accelerate:
        config |= read_yaml(home() / "params" / "accelerate" / f"{trainer.accelerate}.yml")
    if trainer.processes > 1:
        config["num_processes"] = trainer.processes
    if config["num_machines"] == 1:
        config.setdefault("main_process_port", 0)  # a free one: trainings may run side by side
    return config


def _run(command: list[str], log_file: Path, environment: dict[str, str]) -> int:
    """Runs the launch to its end, its output in `log_file`; returns its exit code."""
    with log_file.open("w") as stream:
        print(shlex.join(command), file=stream, flush=True)
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
        try:
            return process.wait()
        finally:
            # No worker outlives an interrupt: the launcher ends its own on SIGTERM, and they end by
            # themselves without it.
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def _environment() -> dict[str, str]:
    import torch

    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    cpu = {} if torch.cuda.is_available() else {"ACCELERATE_USE_CPU": "true"}
    return {"OMP_NUM_THREADS": "1"} | os.environ | jobs.QUIET | paths | cpu
