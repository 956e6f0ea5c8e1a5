"""UNIK: the authors' numbers, an independent plain form, and its promises."""

import json
import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import encoder_cases as cases
from encoder_cases import assert_forward_as_released, count
from skelnb.augment.strong import DropAddEdges
from skelnb.encoders import UNIK, EncoderError, create_encoder, load_released, topologies
from skelnb.encoders.unik import joint_attention
from skelnb.skeleton import LAYOUTS, NTU25, UCLA20


clips = partial(cases.clips, t=9)


def lively(encoder): return cases.lively(encoder, .5)


def small(skeleton=NTU25, **kwargs):
    torch.manual_seed(0)
    return create_encoder("unik", skeleton, **{"width": 4, "feature_dim": 16, **kwargs})


# an independent form, one operation after the other

def plain_matrices(j, x):
    B, C, T, V = x.shape
    out = []
    for a, b, W in zip(j.a, j.b, j.DepM):
        scores = torch.einsum("bctv,bctw->bvw", a(x), b(x)) / (a.weight.shape[0] * T)
        out.append(W + scores.exp() / scores.exp().sum(1, keepdim=True))
    return torch.stack(out, 1)


def plain_block(block, x, stride):
    norm = lambda n, h: F.batch_norm(h, None if n.training else n.running_mean, None if n.training else n.running_var, n.weight, n.bias, n.training)
    shortcut = lambda s, h, stride=1: norm(s[1], F.conv2d(h[:, :, ::stride], s[0].weight, s[0].bias))
    j, A = block.joints, plain_matrices(block.joints, x)
    y = sum(value(torch.einsum("bctv,bvw->bctw", x, A[:, k])) for k, value in enumerate(j.value))
    h = F.relu(norm(j.bn, y) + (x if isinstance(j.down, torch.nn.Identity) else shortcut(j.down, x)))
    y = norm(block.bn, F.conv2d(h, block.time.weight, block.time.bias, (stride, 1), (4, 0)))
    if block.residual is None: return F.relu(y)
    return F.relu(y + (x if isinstance(block.residual, torch.nn.Identity) else shortcut(block.residual, x, stride)))


STRIDES = [1, 1, 1, 1, 2, 1, 1, 2, 1, 1]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("index", [0, 1, 4, 9])
def test_block_is_the_plain_form(index, training):
    block = lively(small(width=8, feature_dim=24).double()).blocks[index].train(training)
    x = torch.randn(3, block.joints.a[0].in_channels, 7, 25, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    y, expected = block(x), plain_block(block, x, STRIDES[index])
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    inputs = [x, *(p for n, p in block.named_parameters() if n != "joints.bias")]
    up = torch.randn(y.shape, dtype=torch.float64)
    for got, wanted in zip(torch.autograd.grad(y, inputs, up), torch.autograd.grad(expected, inputs, up)): torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-10)


def test_arithmetic():
    "What others report: 0.468 GFLOP for a clip of two persons and 50 frames at a quarter of the width, 6.59 in full. Here it is the same."
    for width, expected in ((16, .468), (64, 6.59)):
        encoder = create_encoder("unik", NTU25, width=width, feature_dim=4 * width).eval().to("meta")
        for blocks in (lambda x, block, stride: block(x), lambda x, block, stride: plain_block(block, x, stride)):
            x = torch.zeros(2, 3, 50, 25, device="meta")
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                for block, stride in zip(encoder.blocks, STRIDES): x = blocks(x, block, stride)
            assert abs(counter.get_total_flops() / 1e9 / expected - 1) < .002


# the authors' numbers

@pytest.mark.parametrize("kwargs, without, head", [(dict(feature_dim=64), 237_164, 64), (dict(width=64), 3_454_340, 256), (dict(), 881_548, 256), (dict(widen="linear"), 253_804, 256)])
def test_parameter_count(kwargs, without, head):
    encoder = create_encoder("unik", NTU25, **kwargs)
    assert count(encoder) == without and encoder.feature_dim == head
    heads = {237_164: 241_064, 3_454_340: 3_469_760}                                      # with a linear layer for 60 classes
    if without in heads: assert without + 60 * head + 60 == heads[without]


@pytest.mark.outside
def test_forward_as_released(fixture):
    assert_forward_as_released(fixture("unik_quarter_eval"), create_encoder("unik", NTU25, feature_dim=64))


def released(state):
    "Our names back into the released ones, written independently of the encoder's pairs."
    out = {}
    for key, value in state.items():
        if key.startswith("blocks."):
            _, n, rest = key.split(".", 2)
            for ours, theirs in (("joints.a.", "s_unit.conv_a."), ("joints.b.", "s_unit.conv_b."), ("joints.value.", "s_unit.conv_d."), ("joints.", "s_unit."), ("time.", "t_unit.conv."),
                                 ("bn.", "t_unit.bn."), ("residual.0.", "residual.conv."), ("residual.1.", "residual.bn.")):
                if rest.startswith(ours): key = f"l{int(n) + 1}.{theirs}{rest[len(ours):]}"; break
        out[key] = value
    return out


