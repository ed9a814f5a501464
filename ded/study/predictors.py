"""Notebook 04, aside: what might have told a good teacher without training, and what trusting it
would cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ded import stats
from ded.study.unit import short


@dataclass(frozen=True)
class Predictor:
    """A score of a candidate teacher: its name for readers, +1 where more of it should be better,
    -1 where less.
    """

    label: str
    sign: int
    trained: bool = False  # whether it needs the trained student


PREDICTORS = {
    "own": Predictor("own pass@1", 1),
    "loss": Predictor("student's loss on the corpus (nats a token)", -1),
    "lalp": Predictor("LALP (nats a token)", 1),
    "entropy": Predictor("token entropy (nats a token)", -1),
    "length": Predictor("mean length (tokens)", -1),
    "shift": Predictor("latent shift (needs the training)", -1, trained=True),
    "smoke": Predictor("smoke test's gain (needs the training)", 1, trained=True),
}


def points(smoke: pd.DataFrame) -> pd.DataFrame:
    """The table of `figures.cheap_scores`: predictor, teacher, base, value, gain, seconds.

    Scores come from the first, third, ... replicate of the selection and gains from the others;
    from the same one where there is only one, and then the smoke test, which is that gain, is left
    out.
    """
    ranks = smoke["replicate"].rank(method="dense").astype(int) - 1
    several = bool(ranks.max())
    scored = smoke[ranks % 2 == 0] if several else smoke
    gained = smoke[ranks % 2 == 1] if several else smoke
    gain = gained.groupby(["base", "teacher"], sort=False)["gain"].mean()
    rows = []
    for name, predictor in PREDICTORS.items():
        if name == "smoke" and not several:
            continue
        for (base, teacher), cell in scored.groupby(["base", "teacher"], sort=False):
            rows.append(
                {
                    "predictor": predictor.label,
                    "teacher": short(teacher),
                    "base": base,
                    "value": cell[name].mean(skipna=False),
                    "gain": gain[base, teacher],
                    "seconds": cell[f"{name}_seconds"].mean(),
                }
            )
    return pd.DataFrame(rows)


def with_regret(smoke: pd.DataFrame, ranks: pd.DataFrame) -> pd.DataFrame:
    """`figures.cheap_score_ranks` with what choosing by each score loses in ID pass@1 against the
    smoke test.

    Columns regret, regret_low, regret_high: cross-fitted, see `stats.regret`.
    """
    cells, rows = smoke.rename(columns={"teacher": "arm"}), []
    for name, predictor in PREDICTORS.items():
        if name != "smoke":
            score = cells.assign(value=predictor.sign * cells[name])
            loss, _ = stats.regret(score, cells.assign(value=cells["gain"]))
            rows.append(
                {
                    "predictor": predictor.label,
                    "regret": loss.estimate,
                    "regret_low": loss.low,
                    "regret_high": loss.high,
                }
            )
    return ranks.merge(pd.DataFrame(rows), how="left", on="predictor")


def advice(table: pd.DataFrame) -> str:
    """What `with_regret` says in words of the scores that need no training: the one that ranks
    best, and its cost.
    """
    signs = {p.label: p.sign for p in PREDICTORS.values() if not p.trained}
    table = table[table["predictor"].isin(signs) & table["estimate"].notna()]
    if table.empty:
        return "Nothing was measured that could advise on a teacher."
    agreement = table["estimate"] * table["predictor"].map(signs)
    best = table.assign(agrees=agreement).sort_values("agrees").iloc[-1]
    holds_zero = "" if best["low"] * best["high"] > 0 else ", an interval that holds 0"
    interval = f"[{100 * best['regret_low']:.1f}, {100 * best['regret_high']:.1f}]"
    if not best["regret_high"] > best["regret_low"]:
        verdict = "with nothing that measures the error"
    elif best["regret_low"] > 0:
        verdict = "so the smoke test is worth its cost"
    else:
        verdict = "which these replicates cannot tell from none"
    return (
        f"Of {len(table)} scores that need no training, '{best['predictor']}' ranks the teachers "
        f"best (so it is flattered): Spearman's rho with the gain {best['estimate']:+.2f} "
        f"[{best['low']:+.2f}, {best['high']:+.2f}]{holds_zero}. Choosing by it instead of by the "
        f"smoke test costs {100 * best['regret']:+.1f} {interval} points of ID pass@1, {verdict}."
    )
