"""A process that `accelerate launch` starts: `python -m ded.training.worker <job.json>`."""

import os
import socket
import sys
from pathlib import Path

import psutil
from pydantic import TypeAdapter

from ded import workers
from ded.errors import TrainingError
from ded.training.job import Job
from ded.training.trainer import fit


def main(file: Path) -> None:
    """In each of the processes: trains, and leaves a TrainingError where the owner finds it. Ends
    when the launcher, or on its machine the process that asked for the training, has gone."""
    job = TypeAdapter(Job).validate_json(file.read_bytes())
    launcher, elsewhere = os.getppid(), job.host != socket.gethostname()
    workers.end_unless(
        lambda: os.getppid() == launcher and (elsewhere or psutil.pid_exists(job.owner))
    )
    try:
        fit(job)
    except TrainingError as error:
        (job.work / "error.txt").write_text(str(error))
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
