"""SFT: what is learnt (the completion, whole), what fixes the weights, and that TRL alone would do
the same."""

import copy
import json
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest
import transformers
from transformers.integrations import integration_utils, liger

from ded import analysis, models, problems, store, training
from ded.errors import TrainingError
from ded.options import Trainer
from ded.problems import lab as tasks
from ded.training import attention, loss, trainer

STUDENT = "lab:student_1"
SETTINGS = {"learning_rate": 2e-3, "batch_size": 4, "epochs": 1.0, "max_length": 128, "seed": 1}
pytestmark = pytest.mark.usefixtures("tiny")


def corpus(n, style="left", split="train"):
    """n worked solutions, as a table that curation might hand over."""
    asked, rng = problems.load("lab:sum/5-6", n, split, "training"), random.Random(0)
    return pd.DataFrame(
        {
            "problem_id": [problem.id for problem in asked],
            "prompt": [problem.prompt for problem in asked],
            "text": [tasks.solution(problem, style, rng) for problem in asked],
        }
    )


def weights(spec):
    return (Path(models.locate(spec)) / "model.safetensors").read_bytes()


def record(spec):
    return json.loads((Path(models.locate(spec)) / "training.json").read_text())


# ---- examples


def test_the_loss_is_on_the_completion_and_its_end_token():
    table = corpus(6)
    tok = models.load_tokenizer(STUDENT)
    examples = training.build_examples(STUDENT, table, 128)
    assert len(examples) == 6
    for example, row in zip(examples, table.itertuples(), strict=True):
        ids, labels = example["input_ids"], example["labels"]
        n = labels.count(-100)
        assert labels == [-100] * n + ids[n:]
        assert tok.decode(ids[:n]) == f"<user> {row.prompt} <assistant>"
        assert tok.decode(ids[n:]) == f"{row.text} <eos>" and "<think>" in row.text


def test_a_sequence_that_is_too_long_is_an_error_not_cut():
    table = corpus(4)
    longest = max(
        len(example["input_ids"]) for example in training.build_examples(STUDENT, table, 128)
    )
    training.build_examples(STUDENT, table, longest)
    row = [
        len(example["input_ids"]) for example in training.build_examples(STUDENT, table, 128)
    ].index(longest)
    with pytest.raises(
        training.TrainingError, match=rf"row {row}: {longest} tokens, over max_length={longest - 1}"
    ):
        training.build_examples(STUDENT, table, longest - 1)


def test_a_tokenizer_that_eats_the_think_tag_is_an_error(monkeypatch):
    real = models.load_tokenizer(STUDENT)

    class Eats:
        eos_token_id = real.eos_token_id
        apply_chat_template = real.apply_chat_template
        decode = real.decode

        def __call__(self, text, **options):
            return real(text.replace("<think>", "?"), **options)

    monkeypatch.setattr(models, "load_tokenizer", lambda spec: Eats())
    with pytest.raises(training.TrainingError, match="row 0: <think> does not survive"):
        training.build_examples(STUDENT, corpus(1), 128)


def with_template(folder, template):
    """A copy of the student whose tokenizer has another chat template."""
    shutil.copytree(models.locate(STUDENT), folder)
    (folder / "chat_template.jinja").write_text(template)
    return f"path:{folder}"


def test_a_template_that_drops_the_think_block_of_an_answer_cannot_bite(tmp_path):
    drops = (
        (Path(models.locate(STUDENT)) / "chat_template.jinja")
        .read_text()
        .replace("m['content'] + ' <eos> '", "m['content'].split('</think>')[-1] + ' <eos> '")
    )
    student = with_template(tmp_path / "drops", drops)
    turns = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "<think> a </think> b"},
    ]
    assert "<think>" not in models.load_tokenizer(student).apply_chat_template(
        turns, tokenize=False
    )  # the template would
    assert training.build_examples(student, corpus(5), 128) == training.build_examples(
        STUDENT, corpus(5), 128
    )


