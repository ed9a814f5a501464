"""Notebook 04: the whole recipe, from the choice of a teacher to the arms that it is measured against.

The teacher is chosen on units of its own (`study.units(p, select=True)`). Where p.code_source names a source, every corpus but the
single-part ones is half math and half code; teachers are chosen on math alone.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ded import analysis, curation, evaluation, models, problems, stats, store, training
from ded.problems import Problem, content_hash
from ded.study.common import (
    corpus_questions,
    curate,
    curate_questions,
    distil,
    jobs_for,
    remembered,
    sampling,
    score,
    short,
    suite,
    unscored,
)
from ded.study.teachers import own_score

if TYPE_CHECKING:
    import pandas as pd

EQUAL = (
    "random",
    "no compression",
    "no diversity",
    "top teacher",
    "math only",
    "code only",
    "s1 style",
    "LIMO style",
)  # as large as DED
CHEAP = {  # what might tell a good teacher: its name for readers, and +1 where more of it should be better, -1 where less
    "own": ("own pass@1", 1),
    "loss": ("student's loss on the corpus (nats a token)", -1),
    "lalp": ("LALP (nats a token)", 1),
    "entropy": ("token entropy (nats a token)", -1),
    "length": ("mean length (tokens)", -1),
    "shift": ("latent shift (needs the training)", -1),
    "smoke": ("smoke test's gain (needs the training)", 1),
}
TRAINED = ("shift", "smoke")


def _none() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns=["problem_id", "part", "prompt", "text", "n_tokens"])


def recipe_arms(p: Any) -> list[str]:
    """The names of notebook 04's arms, DED first; those of equal size are `recipe_equal(p)`."""
    return ["DED", *recipe_equal(p), "large"]


def recipe_equal(p: Any) -> list[str]:
    """The arms as large as DED; without a code source there are no single parts, for DED is then math only."""
    return [arm for arm in EQUAL if p.code_source or not arm.endswith(" only")]


# ---- choosing a teacher


def recipe_smoke(p: Any, base: str, replicate: int, teacher: str) -> dict[str, Any]:
    """One candidate on one unit of the selection: base, replicate, teacher, own and student (pass@1 on ID math), gain over the base, and
    the cheap scores, each with its seconds (<name>_seconds). NaN for what cannot be measured, all of it for an empty corpus.
    """
    questions = corpus_questions(p, base, replicate)[: p.smoke_questions]
    corpus = curate_questions(p, base, replicate, teacher, 1, questions)[1].kept.head(p.smoke_size)
    families = {"ID": suite(p, base, replicate)["ID"]}

    def costed(model: str, compute: Any) -> dict[str, float]:  # its cost is that of the first time
        key = store.key(
            "cost",
            1,
            model=models.fingerprint(model),
            questions=problems.fingerprint(families["ID"]),
            replicate=replicate,
            seed=p.seed,
        )
        return {
            "seconds": store.json(key, lambda: analysis.timed(compute)["seconds"]),
            "value": compute(),
        }

    row = {
        "base": short(base),
        "replicate": replicate,
        "teacher": teacher,
        "examples": len(corpus),
        "student": math.nan,
        "gain": math.nan,
    }
    row |= {f"{name}{more}": math.nan for name in CHEAP for more in ("", "_seconds")}
    found = {
        "own": costed(teacher, lambda: own_score(p, base, replicate, teacher)["accuracy"].item())
    }
    if not corpus.empty:
        student = distil(
            p,
            base,
            replicate,
            corpus,
            training.optimizer_steps(p.smoke_size, p.epochs, p.batch_size),
        )
        spent = json.loads(
            Path(models.locate(student), "training.json").read_text(encoding="utf-8")
        )["seconds"]
        after = costed(
            student,
            lambda: score(p, student, base, replicate, short(teacher), families)["accuracy"].item(),
        )
        row["student"] = after["value"]
        row["gain"] = (
            after["value"] - score(p, base, base, replicate, "before", families)["accuracy"].item()
        )
        shift = analysis.latent_shift(base, student, families["ID"][: p.shift_inputs])
        found |= {
            "loss": analysis.likelihood(base, corpus),
            "lalp": analysis.likelihood(base, corpus, p.lalp_window),
            "entropy": {
                "value": analysis.token_entropy(corpus),
                "seconds": 0.0,
            },  # sampling has measured it
            "length": {"value": float(corpus["n_tokens"].mean()), "seconds": 0.0},
            "shift": {"value": shift["shift"], "seconds": spent + shift["seconds"]},
            "smoke": {"value": row["gain"], "seconds": spent + after["seconds"]},
        }
    return row | {
        f"{name}{more}": one[key]
        for name, one in found.items()
        for more, key in (("", "value"), ("_seconds", "seconds"))
    }


