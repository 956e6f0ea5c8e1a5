"""What features keep of a factor: by hand, on features that hold exactly one factor, against references, and what must not matter."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from skelnb.data import SkeletonData
from skelnb.evaluate import Features
from skelnb.explore import FactorReport, InvarianceError, NestedError, explore_invariance, factor_report, variance_alone, variance_explained
from skelnb.explore.invariance import balanced, discriminant, folds_of, nearest

TABLE = pd.DataFrame([{"subject": s, "camera": c, "setup": s % 4, "repeat": r, "class": k}
                      for s in range(16) for c in range(3) for r in range(2) for k in range(5)])
CHANCE = {"class": 1 / 5, "subject": 1 / 16, "camera": 1 / 3, "setup": 1 / 4}


def only(factor, noise=0., d=24, seed=0):
    "Features that are a function of one factor, and noise."
    g = np.random.default_rng(seed)
    found, codes = np.unique(TABLE[factor], return_inverse=True)
    return g.normal(size=(len(found), d))[codes] + noise * g.normal(size=(len(TABLE), d))


def noisy(seed=1, d=24):
    "Something of every factor."
    return sum(w * only(f, seed=seed + i, d=d) for i, (f, w) in enumerate({"class": 1., "subject": .7, "camera": .5}.items())) + np.random.default_rng(seed).normal(size=(len(TABLE), d))


# --- by hand

def test_share_of_variance_by_hand():
    x, codes = np.array([[0.], [2.], [4.], [6.]]), np.array([0, 0, 1, 1])             # means 1 and 5 about 3: between 16, within 4
    assert variance_explained(x, codes, corrected=False) == 16 / 20
    assert math.isclose(variance_explained(x, codes), (16 - 1 * 4 / 2) / 20)
    assert math.isnan(variance_explained(np.ones((4, 2)), codes))
    assert math.isclose(variance_alone(x, {"a": codes})["a"], variance_explained(x, codes))


def test_the_correction_is_exact_over_all_ways_to_shuffle():
    from itertools import permutations
    x, codes = np.random.default_rng(0).normal(size=(6, 3)), (0, 0, 1, 1, 2, 2)
    every = [variance_explained(x, np.array(p)) for p in set(permutations(codes))]
    assert len(every) == 90 and abs(np.mean(every)) < 1e-12


def test_balanced_accuracy_by_hand():
    assert balanced(np.array([1, 1, 1, 0, 0]), np.array([0, 0, 0, 0, 2])) == (3 / 4 + 0) / 2


# --- features that hold exactly one factor

@pytest.mark.parametrize("factor", ["class", "subject", "camera"])
def test_one_factor_is_found_and_no_other(factor):
    report = factor_report(only(factor, noise=.02), TABLE, permutations=3)
    for f in CHANCE:
        assert report["chance"][f] == CHANCE[f]
        if f == factor:
            assert report["linear"][f] == report["knn"][f] == 1 and report["variance"][f] > .99
        elif not (factor == "subject" and f == "setup"):
            assert abs(report["linear"][f] - CHANCE[f]) < .09 and report["variance"][f] < .01
            assert abs(report["linear control"][f] - CHANCE[f]) < .12


def test_a_setup_in_the_features_is_no_subject_of_its_own():
    report = factor_report(only("setup", noise=.02), TABLE, permutations=2)
    assert report["linear"]["setup"] == 1
    assert report["variance"]["subject"] > .99 and abs(report["variance alone"]["subject"]) < .01       # nested: all of it is the setup's
    assert math.isnan(report["variance alone"]["setup"]) and report["note"]["subject"] == "each subject has one setup"
    assert .1 < report["linear"]["subject"] < .45                                                     # one of the four people of a setup


def test_no_performance_is_on_both_sides():
    "Features that know the single performance, and nothing that goes beyond it, are worth nothing to the probe of a subject or a class."
    code = TABLE.groupby(["subject", "class", "repeat"]).ngroup().to_numpy()
    x = np.random.default_rng(0).normal(size=(code.max() + 1, 32))[code]
    report = factor_report(x, TABLE, permutations=1, k=1)
    assert report["knn"]["subject"] < .15 and report["knn"]["class"] < .3
    random = factor_report(x, TABLE, ["subject"], hold={"subject": "clips"}, permutations=1, k=1)
    assert random["knn"]["subject"] > .7                                                              # clips at random: its other cameras give it away


# --- against references

def test_share_of_variance_against_one_hot_regression_and_a_permutation():
    from sklearn.linear_model import LinearRegression
    x = noisy()
    for f in CHANCE:
        hot = pd.get_dummies(TABLE[f]).to_numpy(float)
        fitted = LinearRegression().fit(hot, x).predict(hot)
        r2 = 1 - ((x - fitted) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
        codes = TABLE[f].to_numpy()
        assert abs(variance_explained(x, codes, corrected=False) - r2) < 1e-10
        k, n = len(set(codes)), len(x)
        assert abs(variance_explained(x, codes) - (1 - (1 - r2) * (n - 1) / (n - k))) < 1e-10          # adjusted R^2


def test_linear_probe_against_scikit_learn():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    x, y = noisy(), TABLE["class"].to_numpy()
    half = np.random.default_rng(0).permutation(len(x)) < len(x) // 2
    for shrinkage in (.05, .5):
        learn = np.concatenate([np.flatnonzero(half & (y == c))[:40] for c in range(5)])              # equal groups: then both pool the scatter alike
        theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=np.ones(5) / 5).fit(x[learn], y[learn]).predict(x[~half])
        np.testing.assert_array_equal(theirs, discriminant(x[learn], y[learn], x[~half], 5, shrinkage))


def test_neighbours_against_all_distances():
    a, b = np.random.default_rng(0).normal(size=(2, 60, 5))
    far = ((a[:, None] - b[None]) ** 2).sum(2)
    np.testing.assert_array_equal(np.sort(nearest(b, a, 4, block=7), 1), np.sort(np.argsort(far, 1)[:, :4], 1))


# --- what must not matter, and what must

def test_shift_rotation_and_scale_change_nothing():
    x = noisy()
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(24, 24)))[0]
    a, b = (factor_report(v, TABLE, permutations=2) for v in (x, 7.5 * x @ turn + 100))
    numbers = [c for c in a.table if a.table[c].dtype == float]
    np.testing.assert_allclose(a.table[numbers].to_numpy(), b.table[numbers].to_numpy(), atol=1e-7)


def test_folds_keep_groups_whole_and_share_out_values():
    groups, codes = TABLE["subject"].to_numpy(), TABLE["setup"].to_numpy()
    fold = folds_of(groups, codes, 4, seed=1)
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))
    assert all(len(set(fold[codes == c])) == 4 for c in set(codes))                                   # four people a setup: one in each fold
    assert folds_of(groups, (groups > 13) * 1, 4).max() == 1                                          # the rare value has two people: two folds
    same = [folds_of(groups, codes, 4, seed=s) for s in (1, 1, 2)]
    assert (same[0] == same[1]).all() and (same[0] != same[2]).any()


def test_the_same_seed_gives_the_same_report_and_global_random_numbers_stay():
    torch.manual_seed(0); np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    a, b = (factor_report(noisy(), TABLE, permutations=2, seed=4).table for _ in range(2))
    pd.testing.assert_frame_equal(a, b)
    assert (torch.get_rng_state() == before[0]).all() and (np.random.get_state()[1] == before[1]).all()


def test_an_encoder_features_and_a_table_say_the_same():
    meta = TABLE.iloc[:240].assign(name=[f"clip{i}" for i in range(240)]).drop(columns="class")
    y = TABLE["class"].to_numpy()[:240].copy()
    data = SkeletonData(torch.randn(240, 3, 4, 25, 1, generator=torch.Generator().manual_seed(0)).numpy(), y, meta=meta)
    encoder = lambda x: x.mean((2, 4)).flatten(1)
    x = encoder(data.batch())
    features = Features(x, y)
    a = factor_report(encoder, data, permutations=1).table
    pd.testing.assert_frame_equal(a, factor_report(x, data, permutations=1).table)
    pd.testing.assert_frame_equal(a, factor_report(features, data, permutations=1).table)
    pd.testing.assert_frame_equal(a, factor_report(features, meta, permutations=1).table)
    features.meta = meta
    pd.testing.assert_frame_equal(a, factor_report(features, permutations=1).table)


def test_many_clips_are_thinned():
    report = factor_report(noisy(), TABLE, ["class"], most=200, permutations=1)
    assert report.settings["clips"] == 200 and report.settings["of"] == 480


# --- errors

def test_errors_say_what_to_do():
    x = noisy()
    for told, kind, call in [
            ("one value only", InvarianceError, lambda: factor_report(x, TABLE.assign(camera=1), ["camera"])),
            ("nested in 'subject'", NestedError, lambda: factor_report(x, TABLE.assign(setup=TABLE.subject), ["setup"])),
            ("too few clips", InvarianceError, lambda: factor_report(x[:40], TABLE.iloc[:40].assign(subject=range(40)), ["subject"])),
            ("no factor 'smell'", InvarianceError, lambda: factor_report(x, TABLE, ["smell"])),
            ("has to be held out", InvarianceError, lambda: factor_report(x, TABLE[["class"]], ["class"])),
            ("unknown for 1", InvarianceError, lambda: factor_report(x, TABLE.assign(camera=[np.nan, *TABLE.camera[1:]]), ["camera"])),
            ("480 clips", InvarianceError, lambda: factor_report(x[:7], TABLE)),
            ("NaN", InvarianceError, lambda: factor_report(np.where(np.arange(480)[:, None] == 3, np.nan, x), TABLE)),
            ("expected clips with factors", InvarianceError, lambda: factor_report(x)),
            ("no factor to measure", InvarianceError, lambda: factor_report(x, TABLE[["repeat"]])),
            ("folds", InvarianceError, lambda: factor_report(x, TABLE, folds=1)),
    ]:
        with pytest.raises(kind, match=told):
            call()
    left = factor_report(x, TABLE.assign(camera=1), permutations=1).left_out
    assert list(left) == ["camera"] and "one value" in left["camera"]                                 # not asked for by name: told, and passed over


# --- the picture

@pytest.fixture(scope="module")
def reports():
    return {"only <class>": factor_report(only("class", .1), TABLE, permutations=1), "two seeds": [factor_report(noisy(s), TABLE, permutations=1) for s in (1, 2)]}


def test_reports_survive_json(reports):
    a = reports["two seeds"][0]
    b = FactorReport.from_dict(json.loads(json.dumps(a.to_dict(), allow_nan=False)))
    pd.testing.assert_frame_equal(a.table, b.table)
    assert (a.settings, a.left_out) == (b.settings, b.left_out)
    with pytest.raises(InvarianceError, match="to_dict"):
        FactorReport.from_dict({"kind": "else"})


def test_picture_holds_the_numbers(reports, tmp_path):
    import xml.etree.ElementTree as xml
    picture = explore_invariance({**reports, "from JSON": reports["two seeds"][0].to_dict()}, title="A & B")
    for measure in ("linear", "knn", "variance", "variance alone"):
        root = xml.fromstring(picture.svg(measure))
        assert len([e for e in root.iter() if e.get("class") == "cell"]) == 3 * 4
    mean = np.mean([r["linear"]["subject"] for r in reports["two seeds"]])
    assert math.isclose(picture.table().loc["two seeds", "subject"], mean)
    page = picture.to_html()
    assert "only <class>" not in page and "data:image/svg+xml" in page and len(page) < 300_000
    assert picture.save(tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_reports_that_do_not_belong_together(reports):
    one = factor_report(only("class", .1), TABLE, ["class"], permutations=1)
    less = factor_report(only("class", .1)[:240], TABLE.iloc[:240], permutations=1)
    for told, asked in [("same factors", {**reports, "x": one}), ("other clips", {**reports, "x": less}), ("expected a FactorReport", {"x": 3}), ("expected", [])]:
        with pytest.raises(InvarianceError, match=told):
            explore_invariance(asked)
    with pytest.raises(InvarianceError, match="unknown measure"):
        explore_invariance(reports, "size")


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_picture_in_a_browser(reports, page, tmp_path, screenshot):
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(("file:", "data:", "blob:")) else route.abort())
    page.goto(explore_invariance(reports).save(tmp_path / "page.html").as_uri())
    first = lambda: page.locator("g.row").first.get_attribute("data-i")
    assert first() == "0" and page.locator(".cell").count() == 8
    page.locator(".cell").nth(1).hover()
    assert "only <class>, subject: linear probe" in page.get_by_role("status").inner_text()
    page.get_by_label("order").select_option(label="least class first")
    assert first() == "1"
    page.get_by_role("button", name="share of variance").click()
    assert "share of variance" in page.locator("svg").text_content()
    screenshot(page, "invariance")
