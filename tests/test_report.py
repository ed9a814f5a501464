"""The page as a browser gets it: whole, the same bytes again, nothing fetched, nothing run."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from ded import params, report, wording
from ded.errors import ReportError
from ded.report import compare
from ded.report.time import core_seconds

ROOT = Path(__file__).parents[1]
EVIL = "<script>alert('x')</script>"
VOID = {"meta", "img", "br", "link", "hr", "input", "circle", "rect", "line"}


class Page(HTMLParser):
    """Every address that a browser would fetch or follow, the tags, the text, and the text by the
    classes that it stands in."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.tags, self.words, self.open, self.ids = [], [], [], [], []
        self.within = {}
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        self.addresses += [
            values[k] for k in ("src", "href", "srcset", "data", "action", "poster") if k in values
        ]
        self.addresses += re.findall(r"url\(\s*['\"]?([^'\")]*)", values.get("style", "") or "")
        self.ids += [values["id"]] if "id" in values else []
        if tag not in VOID:
            self.open.append((tag, (values.get("class") or "").split()))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open[-1][0] == tag, f"</{tag}> closes <{self.open[-1][0]}>"
            self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "style":
            self.addresses += re.findall(r"url\(\s*['\"]?([^'\")]*)", data) + re.findall(
                r"@import[^;]*", data
            )
            return
        self.words.append(data)
        for _, classes in self.open:
            for name in classes:
                self.within.setdefault(name, []).append(data.strip())


def claim(name="x rises", verdict="reproduced", parts=None, **more):
    parts = parts or [
        {
            "label": name,
            "margin": 0.0,
            "p": 0.001,
            "estimate": 0.127,
            "low": 0.107,
            "high": 0.148,
            "n": 6,
            "low_adjusted": 0.1,
        }
    ]
    return {
        "name": name,
        "statement": f"what {name} says",
        "verdict": verdict,
        "parts": parts,
        "detectable": 0.029,
        "delta": 0.03,
        "note": "",
    } | more


def notebook(
    folder,
    name,
    end="",
    outputs=(),
    title="# 1 · A title\n\nThe claim, <b>judged</b> so:\n\n| a | b |\n| --- | --- |\n| c | d |",
):
    cells = [
        nbformat.v4.new_markdown_cell(title),
        nbformat.v4.new_code_cell("1 + 1", outputs=list(outputs)),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}{end}.ipynb")


