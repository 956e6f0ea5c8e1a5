"""The numbers of a collapse: by hand, by what they must keep, on every kind of method, and during a training."""

import math
import xml.etree.ElementTree as xml

import numpy as np
import pytest
import torch
from torch import nn

from skelnb.data import SkeletonData
from skelnb.explore import (CollapseError, CollapseRecorder, alignment, collapse_report, effective_rank, feature_deviation,
                            uniformity, watch_collapse)
from skelnb.explore.collapse import collapse_outputs, measure
from skelnb.methods import create_method
from skelnb.skeleton import NTU25
from skelnb.train.pretrain import pretrain

NUMBERS = {"alignment", "uniformity", "rank", "rank_origin", "deviation"}


def rows(n=24, d=8, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def turn(d, seed=5):
    return torch.linalg.qr(rows(d, d, seed)).Q


# --- by hand, in float64

def test_alignment_by_hand():
    a, b = torch.tensor([[3., 0.], [0., 2.], [1., 1.]]).double(), torch.tensor([[1., 0.], [5., 0.], [-2., -2.]]).double()
    torch.testing.assert_close(alignment(a, b), torch.tensor((0 + 2 + 4) / 3).double())


def test_uniformity_by_hand():
    x = torch.tensor([[2., 0.], [0., 3.], [-1., 0.]]).double()                # squared distances 2, 4, 2
    for t in (.5, 2., 7.):
        expected = math.log((2 * math.exp(-2 * t) + math.exp(-4 * t)) / 3)
        torch.testing.assert_close(uniformity(x, t).item(), expected)


def test_effective_rank_by_hand():
    x = torch.tensor([[1., 0.], [2., 0.], [3., 0.], [0., 5.]]).double()       # unit rows: three e1, one e2; singular values sqrt 3, 1
    p = np.array([3 ** .5, 1]) / (3 ** .5 + 1)
    torch.testing.assert_close(effective_rank(x, centre=False).item(), float(np.exp(-(p * np.log(p)).sum())))
    q = np.array([3, 1]) / 4
    torch.testing.assert_close(effective_rank(x, centre=False, energy=True).item(), float(np.exp(-(q * np.log(q)).sum())))
    torch.testing.assert_close(effective_rank(x).item(), 1.)                  # two places: one direction of difference


def test_deviation_by_hand():
    x = torch.tensor([[4., 0.], [0., 1.]]).double()                           # each column 1, 0: deviation 1/2, times sqrt 2
    torch.testing.assert_close(feature_deviation(x).item(), 2 ** .5 / 2)


def test_uniformity_against_a_double_loop():
    x = rows(30, 5)
    u = x / x.norm(dim=1, keepdim=True)
    pairs = [math.exp(-2 * float((u[i] - u[j]).square().sum())) for i in range(30) for j in range(30) if i != j]
    torch.testing.assert_close(uniformity(x).item(), math.log(sum(pairs) / len(pairs)))


def test_uniformity_in_blocks_is_the_same():
    x = rows(1500, 3)                                                         # more rows than a block
    u = x / x.norm(dim=1, keepdim=True)
    expected = torch.pdist(u).square().mul(-2).exp().mean().log()
    torch.testing.assert_close(uniformity(x), expected)


def test_effective_rank_against_eigenvalues():
    x = rows(40, 6)
    u = x / x.norm(dim=1, keepdim=True)
    u = u - u.mean(0)
    s = torch.linalg.eigvalsh(u.T @ u).sqrt()
    p = s / s.sum()
    torch.testing.assert_close(effective_rank(x), (-(p * p.log()).sum()).exp())


# --- properties

@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_all_rows_in_one_direction(dtype):
    x = torch.arange(1, 33)[:, None].to(dtype) * torch.tensor([[.3, -.7, .2]]).to(dtype)
    found = measure(x, x)
    exact = torch.finfo(dtype).eps
    assert found["alignment"] == 0 and -30 * exact ** 2 - 1e-12 <= found["uniformity"] <= 0 and found["deviation"] <= 4 * exact + 1e-7
    if exact < 1e-4: assert found["rank"] == 0 and found["rank_origin"] == 1  # half precision turns each row a little


def test_rows_at_right_angles():
    x = 7 * turn(12)
    torch.testing.assert_close(effective_rank(x, centre=False).item(), 12.)
    torch.testing.assert_close(effective_rank(x).item(), 11.)
    torch.testing.assert_close(uniformity(x).item(), -4.)
    torch.testing.assert_close(alignment(x, x.roll(1, 0)).item(), 2.)


def test_length_of_rows_turns_and_order_do_not_matter():
    a, b = rows(), rows(seed=1)
    scale, q, order = rows(24, 1, 3).abs() + .1, turn(8), torch.randperm(24, generator=torch.Generator().manual_seed(0))
    before = measure(a, b)
    for c, d in ((a * scale, b / scale), (a @ q, b @ q), (a[order], b[order])):
        for name, value in measure(c, d).items():
            if name == "deviation" and c.shape == a.shape and torch.equal(c, a @ q): continue     # a mean over coordinates: turns change it
            assert value == pytest.approx(before[name], abs=1e-9), name


def test_bounds_and_limits():
    for seed in range(5):
        x = rows(10, 4, seed)
        assert -8 <= uniformity(x) <= 0 and 0 <= alignment(x, rows(10, 4, seed + 9)) <= 4
        assert 1 <= effective_rank(x) <= 4 and 1 <= effective_rank(x, centre=False) <= 4 and 0 <= feature_deviation(x) <= 1
        assert effective_rank(x, energy=True) <= effective_rank(x) + 1e-12        # squares are less even
    assert effective_rank(rows(3, 50)) <= 2 + 1e-9


def test_a_row_more_of_the_same_collapses_step_by_step():
    x, centre = rows(64, 16), torch.ones(1, 16).double()
    pulled = [x + 10. ** k * centre for k in range(5)]
    for f in (feature_deviation, lambda v: -uniformity(v), lambda v: effective_rank(v, centre=False)):
        values = [f(v).item() for v in pulled]
        assert values == sorted(values, reverse=True) and values[0] > 2 * values[-1]
    assert abs(effective_rank(pulled[4]) - effective_rank(pulled[1])) < 1         # centred, it does not see it


def test_gradient_of_alignment_and_uniformity():
    x = rows(6, 3).requires_grad_()
    assert torch.autograd.gradcheck(uniformity, (x,)) and torch.autograd.gradcheck(alignment, (x, rows(6, 3, 2)))


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e20, 3e37])
def test_finite_under_extreme_input(scale):
    x = rows(dtype=torch.float32) * scale
    x[0] = 0
    assert all(math.isfinite(v) for v in measure(x, x.flip(0)).values())
    assert all(math.isfinite(v) for v in measure(torch.zeros(4, 3), torch.zeros(4, 3)).values())
    assert effective_rank(torch.zeros(4, 3)) == 0 == effective_rank(torch.zeros(4, 3), centre=False)
    assert math.isfinite(uniformity(x, 1e6))


