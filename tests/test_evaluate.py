"""The protocols: against the authors' numbers, independent float64 code, scikit-learn, and what must be refused."""

import importlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from skelnb.evaluate import EvaluationError, Features, Result, clusters, features, knn, linear, majority, nearest_neighbour, retrieval
from skelnb.evaluate.features import pick_encoder
from skelnb.evaluate.knn import neighbours, vote
from skelnb.skeleton import NTU25


class Clips:
    "The little of a SkeletonData that a protocol may ask for."
    skeleton, classes = NTU25, ("wave", "kick", "sit")

    def __init__(self, n=40, seed=0, T=8, M=1):
        g = np.random.default_rng(seed)
        self.y = g.integers(0, 3, n)
        self.x = (g.normal(size=(n, 3, T, 25, M)) + self.y[:, None, None, None, None]).astype("f4")
        self.present = np.ones((n, M), bool)
        self.meta = pd.DataFrame({"name": [f"clip{i}" for i in range(n)]})

    def __len__(self): return len(self.y)
    def batch(self, index, device="cpu"): return torch.as_tensor(self.x[index]).to(device)


class Net(nn.Module):
    "Has what is easily disturbed: dropout, running statistics, a frozen part."
    def __init__(self, D=6):
        super().__init__()
        self.norm, self.fc, self.drop = nn.BatchNorm2d(3), nn.Linear(3 * 25, D), nn.Dropout(.5)
        self.norm.eval()
    def forward(self, x):
        return self.drop(self.fc(self.norm(x[..., 0]).mean(2).flatten(1)))


def blobs(n=300, D=16, C=5, seed=0, spread=1., shift=0):
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(C, D, generator=torch.Generator().manual_seed(99)) * 2
    y = torch.randint(0, C, (n,), generator=g)
    return Features(centres[y] + spread * torch.randn(n, D, generator=g) + shift, y)


# features ------------------------------------------------------------------------------------------------------------

def test_features_do_not_depend_on_the_batch_size_and_leave_the_network_alone():
    data, net = Clips(), Net()
    modes, state = [m.training for m in net.modules()], {k: v.clone() for k, v in net.state_dict().items()}
    a, b = features(net, data, batch_size=7), features(net, data, batch_size=100)
    torch.testing.assert_close(a.x, b.x)
    assert a.x.dtype == torch.float32 and a.y.dtype == torch.int64 and not a.x.requires_grad
    assert a.names[3] == "clip3" and a.classes == data.classes and len(a) == 40
    assert [m.training for m in net.modules()] == modes
    for k, v in net.state_dict().items(): assert torch.equal(v, state[k])


def test_a_network_that_fails_is_still_put_back():
    class Broken(Net):
        def forward(self, x): raise RuntimeError("no")
    net = Broken()
    with pytest.raises(RuntimeError): features(net, Clips())
    assert net.training and net.drop.training and not net.norm.training


def test_streams_reach_the_encoder_and_dicts_and_methods_are_understood():
    data = Clips()
    seen = {}
    def spy(name):
        def encoder(x): seen[name] = x; return x.flatten(1)[:, :4]
        return encoder
    both = {"joint": spy("joint"), "motion": spy("motion")}
    features(both, data, "joint"); features(both, data, "motion")
    torch.testing.assert_close(seen["motion"][:, :, :-1], seen["joint"].diff(dim=2))
    assert (seen["motion"][:, :, -1] == 0).all()
    method = nn.Module(); method.encoders = both
    assert pick_encoder(method, "motion") is both["motion"]
    with pytest.raises(EvaluationError, match="bone.*joint, motion"): features(both, data, "bone")


def test_present_is_passed_to_an_encoder_that_takes_it():
    data = Clips(M=2); data.present[:20, 1] = False
    def encoder(x, edges=None, present=None):
        assert present.dtype == torch.bool
        return present.float()
    torch.testing.assert_close(features(encoder, data, batch_size=16).x, torch.as_tensor(data.present).float())


def test_double_precision_encoders_work():
    assert features(Net().double(), Clips()).x.dtype == torch.float32


