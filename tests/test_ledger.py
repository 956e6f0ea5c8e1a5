"""The ledger: a verdict is an interval, an interval is a bootstrap, and both are checked against hands, scikit-learn and made-up worlds."""

import html
import importlib
import json
import re

import numpy as np
import pytest

from skelnb.evaluate.experiment import ExperimentError, pack, pack_labels, trial_file
from skelnb.evaluate.ledger import CLAIMS, COLOURS, JUDGED, Claim, asked, differences, evidence, interval, judge, ledger_html, nmi, published, read_ledger, resample, rows_of, share_right, trials_of, verdict, write_ledger
from skelnb.evaluate.tables import TABLES, trial_of

CLAIM = {c.id: c for c in CLAIMS}


# ---- verdicts

@pytest.mark.parametrize("low, high, said", [(.1, 5, "holds"), (1e-9, .2, "holds"), (0, 5, "undecided"), (-5, -.1, "does not hold"), (-5, 0, "undecided"), (-.9, .9, "does not hold"), (-1, .5, "undecided"),
                                             (-.5, 1, "undecided"), (-.99, .99, "does not hold"), (-3, 3, "undecided"), (0, 0, "does not hold"), (-1e-9, .3, "does not hold")])
def test_an_interval_says_one_of_three_things(low, high, said):
    assert verdict(low, high) == said
    assert verdict(low, high, none=0.) == ("undecided" if low <= 0 <= high else said)                        # no effect is small enough to be none


# ---- draws

def test_draws_are_with_replacement_and_the_same_every_time():
    clips, seeds = resample(50, 3, 2000)
    assert clips.shape == (2000, 50) and seeds.shape == (2000, 3) and (clips.sum(1) == 50).all() and (seeds.sum(1) == 3).all() and (clips >= 0).all()
    assert np.array_equal(clips, resample(50, 3, 2000)[0]) and not np.array_equal(clips, resample(50, 3, 2000, seed=1)[0])
    assert abs(clips.mean() - 1) < 1e-6 and abs(clips.var(0).mean() - 49 / 50) < .02 and (resample(7, 1, 20)[1] == 1).all()


def test_the_share_of_a_draw_is_that_of_the_clips_and_seeds_that_it_names():
    rng = np.random.default_rng(0)
    flags = rng.random((3, 40)) < [[.2], [.5], [.9]]
    clips, seeds = resample(40, 3, 30)
    for c, s, found in zip(clips.astype(int), seeds.astype(int), share_right(flags, (clips, seeds))):
        drawn = np.repeat(np.repeat(flags, s, axis=0), c, axis=1)
        assert drawn.shape == (3, 40) and found == pytest.approx(100 * drawn.mean(), abs=1e-3)
    assert share_right(flags) == pytest.approx(100 * flags.mean()) and share_right([[1, 0, 1, 1]]) == 75


def test_an_interval_is_that_of_a_bootstrap_written_as_loops():
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 60)) < .7, rng.random((2, 60)) < .5
    claim = Claim("t", "", "", "acl-1", [("A", "B")])
    drawn = resample(60, 2, 4000)
    mine = interval(differences(claim, {"A": a, "B": b}, None, drawn))
    slow = []
    for _ in range(4000):
        i, s = rng.integers(0, 60, 60), rng.integers(0, 2, 2)
        slow.append(100 * (a[s][:, i].mean() - b[s][:, i].mean()))                      # the same clips and seeds for both: paired
    assert mine == pytest.approx(np.quantile(slow, (.025, .975)), abs=2.)


def test_pairing_makes_the_interval_narrow_where_the_clips_decide():
    rng = np.random.default_rng(2)
    easy = rng.random(400) < .5
    a = easy[None]; b = a.copy(); b[0, np.nonzero(easy)[0][:6]] = False                # B is wrong where A is, and on six clips more
    low, high = interval(differences(Claim("t", "", "", "acl-1", [("A", "B")]), {"A": a, "B": b}, None, resample(400, 1, 4000)))
    assert 0 < low < 1.5 < high < 3
    low, high = interval(differences(Claim("t", "", "", "acl-1", [("A", "B")]), {"A": a, "B": rng.permutation(b[0])[None]}, None, resample(400, 1, 4000)))
    assert low < 0 < high and high - low > 8