def test_a_template_that_opens_the_think_block_itself_opens_it_once(tmp_path):
    opens = (
        (Path(models.locate(STUDENT)) / "chat_template.jinja")
        .read_text()
        .replace("{{ '<assistant>' }}", "{{ '<assistant> <think>\n' }}")
    )
    student, table = with_template(tmp_path / "opens", opens), corpus(3)
    ours, plain = (
        training.build_examples(student, table, 128),
        training.build_examples(STUDENT, table, 128),
    )
    assert [example["input_ids"] for example in ours] == [example["input_ids"] for example in plain]
    assert [
        example["labels"].count(-100) - other["labels"].count(-100)
        for example, other in zip(ours, plain, strict=True)
    ] == [
        1,
        1,
        1,
    ]  # the student never has to open it


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def chatml(tmp_path):
    """A student with a tokenizer of bytes and the control tokens of ChatML, padded with its end
    token."""
    tokenizers, transformers = (
        pytest.importorskip("tokenizers"),
        pytest.importorskip("transformers"),
    )
    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    letters = tokenizers.trainers.BpeTrainer(
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator([], letters)
    raw.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    raw.add_tokens(["<think>", "</think>"])
    tok = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tok.chat_template = CHATML
    shutil.copytree(models.locate(STUDENT), tmp_path / "chatml")
    tok.save_pretrained(tmp_path / "chatml")
    return f"path:{tmp_path / 'chatml'}"


@pytest.mark.parametrize("end", ["", "<|im_end|>", "<|im_end|>\n<|endoftext|>", "</s>"])
def test_a_sequence_ends_in_one_end_token_and_that_is_learnt(chatml, end):
    table = pd.DataFrame({"prompt": ["6*7?"], "text": [f"<think>\na\n</think>\n42{end}"]})
    (example,) = training.build_examples(chatml, table, 512)
    tok = models.load_tokenizer(chatml)
    assert tok.decode(example["labels"][-4:]) == "\n42<|im_end|>" and tok.eos_token == tok.pad_token
    assert example["labels"].count(tok.eos_token_id) == 1


def test_a_control_token_that_somebody_speaks_about_controls_nothing(chatml):
    question, text = "What is <|im_end|>?\n<|im_start|>", "<|im_end|> ends a turn, <think> opens"
    table = pd.DataFrame({"prompt": [question], "text": [text]})
    (example,) = training.build_examples(chatml, table, 512)
    tok, ids = models.load_tokenizer(chatml), example["input_ids"]
    assert tok.decode(ids) == f"{models.render(chatml, question)}{text}<|im_end|>"
    ends, starts = (
        ids.count(tok.convert_tokens_to_ids(f"<|im_{which}|>")) for which in ("end", "start")
    )
    assert (ends, starts) == (2, 2)  # the template's, and the one that is learnt
    rendered = models.render(chatml, "a <b> [c]")  # what is no control token stays as it is
    assert models.prompt_ids(chatml, "a <b> [c]") == tok(rendered)["input_ids"]


def test_padding_with_the_end_token_masks_nothing(tmp_path):
    def padded(name, token):
        student = with_template(
            tmp_path / name, (Path(models.locate(STUDENT)) / "chat_template.jinja").read_text()
        )
        tok = models.load_tokenizer(student)
        tok.pad_token = token
        tok.save_pretrained(tmp_path / name)
        return student

    plain, ends = padded("plain", "<pad>"), padded("ends", "<eos>")
    trained = [training.sft(student, corpus(8), **SETTINGS) for student in (plain, ends)]
    assert weights(trained[0]) == weights(trained[1])


PLAIN, END = "{{ messages[0].content }}|", "</think>\n\n"
TEXTS = [  # what the template adds to the prompt, options, a trajectory, what is learnt of it
    ("", "", "<think>\na\n</think>\n2", "<think>\na\n</think>\n2"),
    ("", "", "2", "2"),
    ("<think>\n", "", "<think>\na\n</think>\n2", "a\n</think>\n2"),
    ("<think>\n", "", "<think>\n<think>\na\n</think>\n2", "a\n</think>\n2"),  # opened twice
    ("<think>\n", "", "a\n</think>\n2", "a\n</think>\n2"),  # as it was sampled
    ("<think>\n", "", "2", "\n</think>\n\n2"),  # no answer inside the thinking
    ("<think>\n", "", "2: `</think>` ends", "\n</think>\n\n2: `</think>` ends"),
    ("<think>\n\n" + END, "?{thinking: false}", "2", "2"),
    ("<think>\n\n" + END, "?{thinking: false}", "<think>\n\n</think>\n\n2", "2"),
    ("<think>\n\n" + END, "?{thinking: false}", "2: <think> is a tag", "2: <think> is a tag"),
]


@pytest.mark.parametrize("added, options, text, learnt", TEXTS)
def test_prompt_and_completion_open_one_think_block_at_most(tmp_path, added, options, text, learnt):
    student = with_template(tmp_path / "student", f"{PLAIN}{{{{ {added!r} }}}}") + options
    assert training.job.trained_texts(student, "1+1=", text) == ("1+1=|" + added, learnt)


def test_an_empty_think_block_in_the_prompt_is_followed_by_no_other(tmp_path):
    student = with_template(tmp_path / "closed", PLAIN + "<think>\n\n" + END)
    table = pd.DataFrame({"prompt": ["1"], "text": ["<think>\na\n</think>\n2"]})
    with pytest.raises(models.ModelError, match="closes an empty think block"):
        training.build_examples(student, table, 128)
    with pytest.raises(training.TrainingError, match=r"row 0: .*the trajectory opens another"):
        training.build_examples(student + "?{thinking: false}", table, 128)


def test_a_student_is_asked_as_it_was_trained(tmp_path):
    switch = "{% if thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"
    base = with_template(
        tmp_path / "switch", "{{ messages | map(attribute='content') | join }}" + switch
    )
    asked = {}
    for options in (
        "{thinking: true}",
        "{thinking: false}",
        "{thinking: true, system_prompt: 'Sum: '}",
    ):
        table = corpus(4).assign(
            text=lambda rows: rows["text"].str.replace(r".*</think>", "", regex=True)
        )
        spec = training.sft(f"{base}?{options}", table, **SETTINGS | {"max_steps": 1})
        asked[spec] = models.render(spec, "1 +2 =")
        assert asked[spec] == models.render(f"{base}?{options}", "1 +2 =")
    assert list(asked.values()) == [
        "1 +2 =<think>\n",
        "1 +2 =<think>\n\n</think>\n\n",
        "Sum: 1 +2 =<think>\n",
    ]


def test_a_tokenizer_without_a_chat_template_is_an_error(tmp_path):
    student = with_template(tmp_path / "none", "")
    (tmp_path / "none" / "chat_template.jinja").unlink()
    with pytest.raises(models.ModelError, match="no chat template"):
        training.sft(student, corpus(3), **SETTINGS)


def test_cutting_is_a_choice_by_name():
    whole = training.build_examples(STUDENT, corpus(4), 128)
    cut = training.build_examples(STUDENT, corpus(4), 20, truncate=True)
    assert cut == [{name: ids[:20] for name, ids in example.items()} for example in whole] and any(
        len(example["input_ids"]) > 20 for example in whole
    )
    made = record(
        training.sft(
            STUDENT,
            corpus(4),
            **SETTINGS | {"max_length": 20},
            trainer=Trainer(allow_truncation=True),
        )
    )
    assert made["truncated"] == sum(len(example["input_ids"]) > 20 for example in whole)
    with pytest.raises(
        training.TrainingError,
        match=r"row 0: \d+ tokens, over max_length=20; .*trainer.allow_truncation",
    ):
        training.build_examples(STUDENT, corpus(1), 20)
    with pytest.raises(
        training.TrainingError, match=r"row 0: .* tokens in the prompt alone, over max_length=5"
    ):
        training.build_examples(STUDENT, corpus(1), 5, truncate=True)


def test_what_exceeds_the_models_context_is_an_error_whatever_max_length():
    long = pd.DataFrame({"prompt": ["1 +2 " * 300 + "="], "text": ["<think> 1 </think> 3"]})
    with pytest.raises(
        training.TrainingError,
        match=r"row 0: .* tokens, over the model's context of 512; drop it, "
        r"or set trainer\.allow_truncation",
    ):
        training.build_examples(STUDENT, long, 10_000)


def test_an_example_is_shown_with_its_mask_and_the_lengths_are_counted():
    table = corpus(9)
    row = table.iloc[2]
    assert (
        training.show_example(STUDENT, table, 2)
        == f"<user> {row.prompt} <assistant>»{row.text} <eos>«"
    )
    lengths = [
        len(example["input_ids"]) for example in training.build_examples(STUDENT, table, 128)
    ]
    shown = training.length_histogram(STUDENT, table, max(lengths) - 1, bins=3)
    assert shown["examples"].sum() == 9 and shown.iloc[-1].to_dict() == {
        "tokens": f"over {max(lengths) - 1}",
        "examples": lengths.count(max(lengths)),
        "share": round(lengths.count(max(lengths)) / 9, 3),
    }
    for tokens, n in zip(shown["tokens"][:-1], shown["examples"][:-1], strict=True):
        low, high = map(int, tokens.split("-"))
        assert n == sum(low <= length <= high for length in lengths)


def test_an_empty_corpus_is_an_error():
    with pytest.raises(training.TrainingError, match="corpus is empty"):
        training.sft(STUDENT, corpus(3).head(0), **SETTINGS)


# ---- training


def test_training_teaches_and_leaves_the_base_alone():
    table = corpus(8)
    before = models.load(STUDENT).get_input_embeddings().weight.clone()
    made = record(training.sft(STUDENT, table, **SETTINGS | {"epochs": 12.0}))
    losses = [entry["loss"] for entry in made["loss"]]
    assert losses[-1] < 0.8 * losses[0]
    assert made["steps"] == 24 and made["examples"] == 8
    assert made["corpus_tokens"] == sum(
        len(example["input_ids"]) for example in training.build_examples(STUDENT, table, 128)
    )
    assert (models.load(STUDENT).get_input_embeddings().weight == before).all()


def test_the_same_inputs_give_the_same_weights(monkeypatch, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = training.sft(STUDENT, corpus(12), **SETTINGS)
    first = weights(spec)
    monkeypatch.setenv("DED_STORE", str(tmp_path / "another"))
    assert training.sft(STUDENT, corpus(12), **SETTINGS) == spec
    assert weights(spec) == first

    folder = models.locate(spec)  # an ordinary Hugging Face directory
    net = AutoModelForCausalLM.from_pretrained(folder)
    assert {weight.dtype for weight in net.parameters()} == {torch.float32}
    assert (
        AutoTokenizer.from_pretrained(folder).chat_template
        == models.load_tokenizer(STUDENT).chat_template
    )
    assert models.render(spec, "1 +2 =") == models.render(STUDENT, "1 +2 =")


@pytest.mark.parametrize(
    "flags",
    [
        {"do_sample": False, "temperature": 0.6, "top_p": 0.95, "top_k": 20},
        {"temperature": 0.6},
        {"early_stopping": True},
        {"output_scores": True},
        {"pad_token_id": -1, "repetition_penalty": 1.05},
    ],
)
def test_a_generation_config_that_cannot_be_saved_is_mended_first(tmp_path, flags):
    from transformers import GenerationConfig

    folder = tmp_path / "student"
    shutil.copytree(models.locate(STUDENT), folder)
    (folder / "generation_config.json").write_text(json.dumps(flags | {"eos_token_id": [2, 3]}))
    settings = SETTINGS | {"max_steps": 1, "trainer": Trainer(save_steps=1)}
    spec = training.sft(f"path:{folder}", corpus(4), **settings)
    saved = GenerationConfig.from_pretrained(models.locate(spec))
    saved.validate(strict=True)
    assert {2, 3} <= set(saved.eos_token_id)
    assert saved.repetition_penalty == flags.get("repetition_penalty")  # what is valid stays


def test_max_steps_replace_epochs():
    spec = training.sft(STUDENT, corpus(8), **SETTINGS | {"max_steps": 5, "epochs": 100.0})
    assert record(spec)["steps"] == 5 and record(spec)["loss"][-1]["step"] == 5


def test_the_key_holds_what_determines_the_weights_and_nothing_else(monkeypatch):
    monkeypatch.setattr(store, "directory", lambda key, fill: None)  # keys alone
    table = corpus(6)
    base = training.sft(STUDENT, table, **SETTINGS)
    same = [
        training.sft(STUDENT, table.assign(verdict="correct", n_tokens=3), **SETTINGS),
        training.sft(STUDENT, table.set_axis(range(10, 16)), **SETTINGS),
        training.sft(STUDENT, table, **SETTINGS | {"epochs": 1}),
        training.sft(
            STUDENT,
            table,
            **SETTINGS,
            trainer=Trainer(
                micro_batch=2, packing=True, processes=2, save_steps=5, gradient_checkpointing=True
            ),
        ),
    ]
    other = [
        training.sft(STUDENT, table[::-1], **SETTINGS),
        training.sft(STUDENT, table.head(5), **SETTINGS),
        training.sft(STUDENT, table.assign(text="<think> a </think> b"), **SETTINGS),
        training.sft("lab:ancestor", table, **SETTINGS),
        *(
            training.sft(STUDENT, table, **SETTINGS | change)
            for change in (
                {"learning_rate": 1e-3},
                {"batch_size": 3},
                {"epochs": 2.0},
                {"max_steps": 7},
                {"warmup": 0.2},
                {"seed": 2},
                {"trainer": Trainer(dtype="bfloat16")},
                {"trainer": Trainer(lora_rank=4)},
                {"trainer": Trainer(lora_rank=8)},
                {"trainer": Trainer(allow_truncation=True)},
            )
        ),
    ]
    assert set(same) == {base} and base.startswith("store:")
    assert len({base, *other}) == len(other) + 1


def test_trl_alone_does_the_same(tmp_path):
    """The bare script: conversations in; TRL renders, masks and trains them, settings as ours."""
    import copy

    import datasets
    from safetensors.torch import load_file
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    table = corpus(8)
    rows = [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "completion": [{"role": "assistant", "content": text}],
        }
        for prompt, text in zip(table["prompt"], table["text"], strict=True)
    ]
    arguments = SFTConfig(
        output_dir=str(tmp_path / "bare"),
        learning_rate=2e-3,
        per_device_train_batch_size=4,
        max_steps=4,
        warmup_steps=0,
        lr_scheduler_type="cosine",
        max_length=None,
        completion_only_loss=True,
        seed=1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        disable_tqdm=True,
    )
    bare = SFTTrainer(
        model=copy.deepcopy(models.load(STUDENT)).cpu(),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=models.load_tokenizer(STUDENT),
    )
    bare.remove_callback(PrinterCallback)
    bare.train()
    ours = training.sft(STUDENT, table, **SETTINGS | {"max_steps": 4, "warmup": 0.0})
    losses = [entry["loss"] for entry in bare.state.log_history if "loss" in entry]
    assert [entry["loss"] for entry in record(ours)["loss"]] == pytest.approx(losses, abs=1e-4)
    trained, mine = (
        dict(bare.model.named_parameters()),
        load_file(Path(models.locate(ours)) / "model.safetensors"),
    )
    for name, value in mine.items():
        assert (trained[name] - value).abs().max() <= 1e-4, (
            name
        )  # the loss is summed in another order


# ---- other ways to the same weights, and to others


def losses(spec):
    return [entry["loss"] for entry in record(spec)["loss"]]


@pytest.mark.parametrize(
    "way",
    [
        {"packing": True},
        {"packing": True, "micro_batch": 2},
        {"micro_batch": 1},
        {"gradient_checkpointing": True},
    ],
)
def test_how_a_batch_is_worked_off_does_not_change_what_is_learnt(way, monkeypatch, tmp_path):
    table, settings = (
        corpus(11),
        SETTINGS | {"epochs": 4.0, "learning_rate": 1e-2},
    )  # 11: the last batch of an epoch is a short one
    spec = training.sft(STUDENT, table, **settings)
    plain = losses(spec)
    monkeypatch.setenv("DED_STORE", str(tmp_path / "other"))
    assert training.sft(STUDENT, table, **settings, trainer=Trainer(**way)) == spec
    assert losses(spec) == pytest.approx(plain, rel=1e-4)
    assert plain[-1] < 0.8 * plain[0] and record(spec)["trainer"] == way


def under_a_mask(query, key, value, starts, *_, window_size, **more):
    """What `varlen_attn` does, where there is no GPU."""
    import torch

    example = torch.repeat_interleave(starts.diff())
    seen = (example[:, None] == example).tril()
    if window_size[0] >= 0:
        seen = seen.triu(-window_size[0])
    heads_first = [part.transpose(0, 1)[None] for part in (query, key, value)]
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(*heads_first, attn_mask=seen, **more)[0].transpose(0, 1)


@pytest.mark.parametrize("window", [None, 3])
def test_packed_examples_attend_to_themselves_alone(window, monkeypatch):
    import torch

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", under_a_mask)
    rng = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 9, 8, generator=rng)
    key, value = torch.randn(2, 1, 2, 9, 8, generator=rng)
    settings = {"cu_seq_lens_q": torch.tensor([0, 4, 9]), "max_length_q": 5, "scaling": 0.3}
    settings["sliding_window"] = window
    together, _ = attention.packed_attention(None, query, key, value, None, **settings)
    at, example = torch.arange(9), torch.tensor([0] * 4 + [1] * 5)
    distance = at[:, None] - at
    seen = (distance >= 0) & (distance < (window or 9)) & (example[:, None] == example)
    scores = 0.3 * query @ key.repeat_interleave(2, dim=1).mT
    expected = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value.repeat_interleave(2, 1)
    assert torch.allclose(together, expected.transpose(1, 2), atol=1e-5)