def test_released_names_and_strictness():
    source, state = lively(small()), released(lively(small()).state_dict()) | {"fc.weight": torch.zeros(60, 16), "fc.bias": torch.zeros(60)}
    target = load_released(small().eval(), {f"encoder_q.{k}": v for k, v in state.items()} | {"queue": torch.zeros(1)}, "encoder_q.")
    assert torch.equal(target(clips()), source(clips()))
    with pytest.raises(EncoderError, match="blocks.3.joints.DepM is missing"): load_released(small(), {k: v for k, v in state.items() if k != "l4.s_unit.DepM"})
    with pytest.raises(EncoderError, match="blocks.0.joints.conv_e.0.weight does not belong here"): load_released(small(), state | {"l1.s_unit.conv_e.0.weight": torch.zeros(1)})
    with pytest.raises(EncoderError, match=r"expected shape \(3, 20, 20\), got \(3, 25, 25\)"): load_released(small(UCLA20), state)


def test_weights_start_as_released():
    torch.manual_seed(0)
    for i, block in enumerate(create_encoder("unik", NTU25, width=64).blocks):
        j = block.joints
        assert (j.bn.weight == 1e-6).all() and (block.bn.weight == 1).all() and not any(p.any() for n, p in block.named_parameters() if n.endswith(".bias") and n != "joints.bias")
        assert .0399 < j.DepM.abs().max() <= .04 and abs(j.DepM.std() * 25 * math.sqrt(3) - 1) < .05
        assert abs(block.time.weight.std().item() / math.sqrt(2 / (9 * len(block.time.weight))) - 1) < .05
        assert abs(j.a[2].weight.std().item() / math.sqrt(2 / len(j.a[2].weight)) - 1) < .25
        assert abs(torch.stack([v.weight for v in j.value]).std().item() / math.sqrt(2 / (3 * j.value[0].weight.numel())) - 1) < .1


# by hand

def test_attention_by_hand():
    a, b = [[1, 0], [0, 1], [2, 2]], [[2, 0], [0, 0], [1, 1]]                             # three joints, two numbers each
    got = joint_attention(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    for w in range(3):
        e = [math.exp(sum(p * q for p, q in zip(a[v], b[w])) / 2) for v in range(3)]
        for v in range(3): assert abs(got[v, w].item() - e[v] / sum(e)) < 1e-12
    assert torch.equal(got[:, 1], torch.full((3,), 1 / 3, dtype=torch.float64))           # a joint that asks nothing hears all alike


def test_attention_columns_sum_to_one_and_do_not_grow_with_the_clip():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 4, 3, 25, 12, generator=g)
    A = joint_attention(a, b)
    torch.testing.assert_close(A.sum(-2), torch.ones(4, 3, 25))
    torch.testing.assert_close(joint_attention(a.repeat(1, 1, 1, 4), b.repeat(1, 1, 1, 4)), A)


# promises

def test_gradient_reaches_all_parameters_but_those_without_effect():
    encoder, x = lively(small().double()), clips(dtype=torch.float64)                     # evaluation: in training a batch norm takes away the bias before it
    y = encoder(x)
    y.square().mean().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    size = {n: (p.grad.abs().max() / encoder.blocks[0].time.weight.grad.abs().max()).item() for n, p in encoder.named_parameters()}
    idle = {f"blocks.{i}.joints.bias" for i in range(10)} | {f"blocks.{i}.joints.a.{k}.bias" for i in range(10) for k in range(3)}
    assert {n for n, s in size.items() if s < 1e-14} == idle                              # a's bias adds the same to all of a column's scores: no softmax sees that
    for name, p in encoder.named_parameters():
        if name in idle: p.data.add_(.5)
    torch.testing.assert_close(encoder(x), y)


def test_samples_do_not_see_each_other_in_eval_mode():
    encoder, x = lively(small()), clips(5)
    together = encoder(x)
    for n in range(5): torch.testing.assert_close(encoder(x[n:n + 1])[0], together[n], rtol=1e-4, atol=1e-5)


def test_joints_may_be_numbered_in_any_order():
    encoder, other, x = lively(small().double()), lively(small().double()), clips(dtype=torch.float64)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(2))
    for a, b in zip(encoder.blocks, other.blocks): b.joints.DepM.data.copy_(a.joints.DepM[:, order][:, :, order])
    for key in ("weight", "bias", "running_mean", "running_var"):
        getattr(other.data_bn, key).data.copy_(getattr(encoder.data_bn, key).view(2, 25, 3)[:, order].flatten())
    torch.testing.assert_close(other(x[:, :, :, order]), encoder(x))


