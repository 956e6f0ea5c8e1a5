"""Fusion, retrieval, clusters, and the picture of a result: against scikit-learn, plain float64, and numbers of the authors' code."""

import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, confusion_matrix
from torch import nn
from torch.nn import functional as F

from skelnb.data import load
from skelnb.evaluate import (EvaluationError, Features, WEIGHTS, average_precision, clusters, fuse, joint_linear, knn, linear, retrieval,
                             side_by_side, simplex, stream_features)
from skelnb.evaluate.features import Result
from skelnb.evaluate.fusion import STREAMS, Heads

QUICK = dict(epochs=8, lr=.5, drop=6)


def table(seed, n=160, D=12, C=5, spread=1.5, stream=None):
    y = torch.arange(n) % C
    centres = torch.randn(C, D, generator=torch.Generator().manual_seed(99))
    x = centres[y] + spread * torch.randn(n, D, generator=torch.Generator().manual_seed(seed))
    return Features(x, y, [f"clip {i}" for i in range(n)], tuple("abcde"), stream)


@pytest.fixture(scope="module")
def streams(): return {s: table(i, D=8 + 4 * i, stream=s) for i, s in enumerate(STREAMS)}, {s: table(i + 9, n=120, D=8 + 4 * i, stream=s) for i, s in enumerate(STREAMS)}


@pytest.fixture(scope="module")
def results(streams):
    train, test = streams
    return {s: linear(None, train[s], test[s], stream=s, **QUICK) for s in STREAMS}


def scored(seed, protocol="linear", C=5, n=40, **kw):
    return Result(torch.randn(n, C, generator=torch.Generator().manual_seed(seed)), torch.arange(n) % C, settings={"protocol": protocol}, **kw)


# --- late fusion ---

def test_fusion_is_a_weighted_sum_in_float64(results):
    s = {k: r.scores.double().numpy() for k, r in results.items()}
    for weights, w in ((None, (1, 1, 1)), ("aimclr", (.6, .4, .6)), ((.2, .3, .5), (.2, .3, .5)), ({"bone": 2, "joint": 1, "motion": 0}, (1, 0, 2))):
        want = sum(a * s[k] for a, k in zip(w, STREAMS))
        got = fuse(results, weights)
        np.testing.assert_allclose(got.scores, want, rtol=1e-6, atol=1e-6)
        assert got.accuracy == np.mean(want.argmax(1) == got.y.numpy()) and got.settings["weights"] == dict(zip(STREAMS, map(float, w)))
        assert got.settings["alone"] == {k: r.accuracy for k, r in results.items()} and got.best_on is None and got.names == results["joint"].names
    np.testing.assert_allclose(fuse(results, form="softmax").scores, sum(np.exp(a) / np.exp(a).sum(1, keepdims=True) for a in s.values()), rtol=1e-5)


def test_a_list_of_results_finds_its_streams(results):
    assert fuse(list(results.values()), "aimclr").settings["weights"] == {"joint": .6, "motion": .4, "bone": .6}
    seeds = fuse([results["joint"]] * 3)
    assert list(seeds.settings["weights"]) == ["joint", "joint 2", "joint 3"] and seeds.accuracy == results["joint"].accuracy
    assert WEIGHTS["aimclr"] == {"joint": .6, "bone": .6, "motion": .4}


