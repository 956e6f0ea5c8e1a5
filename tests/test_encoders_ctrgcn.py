"""CTR-GCN: the authors' numbers, an independent plain form, and its promises."""

import itertools
import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import encoder_cases as cases
from encoder_cases import assert_forward_as_released, count
from skelnb.augment.strong import DropAddEdges
from skelnb.encoders import CTRGCN, EncoderError, create_encoder, load_released, topologies
from skelnb.encoders.ctrgcn import normed, pointwise, refined_graph
from skelnb.skeleton import LAYOUTS, NTU25, UCLA20


clips = partial(cases.clips, t=9)


def lively(encoder): return cases.lively(encoder, 1.)


def small(skeleton=NTU25, **kwargs):
    torch.manual_seed(0)
    return create_encoder("ctrgcn", skeleton, **{"width": 4, "feature_dim": 16, **kwargs})


# an independent form: as the paper writes it, one operation after the other

def plain_graph(g, x):
    "(K,B,C,U,V), target in rows as in the paper."
    out = []
    for k in range(3):
        q, r = g.query[k](x).mean(2), g.key[k](x).mean(2)                                # the 1x1 convolutions on all frames, then their mean
        difference = torch.tanh(q[:, :, :, None] - r[:, :, None, :])
        out.append(g.PA[k] + g.alpha * g.lift[k](difference))
    return torch.stack(out)


def plain_block(block, x, stride):
    g, t, norm = block.graph, block.time, lambda n, h: F.batch_norm(h, None if n.training else n.running_mean, None if n.training else n.running_var, n.weight, n.bias, n.training)
    shortcut = lambda s, h, stride=1: norm(s[1], F.conv2d(h[:, :, ::stride], s[0].weight, s[0].bias))
    y = sum(torch.einsum("bcuv,bctv->bctu", A, value(x)) for A, value in zip(plain_graph(g, x), g.value))
    h = F.relu(norm(g.bn, y) + (x if isinstance(g.down, torch.nn.Identity) else shortcut(g.down, x)))
    first = [norm(n, conv(h)) for n, conv in zip(t.bn1[:3], t.reduce)]
    parts = [norm(t.bn2[i], F.conv2d(F.relu(first[i]), t.time[i].weight, t.time[i].bias, (stride, 1), (2 * (i + 1), 0), (i + 1, 1))) for i in (0, 1)]
    parts += [norm(t.bn2[2], F.max_pool2d(F.relu(first[2]), (3, 1), (stride, 1), (1, 0))), norm(t.bn1[3], F.conv2d(h[:, :, ::stride], t.reduce[3].weight, t.reduce[3].bias))]
    y = torch.cat(parts, 1)
    if block.residual is None: return F.relu(y)
    return F.relu(y + (x if isinstance(block.residual, torch.nn.Identity) else shortcut(block.residual, x, stride)))


STRIDES = [1, 1, 1, 1, 2, 1, 1, 2, 1, 1]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("index", [0, 1, 4, 9])
def test_block_is_the_plain_form(index, training):
    block = lively(small(width=8, feature_dim=24).double()).blocks[index].train(training)
    x = torch.randn(3, block.graph.value[0].in_channels, 7, 25, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    y, expected = block(x), plain_block(block, x, STRIDES[index])
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    inputs, up = [x, *block.parameters()], torch.randn(y.shape, dtype=torch.float64)
    for got, wanted in zip(torch.autograd.grad(y, inputs, up), torch.autograd.grad(expected, inputs, up)): torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-10)


def test_arithmetic_of_the_plain_form():
    "What others report: 0.251 GFLOP for a clip of two persons and 50 frames at a quarter of the width, 3.12 in full."
    for width, expected in ((16, .251), (64, 3.12)):
        encoder, x = create_encoder("ctrgcn", NTU25, width=width, feature_dim=4 * width).eval().to("meta"), torch.zeros(2, 3, 50, 25, device="meta")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            for block, stride in zip(encoder.blocks, STRIDES): x = plain_block(block, x, stride)
        assert abs(counter.get_total_flops() / 1e9 / expected - 1) < .005


# the authors' numbers

@pytest.mark.parametrize("kwargs, without, head", [(dict(feature_dim=64), 111_996, 64), (dict(width=64), 1_431_252, 256), (dict(), 290_108, 256), (dict(widen="linear"), 128_636, 256)])
def test_parameter_count(kwargs, without, head):
    encoder = create_encoder("ctrgcn", NTU25, **kwargs)
    assert count(encoder) == without and encoder.feature_dim == head
    heads = {111_996: 115_896, 1_431_252: 1_446_672}                                       # with a linear layer for 60 classes
    if without in heads: assert without + 60 * head + 60 == heads[without]


