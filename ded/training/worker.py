"""A process that `accelerate launch` starts: `python -m ded.training.worker <job.json>`."""

import os
import socket
import sys
import threading
import time
from pathlib import Path

import psutil
from pydantic import TypeAdapter

from ded.errors import TrainingError
from ded.training.job import Job
from ded.training.trainer import fit


def main(file: Path) -> None:
    """In each of the processes: trains, and leaves a TrainingError where the owner finds it."""
    job = TypeAdapter(Job).validate_json(file.read_bytes())
    threading.Thread(target=_watch, args=(os.getppid(), job), daemon=True).start()
    try:
        fit(job)
    except TrainingError as error:
        (job.work / "error.txt").write_text(str(error))
        raise


def _watch(launcher: int, job: Job) -> None:
    """Ends this process when the launcher, or on its machine the process that asked for the
    training, has gone (SIGKILL)."""
    elsewhere = job.host != socket.gethostname()
    while os.getppid() == launcher and (elsewhere or psutil.pid_exists(job.owner)):
        time.sleep(0.2)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