def test_bad_data_is_refused_with_its_place():
    data = Clips(); data.x[17, 0, 2, 3] = np.nan
    with pytest.raises(EvaluationError, match="row 17.*clip17"): features(Net(), data)
    with pytest.raises(EvaluationError, match="empty"): features(Net(), Clips(0))
    with pytest.raises(EvaluationError, match="one row of features"): features(lambda x: x, Clips())
    with pytest.raises(EvaluationError, match="no encoder"): knn(None, Clips(), Clips())
    with pytest.raises(EvaluationError, match="does not fit 2 classes"): Features(torch.zeros(3, 2), torch.tensor([0, 1, 2]), classes=("a", "b"))
    with pytest.raises(EvaluationError, match="differ in width"): knn(None, blobs(D=4), blobs(D=5))
    with pytest.raises(EvaluationError, match="NaN"): nearest_neighbour(data, Clips())


class Headed(nn.Module):
    "A network with a projector behind its encoder; what it does when called is its own affair."
    def __init__(self):
        super().__init__()
        self.encoder, self.projector = Net(), nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    def forward(self, x): raise RuntimeError("not asked")


@pytest.mark.parametrize("name", ["skeletonbyol", "skeletonclr", "crossclr"])
def test_the_head_is_the_projector_after_the_encoder(name):
    from skelnb.data.streams import to_stream
    from skelnb.methods import create_method
    torch.manual_seed(0)
    data, streams = Clips(), ("joint", "motion") if name == "crossclr" else ("motion",)
    encoder = lambda: type("Own", (Net,), {"feature_dim": 6})()
    method = create_method(name, encoder=encoder, streams=streams, weights="own", projection=5, **({} if name == "skeletonbyol" else {"queue": 8}))
    online, before = method.pairs["motion"].online, {k: v.clone() for k, v in method.state_dict().items()}
    modes = [m.training for m in method.modules()]
    h, z = features(method, data, "motion"), features(method, data, "motion", feature="head", batch_size=7)
    assert [m.training for m in method.modules()] == modes and all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    x = to_stream(torch.as_tensor(data.x), "motion", data.skeleton)
    online.eval()
    with torch.no_grad(): by_hand = online.encoder(x), online.projector(online.encoder(x))
    torch.testing.assert_close(h.x, by_hand[0]); torch.testing.assert_close(z.x, by_hand[1])
    assert z.x.shape == (40, 5) and (h.feature, z.feature, z.subset([1]).feature, z.normalised().feature) == ("backbone", "head", "head", "head")
    torch.testing.assert_close(features(online, data, "motion", feature="head").x, z.x)               # the network alone will do
    r = knn(method, data, data, stream="motion", feature="head", k=5)
    torch.testing.assert_close(r.scores, knn(None, z, z, k=5).scores)
    assert r.settings["feature"] == "head" == knn(None, z, z, k=5).settings["feature"] and "feature" not in knn(method, data, data, stream="motion", k=5).settings


def test_a_head_is_found_in_any_network_that_has_one_and_hears_who_is_present():
    class Told(nn.Module):
        def forward(self, x, present=None): return present.float()
    data = Clips(M=2); data.present[:20, 1] = False
    net = Headed(); net.encoder, net.projector = Told(), nn.Linear(2, 3)
    torch.testing.assert_close(features({"joint": net}, data, feature="head").x, net.projector(torch.as_tensor(data.present).float()).detach())


def test_calibrate_reaches_the_norms_of_the_head_where_it_is_asked_to():
    from skelnb.evaluate import calibrate
    net = Headed(); net.encoder.norm, norm = nn.Identity(), net.projector[1]              # one norm: each layer before it is fixed
    calibrate(net, Clips(), batch_size=20, feature="head")
    net.eval()
    with torch.no_grad(): inside = torch.cat([net.projector[0](net.encoder(torch.as_tensor(Clips().x[i:i + 20]))) for i in (0, 20)])
    torch.testing.assert_close(norm.running_mean, inside.mean(0), atol=1e-5, rtol=1e-4)