def test_weights_are_chosen_on_val_and_never_quietly_on_test(streams, results):
    train, test = streams
    val = {s: linear(None, train[s], table(i + 30, n=40, D=8 + 4 * i), **QUICK) for i, s in enumerate(STREAMS)}
    chosen = fuse(results, candidates=simplex(step=.25), choose_on="val", val=val)
    assert chosen.best_on == "val" and chosen.best == chosen.accuracy and len(chosen.history) == 15
    by_hand = [np.mean(sum(w[s] * val[s].scores.double() for s in w).argmax(1).numpy() == val["joint"].y.numpy()) for w in simplex(step=.25)]
    assert [r["val"] for r in chosen.history] == by_hand and chosen.settings["weights"] == simplex(step=.25)[int(np.argmax(by_hand))]
    shuffled = {s: Result(r.scores, r.y.flip(0), settings=r.settings) for s, r in results.items()}
    assert fuse(shuffled, candidates=simplex(step=.25), choose_on="val", val=val).settings["weights"] == chosen.settings["weights"], "test labels play no part"
    both = fuse(results, candidates=("equal", "aimclr"), choose_on="test")
    assert both.best_on == "test" and both.accuracy == both.last == fuse(results).accuracy and both.best == max(fuse(results, w).accuracy for w in ("equal", "aimclr"))
    assert "chosen on test" in repr(both) and "first" in repr(both)


def test_what_does_not_fit_is_told(results):
    a, b = scored(0, names=[f"c{i}" for i in range(40)]), scored(1, names=[f"c{i}" for i in range(40)])
    def other(**kw): return Result(**{**dict(scores=b.scores, y=b.y, names=b.names, settings=b.settings), **kw})
    for bad, words in ((other(names=b.names[::-1]), "another order: row 0 is c39"), (other(names=["x", *b.names[1:]]), "other clips"), (other(y=b.y.roll(1), names=None), "labels, first in row 0"),
                       (other(classes=tuple("vwxyz")), None), (other(scores=b.scores[:, :4], y=b.y.clamp(max=3)), "labels|shape"), (other(settings={"protocol": "knn"}), "different units"),
                       (other(scores=b.scores[:30], y=b.y[:30], names=None), "40 clips.*30"), (other(scores=b.scores * float("inf")), "NaN or infinity")):
        if words is None: fuse({"joint": a, "bone": bad}); continue
        with pytest.raises(EvaluationError, match=words): fuse({"joint": a, "bone": bad})
    with pytest.raises(EvaluationError, match="different classes"): fuse({"joint": other(classes=tuple("abcde")), "bone": other(classes=tuple("vwxyz"))})
    assert fuse({"joint": a, "bone": other(settings={"protocol": "knn"})}, form="softmax").scores.shape == (40, 5)
    for kw, words in ((dict(weights=(1, 2)), "expected 3"), (dict(weights="crossclr"), "equal, aimclr"), (dict(weights=(1, -1, 1)), "from 0 up"), (dict(weights=(0, 0, 0)), "not all 0"), (dict(weights={"joint": 1}), "got joint"),
                      (dict(candidates=simplex()), "choose_on"), (dict(choose_on="val"), "candidates"), (dict(candidates=simplex(), choose_on="val"), "needs val"), (dict(candidates=simplex(), choose_on="train"), "choose_on"),
                      (dict(val=results), "nothing else"), (dict(form="log"), "raw"), (dict(candidates=simplex(), choose_on="val", val={"joint": results["joint"]}), "val: expected results for")):
        with pytest.raises(EvaluationError, match=words): fuse(results, **kw)
    with pytest.raises(EvaluationError, match="at least one"): fuse([])
    with pytest.raises(EvaluationError, match="part of 1"): simplex(step=.3)


# --- side by side ---

def test_side_by_side_is_the_mean_cosine(streams):
    train, _ = streams
    for weights, w in ((None, np.ones(3)), ("aimclr", np.array([.6, .4, .6]))):
        x = side_by_side(train, weights)
        cos = sum(a * (u := F.normalize(t.x.double(), dim=1)) @ u.T for a, t in zip(w / w.sum(), train.values()))
        np.testing.assert_allclose(x.x.double() @ x.x.double().T, cos, atol=1e-6)
    assert x.x.shape == (160, 8 + 12 + 16) and x.stream == "joint+motion+bone" and x.names == train["joint"].names
    with pytest.raises(EvaluationError, match="another order"): side_by_side({"joint": train["joint"], "bone": train["bone"].subset(np.arange(159, -1, -1))})


