"""Every preset runs through every notebook: models, sizes and hardware keys (`SIZES`, `HARDWARE`,
models) replaced, all else as it stands.

Students are random weights behind a byte-level tokenizer, which answer nothing. In `gpu` the
teachers are the same: nothing can be judged there. In the others they are recorded traces. The
hub's data sets come from toy rows in their schemas, through DED_DATA.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cells
import pytest

from ded import checking, params, report, results
from ded.params import schemas

ROOT = Path(__file__).parents[1]
PRESETS = ("smollm", "gpu", "paper", "recorded")
SIZES = {
    "n_replicates": 2,
    "n_questions": 16,
    "n_code_questions": 8,
    "eval_id": 6,
    "eval_code": 4,
    "eval_ood": 4,
    "samples": 1,
    "n_attempts": 2,
    "n_select": 1,
    "smoke_questions": 8,
    "smoke_size": 4,
    "smoke_eval": 6,
    "corpus_size": 6,
    "large_size": 12,
    "sizes": [2, 4, 8],
    "selection_sizes": [2],
    "pass_rate_samples": 2,
    "pass_rate_questions": 12,
    "n_trajectories": 4,
    "n_kept": 2,
    "shift_inputs": 4,
    "max_tokens": 160,
    "max_length": 1500,
}
HARDWARE = {"engine": {}, "trainer": {}, "n_jobs": 1}
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>OPENED{% endif %}"
)


def tiny_model(folder: Path, opened: str = "") -> str:
    """A random Llama of 20,000 parameters with a byte-level tokenizer; its template may open the
    think block, as R1's distilled models' does.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tok = Tokenizer(models.BPE({letter: i for i, letter in enumerate(["<|end|>", *letters])}, []))
    tok.pre_tokenizer, tok.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tok,
        eos_token="<|end|>",
        pad_token="<|end|>",
        chat_template=TEMPLATE.replace("OPENED", opened),
    )
    torch.manual_seed(len(opened))
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=0,
        bos_token_id=None,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return f"path:{folder.name}"


def lines(file: Path, rows) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def sums(first: int, n: int = 40) -> list[tuple[str, str]]:
    return [(f"Compute {first + 7 * i} + {3 * i}.", str(first + 10 * i)) for i in range(n)]


def toy_data(folder: Path) -> None:
    """Copies of the hub's data sets, as DED_DATA expects them."""
    tests = json.dumps([{"input": "3\n", "output": "4\n", "testtype": "stdin"}])
    train = sums(100)
    lines(
        folder / "simplescaling/s1K-1.1.jsonl",
        [{"question": q, "solution": a, "cot_type": "math"} for q, a in train],
    )
    lines(
        folder / "HuggingFaceH4/MATH-500.jsonl",
        [
            {
                "problem": q,
                "answer": a,
                "subject": "Algebra",
                "level": 1 + i % 5,
                "unique_id": f"t/{i}",
            }
            for i, (q, a) in enumerate(sums(10001))
        ],
    )
    lines(
        folder / "Maxwell-Jia/AIME_2024.jsonl",
        [
            {"ID": f"2024-I-{i}", "Problem": q, "Answer": int(a)}
            for i, (q, a) in enumerate(sums(20001, 30))
        ],
    )
    lines(
        folder / "MathArena/aime_2025.jsonl",
        [
            {"problem_idx": i, "problem": q, "answer": int(a)}
            for i, (q, a) in enumerate(sums(25001, 30))
        ],
    )
    lines(
        folder / "openai/gsm8k.jsonl",
        [
            {"question": f"Ann has some apples. {q}", "answer": f"Add. #### {a}"}
            for q, a in sums(30001)
        ],
    )
    lines(
        folder / "Idavidrein/gpqa.jsonl",
        [
            {
                "Question": f"Which? {q}",
                "Correct Answer": a,
                **{f"Incorrect Answer {k}": a + "0" * k for k in (1, 2, 3)},
            }
            for q, a in sums(40001)
        ],
    )
    lines(
        folder / "openai/openai_humaneval.jsonl",
        [
            {
                "task_id": f"HumanEval/{i}",
                "prompt": f"def f{i}(x):\n    '''Adds {i}.'''\n",
                "entry_point": f"f{i}",
                "test": f"def check(f):\n    assert f(1) == {1 + i}",
            }
            for i in range(20)
        ],
    )
    lines(
        folder / "google-research-datasets/mbpp.jsonl",
        [
            {
                "task_id": i,
                "text": f"Add {i}.",
                "code": f"def g{i}(x): return x + {i}",
                "test_list": [f"assert g{i}(1) == {1 + i}"],
            }
            for i in range(20)
        ],
    )
    for file, month in (("test5", "2025-02"), ("test6", "2025-03")):
        lines(
            folder / f"livecodebench/code_generation_lite/{file}.jsonl",
            [
                {
                    "question_id": f"{file}-{i}",
                    "question_content": f"Read n, print n + {i}.",
                    "contest_date": f"{month}-1{i % 9}T00:00:00",
                    "starter_code": "",
                    "difficulty": ("easy", "medium", "hard")[i % 3],
                    "public_test_cases": tests,
                    "private_test_cases": tests,
                    "metadata": "{}",
                }
                for i in range(12)
            ],
        )
    lines(
        folder / "open-r1/codeforces.jsonl",
        [
            {
                "id": f"{i}/A",
                "title": f"Add {i}",
                "description": f"Print n + {i}.",
                "input_format": "n",
                "output_format": "A number",
                "interaction_format": None,
                "note": None,
                "examples": [{"input": "1", "output": str(1 + i)}],
                "time_limit": 2.0,
                "memory_limit": 256.0,
                "input_mode": "stdio",
                "official_tests": [{"input": "1", "output": str(1 + i)}],
                "official_tests_complete": True,
                "generated_checker": None,
                "rating": 800 + 100 * (i % 5),
            }
            for i in range(30)
        ],
    )


