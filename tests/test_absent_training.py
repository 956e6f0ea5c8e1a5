"""Absent persons computed once in training: the numbers of the pass over every slot."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from skelnb.augment.strong import DropAddEdges
from skelnb.data.dataset import SkeletonData
from skelnb.encoders import EncoderError, create_encoder
from skelnb.encoders.stgcn import batch_norm
from skelnb.evaluate import calibrate
from skelnb.methods.momentum import create_method
from skelnb.skeleton import NTU25, UCLA20

N, TWO = 11, (0., .18, .5, 1.)


def pair(dtype=torch.float64, **kwargs):
    "The same ST-GCN twice: absent persons each, and once."
    made = create_encoder("stgcn", UCLA20, width=4, feature_dim=16, dropout=0., **kwargs).to(dtype)
    other = create_encoder(**made.config | {"absent": "once"}).to(dtype)
    other.load_state_dict(made.state_dict())
    return made.train(), other.train()


def clips(two, seed, dtype=torch.float64, n=N, frames=6):
    "n clips, a share `two` of them with a second person."
    x = torch.randn(n, 3, frames, 20, 2, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    x[round(n * two):, ..., 1] = 0
    return x


def far(a, b):
    "Largest difference of b, relative to the largest number of a."
    return float((b.detach().double() - a.detach().double()).abs().max() / a.detach().double().abs().max().clamp(min=1e-12))


def rows_of(encoder):
    "How many clips enter the first block: a list that grows at each pass."
    seen = []
    encoder.blocks[0].register_forward_hook(lambda m, i, o: seen.append(len(o)))
    return seen


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# batch norm

@pytest.mark.parametrize("copies", [2, 7])
@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (1, 3, 5, 6), (90, 40, 3, 10)])      # the last needs several turns of the backward pass
def test_batch_norm_counts_the_last_clip(shape, copies):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    one, many = nn.BatchNorm2d(shape[1]).double(), nn.BatchNorm2d(shape[1]).double()
    nn.init.normal_(one.weight); nn.init.normal_(one.bias); many.load_state_dict(one.state_dict())
    index = torch.tensor([*range(shape[0]), *[shape[0] - 1] * (copies - 1)])
    up = torch.randn(len(index), *shape[1:], dtype=torch.float64)
    y, expected = batch_norm(one, x, copies), many(x[index])
    torch.testing.assert_close(y[index], expected, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(y[index], (x, one.weight, one.bias), up)
    for a, b in zip(ours, torch.autograd.grad(expected, (x, many.weight, many.bias), up)): torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    for key, value in many.state_dict().items(): torch.testing.assert_close(one.state_dict()[key], value, rtol=1e-12, atol=1e-12)


def test_batch_norm_of_rows():
    x = torch.randn(12, 3, dtype=torch.float64, requires_grad=True)                   # 3 clips of 4 frames
    one, many = nn.BatchNorm1d(3).double(), nn.BatchNorm1d(3).double()
    torch.testing.assert_close(batch_norm(one, x, 5, 4), many(torch.cat([x, *[x[-4:]] * 4]))[:12])
    torch.testing.assert_close(one.running_var, many.running_var)


def test_one_copy_and_eval_mode_are_the_stored_module():
    x, bn = torch.randn(4, 3, 5, 6), nn.BatchNorm2d(3)
    other = copy.deepcopy(bn)
    assert torch.equal(batch_norm(bn, x), other(x)) and torch.equal(bn.running_var, other.running_var)
    assert torch.equal(batch_norm(bn.eval(), x, 5), other.eval()(x))


def test_statistics_of_bf16_maps_are_float32():
    x = (torch.randn(6, 8, 10, 5) + 3).bfloat16()
    bn = nn.BatchNorm2d(8)
    y = batch_norm(bn, x.requires_grad_(), 9)
    whole = torch.cat([x.float(), *[x[-1:].float()] * 8]).detach()
    assert y.dtype == torch.bfloat16 and bn.running_mean.dtype == torch.float32
    torch.testing.assert_close(bn.running_mean, .1 * whole.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    y.float().square().mean().backward()
    assert x.grad.dtype == torch.bfloat16 and x.grad.isfinite().all()


def test_synchronised_batch_norm_is_refused():
    _, once = pair()
    with pytest.raises(EncoderError, match="one process"): nn.SyncBatchNorm.convert_sync_batchnorm(once)(clips(0, 1))


# the network

def train(models, two, dtype, lr, steps=20):
    "SGD steps of several models on the same batches: largest relative difference of features, losses, gradients of the first step, and state from those of the first model."
    optimisers = [torch.optim.SGD(m.parameters(), lr, momentum=.9, weight_decay=1e-4) for m in models]
    worst = dict(feature=0., loss=0., gradient=0.)
    for step in range(steps):
        x, target = clips(two, step, dtype), torch.randn(N, 16, dtype=dtype, generator=torch.Generator().manual_seed(99 + step))
        features, losses = [], []
        for m, optimiser in zip(models, optimisers):
            f = m(x); loss = (f - target).square().mean()
            optimiser.zero_grad(); loss.backward(); optimiser.step()
            features.append(f); losses.append(loss)
        worst |= dict(feature=max(worst["feature"], far(*features)), loss=max(worst["loss"], far(*losses)))
        if not step:
            a, b = (torch.cat([p.grad.flatten() for p in m.parameters()]) for m in models)
            worst["gradient"] = far(a, b)
    ours, theirs = (m.state_dict() for m in models)
    return worst | dict(state=max(float((theirs[k] - v).abs().max() / v.abs().max().clamp(min=.1)) for k, v in ours.items()))


@pytest.mark.parametrize("two, pool", [*((two, "slots") for two in TWO), (.18, "present")])
def test_twenty_steps_in_float64(two, pool):
    each, once = pair(pool=pool)
    seen = rows_of(once)
    for name, value in train([each, once], two, torch.float64, .02).items(): assert value < 1e-10, name
    assert seen == [N + round(N * two) + (two < 1)] * 20


@pytest.mark.parametrize("two", TWO)
def test_twenty_steps_in_float32(two):
    "At a rate where rounding is not blown up from step to step: the features move a hundred times as far as the two runs are apart."
    each, once = pair(torch.float32)
    x, start = clips(two, 0, torch.float32), copy.deepcopy(each)
    found = train([each, once], two, torch.float32, 2e-5)
    gradient = found.pop("gradient")
    for name, value in found.items(): assert value < 1e-4, (name, value)
    assert gradient < 2e-3 and far(start(x), each(x)) > 100 * found["feature"]          # float32 gradients of this network are right to 2 or 3 digits, whoever computes them


def test_float32_is_as_near_as_the_plain_pass_to_itself():
    "At a usual rate: clips in another order move the plain run as far as the shared pass does."
    each, once = pair(torch.float32)
    turned, order = copy.deepcopy(each), torch.randperm(N)
    for step in range(3):
        x = clips(.18, step, torch.float32)
        a, b, c = each(x), once(x), turned(x[order])[order.argsort()]
        assert far(a, b) < 10 * max(far(a, c), 1e-6)
        for m, f in ((each, a), (once, b), (turned, c)):
            m.zero_grad(); f.square().mean().backward()
            with torch.no_grad(): [p.sub_(p.grad, alpha=.01) for p in m.parameters()]


def test_a_batch_of_nobody_one_absent_person_and_an_empty_clip():
    for fill in (lambda x: x.zero_(), lambda x: x[3, ..., 1].zero_(), lambda x: x[2].zero_()):
        each, once = pair()
        x = clips(1., 5); fill(x)
        a, b = each(x), once(x)
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-12)
        for m, y in ((each, a), (once, b)): (y ** 2).sum().backward()
        for p, q in zip(each.parameters(), once.parameters()): torch.testing.assert_close(q.grad, p.grad, rtol=1e-7, atol=1e-9)


def test_feature_maps_edges_and_given_presence():
    each, once = pair()
    x = clips(.18, 3)
    torch.testing.assert_close(once.feature_map(x), each.feature_map(x), rtol=1e-10, atol=1e-12)
    def drawn(encoder):
        torch.manual_seed(7)
        return encoder(x, DropAddEdges(skeleton=UCLA20))
    torch.testing.assert_close(drawn(once), drawn(each), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(once(x, present=x.ne(0).flatten(1, 3).any(1)), each(x), rtol=1e-10, atol=1e-12)
    for key, value in each.state_dict().items(): torch.testing.assert_close(once.state_dict()[key], value, rtol=1e-9, atol=1e-11)


def test_a_clip_with_a_gradient_is_computed_in_full():
    each, once = pair()
    grads, seen = [], rows_of(once)
    for encoder in (each, once):
        token = torch.zeros((), dtype=torch.float64, requires_grad=True)              # a mask token that is still zero: an empty slot stays empty, and leads to it
        mask = torch.rand(N, 1, 6, 20, 2, generator=torch.Generator().manual_seed(1)) < .3
        (encoder(torch.where(mask, token, clips(.18, 3))) ** 2).sum().backward()
        grads.append(token.grad)
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-11)
    assert seen == [2 * N]


def test_eval_mode_config_and_names_stay():
    each, once = pair()
    x = clips(.18, 3)
    assert torch.equal(once.eval()(x), each.eval()(x)) and list(once.state_dict()) == list(each.state_dict())
    assert json.loads(json.dumps(once.config))["absent"] == "once" and create_encoder(**once.config).absent == "once"
    old = {k: v for k, v in each.config.items() if k != "absent"}
    assert create_encoder(**old).absent == "each"
    with pytest.raises(EncoderError, match="'each' or 'once'"): create_encoder("stgcn", UCLA20, absent="never")


def test_other_encoders_say_so():
    for name in ("tcn", "gru", "dsta", "ctrgcn", "unik"):
        with pytest.raises(EncoderError, match="stgcn"): create_encoder(name, UCLA20, absent="once")


def test_calibration_and_the_plain_mean_of_batches():
    x = clips(.18, 3, torch.float32, n=20).numpy()
    data = SkeletonData(x, np.zeros(20, int), skeleton=UCLA20, classes=["a"])
    each, once = pair(torch.float32)
    for m in (each, once): calibrate(m, data, batch_size=10)
    for key, value in each.state_dict().items(): torch.testing.assert_close(once.state_dict()[key], value)
    for m in (each, once):
        m.train()
        for norm in m.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm): norm.reset_running_stats(); norm.momentum = None
        with torch.no_grad():
            for seed in range(3): m(clips(.5, seed, torch.float32))
    for key, value in each.state_dict().items(): torch.testing.assert_close(once.state_dict()[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["skeletonclr", "cmal"])
def test_a_method_takes_the_setting(name):
    "Loss and gradients of a whole step, target network included."
    found = []
    for absent in ("each", "once"):
        torch.manual_seed(0)
        extra = dict(queue=32) if name == "skeletonclr" else {}
        method = create_method(name, skeleton="ucla20", width=4, feature_dim=16, dropout=0., absent=absent, **extra).double().train()
        views = method.views(clips(.18, 3), torch.Generator().manual_seed(1))
        loss = method(views)["loss"]
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in method.parameters() if p.grad is not None), *(b for n, b in method.named_buffers() if "running" in n)])
        assert method.config["absent"] == absent
    for a, b in zip(*found): assert far(a, b) < 1e-6 or float((a - b).abs().max()) < 1e-10


def test_dropout_is_drawn_once_for_all_empty_slots():
    encoder = create_encoder("stgcn", UCLA20, width=4, feature_dim=16, absent="once").train()
    x = clips(0, 1, torch.float32)
    f = encoder.feature_map(x)                                                        # (N,2,D,T',V')
    assert torch.equal(f[0, 1], f[5, 1]) and not torch.equal(f[0, 0], f[5, 0])


@pytest.mark.parametrize("shape", [(6, 8, 9, 25), (3, 4, 1, 20), (2, 15, 7, 3)])
def test_a_narrow_norm_on_several_threads_is_torchs(shape):
    "Its backward pass is our own: the same gradients and running statistics."
    torch.manual_seed(0); threads = torch.get_num_threads(); torch.set_num_threads(2)
    try:
        x, g, bn = torch.randn(shape).mul_(3).contiguous(memory_format=torch.channels_last), torch.randn(shape), nn.BatchNorm2d(shape[1])
        nn.init.uniform_(bn.weight, .5, 2); other, found = copy.deepcopy(bn), []
        for run, norm in ((lambda z: batch_norm(bn, z), bn), (other, other)):
            z = x.clone(memory_format=torch.preserve_format).requires_grad_(); y = run(z); y.backward(g)
            found.append([y.detach(), z.grad, norm.weight.grad, norm.bias.grad, norm.running_mean.clone(), norm.running_var.clone(), norm.num_batches_tracked.clone()])
        assert type(batch_norm(bn, x.requires_grad_()).grad_fn).__name__ == "_NarrowNormBackward"
        for a, b in zip(*found): torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    finally: torch.set_num_threads(threads)


def test_maps_and_their_gradients_keep_channels_last():
    "Also where a stride meets an odd number of frames: a map in another layout makes batch norms several times slower."
    net = create_encoder("stgcn", NTU25, width=4, feature_dim=24, frames=25, dropout=.1).train(); seen = []
    for block in net.blocks: block.register_full_backward_hook(lambda m, gi, go: seen.append((m, *[t.is_contiguous(memory_format=torch.channels_last) for t in gi if t is not None])))
    for block in net.blocks: block.register_forward_hook(lambda m, i, o: seen.append((m, o.is_contiguous(memory_format=torch.channels_last))))
    net(torch.randn(4, 3, 25, 25, 1)).square().sum().backward()
    assert len(seen) == 20 and all(all(s[1:]) for s in seen), [s[1:] for s in seen]