def test_a_model_reads_packed_examples_as_it_reads_them_alone(monkeypatch):
    import torch

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", under_a_mask)
    net = copy.deepcopy(models.load(STUDENT))
    rows = [
        torch.tensor([row["input_ids"]]) for row in training.build_examples(STUDENT, corpus(2), 99)
    ]
    lengths = [row.shape[1] for row in rows]
    starts = torch.tensor([0, lengths[0], sum(lengths)], dtype=torch.int32)
    packed = {"input_ids": torch.cat(rows, 1), "cu_seq_lens_q": starts, "cu_seq_lens_k": starts}
    packed["position_ids"] = torch.cat([torch.arange(n)[None] for n in lengths], 1)
    packed |= {"max_length_q": max(lengths), "max_length_k": max(lengths)}
    with torch.no_grad():
        alone = torch.cat([net(input_ids=row).logits for row in rows], 1)
        net.set_attn_implementation(attention.register())
        together = net(**packed, use_cache=False).logits
    assert torch.allclose(together, alone, atol=1e-4)


def test_a_large_models_batch_goes_by_rows_of_like_length(monkeypatch, tmp_path):
    table, settings = corpus(11), SETTINGS | {"epochs": 4.0, "learning_rate": 1e-2}
    spec = training.sft(STUDENT, table, **settings)
    plain = losses(spec)
    monkeypatch.setenv("DED_STORE", str(tmp_path / "other"))
    monkeypatch.setattr(loss, "LARGE", 0)
    shapes, forward = [], type(models.load(STUDENT)).forward
    monkeypatch.setattr(
        type(models.load(STUDENT)),
        "forward",
        lambda self, input_ids, **more: (
            shapes.append(tuple(input_ids.shape)),
            forward(self, input_ids, **more),
        )[1],
    )
    assert training.sft(STUDENT, table, **settings) == spec
    assert losses(spec) == pytest.approx(plain, rel=1e-4)
    assert max(rows for rows, _ in shapes) == 2 and len({width for _, width in shapes}) > 1