def test_one_row():
    x = rows(1, 5)
    assert effective_rank(x) == 0 and effective_rank(x, centre=False) == 1 and feature_deviation(x) == 0
    with pytest.raises(CollapseError, match="at least 2 rows"): uniformity(x)


@pytest.mark.parametrize("call, told", [
    (lambda: alignment(rows(3, 2), rows(4, 2)), "two views of the same clips"),
    (lambda: uniformity(torch.zeros(3)), r"\(N,D\)"),
    (lambda: uniformity(torch.zeros(3, 2, dtype=torch.long)), "floating point"),
    (lambda: uniformity([[1.], [2.]]), "list"),
    (lambda: uniformity(rows(3, 2), 0), "t above 0"),
    (lambda: effective_rank(torch.tensor([[1., math.nan], [1., 2.], [math.inf, 0.]])), "2 of 3 rows .* first is row 0"),
    (lambda: feature_deviation(torch.zeros(0, 3)), "at least 1"),
])
def test_errors(call, told):
    with pytest.raises(CollapseError, match=told): call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_same_on_cuda():
    a, b = rows(), rows(seed=1)
    here, there = measure(a, b), measure(a.cuda(), b.cuda())
    assert here == pytest.approx(there, abs=1e-9)


# --- on methods

class Small(nn.Module):
    feature_dim = 32

    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.drop = nn.Linear(75, 32), nn.BatchNorm1d(32), nn.Dropout(.3)

    def forward(self, x): return self.drop(self.norm(self.linear(x.mean((2, 4)).flatten(1))).relu())


def clips(n=20, seed=0):
    g = torch.Generator().manual_seed(seed)
    return SkeletonData(torch.randn(n, 3, 8, 25, 1, generator=g), np.arange(n) % 3, skeleton=NTU25)


def make(name, **kw):
    torch.manual_seed(0)
    if name not in ("skeletonbyol", "cmal", "acl"): kw = {"queue": 32, **kw}
    if name == "aimclr": kw["drop"] = False
    if name in ("acl", "crossclr"): kw["streams"] = ("joint", "motion")
    return create_method(name, encoder=Small, **kw)


@pytest.mark.parametrize("name", ["skeletonbyol", "cmal", "acl", "skeletonclr", "aimclr", "hiclr", "crossclr"])
def test_every_method_is_measured_and_left_as_it_was(name):
    method, data = make(name), clips()
    method.pairs["joint"].online.projector.eval()                             # a mode of its own must come back
    state, modes = {k: v.clone() for k, v in method.state_dict().items()}, [m.training for m in method.modules()]
    random = torch.get_rng_state()
    found = collapse_report(method, data)
    last = "prediction" if name in ("skeletonbyol", "cmal", "acl") else "projection"
    assert set(found) == {f"{s}/{w}_{n}" for s in method.streams for w in ("feature", last) for n in NUMBERS}
    assert all(isinstance(v, float) and math.isfinite(v) for v in found.values())
    assert found == collapse_report(method, data)                             # the same views at every call
    assert found != collapse_report(method, data, torch.Generator().manual_seed(3))
    assert torch.equal(random, torch.get_rng_state()) and modes == [m.training for m in method.modules()]
    assert all(torch.equal(v, state[k]) for k, v in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())