def test_it_agrees_with_what_the_training_monitor_does():
    "The monitor of `pretrain` puts unit rows side by side, too."
    from skelnb.train.pretrain import knn_monitor
    data = load("synthetic-small", frames=25)
    train, test = data.split("xsub")
    test = test.subset(range(0, len(test), 20))
    class Move(nn.Module):
        def __init__(self, k): super().__init__(); self.k = nn.Parameter(torch.tensor(k))
        def forward(self, x): return torch.cat([x.std(2).flatten(1), self.k * x.mean(2).flatten(1)], 1)
    class Method(nn.Module):
        def __init__(self): super().__init__(); self.encoders = nn.ModuleDict({"joint": Move(.2), "bone": Move(.1)})
    method = Method()
    a, b = (side_by_side(stream_features(method, d)) for d in (train, test))
    assert abs(knn(None, a, b).accuracy - knn_monitor(train, test)(method, 1)["knn"]) < 1.5 / len(test)


# --- heads trained jointly ---

def test_one_stream_alone_is_linear(streams):
    train, test = streams
    a = linear(None, train["joint"], test["joint"], **QUICK, val=test["joint"], standardise=True)
    b = joint_linear(None, {"joint": train["joint"]}, {"joint": test["joint"]}, **QUICK, val={"joint": test["joint"]}, standardise=True)
    assert torch.equal(a.scores, b.scores) and a.history == b.history and (a.last, a.best, a.best_on) == (b.last, b.best, b.best_on)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_joint_heads_in_plain_float64(streams, reduce):
    "The same descent, written out by hand: softmax minus one-hot, a head at a time."
    train, test = streams
    got = joint_linear(None, train, test, reduce=reduce, seed=3, batch_size=32, **QUICK)
    g = torch.Generator().manual_seed(3)
    W = [(torch.randn(5, t.x.shape[1], generator=g) * .02).double().numpy() for t in train.values()]; B = [np.zeros(5) for _ in W]
    X, Y, scale = [t.x.double().numpy() for t in train.values()], np.eye(5)[train["joint"].y], 1 if reduce == "sum" else 1 / 3
    VW, VB = [0 * w for w in W], [0 * b for b in B]
    for epoch in range(1, 9):
        lr = .5 * (.1 if epoch > 6 else 1)
        for index in torch.randperm(160, generator=g).split(32):
            i = index.numpy(); z = scale * sum(x[i] @ w.T + b for x, w, b in zip(X, W, B)); p = np.exp(z - z.max(1, keepdims=True)); p /= p.sum(1, keepdims=True)
            d = scale * (p - Y[i]) / len(i)
            for m in range(3):
                VW[m] = .9 * VW[m] + d.T @ X[m][i]; VB[m] = .9 * VB[m] + d.sum(0); W[m] = W[m] - lr * VW[m]; B[m] = B[m] - lr * VB[m]
    want = scale * sum(t.x.double().numpy() @ w.T + b for t, w, b in zip(test.values(), W, B))
    np.testing.assert_allclose(got.scores, want, rtol=2e-3, atol=2e-3)
    assert got.accuracy == pytest.approx(np.mean(want.argmax(1) == test["joint"].y.numpy()), abs=1 / 120)


def test_joint_heads_reach_what_scikit_learn_reaches():
    train, test = ({s: table(10 * k + i, D=8, spread=2.5, stream=s) for i, s in enumerate(STREAMS)} for k in (0, 1))
    ours = joint_linear(None, train, test, epochs=60, lr=.05, drop=50)
    x, t = (np.concatenate([f.x for f in part.values()], 1) for part in (train, test))
    theirs = LogisticRegression(C=1e4, max_iter=2000).fit(x, train["joint"].y).score(t, test["joint"].y)
    assert abs(ours.last - theirs) < .05