def recipe_choice(p: Any, smoke: pd.DataFrame) -> pd.DataFrame:
    """One row a base: base, teacher (whose student is best on ID math over the units of the selection), top (the one that scores highest
    itself), each with its mean scores, and how many tie with it. Ties are drawn by the seed; "" where nothing was measured."""
    import pandas as pd

    rows = []
    for base, part in smoke.groupby("base", sort=False):
        row = {"base": base}
        for name, column in (("teacher", "student"), ("top", "own")):
            means = part.pivot(index="replicate", columns="teacher", values=column).mean(
                skipna=False
            )
            best = sorted(
                means.index[means == means.max()],
                key=lambda t: content_hash(f"{p.seed} {base} {t}"),
            )
            row |= {
                name: best[0] if best else "",
                f"{name}_score": means.max(),
                f"{name}_ties": len(best),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def recipe_jobs(p: Any, choice: pd.DataFrame, **axes: list) -> list[dict]:
    """`jobs_for` with the teachers chosen for each base: the calls of `recipe_pool`, and with arm=... of `recipe_arm`."""
    chosen = choice.set_index("base")[["teacher", "top"]].to_dict("index")
    return [call | chosen[short(call["base"])] for call in jobs_for(p, **axes)]


# ---- corpora


def _diverse(
    p: Any, base: str, replicate: int, teacher: str, questions: list[Problem], size: int
) -> tuple[pd.DataFrame, int]:
    """(`size` examples, tokens sampled): of each question the p.n_kept farthest apart of p.n_trajectories (all, where fewer differ).

    Questions are worked in their order and in blocks until there are enough, so that none is sampled in vain. No teacher, no examples.
    """
    import pandas as pd

    block, chosen, tokens = math.ceil(p.corpus_size / 2 / p.n_kept), [_none()], 0
    for start in range(0, len(questions) if teacher else 0, block):
        graded, found = curate_questions(
            p, base, replicate, teacher, p.n_trajectories, questions[start : start + block]
        )
        chosen.append(
            curation.select_trajectories(
                found.kept, p.n_kept, metric=p.metric, seed=p.seed * 1000 + replicate, short="keep"
            )[0]
        )
        tokens += int(graded["n_tokens"].sum())
        if sum(map(len, chosen)) >= size:
            break
    return pd.concat(chosen[1:] or chosen).head(size), tokens


def _part(
    p: Any, base: str, replicate: int, source: str, teacher: str, top: str, half: int
) -> dict[str, Any]:
    """One part (math or code) of every corpus, before it is cut: {corpora: {arm: table}, funnels, hide, tokens}."""
    questions = corpus_questions(p, base, replicate, source)
    kept, funnel, dropped = curate(p, base, replicate, teacher, 1, source)
    rates = evaluation.pass_rates(
        base,
        questions[: p.pass_rate_questions],
        p.pass_rate_samples,
        **sampling(p, replicate, p.eval_temperature),
    )
    compressed = curation.compress_questions(rates, p.pass_rate_threshold)
    names = set(compressed.kept["problem_id"])
    hard = [q for q in questions if q.id in names]
    whole, *tokens = _diverse(
        p, base, replicate, teacher, hard, p.corpus_size
    )  # as much as the single-part arm takes
    spread, more = _diverse(p, base, replicate, teacher, questions, half)
    other, most = _diverse(p, base, replicate, top, hard, half)
    rates = rates[["problem_id", "level", "pass_rate"]]
    longest = kept.merge(rates, on="problem_id").sort_values(
        "n_tokens", ascending=False, kind="stable"
    )
    unsolved = longest[longest["pass_rate"] < 1]
    corpora = {
        "DED": whole.merge(rates, on="problem_id"),
        "only": whole,
        "no compression": spread,
        "top teacher": other,
        "large": kept,
        "random": kept,
        "no diversity": kept[kept["problem_id"].isin(names)],
        "s1 style": unsolved.assign(turn=unsolved.groupby("level").cumcount()).sort_values(
            ["turn", "level"], kind="stable"
        ),
        "LIMO style": longest.sort_values("pass_rate", kind="stable"),
    }
    tokens = (
        int(kept["n_tokens"].sum() + dropped["n_tokens"].sum())
        + sum(tokens)
        + more
        + (most if top != teacher else 0)
    )
    hide = {q.id for q in questions if q.meta.get("hide")}
    return {
        "corpora": corpora,
        "funnels": {"": funnel, " questions": compressed.funnel},
        "hide": hide,
        "tokens": tokens,
    }


@remembered
def recipe_corpora(p: Any, base: str, replicate: int, teacher: str, top: str) -> dict[str, Any]:
    """{corpora: {arm: corpus}, funnel, tokens, hide: ids that are never to be shown}. Arms of equal size are cut to the smallest
    of them; one that lacks half of p.corpus_size is empty, and so not measured, as all are where no teacher could be chosen."""
    import pandas as pd

    unit = {"base": short(base), "replicate": replicate}
    sources = {"math": p.corpus_source} | ({"code": p.code_source} if p.code_source else {})
    half = math.ceil(p.corpus_size / len(sources))
    parts = (
        {
            name: _part(p, base, replicate, source, teacher, top, half)
            for name, source in sources.items()
        }
        if teacher
        else {}
    )

    def mixed(
        arm: str, most: int
    ) -> pd.DataFrame:  # by turns, so that what is cut is cut from both
        found = {
            name: part["corpora"][arm].head(most).assign(part=name) for name, part in parts.items()
        }
        if arm == "large" and "code" in found:  # math makes up for what the pool of code lacks
            found["math"] = (
                parts["math"]["corpora"][arm]
                .head(p.large_size - len(found["code"]))
                .assign(part="math")
            )
        some = [one.assign(turn=range(len(one))) for one in found.values() if len(one)]
        return (
            pd.concat(some).sort_values("turn", kind="stable", ignore_index=True)
            if some
            else _none()
        )

    equal = ["DED", *recipe_equal(p)]
    corpora = {arm: mixed(arm, half) for arm in equal if not arm.endswith(" only")}
    corpora["large"] = mixed("large", math.ceil(p.large_size / len(sources)))
    for name in sources if p.code_source else ():
        corpora[f"{name} only"] = (
            parts[name]["corpora"]["only"].assign(part=name) if parts else _none()
        )
    enough = [arm for arm in equal if 2 * len(corpora[arm]) >= p.corpus_size]
    size = min([p.corpus_size, *(len(corpora[arm]) for arm in enough)])
    corpora |= {arm: corpora[arm].head(size if arm in enough else 0) for arm in equal}
    funnels = [
        pd.DataFrame(columns=["step", "kept", "dropped", "reason", "pool", *unit])
    ]  # its columns, where there is no part
    funnels += [
        table.assign(pool=f"{name}{more}", **unit)
        for name, part in parts.items()
        for more, table in part["funnels"].items()
    ]
    return {
        "corpora": corpora,
        "funnel": pd.concat(funnels[1:] or funnels),
        "tokens": sum(part["tokens"] for part in parts.values()),
        "hide": set().union(*(part["hide"] for part in parts.values())),
    }


def recipe_pool(p: Any, base: str, replicate: int, teacher: str, top: str) -> dict[str, Any]:
    """What the arms of a unit select from: {funnel (a pool a part, and one a part's questions), tokens (sampled by the teachers),
    ded: the DED corpus without questions that are not to be shown}."""
    made = recipe_corpora(p, base, replicate, teacher, top)
    ded = made["corpora"]["DED"]
    ded = ded[~ded["problem_id"].isin(made["hide"])].assign(
        teacher=teacher, base=short(base), replicate=replicate
    )
    shown = [
        "problem_id",
        "part",
        "prompt",
        "text",
        "teacher",
        "n_tokens",
        "level",
        "pass_rate",
        "sample_index",
        "base",
        "replicate",
    ]
    return {
        "funnel": made["funnel"],
        "tokens": made["tokens"],
        "ded": ded[[c for c in shown if c in ded]],
    }


def recipe_arm(
    p: Any, base: str, replicate: int, arm: str, teacher: str, top: str
) -> dict[str, Any]:
    """Distils and scores one arm: {scores, student (a model spec, "" where not measured), row: {base, replicate, arm, examples, questions,
    code (examples), tokens, steps}}. All arms of equal size train for equally many optimizer steps."""
    corpus = recipe_corpora(p, base, replicate, teacher, top)["corpora"][arm]
    families, steps, student = suite(p, base, replicate), 0, ""
    if corpus.empty:
        scores = unscored(p, base, replicate, arm, families)
    else:
        steps = training.optimizer_steps(len(corpus), p.epochs, p.batch_size)
        student = distil(p, base, replicate, corpus, steps)
        scores = score(p, student, base, replicate, arm, families)
    row = {
        "base": short(base),
        "replicate": replicate,
        "arm": arm,
        "examples": len(corpus),
        "questions": corpus["problem_id"].nunique(),
        "code": int((corpus["part"] == "code").sum()),
        "tokens": int(corpus["n_tokens"].sum()),
        "steps": steps,
    }
    return {"scores": scores, "student": student, "row": row}


# ---- what might have told the teacher without training


def cheap_scores(smoke: pd.DataFrame) -> pd.DataFrame:
    """`figures.cheap_scores`'s table: predictor, teacher, base, value, gain, seconds.

    Scores come from the first, third, ... replicate of the selection and gains from the others; from the same one where there is only one,
    and then the smoke test, which is that gain, is left out."""
    import pandas as pd

    ranks = smoke["replicate"].rank(method="dense").astype(int) - 1
    scored, gained = (
        (smoke[ranks % 2 == 0], smoke[ranks % 2 == 1]) if ranks.max() else (smoke, smoke)
    )
    gain = gained.groupby(["base", "teacher"], sort=False)["gain"].mean()
    rows = []
    for name, (label, _) in CHEAP.items():
        if name == "smoke" and not ranks.max():
            continue
        for (base, teacher), part in scored.groupby(["base", "teacher"], sort=False):
            rows.append(
                {
                    "predictor": label,
                    "teacher": short(teacher),
                    "base": base,
                    "value": part[name].mean(skipna=False),
                    "gain": gain[base, teacher],
                    "seconds": part[f"{name}_seconds"].mean(),
                }
            )
    return pd.DataFrame(rows)


def cheap_score_table(smoke: pd.DataFrame, ranks: pd.DataFrame) -> pd.DataFrame:
    """`figures.cheap_score_ranks` with what choosing by each score costs against the smoke test (regret in ID pass@1, see `stats.regret`)."""
    import pandas as pd

    cells, rows = smoke.rename(columns={"teacher": "arm"}), []
    for name, (label, sign) in CHEAP.items():
        if name != "smoke":
            one, _ = stats.regret(
                cells.assign(value=sign * cells[name]), cells.assign(value=cells["gain"])
            )
            rows.append(
                {
                    "predictor": label,
                    "regret": one.estimate,
                    "regret_low": one.low,
                    "regret_high": one.high,
                }
            )
    return ranks.merge(pd.DataFrame(rows), how="left", on="predictor")


def advice(table: pd.DataFrame) -> str:
    """What `cheap_score_table` says in words, for the scores that need no training: the one that ranks best, and what trusting it costs."""
    trained = [CHEAP[name][0] for name in TRAINED]
    table = table[~table["predictor"].isin(trained) & table["estimate"].notna()]
    if table.empty:
        return "Nothing was measured that could advise on a teacher."
    signs = dict(CHEAP.values())
    best = (
        table.assign(agrees=table["estimate"] * table["predictor"].map(signs))
        .sort_values("agrees")
        .iloc[-1]
    )
    known = "" if best["low"] * best["high"] > 0 else ", an interval that holds 0"
    cost = f"{100 * best['regret']:+.1f} [{100 * best['regret_low']:.1f}, {100 * best['regret_high']:.1f}] points of ID pass@1"
    verdict = (
        "so the smoke test is worth its cost"
        if best["regret_low"] > 0
        else "which these replicates cannot tell from none"
    )
    if not best["regret_high"] > best["regret_low"]:
        verdict = "with nothing that measures the error"
    return (
        f"Of {len(table)} scores that need no training, '{best['predictor']}' ranks the teachers best (so it is flattered): Spearman's rho with "
        f"the gain {best['estimate']:+.2f} [{best['low']:+.2f}, {best['high']:+.2f}]{known}. Choosing by it instead of by the smoke test "
        f"costs {cost}, {verdict}."
    )
