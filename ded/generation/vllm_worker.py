"""The program that a replica runs: vLLM on the requests of a job file, a line of JSON a row."""

import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ded import workers
from ded.errors import EngineError


def rows(
    llm: Any, requests: list[dict[str, Any]], sampling: dict[str, Any]
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(number of the request, of the sample, row) as requests are finished; a row holds token_ids,
    n_tokens, finish_reason, entropy_sum, missing_mass."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    engine = llm.llm_engine
    shared = sampling | {"output_kind": RequestOutputKind.FINAL_ONLY}
    for request in requests:
        own = {name: request[name] for name in ("n", "seed", "max_tokens")}
        params = SamplingParams(**shared, **own)
        engine.add_request(str(request["number"]), {"prompt_token_ids": request["ids"]}, params)
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                for sample, completion in enumerate(output.outputs):
                    yield int(output.request_id), sample, _measured(completion)


def _measured(completion: Any) -> dict[str, Any]:
    token_ids, finish = list(completion.token_ids), completion.finish_reason
    if finish not in ("stop", "length"):
        how = f"for another reason than its end or its length: {finish!r}"
        raise EngineError(f"vLLM ended a row {how}")
    entropy = missing = math.nan
    if completion.logprobs:
        logps = np.array(completion.logprobs.logprobs, dtype=float).reshape(len(token_ids), -1)
        logps = logps[:, 1:]  # the sampled token stands first, and again at its rank
        probs = np.exp(logps)
        entropy = -(probs * np.where(probs > 0, logps, 0.0)).sum()
        missing = (1 - probs.sum(axis=1)).clip(min=0).sum()
    return {
        "token_ids": token_ids[:-1] if finish == "stop" else token_ids,
        "n_tokens": len(token_ids),
        "finish_reason": finish,
        "entropy_sum": round(float(entropy), 6),
        "missing_mass": round(float(missing), 6),
    }


def main(job_file: Path) -> None:
    """Draws the requests of a job file and writes their rows beside it, ".rows"."""
    job = json.loads(job_file.read_text())
    workers.end_unless(lambda: os.getppid() == job["parent"], group=True)
    from vllm import LLM

    llm = LLM(**job["llm"])
    with job_file.with_suffix(".rows").open("ab", buffering=0) as stream:
        for row in rows(llm, job["requests"], job["sampling"]):
            stream.write(f"{json.dumps(row)}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