def test_outputs_are_those_of_the_online_network():
    method, data = make("cmal", augment=lambda x, g=None: x), clips()
    net = method.pairs["joint"].online
    found = collapse_outputs(method, data, train=False)
    method.eval()
    y = net.encoder(data.batch())
    for view in (0, 1):                                                       # no augmentation: both views are the clip
        torch.testing.assert_close(found["joint/feature"][view], y)
        torch.testing.assert_close(found["joint/prediction"][view], method.predictors["joint"](net.projector(y)))
    torch.testing.assert_close(collapse_outputs(method, data, of="projection", train=False)["joint/projection"][0], net.projector(y))
    assert collapse_report(method, data, train=False)["joint/prediction_alignment"] == 0


def test_a_mode_is_back_after_an_error():
    method = make("cmal")
    bad = clips()
    method.augment = lambda x, g=None: x * math.nan
    before = {k: v.clone() for k, v in method.state_dict().items()}
    with pytest.raises(CollapseError, match="NaN"): collapse_report(method, bad)
    assert method.training and all(torch.equal(v, before[k]) for k, v in method.state_dict().items())


@pytest.mark.parametrize("call, told", [
    (lambda: collapse_report(nn.Linear(2, 2), clips()), "Linear, which has no views"),
    (lambda: collapse_report(make("cmal"), clips(), of="feature"), "'prediction' or 'projection'"),
    (lambda: collapse_report(make("cmal"), clips(1)), "two clips"),
    (lambda: CollapseRecorder(clips(1)), "two clips"),
    (lambda: watch_collapse({}), "one to six"),
    (lambda: watch_collapse({"a": 3}), "a: expected a CollapseRecorder"),
])
def test_errors_on_methods(call, told):
    with pytest.raises(CollapseError, match=told): call()


# --- during a training

def test_a_recorder_changes_nothing_and_its_numbers_are_in_the_history():
    data, val = clips(24), clips(12, 1)
    settings = dict(epochs=3, batch_size=8, lr=.05, progress=False)
    plain, watched = make("cmal"), make("cmal")
    without = pretrain(plain, data, **settings)
    recorder = CollapseRecorder(val, knn={"train": data, "val": val}, keep=True)
    recorder(watched, 0)
    history = pretrain(watched, data, monitor=recorder, monitor_every=1, **settings)
    for k, v in plain.state_dict().items(): assert torch.equal(v, watched.state_dict()[k]), k
    assert [r["loss"] for r in without] == [r["loss"] for r in history]
    assert [r["epoch"] for r in recorder.rows] == [0, 1, 2, 3] == list(recorder.outputs)
    for row, told in zip(recorder.rows[1:], history):
        assert row.items() <= told.items() and {"knn", "joint/feature_rank", "joint/prediction_deviation"} <= row.keys()
    a, b = recorder.outputs[3]["joint/prediction"]
    assert measure(a, b)["alignment"] == pytest.approx(history[-1]["joint/prediction_alignment"], abs=1e-6)
    recorder(watched, 3)                                                      # measured again: no second row
    assert [r["epoch"] for r in recorder.rows] == [0, 1, 2, 3]


def test_the_picture_is_sound_follows_and_escapes():
    nasty = "<script>&\"'"
    runs = {nasty: CollapseRecorder(clips()), "(1, 1)": CollapseRecorder(clips())}
    picture = watch_collapse(runs, untrained={"knn": .5}, epochs=4)
    empty = picture.svg()
    xml.fromstring(empty)
    shown = []
    picture.handle = type("Handle", (), {"update": lambda self, content, raw: shown.append(content["text/html"])})()
    method = make("cmal")
    for e in range(3): runs[nasty](method, e)
    assert len(shown) == 3 and len(set(shown)) == 3
    tree = xml.fromstring(shown[-1])
    texts = [t.text for t in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert nasty in texts and "predictions" in texts and f"{runs[nasty].rows[-1]['joint/prediction_deviation']:.3g}" in texts
    assert "<script" not in shown[-1]
    assert "kNN accuracy" in texts


def test_the_picture_of_a_history_and_of_queue_methods():
    method, data = make("skeletonclr"), clips(24)
    history = pretrain(method, data, epochs=2, batch_size=8, lr=.05, progress=False, monitor=CollapseRecorder(clips()), monitor_every=1)
    texts = [t.text for t in xml.fromstring(watch_collapse({"run": history}).svg()).iter("{http://www.w3.org/2000/svg}text")]
    assert "projections" in texts and "predictions" not in texts
    xml.fromstring(watch_collapse({str(i): history for i in range(6)}).svg())
