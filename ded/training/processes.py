"""Training by several processes: `accelerate launch` of this module, and what to do when one of them fails.

The job, the launch configuration, checkpoints and the log lie in the training's work folder. Over several machines the
command that the log begins with is run on each of the others too, with its --machine_rank (see docs/scaling.md).
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import yaml

from ded import home, jobs
from ded.errors import TrainingError
from ded.options import Trainer
from ded.training.trainer import MEND, share

log = logging.getLogger("ded")


def launch(
    student: str, examples: list[dict], folder: Path, settings: dict, trainer: Trainer, work: Path
) -> None:
    """`training.fit` in as many processes as the trainer asks for. TrainingError, with the end of their log, if one fails."""
    config = configuration(trainer)
    share(settings["batch_size"], config["num_processes"], trainer)
    if (
        config["distributed_type"] == "FSDP" and "ACCELERATE_USE_CPU" in _environment()
    ):  # accelerate would leave the model whole, silently
        raise TrainingError(
            f"trainer.accelerate = {trainer.accelerate!r} shares the model out among GPUs, and there are none here; on a CPU take 'ddp_2cpu'"
        )
    (work / "error.txt").unlink(missing_ok=True)
    (work / "accelerate.json").write_text(json.dumps(config))
    (work / "job.json").write_text(
        json.dumps(
            {
                "student": student,
                "examples": examples,
                "folder": str(folder.resolve()),
                "settings": settings,
                "trainer": trainer.model_dump(),
                "owner": [socket.gethostname(), os.getpid()],
            }
        )
    )
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(work / "accelerate.json"),
        "-m",
        "ded.training.worker",
        str(work / "job.json"),
    ]
    with (work / "log.txt").open("w") as stream:
        print(shlex.join(command), file=stream, flush=True)
        log.info(
            "training with %d processes; their log: %s", config["num_processes"], work / "log.txt"
        )
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,
        )
        try:
            code = process.wait()
        finally:  # no worker outlives an interrupt: the launcher ends its own on SIGTERM, and they end by themselves without it
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
    if code and (work / "error.txt").exists():
        raise TrainingError((work / "error.txt").read_text())
    if code:
        text = (work / "log.txt").read_text(errors="replace")
        killed = (
            f"; a process was killed, most likely for want of memory: {MEND}"
            if "SIGKILL" in text or "exitcode: -9" in text
            else ""
        )
        raise TrainingError(
            f"training in {config['num_processes']} processes failed (exit code {code}){killed}. Their log ends:\n{text[-2500:]}"
        )


def configuration(trainer: Trainer) -> dict:
    """What accelerate is told: the named file of params/accelerate/, or plain data parallelism on this machine."""
    plain = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",
        "num_machines": 1,
        "machine_rank": 0,
        "mixed_precision": "no",
    }
    named = (
        yaml.safe_load((home() / "params" / "accelerate" / f"{trainer.accelerate}.yml").read_text())
        if trainer.accelerate
        else {}
    )
    config = plain | named | ({"num_processes": trainer.processes} if trainer.processes > 1 else {})
    if config["num_machines"] == 1:
        config.setdefault(
            "main_process_port", 0
        )  # any that is free: trainings may run side by side
    return config


def _environment() -> dict[str, str]:
    import torch

    env = (
        os.environ
        | jobs.QUIET
        | {
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
            ).rstrip(os.pathsep)
        }
    )
    env.setdefault("OMP_NUM_THREADS", "1")
    return env if torch.cuda.is_available() else env | {"ACCELERATE_USE_CPU": "true"}