@pytest.mark.parametrize("same", [0., .8])
def test_where_nobody_is_better_few_intervals_say_so(same):
    "One seed: of 400 made-up worlds in which A and B are equally good, about one in twenty gives an interval without 0."
    rng, wrong, claim = np.random.default_rng(3), 0, Claim("t", "", "", "acl-1", [("A", "B")])
    drawn = resample(150, 1, 500)
    for _ in range(400):
        a, other = rng.random(150) < .6, rng.random(150) < .6
        b = np.where(rng.random(150) < same, a, other)
        low, high = interval(differences(claim, {"A": a[None], "B": b[None]}, None, drawn))
        wrong += low > 0 or high < 0
    assert .01 < wrong / 400 < .12


def test_with_seeds_that_differ_the_interval_is_wide():
    "A is better by 2 points on average, but by -10, 0 and 16 on the three seeds."
    rng = np.random.default_rng(4)
    b = np.stack([rng.permutation(1000) < 500 for _ in range(3)])
    a = np.stack([np.roll(row, 0) for row in b])
    for s, more in enumerate((-100, 0, 160)):
        at = np.nonzero(a[s] if more < 0 else ~a[s])[0][:abs(more)]
        a[s, at] = more > 0
    claim = Claim("t", "", "", "acl-1", [("A", "B")])
    low, high = interval(differences(claim, {"A": a, "B": b}, None, resample(1000, 3, 3000)))
    assert differences(claim, {"A": a, "B": b}, None) == pytest.approx([2]) and low < -8 and high > 14


# ---- NMI

def test_nmi_is_scikit_learns():
    from sklearn.metrics import normalized_mutual_info_score
    rng = np.random.default_rng(5)
    for n, classes, groups in ((5, 2, 2), (60, 3, 5), (200, 10, 10), (40, 1, 3), (40, 4, 1), (30, 1, 1)):
        y, g = rng.integers(0, classes, n) * 7, rng.integers(0, groups, (2, n)) + 3
        assert nmi(y, g) == pytest.approx(100 * np.mean([normalized_mutual_info_score(y, row) for row in g]), abs=1e-9), (n, classes, groups)
        assert nmi(y, y) == pytest.approx(100) == nmi(y, -y)
        clips, seeds = resample(n, 2, 10)
        for c, s, found in zip(clips.astype(int), seeds.astype(int), nmi(y, g, (clips, seeds))):
            by_seed = [normalized_mutual_info_score(np.repeat(y, c), np.repeat(row, c)) for row in g]
            assert found == pytest.approx(100 * np.dot(by_seed, s) / 2, abs=1e-6)


# ---- differences and their intervals

def test_differences_are_those_of_the_pairs_in_points():
    right = lambda n: np.arange(100)[None] < n
    flags = {"A": right(80), "B": right(70), "C": right(75), "D": right(20)}
    of = lambda *pairs, drawn=None: differences(Claim("t", "", "", "acl-1", list(pairs)), flags, None, drawn)
    assert of(("A", "B"), ("A", "C"), ("B", "C")) == pytest.approx([10, 5, -5]) and of((["A", "D"], "C"), (["A", "B"], ["C", "D"]), ("A", "A")) == pytest.approx([-25, 75 - 47.5, 0])
    drawn = resample(100, 1, 200); both = of(("A", "B"), ("C", "D"), drawn=drawn)
    assert both.shape == (2, 200) and np.array_equal(both[0], of(("A", "B"), drawn=drawn)[0]) and np.array_equal(both[1], of(("C", "D"), drawn=drawn)[0])


def test_an_interval_is_that_of_the_weakest_pair():
    rng = np.random.default_rng(6); pairs = rng.normal([[5], [2], [9]], [[1], [3], [.1]], (3, 20_000))
    low, high = interval(pairs)
    assert low == pytest.approx(2 - 1.96 * 3, abs=.2) and high == pytest.approx(5 + 2.394 * 1, abs=.1)             # the second begins first, the first ends first, at 1 - .025/3
    assert interval(pairs[:1]) == pytest.approx(np.quantile(pairs[0], (.025, .975))) and interval(pairs, .5)[0] > low


