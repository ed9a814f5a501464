"""The lab: task families, worked solutions and their check, perturbations, the pre-training stream,
the shipped models.
"""

import itertools
import math
import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ded import models, problems
from ded.lab import build, scoring
from ded.lab import catalogue as lab
from ded.problems import lab as tasks

SEEDS = st.integers(0, 10**9)
LEVELS = st.sampled_from(list(tasks.LEVELS["sum"]))
STYLES = st.sampled_from(tasks.STYLES)


def a_sum(seed, level=7):
    return tasks.maker("sum", level)(random.Random(seed))[1]()


def think(problem, style, seed, **manner):
    rng, terms = random.Random(seed), tasks.sums.terms_of(problem)
    return tasks.sums.solve(terms, style, rng, tasks.Manner(**manner))


def canonical(prompt):
    """The text that a problem is split by, from its prompt alone: the order and the zeros of a sum
    do not count.
    """
    if prompt.split()[0] in (*tasks.OOD, "python"):
        return prompt
    first, *rest = prompt.rpartition(", ")[2].removesuffix(" =").split()
    return "sum " + " ".join(
        sorted(w.replace("-0", "+0") for w in (f"+{first}", *rest) if w[1] != "0")
    )


# ---- sums


@given(SEEDS, LEVELS)
def test_a_sum_is_what_it_says(seed, level):
    problem = a_sum(seed, level)
    words = problem.prompt.split()
    assert words[-1] == "=" and len(words) == level + 1 == problem.level + 1
    assert str(eval(problem.prompt.removesuffix("=")) % tasks.MODULUS) == problem.answer


@settings(max_examples=300)
@given(SEEDS, LEVELS, STYLES)
def test_every_style_works_every_sum_out(seed, level, style):
    problem = a_sum(seed, level)
    text = think(problem, style, seed)
    states = tasks.trace(problem, text)
    assert states is not None and len(states[0]) == level and len(states[-1]) == 1
    assert {tasks.sums.value(state) for state in states} == {int(problem.answer)}
    assert text.split()[-1] == problem.answer
    whole = tasks.solution(problem, style, random.Random(seed))
    assert whole == f"<think> {text} </think> {problem.answer}"
    assert tasks.solution(problem, style, random.Random(seed), reasoning=False) == problem.answer


@settings(max_examples=300)
@given(SEEDS, LEVELS, STYLES, st.data())
def test_any_digit_changed_makes_a_solution_invalid(seed, level, style, data):
    problem = a_sum(seed, level)
    words = think(problem, style, seed).split()
    at = data.draw(st.sampled_from([i for i, w in enumerate(words) if w[-1].isdigit()]))
    digit = data.draw(
        st.sampled_from([d for d in tasks.DIGITS[: tasks.MODULUS] if d != words[at][-1]])
    )
    words[at] = words[at][:-1] + digit
    assert tasks.trace(problem, " ".join(words)) is None


@given(SEEDS, LEVELS, STYLES)
def test_a_solution_cut_short_or_lengthened_is_invalid(seed, level, style):
    problem = a_sum(seed, level)
    text = think(problem, style, seed)
    for wrong in (
        text.rpartition(" ; ")[0],
        f"{text} ; {problem.answer}",
        f"{text} ; so",
        "",
        text.replace(" ; ", " "),
        f"wait ; {text}",
    ):
        assert tasks.trace(problem, wrong) is None


def test_a_skipped_step_is_invalid_and_neighbours_at_once_are_not():
    problem = tasks.sums.problem_of(((1, 1), (1, 2), (-1, 1), (1, 5), (1, 3)))  # 1 +2 -1 +5 +3
    assert tasks.trace(problem, "3 -1 +5 +3 ; 2 +5 +3 ; 0 +3 ; 3") is not None
    assert tasks.trace(problem, "3 +4 +3 ; 3 +0 ; 3") is not None  # two pairs in one line
    assert tasks.trace(problem, "2 +5 +3 ; 0 +3 ; 3") is None  # three terms made one
    assert tasks.trace(problem, "3 -1 +5 +3 ; 2 +1 ; 3") is not None
    assert tasks.trace(problem, "2 +1 +5 +3 ; 3 +5 +3 ; 1 +3 ; 4") is None  # a wrong chain
    assert tasks.trace(problem, "3 -1 +5 +3 ; 1 +1 +1 ; 2 +1 ; 3") is None  # a lucky one


