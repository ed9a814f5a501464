"""One of the processes that `accelerate launch` started: `python -m ded.training.worker <job.json>`."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

from ded.errors import TrainingError
from ded.options import Trainer
from ded.training.trainer import fit


def main(file: Path) -> None:
    """In each of the processes: trains, and leaves what is wrong with the corpus or settings where the owner finds it."""
    job = json.loads(file.read_text())
    threading.Thread(target=_watch, args=(os.getppid(), *job["owner"]), daemon=True).start()
    try:
        fit(
            job["student"],
            job["examples"],
            Path(job["folder"]),
            job["settings"],
            Trainer(**job["trainer"]),
            file.parent,
        )
    except TrainingError as error:
        (file.parent / "error.txt").write_text(str(error))
        raise


def _watch(launcher: int, host: str, owner: int) -> None:
    """Ends this process when the launcher, or on its machine the process that asked for the training, has gone (SIGKILL)."""
    import psutil

    while os.getppid() == launcher and (host != socket.gethostname() or psutil.pid_exists(owner)):
        time.sleep(0.2)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