def recorded(folder, name="01_teacher_selection", claims=(), files=(), **more):
    """The folder of a notebook that ran to its end."""
    from matplotlib.figure import Figure

    notebook(folder / name, name)
    for file in (f for f in files if f.endswith(".png")):
        figure = Figure(figsize=(1, 1))
        figure.savefig(folder / name / file)
    manifest = {
        "notebook": name,
        "params": {"preset": "small", "split": "test", "fixed_on": "2026-01-02"},
        "models": {"lab:a": "f1"},
        "files": list(files),
        "stages": {
            "own scores": {"seconds": 12.34, "tokens": 1234567},
            "arms": {"seconds": 1.0, "tokens": 0},
        },
        "wall_seconds": 20.5,
        "finished": "2026-01-03T00:00:00Z",
        "ded": EVIL,
    } | more
    (folder / name / "manifest.json").write_text(json.dumps(manifest))
    (folder / name / "metrics.json").write_text(
        json.dumps({"notebook": name, "claims": list(claims), "metrics": {}})
    )
    return folder / name


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    (tmp_path / "params").mkdir()
    shutil.copy(ROOT / "params" / "reported.yml", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "outputs" / "small"


def test_verdicts_come_first_each_with_its_mark_interval_and_link(outputs):
    two = [
        {
            "label": "ID",
            "margin": 0.0,
            "p": 0.2,
            "estimate": -0.0004,
            "low": -0.051,
            "high": 0.011,
            "n": 9,
            "low_adjusted": -0.07,
        },
        {"label": "interaction", "margin": 0.0, "p": 0.0005},
    ]
    lost = [{"label": "gone", "estimate": None, "low": None, "high": None, "n": 0, "p": None}]
    recorded(
        outputs,
        claims=[
            claim(),
            claim("both", "not reproduced", two),
            claim("gone", "not judged", lost, detectable=None),
        ],
    )
    page = Page(report.write(outputs).read_text())
    assert not page.open  # every tag is closed
    table = page.text[page.text.index("detectable", page.text.index("Dots and lines")) :]
    for words in (
        "x rises what x rises says ✓ reproduced +12.7 [10.0, 14.8] 2.9",
        "– not judged not measured –",
        "✗ not reproduced ID +0.0 [−7.0, 1.1] 2.9 interaction p = 0.0005",
    ):
        assert words in table, (words, table[:900])
    assert (
        page.text.index("✓ reproduced 1")
        < page.text.index("Dots and lines")
        < page.text.rindex("What the paper and others report")
    )
    links = {a for a in page.addresses if a.startswith("#")}
    assert "#01_teacher_selection" in links and {a[1:] for a in links} <= set(page.ids)
    assert (
        "x rises +12.7 [10.0, 14.8] +12.7 [10.7, 14.8] 0.001 6" in page.text
    )  # with the plain interval, p, and replicates
    axis, *bars = [a for tag, a in page.tags if tag == "svg"]
    assert axis["aria-label"] == "axis in points"
    assert [a["aria-label"] for a in bars] == ["+12.7 [10.0, 14.8]", "+0.0 [−7.0, 1.1]"]


def test_the_page_begins_with_what_came_out_in_plain_words_and_has_an_axis_with_ticks(outputs):
    names = ("easy beats hard: 100", "easy beats hard: 200", "small is enough", "large is better")
    verdicts = ("not reproduced", "not reproduced", "reproduced", "inconclusive")
    notes = ("", "", "", "−1.0 to 4.0, neither above 0 nor below 3")
    rows = [
        claim(name, verdict, note=note)
        for name, verdict, note in zip(names, verdicts, notes, strict=True)
    ]
    recorded(outputs, claims=rows)
    page = Page(report.write(outputs).read_text())
    short = "Claims: 1 reproduced, 2 not reproduced, 1 inconclusive."
    assert short in page.text
    table = page.text[page.text.index("Dots and lines") :]
    assert page.text.index(short) < page.text.index("Dots and lines")
    assert "−10 0 10" in table and f"2.9 {notes[3]}" in table


def test_a_finding_is_a_sentence_that_says_no_more_than_its_claim(outputs):
    plain = {"a": 0.02, "b": 0.03, "c": -0.01, "d": -0.02}
    parts = [
        {"label": "than one", "margin": 0.0, "p": 0.4, "verdict": "not reproduced"}
        | {"estimate": 0.005, "low": -0.01, "high": 0.02, "low_adjusted": -0.015, "bases": plain},
        {"label": "than two", "margin": 0.0, "p": 0.001, "verdict": "reproduced"}
        | {"estimate": 0.05, "low": 0.03, "high": 0.07, "low_adjusted": 0.025, "bases": plain},
    ]
    name = "the whole recipe beats large corpora as others make them"
    refuted = claim(
        name, "not reproduced", parts, outside="outside the paper's conditions: steps 9"
    )
    recorded(outputs, "04_ded_recipe", claims=[refuted, claim("not told of")])
    page = Page(report.write(outputs).read_text())
    short, table = page.text.split("How to read it.", 1)
    assert (
        "✗ The whole recipe does not beat all large corpora as others make them by 3 points: than "
        "one +0.5 [−1.5, 2.0] points, 2 of 4 bases above 0, they disagree. Other claims: "
        "1 reproduced. Outside the paper's conditions: steps 9."
    ) in short
    assert "not told of" not in short and "than two" not in short
    assert "decided by 1 of 2 parts; outside" in table and "than two +5.0" in table  # folded
    bases = [a for tag, a in page.tags if tag == "circle" and a.get("class") == "base"]
    assert len(bases) == 4

    file = Path("README.md")
    file.write_text(report.FINDINGS_MARK * 2 + report.README_MARK * 2)
    first, second = report.readme(outputs, file).read_text().split(report.README_MARK)[:2]
    assert "than one +0.5 [−1.5, 2.0] points, 2 of 4 bases above 0, they disagree." in first
    assert "not told of" not in first and "| not told of | **reproduced** |" in second

    (open_one, lost), name = parts, "trajectories far apart teach better: than random ones"
    rest = {"name": name, "statement": "", "delta": 0.03, "detectable": 0.051}
    undecided = rest | {"verdict": "inconclusive", "parts": [open_one]}
    assert wording.summary([undecided]) == (
        "Whether trajectories far apart teach better than random ones stays open: than one +0.5 "
        "[−1.5, 2.0] points, 2 of 4 bases above 0, they disagree; a true difference of 5.1 points "
        "would be seen with 80 % power."
    )
    unjudged = rest | {"verdict": "not judged", "parts": [lost], "note": "no headroom: 98.2"}
    assert wording.summary([unjudged]).endswith("was not judged: no headroom: 98.2.")
    lifted = rest | {"verdict": "reproduced", "parts": [lost], "note": "real, but small"}
    assert wording.summary([lifted]).startswith("Trajectories far apart teach better than random")
    assert wording.summary([lifted]).endswith("they disagree; real, but small.")
    assert wording.summary([]) == "No claims were recorded."


def test_tables_and_further_figures_are_folded(outputs):
    files = ["summary.csv", "verdicts.png", "id.png", "ood.png"]
    folder = recorded(outputs, "03_trajectory_diversity", claims=[claim()], files=files)
    (folder / "summary.csv").write_text("arm,ID\nmine,0.1111\n")
    text = report.write(outputs).read_text()
    unfolded = re.sub(r"(?s)<details>.*?</details>", "", text)
    assert unfolded.count("<img") == 1 and "(id)" in unfolded and "mine" not in unfolded
    assert text.count("<img") == 3 and "mine" in text
    tables = re.findall(r'(?s)<div class="scroll"><table class=.*?</table>', text)
    assert tables and not any("<caption>" in table for table in tables)  # it would scroll away


def test_paper_as_narrow_as_a_phone_is_not_laid_out_as_one(outputs):
    recorded(outputs, claims=[claim()])
    queries = re.findall(r"@media (.+?) {", report.write(outputs).read_text())
    assert queries == ["screen and (max-width: 46rem)", "print"]


def test_what_models_and_others_wrote_is_shown_and_never_run(outputs):
    stream = nbformat.v4.new_output("stream", text=EVIL)
    html = nbformat.v4.new_output(
        "display_data", {"text/html": f"<b>table</b>{EVIL}<script src='http://evil'></script>"}
    )
    folder = recorded(
        outputs, claims=[claim(f"name {EVIL}", note=EVIL)], files=["summary.csv", "funnel.csv"]
    )
    notebook(
        folder,
        folder.name,
        outputs=[stream, html],
        title=f"# T {EVIL}\n\n{EVIL} [link](javascript:alert(1))",
    )
    (folder / "summary.csv").write_text(f'arm,ID,ID low,ID high\n"{EVIL}",0.5,0.4,0.6\n')
    (folder / "funnel.csv").write_text(
        f'step,kept,dropped,reason,teacher\n"{EVIL}",1,2,"{EVIL}: 2",{EVIL}\n'
    )
    text = report.write(outputs).read_text()
    page, executed = Page(text), (outputs / f"{folder.name}.html").read_text()
    for html in (text, executed):
        assert "<script" not in html.lower() and "default-src 'none'" in html
        assert not [a for a in Page(html).addresses if a.startswith("javascript")]
    assert (
        page.text.count(EVIL) >= 7 and "<b>table</b>" in executed and "&lt;script&gt;" in executed
    )
    assert [row for row in page.within["numbers"] if row == EVIL]  # the cell of the table


def test_nothing_is_fetched_and_images_have_words(outputs):
    names = ["verdicts.png", "teacher_vs_student.png", "funnel.png", "other_thing.png"]
    folder = recorded(outputs, claims=[claim()], files=names)
    (folder / "stale.png").write_bytes(
        (folder / "funnel.png").read_bytes()
    )  # of an earlier version: not in the manifest
    for file in (report.write(outputs), outputs / f"{folder.name}.html"):
        page = Page(file.read_text())
        assert all(
            a.startswith(("data:", "#")) or a == f"{folder.name}.html" for a in page.addresses
        ), page.addresses
        assert not [tag for tag, _ in page.tags if tag in ("script", "iframe", "object", "link")]
        images = [a for tag, a in page.tags if tag == "img"]
        assert all(
            a["src"].startswith("data:image/png;base64,")
            and len(a["alt"]) > 5
            and int(a["width"]) > 10
            for a in images
        )
        assert "viewport" in [a.get("name") for tag, a in page.tags if tag == "meta"]
    shown = Page((outputs / "report.html").read_text()).text
    assert (
        "(verdicts)" in shown
        and "3 further figures" in shown
        and "(other_thing)" in shown
        and "(stale)" not in shown
    )
    assert (
        shown.index("(teacher_vs_student)")
        < shown.index("3 further figures")
        < shown.index("(funnel)")
    )


def test_all_figures_of_an_unknown_notebook_are_shown(outputs):
    recorded(outputs, "09_new", claims=[claim()], files=["verdicts.png", "surprise.png"])
    page = Page(report.write(outputs).read_text())
    assert page.text.index("(surprise)") < page.text.index("1 further figure")


def test_failed_and_missing_notebooks_are_said_to_be_so(outputs, tmp_path):
    folder = recorded(outputs, claims=[claim()], files=["verdicts.png", "summary.csv"])
    (folder / "verdicts.png").unlink()  # it is left out
    error = nbformat.v4.new_output(
        "error", ename="ModelError", evalue=f"no model {EVIL}", traceback=["deep"]
    )
    notebook(outputs / "02_ood_tradeoff", "02_ood_tradeoff", ".failed", [error])
    notebook(tmp_path / "notebooks", "03_trajectory_diversity", title="# 3 · Diversity")
    page = Page(report.write(outputs).read_text())
    assert f"did not run to its end, so it has no results: ModelError: no model {EVIL}" in page.text
    assert "3 · Diversity not run: no verdicts" in page.text and "failed: no verdicts" in page.text
    assert {"01_teacher_selection.html", "02_ood_tradeoff.html"} <= set(
        page.addresses
    ) and "03_trajectory_diversity.html" not in page.addresses
    assert "deep" in (outputs / "02_ood_tradeoff.html").read_text()
    (folder / "metrics.json").write_text('{"half')  # a run that was killed while another tool wrote
    assert "✓ reproduced 0" in Page(report.write(outputs).read_text()).text


def test_what_differs_from_the_preset_and_a_later_failure_are_said(outputs):
    for name in ("notebooks", "params/lab", "params/lab-full"):
        shutil.copytree(ROOT / name, name)
    values = params.load("lab", "01") | {"fixed_on": "2026-01-02"}
    folder = recorded(outputs, claims=[claim()], params=values)
    assert "Not as its preset" not in report.write(outputs).read_text()
    recorded(outputs, claims=[claim()], params=values | {"seed": 7, "engine": {"dtype": "float16"}})
    error = nbformat.v4.new_output("error", ename="ModelError", evalue="no model", traceback=[])
    notebook(folder, folder.name, ".failed", [error])
    page = Page(report.write(outputs).read_text())
    changed = "engine.dtype float16 (was the default)"
    assert f"Not as its preset stands: seed 7 (was {values['seed']}), {changed}." in page.text
    assert "A later attempt failed; these results stand: ModelError: no model" in page.text
    assert "✓ reproduced 1" in page.text


def test_the_same_results_give_the_same_bytes_and_no_half_files(outputs):
    recorded(outputs, claims=[claim()], files=["verdicts.png"])
    report.write(outputs)
    first = {f.name: f.read_bytes() for f in outputs.glob("*.html")}
    assert set(first) == {"report.html", "01_teacher_selection.html"}
    report.write(outputs)
    assert first == {f.name: f.read_bytes() for f in outputs.glob("*.html")}
    assert not [f for f in outputs.iterdir() if f.name.startswith(".")]


def test_tables_funnel_and_cost_say_what_the_files_say(outputs):
    folder = recorded(
        outputs,
        claims=[claim()],
        files=[
            "summary.csv",
            "others.csv",
            "rank_correlations.csv",
            "funnel.csv",
        ],
    )
    (folder / "summary.csv").write_text(
        "arm,student ID,student ID low,student ID high\nbefore,0.3817,0.364,0.3993\nleft,,,\n"
    )
    (folder / "others.csv").write_text(
        "a,b,value,estimate,low,high,se,df,n\neasy,random,ID,-0.02,-0.046,0.011,0.01,4,9\n"
    )
    (folder / "rank_correlations.csv").write_text(
        "predictor,estimate,low,high,n\nown,0.309,-0.03,0.61,24\n"
    )
    rows = [
        "sampled,10,0,,s1,0,left",
        "answer,6,4,wrong: 3; cut: off: 1,s1,0,left",
        "sampled,10,0,,s1,1,left",
        "answer,7,3,wrong: 3,s1,1,left",
    ]
    (folder / "funnel.csv").write_text(
        "\n".join(["step,kept,dropped,reason,base,replicate,teacher", *rows]) + "\n"
    )
    text = Page(report.write(outputs).read_text()).text
    assert "arm student ID before 38.2 [36.4, 39.9] left –" in text
    assert "a b value estimate n easy random ID −2.0 [−4.6, 1.1] 9" in text
    assert (
        text.rindex("Scores and other tables")
        < text.index("easy random ID")
        < text.rindex("What the paper and others report")
    )
    assert "own 0.31 [−0.03, 0.61] 24" in text  # a correlation is no per cent
    assert "left 10 6 answer: wrong 6; answer: cut: off 1" in text
    assert (
        "own scores 12.3 1,234,567" in text
        and "arms 1.0 –" in text
        and "whole run 20.5" in text
        and "20.5 seconds, 1,234,567 tokens sampled" in text
    )


def test_conditions_come_first_and_stand_beside_the_verdicts(outputs, tmp_path):
    outside = "outside the paper's conditions: steps 56 (160 to 200)"
    claims = [claim(outside=outside), claim("y falls", outside="")]
    folder = recorded(outputs, claims=claims, files=["conditions.csv", "summary.csv"])
    (folder / "conditions.csv").write_text(
        "condition,paper,inside\nsteps,167 to 200,no\nown,70,yes; far outside: x\n"
    )
    (folder / "summary.csv").write_text("arm,ID,ID low,ID high\nmine,0.1111,0.1,0.2\n")
    text = Page(report.write(outputs).read_text()).text
    beside = "✓ reproduced +12.7 [10.0, 14.8] 2.9 outside the paper's conditions y falls"
    assert text.index(beside) < text.index("fixed before condition paper inside")
    assert text.index("Outside the paper's conditions: steps 56 (160 to 200).") < text.index(beside)
    assert "Conditions: 1 of 2 as in the paper" in text
    assert text.index("steps 167 to 200 no") < text.index("mine 11.1 [10.0, 20.0]")
    assert text.count(outside) == 1 and "fixed before [95" not in text
    file = tmp_path / "README.md"
    file.write_text(f"{report.README_MARK}\n{report.README_MARK}\n")
    written = report.readme(outputs, file).read_text()
    assert f"| **reproduced**, {outside} |" in written and "| **reproduced** |" in written


def test_reported_numbers_stand_apart_from_measured_ones(outputs):
    folder = recorded(outputs, claims=[claim()], files=["summary.csv"])
    (folder / "summary.csv").write_text("arm,ID,ID low,ID high\nmine,0.1111,0.1,0.2\n")
    page = Page(report.write(outputs).read_text())
    others = page.within["others"]
    assert page.words.count("0.477") == others.count("0.477") == 1
    assert (
        "11.1 [10.0, 20.0]" not in others and page.words.count("11.1 [10.0, 20.0]") == 1
    )  # in its section
    assert "not known" in " ".join(others) and "Wu et al. 2025, arXiv 2508.09883" in page.text
    (Path("params") / "reported.yml").unlink()
    assert "others" not in Page(report.write(outputs).read_text()).within


def test_core_seconds_add_up_and_what_ran_side_by_side_idles_once(outputs):
    """Two notebooks on two cores: from 23:59:20 to :40 and from :30 to midnight, 40 s in all."""
    hardware, work = {"cores": 2}, {"start": 4.0, "train": 16.0}
    ended = {"01_first": "2026-01-02T23:59:40Z", "02_second": "2026-01-03T00:00:00Z"}
    for (name, finished), wall in zip(ended.items(), (20.0, 30.0), strict=True):
        facts = {"core_seconds": work, "hardware": hardware, "wall_seconds": wall}
        recorded(outputs, name, finished=finished, **facts)
    table = core_seconds(outputs)
    assert list(table.loc["01_first"].dropna()) == [4, 16, 20]
    assert list(table.loc["all"]) == [8, 32, 40, 80]
    assert list(table.loc["share"]) == [10, 40, 50, 100]


def test_runs_that_recorded_no_core_seconds_are_an_error(outputs):
    recorded(outputs)
    with pytest.raises(ReportError, match="did not record what they spent"):
        core_seconds(outputs)


def test_a_tuning_run_is_marked_and_an_empty_folder_is_an_error(outputs):
    folder = recorded(outputs, claims=[claim()])
    assert "tuning run" not in Page(report.write(outputs).read_text()).text
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["params"]["split"] = "dev"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "tuning run: not to be cited" in Page(report.write(outputs).read_text()).text
    empty = outputs.parent / "none"
    with pytest.raises(ReportError, match=r"no results in .*none; .* ded reproduce --preset none"):
        report.write(empty)
    assert not (empty / "report.html").exists()


def test_a_folder_without_results_is_told_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lacking = "no results in outputs/lab; to make them: ded reproduce --preset lab"
    for make in (report.write, core_seconds):
        with pytest.raises(ReportError, match=lacking):
            make(Path("outputs/lab"))
    with pytest.raises(ReportError, match=lacking):
        compare.folder_of("lab")


def test_a_slice_says_how_it_compares_with_the_reference(outputs):
    folder = recorded(outputs, claims=[claim()])
    metrics = json.loads((folder / "metrics.json").read_text())
    text = "38 of 38 scores lie as near\nThe reference's verdicts"
    (folder / "metrics.json").write_text(json.dumps(metrics | {"metrics": {"replay": text}}))
    page = Page(report.write(outputs).read_text()).text
    assert "38 of 38 scores lie as near The reference's verdicts" in page.split("How to read it")[0]


def test_the_reference_run_is_all_on_its_page(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = tmp_path / "reference"
    shutil.copytree(
        ROOT / "outputs" / "reference", folder, ignore=shutil.ignore_patterns("*.svg", "*.html")
    )
    page = Page(report.write(folder).read_text())
    for file in folder.glob("*/metrics.json"):
        metrics = json.loads(file.read_text())
        assert metrics["claims"], file
        for judged in metrics["claims"]:
            part = judged["parts"][0]
            for words in (judged["name"], wording.difference(part)):
                assert words in page.text, words
        assert "(verdicts)" in page.text and f"{file.parent.name}.html" in page.addresses
    assert not page.open and all(
        a.startswith(("data:", "#")) or (folder / a).is_file() for a in page.addresses
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-0.00001, "+0.0"), (1e-5, "+0.0"), (-0.0301, "−3.0"), (0.127, "+12.7"), (None, "–")],
)
def test_numbers_read_well(value, expected):
    assert wording.interval(value, None, None, sign=True) == expected