def test_lora_trains_the_linear_layers_and_leaves_an_ordinary_model():
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    folder = Path(
        models.locate(
            training.sft(
                STUDENT,
                corpus(8),
                **SETTINGS | {"epochs": 8.0, "learning_rate": 1e-2},
                trainer=Trainer(lora_rank=2),
            )
        )
    )
    assert (
        not list(folder.glob("adapter*"))
        and type(AutoModelForCausalLM.from_pretrained(folder)).__name__ == "Qwen3ForCausalLM"
    )
    before, after = (
        load_file(Path(place) / "model.safetensors") for place in (models.locate(STUDENT), folder)
    )
    assert before.keys() == after.keys()
    for name, value in after.items():
        change = value - before[name].float()
        if "_proj" in name:
            s = change.svd().S
            assert s[1] > 1e-4 and s[2] < 1e-3 * s[0], name  # of rank two
        else:
            assert change.abs().max() == 0, name
    made = record(f"path:{folder}")["loss"]
    assert made[-1]["loss"] < made[0]["loss"]


def test_bfloat16_is_saved_as_such_but_learns_in_float32():
    import torch
    from transformers import AutoModelForCausalLM

    settings = SETTINGS | {
        "epochs": 10.0,
        "learning_rate": 2e-5,
    }  # steps that bfloat16 weights would round away
    spec = training.sft(STUDENT, corpus(8), **settings, trainer=Trainer(dtype="bfloat16"))
    assert {
        weight.dtype
        for weight in AutoModelForCausalLM.from_pretrained(models.locate(spec)).parameters()
    } == {torch.bfloat16}
    whole = training.sft(STUDENT, corpus(8), **settings)
    assert losses(spec) == pytest.approx(losses(whole), rel=0.02)
    drop = losses(whole)[0] - losses(whole)[-1]
    assert losses(spec)[0] - losses(spec)[-1] == pytest.approx(drop, rel=0.3) and drop > 0