@pytest.mark.outside
def test_forward_as_released(fixture):
    assert_forward_as_released(fixture("ctrgcn_quarter_eval"), create_encoder("ctrgcn", NTU25, feature_dim=64))


@pytest.mark.outside
def test_shared_graph_starts_as_released(fixture):
    for block in small().blocks: np.testing.assert_allclose(block.graph.PA.detach(), fixture("graph_ntu")["A_inout"], atol=1e-7)


def released(state):
    "Our names back into the released ones, written independently of the encoder's pairs."
    parts = {"graph.PA": "gcn1.PA", "graph.alpha": "gcn1.alpha", "graph.bn": "gcn1.bn", "graph.down": "gcn1.down", "residual.0": "residual.conv", "residual.1": "residual.bn",
             **{f"graph.{ours}.{k}": f"gcn1.convs.{k}.conv{n}" for n, ours in enumerate(("query", "key", "value", "lift"), 1) for k in range(3)},
             **{f"time.reduce.{b}": f"tcn1.branches.{b}.0" for b in range(4)}, **{f"time.bn1.{b}": f"tcn1.branches.{b}.1" for b in range(4)},
             **{f"time.time.{b}": f"tcn1.branches.{b}.3.conv" for b in range(2)}, "time.bn2.0": "tcn1.branches.0.3.bn", "time.bn2.1": "tcn1.branches.1.3.bn", "time.bn2.2": "tcn1.branches.2.4"}
    out = {}
    for key, value in state.items():
        if key.startswith("blocks."):
            _, n, rest = key.split(".", 2)
            part = max((p for p in parts if rest == p or rest.startswith(p + ".")), key=len)
            key = f"l{int(n) + 1}.{parts[part]}{rest[len(part):]}"
        out[key] = value
    return out


def test_released_names_and_strictness():
    source, state = lively(small()), released(lively(small()).state_dict()) | {"fc.weight": torch.zeros(60, 16), "fc.bias": torch.zeros(60)}
    target = load_released(small().eval(), {f"encoder_q.{k}": v for k, v in state.items()} | {"queue": torch.zeros(1)}, "encoder_q.")
    assert torch.equal(target(clips()), source(clips()))
    with pytest.raises(EncoderError, match="blocks.3.graph.PA is missing"): load_released(small(), {k: v for k, v in state.items() if k != "l4.gcn1.PA"})
    with pytest.raises(EncoderError, match="l11.gcn1.what|blocks.10.graph.what"): load_released(small(), state | {"l11.gcn1.what": torch.zeros(1)})
    with pytest.raises(EncoderError, match=r"data_bn.weight: expected shape \(75,\), got \(150,\)"): load_released(small(persons=1), state)


def test_weights_start_as_released():
    torch.manual_seed(0)
    for block in create_encoder("ctrgcn", NTU25, width=64).blocks:
        assert block.graph.alpha.item() == 0 and (block.graph.bn.weight == 1e-6).all() and not any(p.any() for n, p in block.named_parameters() if n.endswith(".bias"))
        for conv in (block.graph.value[1], block.graph.lift[2], block.time.reduce[0], block.time.time[1]):
            fan_out = conv.weight.shape[0] * conv.kernel_size[0]
            assert abs(conv.weight.std().item() / math.sqrt(2 / fan_out) - 1) < .1
        assert .01 < torch.cat([n.weight for n in (*block.time.bn1, *block.time.bn2)]).std() < .03


# by hand

def test_refined_graph_by_hand():
    q, k, A = [.3, -.2, .5], [.1, .4, 0.], [[0, 1, 0], [.5, 0, 0], [.5, 0, 1.]]
    got = refined_graph(torch.tensor(q).view(1, 1, 1, 3), torch.tensor(k).view(1, 1, 1, 3), torch.tensor([[[2.], [-1.]]]), torch.tensor([[0., .25]]), torch.tensor([.5]), torch.tensor([A]))
    assert got.shape == (1, 1, 2, 3, 3)
    for c, (weight, bias) in enumerate(((2, 0), (-1, .25))):
        for v, w in itertools.product(range(3), range(3)):
            assert abs(got[0, 0, c, v, w].item() - (A[v][w] + .5 * (weight * math.tanh(q[w] - k[v]) + bias))) < 1e-6