def test_the_command_writes_it(outputs):
    from typer.testing import CliRunner

    from ded import cli

    recorded(outputs, claims=[claim()])
    done = CliRunner().invoke(cli.app, ["report", "--preset", "small"])
    assert (
        done.exit_code == 0
        and "outputs/small/report.html" in done.output
        and (outputs / "report.html").is_file()
    )
    with pytest.raises(ReportError):
        CliRunner().invoke(cli.app, ["report", "--preset", "smal"], catch_exceptions=False)


def test_the_templates_travel_with_the_package():
    import tomllib

    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]
    files = [*(ROOT / "ded").rglob("*.j2"), *(ROOT / "ded" / "report").glob("*.yml")]
    assert len(files) >= 3
    for file in files:
        room = ".".join(file.relative_to(ROOT).parent.parts)
        assert any(file.match(pattern) for pattern in data[room]), file


def test_the_readme_says_what_the_reference_run_recorded(tmp_path):
    file = tmp_path / "README.md"
    file.write_text((ROOT / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    before = file.read_text(encoding="utf-8")
    where = (ROOT / "outputs" / "reference", tmp_path / "outputs" / "reference")
    where[1].parent.mkdir()
    where[1].symlink_to(where[0], target_is_directory=True)
    assert report.readme(where[1], file).read_text(encoding="utf-8") == before, (
        "make it anew: ded report --preset reference --readme README.md"
    )


def test_a_readme_s_findings_are_the_recorded_verdicts(outputs, tmp_path):
    worse = {"label": "", "margin": 0.0, "estimate": -0.05, "low": -0.07, "high": -0.03}
    refuted = [claim(f"far beats near: {n} examples", "not reproduced", [worse]) for n in (60, 120)]
    recorded(outputs, claims=[claim("it costs"), *refuted], files=["teacher_vs_student.png"])
    file = tmp_path / "README.md"
    marks = (report.FINDINGS_MARK, report.README_MARK)
    file.write_text("top\n" + "".join(f"{mark}\nold\n{mark}\nbetween\n" for mark in marks))
    text = report.readme(outputs, file).read_text()
    first, second = (text.split(mark)[1] for mark in marks)
    assert "1. **A teacher's own score does not tell" in first and "old" not in text
    assert (
        "* Claims: 1 reproduced, 2 not reproduced." in first and "teacher_vs_student.png)" in first
    )
    assert second.count("| the other way round |") == 2 and "<details>" in second
    assert text.startswith("top\n") and text.endswith("between\n")
    file.write_text(report.FINDINGS_MARK + report.README_MARK * 2)
    with pytest.raises(ReportError, match=r"findings.*two are needed"):
        report.readme(outputs, file)


def test_a_readme_without_its_marks_is_left_alone(tmp_path):
    (tmp_path / "README.md").write_text("# no marks\n")
    with pytest.raises(ReportError, match="two are needed"):
        report.readme(ROOT / "outputs" / "reference", tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == "# no marks\n"
