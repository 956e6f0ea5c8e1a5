"""Momentum pair, SkeletonBYOL and CMAL: a training step against plain tensors, and what must not move."""

import copy
import json

import pytest
import torch
from torch import nn

from skelnb.methods import CMAL, METHODS, MLP, MethodError, MomentumPair, SkeletonBYOL, create_method, ema_update, init_weights
from skelnb.methods.momentum import spread
from skelnb.skeleton import NTU25, UCLA20

N, T, V, M, D = 8, 6, 25, 1, 12
BOTH = {"skeletonbyol": SkeletonBYOL, "cmal": CMAL}


class Encoder(nn.Module):
    "The smallest thing with a batch norm: mean over frames, one linear layer."
    feature_dim = D

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(3 * V * M, D), nn.BatchNorm1d(D)

    def forward(self, x):
        return self.norm(self.linear(x.mean(2).flatten(1))).relu()


def jitter(x, generator=None):
    return x + .3 * torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def make(name, **kw):
    return create_method(name, **{"encoder": Encoder, "augment": jitter, **kw})


def clips(seed=0, n=N):
    return torch.randn(n, 3, T, V, M, generator=torch.Generator().manual_seed(seed))


# --- the step, once more, with nothing but tensors

def batch_norm(x, weight, bias, eps=1e-5):
    return (x - x.mean(0)) / (x.var(0, unbiased=False) + eps).sqrt() * weight + bias


def mlp(w, at, x):
    x = batch_norm(x @ w[at + "0.weight"].T + w[at + "0.bias"], w[at + "1.weight"], w[at + "1.bias"]).clamp(min=0)
    return x @ w[at + "3.weight"].T + w[at + "3.bias"]


def project(w, at, x):
    x = x.mean(2).flatten(1)
    y = batch_norm(x @ w[at + "encoder.linear.weight"].T + w[at + "encoder.linear.bias"],
                   w[at + "encoder.norm.weight"], w[at + "encoder.norm.bias"]).clamp(min=0)
    return mlp(w, at + "projector.", y)


def squared(a, b):
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    return ((a - b) ** 2).sum(1).mean()


def reference_loss(name, w, x, x2, stream="joint"):
    pair, predictor = f"pairs.{stream}.", f"predictors.{stream}."
    p, p2 = (mlp(w, predictor, project(w, pair + "online.", v)) for v in (x, x2))
    z, z2 = (project(w, pair + "target.", v).detach() for v in (x, x2))
    if name == "skeletonbyol": return squared(p, z2) + squared(p2, z)
    return squared(p, p2) - (squared(p, z) + squared(p2, z2)) / 2


def reference_steps(name, w, batches, lr, momentum, decay, tau):
    "SGD as the papers use it, then the moving average; w is a dict of all parameters."
    w = {k: v.detach().clone().requires_grad_(".target." not in k) for k, v in w.items()}
    trained = [k for k in w if w[k].requires_grad]
    speed, losses = {k: 0. for k in trained}, []
    for x, x2 in batches:
        loss = reference_loss(name, w, x, x2)
        losses.append(loss.item())
        for k, g in zip(trained, torch.autograd.grad(loss, [w[k] for k in trained])):
            speed[k] = momentum * speed[k] + g + decay * w[k].detach()
            w[k] = (w[k].detach() - lr * speed[k]).requires_grad_()
        for k in w:
            if ".target." in k: w[k] = tau * w[k] + (1 - tau) * w[k.replace(".target.", ".online.")].detach()
    return losses, w


@pytest.mark.parametrize("name", sorted(BOTH))
def test_training_steps_equal_plain_tensors(name):
    torch.manual_seed(0)
    method = make(name, tau=.9).double()
    with torch.no_grad():                                       # the small starting weights of the released code hide mistakes
        for p in method.parameters(): p.mul_(10).add_(.1 * torch.randn_like(p))
    batches = [method.views(clips(s).double(), torch.Generator().manual_seed(s)) for s in range(3)]
    losses, after = reference_steps(name, dict(method.named_parameters()), batches, .1, .9, 1e-4, .9)
    optimiser = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=.1, momentum=.9, weight_decay=1e-4)
    for views, expect in zip(batches, losses):
        loss = method(views)["loss"]
        assert loss.item() == pytest.approx(expect, abs=1e-10)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step()
    for key, value in method.named_parameters(): torch.testing.assert_close(value, after[key], atol=1e-10, rtol=1e-8, msg=key)


