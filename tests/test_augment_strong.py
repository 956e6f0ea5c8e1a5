"""The strong set: the authors' numbers, what is drawn, and what each augmentation keeps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from skelnb.augment import AugmentError, DropAddEdges, RandomMask, SkeleAdaIN
from skelnb.data import to_stream
from skelnb.encoders import create_encoder
from skelnb.skeleton import LAYOUTS, NTU25


def clips(n=4, c=3, t=20, v=25, m=2, seed=0):
    return torch.randn(n, c, t, v, m, generator=torch.Generator().manual_seed(seed))


# the authors' numbers

@pytest.mark.outside
@pytest.mark.parametrize("stream", ["joint", "motion", "bone"])
def test_streams_and_mask_as_released(fixture, stream):
    ref = fixture("streams_and_mask")
    view = {k: to_stream(torch.from_numpy(ref[f"raw_{k}"]), stream, NTU25) for k in ("q", "k", "q1", "q2")}
    for k in ("q", "k", "q1"): np.testing.assert_allclose(view[k], ref[f"{stream}_{k}"], rtol=1e-6, atol=1e-6)
    mask = torch.from_numpy(ref[f"mask_TV_{stream}"]).bool()
    assert ((~mask).sum(1) == RandomMask().hidden(25)).all()
    masked = RandomMask().apply(view["q2"], {"mask": mask.expand(2, -1, -1)}, token=float(ref["mask_token"]))
    np.testing.assert_allclose(masked, ref[f"{stream}_q2_masked"], rtol=1e-6, atol=1e-6)


@pytest.mark.outside
@pytest.mark.parametrize("content, over, y", [("content", "TV", "y_TV"), ("content", "V", "y_V"), ("content_missing", "TV", "y_TV_missing")])
def test_style_as_released(fixture, content, over, y):
    ref = fixture("skeleadain")
    x = torch.from_numpy(np.concatenate([ref[content], ref["style"]]))
    out = SkeleAdaIN(over, eps=float(ref["eps"])).apply(x, {"partner": torch.arange(6).roll(3)})
    np.testing.assert_allclose(out[:3], ref[y], rtol=1e-5, atol=1e-6)


@pytest.mark.outside
def test_edges_as_released(fixture):
    ref = fixture("dae_stgcn")
    A, keep, added = (torch.from_numpy(ref[k]) for k in ("A", "keep_mask", "added_mask"))
    dropped = DropAddEdges().apply(A, {"drop_rate": torch.tensor([float(ref["drop_r"])]), "keep": keep})
    np.testing.assert_allclose(dropped, ref["A_dropped"], rtol=1e-6, atol=0)
    out = DropAddEdges(add=.05).apply(A, {"drop_rate": torch.zeros(1), "keep": torch.ones_like(keep), "added": added})
    np.testing.assert_allclose(out, ref["A_added"], rtol=1e-6, atol=0)
    assert abs(out.sum() - float(ref["sum_after_add"])) < 1e-4


# random mask

@settings(max_examples=30, deadline=None)
@given(v=st.integers(1, 40), t=st.integers(1, 20), ratio=st.floats(0, 1), per=st.sampled_from(["batch", "sample"]), n=st.integers(1, 4))
def test_the_same_number_of_joints_is_hidden_in_every_frame(v, t, ratio, per, n):
    aug = RandomMask(ratio, per)
    mask = aug.draw((n, 3, t, v, 2), torch.Generator().manual_seed(0))["mask"]
    assert mask.shape == (n, t, v) and ((~mask).sum(2) == int(v * ratio + 1e-9)).all()
    if per == "batch": assert (mask == mask[:1]).all()


def test_mask_ratio_and_places():
    assert [RandomMask().hidden(v) for v in (9, 10, 17, 20, 25, 33)] == [0, 1, 1, 2, 2, 3]
    mask = RandomMask(per="sample").draw((400, 3, 50, 25, 1), torch.Generator().manual_seed(0))["mask"]
    assert ((~mask).float().mean((0, 1)) - .08).abs().max() < .01                          # every joint is hidden as often
    assert not torch.equal(mask[0], mask[1])


def test_the_token_is_where_the_mask_is_and_learns():
    x, aug = clips(), RandomMask()
    p, token = aug.draw(x.shape, torch.Generator().manual_seed(0)), torch.tensor(.3, requires_grad=True)
    y = aug.apply(x, p, token=token)
    hidden = ~p["mask"][:, None, :, :, None].expand_as(x)
    assert (y[hidden] == .3).all() and torch.equal(y[~hidden], x[~hidden])                 # all coordinates, both persons
    y.sum().backward()
    assert token.grad == hidden.sum() == 4 * 3 * 20 * 2 * 2
    assert aug.apply(x.bfloat16(), p, token=torch.nn.Parameter(torch.zeros(1))).dtype == torch.bfloat16


# style

@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 5), t=st.integers(2, 12), layout=st.sampled_from(sorted(LAYOUTS)), m=st.integers(1, 3), over=st.sampled_from(["TV", "V"]), seed=st.integers(0, 9))
def test_the_style_has_the_partners_mean_and_deviation(n, t, layout, m, over, seed):
    x = clips(n, 3, t, len(LAYOUTS[layout]), m, seed).double() * torch.rand(n, 3, 1, 1, m).double() + torch.randn(n, 3, 1, 1, m).double()
    aug = SkeleAdaIN(over, eps=0.)
    p = aug.draw(x.shape, torch.Generator().manual_seed(seed))
    y, dims = aug.apply(x, p), (2, 3) if over == "TV" else (3,)
    torch.testing.assert_close(y.mean(dims), x[p["partner"]].mean(dims))
    torch.testing.assert_close(y.std(dims), x[p["partner"]].std(dims))
    order = x[0, 0, 0, :, 0].argsort()                                                     # the order of the joints along an axis stays
    assert torch.equal(y[0, 0, 0, :, 0].argsort(), order)
    y2 = aug.apply(3 * x, p)                                                               # the size of the content does not matter, that of the style does
    torch.testing.assert_close(y2, 3 * y)


def test_partners_are_one_cyclic_shift():
    for n, shifts in ((1, {0}), (2, {1}), (3, {1}), (6, {1, 2, 3, 4})):
        seen = set()
        for seed in range(60):
            partner = SkeleAdaIN().draw((n, 3, 2, 25, 1), torch.Generator().manual_seed(seed))["partner"]
            assert partner.sort().values.tolist() == list(range(n))
            seen |= set(((partner - torch.arange(n)) % n).tolist())
        assert seen == shifts
    x = clips(1)
    assert torch.equal(SkeleAdaIN()(x), x)                                                 # alone: itself


def test_persons_absent_in_one_of_the_two():
    x = clips(3); x[0, ..., 1] = 0
    p = {"partner": torch.tensor([1, 2, 0])}
    y = SkeleAdaIN().apply(x, p)
    torch.testing.assert_close(y[0, :, :, :, 1], x[1, :, :, :, 1].mean((1, 2))[:, None, None].expand(3, 20, 25))       # appears, as a point
    assert y[2, ..., 1].abs().max() < .02                                                 # vanishes, but for sqrt(eps)
    kept = SkeleAdaIN(absent="keep").apply(x, p)
    assert (kept[0, ..., 1] == 0).all() and torch.equal(kept[2, ..., 1], x[2, ..., 1]) and torch.equal(kept[..., 0], y[..., 0]) and torch.equal(kept[1], y[1])


# edges

A = torch.from_numpy(NTU25.adjacency())


def test_expected_number_of_dropped_and_added_edges():
    aug, g = DropAddEdges(drop=.1, add=.05), torch.Generator().manual_seed(0)
    there, dropped, added = int((A > 0).sum()), 0, 0
    for _ in range(400):
        p = aug.draw(A.shape, g)
        assert 0 <= p["drop_rate"] < .1 and 0 <= p["add_rate"] < .05
        dropped += int((~p["keep"] & (A > 0)).sum()); added += int((p["added"] & (A == 0)).sum())
    assert abs(dropped / 400 / (.05 * there) - 1) < .1                                    # the mean rate is half of the largest
    assert abs(added / 400 / (.025 * (A.numel() - there)) - 1) < .1


def test_the_mean_over_draws_is_the_graph_and_adding_keeps_the_sum():
    g = torch.Generator().manual_seed(0)
    mean = sum(DropAddEdges(.5)(A, g) for _ in range(2000)) / 2000
    assert (mean - A).abs().max() < .06
    for _ in range(20):
        p = DropAddEdges(.3, .2).draw(A.shape, g)
        only = {k: v for k, v in p.items() if k != "added"}
        a, b = DropAddEdges().apply(A, only), DropAddEdges().apply(A, p)
        torch.testing.assert_close(a.sum(), b.sum())
        assert ((b > 0) == ((a > 0) | p["added"])).all()
    assert torch.equal(DropAddEdges(0.)(A), A)
    assert torch.equal(DropAddEdges(.1, .1)(torch.zeros(3, 4, 4), torch.Generator().manual_seed(0)).isnan(), torch.zeros(3, 4, 4, dtype=bool))


def test_attention_maps():
    att = torch.randn(5, 3, 9, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()         # entries may be negative
    aug = DropAddEdges(.5, .5)
    p = aug.draw(att.shape, torch.Generator().manual_seed(1))
    y = aug.apply(att, p)
    dropped = (att * p["keep"] / (1 - p["drop_rate"])).detach()
    torch.testing.assert_close(y.sum((2, 3)), dropped.sum((2, 3)))                        # each map keeps its sum
    new = p["added"] & (dropped == 0)
    assert new.any()
    torch.testing.assert_close(y[0, 0][new[0, 0]], (dropped[0, 0].mean() / (1 + new[0, 0].sum() / 81)).expand(int(new[0, 0].sum())))
    y.square().sum().backward()
    assert att.grad.isfinite().all() and att.grad.abs().sum() > 0
    assert aug.apply(att.bfloat16(), p).dtype == torch.bfloat16


def test_draws_repeat_and_are_checked():
    aug = DropAddEdges(.5, .2)
    a, b = aug(A, torch.Generator().manual_seed(1)), aug(A, torch.Generator().manual_seed(1))
    assert torch.equal(a, b)
    g = torch.Generator().manual_seed(1)
    assert torch.equal(a, aug(A, g)) and not torch.equal(a, aug(A, g))
    with pytest.raises(AugmentError, match="0 <= drop < 1.*drop=1"): DropAddEdges(1)
    with pytest.raises(AugmentError, match=r"adjacency.*\(3, 25, 20\)"): aug.draw((3, 25, 20))
    with pytest.raises(AugmentError, match="'keep' of shape"): aug.apply(A, aug.draw((3, 20, 20)))


def test_an_encoder_draws_new_edges_in_every_block():
    net, x, seen = create_encoder("stgcn", NTU25, width=4, feature_dim=8).eval(), clips(2, t=16), []
    aug, g = DropAddEdges(.5), torch.Generator().manual_seed(0)
    def edges(A): seen.append(aug(A, g)); return seen[-1]
    with torch.no_grad(): y, plain = net(x, edges=edges), net(x)
    assert len(seen) == 10 and len({float(a.sum()) for a in seen}) == 10 and not torch.allclose(y, plain)
    with torch.no_grad(): torch.testing.assert_close(net(x, edges=DropAddEdges(0.)), plain)
