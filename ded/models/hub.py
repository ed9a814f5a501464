"""The Hugging Face hub: what it knows of an id, and why it does not answer."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ded.errors import ModelError, first_line


@lru_cache(maxsize=256)
def hub(name: str, revision: str | None = None, kind: str = "model") -> tuple[str, float]:
    """(commit, number of parameters or NaN) of a hub model, or of a "dataset"; of its local copy
    where the hub gives none.

    ModelError that says why, and what mends it, where there is neither.
    """
    from huggingface_hub import HfApi, hf_hub_download

    try:
        # what is gated shows its metadata to everybody, its files to those admitted
        HfApi().auth_check(name, repo_type=kind)
        info = HfApi().repo_info(name, repo_type=kind, revision=revision)
    except Exception as error:  # the hub client's errors have no common root short of this
        file = "config.json" if kind == "model" else "README.md"
        with suppress(Exception):
            copy = hf_hub_download(
                name, file, repo_type=kind, revision=revision, local_files_only=True
            )
            return Path(copy).parent.name, math.nan
        what, mend = f"model 'hf:{name}'", "'path:<directory>'"
        if kind == "dataset":
            what = f"data set {name}"
            mend = (
                f"'data:<name>@<file>' or 'recorded:<file>', or as {name}.jsonl in the folder of "
                "DED_DATA"
            )
        raise ModelError(
            f"{what}: {_reason(error, revision)}; or name a downloaded copy with {mend}"
        ) from error
    sizes = getattr(info, "safetensors", None)
    return info.sha, float(sizes.total) if sizes else math.nan


def _reason(error: Exception, revision: str | None) -> str:
    """Why the hub gave nothing, and what helps."""
    from huggingface_hub import errors

    reasons = {
        errors.GatedRepoError: "it is gated: accept its terms on its page, then run "
        "`hf auth login`",
        errors.RevisionNotFoundError: f"it has no revision {revision!r}",
        errors.RepositoryNotFoundError: "the hub knows no such id: check the spelling, or run "
        "`hf auth login` if it is private",
        errors.HFValidationError: "an id is written as <org>/<name>",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, and there is no copy of it here",
    }
    for kind, reason in reasons.items():
        if isinstance(error, kind):
            return reason
    name = type(error).__name__
    return f"the hub does not answer ({name}: {first_line(error)}): check the network"
