"""The grammar of model specs, and what identifies content: a hash of files, a commit of the hub.

`lab:<name>` (a tiny model of `ded.lab`), `hf:<org>/<name>[@revision]`, `path:<directory>`,
`package:<name>` (see `ded.models.package`); `store:<key>` is a checkpoint that an earlier stage
trained. All are ordinary Hugging Face directories. Without weights: `openai:<model>` (served at the
engine's base_url), `recorded:<file or data set>[#<map>]` (see `ded.models.traces`). Behind any but
these `?{option: value}` says how it is prompted (see `ded.models.chat`).
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ded.errors import ModelError, ParameterError, first_line, near
from ded.files import beside, parse_yaml

KINDS = ("lab", "hf", "path", "store", "package", "openai", "recorded")
WITHOUT_WEIGHTS = {"openai": "an endpoint gives texts", "recorded": "recorded traces are texts"}
MENDS = beside(__file__, "mends.yml")


class Spec(NamedTuple):
    """A model spec, read."""

    kind: str
    name: str
    revision: str | None  # of a hub model


def parse(spec: str) -> Spec:
    """What a spec says; ModelError for an unknown kind or an empty name."""
    kind, _, name = bare(str(spec)).partition(":")
    if kind not in KINDS or not name:
        kinds = f"with kind one of {', '.join(KINDS)}, e.g. 'lab:student_1'"
        hub_id = not name and re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", kind)
        hint = f"; did you mean 'hf:{spec}'?" if hub_id else near(kind, KINDS)
        raise ModelError(f"model {spec!r}: a model is written as <kind>:<name> {kinds}{hint}")
    name, _, revision = name.partition("@") if kind == "hf" else (name, "", "")
    if kind == "recorded" and options_of(spec):
        raise ModelError(f"model {spec!r}: recorded traces are not prompted; leave the options out")
    return Spec(kind, name, revision or None)


def bare(spec: str) -> str:
    """The spec without its options."""
    return re.sub(r"\?\{.*\}$", "", spec, flags=re.DOTALL)


@lru_cache(maxsize=256)
def options_of(spec: str) -> dict[str, Any]:
    """How the spec says that its model is prompted; {} where it does not. ModelError for what is no
    mapping of names to values of their types."""
    text = spec[len(bare(spec)) + 1 :]
    form = MENDS["options"]
    try:
        options = parse_yaml(text, spec) if text else {}
    except ParameterError as error:
        raise ModelError(f"model {error}; {form}") from None
    types = {"thinking": bool, "enable_thinking": bool, "system_prompt": str}
    for name, value in options.items():
        if not str(name).isidentifier() or not isinstance(value, types.get(name, object)):
            raise ModelError(f"model {spec!r}: {name}: {value!r}: {form}")
    return options


def with_options(spec: str, options: Mapping[str, Any]) -> str:
    """The spec with these options besides its own, which count where both name one."""
    merged = {**options, **options_of(spec)}
    if not merged:
        return spec
    written = [f"{name}: {json.dumps(merged[name], ensure_ascii=False)}" for name in merged]
    spec = f"{bare(spec)}?{{{', '.join(written)}}}"
    options_of(spec)  # refuses what is none
    return spec


def digest(files: Iterable[Path]) -> str:
    """A hash of names and contents; files that did not change since are not read again."""
    stats = [(file, file.stat()) for file in files]
    return _hash(tuple((file, stat.st_mtime_ns, stat.st_size) for file, stat in stats))


@lru_cache(maxsize=256)
def _hash(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, _, _ in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:24]


@lru_cache(maxsize=256)
def hub(name: str, revision: str | None = None, kind: str = "model") -> tuple[str, float]:
    """(commit, number of parameters or NaN) of a hub model, or of a "dataset"; of its local copy
    where the hub gives none.

    ModelError that says why, and what mends it, where there is neither.
    """
    from huggingface_hub import HfApi, hf_hub_download

    place = {"repo_type": kind, "revision": revision}
    try:
        # what is gated shows its metadata to everybody, its files to those admitted
        HfApi().auth_check(name, repo_type=kind)
        info = HfApi().repo_info(name, **place)
    except Exception as error:  # the hub client's errors have no common root short of this
        file = "config.json" if kind == "model" else "README.md"
        with suppress(Exception):
            copy = hf_hub_download(name, file, **place, local_files_only=True)
            return Path(copy).parent.name, math.nan
        what = f"model 'hf:{name}'" if kind == "model" else f"data set {name}"
        mend = MENDS["copy"][kind].format(name)
        error_name = type(error).__name__
        reason = f"the hub does not answer ({error_name}: {first_line(error)}): check the network"
        if error_name in MENDS["hub"]:
            reason = MENDS["hub"][error_name].format(revision)
        text = f"{what}: {reason}; or name a downloaded copy with {mend}"
        raise ModelError(text, cause=reason) from error
    sizes = getattr(info, "safetensors", None)
    return info.sha, float(sizes.total) if sizes else math.nan
