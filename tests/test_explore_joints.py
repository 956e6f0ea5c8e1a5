"""What an encoder looks at: importance by hiding, links, what is refused, what a page keeps, and how it behaves in a real browser without a network."""

import json
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import torch
from torch import nn

from skelnb.data import SkeletonData, to_stream
from skelnb.encoders import create_encoder, topologies
from skelnb.explore import JointsError, OCCLUSIONS, explore_joints, hide, joint_importance, joint_motion, links, share, strongest
from skelnb.explore.joints import STATE, _places, pack_matrix, unpack_matrix
from skelnb.player import safe_json, unpack
from skelnb.skeleton import COCO17, NTU25, Skeleton
from test_lab import lab, open_and_run, stay_in_view  # noqa: F401

NASTY = '<img src=x onerror="window.hacked=1">'
THREE = Skeleton("three", ("hip", "knee", "foot"), (0, 0, 1), (), 0, (1, 2))


class Toy(nn.Module):
    "Its feature: the largest x of knee and foot over the frames of the first person. It never looks at the hip, nor at y and z."
    skeleton = THREE
    def forward(self, x): return x[:, 0, :, 1:, 0].amax(1)


def toy_clip():
    "(1,3,4,3,1): the hip at 0, the knee at x = 1, the foot at x = 0, 1, 2, 1."
    x = torch.zeros(1, 3, 4, 3, 1)
    x[0, 0, :, 1, 0], x[0, 0, :, 2, 0] = 1., torch.tensor([0., 1., 2., 1.])
    x[0, 1] = .5                                                    # y: nobody is absent
    return x


def clips(n=6, frames=24, M=1, seed=0, skeleton=NTU25):
    "Standing people; in each one joint goes round. With two persons the second is away in the even clips."
    g, t = np.random.default_rng(seed), np.linspace(0, 2 * np.pi, frames)
    x = np.repeat(skeleton.rest[None, None] if hasattr(skeleton, "rest") else g.normal(size=(1, 1, len(skeleton), 3)), n, 0).repeat(frames, 1)[:, :, None].repeat(M, 2)
    circle = .4 * np.stack([np.sin(t), np.cos(t), 0 * t], -1)
    for i in range(n): x[i, :, 0, (7, 19, 3)[i % 3]] += circle
    x = x + .01 * g.normal(size=x.shape)
    if M > 1: x[::2, :, 1:] = 0
    return SkeletonData(x.transpose(0, 4, 1, 3, 2).astype("f4"), np.arange(n) % 3, skeleton=skeleton, classes=("wave", "kick", NASTY))


def encoder(name="stgcn", seed=0, skeleton=NTU25, **kw):
    torch.manual_seed(seed)
    e = create_encoder(name, skeleton, width=4, feature_dim=16, frames=24, **{"persons": 1, **kw})
    with torch.no_grad():
        for m in e.modules():                                       # an encoder that has seen something: its features differ from clip to clip
            if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)): m.running_var.fill_(.05); m.weight.add_(.2 * torch.randn_like(m.weight))
            if isinstance(getattr(m, "importance", None), nn.Parameter): m.importance.add_(.3 * torch.randn_like(m.importance))
    return e


@pytest.fixture(scope="module")
def data(): return clips()


@pytest.fixture(scope="module")
def explorer(data): return explore_joints(data.subset(range(4)), {"ST-GCN": encoder(), "DSTA": encoder("dsta"), NASTY: encoder("tcn")}, block=2)


# --- importance ---

