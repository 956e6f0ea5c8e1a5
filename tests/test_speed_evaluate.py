"""What makes evaluation fast leaves its results alone: neighbours from bf16 candidates, absent persons computed once, features in bf16."""

import numpy as np
import pytest
import torch

from skelnb.data.dataset import SkeletonData
from skelnb.encoders.core import ENCODERS, create_encoder
from skelnb.evaluate import EvaluationError, Features, features, knn
from skelnb.evaluate.features import calibrate
from skelnb.evaluate.knn import _largest, _neighbours, neighbours


def draw(n, D, seed=0):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


# the largest of a row --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("B", [15, 16, 63, 640, 1283, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_levels_find_what_topk_finds(B, dtype):
    s = draw(50, B).to(dtype)
    for k in (1, 7, min(B, 20)):
        value, at = _largest(s, k)
        assert torch.equal(value, s.topk(k, dim=1).values) and torch.equal(s.gather(1, at), value)
        assert all(len(set(row.tolist())) == k for row in at)


def test_two_levels_survive_equal_and_negative_values():
    s = torch.full((3, 3000), -2.); s[1, 5::7] = -1.; s[2, -1] = -.5                     # the last column is in no block
    value, at = _largest(s, 20)
    assert (value[0] == -2).all() and (value[1] == -1).all() and value[2].tolist() == [-.5] + [-2.] * 19 and at[2, 0] == 2999
    assert torch.equal(s.gather(1, at), value) and all(len(set(row.tolist())) == 20 for row in at)


# bf16 candidates -------------------------------------------------------------------------------------------------

def copies(q, b):
    "Near-duplicates by the dozen: the k-th neighbour has rivals that bf16 cannot tell from it."
    few = b[:40].repeat_interleave(50, 0)
    return few[:200:3] + 1e-3 * draw(67, b.shape[1], 3), few + 1e-3 * draw(len(few), b.shape[1], 4)


HARD = {"random": lambda q, b: (q, b),
        "far from the origin": lambda q, b: (q + 30, b + 30),
        "tiny spread": lambda q, b: (1e-3 * q + 1, 1e-3 * b + 1),
        "a few directions": lambda q, b: (q[:, :3] @ draw(3, 48, 5) + .01 * q, b[:, :3] @ draw(3, 48, 5) + .01 * b),
        "near-duplicates": copies,
        "sparse, after a ReLU": lambda q, b: ((q - 1).relu(), (b - 1).relu()),
        "very unequal columns": lambda q, b: (q * torch.logspace(-6, 3, 48), b * torch.logspace(-6, 3, 48)),
        "one row far away": lambda q, b: (q, torch.cat([b[:-1] + 5, -100 * b[-1:]])),
        "opposite": lambda q, b: (q.abs(), -b.abs())}


@pytest.mark.parametrize("k", [1, 20, 150])
@pytest.mark.parametrize("kind", HARD)
def test_bf16_candidates_give_the_neighbours_of_float32(kind, k):
    q, b = HARD[kind](draw(100, 48), draw(2000, 48, 1))
    value, at = neighbours(q, b, k)
    fast, found = neighbours(q, b, k, candidates="bf16")
    torch.testing.assert_close(fast, value, atol=1e-6, rtol=0)
    unit = lambda t: torch.nn.functional.normalize(t.double(), dim=1)
    exact = unit(q) @ unit(b).T
    kth = exact.topk(k, dim=1).values[:, -1:]
    assert (exact.gather(1, found) >= kth - 1e-6).all()                                  # float32 itself can do no better
    assert all(len(set(row.tolist())) == k for row in found)
    clear = (exact > kth + 1e-6).sum(1)                                                  # and whatever is clearly nearer is there
    assert ((exact.gather(1, found) > kth + 1e-6).sum(1) == clear).all()
    assert (value.diff(dim=1) <= 0).all() and (fast.diff(dim=1) <= 0).all()


def test_equal_rows_are_left_to_float32():
    b = draw(5, 32).repeat(400, 1)
    value, at, again = _neighbours(draw(30, 32, 1), b, 20, 2 ** 24, "bf16")
    assert again == 1                                                                    # nothing can be sure where 400 rows are equal
    torch.testing.assert_close(value, neighbours(draw(30, 32, 1), b)[0])
    zero = torch.zeros(2000, 32)
    assert torch.equal(neighbours(zero[:3], zero, 20, candidates="bf16")[0], torch.zeros(3, 20))


def test_every_error_is_within_its_bound():
    "The proof, checked: with the rows in doubt left as they are, those that are sure are right, even where almost none is."
    from skelnb.evaluate.knn import _by_candidates, _exact
    unit, seen = torch.nn.functional.normalize, []
    for spread in (1., .1, .03, .01, .003):
        q, b = (unit(spread * draw(n, 64, s) + draw(1, 64, 9), dim=1) for n, s in ((300, 0), (4000, 1)))
        value, at, sure = _by_candidates(q, b, 20, 100)
        right = _exact(q, b, 20, 100)[0]
        torch.testing.assert_close(value[sure], right[sure], atol=5e-7, rtol=0)
        seen.append(sure.double().mean().item())
    assert seen[0] == 1 and seen[-1] < .5