def test_of_many_pairs_without_a_difference_few_are_called_wrong():
    "Eight methods that are as good as their rivals: the claim that all are better does not hold in about one world of forty, not in most."
    rng, wrong, claim, drawn = np.random.default_rng(7), 0, Claim("t", "", "", "acl-1", [(f"A{i}", f"B{i}") for i in range(8)]), resample(150, 1, 1000)
    for _ in range(120):
        flags = {f"{w}{i}": (rng.random((1, 150)) < .6) for w in "AB" for i in range(8)}
        low, high = interval(differences(claim, flags, None, drawn)); wrong += verdict(low, high) == "does not hold"; assert low < 0
    assert wrong < 12


# ---- the claims

def test_every_claim_speaks_of_rows_that_are_there_and_can_be_run():
    assert len({c.id for c in CLAIMS}) == len(CLAIMS)
    for c in CLAIMS:
        table = TABLES[c.table]
        where = [d for d in ("synthetic-small", "nw-ucla", "pku1-pairs") if all(trial_of(table.row(label), d) is not None for label in rows_of(asked(c, d)))]
        assert where, c.id
        rows = rows_of(asked(c, where[0]))
        for label in rows:
            row = table.row(label)
            assert row.method is not None and (c.read is None or c.read in ("joint", "motion", "bone")), (c.id, label)
            streams = trial_of(row, where[0]).pretext["recipe"]["settings"].get("streams", ["joint"])
            assert set((c.read or row.read).split("+")) <= set(streams), (c.id, label)
        trials = trials_of(c, where[0])
        assert 2 < len(trials) <= 3 * len(rows) and len(trials) == len(set(trials)), c.id
        assert c.pairs and all(a != b for a, b in c.pairs) and c.text and re.match(r"(ACL|HiCLR), (Table|Figure)", c.source), c.id


def test_every_claim_can_be_judged_at_the_papers_scale():
    for c in CLAIMS:
        where = [d for d in JUDGED[3:] if all(trial_of(TABLES[c.table].row(label), d) is not None for label in rows_of(asked(c, d)))]
        assert where == (["pku1", "pku2"] if c.id == "14" else ["ntu60", "ntu120", "pku1", "pku2"]), c.id


def test_on_two_sets_a_claim_may_speak_of_other_rows():
    pairs, big = ({t.data for t in trials_of(CLAIM["14"], d)} for d in ("pku1-pairs", "pku1"))
    assert pairs == {"pku1-pairs", "synthetic-small+pku1-pairs"} and big == {"pku1", "ntu60"}
    assert rows_of(asked(CLAIM["14"], "pku2")) == ["NTU-60 xsub", "PKU-MMD itself", "no pretext task"] and asked(CLAIM["3"], "pku1") == CLAIM["3"]
    assert published(CLAIM["14"]) == {"PKU I": 1.0, "PKU II": 2.7}


def test_the_best_augmentation_of_a_stream_is_better_than_each_other():
    found = {}
    for better, worse in CLAIM["22"].pairs: found.setdefault(tuple(better.split(", ")), set()).add(tuple(worse.split(", ")))
    assert found == {(s, best): {(s, other) for other in {"Mask", "DAE", "AdaIN"} - {best}} for s, best in (("Joint", "Mask"), ("Bone", "DAE"), ("Motion", "AdaIN"))}


PARTLY = {"15": {"NTU-60 xview"}, "17": {"NTU-60 xsub"}, "21": {"NTU-60 xsub"}, "22": {"NTU-60 xview"}}      # where a paper's own numbers say otherwise

def test_claims_are_what_the_published_numbers_say():
    "In every column that has all its rows a claim holds by the paper's own numbers, but for four; a pair the wrong way round would be noticed here."
    for c in CLAIMS:
        paper = {label: TABLES[c.table].row(label).paper for label in rows_of(c)}
        if not all(paper.values()): continue                                           # with a row that is ours
        common = [col for col in TABLES[c.table].columns if all(col in p for p in paper.values())]
        mean = lambda side, col: np.mean([paper[label][col] for label in ([side] if isinstance(side, str) else side)])
        assert common and {col for col in common if min(mean(a, col) - mean(b, col) for a, b in c.pairs) < -1e-9} == PARTLY.get(c.id, set()), c.id


def test_a_row_that_is_not_there_is_told():
    with pytest.raises(ExperimentError, match="has no row 'ACLL'"): judge(Claim("t", "", "", "acl-6", [("ACLL", "CMAL")]), "synthetic-small", results="nowhere")


# ---- judging stored runs

