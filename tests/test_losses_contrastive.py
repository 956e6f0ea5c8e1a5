"""InfoNCE, CSCL, the hierarchical loss and mining: the authors' numbers, float64 references by hand, and properties."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from skelnb.losses import (LossError, attention_drop, cmal_loss, cross_view_loss, crossclr_losses, cscl_loss, distribution_matching,
                           hierarchical_loss, hierarchical_terms, info_nce, log_distribution, mine, mining_report, nearest,
                           pseudo_label, queue_logits, sharpen, similarities, vote)

STREAMS = ("joint", "motion", "bone")
F64 = torch.float64


# --- the same losses once more, in numpy, entry by entry, from the printed equations

def units(n, d, seed, dtype=np.float64):
    a = np.random.default_rng(seed).standard_normal((n, d))
    return (a / np.sqrt((a ** 2).sum(1, keepdims=True))).astype(dtype)


def distribution(z, k, queue, t=.07):
    "p(.|z) over the key and the queue, one row at a time."
    rows = []
    for i in range(len(z)):
        e = np.array([np.exp(z[i] @ k[i] / t)] + [np.exp(z[i] @ m / t) for m in queue])
        rows.append(e / e.sum())
    return np.array(rows)


def info_nce_reference(q, k, queue, t=.07, positives=None):
    total = 0.
    for i, p in enumerate(distribution(q, k, queue, t)):
        right = [0] + ([1 + j for j in range(len(queue)) if positives[i, j]] if positives is not None else [])
        total += -np.mean([np.log(p[j]) for j in right])
    return total / len(q)


def hierarchical_reference(zs, k, queue, t, sim):
    total = 0.
    for a, b in zip(zs, zs[1:]):
        if sim in ("kl", "ce"):
            p, s = distribution(a, k, queue, t), distribution(b, k, queue, t)
            total += np.mean([(x * ((np.log(x) if sim == "kl" else 0) - np.log(y))).sum() for x, y in zip(p, s)])
        elif sim == "cosine": total += 7 * np.mean([1 - x @ y for x, y in zip(a, b)])
        else: total += 5 * np.abs(a - b).mean()
    return total


def sharpen_reference(S, k):
    out = np.eye(len(S))
    for i, row in enumerate(S):
        for j in sorted(range(len(row)), key=lambda j: -row[j])[:k]: out[i, j] = 1
    return out


def cscl_reference(matrices, Y, form):
    total = 0.
    for S in matrices:
        for i, row in enumerate(S):
            for j, s in enumerate(row):
                if form == "softmax": total -= Y[i, j] * (s - np.log(np.exp(row).sum())) / len(S)
                else:
                    p = min(max((1 + s) / 2, 1e-6), 1 - 1e-6)
                    total += -(Y[i, j] * np.log(p) + (1 - Y[i, j]) * np.log(1 - p)) / len(S) / 2
    return total


def finite_differences(f, x, h=1e-6):
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        a, b = x.copy(), x.copy()
        a[i] += h; b[i] -= h
        g[i] = (f(a) - f(b)) / (2 * h)
    return g


def tensor(a, grad=False): return torch.tensor(np.array(a), requires_grad=grad)


def mask(n, k, seed=0, p=.2): return np.random.default_rng(seed).random((n, k)) < p


# --- InfoNCE

@pytest.mark.parametrize("seed, t", [(0, .07), (1, .07), (2, .5), (3, 2.)])
@pytest.mark.parametrize("mined", [False, True])
def test_info_nce_equals_the_equation(seed, t, mined):
    q, k, queue = units(5, 4, seed), units(5, 4, seed + 9), units(7, 4, seed + 99)
    positives = mask(5, 7, seed) if mined else None
    got = info_nce(tensor(q), tensor(k), tensor(queue), t, tensor(positives) if mined else None)
    assert got.item() == pytest.approx(info_nce_reference(q, k, queue, t, positives), abs=1e-12)


@pytest.mark.parametrize("mined", [False, True])
def test_info_nce_gradient(mined):
    raw, k, queue, positives = 3 * units(4, 3, 0), units(4, 3, 1), units(6, 3, 2), mask(4, 6) if mined else None
    x = [tensor(a, True) for a in (raw, k, queue)]
    info_nce(normalize(x[0], dim=1), x[1], x[2], .3, tensor(positives) if mined else None).backward()
    f = lambda a: info_nce_reference(a / np.sqrt((a ** 2).sum(1, keepdims=True)), k, queue, .3, positives)
    np.testing.assert_allclose(x[0].grad.numpy(), finite_differences(f, raw), atol=1e-7)
    assert x[1].grad is None and x[2].grad is None, "a gradient reached the key or the queue"


def test_info_nce_by_hand():
    q = k = torch.tensor([[1., 0.]])
    queue = torch.tensor([[0., 1.], [-1., 0.]])                  # cosines 1, 0, -1; temperature 1
    e = np.exp([1., 0., -1.])
    assert info_nce(q, k, queue, 1.).item() == pytest.approx(-np.log(e[0] / e.sum()), abs=1e-6)
    both = -(np.log(e[0] / e.sum()) + np.log(e[1] / e.sum())) / 2
    assert info_nce(q, k, queue, 1., torch.tensor([[True, False]])).item() == pytest.approx(both, abs=1e-6)


def test_info_nce_properties():
    q, k, queue = (tensor(units(n, 8, s)) for n, s in ((6, 0), (6, 1), (20, 2)))
    whole = info_nce(q, k, queue)
    torch.testing.assert_close(info_nce(q[[3, 1, 0, 5, 4, 2]], k[[3, 1, 0, 5, 4, 2]], queue), whole)      # order of the batch
    torch.testing.assert_close(info_nce(q, k, queue[torch.randperm(20)]), whole)                            # order of the queue
    torch.testing.assert_close(info_nce(q, k, queue, positives=torch.zeros(6, 20, dtype=torch.bool)), whole)
    assert info_nce(q, k, torch.cat([queue, q[:1]])) > whole                                              # a harder stranger
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, dtype=F64))
    torch.testing.assert_close(info_nce(q @ rotation, k @ rotation, queue @ rotation), whole)
    same = queue[:1].expand(6, -1)                                                                        # all alike: log(1 + K)
    assert info_nce(same, same, queue[:1].expand(20, -1)).item() == pytest.approx(np.log(21))


# --- CSCL

@pytest.mark.parametrize("k", [0, 1, 2, 5, 9])
def test_sharpen_equals_sorting(k):
    S = np.random.default_rng(k).uniform(-1, 1, (9, 9))
    assert (sharpen(tensor(S), k).numpy() == sharpen_reference(S, k)).all()


@pytest.mark.parametrize("form", ["softmax", "bce"])
@pytest.mark.parametrize("seed", range(3))
def test_cscl_equals_the_equation(form, seed):
    g = np.random.default_rng(seed)
    matrices, Y = g.uniform(-1, 1, (6, 5, 5)), g.random((5, 5)) < .4
    x = [tensor(S, True) for S in matrices]
    loss = cscl_loss(x, tensor(Y), form)
    loss.backward()
    assert loss.item() == pytest.approx(cscl_reference(matrices, Y, form), abs=1e-12)
    assert loss.item() == pytest.approx(cscl_loss([x[i] for i in (3, 4, 0, 5, 2, 1)], tensor(Y.astype(float)), form).item())
    numeric = finite_differences(lambda S: cscl_reference([S, *matrices[1:]], Y, form), matrices[0])
    np.testing.assert_allclose(x[0].grad.numpy(), numeric, atol=1e-7)


def test_pseudo_labels_by_hand():
    S = torch.tensor([[.9, .8, .1], [.2, .5, .7], [.6, .1, .3]])
    S2 = torch.tensor([[.9, .1, .8], [.1, .8, .6], [.5, .2, .4]])
    yes = lambda *rows: torch.tensor(rows).bool()
    assert sharpen(S, 0).equal(torch.eye(3).bool())
    assert sharpen(S, 1).equal(yes([1, 0, 0], [0, 1, 1], [1, 0, 1]))             # row 1: 0.7 beats the diagonal and both stay
    assert sharpen(S, 2).equal(yes([1, 1, 0], [0, 1, 1], [1, 0, 1]))             # row 0: the diagonal is one of the two
    assert pseudo_label(S, S2, 2).equal(yes([1, 0, 0], [0, 1, 1], [1, 0, 1]))
    labels = [yes([1, 1], [0, 1]), yes([1, 1], [1, 1]), yes([1, 0], [1, 1])]
    assert vote(labels).all() and vote(labels, 3).equal(torch.eye(2).bool()) and vote(labels, 1).all()
    assert vote(labels[::2]).equal(torch.eye(2).bool())                          # two streams: both must agree


def test_similarities_and_their_gradient():
    p, p2, z, z2 = x = [tensor(3 * units(6, 4, s), True) for s in range(4)]
    S, S2 = similarities(*x)
    cos = lambda a, b: (a @ b / a.norm() / b.norm()).item()
    for i, j in itertools.product(range(6), repeat=2):
        assert S[i, j].item() == pytest.approx(cos(p[i], z2[j])) and S2[i, j].item() == pytest.approx(cos(p2[i], z[j]))
    label = pseudo_label(S, S2, 2)
    assert not label.requires_grad
    cscl_loss([S, S2], label).backward()
    assert z.grad is None and z2.grad is None and p.grad.abs().sum() > 0 and p2.grad.abs().sum() > 0
    soft = label.to(F64).requires_grad_()
    cscl_loss([s.detach().requires_grad_() for s in (S, S2)], soft).backward()
    assert soft.grad is None, "a gradient reached the label"


# --- the hierarchical loss

@pytest.mark.parametrize("sim", ["kl", "ce", "cosine", "l1"])
@pytest.mark.parametrize("branches", [2, 3, 4])
def test_hierarchical_equals_the_equation(sim, branches):
    zs, k, queue = [units(4, 5, s) for s in range(branches)], units(4, 5, 50), units(6, 5, 60)
    x = [tensor(z, True) for z in zs]
    fixed = [tensor(k, True), tensor(queue, True)]
    loss = hierarchical_loss(x, *fixed, .2, sim)
    assert loss.item() == pytest.approx(hierarchical_reference(zs, k, queue, .2, sim), abs=1e-12)
    terms = hierarchical_terms(x, *fixed, .2, sim)
    assert len(terms) == branches - 1 and sum(terms).item() == pytest.approx(loss.item())
    loss.backward()
    assert x[0].grad is None and all(f.grad is None for f in fixed), "a gradient reached the first teacher, the key or the queue"
    assert all(v.grad.abs().sum() > 0 for v in x[1:])
    numeric = finite_differences(lambda a: hierarchical_reference([zs[-2], a], k, queue, .2, sim), zs[-1])
    np.testing.assert_allclose(x[-1].grad.numpy(), numeric, atol=1e-6)          # the last branch is a pupil only
    if sim in ("cosine", "l1"): torch.testing.assert_close(hierarchical_loss(x, sim=sim), loss)


def test_kl_and_ce_differ_by_the_teacher_s_entropy_only():
    zs, k, queue = [tensor(units(4, 5, s), True) for s in range(2)], tensor(units(4, 5, 5)), tensor(units(9, 5, 6))
    kl, ce = (hierarchical_loss(zs, k, queue, sim=s) for s in ("kl", "ce"))
    log = log_distribution(zs[0], k, queue)
    assert (ce - kl).item() == pytest.approx(-(log.exp() * log).sum(1).mean().item())
    torch.testing.assert_close(*(torch.autograd.grad(v, zs[1])[0] for v in (kl, ce)))
    assert hierarchical_loss([zs[0], zs[0]], k, queue).item() == pytest.approx(0., abs=1e-12)


# --- mining

def test_nearest_equals_sorting():
    q, q2, queue = units(5, 6, 0), units(5, 6, 1), units(30, 6, 2)
    for k in (1, 3):
        expect = [[j in np.argsort(-(queue @ row))[:k] for j in range(30)] for row in q]
        assert (nearest(tensor(q), tensor(queue), k).numpy() == expect).all()
    union = mine([tensor(q), tensor(q2)], tensor(queue))
    assert union.equal(nearest(tensor(q), tensor(queue)) | nearest(tensor(q2), tensor(queue))) and not union.requires_grad


def test_mining_report():
    positives = torch.tensor([[True, True, False, False], [False, False, True, True]])
    y, queue_y = torch.tensor([0, 1]), torch.tensor([0, 0, 1, 5])
    assert mining_report(positives, y, queue_y) == {"self": 0, "same": .75, "other": .25}
    got = mining_report(positives, y, queue_y, torch.tensor([7, 8]), torch.tensor([7, 1, 2, 3]))
    assert got == {"self": .25, "same": .5, "other": .25}
    assert sum(mining_report(~positives & False, y, queue_y).values()) == 0


def test_distribution_matching_equals_the_equation():
    z, a, b, k, queue = units(4, 5, 0), units(4, 5, 1), units(4, 5, 2), units(4, 5, 3), units(8, 5, 4)
    x = [tensor(v, True) for v in (z, a, b, k, queue)]
    loss = distribution_matching(x[0], x[1:3], *x[3:])
    p, pa, pb = (distribution(v, k, queue) for v in (z, a, b))
    assert loss.item() == pytest.approx(-(p * np.log(pa) + p * np.log(pb)).sum(1).mean() / 2, abs=1e-12)
    loss.backward()
    assert x[0].grad is None and x[3].grad is None and x[4].grad is None and x[1].grad.abs().sum() > 0 < x[2].grad.abs().sum()


def drop_reference(x, keep=.7, eps=1e-4):
    n, c, t, v = x.shape
    a = np.zeros_like(x)
    for i, j in np.ndindex(n, c):
        d = (x[i, j] - x[i, j].mean()) ** 2
        a[i, j] = 1 / (1 + np.exp(-(d / (4 * (d.sum() / (t * v - 1) + eps)) + .5)))
    joint = np.array([[a[i, :, :, j].mean() < keep for j in range(v)] for i in range(n)]).astype(float)
    y = x * joint[:, None, None] * joint.size / joint.sum()
    cell = (a < keep).astype(float)
    return y * cell * cell.size / cell.sum()


@pytest.mark.parametrize("keep", [.68, .69, .7, .9])
def test_attention_drop_equals_the_rule(keep):
    x = np.random.default_rng(0).standard_normal((3, 4, 6, 5))
    t = tensor(x, True)
    y = attention_drop(t, keep)
    np.testing.assert_allclose(y.detach().numpy(), drop_reference(x, keep), atol=1e-12)
    y.sum().backward()
    np.testing.assert_allclose((t.grad * t).detach().numpy(), y.detach().numpy(), atol=1e-12)      # scaled, and nothing through the mask


def cross_reference(q, k, queue, h, hq, t, topk, context):
    total = 0.
    for i in range(len(q)):
        own, seen = queue @ q[i], hq @ h[i]
        logits = np.concatenate([[q[i] @ k[i]], own, own * seen if context else []]) / t
        found = np.argsort(-seen)[:topk]
        right = [0, *(1 + found), *(1 + len(own) + found if context else [])]
        total += -np.mean([logits[j] - np.log(np.exp(logits).sum()) for j in right])
    return total / len(q)


@pytest.mark.parametrize("context", [True, False])
@pytest.mark.parametrize("topk", [1, 3])
def test_cross_view_equals_the_equation(context, topk):
    arrays = [units(n, 5, s) for s, n in enumerate((4, 4, 9, 4, 9))]
    x = [tensor(a, True) for a in arrays]
    loss = cross_view_loss(*x, .2, topk, context)
    assert loss.item() == pytest.approx(cross_reference(*arrays, .2, topk, context), abs=1e-12)
    loss.backward()
    assert all(x[i].grad is None for i in (1, 2, 4)), "a gradient reached the key or a queue"
    for i in (0, 3):
        numeric = finite_differences(lambda a: cross_reference(*(a if j == i else b for j, b in enumerate(arrays)), .2, topk, context), arrays[i])
        np.testing.assert_allclose(0 if x[i].grad is None else x[i].grad.numpy(), numeric, atol=1e-7)


# --- all of them: finite, falling, loud about bad input

def losses():
    "name -> function of raw rows (4 of (N,D)) and a queue."
    u = lambda x: normalize(x, dim=1)
    stage = lambda form: lambda a, b, c, d, m: cscl_loss(s := similarities(a, b, c, d), pseudo_label(*s, 2), form)
    return {
        "info_nce": lambda a, b, c, d, m: info_nce(u(a), u(c), m),
        "mined": lambda a, b, c, d, m: info_nce(u(a), u(c), m, positives=mine([u(a), u(b)], m)),
        **{sim: lambda a, b, c, d, m, sim=sim: hierarchical_loss([u(c), u(a), u(b)], u(d), m, sim=sim) for sim in ("kl", "ce", "cosine", "l1")},
        "softmax": stage("softmax"), "bce": stage("bce"),
        "matching": lambda a, b, c, d, m: distribution_matching(u(c), [u(a), u(b)], u(d), m),
        "crossclr": lambda a, b, c, d, m: sum(crossclr_losses({"x": u(a), "y": u(b)}, {"x": u(c), "y": u(d)}, {"x": m, "y": m.roll(1, 1)}).values()),
    }


@pytest.mark.parametrize("name", losses())
@pytest.mark.parametrize("scale", [1e-6, 1., 1e10])
def test_finite_under_extreme_inputs(name, scale):
    x = [(tensor(units(6, 4, s, np.float32)) * scale).requires_grad_() for s in range(4)]
    same = x[:1] + [(v * x[0].detach().sign().prod()).detach().requires_grad_() for v in x[:1]] * 3           # all equal or opposite
    for rows in (x, same):
        value = losses()[name](*rows, torch.eye(4))
        value.backward()
        assert value.isfinite() and all(r.grad.isfinite().all() for r in rows if r.grad is not None)


@pytest.mark.parametrize("temperature", [1e-5, 1e-3, 1e3, 1e6])
def test_finite_at_extreme_temperatures(temperature):
    q, k, queue = (tensor(units(n, 8, s, np.float32)).requires_grad_() for n, s in ((6, 0), (6, 1), (20, 2)))
    for loss in (info_nce(q, k, queue, temperature), hierarchical_loss([k, q], k, queue, temperature), distribution_matching(k, [q], k, queue, temperature)):
        grad, = torch.autograd.grad(loss, q)
        assert loss.isfinite() and grad.isfinite().all()


@pytest.mark.parametrize("name", losses())
def test_loss_falls_under_its_own_gradient(name):
    f, m = losses()[name], tensor(units(30, 8, 77))
    x = [tensor(units(12, 8, s), True) for s in range(4)]
    with torch.no_grad():
        S = similarities(*x)
        label, found = pseudo_label(*S, 2), mine([normalize(v, dim=1) for v in x[:2]], m)
    if name in ("softmax", "bce"): f = lambda a, b, c, d, m: cscl_loss(similarities(a, b, c, d), label, name)        # labels stand still
    if name == "mined": f = lambda a, b, c, d, m: info_nce(normalize(a, dim=1), normalize(c, dim=1), m, positives=found)
    if name == "crossclr": f = lambda a, b, c, d, m: cross_view_loss(normalize(a, dim=1), normalize(c, dim=1), m, normalize(d, dim=1).detach(), m)
    optimiser, values = torch.optim.SGD(x[:2], lr=.02), []
    for _ in range(100):
        loss = f(*x, m)
        optimiser.zero_grad(); loss.backward(); optimiser.step()
        values.append(loss.item())
    assert values[-1] < values[0] - .02 * abs(values[0])
    if name in ("info_nce", "softmax", "bce", "mined", "crossclr"): assert max(np.diff(values)) < 1e-9


def test_half_precision_is_widened():
    q, k, queue = (tensor(units(n, 16, s, np.float32)).bfloat16() for n, s in ((6, 0), (6, 1), (20, 2)))
    assert info_nce(q, k, queue).dtype == torch.float32
    torch.testing.assert_close(info_nce(q, k, queue), info_nce(q.float(), k.float(), queue.float()))
    wide = [tensor(units(n, 16, s, np.float32)) for n, s in ((6, 0), (6, 1), (20, 2))]
    with torch.autocast("cpu", torch.bfloat16): inside = info_nce(*wide), hierarchical_loss(wide[:2], wide[0], wide[2]), cscl_loss(similarities(*wide[:2], *wide[:2]), torch.eye(6))
    outside = info_nce(*wide), hierarchical_loss(wide[:2], wide[0], wide[2]), cscl_loss(similarities(*wide[:2], *wide[:2]), torch.eye(6))
    for a, b in zip(inside, outside): torch.testing.assert_close(a, b)


def test_a_row_without_a_direction_is_told_apart_from_a_dead_network():
    "An empty clip's row of zeros is like nothing: cosine 0 with all; its loss is log(1+K), and no gradient is NaN."
    q, k, queue = (tensor(units(n, 8, s)) for n, s in ((4, 0), (4, 1), (9, 2)))
    k[2] = q[2] = 0
    q.requires_grad_()
    loss = info_nce(q, k, queue)
    loss.backward()
    rest = [i for i in range(4) if i != 2]
    torch.testing.assert_close(4 * loss, 3 * info_nce(q[rest], k[rest], queue) + np.log(10))
    assert q.grad.isfinite().all()


U = tensor(units(4, 8, 0))
QUEUE = tensor(units(9, 8, 1))
BAD = {
    "not unit": (lambda: info_nce(3 * U, U, QUEUE), "length 1 in q"),
    "key not unit": (lambda: info_nce(U, 2 * U, QUEUE), "length 1 in k"),
    "queue not unit": (lambda: info_nce(U, U, 2 * QUEUE), "length 1 in queue"),
    "queue of zeros": (lambda: info_nce(U, U, 0 * QUEUE), "all rows of queue are zero"),
    "nan": (lambda: info_nce(U * torch.nan, U, QUEUE), "q holds NaN"),
    "queue transposed": (lambda: info_nce(U, U, QUEUE.T.contiguous()), r"try queue\.T"),
    "empty queue": (lambda: info_nce(U, U, QUEUE[:0]), "non-empty"),
    "two shapes": (lambda: info_nce(U, U[:3], QUEUE), "one shape"),
    "temperature": (lambda: info_nce(U, U, QUEUE, 0.), "temperature"),
    "positives": (lambda: info_nce(U, U, QUEUE, positives=torch.ones(4, 9)), "bool"),
    "positives shape": (lambda: info_nce(U, U, QUEUE, positives=torch.ones(4, 8).bool()), r"\(4, 9\)"),
    "branches": (lambda: hierarchical_loss([U], U, QUEUE), "two branches"),
    "sim": (lambda: hierarchical_loss([U, U], U, QUEUE, sim="l2"), "l2"),
    "no queue": (lambda: hierarchical_loss([U, U]), "queue"),
    "cosine not unit": (lambda: hierarchical_loss([U, 2 * U], sim="cosine"), "length 1"),
    "k": (lambda: sharpen(torch.eye(3), 4), "batch size 3"),
    "k negative": (lambda: sharpen(torch.eye(3), -1), "batch size 3"),
    "not square": (lambda: sharpen(torch.ones(3, 4)), "square"),
    "label size": (lambda: cscl_loss([torch.eye(3)], torch.eye(4)), "square"),
    "form": (lambda: cscl_loss([torch.eye(3)], torch.eye(3), "mse"), "mse"),
    "no matrices": (lambda: cscl_loss([], torch.eye(3)), "at least one"),
    "too few voters": (lambda: vote([torch.eye(3)]), "at_least"),
    "no voters": (lambda: vote([]), "square"),
    "neighbours": (lambda: nearest(U, QUEUE, 10), "length of the queue 9"),
    "no views": (lambda: mine([], QUEUE), "features"),
    "keep": (lambda: attention_drop(torch.ones(1, 2, 3, 4), .5), "0.6225"),
    "map": (lambda: attention_drop(torch.ones(2, 3, 4)), "feature map"),
    "queues": (lambda: cross_view_loss(U, U, QUEUE, U, QUEUE[:5]), "one length"),
    "streams": (lambda: crossclr_losses({"a": U}, {"a": U}, {"a": QUEUE}), "streams"),
    "no others": (lambda: distribution_matching(U, [], U, QUEUE), "at least one"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_say_what_was_expected(case):
    call, words = BAD[case]
    with pytest.raises(LossError, match=words): call()


# --- the authors' numbers

def leaves(f, *names):
    return [torch.tensor(f[n], requires_grad=True) for n in names]


def close(got, expect): np.testing.assert_allclose(got.detach().numpy(), expect, atol=1e-6, rtol=1e-5)


@pytest.mark.outside
def test_released_skeletonclr(fixture):
    f = fixture("skeletonclr_infonce")
    q, k = leaves(f, "f_q", "f_k")
    queue, t = torch.tensor(f["queue"].T.copy()), float(f["temperature"])
    loss = info_nce(normalize(q, dim=1), normalize(k, dim=1), queue, t)
    loss.backward()
    close(loss, f["loss"]); close(q.grad, f["grad_f_q"])
    close(queue_logits(normalize(q, dim=1), normalize(k, dim=1), queue, t), f["logits"])
    assert k.grad is None


@pytest.mark.outside
@pytest.mark.parametrize("when", ["before", "after"])
def test_released_hiclr(fixture, when):
    f = fixture(f"hiclr_loss_{when}_mining")
    x = leaves(f, "f_q", "f_q1", "f_q2")
    zs, k, queue = [normalize(v, dim=1) for v in x], normalize(torch.tensor(f["f_k"]), dim=1), torch.tensor(f["queue"].T.copy())
    positives = mine(zs, queue, int(f["topk"])) if when == "after" else None
    info, terms = info_nce(zs[0], k, queue, positives=positives), hierarchical_terms(zs, k, queue, sim="ce")
    close(info, f["loss_info"]); close(terms[0], f["loss_h1"]); close(terms[1], f["loss_h2"])
    total = info + .5 * sum(terms)
    close(total, f["loss_total"])
    for grads in (torch.autograd.grad(total, x, retain_graph=True), torch.autograd.grad(info + .5 * hierarchical_loss(zs, k, queue), x)):
        for g, name in zip(grads, ("grad_f_q", "grad_f_q1", "grad_f_q2")): close(g, f[name])          # cross-entropy or KL: one gradient


@pytest.mark.outside
@pytest.mark.parametrize("when", ["before", "after"])
def test_released_aimclr(fixture, when):
    f = fixture(f"aimclr_loss_{when}_mining")
    x = leaves(f, "f_q", "f_extreme", "f_extreme_drop")
    zs, k, queue = [normalize(v, dim=1) for v in x], normalize(torch.tensor(f["f_k"]), dim=1), torch.tensor(f["queue"].T.copy())
    positives = mine(zs, queue, int(f["topk"])) if when == "after" else None
    total = info_nce(zs[0], k, queue, positives=positives) + distribution_matching(zs[0], zs[1:], k, queue)
    total.backward()
    close(total, f["loss_total"])
    for v, name in zip(x, ("grad_f_q", "grad_f_extreme", "grad_f_extreme_drop")): close(v.grad, f[name])


@pytest.mark.outside
def test_released_attention_drop(fixture):
    f = fixture("aimclr_simam_drop")
    close(attention_drop(torch.tensor(f["x"]), float(f["keep_prob"]), float(f["e_lambda"])), f["y"])


@pytest.mark.outside
@pytest.mark.parametrize("stage", ["stage1", "cross_context", "cross_nocontext"])
def test_released_crossclr(fixture, stage):
    f = fixture(f"crossclr_{stage}")
    x = {s: torch.tensor(f[f"f_q_{s}"], requires_grad=True) for s in STREAMS}
    q = {s: normalize(v, dim=1) for s, v in x.items()}
    k = {s: normalize(torch.tensor(f[f"f_k_{s}"]), dim=1) for s in STREAMS}
    queues = {s: torch.tensor(f[f"queue_{s}"].T.copy()) for s in STREAMS}
    if stage == "stage1": got = {s: info_nce(q[s], k[s], queues[s]) for s in STREAMS}
    else: got = crossclr_losses(q, k, queues, topk=int(f["topk"]), context=bool(f["context"]))
    sum(got.values()).backward()
    for s in STREAMS:
        close(got[s], f[f"loss_{s}"]); close(x[s].grad, f[f"grad_{s}"])


@pytest.mark.outside
@pytest.mark.parametrize("name", ["top2_lamb10", "top1_lamb10", "top2_lamb1"])
def test_released_cscl(fixture, name):
    f = fixture(f"acl_cscl_ref_{name}")
    x = {s: leaves(f, *(f"{part}_{s}" for part in ("p", "pp", "z", "zp"))) for s in STREAMS}
    S = {s: similarities(*v) for s, v in x.items()}
    labels = {s: pseudo_label(*v, int(f["topk"])) for s, v in S.items()}
    label = vote(labels.values())
    for s in STREAMS:
        close(S[s][0], f[f"S_{s}"]); close(S[s][1], f[f"Sp_{s}"])
        assert (labels[s].numpy() == f[f"label_{s}"]).all()
    assert (label.numpy() == f["vote_label"]).all()
    total = sum(cmal_loss(*v) for v in x.values()) + float(f["lamb"]) * cscl_loss([m for s in STREAMS for m in S[s]], label)
    total.backward()
    close(total, f["total_loss"])
    for s in STREAMS:
        close(x[s][0].grad, f[f"grad_p_{s}"]); close(x[s][1].grad, f[f"grad_pp_{s}"])
        assert x[s][2].grad is None and x[s][3].grad is None


@pytest.mark.outside
def test_float64_cscl(fixture):
    f = fixture("acl_numpy64")
    x = {s: leaves(f, *(f"{part}_{s}" for part in ("p", "pp", "z", "zp"))) for s in STREAMS}
    S = {s: similarities(*v) for s, v in x.items()}
    labels = [pseudo_label(*v, int(f["k"])) for v in S.values()]
    matrices = [m for v in S.values() for m in v]
    for s, label in zip(STREAMS, labels):
        np.testing.assert_allclose(S[s][0].detach(), f[f"S_{s}"], atol=1e-12)
        np.testing.assert_allclose(S[s][1].detach(), f[f"Sp_{s}"], atol=1e-12)
        assert (label.numpy() == f[f"label_{s}"]).all()
    assert (vote(labels).numpy() == f["vote_at_least_2"]).all() and (vote(labels, 3).numpy() == f["vote_all_3"]).all()
    soft, bce = cscl_loss(matrices, vote(labels)), cscl_loss(matrices, vote(labels), "bce")
    assert soft.item() / 2 == pytest.approx(float(f["cscl_ce_softmax_row"]), abs=1e-10)               # theirs carries the half
    assert bce.item() == pytest.approx(float(f["cscl_bce_half_row"]), abs=1e-10)
    p = x["joint"][0]
    # their finite differences carry the half for both
    np.testing.assert_allclose(torch.autograd.grad(soft / 2, p, retain_graph=True)[0], f["grad_ce_softmax_row_p_joint"], atol=1e-6)
    np.testing.assert_allclose(torch.autograd.grad(bce, p)[0], f["grad_bce_half_row_p_joint"], atol=1e-6)
    total = sum(cmal_loss(*v).item() for v in x.values())
    assert total + 10 * soft.item() == pytest.approx(float(f["stage2_total_code_style"]), abs=1e-9)
    assert total + 10 * bce.item() == pytest.approx(float(f["stage2_total_paper_style_half"]), abs=1e-9)