def test_most_rows_are_sure_on_features_with_groups():
    centre = draw(60, 128, 7)
    make = lambda n, seed: (centre[torch.arange(n) % 60] + .5 * draw(n, 128, seed)).relu()
    q, b = make(500, 0), make(8000, 1)
    value, at, again = _neighbours(q, b, 20, 2 ** 20, "bf16")
    assert again < .02
    torch.testing.assert_close(value, neighbours(q, b)[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("D", [1, 2, 31, 32, 33])
def test_narrow_features_and_short_chunks(D):
    q, b = draw(70, D), draw(900, D, 1)
    for k in (1, 20, 900):
        torch.testing.assert_close(neighbours(q, b, k, chunk=1000, candidates="bf16")[0], neighbours(q, b, k)[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(neighbours(q.double(), b.double(), 20, candidates="bf16")[0], neighbours(q.double(), b.double(), 20)[0], atol=1e-12, rtol=0)


def test_knn_says_how_much_was_recomputed():
    y = torch.arange(3000) % 5
    train, test = (Features(3 * torch.eye(5)[y][:, :5].repeat(1, 8) + draw(3000, 40, s), y) for s in (0, 1))
    slow, fast = knn(None, train, test), knn(None, train, test, candidates="bf16")
    torch.testing.assert_close(fast.scores, slow.scores, atol=1e-5, rtol=0)
    assert torch.equal(fast.predictions, slow.predictions)
    assert 0 <= fast.settings["recomputed"] <= 1 and "recomputed" not in slow.settings
    with pytest.raises(EvaluationError, match="'float32' or 'bf16', got 'fp8'"): knn(None, train, test, candidates="fp8")


def test_a_setting_of_the_gpu_is_put_back():
    flags = torch.backends.cuda.matmul; before = flags.allow_bf16_reduced_precision_reduction
    neighbours(draw(9, 8), draw(2000, 8, 1), candidates="bf16")
    assert flags.allow_bf16_reduced_precision_reduction == before


# features --------------------------------------------------------------------------------------------------------

def clips(n=45, T=16, two=.18, seed=0, V=25, noise=.3):
    "Ten kinds of movement; some of the clips have a second person."
    g = np.random.default_rng(seed)
    y = np.arange(n) % 10
    wave = np.sin(np.arange(T)[:, None] * (.2 + .1 * y[:, None, None]) + np.linspace(0, 3, V) * (y[:, None, None] + 1))
    x = (wave[:, None, :, :, None] + noise * g.normal(size=(n, 3, T, V, 2))).astype("f4")
    there = np.ones((n, 2), bool); there[:, 1] = g.random(n) < two
    x *= there[:, None, None, None]
    return SkeletonData(x, y, present=there)


@torch.no_grad()
def plain(encoder, data):
    "Features with every person slot computed, in one batch."
    x = torch.as_tensor(data.x)
    apart = encoder.eval().persons_apart(x)
    h = encoder.encode(apart)
    return h if encoder.together else encoder.merge(h.view(len(x), 2, -1), data.present)


SETTINGS = [(name, {}) for name in sorted(ENCODERS)] + [(name, {"pool": "present"}) for name in sorted(ENCODERS) if name != "gru"] + [("gru", {"persons_together": False}), ("gru", {"persons_together": False, "pool": "present"})]


@pytest.mark.parametrize("name, config", SETTINGS, ids=lambda v: v if isinstance(v, str) else ",".join(map(str, v)) or "default")
def test_absent_persons_are_computed_once(name, config):
    torch.manual_seed(0)
    data = clips()
    width = {} if name == "dsta" else {"width": 8}
    encoder = calibrate(create_encoder(name, "ntu25", feature_dim=16, frames=16, persons=2, **width, **config), data, batch_size=45)
    seen = []
    if not encoder.together:
        inner = encoder.encode; encoder.encode = lambda c, *a, **k: (seen.append(len(c)), inner(c, *a, **k))[1]
    want = plain(encoder, data)
    assert encoder.together or seen == [90]
    for size in (None, 7, 45):
        torch.testing.assert_close(features(encoder, data, batch_size=size).x, want, atol=1e-5, rtol=1e-5)
    assert encoder.together or seen[-1] <= int(data.present.sum()) + 2


def test_features_keep_no_graph_and_can_be_trained_on():
    f = features(create_encoder("stgcn", "ntu25", width=4, feature_dim=8), clips(12))
    assert not f.x.requires_grad and not f.x.is_inference()
    layer = torch.nn.Linear(8, 3); layer(f.x).sum().backward()
    assert layer.weight.grad.isfinite().all()


def test_bf16_features_are_close_and_answer_the_same():
    torch.manual_seed(0)
    train, test = clips(300, noise=.1), clips(200, seed=1, noise=.1)
    encoder = calibrate(create_encoder("stgcn", "ntu25", width=8, feature_dim=64, frames=16), train)
    a, b = features(encoder, train), features(encoder, test)
    a16, b16 = (features(encoder, d, precision="bf16") for d in (train, test))
    assert b16.x.dtype == torch.float32 and not torch.equal(b16.x, b.x)
    assert ((b16.x - b.x).norm(dim=1) / b.x.norm(dim=1)).max() < .03
    same = (knn(None, a16, b16).predictions == knn(None, a, b).predictions).double().mean()
    assert same >= .995, same
    with pytest.raises(EvaluationError, match="precision"): features(encoder, test, precision="half")
