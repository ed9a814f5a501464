"""Turns a model spec of a params file into something loadable.

Grammar: `lab:<name>` (a tiny model of `ded.lab`), `hf:<org>/<name>[@revision]`, `path:<directory>`; `store:<key>` names a
checkpoint that an earlier stage trained. All are ordinary Hugging Face directories, loaded by the same code.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

RECORDS = ("lab.json", "training.json")  # how a model was made: no part of what it is
KINDS = ("lab", "hf", "path", "store")


class ModelError(ValueError):
    """A model spec that cannot be loaded; the message says why and how to mend it."""


def parse(spec: str) -> tuple[str, str, str | None]:
    """(kind, name, revision or None) of a spec; ModelError for an unknown kind or an empty name."""
    kind, _, name = str(spec).partition(":")
    if kind not in KINDS or not name:
        raise ModelError(f"model {spec!r}: a model is written as <kind>:<name> with kind one of {', '.join(KINDS)}, e.g. 'lab:student_1'")
    name, _, revision = name.partition("@") if kind == "hf" else (name, "", "")
    return kind, name, revision or None


def locate(spec: str) -> str:
    """The directory (or hub id) that transformers loads this model from. ModelError where it is not there."""
    kind, name, _ = parse(spec)
    if kind == "hf":
        return name
    if kind == "lab":
        from ded import lab

        return str(lab.checkpoint(name))
    if kind == "store":
        from ded import store

        folder = store.root() / name[:2] / name
    else:
        folder = Path(name).expanduser()
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {spec!r}: no model directory at {folder} (config.json is missing)")
    return str(folder)


def fingerprint(spec: str) -> str:
    """What identifies the model's content in a store key: a hash of weights, configuration, tokenizer and template.

    A store checkpoint is identified by the key of the training that made it; a hub model by its resolved commit.
    """
    kind, name, revision = parse(spec)
    if kind == "store":
        return name
    if kind == "hf":
        return f"{name}@{revision or _commit(name)}"
    folder = Path(locate(spec))
    files = tuple((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in sorted(folder.iterdir()) if f.suffix in (".json", ".safetensors", ".jinja", ".model") and f.name not in RECORDS)
    return _hash(files)


@lru_cache(maxsize=256)
def _hash(files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, _, _ in files:
        digest.update(Path(file).name.encode() + b"\0" + Path(file).read_bytes())
    return digest.hexdigest()[:24]


@lru_cache(maxsize=256)
def _commit(name: str) -> str:
    from huggingface_hub import HfApi

    try:
        return HfApi().model_info(name).sha
    except Exception as error:  # the hub client's errors have no common root short of this
        raise ModelError(f"model 'hf:{name}': the hub does not answer for it ({type(error).__name__}). Check the id, the network, "
                         f"and `hf auth login` for a gated model; or name a downloaded copy with 'path:<directory>'") from error


@lru_cache(maxsize=4)
def load_tokenizer(spec: str):
    """The tokenizer of a model; ModelError if it has no chat template."""
    from transformers import AutoTokenizer

    _, _, revision = parse(spec)
    tok = AutoTokenizer.from_pretrained(locate(spec), revision=revision)
    if not tok.chat_template:
        raise ModelError(f"model {spec!r}: its tokenizer has no chat template, so no prompt can be rendered for it")
    if tok.pad_token_id is None:
        tok.pad_token = tok.eos_token
    return tok


def load(spec: str, dtype: str = "float32"):
    """The model, in evaluation mode, on the GPU where there is one (the last two stay loaded). Do not train this object: copy it."""
    return _load(spec, dtype, fingerprint(spec))  # a model trained anew under its old name is another model


@lru_cache(maxsize=2)
def _load(spec: str, dtype: str, content: str):
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # loading and saving take a moment here; the notebook's own bar counts jobs
    _, _, revision = parse(spec)
    model = AutoModelForCausalLM.from_pretrained(locate(spec), revision=revision, dtype=getattr(torch, dtype))
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def render(spec: str, prompt: str) -> str:
    """The text that the model sees for a user's prompt, up to where its answer begins."""
    return load_tokenizer(spec).apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)