def put(results, label, seed, table="acl-6", data="synthetic-small", measure="linear", split=None, **kept):
    "A stored run of a row with these flags or groups."
    row = TABLES[table].row(label)
    trial = trial_of(row, data, seed, split)
    file = trial_file(trial, results); file.parent.mkdir(parents=True, exist_ok=True)
    content = json.loads(file.read_text()) if file.exists() else {"trial": trial.identity, "scores": {}}
    if "correct" in kept: part, n = {"accuracy": float(np.mean(kept["correct"])), "correct": pack(kept["correct"])}, len(kept["correct"])
    else: part, n = {"nmi": 0., "groups": pack_labels(kept["groups"])}, len(kept["groups"])
    content["scores"].setdefault(row.read, {})[measure] = part
    file.write_text(json.dumps(content | {"truth": pack_labels(kept.get("truth", np.arange(n) % 10))}))
    return trial


def some(share, n=500, seed=0): return np.random.default_rng(seed).permutation(n) < share * n


def test_a_claim_without_runs_is_not_judged(tmp_path):
    assert judge(CLAIM["1"], "synthetic-small", results=tmp_path) is None and all(judge(c, "nw-ucla", results=tmp_path) is None for c in CLAIMS)
    for s in range(3): put(tmp_path, "SkeletonBYOL", s, correct=some(.8, seed=s))
    assert judge(CLAIM["1"], "synthetic-small", results=tmp_path) is None                # one of two rows
    put(tmp_path, "SkeletonCLR", 2, correct=some(.5))
    assert judge(CLAIM["1"], "synthetic-small", results=tmp_path)["seeds"] == 1 and judge(CLAIM["1"], "nw-ucla", results=tmp_path) is None
    assert judge(CLAIM["1"], "synthetic-small", seeds=(0, 1), results=tmp_path) is None   # no seed in common


def test_a_claim_is_judged_by_its_stored_flags(tmp_path):
    a, b = [some(.8, seed=s) for s in range(3)], [some(.6, seed=9 + s) for s in range(3)]
    for s in range(3): put(tmp_path, "SkeletonBYOL", s, correct=a[s]); put(tmp_path, "SkeletonCLR", s, correct=b[s])
    flags, truth, common = evidence(CLAIM["1"], "synthetic-small", results=tmp_path)
    assert common == [0, 1, 2] and np.array_equal(flags["SkeletonBYOL"], a) and np.array_equal(flags["SkeletonCLR"], b) and np.array_equal(truth, np.arange(500) % 10)
    line = judge(CLAIM["1"], "synthetic-small", results=tmp_path, draws=2000)
    assert line == judge(CLAIM["1"], "synthetic-small", results=tmp_path, draws=2000)
    assert line["effect"] == 20 and line["interval"][0] < 20 < line["interval"][1] and line["verdict"] == "holds" and (line["seeds"], line["clips"]) == (3, 500)
    assert (line["id"], line["data"], line["claim"], line["source"]) == ("1", "synthetic-small", CLAIM["1"].text, "ACL, Table VI")
    for s in range(3): put(tmp_path, "CMAL", s, correct=b[s])
    assert judge(CLAIM["2"], "synthetic-small", results=tmp_path)["verdict"] == "does not hold"                # CMAL against SkeletonBYOL: the other way round
    for s in range(3): put(tmp_path, "ACL", s, correct=b[s])
    same = judge(CLAIM["3"], "synthetic-small", results=tmp_path)
    assert same["effect"] == 0 and same["interval"] == [0, 0] and same["verdict"] == "does not hold"             # the very same answers
    for s in range(3): put(tmp_path, "ACL", s, correct=some(.605, seed=50 + s))
    assert judge(CLAIM["3"], "synthetic-small", results=tmp_path)["verdict"] == "undecided"


def test_groups_are_judged_by_nmi(tmp_path):
    truth = np.arange(200) % 4
    rng = np.random.default_rng(0)
    blur = lambda share: np.where(rng.random(200) < share, rng.integers(0, 4, 200), truth)
    for label, share in zip(rows_of(CLAIM["16"]), np.linspace(.05, .8, 6)):
        for s in range(2): put(tmp_path, label, s, "acl-fig4", measure="clusters", groups=blur(share), truth=truth)
    line = judge(CLAIM["16"], "synthetic-small", results=tmp_path, draws=2000)
    flags = evidence(CLAIM["16"], "synthetic-small", results=tmp_path)[0]
    by_hand = [nmi(truth, flags[label]) for label in rows_of(CLAIM["16"])]
    assert line["effect"] == pytest.approx(-np.diff(by_hand).max(), abs=.01) and line["seeds"] == 2 and line["interval"][0] <= line["effect"]


