"""DSTA-Net: the numbers of HiCLR's code, one block written out in loops, and what its attention promises."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from encoder_cases import clips
from skelnb.augment import DropAddEdges
from skelnb.encoders import DSTA, EncoderError, create_encoder, layer_table, load_released, topologies
from skelnb.encoders.dsta import DSTABlock, attend, dsta_plan, joint_code, joint_scores
from skelnb.skeleton import COCO17, NTU25, UCLA20


def small(skeleton=NTU25, **kwargs):
    torch.manual_seed(0)
    return create_encoder("dsta", skeleton, **{"width": 4, "feature_dim": 16, **kwargs})


def lively(module, scale=.3):
    "Weights and statistics away from their defaults, so that attention is neither flat nor saturated; an encoder's statistics fit its layers, as after training."
    g = torch.Generator().manual_seed(1)
    for name, p in [*module.named_parameters(), *module.named_buffers()]:
        if not p.is_floating_point() or name.endswith("code"): continue
        noise = torch.rand(p.shape, generator=g, dtype=torch.float64).to(p) - .5
        if "running_var" in name: p.data.copy_(1 + noise)
        elif p.ndim == 4 and "shared" not in name and "alpha" not in name: p.data.copy_(3 * noise / p[0].numel() ** .5)
        else: p.data.copy_(p + scale * noise)
    if isinstance(module, DSTA):
        norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for m in norms: m.reset_running_stats(); m.momentum = None                                 # the mean over all batches
        with torch.no_grad(): module.train()(clips(6, module.in_channels, 20, len(module.skeleton), dtype=next(module.parameters()).dtype, seed=9))
        for m in norms: m.momentum = .1
    return module.eval()


# the authors' numbers

@pytest.fixture(scope="module")
def released(fixture):
    ref = fixture("dsta_eval_small")
    arrays = {k: torch.from_numpy(np.array(ref[k])) for k in ref}
    return arrays, {k[3:]: v for k, v in arrays.items() if k.startswith("sd/")}


@pytest.mark.outside
def test_forward_as_released(released):
    ref, state = released
    encoder = load_released(create_encoder("dsta", NTU25, feature_dim=16, plan=ref["config"].tolist()), state).eval()
    fc = torch.nn.Linear(16, 12)
    fc.load_state_dict({k[3:]: v for k, v in state.items() if k.startswith("fc.")})
    with torch.no_grad():
        feature = encoder(ref["x"])
        for name, value in (("feature", feature), ("out", fc(feature))): assert (value - ref[name]).abs().max() / ref[name].abs().max() < 1e-5, name


@pytest.mark.outside
def test_joint_code_as_released(fixture):
    theirs = torch.from_numpy(np.array(fixture("dsta_posenc")["pe_spatial_C8"]))[0]
    assert (theirs == theirs[:, :1]).all()                                      # the same in every frame
    torch.testing.assert_close(joint_code(25, 8), theirs[:, 0], rtol=0, atol=1e-6)


def test_parameter_count_and_arithmetic():
    encoder = create_encoder("dsta", NTU25).eval()
    count = sum(p.numel() for p in encoder.parameters())
    assert count == 1_546_480 and count + 256 * 60 + 60 == 1_561_900
    whole = layer_table(encoder, clips(1, t=50)).set_index("layer").loc["whole"]
    assert abs(whole.MFLOP / 1000 - 2.46) < .01 and whole.parameters == count


def test_the_plan_is_that_of_the_released_configuration():
    assert dsta_plan() == [[32, 32, 16, 1], [32, 32, 16, 1], [32, 64, 16, 2], [64, 64, 16, 1], [64, 128, 32, 2], [128, 128, 32, 1], [128, 128, 32, 1], [128, 256, 32, 1]]
    assert dsta_plan(4, 16)[-1] == [16, 16, 4, 1] and dsta_plan(1, 2)[0] == [1, 1, 1, 1]


def test_released_names_and_strictness():
    source = lively(small())
    names = {"qk": "in_nets", "mix": "out_nets", "feed": "ff_nets", "time": "out_nett", "skip1": "downs1", "skip2": "downs2", "skip3": "downt2", "alpha": "alphas",
             "shared": "attention0s"}
    state = {}
    for key, value in source.state_dict().items():
        if key.startswith("blocks."):
            _, n, part, *rest = key.split(".")
            key = ".".join(["graph_layers", n, names[part], *rest])
        state[key.replace("bn.", "input_map.0.") if key.startswith("bn.") else key] = value
    for n in range(8): state[f"graph_layers.{n}.atts"] = state[f"graph_layers.{n}.pes.pe"] = torch.zeros(1)
    state["fc.0.weight"] = torch.zeros(2, 16)
    target = load_released(small().eval(), {f"encoder_q.{k}": v for k, v in state.items()} | {"queue": torch.zeros(1)}, "encoder_q.")
    assert torch.equal(target(clips()), source(clips()))
    state["graph_layers.3.in_nett.weight"] = torch.zeros(1)                     # temporal attention: a network that this one is not
    del state["graph_layers.0.alphas"]
    with pytest.raises(EncoderError, match="(?s)blocks.0.alpha is missing.*blocks.3.in_nett.weight does not belong here"): load_released(small(), state)


# attention

def test_one_attention_step_by_hand():
    "Three joints, one channel, one frame: q = x, k = 1 - x."
    x = torch.tensor([1., 0., 2.]).view(1, 1, 1, 3)
    A = joint_scores(x, torch.zeros(1, 3), torch.tensor([1., -1.]).view(2, 1, 1, 1), torch.tensor([0., 1.]), heads=1)
    q, k = np.array([1, 0, 2]), np.array([0, 1, -1])
    np.testing.assert_allclose(A[0, 0], np.tanh(np.outer(q, k)), rtol=1e-6)
    y = attend(x, A, torch.ones(1, 1, 1, 1), torch.zeros(1))
    np.testing.assert_allclose(y.flatten(), [0, np.tanh(1) + 2 * np.tanh(2), -np.tanh(1) - 2 * np.tanh(2)], rtol=1e-6)


@pytest.mark.parametrize("heads, inter, t", [(3, 4, 5), (1, 1, 1), (2, 3, 7)])
def test_scores_and_mixing_are_the_plain_form(heads, inter, t):
    B, C, D, V = 2, 5, 6, 7
    g = torch.Generator().manual_seed(0)
    rand = lambda *s: torch.randn(s, generator=g, dtype=torch.float64, requires_grad=True)
    x, w, b, w2, b2, code = rand(B, C, t, V), rand(2 * heads * inter, C, 1, 1), rand(2 * heads * inter), rand(D, heads * C, 1, 1), rand(D), rand(C, V)
    q, k = F.conv2d(x + code[:, None], w, b).view(B, 2, heads, inter, t, V).unbind(1)
    A = torch.tanh(torch.einsum("bkctv,bkctw->bkvw", q, k) / (inter * t))
    y = F.conv2d(torch.einsum("bctv,bkvw->bkctw", x, A).reshape(B, heads * C, t, V), w2, b2)
    scores = joint_scores(x, code, w, b, heads)
    torch.testing.assert_close(scores, A)
    torch.testing.assert_close(attend(x, scores, w2, b2), y)
    up, args = torch.randn(y.shape, generator=g, dtype=torch.float64), (x, w, b, w2, b2, code)
    for got, expected in zip(torch.autograd.grad(attend(x, scores, w2, b2), args, up), torch.autograd.grad(y, args, up)): torch.testing.assert_close(got, expected)


def plain_conv_bn(layer, x, stride=1, training=False):
    "A convolution over time and its normalisation, cell by cell: x (B,C,T,V) numpy."
    conv, bn = (layer[0], layer[1])
    W, b = conv.weight.detach().numpy()[..., 0], conv.bias.detach().numpy()
    half, T = W.shape[2] // 2, x.shape[2]
    y = np.stack([sum((np.einsum("dc,bcv->bdv", W[:, :, i], x[:, :, t + i - half]) for i in range(W.shape[2]) if 0 <= t + i - half < T), b[None, :, None])
                  for t in range(0, T, stride)], 2)
    return plain_bn(bn, y, training)


def plain_bn(bn, y, training):
    mean, var = (y.mean((0, 2, 3)), y.var((0, 2, 3))) if training else (bn.running_mean.numpy(), bn.running_var.numpy())
    scale = bn.weight.detach().numpy() / np.sqrt(var + bn.eps)
    return (y - mean[:, None, None]) * scale[:, None, None] + bn.bias.detach().numpy()[:, None, None]


@pytest.mark.parametrize("cin, cout, stride", [(4, 4, 1), (4, 6, 2), (4, 6, 1), (4, 4, 2)])
@pytest.mark.parametrize("training", [False, True])
def test_a_block_in_loops(cin, cout, stride, training):
    block = lively(DSTABlock(5, cin, cout, 2, stride, dropout=0.).double()).train(training)
    x = torch.randn(3, cin, 9, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    leaky, a = lambda v: np.where(v > 0, v, .1 * v), x.numpy()
    W, b, code = block.qk.weight.detach().numpy()[..., 0, 0], block.qk.bias.detach().numpy(), block.code.numpy()
    A = np.zeros((3, 3, 5, 5))
    for n in range(3):
        for h in range(3):
            for v in range(5):
                for w in range(5):
                    want = sum((W[2 * h:2 * h + 2] @ (a[n, :, t, v] + code[:, v]) + b[2 * h:2 * h + 2]) @ (W[6 + 2 * h:8 + 2 * h] @ (a[n, :, t, w] + code[:, w]) + b[6 + 2 * h:8 + 2 * h])
                               for t in range(9)) / (2 * 9)
                    A[n, h, v, w] = np.tanh(want) * block.alpha[0, h, 0, 0].item() + block.shared[0, h, v, w].item()
    mixed = np.einsum("bctv,bkvw->bkctw", a, A).reshape(3, 3 * cin, 9, 5)
    skip = lambda layer, v, s=1: v[:, :, ::s] if isinstance(layer, torch.nn.Identity) else plain_conv_bn(layer, v[:, :, ::s], 1, training)
    y = leaky(skip(block.skip1, a) + plain_conv_bn(block.mix, mixed, 1, training))
    y = leaky(skip(block.skip2, a) + plain_conv_bn(block.feed, y, 1, training))
    z = leaky(skip(block.skip3, y, stride) + plain_conv_bn(block.time, y, stride, training))
    np.testing.assert_allclose(block(x).detach(), z, rtol=1e-10, atol=1e-12)


def test_what_passes_the_taps_is_what_the_block_uses():
    encoder, x = lively(small()), clips(m=1)
    maps, seen = topologies(encoder, x), {}
    assert list(maps) == [f"blocks.{i}.topology" for i in range(8)] and all(A.shape == (3, 3, 25, 25) for A in maps.values())
    block = encoder.blocks[4]
    h = block.register_forward_hook(lambda m, i, o: seen.update(x=i[0], y=o))
    with torch.no_grad(): encoder(x)
    h.remove()
    a, A = seen["x"], maps["blocks.4.topology"]
    with torch.no_grad():
        mixed = torch.stack([sum(a[:, :, :, v, None] * A[:, k, None, None, v] for v in range(25)) for k in range(3)], 1)      # what joint w takes from joint v
        y = F.leaky_relu(block.skip1(a) + block.mix(mixed.flatten(1, 2)), .1)
        y = F.leaky_relu(block.skip2(a) + block.feed(y), .1)
        z = F.leaky_relu(block.skip3(y[:, :, ::2]) + block.time(y), .1)
    torch.testing.assert_close(seen["y"], z, rtol=1e-4, atol=1e-5)


def test_attention_is_each_persons_own_and_a_mean_over_frames():
    encoder, x = lively(small().double()), clips(2, dtype=torch.float64)
    first = lambda x: topologies(encoder, x)["blocks.0.topology"].unflatten(0, (len(x), -1))
    A = first(x)
    torch.testing.assert_close(first(x[1:])[0], A[1])
    torch.testing.assert_close(first(x.flip(4)), A.flip(1))
    torch.testing.assert_close(first(torch.cat([x, x], 2)), A)                   # a clip shown twice asks for the same
    torch.testing.assert_close(first(x[:, :, torch.randperm(12)]), A)            # frames shuffled too: the map does not know time
    assert (A - encoder.blocks[0].shared).abs().max() <= encoder.blocks[0].alpha.abs().max() and A.std() > .01


def test_a_fresh_block_starts_as_the_mean_of_all_joints_plus_what_q_and_k_say():
    block = DSTABlock(25, 8, 8, 4)
    assert (block.shared == 1 / 25).all() and (block.alpha == 1).all() 
    assert abs(small(width=32).blocks[5].time[0].weight.std() / (2 / (7 * 128)) ** .5 - 1) < .05          # He et al. by fan out, as in the released code
    with torch.no_grad(): block.qk.weight.zero_(), block.qk.bias.zero_()
    assert (block.attention(torch.randn(2, 8, 4, 25)) == 1 / 25).all()


def test_the_code_tells_joints_apart():
    code = joint_code(33, 8)
    assert code.shape == (8, 33) and torch.pdist(code.T).min() > .1
    assert torch.allclose(code[0], torch.arange(33.).sin()) and torch.allclose(code[1], torch.arange(33.).cos(), atol=1e-6)
    assert joint_code(5, 3).shape == (3, 5) and joint_code(5, 1).shape == (1, 5)
    still = torch.ones(1, 3, 6, 25, 1)                                          # all joints at one place: only the code can make them differ
    A = topologies(lively(small()), still)["blocks.0.topology"][0] - lively(small()).blocks[0].shared[0]
    assert A.std((1, 2)).min() > 1e-3


# promises

def test_relabelled_joints_with_their_code_and_map():
    encoder, other, x = lively(small().double()), lively(small().double()), clips(dtype=torch.float64)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(2))
    for a, b in zip(encoder.blocks, other.blocks):
        b.code.copy_(a.code[:, order]); b.shared.data.copy_(a.shared[:, :, order][..., order])
    torch.testing.assert_close(other(x[:, :, :, order]), encoder(x))
    assert (encoder(x[:, :, :, order]) - encoder(x)).abs().max() > 1e-3           # without that, the numbering matters


def test_edges_are_called_once_a_block_on_each_persons_maps():
    encoder, x, seen = lively(small()), clips(), []
    def edges(A): seen.append(A.clone()); return A * 0
    y = encoder(x, edges)
    assert [A.shape for A in seen] == [(6, 3, 25, 25)] * 8
    torch.testing.assert_close(seen[0], topologies(encoder, x)["blocks.0.topology"])
    assert all((A == 0).all() for A in topologies(encoder, x, lambda A: A * 0).values())       # the tap lies after the perturbation
    assert torch.equal(encoder(x, lambda A: A), encoder(x)) and (y - encoder(x)).abs().max() > 1e-3


def test_released_edge_perturbation():
    encoder, x = lively(small()), clips()
    torch.manual_seed(0)
    drop = topologies(encoder, x, DropAddEdges(drop=.1))
    kept = [(A != 0).float().mean().item() for A in drop.values()]
    assert all(.88 < k <= 1 for k in kept) and len(set(kept)) > 1                 # a new rate for every block
    encoder.train()
    encoder(x, DropAddEdges(drop=.1, add=.05)).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


def test_gradient_reaches_every_parameter():
    encoder = lively(small()).train()
    encoder(clips(4, t=20)).square().mean().backward()
    assert not [n for n, p in encoder.named_parameters() if not p.grad.abs().sum() > 0]


def test_dropout_is_on_the_last_residual_and_only_in_training():
    block, x = lively(DSTABlock(5, 4, 4, 2, dropout=1.)), torch.randn(2, 4, 6, 5)
    assert not torch.equal(block(x), block.train()(x))
    for bn in (block.mix[1], block.feed[1], block.time[1]): bn.eval()            # all of the residual dropped: what is left is the time convolution
    seen = {}
    block.time.register_forward_hook(lambda m, i, o: seen.update(z=o.clone()))
    torch.testing.assert_close(block(x), F.leaky_relu(seen["z"], .1))


def test_config_builds_the_same_encoder_again():
    plan = [[8, 8, 4, 1], [8, 16, 4, 2]]
    for e in (small(UCLA20, pool="present", heads=2, dropout=.2, persons=1), DSTA(COCO17, 4, 16, in_channels=2), DSTA(plan=np.array(plan), feature_dim=16)):
        again = create_encoder(**json.loads(json.dumps(e.config)))
        again.load_state_dict(e.state_dict())
        x = clips(c=e.in_channels, v=len(e.skeleton), m=1)
        assert again.config == e.config and torch.equal(again.eval()(x), e.eval()(x)) and again.skeleton == e.skeleton


def test_samples_do_not_see_each_other_in_eval_mode():
    encoder, x = lively(small()), clips(5)
    together = encoder(x)
    for n in range(5): torch.testing.assert_close(encoder(x[n:n + 1])[0], together[n], rtol=1e-4, atol=1e-6)


def test_the_feature_is_the_mean_of_the_map():
    encoder, x = lively(small()), clips(t=13)
    h = encoder.feature_map(x)
    assert h.shape == (3, 2, 16, 4, 25)
    torch.testing.assert_close(h.mean((1, 3, 4)), encoder(x))


def test_absent_persons_are_computed_once_and_change_nothing():
    encoder, x, sizes = lively(small()), clips(6), []
    x[::2, ..., 1] = 0; x[4] = 0
    present = x.abs().sum((1, 2, 3)) > 0
    encoder.blocks[0].register_forward_hook(lambda m, i, o: sizes.append(len(o)))
    torch.testing.assert_close(encoder(x, present=present), encoder(x))
    assert sizes == [int(present.sum()) + 1, 12]


def test_mean_over_present_persons():
    slots, present = lively(small()), lively(small(pool="present"))
    x = clips(4)
    x[1, ..., 1] = 0; x[2, ..., 0] = 0; x[3] = 0
    y = present(x)
    torch.testing.assert_close(y[0], slots(x)[0])
    torch.testing.assert_close(y[1], slots(x[1:2, ..., :1])[0])
    torch.testing.assert_close(y[2], slots(x[2:3, ..., 1:])[0])
    assert (y[3] == 0).all()


def test_bfloat16_autocast():
    encoder, x = lively(small(width=8)).train(), clips(4, t=20)
    with torch.autocast("cpu", torch.bfloat16): y = encoder(x)
    y.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())
    encoder.eval()
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16): low = encoder(x).float()
        assert F.cosine_similarity(low, encoder(x)).min() > .999


@pytest.mark.parametrize("wrong, words", [
    (lambda: small(plan=[[8, 8, 4, 1], [16, 16, 4, 1]]), "plan: block 1 takes 16 channels, but block 0 gives 8"),
    (lambda: small(plan=[[8, 8, 4, 1], [8, 32, 4, 1]]), "last block gives 32 channels; pass feature_dim=32"),
    (lambda: small(plan=[]), "plan: expected rows"),
    (lambda: small(plan=[[8, 16, 4]]), r"plan: expected rows.*got \[8, 16, 4\]"),
    (lambda: small()(clips(v=20)), "expected 25 joints"),
    (lambda: small(pool="max"), "'slots' or 'present'"),
])
def test_errors_say_what_was_expected_and_what_came(wrong, words):
    with pytest.raises(EncoderError, match=f"(?s){words}"): wrong()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_same_on_the_gpu():
    encoder, x = lively(small()), clips()
    cpu = encoder(x)
    torch.testing.assert_close(encoder.cuda()(x.cuda()).cpu(), cpu, rtol=1e-3, atol=1e-4)
    encoder.train()(x.cuda(), DropAddEdges()).sum().backward()