def test_it_knows_nothing_of_the_body():
    "Two layouts with as many joints and different bones give the same network."
    other = NTU25.from_dict({**NTU25.to_dict(), "name": "star", "parents": [0] * 25, "centre": 0})
    a, b = small(NTU25), small(other)
    assert all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values()))
    assert torch.equal(lively(a)(clips()), lively(b)(clips()))


@pytest.mark.parametrize("pool", ["slots", "present"])
def test_absent_persons_are_computed_once_and_change_nothing(pool):
    encoder, x, sizes = lively(small(pool=pool)), clips(6), []
    x[::2, ..., 1] = 0; x[4] = 0; x[1, ..., 0] = 0
    present, handle = x.abs().sum((1, 2, 3)) > 0, encoder.blocks[0].register_forward_hook(lambda m, i, o: sizes.append(len(o)))
    rows = encoder.encode(encoder.persons_apart(x)).view(6, 2, -1)
    torch.testing.assert_close(encoder(x, present=present), encoder.merge(rows, present), rtol=1e-4, atol=1e-5)
    assert sizes == [12, int(present.sum()) + 2]                                          # an absent first and an absent second person differ
    handle.remove()
    with pytest.raises(EncoderError, match=r"expected 2 person slots on axis 4, got 3.*persons=3"): encoder(clips(m=3))


def test_edges_are_called_once_a_block_on_the_learned_matrices():
    encoder, x, seen = lively(small()), clips(), []
    def edges(A): seen.append(A.detach().clone()); return A * 0
    y = encoder(x, edges)
    assert len(seen) == 10 and all(torch.equal(a, b.joints.DepM) for a, b in zip(seen, encoder.blocks))
    torch.testing.assert_close(encoder(x, lambda A: A), encoder(x))
    assert not torch.allclose(y, encoder(x), atol=1e-3)
    bare = lively(small())
    for block in bare.blocks: block.joints.DepM.data.zero_()
    torch.testing.assert_close(bare(x), y)                                               # what is left is the attention
    encoder.train()(x, DropAddEdges(add=.05)).sum().backward()


def test_topologies_are_the_matrices_that_are_used():
    encoder, x = lively(small().double()), clips(2, dtype=torch.float64)
    found, block = topologies(encoder, x), encoder.blocks[4]
    assert list(found) == [f"blocks.{i}.joints.topology" for i in range(10)] and {tuple(A.shape) for A in found.values()} == {(4, 3, 25, 25)}
    given = []
    handle = block.joints.register_forward_pre_hook(lambda m, i: given.append(i[0]))
    encoder(x); handle.remove()
    A = found["blocks.4.joints.topology"]
    torch.testing.assert_close(A, plain_matrices(block.joints, given[0]))
    torch.testing.assert_close((A - block.joints.DepM).sum(2), torch.ones(4, 3, 25, dtype=torch.float64))     # attention: what a joint hears sums to 1
    y = sum(value(torch.einsum("bctv,bvw->bctw", given[0], A[:, k])) for k, value in enumerate(block.joints.value))
    torch.testing.assert_close(block.joints(given[0]), F.relu(block.joints.bn(y) + block.joints.down(given[0])))
    handle = block.joints.topology.register_forward_hook(lambda m, i, o: o * 0)
    cut = encoder(x); handle.remove()
    assert not torch.allclose(cut, encoder(x), atol=1e-3)


def test_config_builds_the_same_encoder_again():
    for e in (small(UCLA20, pool="present", persons=1), UNIK(LAYOUTS["coco17"], 4, 18, in_channels=2, widen="linear", heads=2), small(width=2, feature_dim=6)):
        again = create_encoder(**json.loads(json.dumps(e.config)))
        again.load_state_dict(e.state_dict())
        x = clips(c=e.in_channels, v=len(e.skeleton), m=e.persons)
        assert again.config == e.config and torch.equal(again.eval()(x), e.eval()(x)) and again.skeleton == e.skeleton


def test_the_feature_is_the_mean_of_the_map():
    for kwargs in ({}, dict(widen="linear", feature_dim=10), dict(widen="linear")):
        encoder, x = lively(small(**kwargs)), clips()
        assert encoder.feature_map(x).shape == (3, 2, encoder.feature_dim, 3, 25)
        torch.testing.assert_close(encoder.feature_map(x).mean((1, 3, 4)), encoder(x), rtol=1e-4, atol=1e-5)
    assert isinstance(small(widen="linear").widen, torch.nn.Identity) and isinstance(small(widen="linear", feature_dim=10).widen, torch.nn.Linear)


@pytest.mark.parametrize("wrong, words", [
    (lambda: small(heads=0), "width, feature_dim and heads of 1 or more, got 4, 16 and 0"),
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
