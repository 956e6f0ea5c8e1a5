"""Encoders: the authors' numbers, and the promises every encoder makes."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from encoder_cases import clips
from skelnb.encoders import ENCODERS, STGCN, Encoder, EncoderError, create_encoder, load_released
from skelnb.encoders.core import convert_released, topologies
from skelnb.encoders.stgcn import add_dropout, graph_conv
from skelnb.skeleton import COCO17, LAYOUTS, NTU25, UCLA20


def small(skeleton=NTU25, **kwargs):
    torch.manual_seed(0)
    return create_encoder("stgcn", skeleton, **{"width": 4, "feature_dim": 16, **kwargs})


def lively(encoder):
    "Weights and statistics away from their defaults, so that nothing cancels by luck."
    g = torch.Generator().manual_seed(1)
    for name, p in [*encoder.named_parameters(), *encoder.named_buffers()]:
        if p.is_floating_point() and not name.endswith(".A"):
            noise = torch.rand(p.shape, generator=g).to(p)
            p.data.copy_(p + .3 * noise if "var" in name else p + .3 * (noise - .5))
    return encoder.eval()


# the authors' numbers

@pytest.fixture(scope="module")
def released(fixture):
    ref = fixture("stgcn_eval")
    arrays = {k: torch.from_numpy(np.array(ref[k])) for k in ref}
    return arrays, {k[3:]: v for k, v in arrays.items() if k.startswith("sd/")}


def head(state, dtype):
    fc = torch.nn.Linear(256, 128, dtype=dtype)
    fc.load_state_dict({k[3:]: v for k, v in state.items() if k.startswith("fc.")})
    return fc


@pytest.mark.parametrize("feature_dim, count", [(256, 821_380), (512, 2_659_204)])
def test_parameter_count(feature_dim, count):
    assert sum(p.numel() for p in create_encoder("stgcn", NTU25, feature_dim=feature_dim).parameters()) == count


@pytest.mark.outside
def test_forward_as_released(released):
    ref, state = released
    encoder, seen = load_released(create_encoder("stgcn", NTU25), state).eval(), []
    for block in encoder.blocks: block.register_forward_hook(lambda m, i, o: seen.append(o.detach()))
    with torch.no_grad(): feature = encoder(ref["x"])
    ours = {"feature": feature, "out": head(state, torch.float32)(feature), "block0": seen[0], "block4": seen[4]}
    for name, value in ours.items(): assert (value - ref[name]).abs().max() / ref[name].abs().max() < 1e-5, name
    assert [list(o.shape) for o in seen] == ref["block_shapes"].tolist()
    np.testing.assert_allclose([o.double().mean() for o in seen], ref["block_mean"], rtol=1e-5)
    np.testing.assert_allclose([o.double().abs().mean() for o in seen], ref["block_absmean"], rtol=1e-5)


@pytest.mark.outside
@pytest.mark.parametrize("dense", [0, 16, 1000], ids=["graph first", "default", "one matrix"])
def test_training_step_as_released(released, monkeypatch, dense):
    monkeypatch.setattr(graph_conv, "__defaults__", (dense, 0))
    ref, state = released
    encoder, fc = load_released(create_encoder("stgcn", NTU25, dropout=0.), state).double().train(), head(state, torch.float64)
    out = fc(encoder(ref["x"].double()))
    torch.testing.assert_close(out, ref["train64_out"], rtol=1e-10, atol=1e-12)
    out.square().mean().backward()
    theirs = {k.removeprefix("train64grad/"): v for k, v in ref.items() if k.startswith("train64grad/")}
    ours = convert_released(STGCN, {k: v for k, v in theirs.items() if not k.startswith("fc.")})
    grads = {name: p.grad for name, p in encoder.named_parameters()}
    assert len(ours) == len(theirs) - 1 == 7
    for name, expected in [*ours.items(), ("fc", theirs["fc.weight"])]:
        got = fc.weight.grad if name == "fc" else grads[name]
        assert (got - expected).abs().max() / expected.abs().max() < 1e-10, name
    torch.testing.assert_close(encoder.data_bn.running_mean.float(), ref["train_running_mean_data_bn"], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(encoder.blocks[9].bn2.running_var.float(), ref["train_running_var_block9"], rtol=1e-5, atol=1e-7)


@pytest.mark.outside
def test_training_forward_in_float32(released):
    ref, state = released
    encoder = load_released(create_encoder("stgcn", NTU25, dropout=0.), state).train()
    torch.testing.assert_close(head(state, torch.float32)(encoder(ref["x"])), ref["train_out"], rtol=1e-4, atol=1e-5)


def test_released_names_of_both_kinds_and_strictness():
    source = lively(small())
    names = {"graph": "gcn.conv", "bn1": "tcn.0", "time": "tcn.2", "bn2": "tcn.3", "residual": "residual"}
    for listed in (True, False):
        state = {}
        for key, value in source.state_dict().items():
            if not key.startswith("blocks."): state[key] = value; continue
            _, n, part, *rest = key.split(".")
            if part == "importance": state[f"edge_importance.{n}" if listed else f"edge_importance{int(n) + 1}"] = value
            else: state[".".join(["st_gcn_networks", n, names[part], *rest])] = value
        state["A"], state["fc.0.weight"] = torch.zeros(3, 25, 25), torch.zeros(2, 16)
        target = load_released(small().eval(), {f"encoder_q.{k}": v for k, v in state.items()} | {"queue": torch.zeros(1)}, "encoder_q.")
        torch.testing.assert_close(target(clips()), source(clips()))
    del state["st_gcn_networks.3.tcn.2.bias"]
    with pytest.raises(EncoderError, match="blocks.3.time.bias is missing"): load_released(small(), state)
    with pytest.raises(EncoderError, match="no weights under the prefix .nothing."): load_released(small(), state, "nothing.")


def test_no_strided_1x1_convolution():
    "In channels-last memory with few channels oneDNN's writes past its buffer in the backward pass (seen with torch 2.13): none may come in."
    for name in ENCODERS:
        for m in create_encoder(name, NTU25, width=4, feature_dim=16).modules():
            assert not (isinstance(m, torch.nn.Conv2d) and m.kernel_size == (1, 1) and m.stride != (1, 1))


# the graph convolution

@pytest.mark.parametrize("dense", [0, 99])
def test_graph_convolution_is_the_plain_form(dense):
    g = torch.Generator().manual_seed(0)
    x, A, w, b = (torch.randn(s, generator=g, dtype=torch.float64, requires_grad=True) for s in ((2, 4, 5, 7), (3, 7, 7), (18, 4, 1, 1), (18,)))
    y = graph_conv(x, A, w, b, dense)
    plain = torch.einsum("bkctv,kvw->bctw", F.conv2d(x, w, b).view(2, 3, 6, 5, 7), A)
    torch.testing.assert_close(y, plain)
    up = torch.randn(y.shape, generator=g, dtype=torch.float64)
    for got, expected in zip(torch.autograd.grad(y, (x, A, w, b), up), torch.autograd.grad(plain, (x, A, w, b), up)):
        torch.testing.assert_close(got, expected)


def test_dropout():
    torch.manual_seed(0)
    x = torch.ones(40, 10, 50, 5).to(memory_format=torch.channels_last).requires_grad_()
    for p in (.5, .25, .1):
        kept = 1 - round(256 * p) / 256
        y = add_dropout(torch.zeros(()), x, p)
        assert set(y.unique().tolist()) == {0., torch.tensor(1 / kept).item()} and abs((y > 0).float().mean() - kept) < .006
        assert torch.equal(torch.autograd.grad(y.sum(), x)[0], y)
    y = add_dropout(x * 0, x, .5)
    assert abs(((y[:, :, 1:] > 0) == (y[:, :, :-1] > 0)).float().mean() - .5) < .01 and not torch.equal(y, add_dropout(x * 0, x, .5))
    assert torch.equal(add_dropout(x, x, .5, training=False), 2 * x) and torch.equal(add_dropout(x, x, 0.), 2 * x)
    assert torch.equal(add_dropout(x, x, 1.), x)
    torch.manual_seed(3); a = add_dropout(x, x, .5); torch.manual_seed(3)
    assert torch.equal(a, add_dropout(x, x, .5))


# promises of every encoder

@pytest.mark.parametrize("name", sorted(ENCODERS))
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("t, m, dtype", [(1, 1, torch.float32), (50, 2, torch.float32), (13, 3, torch.float64)])
def test_any_layout_and_shape(name, layout, t, m, dtype):
    skeleton = LAYOUTS[layout]
    encoder = create_encoder(name, layout, width=4, feature_dim=16, frames=t, persons=m).to(dtype).train()
    x = clips(2, 3, t, len(skeleton), m).to(dtype)
    y = encoder(x)
    y.square().mean().backward()
    assert y.shape == (2, 16) and y.dtype == dtype and encoder.feature_dim == 16
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.is_contiguous() for p in encoder.parameters())


def test_config_builds_the_same_encoder_again():
    for e in (small(UCLA20, pool="present", dropout=.2, persons=1), STGCN(COCO17, 4, 16, in_channels=2)):
        config = json.loads(json.dumps(e.config))
        again = create_encoder(**config)
        again.load_state_dict(e.state_dict())
        x = clips(c=e.in_channels, v=len(e.skeleton), m=1)
        assert again.config == e.config and torch.equal(again.eval()(x), e.eval()(x)) and again.skeleton == e.skeleton


def test_samples_do_not_see_each_other_in_eval_mode():
    encoder, x = lively(small()), clips(5)
    together = encoder(x)
    for n in range(5): torch.testing.assert_close(encoder(x[n:n + 1])[0], together[n], rtol=1e-4, atol=1e-6)


def test_joints_may_be_numbered_in_any_order():
    encoder, x = lively(small().double()), clips().double()
    order = torch.randperm(25, generator=torch.Generator().manual_seed(2))
    other = lively(small().double())
    other.load_state_dict(encoder.state_dict())
    for a, b in zip(encoder.blocks, other.blocks):
        b.A.copy_(a.A[:, order][:, :, order]); b.importance.data.copy_(a.importance[:, order][:, :, order])
    for key in ("weight", "bias", "running_mean", "running_var"):
        getattr(other.data_bn, key).data.copy_(getattr(encoder.data_bn, key).view(25, 3)[order].flatten())
    torch.testing.assert_close(other(x[:, :, :, order]), encoder(x))


def test_edges_are_called_once_a_block_before_the_importance():
    encoder, x, seen = lively(small()), clips(), []
    def edges(A): seen.append(A.clone()); return A * 0
    y = encoder(x, edges)
    assert len(seen) == 10 and all(torch.equal(a, torch.from_numpy(NTU25.adjacency())) for a in seen)
    torch.testing.assert_close(encoder(x, lambda A: A), encoder(x))
    assert not torch.allclose(y, encoder(x), atol=1e-3)
    assert torch.equal(encoder.blocks[0].A, torch.from_numpy(NTU25.adjacency()))        # the graph itself is untouched


# absent persons

def test_absent_persons_are_computed_once_and_change_nothing():
    encoder, x = lively(small()), clips(6)
    x[::2, ..., 1] = 0; x[4] = 0
    present = x.abs().sum((1, 2, 3)) > 0
    sizes = []
    handle = encoder.blocks[0].register_forward_hook(lambda m, i, o: sizes.append(len(o)))
    torch.testing.assert_close(encoder(x, present=present), encoder(x))
    assert sizes == [int(present.sum()) + 1, 12]
    handle.remove()
    none = torch.zeros(6, 2, dtype=bool)
    torch.testing.assert_close(encoder(x * 0, present=none), encoder(x * 0))
    encoder.train()
    for block in encoder.blocks: block.dropout = 0.
    assert torch.equal(encoder(x, present=present), encoder(x))                         # batch statistics need every slot


def test_mean_over_present_persons():
    slots, present = lively(small()), lively(small(pool="present"))
    present.load_state_dict(slots.state_dict())
    x = clips(4)
    x[1, ..., 1] = 0; x[2, ..., 0] = 0; x[3] = 0
    y = present(x)
    torch.testing.assert_close(y[0], slots(x)[0])
    torch.testing.assert_close(y[1], slots(x[1:2, ..., :1])[0])
    torch.testing.assert_close(y[2], slots(x[2:3, ..., 1:])[0])
    assert (y[3] == 0).all()
    torch.testing.assert_close(y, present(x, present=torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0]], dtype=bool)))


# errors

@pytest.mark.parametrize("wrong, words", [
    (lambda: small()(clips()[0]), r"\(N,C,T,V,M\), got shape \(3, 12, 25, 2\).*x\[None\]"),
    (lambda: small()(clips(v=20)), r"expected 25 joints \(ntu25\) on axis 3, got 20.*map_to"),
    (lambda: small()(clips(c=2)), "expected 3 coordinates.*got 2.*in_channels="),
    (lambda: small()(clips(t=0)), "at least one frame"),
    (lambda: small()(clips(), present=torch.ones(3, 1, dtype=bool)), r"present of shape \(3, 2\), got \(3, 1\)"),
    (lambda: small(pool="max"), "'slots' or 'present', got 'max'"),
    (lambda: create_encoder("st-gcn", NTU25), "unknown encoder 'st-gcn'; known: .*stgcn.*did you mean 'stgcn'"),
    (lambda: create_encoder("stgcn", "kinect"), "unknown layout 'kinect'; known: ntu25, ucla20"),
])
def test_errors_say_what_was_expected_and_what_came(wrong, words):
    with pytest.raises(EncoderError, match=f"(?s){words}"):
        wrong()


def test_an_own_encoder_joins_the_registry(monkeypatch):
    class Mean(Encoder):
        def __init__(self, skeleton, feature_dim=3, frames=50, persons=2): super().__init__(skeleton, feature_dim)
        def encode(self, clips, edges=None): return clips.mean((2, 3))
    monkeypatch.setitem(ENCODERS, "mean", Mean)
    x = clips()
    torch.testing.assert_close(create_encoder("mean", NTU25, feature_dim=3)(x), x.mean((2, 3, 4)))
    with pytest.raises(EncoderError, match="no setting .colour"): create_encoder("mean", NTU25, colour=1)


@pytest.mark.parametrize("width", [8, 32], ids=["one matrix", "graph first"])
def test_bfloat16_autocast(width):
    encoder, x = small(width=width).train(), clips(4, t=20)
    with torch.autocast("cpu", torch.bfloat16): y = encoder(x)
    y.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())
    encoder.eval()
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16): low = encoder(x).float()
        assert F.cosine_similarity(low, encoder(x)).min() > .999


@pytest.mark.parametrize("edges", [None, lambda A: .5 * A], ids=["plain", "edges"])
def test_frozen_blocks_fold_their_batch_norms_and_change_nothing(edges):
    "Without gradient and in eval mode; a hook on a layer, training statistics (calibrate) or a gradient bring the layers back."
    encoder, x = lively(small(width=8).double()), clips(3).double()
    seen, norm = [], encoder.blocks[4].bn1
    with torch.no_grad(): folded = encoder(x, edges=edges)
    unfolded = encoder(x, edges=edges)                      # with a gradient: layer by layer
    assert unfolded.requires_grad
    torch.testing.assert_close(folded, unfolded.detach(), rtol=1e-10, atol=1e-12)
    handle = norm.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        torch.testing.assert_close(encoder(x, edges=edges), folded, rtol=1e-10, atol=1e-12)
        assert seen == [1]                                  # somebody looks inside: the layer is called
        handle.remove(); encoder(x, edges=edges)
        assert seen == [1]
        before = norm.running_mean.clone()
        norm.train(); encoder(x, edges=edges)
    assert not torch.equal(before, norm.running_mean)       # one norm that still measures is not folded away


def test_narrow_frozen_blocks_stay_in_float32_under_bf16():
    encoder, x = lively(small(width=16, feature_dim=64)), clips(3)
    kinds = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        maps = [x.permute(0, 4, 1, 2, 3).flatten(0, 1)]
        for block in encoder.blocks: maps.append(block(maps[-1])); kinds.append(maps[-1].dtype)
    assert kinds == [torch.float32] * 4 + [torch.bfloat16] * 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_same_on_the_gpu():
    encoder, x = lively(small()), clips()
    cpu = encoder(x)
    torch.testing.assert_close(encoder.cuda()(x.cuda()).cpu(), cpu, rtol=1e-3, atol=1e-4)
    encoder.train()(x.cuda(), present=torch.ones(3, 2, dtype=bool)).sum().backward()


@pytest.mark.parametrize("name", ["dsta", "ctrgcn", "unik"])
def test_topologies_have_a_row_for_every_person_slot(name):
    "Also where the encoder itself would compute absent persons once."
    torch.manual_seed(0)
    slots = create_encoder(name, UCLA20, width=4, feature_dim=16, frames=6, persons=2).eval()
    present = create_encoder(name, UCLA20, width=4, feature_dim=16, frames=6, persons=2, pool="present").eval()
    present.load_state_dict(slots.state_dict())
    x = clips(3, t=6, v=20)
    x[0, ..., 1] = 0; x[2, ..., 0] = 0
    for (a, expected), got in zip(topologies(slots, x).items(), topologies(present, x).values()):
        assert len(got) == 6, a
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_no_clip_at_all_is_told(name):
    with pytest.raises(EncoderError, match="at least one clip"): create_encoder(name, UCLA20, width=4, feature_dim=16, frames=6, persons=1)(clips(0, t=6, v=20, m=1))
