"""General and out-of-domain benchmarks (MMLU, C-Eval, BBH, GSM8K, ...) as rows of our scores.

lm-evaluation-harness loads and prompts its tasks and computes its metrics and standard errors; ours
are the models, by spec, and the record.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from ded import __version__, models
from ded.errors import BenchmarkError, ModelError, first_line, near, no_such
from ded.grading import VERDICTS, answer_part
from ded.models import THINK
from ded.options import Engine

ENGINES = ("transformers", "vllm")  # that the harness knows too
BATCH_SIZE = 8  # of the harness with transformers


def run(
    model: str,
    tasks: Sequence[str],
    *,
    include_path: str | Path | None = None,
    limit: int = 0,
    chat: bool = False,
    max_tokens: int = 0,
    engine: Engine = Engine(),
) -> pd.DataFrame:
    """Scores (see `ded.benchmarks`) of a model: a row a metric of each task, as "lm_eval:<task>".

    A task group such as mmlu comes with rows of its members. low and high are
    the value and 1.96 of the harness's standard errors to either side, nan where it gives none;
    verdict counts are nan: the harness knows right and wrong only. include_path: a folder of task
    files, used in place of the harness's own. limit: documents a task, 0 is all. chat: apply the
    chat template, and read what follows </think>; then raise max_tokens too (of an answer; 0 is
    what the task says), or thinking is cut off: such an answer is empty, and `truncated` counts
    those that never came. Raises BenchmarkError in one line for whatever the harness cannot do: an
    unknown task, a data set that is not reached, a task that would run generated code unisolated.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager

    if engine.name not in ENGINES:
        raise BenchmarkError(f"lm_eval: {no_such('engine', engine.name, ENGINES)}")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=include_path, include_defaults=include_path is None)
    names: list[str] = []
    truncated = Counter[str]()  # of each task
    for task in tasks:
        if task not in manager.all_tasks:
            unknown = f"lm_eval task {task!r} is not known{near(task, manager.all_tasks)}"
            raise BenchmarkError(f"{unknown}; `lm-eval ls tasks` lists them")
        names += sorted(manager.task_index[task].tags) if task in manager.all_tags else [task]
    try:
        results = lm_eval.simple_evaluate(
            _language_model(model, engine, truncated if chat else None),
            tasks=names,
            task_manager=manager,
            limit=limit or None,
            log_samples=False,
            apply_chat_template=chat,
            gen_kwargs={"max_gen_toks": max_tokens} if max_tokens else None,
        )
    except ModelError:
        raise
    except Exception as error:  # tasks are programs of many authors, and fail in as many ways
        reason = f"{type(error).__name__}: {first_line(error, 300)}"
        if "unsafe" in str(error):
            mend = "take the data: source of the same name, which does not"
            reason = f"it runs generated code without a sandbox; {mend}"
        raise BenchmarkError(f"lm_eval {','.join(names)}: {reason}") from error
    settings = {"source": "lm_eval", "lm_eval": lm_eval.__version__, "chat": chat}
    settings |= {"max_tokens": max_tokens or None, "batch_size": BATCH_SIZE, "limit": limit or None}
    settings |= {"engine": engine.name, "dtype": engine.dtype}
    settings |= {"model": models.fingerprint(model), "ded": __version__}
    rows = []
    for task, result in results["results"].items():  # groups and their members among them
        place = {"model": model, "benchmark": f"lm_eval:{task}", "group": "all"}
        own = {
            "task_version": results["versions"].get(task),
            "fewshot": results["n-shot"].get(task),
        }
        about = {"truncated": truncated[task] or math.nan, "settings": settings | own}
        rows += [place | score | about for score in _scores(result)]
    return pd.DataFrame(rows)


def _language_model(model: str, engine: Engine, truncated: Counter[str] | None) -> Any:
    """The harness's model, by vLLM or transformers; `truncated`: of one that thinks."""
    tok = models.load_tokenizer(model)
    if engine.name == "vllm":
        from lm_eval.models.vllm_causallms import VLLM

        language_model: Any = VLLM(
            models.locate(model),
            revision=models.parse(model).revision,
            dtype=engine.dtype,
            max_model_len=engine.max_model_len or None,
            tensor_parallel_size=engine.tensor_parallel,
            data_parallel_size=engine.data_parallel,
            gpu_memory_utilization=engine.gpu_memory,
        )
        language_model.hf_chat_template = tok.chat_template
    else:
        from lm_eval.models.huggingface import HFLM

        net = models.load(model, engine.dtype)
        language_model = HFLM(net, tokenizer=tok, batch_size=BATCH_SIZE)
    return language_model if truncated is None else _thinking(language_model, truncated)


def _thinking(language_model: Any, truncated: Counter[str]) -> Any:
    """The harness's model, whose answers begin after its thinking; counts those that never do.

    Its own think_end_token takes unfinished thinking for the answer, and with transformers a task's
    stop sequences end the thinking; here they are looked for in the answer alone.
    """
    generate = language_model.generate_until

    def generate_until(requests: list[Any]) -> list[str]:
        free = [replace(r, arguments=(r.args[0], r.args[1] | {"until": []})) for r in requests]
        answers = []
        for request, text in zip(requests, generate(free), strict=True):
            opened = THINK if request.args[0].rstrip().endswith(THINK) else ""
            answer, _ = answer_part(opened + text)
            truncated[request.task_name] += answer is None
            stops = request.args[1].get("until") or []
            for stop in filter(None, [stops] if isinstance(stops, str) else stops):
                answer = (answer or "").split(stop)[0]
            answers.append(answer or "")
        return answers

    language_model.generate_until = generate_until
    return language_model


def _scores(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row of scores for each metric of a task's result, whose keys are "<metric>,<filter>"; one
    that a filter other than "none" made carries its name."""
    for key, value in result.items():
        metric, comma, filter_name = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        error = result.get(f"{metric}_stderr,{filter_name}")
        margin = 1.96 * error if isinstance(error, (int, float)) else math.nan
        name = metric if filter_name == "none" else f"{metric} ({filter_name})"
        low, high = value - margin, value + margin
        score = {"metric": name, "value": float(value), "low": low, "high": high}
        n = int(result.get("sample_count", {}).get(key) or result["sample_len"])
        unknown = dict.fromkeys([*VERDICTS, "n_tokens"], math.nan)
        yield score | {"n": n, "samples": 1, **unknown, "note": ""}