def test_joint_heads_of_networks_and_what_they_refuse(streams):
    train, test = streams
    data = load("synthetic-small", frames=25); part = data.split("xsub")[0]; some = part.subset(range(0, len(part), 4))
    f = lambda x: x.std(2).flatten(1)
    r = joint_linear({"joint": f, "motion": f}, some, some, epochs=2)
    assert r.settings["streams"] == ["joint", "motion"] and len(r.y) == len(some) and r.names[0] == str(some.meta.name.iloc[0])
    assert joint_linear(f, some, some, streams=("bone",), epochs=1).settings["streams"] == ["bone"]
    for call, words in ((lambda: joint_linear(f, some, some), "say which"), (lambda: joint_linear(None, train, test, epochs=0), "at least 1"), (lambda: joint_linear(None, train, test, reduce="max"), "sum.*mean"),
                        (lambda: joint_linear(None, train, {"joint": test["joint"]}), "test has the streams joint"), (lambda: joint_linear(None, train, {**test, "bone": test["joint"]}), "widths"),
                        (lambda: joint_linear(None, train, test, lr=1e38), "loss is")):
        with pytest.raises(EvaluationError, match=words): call()
    h = Heads([2, 3], 4, torch.Generator().manual_seed(0), "mean")
    assert torch.allclose(h(torch.ones(1, 5)), (h.layers[0](torch.ones(1, 2)) + h.layers[1](torch.ones(1, 3))) / 2)


# --- retrieval ---

@pytest.mark.parametrize("kind", ["floats", "ties"])
def test_average_precision_is_scikit_learns(kind):
    g = torch.Generator().manual_seed(0)
    s = torch.rand(60, 90, generator=g) if kind == "floats" else torch.randint(0, 6, (60, 90), generator=g).float()
    relevant = torch.rand(60, 90, generator=g) < torch.linspace(.02, .9, 60)[:, None]
    got, there = average_precision(s, relevant), relevant.any(1)
    np.testing.assert_allclose(got[there], [average_precision_score(r, v) for r, v in zip(relevant[there].numpy(), s[there].numpy())], atol=2e-7)
    assert got[~there].isnan().all()


def by_hand(q, g, yq, yg, ks, skip=None):
    "Retrieval in plain loops."
    q, g = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q.double().numpy(), g.double().numpy()))
    ap, hit = [], []
    for i in range(len(q)):
        keep = [j for j in range(len(g)) if skip is None or not skip(i, j)]
        order = sorted(keep, key=lambda j: -float(q[i] @ g[j])); r = [yg[j] == yq[i] for j in order]
        ap.append(np.mean([sum(r[:k + 1]) / (k + 1) for k in range(len(r)) if r[k]])); hit.append([any(r[:k]) for k in ks])
    return np.mean(ap), np.mean(hit, 0)


def test_retrieval_in_plain_loops():
    a, b = table(0, n=60), table(1, n=40)
    for r, want in ((retrieval(None, a, b), by_hand(b.x, a.x, b.y.tolist(), a.y.tolist(), (1, 5, 10))),
                    (retrieval(None, a), by_hand(a.x, a.x, a.y.tolist(), a.y.tolist(), (1, 5, 10), lambda i, j: i == j)),
                    (retrieval(None, a, b, apart=(np.arange(60) % 3, np.arange(40) % 3), chunk=50), by_hand(b.x, a.x, b.y.tolist(), a.y.tolist(), (1, 5, 10), lambda i, j: i % 3 == j % 3))):
        assert r.map == pytest.approx(want[0], abs=1e-6) and list(r.recall.values()) == pytest.approx(list(want[1]))
        assert "chance" in repr(r) and "<table" in r._repr_html_()
    assert retrieval(None, a, a).settings["leave one out"] and (retrieval(None, a).ranked == 59).all()
    assert retrieval(None, a, b, k=1).recall[1] == knn(None, a, b, k=1).accuracy
    per = r.per_class()
    assert per["queries"].sum() == 40 and abs((per["average precision"] * per["queries"]).sum() / 40 - r.map) < 1e-9