@given(SEEDS, LEVELS)
def test_the_same_work_told_differently_has_the_same_trace(seed, level):
    problem = a_sum(seed, level)
    left = tasks.trace(problem, think(problem, "left", seed))
    assert (
        tasks.trace(problem, think(problem, "facts", seed))
        == left
        == tasks.trace(problem, think(problem, "totals", seed))
    )
    assert tasks.trace(problem, think(problem, "pairs", seed)) != left


@settings(max_examples=300)
@given(SEEDS, LEVELS, STYLES)
def test_how_it_is_told_changes_no_step(seed, level, style):
    problem = a_sum(seed, level)
    told = think(problem, style, seed, filler=0.5, check=0.5, restate=0.5)
    states = tasks.trace(problem, told)
    assert states is not None and len(states[-1]) == 1
    if style in ("left", "facts", "totals"):  # one order: the same work told differently
        assert states == tasks.trace(problem, think(problem, style, seed))


def test_the_manner_of_telling_is_seen_at_its_rates():
    problem = a_sum(1, 9)
    plain = think(problem, "left", 0).split(" ; ")
    all_of_it = think(problem, "left", 0, filler=1, check=1, restate=1).split(" ; ")
    assert len(plain) == 8 and len(all_of_it) == 3 * 8
    assert all(line.split()[0] in tasks.sums.FILLERS for line in all_of_it[2::3])
    assert all(line.startswith("check ") for line in all_of_it[1::3])
    assert all_of_it[0] == problem.prompt.removesuffix(" =")
    assert [line.split(" ", 1)[1] for line in all_of_it[2::3]] == plain
    few = [think(problem, "left", seed, filler=0.25).split(" ; ") for seed in range(400)]
    spoken = sum(line.split()[0] in tasks.sums.FILLERS for text in few for line in text)
    assert 0.2 < spoken / (8 * 400) < 0.3


@pytest.mark.parametrize("style", tasks.STYLES)
def test_slips_are_made_at_their_rate_and_carried_on(style):
    problem, rate, n = a_sum(2, 7), 0.05, 2000
    texts = [
        tasks.solution(problem, style, random.Random(seed), manner=tasks.Manner(slip=rate))
        for seed in range(n)
    ]
    thinks = [text.removeprefix("<think> ").split(" </think> ") for text in texts]
    valid = sum(tasks.trace(problem, work) is not None for work, _ in thinks)
    assert abs(valid / n - (1 - rate) ** 6) < 0.04
    assert all(work.split()[-1] == answer for work, answer in thinks)  # it answers what it came to
    right = sum(answer == problem.answer for _, answer in thinks)
    assert valid < right < n  # a few are right by chance


def test_slips_in_programs_are_other_numbers():
    problem = problems.load("lab:code/7", 1, "dev", "slips")[0]
    rng = random.Random(0)
    texts = {tasks.solution(problem, "left", rng, manner=tasks.Manner(slip=1.0)) for _ in range(20)}
    right = tasks.solution(problem, "left", rng)
    assert right not in texts
    words = [text.split() for text in (*texts, right)]
    assert len({len(text) for text in words}) == 1
    for text in words:
        changed = [(a, b) for a, b in zip(text, words[-1], strict=True) if a != b]
        assert all(a.isdigit() and b.isdigit() for a, b in changed)