def test_a_claim_may_read_another_measure_and_another_stream(tmp_path):
    c = CLAIM["6, collapse"]
    for s in range(3):
        for label, share in (("untrained encoder", .5), ("(1, 0)", .1)):
            row = TABLES["acl-12"].row(label)
            trial = put(tmp_path, label, s, "acl-12", measure="linear", correct=some(1 - share))
            file = trial_file(trial, tmp_path); content = json.loads(file.read_text())
            content["scores"].setdefault("joint", {})["knn"] = {"correct": pack(some(share, seed=s))}; file.write_text(json.dumps(content))
    assert judge(c, "synthetic-small", results=tmp_path, draws=500)["effect"] == 40


def test_a_claim_of_no_better_holds_where_nothing_differs(tmp_path):
    "Within a point is no better; three points are."
    c = CLAIM["6, collapse"]
    for wrong, said in ((0, "holds"), (1, "holds"), (40, "does not hold")):
        for s in range(3):
            right = some(.5, 1000, seed=s); collapsed = right.copy(); collapsed[np.flatnonzero(~right)[:wrong]] = True
            for label, flags in (("untrained encoder", right), ("(1, 0)", collapsed)): put(tmp_path, label, s, "acl-12", measure="knn", correct=flags)
        line = judge(c, "synthetic-small", results=tmp_path, draws=1000)
        assert line["effect"] == pytest.approx(-wrong / 10) and line["verdict"] == said, line


def test_one_seed_is_said_and_drawn_pale():
    line = dict(id="1", data="nw-ucla", claim="c", source="s", effect=9., interval=[4., 12.], verdict="holds", seeds=1, clips=516)
    one, three = ledger_html([line]), ledger_html([line | dict(seeds=3)])
    assert "holds</b>, one seed" in one and 'opacity="0.4"' in one and "one seed" not in three and 'opacity="1"' in three


def test_an_interval_that_goes_on_outside_the_picture_has_an_arrow():
    line = dict(id="1", data="nw-ucla", claim="c", source="s", effect=-32., interval=[-40., -25.], verdict="does not hold", seeds=3, clips=516)
    assert [ledger_html([line | dict(interval=i)]).count("<path") for i in ([-40., -25.], [-29., 29.], [2., 31.], [-31., 31.])] == [1, 0, 1, 2]


def test_the_ledger_is_written_read_and_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("skelnb.evaluate.ledger"), "CLAIMS", [CLAIM[i] for i in "123"])
    assert read_ledger(results=tmp_path) == [] and "No verdict yet" in ledger_html([])
    for s in range(3): put(tmp_path, "SkeletonBYOL", s, correct=some(.8, seed=s)); put(tmp_path, "SkeletonCLR", s, correct=some(.6, seed=9 + s)); put(tmp_path, "CMAL", s, correct=some(.8, seed=20 + s))
    for s in range(3): put(tmp_path, "SkeletonBYOL", s, data="nw-ucla", correct=some(.3, seed=s)); put(tmp_path, "SkeletonCLR", s, data="nw-ucla", correct=some(.6, seed=9 + s))
    made = write_ledger(results=tmp_path, draws=500)
    assert [(m["id"], m["data"]) for m in made] == [("1", "synthetic-small"), ("2", "synthetic-small"), ("1", "nw-ucla")] and read_ledger(results=tmp_path) == made
    assert [m["data"] for m in read_ledger([1], tmp_path)] == ["synthetic-small", "nw-ucla"] == [m["data"] for m in read_ledger(["1"], tmp_path)] and read_ledger([99], tmp_path) == []
    assert [m["verdict"] for m in read_ledger([1], tmp_path)] == ["holds", "does not hold"]
    page = ledger_html(made)
    assert page.count("<tr>") == 1 + len(made) and page.count("<svg") == 1 + len(made) and all(COLOURS[m["verdict"]] in page and html.escape(m["claim"]) in page for m in made)
    (tmp_path / "ledger.json").write_text(json.dumps([{"id": "6"}, {"id": "6, collapse"}, {"id": "16"}]))
    assert [m["id"] for m in read_ledger([6], tmp_path)] == ["6", "6, collapse"]


