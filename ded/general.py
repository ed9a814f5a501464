"""General and out-of-domain benchmarks (MMLU, CMMLU, C-Eval, BBH, GSM8K, ...) through lm-evaluation-harness, into our score table.

The harness loads and prompts its tasks and computes its metrics and standard errors; ours are the models, by spec, and the record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ded import __version__, models
from ded.benchmarks import BenchmarkError
from ded.errors import near
from ded.grading import VERDICTS
from ded.options import Engine

if TYPE_CHECKING:
    import pandas as pd


def run(
    model: str,
    tasks: Sequence[str],
    *,
    include_path: str | None = None,
    limit: int = 0,
    batch_size: int = 8,
    fewshot: int | None = None,
    chat: bool = False,
    max_tokens: int = 0,
    engine: Engine = Engine(),
) -> pd.DataFrame:
    """Scores (see `ded.benchmarks`) of a model on tasks of the harness: a row a metric of each task, benchmark "lm_eval:<task>".

    A task group such as mmlu has group "all" and a row for each of its members. low and high are the value and 1.96 of the harness's
    standard errors to either side, nan where it gives none; verdict counts are nan: the harness knows right and wrong only.
    include_path: a folder of task files, used in place of the harness's own. limit: documents a task, 0 is all. fewshot: None is
    what the task says. chat: apply the chat template, and read what follows </think>; then raise
    max_tokens too (of an answer; 0 is what the task says), or thinking is cut off. Raises BenchmarkError in one line for
    whatever the harness cannot do: an unknown task, a data set that is not reached, a task that would run generated code unisolated.
    """
    import pandas as pd
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=include_path, include_defaults=include_path is None)
    for task in tasks:
        if task not in manager.all_tasks:
            raise BenchmarkError(
                f"lm_eval task {task!r} is not known{near(task, manager.all_tasks)}; `lm-eval ls tasks` lists them"
            )
    tasks = [
        name
        for task in tasks
        for name in (sorted(manager.task_index[task].tags) if task in manager.all_tags else [task])
    ]
    found = _evaluate(
        lambda: _language_model(model, engine, batch_size, chat),
        tasks,
        manager,
        limit or None,
        fewshot,
        chat,
        max_tokens,
    )
    settings = {
        "source": "lm_eval",
        "lm_eval": found["lm_eval_version"],
        "chat": chat,
        "max_tokens": max_tokens or None,
        "batch_size": batch_size,
        "limit": limit or None,
        "engine": engine.name,
        "dtype": engine.dtype,
        "model": models.fingerprint(model),
        "ded": __version__,
    }
    return pd.DataFrame(
        [
            {
                "model": model,
                "benchmark": f"lm_eval:{task}",
                "group": "all" if name == task else name,
                **row,
                "settings": settings | of_task,
            }
            for task in tasks
            for name in _members(task, found["group_subtasks"])
            for row, of_task in _rows(name, found)
        ]
    )


def _language_model(model: str, engine: Engine, batch_size: int, chat: bool) -> Any:
    end = "</think>" if chat else None
    if engine.name == "vllm":
        from lm_eval.models.vllm_causallms import VLLM

        return VLLM(
            models.locate(model),
            revision=models.parse(model)[2],
            dtype=engine.dtype,
            max_model_len=engine.max_model_len or None,
            think_end_token=end,
            tensor_parallel_size=engine.tensor_parallel,
            data_parallel_size=engine.data_parallel,
            gpu_memory_utilization=engine.gpu_memory,
        )
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        models.load(model, engine.dtype),
        tokenizer=models.load_tokenizer(model),
        batch_size=batch_size,
        think_end_token=end,
    )


def _evaluate(
    make: Callable[[], Any],
    tasks: list[str],
    manager: Any,
    limit: int | None,
    fewshot: int | None,
    chat: bool,
    max_tokens: int,
):
    import logging

    import lm_eval

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    try:
        return lm_eval.simple_evaluate(
            make(),
            tasks=tasks,
            task_manager=manager,
            limit=limit,
            num_fewshot=fewshot,
            log_samples=False,
            apply_chat_template=chat,
            gen_kwargs={"max_gen_toks": max_tokens} if max_tokens else None,
        ) | {"lm_eval_version": lm_eval.__version__}
    except models.ModelError:
        raise
    except Exception as error:  # its tasks are programs of many authors, and fail in as many ways
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
        why = f"{type(error).__name__}: {lines[0][:300]}"
        if "unsafe" in str(error):
            why = "it runs generated code without a sandbox; take the data: source of the same name, which does not"
        raise BenchmarkError(f"lm_eval {','.join(tasks)}: {why}") from error


def _members(task: str, subtasks: dict[str, list[str]]) -> Iterator[str]:
    """A task and, below a group, its members, groups among them."""
    yield task
    for member in subtasks.get(task) or ():
        yield from _members(member, subtasks)


def _rows(name: str, found: dict) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(row, settings of the task) of each metric; one that a filter other than "none" made carries its name."""
    result = found["results"].get(name, {})
    for key, value in result.items():
        metric, comma, kind = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        error = result.get(f"{metric}_stderr,{kind}")
        margin = 1.96 * error if isinstance(error, (int, float)) else math.nan
        yield (
            {
                "metric": metric if kind == "none" else f"{metric} ({kind})",
                "value": float(value),
                "low": value - margin,
                "high": value + margin,
                "n": int(result.get("sample_count", {}).get(key) or result["sample_len"]),
                "samples": 1,
                **dict.fromkeys(VERDICTS, math.nan),
                "n_tokens": math.nan,
                "note": "",
            },
            {"task_version": found["versions"].get(name), "fewshot": found["n-shot"].get(name)},
        )