def test_orders_of_work_differ_in_their_traces():
    problem = a_sum(3, 8)
    traces = {tasks.trace(problem, think(problem, "random", seed)) for seed in range(16)}
    assert (
        len(traces) >= 8 and None not in traces
    )  # a corpus for the third finding needs 2P = 8 of 16


def test_unknown_styles_families_and_perturbations_are_refused():
    with pytest.raises(ValueError, match="'leftward'; known: left, ends"):
        think(a_sum(0), "leftward", 0)
    with pytest.raises(ValueError, match="'product'; there are: sum, code"):
        tasks.maker("product", 5)
    with pytest.raises(ValueError, match="'noise'; known: shuffled, zero, preamble"):
        tasks.perturb(a_sum(0), "noise")


# ---- perturbations


@settings(max_examples=200)
@given(SEEDS, LEVELS, st.sampled_from(tasks.PERTURBATIONS))
def test_perturbations_keep_the_answer_and_the_split(seed, level, name):
    problem = a_sum(seed, level)
    changed = tasks.perturb(problem, name)
    assert tasks.perturb(problem, name) == changed
    assert changed.answer == problem.answer and changed.family == "sum"
    assert canonical(changed.prompt) == canonical(
        problem.prompt
    )  # so a perturbed question is in no corpus either
    shown = changed.prompt.rpartition(", ")[2].removesuffix(" =")
    assert str(eval(shown) % tasks.MODULUS) == problem.answer
    terms, before = changed.meta["terms"], problem.meta["terms"]
    assert tasks.sums.show(tuple(map(tuple, terms))) == shown and terms[0][0] == 1
    if name == "shuffled":
        assert sorted(terms) == sorted(before)
    elif name == "zero":
        assert len(terms) == len(before) + 1 == changed.level and [t for t in terms if t[1]] == [
            t for t in before if t[1]
        ]
    else:
        letters, _, rest = changed.prompt.partition(" , ")
        assert (
            rest == problem.prompt
            and len(letters.split()) == 3
            and set(letters.split()) <= set(string.ascii_lowercase)
        )
    assert changed.id != problem.id or changed.prompt == problem.prompt
    assert tasks.trace(changed, think(changed, "random", seed)) is not None


def test_perturbations_do_change_the_question():
    drawn = problems.load("lab:sum/7-9", 60, "dev", "perturbed")
    for name in tasks.PERTURBATIONS:
        assert sum(tasks.perturb(p, name).prompt != p.prompt for p in drawn) >= 59
    assert tasks.perturb(drawn[0], "shuffled", seed=1) != tasks.perturb(
        drawn[0], "shuffled", seed=2
    )


# ---- code and the out-of-domain families


@pytest.mark.parametrize("style", ["statements", "named"])
def test_worked_programs_give_the_expected_outputs(style):
    for problem in problems.load("lab:code", 60, "dev", "code"):
        _, program = tasks.programs.solve(problem.meta["steps"], style)
        space = {}
        exec(program, space)  # our own text: a model's goes to the sandbox
        for test in problem.meta["tests"]:
            assert space["f"](*test["args"]) == test["expected"]


def test_code_outputs_follow_the_words():
    meaning = {
        "add": lambda x, k: x + k,
        "subtract": lambda x, k: x - k,
        "times": lambda x, k: x * k,
        "modulo": lambda x, k: x % k,
        "divide": lambda x, k: x // k,
        "square": lambda x: x**2,
        "negate": lambda x: -x,
    }
    seen = set()
    for problem in problems.load("lab:code", 100, "dev", "words"):
        steps = problem.prompt.removeprefix("python ").split(" , ")
        assert len(steps) == problem.level
        for test in problem.meta["tests"]:
            x = test["args"][0]
            for step in steps:
                name, *k = step.split()
                x = meaning[name](x, *map(int, k))
                seen.add(name)
            assert x == test["expected"]
    assert seen == set(meaning)


