"""Model specs: what is refused and how, what identifies a model, what is loaded under a name."""

import json
import shutil

import pytest

from ded import models
from ded.models import ModelError


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


@pytest.mark.parametrize("spec", ["student_1", "lab:", "hub:org/name", "", ":x"])
def test_a_spec_of_no_kind_is_refused(spec):
    with pytest.raises(ModelError, match="kind one of lab, hf, path, store"):
        models.parse(spec)


def test_a_model_that_is_not_there_is_refused_with_what_mends_it(tiny, tmp_path):
    with pytest.raises(ModelError, match=r"no lab model 'student_l'; .*student_1"):
        models.locate("lab:student_l")
    with pytest.raises(ModelError, match="`ded lab build student_2` trains it"):  # known, not among the tiny ones
        models.locate("lab:student_2")
    for spec in (f"path:{tmp_path}", "store:0123456789abcdef01234567"):
        with pytest.raises(ModelError, match="config.json is missing"):
            models.locate(spec)


def test_a_hub_model_that_does_not_answer_is_refused(monkeypatch):
    import huggingface_hub

    def offline(self, name):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    with pytest.raises(ModelError, match="hf:org/nowhere.*OSError.*path:<directory>"):
        models.fingerprint("hf:org/nowhere")
    assert models.fingerprint("hf:org/nowhere@abc") == "org/nowhere@abc"  # a named revision needs no answer


# ---- content


def test_fingerprint_is_of_content_not_of_place(tiny, copied):
    before = models.fingerprint("lab:student_1")
    assert models.fingerprint(f"path:{copied}") == before
    (copied / "README.md").write_text("words")
    (copied / "lab.json").write_text("{}")  # how long it was trained is no part of what it is
    assert models.fingerprint(f"path:{copied}") == before
    assert models.fingerprint("lab:ancestor") != before


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "chat_template.jinja", "tokenizer.json"])
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