def test_importance_by_hand():
    x = toy_clip()
    f = torch.tensor([1., 2.])                                      # the feature
    far = lambda *g: 1 - torch.nn.functional.cosine_similarity(f, torch.tensor(g), dim=0).item()
    for how, want in {"centre": [0, far(0, 2), far(1, 0)], "parent": [0, far(0, 2), far(1, 1)], "still": [0, 0, far(1, 1)]}.items():
        if how == "parent": want[0] = 0                             # the root moves onto its nearest neighbour: this encoder does not look there
        torch.testing.assert_close(joint_importance(Toy(), x, how), torch.tensor([want]), atol=1e-6, rtol=1e-5)
    both = torch.cat([x, x * torch.tensor([3., 1, 1])[None, :, None, None, None]])
    typical = joint_importance(Toy(), both, "typical")              # the knee at 2, the foot at 2 on average
    torch.testing.assert_close(typical[0], torch.tensor([0, far(2, 2), far(1, 2)]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(joint_importance(Toy(), x, "typical", reference=both), typical[:1])


def test_moments_groups_and_scores_by_hand():
    x = toy_clip()
    moments = joint_importance(Toy(), x, "centre", window=2)
    assert moments.shape == (1, 3, 2)
    assert (moments[0, :2] == 0).all() and moments[0, 2, 0] == 0 and moments[0, 2, 1] > 0       # the knee stands at 1 in the other half too; the foot is at 2 in the second half only
    groups = joint_importance(Toy(), x, "parent", joints={"leg": ["knee", "foot"], "foot": "foot"}, target=lambda f: f.sum(1))
    assert groups.tolist() == [[3., 1.]]                            # both fall onto the hip; the foot alone onto the knee
    assert joint_importance(Toy(), x, "centre", target=lambda f: f, y=[1]).tolist() == [[0., 0., 2.]]
    assert joint_importance(Toy(), x, "centre", target=lambda f: -f[:, 0]).tolist() == [[0., -1., 0.]]     # hiding may help
    assert _places([[4, 5], [20], [7]], NTU25, "parent")[:, [4, 5, 20, 7]].tolist() == [[20, 20, 20, 7], [4, 5, 1, 7], [4, 5, 20, 6]]


@pytest.mark.parametrize("how", OCCLUSIONS)
def test_hidden_clips(how):
    x = clips(4, M=2).batch()
    y = hide(x, NTU25, ["left_wrist", "left_hand"], how)
    kept = [v for v in range(25) if v not in (6, 7)]
    assert torch.equal(y[:, :, :, kept], x[:, :, :, kept]) and not torch.equal(y, x)
    assert (y[0, ..., 1] == 0).all(), "somebody who is not there has appeared"
    if how == "parent": assert torch.equal(y[:, :, :, 7], x[:, :, :, 5]) and torch.equal(y[:, :, :, 6], x[:, :, :, 5])
    if how == "still": torch.testing.assert_close(y[1, :, :, 7, 0], x[1, :, :, 7, 0].mean(1, keepdim=True).expand(-1, 24))
    half = hide(x, NTU25, [7], how, frames=slice(5, 9))
    assert torch.equal(half[:, :, 9:], x[:, :, 9:]) and torch.equal(half[:, :, :5], x[:, :, :5]) and not torch.equal(half, x)


@pytest.mark.parametrize("name", ["stgcn", "dsta"])
@pytest.mark.parametrize("how", ["still", "typical"])
def test_importance_is_what_hiding_one_by_one_gives_and_follows_the_order_of_clips(data, name, how):
    e, x = encoder(name).train(), data.batch()
    state = {k: v.clone() for k, v in e.state_dict().items()}
    found = joint_importance(e, x, how, stream="motion", batch_size=7)
    assert e.training and all(torch.equal(v, state[k]) for k, v in e.state_dict().items()), "measuring has changed the encoder"
    e.eval()
    with torch.no_grad(): one = [1 - torch.nn.functional.cosine_similarity(*(e(to_stream(c, "motion")).double() for c in (x, hide(x, NTU25, v, how)))) for v in (3, 7, 20)]
    torch.testing.assert_close(found[:, [3, 7, 20]].double(), torch.stack(one, 1), atol=1e-6, rtol=1e-2)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    torch.testing.assert_close(joint_importance(e, x[order], how, stream="motion"), found[order], atol=1e-7, rtol=1e-3)
    window = joint_importance(e, x, how, window=24)
    torch.testing.assert_close(window[..., 0], joint_importance(e, x, how))


def test_motion_and_shares(data):
    m = joint_motion(data.batch())
    assert m.argmax(1).tolist() == [7, 19, 3, 7, 19, 3] and m.shape == (6, 25)
    x = torch.zeros(1, 3, 3, 2, 2)
    x[0, 0, :, 0, 0] = torch.tensor([1., 4., 4.]); x[0, 1, :, :, 0] = 1.        # the second person is never there
    assert joint_motion(x).tolist() == [[1.5, 0.]] and joint_motion(x[:, :, :1]).tolist() == [[0., 0.]]
    w = torch.tensor([[1., 3., -5.], [0., 0., 2.]])
    assert share(w, [1, 2]).tolist() == [.75, 1.] and share(w, torch.tensor([True, False, False])).tolist() == [.25, 0.]
    assert share(w, torch.tensor([[True, False, False], [False, False, True]])).tolist() == [.25, 1.]


@pytest.mark.parametrize("change, message", [
    (dict(how="mean"), "how: expected one of still, parent, centre, typical, got 'mean'"), (dict(window=0), "1 to 24 frames, got 0"), (dict(window=25), "got 25"),
    (dict(joints=[[25]]), "0 to 24, got"), (dict(joints=[list(range(25))]), "every joint"), (dict(joints=[]), "got none"), (dict(joints=[["tail"]]), "no joint 'tail'"),
    (dict(target=lambda f: f), r"one score a clip, \(6,\), or \(6,K\) with y, got \(6, 16\)"), (dict(target=lambda f: f, y=[0, 1]), "y of 2"),
])
def test_what_cannot_be_measured(data, change, message):
    with pytest.raises(ValueError, match=message): joint_importance(encoder(), data.batch(), **change)


def test_clips_and_encoders_that_do_not_fit(data):
    x = data.batch()
    with pytest.raises(JointsError, match=r"x\[None\]"): joint_importance(encoder(), x[0])
    with pytest.raises(JointsError, match="17 joints .coco17.*got 25"): joint_importance(encoder(skeleton=COCO17), x)
    with pytest.raises(JointsError, match="1 of 6 clips hold some"): joint_importance(encoder(), torch.where(torch.arange(6)[:, None, None, None, None] == 2, torch.nan, x))
    with pytest.raises(JointsError, match="got none"): joint_importance(encoder(), x[:0])
    with pytest.raises(JointsError, match="Linear; of a method take"): joint_importance(nn.Linear(2, 2), x)
    broken = encoder(); nn.init.constant_(broken.blocks[3].time.bias, torch.nan)
    with pytest.raises(JointsError, match="answers with NaN"): joint_importance(broken, x)
    with pytest.raises(JointsError, match=r"with windows"): share(torch.ones(2, 3, 4), [0])


# --- links ---

def test_links_of_st_gcn_are_graph_times_importance(data):
    e = encoder()
    found = links(e, data.batch())
    assert len(found) == 10 and not any(b.per_clip for b in found) and found[3].heads[0] == "itself" and "the same for every clip" in repr(found[3])
    b, block = found[4], e.blocks[4]
    torch.testing.assert_close(b.maps[0], block.A * block.importance.detach())
    torch.testing.assert_close(b.learned, (block.importance.detach() - 1) * (block.A != 0))
    assert (b.learned[0] * (1 - torch.eye(25)) == 0).all() and b.learned.abs().max() > .1          # off the graph nothing is learned


@pytest.mark.parametrize("name", ["dsta", "unik", "ctrgcn"])
def test_links_that_depend_on_the_clip(name):
    x = clips(3, M=2).batch()
    e = encoder(name, persons=2).eval()
    found, taps = links(e, x), topologies(e, x)
    assert len(found) == len(taps) and all(b.per_clip and b.maps.shape[0] == 6 and b.maps.shape[2:] == (25, 25) and b.learned is None for b in found)
    a = next(iter(taps.values()))
    torch.testing.assert_close(found[0].maps, a if a.ndim == 4 else a.mean(2))
    alone = links(encoder(name), x[:1, ..., :1])
    assert all(b.per_clip and len(b.maps) == 1 for b in alone), "one row: it must still be told from a matrix for all"
    if a.ndim == 5:
        some = links(e, x, channels=("mean", "spread", 2))[0]
        torch.testing.assert_close(some.maps[:, 2], a[:, 0, 2]); torch.testing.assert_close(some.maps[:, 4], a[:, 1].std(1, correction=0))
        assert some.heads[2] == "itself; channel 2"
        with pytest.raises(JointsError, match='"mean", "spread" or numbers from 0 to'): links(e, x, channels=(999,))


def test_encoders_without_links(data):
    assert links(encoder("tcn"), data.batch()) == [] == links(encoder("gru"), data.batch())


def test_strongest_by_hand():
    m = torch.tensor([[9., .5, 0.], [-2., 9., .5], [0., 1., 9.]])
    assert strongest(m, 2) == [(1, 0, -2.), (2, 1, 1.)] and strongest(m, 3)[2] == (0, 1, .5)       # of equal ones the first
    assert [l[:2] for l in strongest(m, 9)] == [(1, 0), (2, 1), (0, 1), (1, 2)] and strongest(m, 9, joint=2) == [(2, 1, 1.), (1, 2, .5)]
    assert strongest(torch.eye(4)) == []


def test_matrices_survive_their_packing():
    g = torch.Generator().manual_seed(0)
    few = torch.zeros(25, 25); few[3, 4], few[24, 24], few[0, 0] = 1., -.25, .5
    for m in (torch.randn(25, 25, generator=g), few, torch.zeros(25, 25), 1e-9 * torch.randn(25, 25, generator=g)):
        data = b"xy" + pack_matrix(m)
        back, end = unpack_matrix(data, 25, 2)
        assert end == len(data) and np.abs(back - m.numpy()).max() <= m.abs().max() / 253
    assert len(pack_matrix(few)) == 15 and len(pack_matrix(torch.ones(25, 25))) == 631


# --- the explorer ---

@pytest.mark.parametrize("setting, message", [
    (dict(clip=4), "clip: expected 0 to 3, got 4"), (dict(encoder="x"), "encoder: expected one of ST-GCN, DSTA"), (dict(beside="x"), "beside: expected one of '', ST-GCN"), (dict(colour="heat"), "importance, moment, motion, none"),
    (dict(block=10), "0 to 9"), (dict(head=7), "0 to 6"), (dict(strongest=-1), "0 to 100"), (dict(selected=[25]), "each from 0 to 24"), (dict(selected=[1, 2, 3]), "or two"),
])
def test_settings_that_do_not_fit(explorer, data, setting, message):
    with pytest.raises(JointsError, match=message): explore_joints(data.subset([0]) if "clip" not in setting else data.subset(range(4)), {"ST-GCN": encoder(), "DSTA": encoder("tcn")}, window=24, **setting)
    if hasattr(explorer, "observe"):
        name, value = next(iter(setting.items()))
        with pytest.raises(Exception, match=message): setattr(explorer, name, value)


def test_what_cannot_be_explored(data):
    e = encoder("tcn")
    with pytest.raises(JointsError, match="1 to 6"): explore_joints(data, {})
    with pytest.raises(JointsError, match="1 to 24 clips, got 25"): explore_joints(clips(25), e)
    with pytest.raises(JointsError, match="one layout, got coco17, ntu25"): explore_joints(data, {"a": e, "b": encoder("tcn", skeleton=COCO17)})
    with pytest.raises(JointsError, match="the encoders' joints .coco17, 17.*ntu25"): explore_joints(data, encoder("tcn", skeleton=COCO17))
    with pytest.raises(JointsError, match="6 texts.*got 2"): explore_joints(data, e, labels=["a", "b"])
    plain = explore_joints(data.batch()[:2], e, labels=["a", "b"], window=24)
    assert plain.told == ["a", "b"] and repr(plain) == "Joints(2 clips, encoder)"


def test_a_page_keeps_to_its_size(data):
    many = explore_joints(clips(12, frames=6), {"DSTA": encoder("dsta"), "UNIK": encoder("unik")}, window=6, clip=9)
    page = many.to_html()
    assert len(page) <= 265_000 and len(json.dumps({"data": {"text/html": page}})) < 300_000
    state = json.loads(page[page.rindex("staticModel(") + 12:page.rindex("), el}")])
    assert state["left"] + len(state["told"]) == 12 and state["left"] > 0 and state["told"][state["clip"]] == many.told[9]
    assert len(many.to_html(most_bytes=170_000)) < 175_000


def test_a_live_explorer_and_a_saved_page(explorer, data, tmp_path):
    pytest.importorskip("anywidget")
    bundle, _ = explorer._repr_mimebundle_()
    assert "text/html" in bundle and "image/png" in bundle and "application/vnd.jupyter.widget-view+json" in bundle
    explorer.block = 4
    assert '"block": 4' in explorer.to_html()
    explorer.block = 2
    assert explorer.save(tmp_path / "joints.html").stat().st_size > 60_000
    with pytest.raises(OSError, match="cannot write the page"): explorer.save(tmp_path / "no" / "joints.html")
    packed = np.frombuffer(explorer.moments, "i1").reshape(3, 4, 25, 8)
    moments = joint_importance(encoder(), data.batch(range(4)), window=3)
    np.testing.assert_allclose(packed[0] / 127 * explorer.moments_scale[0], moments, atol=float(moments.max()) / 200)


def test_without_widgets_the_page_is_still_made(tmp_path):
    code = f"""
import sys
for name in ("anywidget", "ipywidgets", "IPython", "plotly", "matplotlib", "openTSNE", "umap"): sys.modules[name] = None
import torch
from skelnb.explore import explore_joints
from skelnb.encoders import create_encoder
from skelnb.skeleton import NTU25
e = explore_joints(torch.randn(2, 3, 8, 25, 1), create_encoder("tcn", NTU25, width=4, feature_dim=8, frames=8, persons=1))
assert type(e).__name__ == "StaticJoints"
e.save({str(tmp_path / 'joints.html')!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert (tmp_path / "joints.html").stat().st_size > 50_000


# --- in a browser, without a network or a kernel ---

def opened(page, explorer, tmp_path):
    target = tmp_path / "joints.html"
    target.write_text("<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>" + explorer.to_html(), encoding="utf-8")
    page.goto(target.as_uri())
    page.wait_for_function("() => document.querySelector('.skelnb-joints')?.joints?.stats.draws > 0")
    return page.locator(".skelnb-joints")


def drawn(page, root, what, i=0):
    "What was drawn last on body i."
    page.wait_for_timeout(120)
    return root.evaluate(f"(e, i) => e.joints.stats.{what}[i]", i)


def click_cell(page, root, v, w, i=0):
    x, y = root.evaluate("(e, c) => e.joints.cell(...c)", [i, v, w])
    root.locator(".skelnb-map canvas").nth(i).click(position={"x": x, "y": y})


browser_test = lambda f: pytest.mark.browser(pytest.mark.xdist_group("browser")(f))


@browser_test
def test_what_is_drawn_is_what_was_measured(offline_page, explorer, data, tmp_path, screenshot):
    page = offline_page
    root = opened(page, explorer, tmp_path)
    seen = {s.name: s for s in explorer.seen}
    def check_links(name, i, block, head, clip=0, n=12):
        b = seen[name].links[block]; r = clip if b.per_clip else 0
        m = b.maps[r].mean(0) if head == 0 else b.maps[r, head - 1] if head <= len(b.heads) else b.learned[head - 1 - len(b.heads)]
        got = drawn(page, root, "links", i)
        assert len(got) == min(n, len(strongest(m, n))) and all(abs(w - float(m[v, to])) <= float(m.abs().max()) / 200 for v, to, w in got)
        least = abs(strongest(m, n)[-1][2])
        assert all(abs(float(m[v, to])) >= least - float(m.abs().max()) / 100 for v, to, _ in got)
    check_links("ST-GCN", 0, 2, 0); check_links("DSTA", 1, 2, 0)
    w = seen["ST-GCN"].importance[0] / seen["ST-GCN"].importance[0].max()
    discs = dict(drawn(page, root, "discs"))
    assert len(discs) == int((w >= .004).sum()) and all(abs(discs[v] - float(w[v])) < .002 for v in discs)
    top = root.locator("button.skelnb-rank b").all_text_contents()[:3]
    assert top == [NTU25.names[int(v)].replace("_", " ") for v in seen["ST-GCN"].importance[0].argsort(descending=True)[:3]]
    screenshot(page, "joints-start", full_page=True)
    root.locator(".skelnb-block").fill("7"); root.locator(".skelnb-strongest").fill("20"); root.locator(".skelnb-head").select_option(label="itself")
    check_links("DSTA", 1, 7, 1, n=20)
    assert drawn(page, root, "links") == [], "the first subset links every joint with itself only"
    root.locator(".skelnb-head").select_option("6"); root.locator(".skelnb-clip").select_option("2")
    check_links("ST-GCN", 0, 7, 6, 2, 20)
    assert "the same for every clip" in root.text_content() and "all begin at 1" in root.text_content() and root.evaluate("e => e.joints.inner.get('clips').items.length") == 2
    root.locator(".skelnb-colour").select_option("motion")
    discs, motion = dict(drawn(page, root, "discs", 1)), joint_motion(data.batch())[2]
    assert max(discs, key=discs.get) == int(motion.argmax())
    root.locator(".skelnb-colour").select_option("moment")
    seen_moments = {json.dumps(drawn(page, root, "discs")) for _ in range(7)}
    assert len(seen_moments) > 2, "the importance of the moment does not change while it plays"
    root.locator(".skelnb-beside").select_option("")
    page.wait_for_timeout(100)
    assert root.evaluate("e => [e.joints.shown.length, e.querySelectorAll('.skelnb-panel').length]") == [1, 1]
    screenshot(page, "joints-one", full_page=True)
    assert not page.errors and not page.requests


@browser_test
def test_hands_and_keys(offline_page, explorer, tmp_path, screenshot):
    page = offline_page
    root = opened(page, explorer, tmp_path)
    now = lambda: root.evaluate("e => e.joints.inner && [...document.querySelectorAll('button.skelnb-rank[aria-pressed=true]')].map(b => b.querySelector('b').title)")
    root.evaluate("e => e.joints.inner.set('playing', false)")
    page.wait_for_timeout(100)
    x, y = root.evaluate("e => e.querySelector('.skelnb-player').skelnb.joint(1, 0, 19)")
    root.locator(".skelnb-panel canvas").nth(1).click(position={"x": x, "y": y})
    assert now() == ["right_foot"] and all(19 in l[:2] for l in drawn(page, root, "links", 1))
    screenshot(page, "joints-selected", full_page=True)
    click_cell(page, root, 10, 3, 1)
    assert set(now()) == {"right_wrist", "head"} and "head takes from right wrist" in root.locator(".skelnb-said").text_content()
    for key, cell in (("ArrowRight", (10, 4)), ("ArrowDown", (11, 4)), ("ArrowLeft", (11, 3)), ("ArrowUp", (10, 3))):
        page.keyboard.press(key)
        assert set(now()) == {NTU25.names[v] for v in cell}
    page.keyboard.press("n")
    first = root.evaluate("e => e.joints.links(1, 0)[0].slice(0, 2)")
    assert set(now()) <= {NTU25.names[v] for v in range(25)} and len(now()) == 2 and first
    page.keyboard.press(" ")
    assert root.evaluate("e => e.joints.inner.get('playing')")
    page.keyboard.press("Escape")
    assert now() == []
    row = root.locator("button.skelnb-rank").nth(1)
    row.focus(); page.keyboard.press("Enter")
    assert len(now()) == 1 and root.evaluate("e => document.activeElement.getAttribute('aria-pressed')") == "true"
    row.locator(".skelnb-when").click(position={"x": 60, "y": 8})
    assert len(now()) == 1, "a click on a moment goes there and chooses nothing"
    cx, cy = root.evaluate("e => e.joints.cell(0, 4, 5)")
    root.locator(".skelnb-map canvas").first.hover(position={"x": cx, "y": cy})
    assert root.locator(".skelnb-tip").first.text_content().startswith("left elbow takes from left shoulder\n") and root.evaluate("e => e.joints.hover") == [4, 5]
    assert not page.errors


@browser_test
def test_a_narrow_page_two_persons_and_names_that_stay_text(open_page, tmp_path, screenshot):
    page = open_page(offline=True, viewport={"width": 400, "height": 900})
    two = explore_joints(clips(3, M=2), {"DSTA": encoder("dsta", persons=2), NASTY: encoder("tcn", persons=2)}, clip=1, labels=["a", NASTY, "c"], window=12)
    root = opened(page, two, tmp_path)
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert len(drawn(page, root, "links")) == 24 and len(drawn(page, root, "links", 1)) == 0          # twelve for each person; none without matrices
    assert f"{NASTY} has no matrix between joints" in root.text_content() and root.locator("img").count() == 0
    screenshot(page, "joints-400", full_page=True)
    root.locator(".skelnb-clip").select_option("2")
    assert len(drawn(page, root, "links")) == 12, "the second person is away"
    root.locator(".skelnb-encoder").select_option(NASTY); root.locator(".skelnb-beside").select_option("")
    assert root.locator(".skelnb-block").is_hidden() and "No links" in root.text_content()
    assert page.evaluate("window.hacked") is None and not page.errors


# --- in a real JupyterLab ---

@pytest.mark.browser
@pytest.mark.xdist_group("lab")
def test_in_jupyterlab_the_browser_tells_python_and_python_the_browser(open_page, lab, screenshot):  # noqa: F811
    import nbformat
    cells = ["import torch\nfrom skelnb.data import load\nfrom skelnb.encoders import create_encoder\nfrom skelnb.explore import explore_joints\ndata = load('synthetic-small', frames=25).subset([0, 700])\ntorch.manual_seed(0)\n"
             "e = explore_joints(data, {n: create_encoder(n, data.skeleton, width=4, feature_dim=8, frames=25, persons=1) for n in ('stgcn', 'dsta')}, window=25)\n"
             "e.observe(lambda change: setattr(e, 'strongest', 5 + change['new']), 'block')\ne"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}})
    request = urllib.request.Request(f"{lab}/api/contents/nbs/joints-test.ipynb?token=a-token-for-this-test", json.dumps({"type": "notebook", "content": book}).encode(), {"Content-Type": "application/json"}, method="PUT")
    urllib.request.urlopen(request, timeout=20).close()
    page = open_page(viewport={"width": 1250, "height": 1000})
    open_and_run(page, lab, "joints-test.ipynb")
    root = page.locator(".skelnb-joints").first
    stay_in_view(page, root.locator(".skelnb-stage"))
    root.locator(".skelnb-block").fill("3")                                        # Python hears of it and answers
    page.wait_for_function("e => e.querySelector('.skelnb-strongest').value === '8' && e.joints.stats.links[0].length === 8", arg=root.element_handle(), timeout=15_000)
    pixels = lambda: root.locator(".skelnb-stage canvas").first.evaluate("c => c.toDataURL()")
    assert len({pixels() for _ in range(8) if not page.wait_for_timeout(150)}) >= 4, "the clips do not move"
    screenshot(page, "lab-joints")
    assert not page.errors, "\n".join(page.errors)