@pytest.mark.parametrize("name", sorted(BOTH))
def test_three_streams_are_a_sum_of_three_methods(name):
    from skelnb.data.streams import to_stream
    method = make(name, streams=("joint", "motion", "bone")).double()
    views = method.views(clips().double())
    out = method(views)
    w = dict(method.named_parameters())
    parts = {s: reference_loss(name, w, *(to_stream(v, s, NTU25) for v in views), stream=s).item() for s in method.streams}
    assert out["loss"].item() == pytest.approx(sum(parts.values()), abs=1e-9)
    for s, value in parts.items(): assert out[f"{s}/loss"].item() == pytest.approx(value, abs=1e-9)
    assert list(method.encoders) == ["joint", "motion", "bone"]
    assert len({id(p) for e in method.encoders.values() for p in e.parameters()}) == 3 * 4


@pytest.mark.parametrize("name", sorted(BOTH))
def test_nothing_reaches_the_target_but_the_average(name):
    method = make(name)
    before = copy.deepcopy(method.state_dict())
    out = method(method.views(clips()))
    out["loss"].backward()
    target = method.pairs["joint"].target
    assert all(p.grad is None and not p.requires_grad for p in target.parameters())
    trained = [p for n, p in method.named_parameters() if ".target." not in n]
    assert all(p.grad is not None for p in trained) and any(p.grad.abs().sum() > 0 for p in trained)
    assert all(v.grad_fn is None and not v.requires_grad for k, v in out.items() if k != "loss")
    moved = {k for k, v in method.state_dict().items() if not torch.equal(v, before[k])}
    buffers = {k for k, _ in method.named_buffers()}
    assert moved == buffers, "a forward pass moves batch-norm statistics, of the target too, and no weight"
    before = copy.deepcopy(method.state_dict())
    method.after_step()
    moved = {k for k, v in method.state_dict().items() if not torch.equal(v, before[k])}
    assert moved and all(".target." in k and k not in buffers for k in moved), "the average moves target parameters and no buffer"


@pytest.mark.parametrize("name", sorted(BOTH))
def test_scalars_watch_for_collapse(name):
    torch.manual_seed(0)
    out = make(name)(make(name).views(clips(n=64)))
    wanted = {"loss", "joint/loss", "joint/feature_std", "joint/prediction_std"} | ({"joint/loss_min", "joint/loss_max"} if name == "cmal" else set())
    assert set(out) == wanted
    assert all(v.ndim == 0 and v.isfinite() for v in out.values())


def test_spread():
    assert spread(torch.ones(9, 4)).item() == pytest.approx(0, abs=1e-6)
    assert spread(torch.randn(5000, 64, generator=torch.Generator().manual_seed(0))).item() == pytest.approx(1, abs=.02)


@pytest.mark.parametrize("alpha, beta", [(1., 0.), (0., 1.), (.5, 2.)])
def test_cmal_weights(alpha, beta):
    method = make("cmal", alpha=alpha, beta=beta)
    out = method(method.views(clips()))
    torch.testing.assert_close(out["loss"], alpha * out["joint/loss_min"] + beta * out["joint/loss_max"])


@pytest.mark.parametrize("init", ["independent", "copy"])
@pytest.mark.parametrize("name", sorted(BOTH))
def test_start(name, init):
    method = make(name, init=init)
    pair = method.pairs["joint"]
    same = all(torch.equal(a, b) for a, b in zip(pair.online.state_dict().values(), pair.target.state_dict().values()))
    assert same == (init == "copy")
    for m in method.modules():
        if isinstance(m, nn.Linear):
            assert (m.bias == 0).all() and m.weight.std().item() == pytest.approx(.02, rel=.3) and abs(m.weight.mean()) < .01
        if isinstance(m, nn.BatchNorm1d): assert (m.bias == 0).all() and abs(m.weight - 1).max() < .12 and (m.weight != 1).any()