def test_pieces():
    g = torch.Generator().manual_seed(0)
    conv, x = torch.nn.Conv2d(5, 7, 1), torch.randn(2, 5, 4, 6, generator=g)
    torch.testing.assert_close(pointwise(conv, x), conv(x))
    norms = [torch.nn.BatchNorm2d(2) for _ in range(3)]
    alone, h = [torch.nn.BatchNorm2d(2) for _ in range(3)], torch.randn(4, 6, 3, 5, generator=g) * 3 + 1
    for training in (True, True, False):
        for n in (*norms, *alone): n.train(training)
        torch.testing.assert_close(normed(norms, h), torch.cat([n(p) for n, p in zip(alone, h.chunk(3, 1))], 1))
    for a, b in zip(norms, alone):
        for name, value in a.state_dict().items(): torch.testing.assert_close(value, b.state_dict()[name])
    for n in norms: n.momentum = None                                                     # the mean of all batches: one by one
    torch.testing.assert_close(normed(norms, h), torch.cat([n(p) for n, p in zip(norms, h.chunk(3, 1))], 1))
    other = [torch.nn.SyncBatchNorm.convert_sync_batchnorm(n).eval() for n in norms]      # any other kind runs by itself
    assert type(other[0]) is torch.nn.SyncBatchNorm
    torch.testing.assert_close(normed(other, h), normed(norms, h))


# promises

def test_gradient_reaches_all_parameters():
    encoder = lively(small()).train()
    encoder(clips()).square().mean().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    unfelt = [n for n, p in encoder.named_parameters() if not n.endswith(".bias") and not p.grad.abs().sum() > 0]      # a batch norm takes away the bias before it
    assert not unfelt
    fresh = small().train()                                                               # alpha 0 at the start: the comparison of joints is learned once alpha moves
    fresh(clips()).square().mean().backward()
    assert fresh.blocks[1].graph.alpha.grad.abs() > 0 and (fresh.blocks[1].graph.lift[0].weight.grad == 0).all()


def test_samples_do_not_see_each_other_in_eval_mode():
    encoder, x = lively(small()), clips(5)
    together = encoder(x)
    for n in range(5): torch.testing.assert_close(encoder(x[n:n + 1])[0], together[n], rtol=1e-4, atol=1e-5)


def test_joints_may_be_numbered_in_any_order():
    encoder, other, x = lively(small().double()), lively(small().double()), clips(dtype=torch.float64)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(2))
    for a, b in zip(encoder.blocks, other.blocks): b.graph.PA.data.copy_(a.graph.PA[:, order][:, :, order])
    for key in ("weight", "bias", "running_mean", "running_var"):
        getattr(other.data_bn, key).data.copy_(getattr(encoder.data_bn, key).view(2, 25, 3)[:, order].flatten())
    torch.testing.assert_close(other(x[:, :, :, order]), encoder(x))


def test_first_batch_norm_sees_all_persons():
    encoder, x = lively(small()), clips(4)
    rows, bn = encoder.persons_apart(x), encoder.data_bn
    for n, m, c, v in ((0, 0, 0, 0), (1, 1, 2, 24), (3, 0, 1, 7)):
        i = (m * 25 + v) * 3 + c
        expected = (x[n, c, :, v, m] - bn.running_mean[i]) / (bn.running_var[i] + bn.eps).sqrt() * bn.weight[i] + bn.bias[i]
        torch.testing.assert_close(rows[2 * n + m, c, :, v], expected)
    with pytest.raises(EncoderError, match=r"expected 2 person slots on axis 4, got 1 in shape \(3, 3, 9, 25, 1\).*persons=1"): encoder(clips(m=1))
    with pytest.raises(EncoderError, match="expected 2 person slots"): encoder.feature_map(clips(m=3))


@pytest.mark.parametrize("pool", ["slots", "present"])
def test_absent_persons_are_computed_once_and_change_nothing(pool):
    encoder, x, sizes = lively(small(pool=pool)), clips(6), []
    x[::2, ..., 1] = 0; x[4] = 0; x[1, ..., 0] = 0
    present, handle = x.abs().sum((1, 2, 3)) > 0, encoder.blocks[0].register_forward_hook(lambda m, i, o: sizes.append(len(o)))
    rows = encoder.encode(encoder.persons_apart(x)).view(6, 2, -1)
    torch.testing.assert_close(encoder(x, present=present), encoder.merge(rows, present), rtol=1e-4, atol=1e-5)
    assert sizes == [12, int(present.sum()) + 2]                                          # an absent first and an absent second person differ
    handle.remove()
    encoder.train()
    if pool == "slots": torch.testing.assert_close(encoder(x, present=present), encoder(x))