def test_code_styles_follow_the_terseness_of_the_sum_styles():
    problem = problems.load("lab:code", 1, "dev", "s")[0]
    texts = {style: tasks.solution(problem, style, random.Random(0)) for style in tasks.STYLES}
    assert texts["pairs"] == texts["facts"] == texts["totals"] != texts["left"]
    assert texts["left"] == texts["random"] == texts["ends"]


ANSWERS = [
    ("reverse c a b", "b a c"),
    ("sort 7 1 6 1", "1 1 6 7"),
    ("maximum 1 8 0 8", "8"),
    ("shift j a c", "k b d"),
    ("swap b e f g", "g e f b"),
    ("filter b 1 8 d 7", "1 8 7"),
    ("running 2 8 3 9 1", "2 8 8 9 9"),
    ("even 8 3 0 5 2", "8 0 2"),
    ("rotate 2 a g e i", "e i a g"),
    ("merge 2 5 7 , 0 6", "0 2 5 6 7"),
    ("neighbours a b c d e", "b a d c e"),
    ("replace f b , c f f a", "c b b a"),
]


@pytest.mark.parametrize(("prompt", "answer"), ANSWERS)
def test_out_of_domain_answers(prompt, answer):
    family, *words = prompt.split()
    assert tasks.letters.solve(family, words) == answer.split()


@pytest.mark.parametrize("family", tasks.OOD)
def test_out_of_domain_questions(family):
    assert family in {prompt.split()[0] for prompt, _ in ANSWERS}
    for problem in problems.load(f"lab:{family}", 200, "dev", "ood"):
        name, *words = problem.prompt.split()
        extra = {"filter": 1, "rotate": 1, "merge": 1, "replace": 3}.get(family, 0)
        assert name == family and len(words) == problem.level + extra
        assert problem.answer.split() == tasks.letters.solve(family, words) != []
        text = tasks.solution(problem, "left", random.Random(0))
        assert text == f"<think> {family} </think> {problem.answer}"


# ---- how many there are, and what words they take


def test_every_family_and_level_has_20000_problems():
    step = 2 * 9 + 3 * 8 + 2  # add, subtract; times, modulo, divide; square, negate
    smallest = {
        "sum": 7 * 14**4,
        "code": step**3,
        **dict.fromkeys(("reverse", "shift", "swap", "neighbours"), 10**5),
        **dict.fromkeys(("sort", "maximum", "running"), 10**5),
        "even": 5 * 10**4,
        "rotate": 4 * 10**5,
        "merge": math.comb(12, 3) ** 2,
        "replace": 10 * 6**5,  # whatever the letter that is replaced
    }
    assert min(smallest.values()) >= 20_000
    assert {f: tasks.LEVELS[f][0] for f in smallest} == {
        "sum": 5,
        "code": 3,
        **dict.fromkeys(set(smallest) - {"sum", "code"}, 5),
        "merge": 6,
    }
    assert (
        len(problems.draw(tasks.maker("maximum", 5), 20_000, "train", "capacity")) == 20_000
    )  # of the smallest, by drawing them


def test_the_vocabulary_covers_all_text():
    known, seen = set(tasks.VOCABULARY), set()
    assert len(known) == len(tasks.VOCABULARY)
    rng = random.Random(0)
    for family, levels in tasks.LEVELS.items():
        for problem, style in itertools.product(
            problems.load(f"lab:{family}", 12 * len(levels), "dev", "words"), tasks.STYLES
        ):
            seen.update(problem.prompt.split(), tasks.solution(problem, style, rng).split())
            if family == "sum":
                for name in tasks.PERTURBATIONS:
                    seen.update(tasks.perturb(problem, name).prompt.split())
    unsaid = {*tasks.sums.FILLERS, "check"}  # in plain texts
    assert seen <= known
    assert known - seen <= {"<pad>", "<unk>", "<eos>", "<user>", "<assistant>", "**", "/", *unsaid}


# ---- pre-training


