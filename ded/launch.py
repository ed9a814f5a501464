"""Training by several processes: `accelerate launch` of this module, and what to do when one of them fails.

The job, the launch configuration, checkpoints and the log lie in the training's work folder. Over several machines the
command that the log begins with is run on each of the others too, with its --machine_rank (see docs/scaling.md).
"""

from __future__ import annotations

import json
import logging
import math
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import yaml

from ded import home, jobs
from ded.schemas import Trainer

log = logging.getLogger("ded")


def launch(
    student: str, examples: list[dict], folder: Path, settings: dict, trainer: Trainer, work: Path
) -> None:
    """`training.fit` in as many processes as the trainer asks for. TrainingError, with the end of their log, if one fails."""
    from ded.training import MEND, TrainingError, share

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
        "ded.launch",
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
                [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
            ).rstrip(os.pathsep)
        }
    )
    env.setdefault("OMP_NUM_THREADS", "1")
    return env if torch.cuda.is_available() else env | {"ACCELERATE_USE_CPU": "true"}


def main(file: Path) -> None:
    """In each of the processes: trains, and leaves what is wrong with the corpus or settings where the owner finds it."""
    from ded import training

    job = json.loads(file.read_text())
    threading.Thread(target=_watch, args=(os.getppid(), *job["owner"]), daemon=True).start()
    try:
        training.fit(
            job["student"],
            job["examples"],
            Path(job["folder"]),
            job["settings"],
            Trainer(**job["trainer"]),
            file.parent,
        )
    except training.TrainingError as error:
        (file.parent / "error.txt").write_text(str(error))
        raise


def _watch(launcher: int, host: str, owner: int) -> None:
    """Ends this process when the launcher, or on its machine the process that asked for the training, has gone (SIGKILL)."""
    import psutil

    while os.getppid() == launcher and (host != socket.gethostname() or psutil.pid_exists(owner)):
        time.sleep(0.2)
    os._exit(1)


def in_order(examples: list[dict], steps: int, batch: int, seed: int):
    """The examples of all steps one after another, for several processes to share out: the batches that one process draws.

    Where an epoch ends within a batch, empty examples (no token of theirs is learnt) fill it up, so that all have the same to do.
    """
    import datasets
    import torch

    empty, order = examples[0] | {"labels": [-100] * len(examples[0]["labels"])}, []
    for epoch in range(math.ceil(steps / math.ceil(len(examples) / batch))):
        drawn = torch.randperm(
            len(examples), generator=torch.Generator().manual_seed(seed + epoch)
        )  # as accelerate draws them
        order += [*drawn.tolist(), *[len(examples)] * (-len(examples) % batch)]
    return datasets.Dataset.from_list([*examples, empty]).select(order)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