def test_chance_is_what_random_orders_give():
    g = torch.Generator().manual_seed(0)
    y = torch.tensor([0] * 9 + [1] * 3 + [2] * 18)
    s = torch.rand(20000, 30, generator=g)
    for c in range(3):
        table_ = retrieval(None, Features(torch.rand(30, 4), y), Features(torch.rand(3, 4), [c] * 3), k=(1, 4)).table()
        relevant = (y == c).expand(20000, 30)
        assert table_.chance["mean average precision"] == pytest.approx(float(average_precision(s, relevant).mean()), abs=.005)
        first = s.masked_fill(~relevant, -1).amax(1, keepdim=True)
        assert table_.chance["recall at 4"] == pytest.approx(float(((s > first).sum(1) < 4).double().mean()), abs=.012)


def test_a_collapsed_encoder_is_not_lucky():
    y = torch.arange(50).sort().values % 5
    r = retrieval(None, Features(torch.ones(50, 3), y.sort().values), Features(torch.ones(20, 3), torch.arange(20) % 5))
    assert r.recall[1] == 0 and r.map == pytest.approx(.2)


def test_retrieval_of_data_and_what_it_refuses():
    data = load("synthetic-small", frames=25)
    some = data.subset(range(0, len(data), 40))
    f = lambda x: x.std(2).flatten(1)
    r, s = retrieval(f, some), retrieval(f, some, apart="subject")
    who = some.meta.subject.to_numpy()
    assert (s.ranked.numpy() == [(who != w).sum() for w in who]).all() and r.settings["stream"] == "joint" and s.settings["apart"] == "subject"
    a, b = table(0, n=60), table(1, n=40)
    lost = retrieval(None, a.subset(a.y != 2), b)
    assert lost.map == pytest.approx(float(lost.ap[b.y != 2].mean())) and "8 have no clip of their class" in repr(lost) and lost.per_class().loc["c", "queries"] == 0
    for call, words in ((lambda: retrieval(None, a, b, k=61), "from 1 to 60"), (lambda: retrieval(None, a, k=60), "from 1 to 59"), (lambda: retrieval(None, a, b, k=()), "k: expected"), (lambda: retrieval(None, a, b, apart="subject"), "no column"),
                        (lambda: retrieval(None, a, b, apart=([0], [0])), "60 values for the gallery and 40"), (lambda: retrieval(None, a.subset(a.y == 0), b.subset(b.y == 1), k=1), "nothing can be found"),
                        (lambda: retrieval(None, a, Features(torch.zeros(2, 5), [0, 1])), "width")):
        with pytest.raises(EvaluationError, match=words): call()


# --- clusters ---

def test_clusters_are_scikit_learns():
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    f = table(0, spread=2.)
    found, groups = clusters(f, seed=4), KMeans(5, n_init=10, random_state=4).fit_predict(F.normalize(f.x, dim=1).numpy())
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(f.y, groups)) and found["ari"] == pytest.approx(adjusted_rand_score(f.y, groups))
    p = np.histogram2d(f.y, found.labels, bins=5)[0] / len(f); h = lambda q: -(q[q > 0] * np.log(q[q > 0])).sum()
    a, b = h(p.sum(1)), h(p.sum(0))
    assert found["nmi"] == pytest.approx(2 * (a + b - h(p)) / (a + b))


@pytest.mark.outside
def test_knn_of_streams_side_by_side_against_the_authors_numbers(fixture):
    "One stream three times is that stream: the fixture's kNN must not change when its rows stand beside themselves."
    f = fixture("knn_weighted")
    names = {k: f[k] for k in f.files}
    bank, query = (Features(names[k], names[f"{k}_labels"]) for k in ("bank", "query"))
    one, three = (knn(None, side_by_side([t(bank)] * n), side_by_side([t(query)] * n), k=int(names["k"]), temperature=float(names["t"])) for n, t in ((1, lambda t: t), (3, lambda t: t)))
    top = names["top1"].ravel() if "top1" in names else names["ranking"][:, 0]
    if top.size == len(query): assert np.array_equal(one.predictions, top)
    np.testing.assert_allclose(three.scores, one.scores, atol=1e-5)
    fused = fuse([one, one, one])
    assert torch.equal(fused.predictions, one.predictions)