def test_a_head_that_is_not_there_is_refused_with_advice():
    data = Clips(); h, z = (features(Headed() if f == "head" else Net(4), data, feature=f) for f in ("backbone", "head"))
    with pytest.raises(EvaluationError, match=r"\.encoder and \.projector, got Net.*whole method.*feature='backbone'"): features(Net(), data, feature="head")
    with pytest.raises(EvaluationError, match="'backbone'.*or 'head'.*got 'neck'"): features(Net(), data, feature="neck")
    with pytest.raises(EvaluationError, match="got 'neck'"): knn(None, blobs(), blobs(), feature="neck")
    with pytest.raises(EvaluationError, match="there is one for: joint"): features({"joint": Headed()}, data, "bone", feature="head")
    with pytest.raises(EvaluationError, match="finished table of backbone"): knn(None, h, h, feature="head")
    with pytest.raises(EvaluationError, match="train holds outputs of the head, test of the backbone"): knn(None, z, h)
    assert knn(None, blobs(), blobs(), feature="head").settings["feature"] == "head"                  # an unknown table: its owner's word counts


def test_majority_is_the_floor():
    a, b = blobs(seed=0), blobs(seed=1)
    top = int(torch.bincount(a.y).argmax())
    assert majority(a, b).accuracy == pytest.approx((b.y == top).double().mean().item())


def test_calibrate_measures_the_data_and_changes_nothing_else():
    data, net = Clips(), Net()
    net.norm.momentum, weights = .3, [p.clone() for p in net.parameters()]
    from skelnb.evaluate import calibrate
    assert calibrate(net, data, batch_size=20) is net
    torch.testing.assert_close(net.norm.running_mean, torch.as_tensor(data.x).mean((0, 2, 3, 4)), atol=1e-5, rtol=1e-4)
    assert net.training and not net.norm.training and net.norm.momentum == .3
    for p, old in zip(net.parameters(), weights): assert torch.equal(p, old)


# Result --------------------------------------------------------------------------------------------------------------

def test_result_counts_by_hand():
    r = Result(torch.tensor([[.9, .1], [.2, .8], [.6, .4], [.5, .5]]), torch.tensor([0, 1, 1, 0]), classes=("sit", "wave"))
    assert r.accuracy == .75 == r.last == r.best
    assert r.confusion().loc["wave"].tolist() == [1, 1] and r.confusion().to_numpy().sum() == 4
    assert r.per_class()["accuracy"].tolist() == [1., .5] and r.per_class().loc["wave", "mistaken for"] == "sit"
    assert "75.00 %" in repr(r)


def test_a_class_without_test_clips_has_no_accuracy():
    r = Result(torch.eye(3)[[0, 1]], torch.tensor([0, 1]))
    assert np.isnan(r.per_class()["accuracy"].iloc[2])


# kNN -----------------------------------------------------------------------------------------------------------------

def knn_numpy(bank, labels, query, k, t, C):
    "Float64, one query at a time, full sort."
    unit = lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)
    bank, query, out = unit(np.asarray(bank, "f8")), unit(np.asarray(query, "f8")), []
    for q in query:
        s = bank @ q; near = np.argsort(-s, kind="stable")[:k]
        votes = np.zeros(C); np.add.at(votes, labels[near], np.exp(s[near] / t)); out.append(votes)
    return np.stack(out)


@pytest.mark.outside
def test_knn_fixture(fixture):
    z = fixture("knn_weighted")
    r = knn(None, Features(z["bank"], z["bank_labels"]), Features(z["query"], z["query_labels"]), k=int(z["k"]), temperature=float(z["t"]))
    assert torch.equal(r.predictions, torch.as_tensor(z["top1"]))
    assert r.accuracy == pytest.approx(float(z["acc"]), abs=1e-12)
    ours = r.scores.gather(1, torch.as_tensor(z["ranking"]))            # classes in the reference's order: our scores must fall
    assert (ours.diff(dim=1) <= 1e-7).all()
    voted = (r.scores > 0).sum(1)                                       # and the same classes got votes, in the same places
    for n, row in enumerate(r.scores.argsort(1, descending=True)):
        assert row[:voted[n]].tolist() == z["ranking"][n][:voted[n]].tolist()


@pytest.mark.parametrize("k, t", [(1, .1), (20, .1), (200, .07), (300, 1.)])
def test_knn_agrees_with_float64(k, t):
    a, b = blobs(seed=0, spread=3.), blobs(seed=1, spread=3.)
    want = knn_numpy(a.x.numpy(), a.y.numpy(), b.x.numpy(), k, t, 5)
    r = knn(None, a, b, k=k, temperature=t)
    np.testing.assert_allclose(r.scores, want / want.sum(1, keepdims=True), atol=2e-5)
    assert torch.equal(r.predictions, torch.as_tensor(want.argmax(1)))


