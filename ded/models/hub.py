"""The Hugging Face hub: what it knows of an id, and why it does not answer."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ded.errors import ModelError


@lru_cache(maxsize=256)
def hub(name: str, revision: str | None = None, kind: str = "model") -> tuple[str, float]:
    """(commit, number of parameters or NaN) of a hub model, or of a "dataset"; of its local copy where the hub gives none.

    ModelError that says why, and what mends it, where there is neither.
    """
    from huggingface_hub import HfApi, errors, hf_hub_download

    try:
        HfApi().auth_check(
            name, repo_type=kind
        )  # what is gated shows its metadata to everybody, its files to those admitted
        info = HfApi().repo_info(name, repo_type=kind, revision=revision)
        return info.sha, float(info.safetensors.total) if getattr(
            info, "safetensors", None
        ) else math.nan
    except Exception as error:  # the hub client's errors have no common root short of this
        with suppress(Exception):
            copy = hf_hub_download(
                name,
                "config.json" if kind == "model" else "README.md",
                repo_type=kind,
                revision=revision,
                local_files_only=True,
            )
            return Path(copy).parent.name, math.nan
        said = (str(error).splitlines() or [""])[0][:160]
        why = next(
            (
                text
                for known, text in (
                    (
                        errors.GatedRepoError,
                        "it is gated: accept its terms on its page, then run `hf auth login`",
                    ),
                    (errors.RevisionNotFoundError, f"it has no revision {revision!r}"),
                    (
                        errors.RepositoryNotFoundError,
                        "the hub knows no such id: check the spelling, or run `hf auth login` if it is private",
                    ),
                    (errors.HFValidationError, "an id is written as <org>/<name>"),
                    (
                        errors.OfflineModeIsEnabled,
                        "HF_HUB_OFFLINE is set, and there is no copy of it here",
                    ),
                )
                if isinstance(error, known)
            ),
            f"the hub does not answer ({type(error).__name__}: {said}): check the network",
        )
        what, copy = (
            (f"model 'hf:{name}'", "'path:<directory>'")
            if kind == "model"
            else (
                f"data set {name}",
                f"'data:<name>@<file>' or 'recorded:<file>', or as {name}.jsonl in the folder of DED_DATA",
            )
        )
        raise ModelError(f"{what}: {why}; or name a downloaded copy with {copy}") from error