# --- the picture of a result ---

class Cells(HTMLParser):
    "Rows of texts of the tables of a page; complains where tags are not closed."
    def __init__(self): super().__init__(); self.rows, self.open, self.images = [], [], 0
    def handle_starttag(self, tag, attrs):
        if tag == "img": self.images += 1
        if tag in ("img", "br"): return
        self.open.append(tag)
        if tag == "tr": self.rows.append([])
        if tag in ("td", "th") and self.rows: self.rows[-1].append("")
    def handle_endtag(self, tag): assert self.open.pop() == tag
    def handle_data(self, text):
        if self.open and {"td", "th"} & set(self.open): self.rows[-1][-1] += text


def drawn(r):
    page = Cells(); page.feed(r._repr_html_()); page.close()
    assert not page.open
    return page


def test_the_drawn_matrix_is_scikit_learns():
    y = torch.randint(0, 6, (300,), generator=torch.Generator().manual_seed(0)); y[y == 4] = 0
    r = Result(torch.randn(300, 6, generator=torch.Generator().manual_seed(1)) + 2 * F.one_hot(y, 6), y, classes=[f"<b>{c}&" for c in "abcdef"], settings={"protocol": "knn", "weights": {"a": .123456}})
    rows = drawn(r).rows[1:]
    want = confusion_matrix(y, r.predictions, labels=range(6))
    got = [[int(c.replace("\u00b7", "0")) for c in row[3:]] for row in rows]
    assert got == want.tolist() and [row[0] for row in rows] == [f"<b>{c}&" for c in "abcdef"]
    assert [row[2] for row in rows] == [f"{100 * want[i, i] / want[i].sum():.1f} %" if want[i].sum() else "-" for i in range(6)]
    assert "0.1235" in r._repr_html_() and "best" not in r._repr_html_()
    assert "best" in Result(r.scores, y, best=.9, best_on="val")._repr_html_() and "chosen on val" in Result(r.scores, y, best=.9, best_on="val")._repr_html_()


@pytest.mark.parametrize("C", [1, 2, 20, 21, 60, 120, 300])
def test_pictures_of_few_and_many_classes_are_small(C):
    y = torch.randint(0, C, (5000,), generator=torch.Generator().manual_seed(0))
    r = Result(torch.randn(5000, C, generator=torch.Generator().manual_seed(1)) + 2 * F.one_hot(y, C), y)
    page = drawn(r)
    assert len(r._repr_html_()) < 300_000 and page.images == (C > 20) and "<script" not in r._repr_html_()
    if C > 20:
        import base64, io
        from PIL import Image
        from skelnb.evaluate.features import _shades
        data = r._repr_html_().split("base64,")[1].split('"')[0]
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), _shades(r.confusion().to_numpy()))
        first = page.rows[1]; counts = r.confusion().to_numpy().copy(); np.fill_diagonal(counts, 0)
        assert first[2].startswith(f"{counts.max()} of ") and counts[int(first[0]), int(first[1])] == counts.max()


def test_the_room_and_its_pictures_need_no_widgets():
    code = """
import sys
for name in ("plotly", "ipywidgets", "IPython", "anywidget", "traitlets", "matplotlib", "PIL"): sys.modules[name] = None
import torch
from skelnb.evaluate import fuse, joint_linear, retrieval, side_by_side, Features, Result
y = torch.arange(30) % 3
r = Result(torch.randn(30, 3), y, settings={"protocol": "x"})
assert "<table" in fuse({"joint": r, "bone": r})._repr_html_() and "chance" in repr(retrieval(None, Features(torch.randn(30, 4), y)))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