def test_knn_is_chunked_and_scale_free_and_cannot_overflow():
    a, b = blobs(seed=0), blobs(seed=1)
    one, many = neighbours(b.x, a.x, 9), neighbours(b.x, a.x, 9, chunk=301)
    torch.testing.assert_close(one[0], many[0]); assert torch.equal(one[1], many[1])
    torch.testing.assert_close(knn(None, a, b).scores, knn(None, Features(a.x * 7, a.y), Features(b.x * .1, b.y)).scores, atol=1e-5, rtol=1e-4)
    assert knn(None, a, b, temperature=1e-3).scores.isfinite().all()


@pytest.mark.parametrize("shift", [0., 1000.])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_knn_agrees_with_scikit_learn(metric, shift):
    from sklearn.neighbors import KNeighborsClassifier
    a, b = (blobs(seed=s, spread=3., shift=shift if metric == "euclidean" else 0) for s in (0, 1))
    x, q = (f.x.double().numpy() for f in (a, b))
    far = (lambda d: np.exp((1 - d) / .5)) if metric == "cosine" else (lambda d: np.exp(-(d ** 2 - d.min() ** 2) / 2 / 4.))   # weights at the temperatures below
    theirs = lambda k, weights="uniform": KNeighborsClassifier(k, weights=weights, metric=metric, algorithm="brute").fit(x, a.y).predict_proba(q)
    answer = lambda p: torch.as_tensor(p.argmax(1))
    assert torch.equal(knn(None, a, b, k=1, metric=metric).predictions, answer(theirs(1)))
    plain = knn(None, a, b, k=20, temperature=float("inf"), metric=metric)
    np.testing.assert_allclose(plain.scores, theirs(20), atol=1e-6); assert torch.equal(plain.predictions, answer(theirs(20)))
    voted = knn(None, a, b, k=20, temperature=.5 if metric == "cosine" else 4., metric=metric)
    np.testing.assert_allclose(voted.scores, theirs(20, far), atol=1e-5)
    assert .3 < voted.accuracy < .97 and voted.settings.get("metric", "cosine") == metric


def test_euclidean_neighbours_are_those_of_a_full_sort():
    a, b = blobs(seed=0, spread=3.), blobs(seed=1, spread=3.)
    d = ((b.x[:, None].double() - a.x.double()) ** 2).sum(2)
    s, i = neighbours(b.x, a.x, 9, metric="euclidean", chunk=301)
    assert torch.equal(i, d.argsort(1)[:, :9])
    torch.testing.assert_close(s, -d.sort(1).values[:, :9] / 2)
    own, at = neighbours(a.x, a.x, 1, metric="euclidean")
    assert torch.equal(at[:, 0], torch.arange(300)) and (own <= 0).all() and own.abs().max() < 1e-9
    assert knn(None, Features(a.x * 1e15, a.y), Features(b.x * 1e15, b.y), metric="euclidean").scores.isfinite().all()
    torch.testing.assert_close(knn(None, a.normalised(), b.normalised(), metric="euclidean").scores, knn(None, a, b).scores, atol=1e-4, rtol=0)


def test_the_defaults_of_knn_are_cosine_and_backbone():
    data, net = Clips(), Headed().encoder
    one, two = knn(net, data, data, k=5), knn(net, data, data, k=5, metric="cosine", feature="backbone")
    assert torch.equal(one.scores, two.scores) and one.settings == two.settings == {"protocol": "knn", "k": 5, "temperature": .1, "stream": "joint", "bank": 40}
    unit = nn.functional.normalize(features(net, data).x, dim=1)
    s, i = (unit @ unit.T).topk(5)
    assert torch.equal(one.scores, vote(s, torch.as_tensor(data.y)[i], 3))                          # bit for bit


def test_knn_refuses_a_metric_it_does_not_know():
    with pytest.raises(EvaluationError, match="'cosine' or 'euclidean', got 'l2'"): knn(None, blobs(), blobs(), metric="l2")
    with pytest.raises(EvaluationError, match="'bf16' goes with metric='cosine'"): knn(None, blobs(), blobs(), metric="euclidean", candidates="bf16")


