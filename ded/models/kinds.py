"""The kinds of model specs: where a model of each lies, and what identifies its content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ded import store
from ded.errors import ModelError
from ded.lab import catalogue
from ded.models import endpoint, package, traces
from ded.models.hub import hub
from ded.models.spec import WITHOUT_WEIGHTS, Spec, digest

if TYPE_CHECKING:
    from ded.options import Engine

RECORDS = ("lab.json", "training.json")  # how a model was made: no part of what it is
CONTENT = (".json", ".safetensors", ".jinja", ".model")  # suffixes of what it is


@dataclass(frozen=True)
class Kind:
    """What is done with the specs of one kind.

    `locate` gives the directory (or hub id) that transformers loads, or raises ModelError where
    there is none; `fingerprint` what identifies the content in a store key. `check` is there for
    what has no weights: ModelError where `engine` cannot sample it.
    """

    locate: Callable[[Spec], str]
    fingerprint: Callable[[Spec], str]
    check: Callable[[str, Engine], None] | None = None


def _directory(spec: Spec, folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model {str(spec)!r}: no model directory at {folder} (config.json is missing)"
        )
    return str(folder)


def _lab(spec: Spec) -> str:
    return str(catalogue.checkpoint(spec.name))


def _path(spec: Spec) -> str:
    return _directory(spec, Path(spec.name).expanduser())


def _files(locate: Callable[[Spec], str]) -> Callable[[Spec], str]:
    """A hash of weights, configuration, tokenizer and template in the directory of a model."""

    def fingerprint(spec: Spec) -> str:
        files = sorted(Path(locate(spec)).iterdir())
        return digest(f for f in files if f.suffix in CONTENT and f.name not in RECORDS)

    return fingerprint


def _no_weights(spec: Spec) -> NoReturn:
    raise ModelError(
        f"model {str(spec)!r}: {WITHOUT_WEIGHTS[spec.kind]}, no weights: it can be a teacher, but "
        "not be trained, and has no tokenizer or hidden states to read; name a model with weights "
        "('hf:<org>/<name>', 'path:<directory>')"
    )


# A store checkpoint is identified by the key of the training that made it, a hub model by its
# commit, recorded traces by content and column map. Of an endpoint's model the name alone is known
# (its engine's identity adds the base_url).
KINDS = {
    "lab": Kind(_lab, _files(_lab)),
    "path": Kind(_path, _files(_path)),
    "hf": Kind(
        lambda spec: spec.name, lambda spec: f"{spec.name}@{spec.revision or hub(spec.name)[0]}"
    ),
    "store": Kind(lambda spec: _directory(spec, store.folder(spec.name)), lambda spec: spec.name),
    "package": Kind(
        lambda spec: str(package.directory(spec.name)), lambda spec: package.find(spec.name)[1]
    ),
    "openai": Kind(_no_weights, lambda spec: spec.name, endpoint.check),
    "recorded": Kind(
        _no_weights,
        lambda spec: traces.fingerprint(str(spec)),
        traces.check,
    ),
}
