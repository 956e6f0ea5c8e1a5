"""ACL: the released code's numbers, training steps of both stages against plain tensors, and what must not move."""

import copy
import json
import pathlib
import re

import numpy as np
import pytest
import torch
from torch import nn

from skelnb.losses.byol import LossError
from skelnb.methods import ACL, CMAL, MethodError, create_method
from skelnb.skeleton import NTU25

N, T, V, M, D = 8, 6, 25, 1, 12
STREAMS = ("joint", "motion", "bone")
BONES = """1-2 2-21 3-21 4-3 5-21 6-5 7-6 8-7 9-21 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 18-17 19-18 20-19 21-21 22-23 23-8 24-25 25-12"""


class Encoder(nn.Module):
    "The smallest thing with a batch norm: mean square over frames, one linear layer."
    feature_dim = D

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(3 * V * M, D), nn.BatchNorm1d(D)

    def forward(self, x):
        return self.norm(self.linear((x * x + x).mean(2).flatten(1))).relu()


def jitter(x, generator=None):
    return x + .3 * torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def make(**kw):
    return ACL(**{"encoder": Encoder, "augment": jitter, "stage1": 1, "tau": .9, **kw})


def clips(seed=0, n=N):
    return torch.randn(n, 3, T, V, M, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- the step, once more, with nothing but tensors

def stream_of(x, stream):
    if stream == "motion": return torch.cat([x[:, :, 1:] - x[:, :, :-1], torch.zeros_like(x[:, :, :1])], 2)
    if stream == "bone":
        out = torch.zeros_like(x)
        for a, b in (pair.split("-") for pair in BONES.split()): out[:, :, :, int(a) - 1] = x[:, :, :, int(a) - 1] - x[:, :, :, int(b) - 1]
        return out
    return x


def batch_norm(w, at, x):
    "Normalises by the batch and moves the running statistics in w."
    mean, var = x.mean(0), x.var(0, unbiased=False)
    w[at + "running_mean"] = .9 * w[at + "running_mean"] + .1 * mean.detach()
    w[at + "running_var"] = .9 * w[at + "running_var"] + .1 * x.detach().var(0, unbiased=True)
    w[at + "num_batches_tracked"] = w[at + "num_batches_tracked"] + 1
    return (x - mean) / (var + 1e-5).sqrt() * w[at + "weight"] + w[at + "bias"]


def linear(w, at, x): return x @ w[at + "weight"].T + w[at + "bias"]


def head(w, at, x): return linear(w, at + "3.", batch_norm(w, at + "1.", linear(w, at + "0.", x)).clamp(min=0))


def project(w, at, x):
    x = linear(w, at + "encoder.linear.", (x * x + x).mean(2).flatten(1))
    return head(w, at + "projector.", batch_norm(w, at + "encoder.norm.", x).clamp(min=0))


def unit(a): return a / a.norm(dim=1, keepdim=True)


def squared(a, b): return ((unit(a) - unit(b)) ** 2).sum(1).mean()


def base_loss(p, p2, z, z2, base, alpha=1., beta=1.):
    if base == "byol": return squared(p, z2) + squared(p2, z)
    return alpha * squared(p, p2) - beta * (squared(p, z) + squared(p2, z2)) / 2


def top(S, k):
    "Row by row with Python's sort: the k largest, and the diagonal."
    label = np.eye(len(S), dtype=bool)
    for i, row in enumerate(S.tolist()):
        for j in sorted(range(len(row)), key=lambda j: -row[j])[:k]: label[i, j] = True
    return label


def cross_loss(outputs, k, at_least, form):
    pairs = [(unit(p) @ unit(z2).T, unit(p2) @ unit(z).T) for p, p2, z, z2 in outputs]
    label = sum((top(a, k) & top(b, k)).astype(int) for a, b in pairs) >= at_least
    Y, total = torch.tensor(label).double(), 0.
    for S in (S for pair in pairs for S in pair):
        if form == "softmax": total = total - (Y * (S.exp() / S.exp().sum(1, keepdim=True)).log()).sum(1).mean()
        else: total = total - .5 * (Y * ((1 + S) / 2).log() + (1 - Y) * ((1 - S) / 2).log()).sum(1).mean()
    return total


def reference(w, batches, streams, base="cmal", form="softmax", ema_stage2=False, lam=1., gamma=10., k=2, at_least=2, tau=.9, stage1=1,
              lr=.1, momentum=.9, decay=1e-4, alpha=1., beta=1.):
    "One batch an epoch: SGD as the papers use it, then the moving average; w is a state_dict."
    w = {n: v.detach().clone() for n, v in w.items()}
    stats = ("running_mean", "running_var", "num_batches_tracked")
    trained = [n for n in w if ".target." not in n and not n.endswith(stats)]
    speed, losses = {n: 0. for n in trained}, []
    for epoch, views in enumerate(batches, 1):
        for n in trained: w[n] = w[n].detach().requires_grad_()
        outputs = []
        for s in streams:
            x, x2 = (stream_of(v, s) for v in views)
            online, target = f"pairs.{s}.online.", f"pairs.{s}.target."
            p, p2 = (head(w, f"predictors.{s}.", project(w, online, v)) for v in (x, x2))
            outputs.append((p, p2, *(project(w, target, v).detach() for v in (x, x2))))
        loss = sum(base_loss(*o, base, alpha, beta) for o in outputs)
        if epoch > stage1: loss = lam * loss + gamma * cross_loss(outputs, k, min(at_least, len(streams)), form)
        losses.append(loss.item())
        for n, g in zip(trained, torch.autograd.grad(loss, [w[n] for n in trained], allow_unused=True)):
            speed[n] = momentum * speed[n] + (0. if g is None else g) + decay * w[n].detach()
            w[n] = w[n].detach() - lr * speed[n]
        if epoch <= stage1 or ema_stage2:
            for n in w:
                if ".target." in n and not n.endswith(stats): w[n] = tau * w[n] + (1 - tau) * w[n.replace(".target.", ".online.")]
    return losses, w


def widened(method):
    "The small starting weights of the released code hide mistakes."
    with torch.no_grad():
        for p in method.parameters(): p.mul_(10).add_(.1 * torch.randn_like(p))
        for pair in method.pairs.values():
            if pair.init == "copy": pair.copy()
    return method


def steps(method, batches, lr=.1):
    optimiser, losses = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=lr, momentum=.9, weight_decay=1e-4), []
    for epoch, views in enumerate(batches, 1):
        method.start_epoch(epoch)
        loss = method(views)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step()
        losses.append(loss.item())
    return losses