def test_a_big_set_is_judged_by_its_splits_and_seeds_and_leaves_the_other_lines(tmp_path):
    def two(a, b, seeds=(0, 1, 2), **where):
        for s in seeds: put(tmp_path, "SkeletonBYOL", s, correct=some(a, seed=s), **where); put(tmp_path, "SkeletonCLR", s, correct=some(b, seed=9 + s), **where)
    two(.8, .6); two(.5, .7, data="ntu60"); two(.9, .4, data="ntu60", split="xview"); two(.9, .2, seeds=(3, 4), data="ntu60")
    short = lambda lines: [(m["id"], m["data"], m["effect"], m["seeds"]) for m in lines]
    assert short(write_ledger(results=tmp_path, draws=200)) == [("1", "synthetic-small", 20, 3), ("1", "ntu60", -20, 3)] == short(read_ledger(results=tmp_path))
    assert short(write_ledger(["ntu60"], tmp_path, 200, split="xview")) == [("1", "ntu60 xview", 50, 3)]
    assert short(read_ledger(results=tmp_path)) == [("1", "synthetic-small", 20, 3), ("1", "ntu60", -20, 3), ("1", "ntu60 xview", 50, 3)]
    assert short(write_ledger(["ntu60"], tmp_path, 200, seeds=(3, 4), split="xsub")) == [("1", "ntu60", 70, 2)]     # its usual split, said
    assert short(read_ledger(results=tmp_path)) == [("1", "synthetic-small", 20, 3), ("1", "ntu60", 70, 2), ("1", "ntu60 xview", 50, 3)]
    trial_file(put(tmp_path, "SkeletonCLR", 0, correct=some(.1)), tmp_path).unlink()
    write_ledger(["synthetic-small"], tmp_path, 200, seeds=(0,))
    assert [m["data"] for m in read_ledger(results=tmp_path)] == ["ntu60", "ntu60 xview"]                            # a line whose runs are gone goes
    with pytest.raises(ExperimentError, match="belongs to one data set; judge one, got 7"): write_ledger(results=tmp_path, split="xview")
    with pytest.raises(ExperimentError, match="no plan for the data set 'ntu61'"): write_ledger(["ntu61"], results=tmp_path)
    assert len(read_ledger(results=tmp_path)) == 2


def test_transfer_is_judged_at_the_papers_scale(tmp_path):
    for label, share in (("NTU-60 xsub", .9), ("PKU-MMD itself", .7), ("no pretext task", .4)):
        for s in range(3): put(tmp_path, label, s, "acl-5", "pku1", "accuracy", correct=some(share, seed=s))
    line, = write_ledger(results=tmp_path, draws=200)
    assert (line["id"], line["data"], line["effect"], line["verdict"]) == ("14", "pku1", 20, "holds")


def test_text_of_a_claim_is_text_on_the_page():
    line = dict(id="<b>1", data="a&b", claim="<script>alert(1)</script>", source='"><img>', effect=-80., interval=[-99., 120.], verdict="undecided", seeds=3, clips=1980)
    page = ledger_html([line])
    assert "<script" not in page and "<img" not in page and "<b>1" not in page and "a&amp;b" in page and "3 x 1,980" in page
    for x, w in re.findall(r'<rect x="([\d.-]+)"[^>]* width="([\d.-]+)"', page): assert 0 <= float(x) <= 200 and 0 < float(w) and float(x) + float(w) <= 200.1


def test_what_the_papers_own_numbers_say():
    "By hand from the tables; a claim whose rows are not all printed has no column."
    assert published(CLAIM["4"]) == {"PKU I": 11.2, "PKU II": 18.7, "NTU-60 xsub": 6.5, "NTU-60 xview": 5.0, "NTU-120 xsub": 5.1, "NTU-120 xset": 6.3}
    assert published(CLAIM["20"]) == {"NTU-60 xsub": 1.8} and published(CLAIM["6, collapse"]) == {}
    ten = published(CLAIM["10"])                                   # means of three rows
    assert ten["NTU-60 xsub"] == round(min(78.6 - (77.8 + 75.4 + 76.4) / 3, (twos := (74.8 + 74.5 + 73.3) / 3) - (73.0 + 58.8 + 70.1) / 3, 76.2 - twos), 2)
    assert {i for i, c in CLAIM.items() if published(c) and min(published(c).values()) <= 0} == {"15", "17", "21", "22"}
