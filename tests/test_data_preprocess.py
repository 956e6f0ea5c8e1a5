"""Preprocessing and streams: the authors' numbers, and what must hold for any layout."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from skelnb.data import Recording, centre, preprocess, resize, rotate_to_body, to_stream, ReadError
from skelnb.data.preprocess import PreprocessError, body_angle, clip_length
from skelnb.data.streams import STREAMS, StreamError
from skelnb.skeleton import COCO17, LAYOUTS, MEDIAPIPE33, NTU25, UCLA20, LayoutError


def clip(skeleton=NTU25, T=17, M=2, seed=0, n=()):
    return np.random.default_rng(seed).normal(size=(*n, 3, T, len(skeleton), M)).astype("f4")


# ---- the authors' numbers

@pytest.mark.outside
def test_300_to_50_as_released(fixture):
    f = fixture("preprocess_300_to_50")
    raw = np.zeros((4, 3, 300, 25, 2), "f4")
    raw[:, :, :120] = f["raw_first"]
    assert (clip_length(raw, NTU25) == f["length"]).all()
    np.testing.assert_allclose(preprocess(raw, NTU25, rotate="none"), f["position_before_rotation"], atol=1e-6)
    np.testing.assert_allclose(preprocess(raw, NTU25), f["position"], atol=1e-6)
    for x, y in zip(raw, f["position"]):                       # one at a time, as a tensor
        torch.testing.assert_close(preprocess(torch.from_numpy(x), NTU25), torch.from_numpy(y), atol=1e-6, rtol=0)


@pytest.mark.outside
def test_resize_as_released(fixture):
    f = fixture("resize_cases")
    x = f["x"].transpose(2, 0, 1)[..., None]
    for frames in (50, 4):
        np.testing.assert_allclose(resize(x, frames)[..., 0], f[f"y{frames}"], rtol=1e-6, atol=1e-6 * abs(x).max())


@pytest.mark.outside
@pytest.mark.parametrize("name", ["parallel_skeleton", "parallel_skeleton_flipz"])
def test_rotation_as_released(fixture, name):
    f = fixture(name)
    np.testing.assert_allclose(rotate_to_body(f["x"][..., None], NTU25)[..., 0], f["y"], atol=1e-6)


@pytest.mark.outside
@pytest.mark.parametrize("stream", STREAMS)
def test_streams_as_released(fixture, stream):
    f = fixture("streams_and_mask")
    for view in ("q", "k", "q1"):
        np.testing.assert_allclose(to_stream(f[f"raw_{view}"], stream, NTU25), f[f"{stream}_{view}"], rtol=1e-6, atol=1e-7)
    masked = to_stream(torch.from_numpy(f["raw_q2"]), stream, NTU25).numpy()
    keep = f[f"mask_TV_{stream}"][None, None, :, :, None]
    np.testing.assert_allclose(masked * keep + f["mask_token"] * (1 - keep), f[f"{stream}_q2_masked"], rtol=1e-6, atol=1e-6)


# ---- properties

@pytest.mark.parametrize("T,frames", [(1, 50), (2, 50), (7, 4), (50, 50), (123, 50), (300, 1)])
def test_resize_is_linear_interpolation(T, frames):
    x = torch.from_numpy(clip(T=T)).double()
    want = F.interpolate(x.permute(0, 2, 3, 1).flatten(0, 2)[None], frames, mode="linear", align_corners=False)[0]
    torch.testing.assert_close(resize(x, frames), want.view(3, 25, 2, frames).permute(0, 3, 1, 2), rtol=1e-9, atol=1e-9)


def test_padded_batch_equals_clip_by_clip():
    x, n = clip(T=40, n=(5,)), np.array([1, 7, 40, 23, 39])
    x *= (np.arange(40) < n[:, None])[:, None, :, None, None]
    together = preprocess(x, NTU25)
    for i in range(5):
        np.testing.assert_array_equal(together[i], preprocess(x[i, :, : n[i]], NTU25))
    np.testing.assert_array_equal(together[[3, 0]], preprocess(x[[3, 0]], NTU25))
    np.testing.assert_array_equal(together, preprocess(x, NTU25, length=n))


@pytest.mark.parametrize("skeleton", LAYOUTS.values(), ids=lambda s: s.name)
@pytest.mark.parametrize("rotate", ["released", "exact"])
def test_every_layout(skeleton, rotate):
    x = clip(skeleton)
    y = preprocess(x, skeleton, rotate=rotate)
    assert y.shape == (3, 50, len(skeleton), 2) and y.dtype == np.float32
    np.testing.assert_allclose(y[:, :, list(skeleton.origin)].mean(2), 0, atol=1e-5)          # the origin stays
    z = resize(centre(x, skeleton), 50)
    up = "xyz".index(skeleton.up[-1])
    np.testing.assert_allclose(y[up], z[up], atol=1e-6)                                         # heights stay
    np.testing.assert_allclose(np.linalg.norm(y, axis=0), np.linalg.norm(z, axis=0), rtol=1e-4, atol=1e-4)
    if rotate == "exact":
        l, r = skeleton.shoulders
        np.testing.assert_allclose((y[:, :, r] - y[:, :, l])[2 if up < 2 else 1], 0, atol=1e-5)
        assert ((y[:, :, r] - y[:, :, l])[1 if up == 0 else 0] >= 0).all()


def test_exact_rotation_forgets_the_camera():
    x = centre(clip(), NTU25)
    a = np.deg2rad(73)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]], "f4")
    turned = np.einsum("ij,jtvm->itvm", turn, x)
    np.testing.assert_allclose(rotate_to_body(turned, NTU25, "exact"), rotate_to_body(x, NTU25, "exact"), atol=1e-5)
    assert abs(rotate_to_body(turned, NTU25) - rotate_to_body(x, NTU25)).max() > .1           # the released one does not


def test_absent_persons_stay_zero_and_do_not_touch_the_other():
    x = clip()
    alone = preprocess(x[..., :1], NTU25)
    x[..., 1] = 0
    y = preprocess(x, NTU25)
    assert not y[..., 1].any()
    np.testing.assert_array_equal(y[..., :1], alone)
    x = clip(); x[:, 5:, :, 1] = 0                                                             # somebody leaves
    assert not rotate_to_body(centre(x, NTU25), NTU25)[:, 5:, :, 1].any()


def test_lengths():
    x = clip(T=10); x[:, 7:] = 0
    x[:, 3, 1, 0] = 0                       # the spine joint missing in one frame
    x[:, 4, :, 0] = 0                       # person 0 missing in one frame
    assert clip_length(x, NTU25) == 5 and clip_length(x, NTU25, "any") == 6 and clip_length(x, NTU25, "last") == 7
    assert clip_length(np.stack([x, x]), NTU25, "last").tolist() == [7, 7]
    assert clip_length(x * 0, NTU25, "last") == 0 and clip_length(x[:, :0], NTU25, "last") == 0
    y = clip(COCO17, T=4); y[:, 1, 1] = 0   # no spine in this layout: an eye out of sight does not shorten the clip
    assert clip_length(y, COCO17) == 4


def test_input_is_left_alone():
    x = clip(); before = x.copy()
    for f in (lambda: preprocess(x, NTU25), lambda: rotate_to_body(x, NTU25), lambda: to_stream(x, "motion")):
        f(); np.testing.assert_array_equal(x, before)


def test_preprocess_refuses():
    for x in (np.zeros((3, 10, 25, 2), "f4"), np.zeros((3, 0, 25, 2), "f4")):
        with pytest.raises(PreprocessError, match="no frame counts"):
            preprocess(x, NTU25)
    with pytest.raises(PreprocessError, match="clip 1: no frame counts"):
        preprocess(np.stack([clip(), clip() * 0]), NTU25)
    with pytest.raises(PreprocessError, match="clip7"):
        preprocess(Recording(np.zeros((3, 4, 25, 1)), name="clip7", skeleton=NTU25))
    with pytest.raises(LayoutError, match="expected .* 20 joints of ucla20"):
        preprocess(clip(), UCLA20)
    with pytest.raises(LayoutError, match="which joints"):
        preprocess(clip())
    with pytest.raises(PreprocessError, match="needs x, y, z, got 2"):
        preprocess(clip()[:2], NTU25)
    assert preprocess(clip()[:2], NTU25, rotate="none").shape == (2, 50, 25, 2)
    with pytest.raises(PreprocessError, match="known: released, exact, none"):
        preprocess(clip(), NTU25, rotate="nearly")
    with pytest.raises(PreprocessError, match="known: joint, any, last"):
        preprocess(clip(), NTU25, length="first")
    with pytest.raises(PreprocessError, match="1 or more"):
        preprocess(clip(), NTU25, frames=0)
    x = clip(); x[1, 4, 7, 1] = np.nan
    with pytest.raises(ReadError, match=r"r1: frame 4, person 1, joint 7 \(left_hand\): coordinate y is nan"):
        preprocess(Recording(x, name="r1", skeleton=NTU25))


# ---- streams

def test_streams_by_hand():
    x = np.zeros((3, 3, 25, 1), "f4"); x[0, :, 7, 0] = [1, 4, 9]
    assert to_stream(x, "motion")[0, :, 7, 0].tolist() == [3, 5, 0]
    bone = to_stream(x, "bone")
    assert bone[0, :, 7, 0].tolist() == [1, 4, 9] and bone[0, :, 6, 0].tolist() == [0, 0, 0]
    assert NTU25.parents[22] == 7 and bone[0, :, 22, 0].tolist() == [-1, -4, -9]
    assert to_stream(x, "joint") is x


@pytest.mark.parametrize("skeleton", LAYOUTS.values(), ids=lambda s: s.name)
def test_streams_of_every_layout(skeleton):
    x = torch.from_numpy(clip(skeleton, n=(2,))).requires_grad_()
    for stream in STREAMS:
        y = to_stream(x, stream, skeleton)
        np.testing.assert_array_equal(y.detach().numpy(), to_stream(x.detach().numpy(), stream, skeleton))
        assert torch.autograd.grad(y.square().sum(), x)[0].abs().sum() > 0
    assert not to_stream(x, "motion", skeleton)[:, :, -1].any() and not to_stream(x, "bone", skeleton)[..., skeleton.centre, :].any()
    moved = x + torch.randn(2, 3, 1, 1, 1)                                                     # a shift in space changes neither
    for stream in ("motion", "bone"):
        torch.testing.assert_close(to_stream(moved, stream, skeleton), to_stream(x, stream, skeleton), rtol=1e-4, atol=1e-5)


def test_bones_add_up_to_joints():
    x = clip(T=4); bone = to_stream(x, "bone")
    for j in range(25):
        total, k = 0, j
        while k != NTU25.centre:
            total, k = total + bone[:, :, k], NTU25.parents[k]
        np.testing.assert_allclose(total, x[:, :, j] - x[:, :, NTU25.centre], atol=1e-5)


def test_streams_refuse():
    with pytest.raises(StreamError, match="did you mean 'bone'"):
        to_stream(clip(), "bones")
    with pytest.raises(LayoutError, match="20 joints of ucla20"):
        to_stream(clip(), "bone", UCLA20)
    assert to_stream(clip(T=1), "motion").any() == False