# ---- interruptions and failures


def test_a_training_goes_on_from_its_last_whole_checkpoint(monkeypatch, tmp_path):
    from trl import SFTTrainer

    table, settings = corpus(11), SETTINGS | {"epochs": 6.0}  # 16 steps of 3 an epoch
    spec = training.sft(STUDENT, table, **settings)
    expected, history = weights(spec), record(spec)["loss"]
    monkeypatch.setenv("DED_STORE", str(tmp_path / "other"))
    work = store.root() / "work" / spec.removeprefix("store:")
    step, done = SFTTrainer.training_step, iter(range(15))
    with monkeypatch.context() as interrupted:
        interrupted.setattr(
            SFTTrainer, "training_step", lambda *a, **k: (next(done), step(*a, **k))[1]
        )
        with pytest.raises(StopIteration):
            training.sft(STUDENT, table, **settings, trainer=Trainer(save_steps=7))
    assert [path.name for path in work.glob("checkpoint-*")] == [
        "checkpoint-14"
    ]  # the one before is gone
    shutil.copytree(
        work / "checkpoint-14",
        work / "checkpoint-15",
        ignore=shutil.ignore_patterns(trainer.WHOLE, "*.safetensors"),
    )  # half-written
    assert training.sft(STUDENT, table, **settings, trainer=Trainer(save_steps=7)) == spec
    assert record(spec)["resumed_from"] == "checkpoint-14" and record(spec)["loss"] == history
    assert weights(spec) == expected and not work.exists()


