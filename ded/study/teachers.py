"""Notebook 01: teachers' own scores and the smoke test."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ded import analysis, models
from ded.generation import recorded
from ded.study.common import distil, score, short, suite, teacher_corpus, unscored

MEASURED = ("token_entropy", "latent_shift", "n_tokens", "corpus_loss")


def own_score(p: Any, base: str, replicate: int, teacher: str) -> pd.DataFrame:
    """The teacher's own scores on the unit's in-domain questions; n = 0 and NaN for recorded traces that do not answer them all."""
    families = {"ID": suite(p, base, replicate)["ID"]}
    if models.parse(teacher)[0] == "recorded" and not all(
        recorded.traces(teacher, families["ID"], 1).values()
    ):
        return unscored(p, base, replicate, short(teacher), families)
    return score(p, teacher, base, replicate, short(teacher), families)


def smoke_test(p: Any, base: str, replicate: int, teacher: str) -> dict[str, Any]:
    """Distils the student briefly from one teacher and scores it (paper: "smoke test").

    Returns {scores: score rows, shift: see `analysis.latent_shift`, row: what might have predicted the score: token_entropy
    (nats a token), latent_shift, n_tokens (mean length), corpus_loss (nats a token, before training), corpus_size}. Of a teacher whose
    corpus is empty nothing is measured: shift None, NaN elsewhere.
    """
    corpus, _ = teacher_corpus(p, base, replicate, teacher)
    families = suite(p, base, replicate)
    unit = {
        "base": short(base),
        "replicate": replicate,
        "arm": short(teacher),
        "corpus_size": len(corpus),
    }
    if corpus.empty:
        return {
            "scores": unscored(p, base, replicate, short(teacher), families),
            "shift": None,
            "row": unit | dict.fromkeys(MEASURED, math.nan),
        }
    student = distil(p, base, replicate, corpus)
    shift = analysis.latent_shift(base, student, families["ID"][: p.shift_inputs])
    return {
        "scores": score(p, student, base, replicate, short(teacher), families),
        "shift": shift,
        "row": unit
        | {
            "token_entropy": analysis.token_entropy(corpus),
            "latent_shift": shift["shift"],
            "n_tokens": float(corpus["n_tokens"].mean()),
            "corpus_loss": analysis.corpus_loss(base, corpus),
        },
    }