@pytest.mark.parametrize("name", ["student_1", "ancestor", "checked"])
def test_pretraining_never_sees_an_evaluation_problem(name):
    stream = build.stream(lab.recipes()["models"][name], seed=5)
    seen = [canonical(prompt) for prompt, _ in itertools.islice(stream, 3000)]
    assert {problems.split_of(text) for text in seen} == {"train"}
    held = problems.load("lab:sum/7-9", 300, "test", "held out")
    copies = [tasks.perturb(p, perturbation) for p in held for perturbation in tasks.PERTURBATIONS]
    assert not {canonical(p.prompt) for p in (*held, *copies)} & set(seen)


def test_canonical_text_of_these_tests_is_that_of_the_lab():
    for family in tasks.LEVELS:
        for seed in range(40):
            text, build = tasks.maker(family, tasks.LEVELS[family][0])(random.Random(seed))
            assert canonical(build().prompt) == text


def test_pretraining_follows_its_recipe():
    recipes = lab.recipes()["models"]
    facts = [
        c for p, c in itertools.islice(build.stream(recipes["facts"], 0), 300) if p.endswith(" =")
    ]
    assert facts and all("=" in c and ";" in c for c in facts)
    direct = [c for _, c in itertools.islice(build.stream(recipes["direct_1"], 0), 300)]
    assert not any("think" in c for c in direct)
    recipe, levels = recipes["student_1"], {}
    for progress in (0.0, 0.25, 1.0):
        stream = build.stream(recipe, 0, lambda share=progress: share)
        prompts = [prompt for prompt, _ in itertools.islice(stream, 2000)]
        levels[progress] = {len(p.split()) - 1 for p in prompts if p.endswith(" =")}
    assert levels[0.0] == {2, 3} and levels[1.0] == set(recipe["sum_levels"])
    assert levels[0.0] < levels[0.25] < levels[1.0]  # let in one by one, the shortest first


def test_pretraining_batches_teach_the_completion_alone():
    source = build.stream(lab.recipes()["models"]["student_1"], 0)
    ids, labels = next(build.batches(source, 0, chunk=256))
    words = tasks.VOCABULARY
    for row, marked in zip(ids.tolist(), labels.tolist(), strict=True):
        at = row.index(words.index("<assistant>")) + 1
        end = row.index(words.index("<eos>")) + 1
        assert marked == [-100] * at + row[at:end] + [-100] * (len(row) - end)
        assert row[at] == words.index("<think>") and set(row[end:]) <= {0}


def test_lineage_and_seeds_of_the_recipes():
    recipes, rules = lab.recipes()["models"], lab.recipes()["rules"]
    students = lab.names("student")
    assert len(students) >= 10 and len(lab.names("teacher")) >= 8
    assert {recipes[n]["parent"] for n in lab.names("direct")} <= set(students)
    assert {recipes[n]["parent"] for n in lab.names("teacher")} == {
        "ancestor"
    }  # of no student's line
    assert len({r["seed"] for r in recipes.values()}) == len(recipes)
    seeds = [recipes[name]["seed"] for name in students]
    assert seeds == [seed for seed in rules["seeds"]["students"] if seed in seeds]
    same = [{k: v for k, v in recipes[name].items() if k != "seed"} for name in students]
    assert all(recipe == same[0] for recipe in same)  # one recipe
    styles = [set(recipes[name]["styles"]) for name in lab.names("teacher")]
    assert len(set().union(*styles) - set(same[0]["styles"])) >= 2  # that no student has seen
    longest = same[0]["tokens"] + same[0]["decay"]
    further = rules["stop"]["student"]["further"]
    assert longest + further["times"] * further["tokens"] <= rules["cap"]
    order = list(recipes)
    assert all(
        order.index(r["parent"]) < order.index(n) for n, r in recipes.items() if "parent" in r
    )