def test_own_weights():
    "weights='own' keeps what the constructors drew: wider than the released start, and a batch norm of exactly 1."
    method = make("cmal", weights="own", init="copy")
    assert method.pairs["joint"].online.encoder.linear.weight.std() > .05 and (method.pairs["joint"].online.encoder.norm.weight == 1).all()
    assert all(torch.equal(a, b) for a, b in zip(method.pairs["joint"].online.parameters(), method.pairs["joint"].target.parameters()))
    assert method.config["weights"] == "own" and "weights" not in make("cmal").config


def test_same_seed_same_method():
    a, b, c = (torch.manual_seed(s) and make("cmal").state_dict() for s in (1, 1, 2))
    assert all(torch.equal(a[k], b[k]) for k in a) and not all(torch.equal(a[k], c[k]) for k in a)


def test_views_are_replayable_and_independent():
    method, x = make("cmal"), clips()
    a, b = (method.views(x, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and not torch.equal(a[0], a[1])
    assert all(not v.requires_grad for v in a)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_mode_of_the_target(mode):
    method = make("cmal", target_mode=mode)
    target = method.pairs["joint"].target
    assert target.training == (mode == "train") and method.pairs["joint"].online.training
    method.eval()
    assert not target.training
    method.train()
    assert target.training == (mode == "train") and target.encoder.norm.training == (mode == "train")


def test_state_dict_holds_everything():
    torch.manual_seed(0)
    a, b = make("cmal"), make("cmal")
    b.load_state_dict(a.state_dict())
    views = a.views(clips())
    for m in (a, b):
        m(views)["loss"].backward()
        m.after_step()
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_heads_follow_the_feature_width():
    method = make("skeletonbyol")
    head = method.predictors["joint"]
    assert [head[0].in_features, head[0].out_features, head[3].out_features] == [D, 4 * D, D]
    method = make("skeletonbyol", hidden=7, projection=5)
    assert [method.predictors["joint"][0].in_features, method.predictors["joint"][0].out_features] == [5, 7]


def test_head_size_of_the_paper():
    assert sum(p.numel() for p in MLP(512, 2048, 512).parameters()) == 2_103_808


# --- with the real encoder

@pytest.mark.parametrize("name", sorted(BOTH))
@pytest.mark.parametrize("skeleton", [NTU25, UCLA20], ids=lambda s: s.name)
def test_builds_by_name_and_config(name, skeleton):
    method = create_method(name, encoder="stgcn", skeleton=skeleton, width=4, feature_dim=16, frames=12, streams=("joint", "bone"), persons=1)
    assert type(method) is BOTH[name] and method.pairs["joint"].online.projector[0].out_features == 64
    again = create_method(name, **json.loads(json.dumps(method.config)))
    assert again.config == method.config and again.skeleton == method.skeleton
    again.load_state_dict(method.state_dict())
    out = again(again.views(torch.randn(4, 3, 12, len(skeleton), 1)))
    out["loss"].backward()
    assert out["loss"].isfinite()


def test_own_skeleton_travels_in_config():
    own = UCLA20.to_dict() | {"name": "mine"}
    method = create_method("cmal", skeleton=own, width=4, feature_dim=8, frames=12, persons=1)
    again = create_method("cmal", **json.loads(json.dumps(method.config)))
    assert again.skeleton == method.skeleton and again.skeleton.name == "mine"


# --- errors and the registry

def test_registry():
    with pytest.raises(MethodError, match="cmal.*skeletonbyol"): create_method("simclr")
    METHODS["mine"] = CMAL
    try: assert type(make("mine")) is CMAL
    finally: del METHODS["mine"]


@pytest.mark.parametrize("bad, words", [
    (dict(encoder=Encoder()), "factory"),
    (dict(encoder=None), "factory"),
    (dict(encoder=lambda: nn.Linear(2, 2)), "feature_dim"),
    (dict(width=3), "leave out width"),
    (dict(streams=("joint", "speed")), "joint.*motion.*bone"),
    (dict(streams=()), "one or more"),
    (dict(streams=("bone", "bone")), "different"),
    (dict(skeleton="ntu26"), "ntu25"),
    (dict(init="same"), "independent"),
    (dict(target_mode="off"), "eval"),
    (dict(tau=1.5), "between 0 and 1"),
    (dict(weights="kaiming"), "released"),
])
def test_errors_of_the_constructor(bad, words):
    with pytest.raises(MethodError, match=words): make("cmal", **bad)


def test_error_for_one_network_twice():
    one = Encoder()
    with pytest.raises(MethodError, match="two networks"): make("cmal", encoder=lambda: one)


@pytest.mark.parametrize("shape", [(2, 3, 6, 20, 1), (3, 6, 25, 1)])
def test_error_for_clips_that_do_not_fit(shape):
    with pytest.raises(MethodError, match="25 joints.*ntu25"): make("cmal").views(torch.zeros(shape))


# --- the moving average

def net(*args):
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def test_ema_by_hand():
    a, b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad(): a.weight.fill_(1.); b.weight.fill_(0.)
    ema_update(b, a, .9)
    assert b.weight.item() == pytest.approx(.1)
    ema_update(b, a, .9)
    assert b.weight.item() == pytest.approx(.19)
    ema_update(b, a, 1.); assert b.weight.item() == pytest.approx(.19)
    ema_update(b, a, 0.); assert b.weight.item() == 1


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_ema_is_a_geometric_mean_of_the_past(steps):
    "n updates towards a standing network leave tau^n of the start."
    pair = MomentumPair(net).double()
    start = [p.clone() for p in pair.target.parameters()]
    for _ in range(steps): pair.update(.97)
    for s, o, t in zip(start, pair.online.parameters(), pair.target.parameters()):
        torch.testing.assert_close(t.detach(), .97 ** steps * s + (1 - .97 ** steps) * o.detach())


def test_ema_leaves_buffers_and_the_online_network():
    pair = MomentumPair(net)
    pair.online(torch.randn(16, 4))
    before = copy.deepcopy(pair.state_dict())
    pair.update(.5)
    moved = {k for k, v in pair.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"target.0.weight", "target.0.bias"}      # norms start at the same (1, 0) here


def test_ema_errors():
    with pytest.raises(MethodError, match="one architecture"): ema_update(nn.Linear(2, 3), nn.Linear(3, 2), .9)
    with pytest.raises(MethodError, match="between 0 and 1"): ema_update(net(), net(), -1)


def test_forward_target_has_no_graph():
    pair = init_weights(MomentumPair(net))
    x = torch.randn(5, 4, requires_grad=True)
    assert pair(x).requires_grad and not pair.forward_target(x).requires_grad


@pytest.mark.outside
@pytest.mark.parametrize("name, online, target, decay, after", [
    ("acl_ema", "theta", "xi", "tau", "xi_after"), ("momentum_update", "theta_q", "theta_k", "m", "theta_k_after")])
def test_released_code(fixture, name, online, target, decay, after):
    f = fixture(name)
    rows, columns = f[online].shape
    o, t = (nn.Linear(columns, rows, bias=False) for _ in range(2))
    with torch.no_grad(): o.weight.copy_(torch.tensor(f[online])); t.weight.copy_(torch.tensor(f[target]))
    ema_update(t, o, float(f[decay]))
    torch.testing.assert_close(t.weight.detach(), torch.tensor(f[after]), atol=1e-8, rtol=1e-6)
    flags = [bool(f[k]) for k in f.files if f[k].dtype == bool]
    assert flags == [False, False], "as in the released code: buffers are not averaged, and the two networks start different"