def test_knn_refuses_more_neighbours_than_there_are():
    with pytest.raises(EvaluationError, match="k=301.*300"): knn(None, blobs(), blobs(), k=301)
    with pytest.raises(EvaluationError, match="above 0"): vote(torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.long), 2, 0)


@pytest.mark.parametrize("protocol", [knn, linear])
def test_results_of_tables_name_their_stream(protocol):
    a, b = (Features(f.x, f.y, stream="bone") for f in (blobs(), blobs(seed=1)))
    assert protocol(None, a, b).settings["stream"] == "bone"


def test_knn_can_leave_out_the_last_batch():
    a, b = blobs(), blobs(seed=1)
    assert knn(None, a, b, drop_last=128).settings["bank"] == 256 and knn(None, a, b).settings["bank"] == 300


def test_equal_votes_go_to_the_lower_class():
    bank = Features(torch.tensor([[1., 1], [1, -1]]), torch.tensor([1, 0]))
    assert knn(None, bank, Features(torch.tensor([[1., 0]]), torch.tensor([0])), k=2).predictions.item() == 0


@pytest.mark.parametrize("budget", [2 ** 26, 5000])
def test_nearest_neighbour_on_coordinates_agrees_with_brute_force(budget):
    train, test = Clips(50, 1), Clips(30, 2)
    d = ((test.x.reshape(30, 1, -1).astype("f8") - train.x.reshape(1, 50, -1)) ** 2).sum(2)
    r = nearest_neighbour(train, test, budget=budget)
    assert r.predictions.tolist() == train.y[d.argmin(1)].tolist() and r.scores.shape == (30, 3)
    np.testing.assert_allclose(-r.scores.max(1).values, np.sqrt(d.min(1)), rtol=1e-4)


# linear --------------------------------------------------------------------------------------------------------------

def test_linear_agrees_with_logistic_regression():
    from sklearn.linear_model import LogisticRegression
    a, b = blobs(600, seed=0, spread=2.5), blobs(1000, seed=1, spread=2.5)
    sk = LogisticRegression(max_iter=2000).fit(a.x, a.y).score(b.x, b.y)
    assert .6 < sk < .97                                           # not so easy that everything agrees
    assert linear(None, a, b, lr=.1).accuracy == pytest.approx(sk, abs=.02)


def test_linear_is_seeded_and_says_what_best_is_chosen_on():
    a, b, v = blobs(seed=0, spread=3), blobs(seed=1, spread=3), blobs(100, seed=2, spread=3)
    one, two = linear(None, a, b, epochs=12, seed=3), linear(None, a, b, epochs=12, seed=3)
    assert torch.equal(one.scores, two.scores) and not torch.equal(one.scores, linear(None, a, b, epochs=12, seed=4).scores)
    assert [h["epoch"] for h in one.history] == [5, 10, 12]
    assert one.best_on == "test" and one.best == max(h["test"] for h in one.history) and one.accuracy == one.last == one.history[-1]["test"]
    r = linear(None, a, b, epochs=30, val=v)
    at = max(r.history, key=lambda h: h["val"])
    assert r.best_on == "val" and r.best == at["test"] == r.accuracy and "chosen on val" in repr(r)


def test_linear_does_not_touch_the_global_random_state():
    torch.manual_seed(0); want = torch.rand(1)
    torch.manual_seed(0); linear(None, blobs(), blobs(), epochs=1)
    assert torch.equal(torch.rand(1), want)


def test_linear_drops_the_rate_after_the_epoch_named(monkeypatch):
    module, rates = importlib.import_module("skelnb.evaluate.linear"), []
    class Spy(module.Descent):
        def __call__(self): rates.append(self.lr); super().__call__()
    monkeypatch.setattr(module, "Descent", Spy)
    linear(None, blobs(128), blobs(), epochs=4, drop=2, lr=1.)
    assert rates == pytest.approx([1, 1, .1, .1])


def test_descent_is_torchs_sgd():
    from skelnb.evaluate.linear import Descent
    torch.manual_seed(0)
    ours, theirs = nn.Linear(6, 3).double(), nn.Linear(6, 3).double()
    theirs.load_state_dict(ours.state_dict())
    sgd, descend = torch.optim.SGD(theirs.parameters(), .5, momentum=.9, weight_decay=.01), Descent(ours.parameters(), .5, .9, .01)
    for _ in range(5):
        x = torch.randn(8, 6, dtype=torch.float64)
        for net, step in ((ours, descend), (theirs, sgd.step)): net(x).square().sum().backward(); step()
        sgd.zero_grad()
        torch.testing.assert_close(ours.weight, theirs.weight)