def of_folders(folder: Path) -> None:
    """The teachers of preset `recorded`, a folder each, in Umean/RSR_data's schema, and a data set
    with the answers to most of their questions. One teacher's last file lacks a question.
    """
    asked = sums(100)
    golds = [{"problem": q, "answer": a, "solution": "Add."} for q, a in asked[4:]]
    lines(folder / "project-numina/NuminaMath-1.5.jsonl", golds)
    teachers = params.load("recorded", "01_teacher_selection")["teachers"]
    for j, teacher in enumerate(teachers):
        name = teacher.rpartition("/")[2]
        for k in (1, 2, 3):
            rows = []
            for i, (question, answer) in enumerate(asked[: len(asked) - (j == 1 and k == 3)]):
                think = f"{name}: " + "Wait. " * (i % 3 * k) + f"it is {answer}"
                answer = answer if (i + k) % (j + 2) else "1"
                reply = f"<think>\n{think}\n</think>\n\\boxed{{{answer}}}"
                turns = ("system", "Think."), ("user", question), ("assistant", reply)
                rows.append({"messages": [{"role": r, "content": text} for r, text in turns]})
            file = folder / f"Umean/RSR_data/{name}/short-sys_5k_gen{k}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(rows))


def traces(folder: Path, name: str, wrong: int) -> str:
    """A recorded teacher for the toy seeds, and for AIME, so that its own score is measured: four
    traces a question, every `wrong`-th of them wrong.
    """
    rows = []
    for j, (question, answer) in enumerate(sums(100) + sums(20001, 30)):
        said = [answer if (j + k) % wrong else "1" for k in range(4)]
        rows += [
            {"question": question, "thinking": f"{name} {k}: it is {a}", "text": f"\\boxed{{{a}}}"}
            for k, a in enumerate(said)
        ]
    for i in range(30):
        program = f"```python\nprint(int(input()) + {i})\n```"
        formats = "## Input format\n\nn\n\n## Output format\n\nA number"
        example = f"## Example\n\nInput:\n```\n1\n```\nOutput:\n```\n{1 + i}\n```"
        shown = f"# Add {i}\n\nPrint n + {i}.\n\n{formats}\n\n{example}"
        rows += [
            {
                "question": f"{shown}\n\nTime limit: 2 s. Memory limit: 256 MB.",
                "thinking": f"{k}",
                "text": program,
            }
            for k in range(4)
        ]
    return f"recorded:{lines(folder / f'{name}.jsonl', rows).name}"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """{(preset, notebook): (error, folder)}, two presets at a time.

    They run in a repository of their own beside the toys: draws depend on how a base is written,
    which is not to hold the folder that this run of the tests was given.
    """
    place = tmp_path_factory.mktemp("presets")
    for name in ("pyproject.toml", "notebooks", "params"):
        (place / name).symlink_to(ROOT / name)
    toy_data(place / "data")
    of_folders(place / "data")
    models = {"smollm": tiny_model(place / "plain")} | dict.fromkeys(
        ("gpu", "paper", "recorded"), tiny_model(place / "opens", "<think>\n")
    )
    taught = {
        "gpu": [models["gpu"], models["smollm"]],
        "paper": [traces(place, "careful", 99), traces(place, "hasty", 3)],
    }

    def run(preset):
        jobs = {}
        for notebook, schema in (
            (path.stem, schemas.SCHEMAS[path.stem]) for path in params.notebooks()
        ):
            changes = (
                SIZES
                | HARDWARE
                | {"students": [models[preset]], "out_dir": str(place / preset / notebook)}
            )
            if preset in taught:
                changes |= {"teachers": taught[preset], "teacher": taught[preset][-1]}
            jobs[notebook] = {
                key: value for key, value in changes.items() if key in schema.model_fields
            }
        return cells.run(
            preset,
            jobs,
            place,
            DED_STORE=str(place / "store" / preset),
            DED_DATA=str(place / "data"),
            OMP_NUM_THREADS="1",
        )

    with ThreadPoolExecutor(2) as pool:
        errors = dict(zip(PRESETS, pool.map(run, PRESETS), strict=True))
    return {
        (preset, notebook): (error, place / preset / notebook)
        for preset in PRESETS
        for notebook, error in errors[preset].items()
    }