@pytest.mark.parametrize(
    "settings, trainer, words",
    [
        (
            {},
            {"micro_batch": 3},
            "batch_size=4 is no multiple of 1 process.* x trainer.micro_batch=3",
        ),
        ({}, {"processes": 3}, "batch_size=4 is no multiple of 3 process"),
        (
            {},
            {"accelerate": "fsdp2_8gpu", "processes": 2},
            "'fsdp2_8gpu' shares the model out among GPUs, and there are none here; .*'ddp_2cpu'",
        ),
        (
            {"learning_rate": 1e30, "epochs": 6.0},
            {},
            "the loss is no number from step .* lower the learning_rate",
        ),
    ],
)
def test_settings_that_cannot_work_are_named(settings, trainer, words, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(training.TrainingError, match=words):
        training.sft(STUDENT, corpus(8), **SETTINGS | settings, trainer=Trainer(**trainer))
    assert not list(store.root().glob("??/*"))


def test_more_processes_than_gpus_are_one_error(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(training.TrainingError, match="2 processes want a GPU each, and 1 are here"):
        training.sft(STUDENT, corpus(4), **SETTINGS, trainer=Trainer(processes=2))


def test_liger_without_a_gpu_is_an_error(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(
        training.TrainingError, match=r"trainer\.liger needs a GPU and the package liger-kernel"
    ):
        training.sft(STUDENT, corpus(4), **SETTINGS, trainer=Trainer(liger=True))


def test_of_ligers_kernels_those_of_the_layers_are_applied(monkeypatch):
    applied = []
    monkeypatch.setattr(trainer, "check_packages", lambda how: None)
    monkeypatch.setattr(
        liger, "apply_liger_kernel", lambda net, which: applied.append((type(net).__name__, which))
    )
    training.sft(STUDENT, corpus(4), **SETTINGS, trainer=Trainer(liger=True))
    assert applied == [("Qwen3ForCausalLM", {"fused_linear_cross_entropy": False})]


def test_attention_by_lengths_on_a_gpu_is_in_bfloat16(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(TrainingError, match=r"packing needs bfloat16 .* set trainer.dtype"):
        trainer.check_packages(Trainer(packing=True))


def test_out_of_memory_is_one_error_with_the_mend(monkeypatch):
    import torch
    from trl import SFTTrainer

    def fails(error):
        def train(*args, **options):
            raise error

        monkeypatch.setattr(SFTTrainer, "train", train)

    fails(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nmore"))
    with pytest.raises(
        training.TrainingError,
        match=r"out of memory with 2 example.*tokens.*lower trainer.micro_batch.*20 GiB",
    ):
        training.sft(STUDENT, corpus(4), **SETTINGS, trainer=Trainer(micro_batch=2))
    fails(RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        training.sft(STUDENT, corpus(4), **SETTINGS)


# ---- examples that are held out

LONG = SETTINGS | {"learning_rate": 5e-3, "epochs": 3.0}
HELD = Trainer(validation_share=0.25)


def pairs(n):
    """Two worked solutions of each of n questions."""
    return pd.concat([corpus(n, "left"), corpus(n, "pairs")]).sort_values(
        "prompt", ignore_index=True
    )


def test_the_loss_on_whole_questions_is_logged_and_they_are_not_trained_on():
    table = pairs(8)
    rows = table.index.tolist()
    kept, held = training.hold_out(rows, table["prompt"].tolist(), 0.25, 1)
    assert len(held) == 4 and not set(table["prompt"][held]) & set(table["prompt"][kept])
    spec = training.sft(STUDENT, table, **LONG, trainer=HELD)
    entries = record(spec)["validation_loss"]
    assert [entry["step"] for entry in entries] == list(range(13))  # 3 epochs of all 16 by 4
    before, after = (
        analysis.trajectory_scores(model, table.loc[held])["surprisal"].mean()
        for model in (STUDENT, spec)
    )
    assert entries[0]["loss"] == pytest.approx(before, rel=1e-4)
    assert entries[-1]["loss"] == pytest.approx(after, rel=1e-4) and after < before
    alone = training.sft(STUDENT, table.loc[kept], **LONG | {"max_steps": 12})
    assert weights(alone) == weights(spec) and "validation_loss" not in record(alone)


def test_what_is_held_out_is_drawn_by_the_seed_and_off_by_default():
    table, rows = pairs(8), list(range(16))
    prompts = table["prompt"].tolist()
    assert training.hold_out(rows, prompts, 0.0, 1) == (rows, [])
    assert (
        training.hold_out(rows, prompts, 0.01, 1)[1] != training.hold_out(rows, prompts, 0.01, 5)[1]
    )
    plain, *others = (
        training.sft(STUDENT, table.head(4), **LONG | {"max_steps": 1}, trainer=way)
        for way in (Trainer(), Trainer(validation_share=0.0, report_to="none"), HELD)
    )
    assert others[0] == plain != others[1]


def test_nothing_to_train_on_is_an_error():
    for table, share in ((pairs(1), 0.1), (pairs(2), 0.9)):
        with pytest.raises(TrainingError, match=r"validation_share = .* leaves nothing of"):
            training.sft(STUDENT, table, **LONG, trainer=Trainer(validation_share=share))


# ---- reporters


@pytest.mark.parametrize("name", ["trackio", "tensorboard", "wandb"])
def test_a_reporter_that_is_not_installed_is_an_error_with_the_mend(name, monkeypatch):
    monkeypatch.setattr(trainer, "find_spec", lambda package: None)
    words = f"report_to needs the package {name}: pip install {name}, or set it to 'none'"
    with pytest.raises(TrainingError, match=words):
        training.sft(STUDENT, corpus(2), **SETTINGS, trainer=Trainer(report_to=name))


def test_a_reporter_sees_the_loss_and_the_key_does_not_see_it(monkeypatch, tmp_path):
    shown = []

    class Reporter(transformers.TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            shown.extend((args.run_name, args.project, name) for name in logs if "loss" in name)

    monkeypatch.setattr(trainer, "find_spec", lambda package: True)
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", Reporter)
    settings = SETTINGS | {"max_steps": 2}
    reported = Trainer(validation_share=0.25, report_to="trackio")
    spec = training.sft(STUDENT, corpus(4), **settings, trainer=reported)
    assert {(run, project) for run, project, _ in shown} == {(spec.removeprefix("store:"), "ded")}
    assert {name for *_, name in shown} >= {"loss", "eval_loss"}
    before = weights(spec)
    monkeypatch.setenv("DED_STORE", str(tmp_path / "other"))
    assert training.sft(STUDENT, corpus(4), **settings, trainer=HELD) == spec
    assert weights(spec) == before


def test_tensorboard_files_outlive_the_training(tmp_path):
    pytest.importorskip("tensorboard")
    how = Trainer(report_to="tensorboard")
    spec = training.sft(STUDENT, corpus(2), **SETTINGS | {"max_steps": 2}, trainer=how)
    folder = tmp_path / "store" / "logs" / spec.removeprefix("store:")
    assert list(folder.glob("events.*"))