def test_linear_that_diverges_says_so():
    with pytest.raises(EvaluationError, match="lower lr"): linear(None, Features(blobs().x * 1e30, blobs().y), blobs(), epochs=3)


# clusters ------------------------------------------------------------------------------------------------------------

def test_clusters_are_perfect_on_separate_blobs_and_nothing_on_noise():
    easy, g = blobs(spread=.05), torch.Generator().manual_seed(0)
    c = clusters(easy)
    assert c["nmi"] == pytest.approx(1) and c["ari"] == pytest.approx(1) and len(c.labels) == 300 and c == clusters(easy)
    noise = clusters(Features(torch.randn(300, 16, generator=g), torch.randint(0, 5, (300,), generator=g)))
    assert noise["nmi"] < .1 and abs(noise["ari"]) < .05
    with pytest.raises(EvaluationError, match="k=301"): clusters(easy, k=301)


def test_nmi_is_the_arithmetic_one():
    f = blobs(spread=3.); c = clusters(f, k=9)
    p = np.histogram2d(f.y.numpy(), c.labels.numpy(), bins=(5, 9))[0] / len(f)
    H = lambda q: -(q[q > 0] * np.log(q[q > 0])).sum()
    mutual = H(p.sum(0)) + H(p.sum(1)) - H(p)
    assert c["nmi"] == pytest.approx(mutual / ((H(p.sum(0)) + H(p.sum(1))) / 2))


# packaging -----------------------------------------------------------------------------------------------------------

def test_protocols_need_no_widgets():
    code = """
import sys
for name in ("anywidget", "ipywidgets", "plotly", "matplotlib", "openTSNE", "umap", "fastcore", "tqdm", "IPython"): sys.modules[name] = None
import torch
from skelnb.evaluate import Features, knn, linear, clusters, majority, nearest_neighbour, features
f = Features(torch.randn(60, 4), torch.arange(60) % 3)
for p in (knn, linear): p(None, f, f)
print(nearest_neighbour(f, f), clusters(f), majority(f, f))
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)


# ---- what cannot be meant

def _table(n=60, stream="joint", seed=0):
    g = torch.Generator().manual_seed(seed); y = torch.arange(n) % 3
    return Features(torch.randn(n, 4, generator=g) + y[:, None], y, stream=stream)


@pytest.mark.parametrize("asked, said", [(dict(epochs=0), "epochs: expected a whole number from 1, got 0"), (dict(batch_size=0), "batch_size: .* got 0"), (dict(eval_every=0), "eval_every: .* got 0"), (dict(eval_every=2.5), "eval_every"), (dict(lr=-1.), "lr: expected a rate above 0, got -1"), (dict(lr=float("nan")), "lr")])
def test_a_linear_layer_says_which_setting_cannot_be_meant(asked, said):
    with pytest.raises(EvaluationError, match=said): linear(None, _table(), _table(seed=1), **asked)


def test_a_rate_that_never_drops_is_that_of_a_drop_after_the_end():
    a, b = (linear(None, _table(), _table(seed=1), epochs=6, drop=d).scores for d in (None, 99))
    assert torch.equal(a, b)


def test_features_of_two_streams_are_not_compared():
    for protocol in (knn, linear):
        with pytest.raises(EvaluationError, match="train holds features of the joint stream, test of the motion stream"): protocol(None, _table(), _table(stream="motion"))
    assert 0 <= knn(None, _table(stream=None), _table(stream="motion")).accuracy <= 1               # nobody said which


def test_scores_that_are_no_numbers_are_no_result():
    scores = torch.zeros(5, 3); scores[2, 1] = float("nan")
    with pytest.raises(EvaluationError, match="1 of 5 clips have scores that are no numbers"): Result(scores, torch.zeros(5))


def test_zero_groups_are_not_the_usual_number():
    with pytest.raises(EvaluationError, match="k=0 groups of 60 clips"): clusters(_table(), k=0)
    assert retrieval(None, _table(), k=np.int64(3)).k == (3,)
