"""The GRU encoder: CMD's numbers, the gate equations written out, and what "stepped" and "together" promise."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from encoder_cases import clips
from skelnb.encoders import GRU, EncoderError, create_encoder, layer_table, load_released, topologies
from skelnb.encoders.gru import GRULayer, frame_rows
from skelnb.skeleton import COCO17, NTU25


def small(skeleton=NTU25, **kwargs):
    torch.manual_seed(0)
    return create_encoder("gru", skeleton, **{"width": 5, "feature_dim": 10, **kwargs})


def lively(encoder):
    "Statistics away from their defaults, so that nothing cancels by luck."
    g = torch.Generator().manual_seed(1)
    bn = encoder.data_bn
    for p, low in ((bn.weight, .7), (bn.bias, -.3), (bn.running_mean, -.3), (bn.running_var, .7)):
        p.data.copy_(low + .6 * torch.rand(p.shape, generator=g))
    return encoder.eval()


# numbers from outside

@pytest.fixture(scope="module")
def released(fixture):
    ref = fixture("gru_cmd_stepped")
    arrays = {k: torch.from_numpy(np.array(ref[k])) for k in ref}
    x = arrays["x"].view(2, 12, 25, 3, 2).permute(0, 3, 1, 2, 4)                # rows in the order joint, channel, person -> (N,C,T,V,M)
    return x, arrays, {k[3:]: v for k, v in arrays.items() if k.startswith("sd/")}


@pytest.mark.outside
@pytest.mark.parametrize("settings, name", [(dict(stepped=True), "feature"), (dict(), "full_pass_last"), (dict(read="mean"), "full_pass_mean")])
def test_forward_as_released(released, settings, name):
    x, ref, state = released
    encoder = load_released(create_encoder("gru", NTU25, feature_dim=32, **settings), state).eval()
    with torch.no_grad(): feature = encoder(x)
    assert (feature - ref[name]).abs().max() / ref[name].abs().max() < 1e-5


@pytest.mark.outside
def test_the_three_ways_of_reading_differ(released):
    _, ref, _ = released
    for a, b in (("feature", "full_pass_last"), ("feature", "full_pass_mean"), ("full_pass_last", "full_pass_mean")):
        assert (ref[a] - ref[b]).abs().max() > .05 * ref[a].abs().max(), (a, b)


@pytest.mark.parametrize("feature_dim, count", [(512, 2_992_128), (2048, 44_998_656)], ids=["ACL", "CMD"])
def test_parameter_count(feature_dim, count):
    with torch.device("meta"): encoder = create_encoder("gru", NTU25, feature_dim=feature_dim)
    assert sum(p.numel() for p in encoder.layers.parameters()) == count
    assert sum(p.numel() for p in encoder.parameters()) == count + 2 * 150


def test_released_names_and_strictness():
    source = lively(small())
    state = {}
    for key, value in source.state_dict().items():
        if key.startswith("layers."):
            _, n, way, name = key.split(".")
            key = f"encoder.gru.{name[:-1]}{n}" + "_reverse" * (way == "back")
        state[key.replace("data_bn.", "input_norm.")] = value
    state["fc.weight"] = torch.zeros(2, 10)
    target = load_released(small().eval(), {f"encoder_q.{k}": v for k, v in state.items()} | {"queue": torch.zeros(1)}, "encoder_q.")
    assert torch.equal(target(clips()), source(clips()))
    del state["encoder.gru.bias_hh_l1_reverse"]
    with pytest.raises(EncoderError, match="layers.1.back.bias_hh_l0 is missing"): load_released(small(), state)
    with pytest.raises(EncoderError, match="layers.2.back.weight_hh_l0 does not belong here"): load_released(small(layers=2), state)


# the arithmetic

def test_one_step_by_hand():
    "Two units, one input: gates open half way, one input passes."
    g = torch.nn.GRU(1, 2)
    with torch.no_grad():
        for p in g.parameters(): p.zero_()
        g.weight_ih_l0[:, 0] = torch.tensor([0, 0, 0, 1.0986123, 1., 1.])               # update gate of unit 1: sigmoid(ln 3) = 3/4 at x = 1
        out, _ = g(torch.ones(1, 1, 1), torch.tensor([[[.2, -.4]]]))
    new = np.tanh(1)
    np.testing.assert_allclose(out[0, 0], [.5 * new + .5 * .2, .25 * new + .75 * -.4], rtol=1e-6)


def plain_gru(g, rows, reverse=False):
    "The gate equations, frame by frame, sample by sample, in float64: list of (T,I) -> (N,T,H)."
    W, U, b, c = (p.detach().double().numpy() for p in (g.weight_ih_l0, g.weight_hh_l0, g.bias_ih_l0, g.bias_hh_l0))
    H, sigmoid, out = U.shape[1], lambda a: 1 / (1 + np.exp(-a)), []
    for frames in rows:
        h, hs = np.zeros(H), []
        for x in frames[::-1] if reverse else frames:
            r = sigmoid(W[:H] @ x + b[:H] + U[:H] @ h + c[:H])
            z = sigmoid(W[H:2 * H] @ x + b[H:2 * H] + U[H:2 * H] @ h + c[H:2 * H])
            n = np.tanh(W[2 * H:] @ x + b[2 * H:] + r * (U[2 * H:] @ h + c[2 * H:]))
            h = (1 - z) * n + z * h
            hs.append(h)
        out.append(hs[::-1] if reverse else hs)
    return np.array(out)


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("read", ["last", "mean"])
@pytest.mark.parametrize("together", [False, True])
def test_the_plain_form(stepped, read, together):
    encoder = lively(small(stepped=stepped, read=read, persons_together=together, feature_dim=7, layers=2).double())
    x, bn = clips(t=6, dtype=torch.float64), encoder.data_bn
    N, C, T, V, M = x.shape
    rows = []
    for n in range(N):
        for m in [None] if together else range(M):
            rows.append([[x[n, c, t, v, k].item() for v in range(V) for c in range(C) for k in (range(M) if together else [m])] for t in range(T)])
    h = (np.array(rows) - bn.running_mean.numpy()) / np.sqrt(bn.running_var.numpy() + bn.eps) * bn.weight.detach().numpy() + bn.bias.detach().numpy()
    for layer in encoder.layers:
        h = np.concatenate([plain_gru(layer.onward, h), plain_gru(layer.back, h, reverse=not stepped)], 2)
    h = h[:, -1] if read == "last" else h.mean(1)
    y = h @ encoder.out.weight.detach().numpy().T + encoder.out.bias.detach().numpy()
    if not together: y = y.reshape(N, M, -1).mean(1)
    np.testing.assert_allclose(encoder(x).detach(), y, rtol=1e-10, atol=1e-12)


def test_rows_are_joint_channel_person():
    x = torch.tensor([[[[[1000 * n + 100 * v + 10 * c + m for m in range(2)] for v in range(3)] for _ in range(2)] for c in range(2)] for n in range(2)])
    rows = frame_rows(x.flatten(3), persons=2)
    assert rows.shape == (2, 2, 12) and rows[0, 0].tolist() == [0, 1, 10, 11, 100, 101, 110, 111, 200, 201, 210, 211]
    assert torch.equal(rows[:, 1], rows[:, 0] + 1000)


@pytest.mark.parametrize("stepped", [False, True])
def test_last_is_the_last_frame_of_all(stepped):
    layer, x = GRULayer(4, 3, stepped).double(), torch.randn(7, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x, last=True), layer(x)[-1])
    assert layer(x).shape == (7, 2, 6)


def test_stepped_is_a_bidirectional_gru_given_one_frame_at_a_time():
    encoder = small(stepped=True, layers=3).double()
    one = torch.nn.GRU(150, 5, 3, bidirectional=True).double()
    for name, p in one.named_parameters():
        kind, n = name.removesuffix("_reverse").rsplit("_l", 1)
        layer = encoder.layers[int(n)]
        p.data.copy_(getattr(layer.back if name.endswith("_reverse") else layer.onward, f"{kind}_l0"))
    x, h = torch.randn(9, 2, 150, dtype=torch.float64), None
    for t in range(9): out, h = one(x[t:t + 1], h)
    y = x
    for layer in encoder.layers: y = layer(y)
    torch.testing.assert_close(y[-1], out[0])


@pytest.mark.parametrize("stepped", [False, True])
def test_who_sees_the_future(stepped):
    layer, x = GRULayer(4, 3, stepped), torch.randn(6, 1, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    grad, = torch.autograd.grad(layer(x)[2].sum(), x)
    assert grad[:3].abs().sum(2).ne(0).all() and grad[3:].eq(0).all() == stepped
    for last in ("onward", "back"):                                             # at the last frame, the backward half has seen one frame only
        grad, = torch.autograd.grad(layer(x, last=True)[0, :3 if last == "onward" else None][0 if last == "onward" else 3:].sum(), x)
        assert grad.abs().sum((1, 2)).ne(0).sum() == (6 if last == "onward" or stepped else 1)


# promises

def test_config_builds_the_same_encoder_again():
    for e in (small(), GRU(COCO17, feature_dim=12, in_channels=2, persons=1), small(stepped=True, read="mean", persons_together=False, pool="present", layers=1, dropout=.2)):
        again = create_encoder(**json.loads(json.dumps(e.config)))
        again.load_state_dict(e.state_dict())
        x = clips(c=e.in_channels, v=len(e.skeleton), m=e.persons)
        assert again.config == e.config and torch.equal(again.eval()(x), e.eval()(x))


@pytest.mark.parametrize("feature_dim, width, hidden, linear", [(512, None, 256, False), (16, 8, 8, False), (16, 4, 4, True), (9, None, 4, True), (1, None, 1, True)])
def test_width_and_feature_dim(feature_dim, width, hidden, linear):
    encoder = GRU(feature_dim=feature_dim, width=width, layers=1)
    assert encoder.layers[0].onward.hidden_size == hidden and isinstance(encoder.out, torch.nn.Linear) == linear
    assert encoder.eval()(clips()).shape == (3, feature_dim) and encoder.config["width"] == hidden


def test_samples_do_not_see_each_other_in_eval_mode():
    encoder, x = lively(small()), clips(5)
    together = encoder(x)
    for n in range(5): torch.testing.assert_close(encoder(x[n:n + 1])[0], together[n], rtol=1e-4, atol=1e-6)


def test_the_order_of_frames_matters_and_time_is_not_averaged_away():
    encoder, x = lively(small()), clips()
    assert (encoder(x.flip(2)) - encoder(x)).abs().max() > .01
    assert (lively(small(read="mean"))(x.flip(2)) - lively(small(read="mean"))(x)).abs().max() > .001


@pytest.mark.parametrize("settings", [{}, dict(stepped=True), dict(read="mean"), dict(persons_together=False), dict(feature_dim=7)])
def test_gradient_reaches_every_parameter(settings):
    encoder, x = small(**settings).train(), clips()
    encoder(x).square().mean().backward()
    idle = [n for n, p in encoder.named_parameters() if not p.grad.abs().sum() > 0]
    # read at the last frame, the last layer's backward direction makes one step from a state of zeros: its recurrent weights have nothing to weigh
    assert idle == ([] if settings.get("stepped") or settings.get("read") == "mean" else ["layers.2.back.weight_hh_l0"])


def test_no_graph_so_edges_change_nothing():
    encoder, x = lively(small()), clips()
    assert torch.equal(encoder(x, edges=lambda A: 1 / 0), encoder(x)) and topologies(encoder, x) == {}


def test_persons_of_a_row_are_not_interchangeable_but_apart_they_are():
    x = clips()
    together, apart = lively(small()), lively(small(persons_together=False))
    assert (together(x.flip(4)) - together(x)).abs().max() > .01
    torch.testing.assert_close(apart(x.flip(4)), apart(x))
    assert apart(clips(m=3)).shape == (3, 10)


def test_an_absent_person():
    together, apart, present = lively(small()), lively(small(persons_together=False)), lively(small(persons_together=False, pool="present"))
    present.load_state_dict(apart.state_dict())
    x = clips(4)
    x[1, ..., 1] = 0; x[2, ..., 0] = 0; x[3] = 0
    there = torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0]], dtype=bool)
    torch.testing.assert_close(apart(x, present=there), apart(x))               # computed once, exact
    assert torch.equal(together(x, present=there), together(x))                 # together: zeros like any other numbers
    y = present(x)
    torch.testing.assert_close(y[0], apart(x)[0])
    torch.testing.assert_close(y[1], apart(x[1:2, ..., :1])[0])
    torch.testing.assert_close(y[2], apart(x[2:3, ..., 1:])[0])
    assert (y[3] == 0).all()


def test_dropout_lies_between_the_layers_only():
    encoder, x = small(dropout=.5, layers=2).train(), clips()
    torch.manual_seed(0); a = encoder(x)
    torch.manual_seed(1); b = encoder(x)
    assert not torch.equal(a, b) and torch.equal(encoder.eval()(x), encoder(x))
    encoder = small(dropout=.5, layers=1).train()
    assert torch.equal(encoder(x), encoder(x))


def test_layer_table():
    table = layer_table(create_encoder("gru", NTU25, feature_dim=512).eval(), clips(2, t=50)).set_index("layer")
    step = lambda inputs: 2 * 3 * 256 * (inputs + 256) / 1e6                      # MFLOP of one direction at one frame
    expected = [100 * step(150), 100 * step(512), 51 * step(512)]                 # the last layer reads 50 frames onward and 1 backward
    np.testing.assert_allclose(table.MFLOP[["layers.0", "layers.1", "layers.2"]], expected, rtol=1e-3)
    assert table.parameters["whole"] == 2_992_428 and table.output["layers.2"] == (2, 512)


def test_bfloat16_autocast():
    encoder, x = small().train(), clips()
    with torch.autocast("cpu", torch.bfloat16): y = encoder(x)
    y.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())
    encoder.eval()
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16): low = encoder(x).float()
        assert F.cosine_similarity(low, encoder(x)).min() > .999


@pytest.mark.parametrize("wrong, words", [
    (lambda: small()(clips(m=3)), r"expected 2 person slots on axis 4.*got 3.*persons=3, or with persons_together=False"),
    (lambda: small(pool="present"), "pool='present'.*persons_together=False"),
    (lambda: small(read="first"), "'last' or 'mean', got 'first'"),
    (lambda: small(layers=0), "one layer or more, got layers=0"),
    (lambda: small()(clips(v=20)), "expected 25 joints"),
    (lambda: small().feature_map(clips()), "has no map whose mean is the feature; pass read=.mean"),
])
def test_errors_say_what_was_expected_and_what_came(wrong, words):
    with pytest.raises((EncoderError, NotImplementedError), match=f"(?s){words}"): wrong()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("stepped", [False, True])
def test_same_on_the_gpu(stepped):
    encoder, x = lively(small(stepped=stepped)), clips()
    cpu = encoder(x)
    torch.testing.assert_close(encoder.cuda()(x.cuda()).cpu(), cpu, rtol=1e-3, atol=1e-4)
    encoder.train()(x.cuda()).sum().backward()


@pytest.mark.parametrize("together", [True, False])
def test_the_mean_of_the_map_is_the_feature(together):
    encoder = small(read="mean", persons_together=together).eval()
    x = clips()
    assert encoder.has_map and not small().has_map
    torch.testing.assert_close(encoder.merge(encoder.feature_map(x).mean((3, 4))), encoder(x))
