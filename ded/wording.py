"""How results are written, the same wherever a reader meets them: prompt, notebook, report, README.

Claims are as metrics.json holds them (`stats.Claim.to_dict`). Their differences stand in points,
with the interval that decides: its lower bound is adjusted for the claims made together, its upper
bound is that of the plain 95 % interval.
"""

import math
from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ded.files import beside

UNITS = {"share": (100, 1), "number": (1, 2)}  # a factor and decimals
VERDICTS = ("reproduced", "not reproduced", "inconclusive", "not judged")
OUTSIDE = "outside the paper's conditions: "
MOST_PARTS = 3  # of a claim that a sentence names
FINDINGS = beside(__file__, "findings.yml")
REFUTED = ChainMap(*FINDINGS["claims"].values())  # what is said of a claim that is not reproduced
LEADING = {next(iter(claims)) for claims in FINDINGS["claims"].values()}
Number = float | None


def number(value: Number, sign: bool = False, unit: str = "share") -> str:
    """A share in per cent or points, or what `unit` says, with a plus where `sign`, "–" where it is
    not known.

    What rounds to zero has no minus.
    """
    if value is None or not math.isfinite(value):
        return "–"
    scale, digits = UNITS[unit]
    return f"{scale * value:{'+' if sign else ''}z.{digits}f}".replace("-", "−")


def interval(
    estimate: Number, low: Number, high: Number, sign: bool = False, unit: str = "share"
) -> str:
    """ "12.7 [10.7, 14.8]" of shares in per cent or points; the interval is left out where it is
    not known."""
    text, *ends = number(estimate, sign, unit), number(low, unit=unit), number(high, unit=unit)
    return text if "–" in (text, *ends) else f"{text} [{ends[0]}, {ends[1]}]"


def line(share: float) -> str:
    """A bound that a claim is held against, in points: "3", "−1", "0"."""
    return f"{100 * share or 0:g}".replace("-", "−")


# ---- claims --------------------------------------------------------------------------------------


def difference(part: Mapping[str, Any], unit: str = "") -> str:
    """What decides on a part of a claim: its interval, and its line where that is not 0; or a
    p-value."""
    if part.get("estimate") is not None:
        low = part.get("low_adjusted", part.get("low"))
        text = interval(part["estimate"], low, part.get("high"), sign=True) + unit
        return f"{text}, line {line(-part['margin'])}" if part.get("margin") else text
    is_test = "estimate" not in part and part.get("p") is not None
    return f"p = {part['p']:.2g}" if is_test else "not measured"


def bases(part: Mapping[str, Any]) -> str:
    """In how many bases a part's effect lies above its line: "7 of 10 bases above 0", whether they
    disagree, and whether the interval is of these alone; "" for a single base."""
    effects = [value for value in (part.get("bases") or {}).values() if value is not None]
    n, asked = len(effects), -(part.get("margin") or 0.0)
    above, below = (sum(sign * (effect - asked) > 0 for effect in effects) for sign in (1, -1))
    fewer = min(above, below)
    split = ", they disagree" if fewer >= 2 or 4 * fewer >= n > n - fewer else ""
    fixed = ", interval for these alone" if part.get("over") == "replicates" else ""
    return f"{above} of {n} bases above {line(asked)}{split}{fixed}" if n > 1 else ""


def label(part: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """A part's label, "" where the claim's name says it."""
    return part.get("label", "") if part.get("label") != claim["name"] else ""


def parts(claim: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The parts of a claim; it is its own where none are recorded."""
    return claim.get("parts") or [claim]


def labelled(part: Mapping[str, Any], claim: Mapping[str, Any], unit: str = "") -> str:
    """A part after its label: `difference`, and `bases`."""
    text = f"{label(part, claim)} {difference(part, unit)}".strip()
    return ", ".join(filter(None, (text, bases(part))))


def differences(claim: Mapping[str, Any]) -> str:
    """What was measured of every part of a claim."""
    return "; ".join(labelled(part, claim) for part in parts(claim))


def opposite(claim: Mapping[str, Any]) -> str:
    """That a claim which is not reproduced holds the other way round, "" where that is not sure."""
    highs = [part["high"] for part in parts(claim) if part.get("high") and not part.get("margin")]
    is_refuted = claim["verdict"] == "not reproduced" and len(highs) == len(parts(claim))
    return "the other way round" if is_refuted and max(highs) < 0 else ""


def why(claim: Mapping[str, Any]) -> str:
    """Why a claim is not reproduced, and what else has to be known beside its verdict."""
    return "; ".join(filter(None, (opposite(claim), claim.get("note"))))


def outcome(claim: Mapping[str, Any]) -> str:
    """A claim's verdict, what was measured of each part, and why it is none better."""
    texts = f"{claim['verdict']}: {differences(claim)}", why(claim)
    return "; ".join(filter(None, texts))


# ---- what we found -------------------------------------------------------------------------------


def deciding(claim: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parts that give a claim its verdict, the weakest first."""
    verdict = claim["verdict"]
    shown = [part for part in parts(claim) if part.get("verdict", verdict) == verdict]
    return sorted(shown or parts(claim), key=lambda part: -(part.get("p") or 0.0))


def measured(claim: Mapping[str, Any]) -> str:
    """What was measured of the parts that decide; and, of a claim that is reproduced, what else is
    to be known."""
    shown = deciding(claim)
    texts = [labelled(part, claim, " points") for part in shown[:MOST_PARTS]]
    more = len(shown) - MOST_PARTS
    texts += [f"{more} more of {len(parts(claim))}"] if more > 0 else []
    note = why(claim) if claim["verdict"] == "reproduced" else opposite(claim)
    return "; ".join(filter(None, (*texts, note)))


def findings(claims: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(verdict, sentence) of each claim; findings.yml has the words."""
    rows = []
    for claim in claims:
        name = claim["name"].replace(": ", " ")
        refuted = REFUTED.get(claim["name"], FINDINGS["refuted"])
        text = FINDINGS["verdicts"][claim["verdict"]].format(
            claim=name,
            refuted=refuted.format(claim=name, delta=line(claim.get("delta") or 0.0)),
            measured=measured(claim),
            seen=FINDINGS["seen"].format(number(size)) if (size := claim.get("detectable")) else "",
            why=claim.get("note"),
        )
        rows.append((claim["verdict"], text[0].upper() + text[1:]))
    return rows


def in_short(claims: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """`findings` of the claim that stands for its notebook; and ("", how the others came out)."""
    leading = [claim for claim in claims if claim["name"] in LEADING]
    rest = Counter(claim["verdict"] for claim in claims if claim["name"] not in LEADING)
    counts = ", ".join(f"{rest[verdict]} {verdict}" for verdict in VERDICTS if rest[verdict])
    others = "Other claims" if leading else "Claims"
    return [*findings(leading), *([("", f"{others}: {counts}.")] if counts else [])]


def outside(claims: Sequence[Mapping[str, Any]]) -> str:
    """Which of the paper's conditions the claims lie outside of, a sentence or ""."""
    texts = [(claim.get("outside") or "").removeprefix(OUTSIDE) for claim in claims]
    conditions = dict.fromkeys(name for text in texts if text for name in text.split("; "))
    return f"O{OUTSIDE[1:]}{'; '.join(conditions)}." if conditions else ""


def summary(claims: Sequence[Mapping[str, Any]]) -> str:
    """What came out of the claims, in sentences: `findings`, and what is `outside`."""
    texts = [text for _, text in findings(claims)]
    return "\n".join(filter(None, (*texts, outside(claims)))) or "No claims were recorded."