@pytest.mark.parametrize("notebook", [path.stem for path in params.notebooks()])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_runs_through_a_notebook(executed, preset, notebook):
    error, folder = executed[preset, notebook]
    assert not error
    metrics = results.read_metrics(folder)
    verdicts = {claim["verdict"] for claim in metrics["claims"]}
    assert verdicts and verdicts <= set(results.VERDICTS)
    if preset == "gpu":
        assert verdicts == {"not judged"}, "no teacher solves anything"
    # an untrained student leaves little to judge, and each claim says why
    assert all(claim["note"] for claim in metrics["claims"] if claim["verdict"] != "reproduced")
    # of the one student here no teacher is another student's
    reasons = ("DED without its diversity", "no headroom", "cost of another student's teacher")
    reasons += ("no own score of deepseek-r1-0528",)  # recorded traces alone
    unjudged = [any(why in claim["note"] for why in reasons) for claim in metrics["claims"]]
    assert preset == "gpu" or verdicts != {"not judged"} or all(unjudged)
    assert list(folder.glob("*.png")) and list(folder.glob("*.csv"))
    used = json.loads((folder / "manifest.json").read_text())["params"]
    replaced = {*SIZES, *HARDWARE, "students", "teacher", "teachers", "out_dir"}
    meant = schemas.SCHEMAS[notebook].model_validate(params.load(preset, notebook)).model_dump()
    assert {k: v for k, v in used.items() if k not in replaced} == {
        k: v for k, v in meant.items() if k not in replaced
    }


@pytest.mark.parametrize("notebook", [path.stem for path in params.notebooks()])
@pytest.mark.parametrize("preset", PRESETS)
def test_what_has_run_is_what_check_passes(executed, preset, notebook, monkeypatch):
    error, folder = executed[preset, notebook]
    place = folder.parents[1]
    monkeypatch.chdir(place)
    monkeypatch.setenv("DED_DATA", str(place / "data"))
    monkeypatch.setenv("DED_STORE", str(place / "store" / preset))
    used = json.loads((folder / "manifest.json").read_text())["params"]
    table = checking.check(preset, [notebook], used)
    assert not error and checking.lines(table[table["ok"].eq(False)]) == []


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_can_be_reported(executed, preset):
    folder = next(iter(executed.values()))[1].parents[1] / preset
    assert report.write(folder).stat().st_size > 10_000