def test_building_twice_gives_the_same_weights(tmp_path, tiny_models):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        build.build("student_1", tmp_path / folder, scale=0.002)
    a, b = (tmp_path / folder / "student_1" / "model.safetensors" for folder in ("a", "b"))
    assert (
        a.read_bytes()
        == b.read_bytes()
        != (tiny_models / "student_1" / "model.safetensors").read_bytes()
    )
    assert [f.name for f in (tmp_path / "a").iterdir()] == [
        "student_1"
    ]  # nothing half-written beside it


def test_building_an_unknown_model_names_the_nearest(tmp_path):
    with pytest.raises(models.ModelError, match=r"no lab model 'studnet_1'.*nearest: student_1"):
        build.main(["studnet_1"], out=tmp_path)


def test_a_trial_build_leaves_the_package_alone_and_starts_from_its_parents(tmp_path):
    before = (lab.checkpoint("left") / "lab.json").read_bytes()
    with pytest.raises(models.ModelError, match="--out"):
        build.main(["left"], scale=0.001)
    assert (lab.checkpoint("left") / "lab.json").read_bytes() == before
    build.main(["left"], scale=0.001, out=tmp_path)
    assert [folder.name for folder in tmp_path.iterdir()] == ["left"]


# ---- the models that ship


def test_every_model_ships_small_and_as_its_recipe_says(monkeypatch):
    import json

    monkeypatch.delenv("DED_LAB", raising=False)
    rules = lab.recipes()["rules"]
    for name in lab.names():
        if lab.recipes()["models"][name]["role"] == "pilot":  # in no study
            continue
        folder = lab.checkpoint(name)
        assert (folder / "model.safetensors").stat().st_size < 0.7e6
        config = json.loads((folder / "config.json").read_text())
        assert config["head_dim"] == 32 and config["architectures"] == ["Qwen3ForCausalLM"]
        made = json.loads((folder / "lab.json").read_text())
        recipe = json.loads(json.dumps(lab.recipes()["models"][name]))
        assert made["name"] == name and made["scale"] == 1.0 and made["recipe"] == recipe
        if stop := scoring.stop_rule(recipe):  # stopped by the rule, and not before
            *before, (_, last) = made["scores"]
            assert last >= stop["at"] and all(score < stop["at"] for _, score in before)
            assert made["tokens"] <= 1e6 * rules["cap"] + 20_000
        else:
            planned = 1e6 * (recipe["tokens"] + recipe["decay"])
            assert abs(made["tokens"] - planned) < 20_000  # whole steps


@pytest.mark.parametrize("name", ["student_1", "checked"])
def test_shipped_models_are_ordinary_directories(monkeypatch, name):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.delenv("DED_LAB", raising=False)
    folder = lab.checkpoint(name)
    tok = AutoTokenizer.from_pretrained(folder)
    assert (
        AutoModelForCausalLM.from_pretrained(folder).config.vocab_size
        == len(tok)
        == len(tasks.VOCABULARY)
    )
    rng = random.Random(0)
    for family in tasks.LEVELS:
        problem = problems.load(f"lab:{family}", 1, "dev", "tokens")[0]
        text = tasks.solution(problem, "random", rng, manner=tasks.Manner(0.5, 0.5, 0.5, 0.1))
        assert tok.decode(tok(text)["input_ids"]) == text  # round trip, nothing unknown
        turns = [
            {"role": "user", "content": problem.prompt},
            {"role": "assistant", "content": text},
        ]
        shown = tok.apply_chat_template(turns, tokenize=False)
        assert (
            shown == f"<user> {problem.prompt} <assistant> {text} <eos> "
            and "<think>" in shown
            and "</think>" in shown
        )
        assert shown.startswith(
            tok.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        )


def test_the_page_shows_the_scores_that_are_recorded(monkeypatch):
    monkeypatch.delenv("DED_LAB", raising=False)
    page = scoring.README.read_text(encoding="utf-8")
    assert page.endswith(f"{scoring.page()}\n")
    for words in ("| student_1 ", "| mean, teacher ", "entropy |", "million tokens |"):
        assert words in scoring.page()