CASES = [dict(streams=STREAMS), dict(streams=("joint", "bone")), dict(streams=("motion",)), dict(streams=STREAMS, base="byol"),
         dict(streams=STREAMS, ema_stage2=True), dict(streams=STREAMS, form="bce"), dict(streams=STREAMS, k=3, at_least=3, lam=.5, gamma=2.),
         dict(streams=STREAMS, lam=0.), dict(streams=STREAMS, gamma=0.), dict(streams=STREAMS, k=0), dict(streams=("joint", "motion"), base="byol", form="bce", ema_stage2=True),
         dict(streams=("joint",), alpha=.5, beta=.25)]


@pytest.mark.parametrize("init", ["independent", "copy"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(str(v) if k != "streams" else str(len(v)) for k, v in c.items()))
def test_training_steps_equal_plain_tensors(case, init):
    "Epoch 1 is stage one, epochs 2 and 3 are stage two: losses, weights, targets and batch-norm statistics, all to 1e-9."
    torch.manual_seed(0)
    method = widened(make(init=init, **case).double())
    batches = [method.views(clips(s), torch.Generator().manual_seed(s)) for s in range(3)]
    losses, after = reference(method.state_dict(), batches, **case)
    assert steps(method, batches) == pytest.approx(losses, abs=1e-9)
    for n, v in method.state_dict().items(): torch.testing.assert_close(v, after[n], atol=1e-9, rtol=1e-7, msg=n)


def test_stage_one_is_cmal():
    torch.manual_seed(0)
    acl = make(streams=STREAMS).double()
    cmal = CMAL(Encoder, streams=STREAMS, augment=jitter, tau=.9).double()
    cmal.load_state_dict(acl.state_dict())
    batches = [acl.views(clips(7), torch.Generator().manual_seed(1))]
    assert steps(acl, batches) == steps(cmal, batches)
    assert all(torch.equal(v, cmal.state_dict()[n]) for n, v in acl.state_dict().items())


def test_where_stage_two_begins():
    method = make(stage1=3)
    views = method.views(clips().float())
    for epoch, second in [(1, False), (3, False), (4, True), (100, True)]:
        method.start_epoch(epoch)
        assert method.second == second and ("cscl" in method(views)) == second
    for epoch, moved in [(3, True), (4, False)]:
        method.start_epoch(epoch)
        with torch.no_grad():
            for p in method.pairs["joint"].online.parameters(): p.add_(1.)
        before = copy.deepcopy(method.pairs["joint"].target.state_dict())
        method.after_step()
        assert any(not torch.equal(v, before[n]) for n, v in method.pairs["joint"].target.state_dict().items()) == moved


@pytest.mark.parametrize("ema", [False, True])
def test_nothing_reaches_the_targets_in_stage_two(ema):
    method = make(ema_stage2=ema)
    method.start_epoch(2)
    before = copy.deepcopy(method.state_dict())
    out = method(method.views(clips().float()))
    out["loss"].backward()
    for n, p in method.named_parameters(): assert (p.grad is None) == (".target." in n), n
    assert all(v.grad_fn is None and not v.requires_grad for k, v in out.items() if k != "loss")
    buffers = {k for k, _ in method.named_buffers()}
    assert {k for k, v in method.state_dict().items() if not torch.equal(v, before[k])} == buffers, "a frozen target's statistics go on moving"
    before = copy.deepcopy(method.state_dict())
    method.after_step()
    moved = {k for k, v in method.state_dict().items() if not torch.equal(v, before[k])}
    assert bool(moved) == ema and all(".target." in k for k in moved)


def test_no_gradient_through_keys_and_labels():
    method = make()
    found = {s: [torch.randn(N, D, requires_grad=True) for _ in range(4)] for s in STREAMS}
    loss, labels = method.cross_stream(found)
    loss.backward()
    assert all(p.grad.abs().sum() > 0 and p2.grad.abs().sum() > 0 and z.grad is None and z2.grad is None for p, p2, z, z2 in found.values())
    assert set(labels) == {*STREAMS, "vote"} and all(Y.dtype == torch.bool and not Y.requires_grad and Y.diagonal().all() for Y in labels.values())


def test_weights_of_the_two_losses():
    torch.manual_seed(0)
    one = make()
    views = one.views(clips().float())

    def loss(lam, gamma):
        method = make(lam=lam, gamma=gamma)
        method.load_state_dict(one.state_dict())
        method.start_epoch(2)
        out = method(views)
        return out["loss"], sum(out[f"{s}/loss"] for s in STREAMS), out["cscl"]
    for lam, gamma in [(1., 10.), (0., 1.), (1., 0.), (.5, 2.), (0., 0.)]:
        total, base, cross = loss(lam, gamma)
        torch.testing.assert_close(total, lam * base + gamma * cross)
        assert total.requires_grad


def test_a_permuted_batch_gives_the_same_loss_and_a_permuted_label():
    torch.manual_seed(0)
    method = widened(make().double())
    views, order = method.views(clips()), torch.randperm(N)
    a, b = (method.cross_stream(method.all_outputs(v)) for v in (views, [v[order] for v in views]))
    torch.testing.assert_close(a[0], b[0])
    for s, Y in a[1].items(): assert torch.equal(Y[order][:, order], b[1][s])


def test_more_streams_asked_for_than_there_are():
    assert make(streams="joint").at_least == 1 and make(streams=("joint", "bone"), at_least=3).at_least == 2
    method = make(streams="joint", k=2)
    found = {"joint": [torch.randn(N, D) for _ in range(4)]}
    labels = method.cross_stream(found)[1]
    assert torch.equal(labels["joint"], labels["vote"])


def test_the_report_counts_true_neighbours():
    method = make(streams=("joint", "bone"))
    plain = method(views := method.views(clips().float()))
    assert not any("vote" in k for k in plain)
    method.watch([0, 1] * N)
    method.start_step(np.arange(N))
    for epoch in (1, 2):
        method.start_epoch(epoch)
        out = method(views)
        Y = method.cross_stream(method.all_outputs(views))[1]
        assert {k for k in out if "_same" in k or "_other" in k} == {f"{s}_{kind}" for s in ("vote", "joint/label", "bone/label") for kind in ("same", "other")}
        for s, name in (("vote", "vote"), ("joint", "joint/label"), ("bone", "bone/label")):
            assert (out[f"{name}_same"] + out[f"{name}_other"] + 1).item() == pytest.approx(Y[s].sum(1).float().mean().item())
    labels = {"vote": torch.tensor([[1, 1, 1], [0, 1, 0], [1, 1, 1]]).bool()}
    method.labels, method.index = torch.tensor([4, 5, 4, 5]), torch.tensor([0, 2, 3])       # classes 4 4 5
    assert {k: round(v.item(), 6) for k, v in method.report(labels).items()} == {"vote_same": round(1 / 3, 6), "vote_other": 1.}


def test_watching_changes_no_number():
    torch.manual_seed(0)
    a, b = make(), make()
    b.load_state_dict(a.state_dict())
    b.watch(torch.zeros(N, dtype=torch.long)); b.start_step(torch.arange(N))
    batches = [a.views(clips(s).float(), torch.Generator().manual_seed(s)) for s in range(3)]
    assert steps(a, batches) == steps(b, batches)
    assert all(torch.equal(v, b.state_dict()[n]) for n, v in a.state_dict().items())


@pytest.mark.parametrize("settings", [{}, dict(streams=["joint"], base="byol", stage1=2, lam=.5, gamma=3., k=4, at_least=1, form="bce", ema_stage2=True, tau=.99,
                                                 init="copy", alpha=.5, beta=2., hidden=24, projection=10, target_mode="eval", weights="own", augment="BA+NA")])
def test_builds_again_from_json(settings):
    method = create_method("acl", width=4, feature_dim=16, frames=12, persons=1, **settings)
    again = create_method("ACL", **json.loads(json.dumps(method.config)))
    assert again.config == method.config and again.streams == method.streams and again.skeleton == NTU25
    for name in "base stage1 lam gamma k at_least form ema_stage2 tau alpha beta".split(): assert getattr(again, name) == getattr(method, name)
    for name, value in settings.items(): assert method.config[name] == value
    again.load_state_dict(method.state_dict())
    again.start_epoch(1000)
    out = again(again.views(torch.randn(4, 3, 12, 25, 1)))
    out["loss"].backward()
    assert out["loss"].isfinite()


def test_defaults_are_the_papers():
    method = make(stage1=60)
    c = ACL(Encoder).config
    assert (c["streams"], c["base"], c["stage1"], c["lam"], c["gamma"], c["k"], c["at_least"], c["tau"]) == (["joint", "motion", "bone"], "cmal", 60, 1., 10., 2, 2, .996)
    assert c["form"] == "softmax" and not c["ema_stage2"] and c["init"] == "independent" and method.name == "acl"


@pytest.mark.parametrize("bad, words", [(dict(base="moco"), "cmal.*byol"), (dict(form="ce"), "softmax.*bce"), (dict(k=-1), "0 or more"), (dict(k=2.), "0 or more"),
                                        (dict(at_least=0), "1 or more"), (dict(streams=("joint", "speed")), "joint.*motion.*bone"), (dict(init="same"), "independent")])
def test_errors(bad, words):
    with pytest.raises(MethodError, match=words): make(**bad)


def test_a_batch_smaller_than_k_is_told_in_stage_one():
    with pytest.raises(MethodError, match="k = 9 clips, got 8"): (m := make(k=9))(m.views(clips().float()))
    with pytest.raises(LossError): make().cross_stream({"joint": [torch.zeros(0, D)] * 4})


# --- the authors' numbers

def stage_two(f, **kw):
    "The method in stage two, its networks replaced by the file's features; the features, with gradient."
    method = make(**kw)
    found = {s: [torch.tensor(f[f"{name}_{s}"], requires_grad=True) for name in ("p", "pp", "z", "zp")] for s in STREAMS}
    method.all_outputs = lambda views: {s: (*t, t[0]) for s, t in found.items()}
    method.start_epoch(2)
    return method, found


@pytest.mark.outside
@pytest.mark.parametrize("name", ["top2_lamb10", "top1_lamb10", "top2_lamb1"])
def test_released_code(fixture, name):
    f = fixture(f"acl_cscl_ref_{name}")
    method, found = stage_two(f, k=int(f["topk"]), gamma=float(f["lamb"]))
    out = method([np.zeros(12)] * 2)
    out["loss"].backward()
    assert out["loss"].item() == pytest.approx(float(f["total_loss"]), rel=1e-6)
    labels = method.cross_stream(method.all_outputs(None))[1]
    np.testing.assert_array_equal(labels["vote"], f["vote_label"] > 0)
    for s, (p, p2, z, z2) in found.items():
        np.testing.assert_array_equal(labels[s], f[f"label_{s}"] > 0)
        torch.testing.assert_close(p.grad, torch.tensor(f[f"grad_p_{s}"]), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(p2.grad, torch.tensor(f[f"grad_pp_{s}"]), atol=1e-6, rtol=1e-5)
        assert z.grad is None and z2.grad is None
    assert out["positives"].item() == pytest.approx(float(f["vote_label"].sum(1).mean()))


@pytest.mark.outside
@pytest.mark.parametrize("form, key", [("softmax", "stage2_total_code_style"), ("bce", "stage2_total_paper_style_half")])
def test_float64_numbers(fixture, form, key):
    f = fixture("acl_numpy64")
    method, found = stage_two(f, k=int(f["k"]), form=form)
    assert method([np.zeros(10)] * 2)["loss"].item() == pytest.approx(float(f[key]), rel=1e-9)
    cross, labels = method.cross_stream(found)
    cross.backward()
    np.testing.assert_allclose(found["joint"][0].grad, f[f"grad_{'ce_softmax' if form == 'softmax' else 'bce_half'}_row_p_joint"] * (2 if form == "softmax" else 1), atol=1e-6)
    for at_least, name in ((2, "vote_at_least_2"), (3, "vote_all_3")):
        np.testing.assert_array_equal(make(at_least=at_least).cross_stream(found)[1]["vote"], f[name] > 0)
    method, _ = stage_two(f, base="byol", gamma=0.)
    assert method([np.zeros(10)] * 2)["loss"].item() == pytest.approx(sum(float(f[f"byol_{s}"]) for s in STREAMS), rel=1e-9)
    method, _ = stage_two(f, gamma=0.)
    assert method([np.zeros(10)] * 2)["loss"].item() == pytest.approx(sum(float(f[f"cmal_{s}"]) for s in STREAMS), rel=1e-9)


@pytest.mark.outside
@pytest.mark.parametrize("epoch, ema, follows", [(1, False, True), (2, False, False), (2, True, True)])
def test_released_moving_average(fixture, epoch, ema, follows):
    f = fixture("acl_ema")
    method = make(tau=float(f["tau"]), ema_stage2=ema, encoder=lambda: Linear(f["theta"].shape))
    with torch.no_grad():
        for pair in method.pairs.values(): pair.online.encoder.weight.copy_(torch.tensor(f["theta"])); pair.target.encoder.weight.copy_(torch.tensor(f["xi"]))
    method.start_epoch(epoch)
    method.after_step()
    for pair in method.pairs.values():
        torch.testing.assert_close(pair.target.encoder.weight.detach(), torch.tensor(f["xi_after" if follows else "xi"]), atol=1e-8, rtol=1e-6)
        torch.testing.assert_close(pair.online.encoder.weight.detach(), torch.tensor(f["theta"]))


class Linear(nn.Module):
    feature_dim = 4

    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))


# --- the folded answers of the exercises of both chapters

def answers():
    for chapter in ("06_hiclr", "08_acl"):
        book = json.loads((pathlib.Path(__file__).resolve().parent.parent / "nbs" / "methods" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
        text = "\n".join("".join(c["source"]) for c in book["cells"] if c["cell_type"] == "markdown")
        found = re.findall(r"<details>.*?```python\n(.*?)```.*?</details>", text, re.S)
        assert len(found) == 3, chapter
        for n, code in enumerate(found, 1): yield pytest.param(code, id=f"{chapter}-{n}")


@pytest.mark.parametrize("code", list(answers()))
def test_answers_check_themselves(code):
    from skelnb.methods import HiCLR
    torch.manual_seed(0)
    exec(code, {"torch": torch, "ACL": ACL, "HiCLR": HiCLR, "Tiny": Encoder})