def test_edges_are_called_once_a_block_on_the_shared_graph():
    encoder, x, seen = lively(small()), clips(), []
    def edges(A): seen.append(A.detach().clone()); return A * 0
    y = encoder(x, edges)
    assert len(seen) == 10 and all(torch.equal(a, b.graph.PA.mT) for a, b in zip(seen, encoder.blocks))      # source in rows, as everywhere here
    torch.testing.assert_close(encoder(x, lambda A: A), encoder(x))
    assert not torch.allclose(y, encoder(x), atol=1e-3)
    bare = lively(small())
    for block in bare.blocks: block.graph.PA.data.zero_()
    torch.testing.assert_close(bare(x), y)                                               # what is left are the refinements
    encoder.train()(x, DropAddEdges(add=.05)).sum().backward()


def test_topologies_are_the_graphs_that_are_used():
    encoder, x = lively(small().double()), clips(2, dtype=torch.float64)
    found, block = topologies(encoder, x), encoder.blocks[4]
    assert list(found) == [f"blocks.{i}.graph.topology" for i in range(10)]
    assert [tuple(A.shape) for A in found.values()] == [(4, 3, c, 25, 25) for c in [4] * 4 + [8] * 3 + [16] * 3]
    given = []
    handle = block.graph.register_forward_pre_hook(lambda m, i: given.append(i[0]))
    encoder(x); handle.remove()
    A = found["blocks.4.graph.topology"]
    torch.testing.assert_close(A, plain_graph(block.graph, given[0]).transpose(0, 1).mT)
    y = sum(torch.einsum("bctv,bcvw->bctw", value(given[0]), A[:, k]) for k, value in enumerate(block.graph.value))
    torch.testing.assert_close(block.graph(given[0]), F.relu(block.graph.bn(y) + block.graph.down(given[0])))
    fresh = topologies(small().eval(), clips())["blocks.0.graph.topology"]                # alpha 0: the shared graph for all
    torch.testing.assert_close(fresh, torch.from_numpy(NTU25.adjacency("inout")).mT[None, :, None].expand_as(fresh))


def test_a_topology_can_be_replaced_by_a_hook():
    encoder, x = lively(small()), clips()
    block = encoder.blocks[2]
    handle = block.graph.topology.register_forward_hook(lambda m, i, o: o * 0)
    cut = encoder(x); handle.remove()
    assert not torch.allclose(cut, encoder(x), atol=1e-3)


def test_config_builds_the_same_encoder_again():
    for e in (small(UCLA20, pool="present", persons=1), CTRGCN(LAYOUTS["coco17"], 4, 20, in_channels=2, widen="linear")):
        again = create_encoder(**json.loads(json.dumps(e.config)))
        again.load_state_dict(e.state_dict())
        x = clips(c=e.in_channels, v=len(e.skeleton), m=e.persons)
        assert again.config == e.config and torch.equal(again.eval()(x), e.eval()(x)) and again.skeleton == e.skeleton


def test_the_feature_is_the_mean_of_the_map():
    for kwargs in ({}, dict(widen="linear", feature_dim=10), dict(widen="linear")):
        encoder, x = lively(small(**kwargs)), clips()
        D = encoder.feature_dim
        assert encoder.feature_map(x).shape == (3, 2, D, 3, 25)
        torch.testing.assert_close(encoder.feature_map(x).mean((1, 3, 4)), encoder(x), rtol=1e-4, atol=1e-5)
    assert isinstance(small(widen="linear").widen, torch.nn.Identity)                     # 4 x 4 = 16: nothing to add
    assert isinstance(small(widen="linear", feature_dim=10).widen, torch.nn.Linear)
    same = small(widen="linear"); same.load_state_dict(small().state_dict())


@pytest.mark.parametrize("wrong, words", [
    (lambda: small(width=6), "width: .* multiple of 4 channels, got 6; nearest: 4 or 8"),
    (lambda: small(width=2), "width: .* got 2; nearest: 4$"),
    (lambda: small(feature_dim=30), "feature_dim: .* got 30; nearest: 28 or 32"),
    (lambda: small(widen="head"), "widen is 'block' or 'linear', got 'head'"),
    (lambda: small(colour=1), "no setting 'colour'"),
    (lambda: small()(clips(v=20)), r"expected 25 joints \(ntu25\)"),
])
def test_errors_say_what_was_expected_and_what_came(wrong, words):
    with pytest.raises(EncoderError, match=f"(?s){words}"): wrong()


def test_bfloat16_autocast():
    encoder, x = small(width=8).train(), clips(4, t=20)
    with torch.autocast("cpu", torch.bfloat16): y = encoder(x, DropAddEdges())
    y.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())
    encoder.eval()
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16): low = encoder(x).float()
        assert F.cosine_similarity(low, encoder(x)).min() > .999
