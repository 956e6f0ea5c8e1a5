"""The vote of the streams: its numbers, what it refuses, what it keeps, and how it behaves in a real browser without a network."""

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from skelnb.data import SkeletonData, load, to_stream
from skelnb.explore import SimilarityError, SimilarityRecorder, batch_similarities, explore_similarity, label_quality, load_similarities, save_similarities
from skelnb.explore.similarity import STATE
from skelnb.losses import pseudo_label, sharpen, similarities, vote
from skelnb.methods import CMAL
from skelnb.player import safe_json, unpack
from skelnb.skeleton import NTU25
from skelnb.train import pretrain
from skelnb.train.checkpoint import CheckpointError
from test_lab import lab, open_and_run, stay_in_view  # noqa: F401

NASTY = '<img src=x onerror="window.hacked=1">', "</script><script>window.hacked=1</script>", "<!--<script>"
CLASSES = ("wave", "kick", "sit", NASTY[0])
STREAMS = ("joint", "motion", "bone")


def clips(n=24, frames=30, seed=0):
    "Standing people of four classes, not sorted; in each class another joint goes round. Names that must stay text."
    g, y, t = np.random.default_rng(seed), np.arange(n) % 4, np.linspace(0, 2 * np.pi, frames)
    x = np.repeat(NTU25.rest[None, None], n, 0).repeat(frames, 1)[:, :, None]
    circle = .4 * np.stack([np.sin(t), np.cos(t), 0 * t], -1)
    for c, joint in enumerate((7, 19, 3, 11)):
        x[y == c, :, :, joint] += circle[None, :, None]
    x = x + .01 * g.normal(size=x.shape)
    meta = pd.DataFrame({"name": [*NASTY, *(f"clip{i}" for i in range(3, n))]})
    return SkeletonData(x.transpose(0, 4, 1, 3, 2).astype("f4"), y, meta=meta, classes=CLASSES)


def made_up(y, noise=1., seed=0, width=12):
    "{stream: (S, S')} of rows that have something of their class."
    g, y = torch.Generator().manual_seed(seed), torch.as_tensor(y)
    draw = lambda: torch.randn(len(y), width, generator=g)
    scene = torch.randn(int(y.max()) + 1, width, generator=g)[y]
    views = lambda: [scene + noise * draw() for _ in range(4)]
    return {s: similarities(*views()) for s in STREAMS}


@pytest.fixture(scope="module")
def data(): return clips()


@pytest.fixture(scope="module")
def matrices(data): return {e: made_up(data.y, noise, seed=e) for e, noise in ((0, 2.), (5, 1.2), (10, .9))}


@pytest.fixture(scope="module")
def explorer(data, matrices): return explore_similarity(data, matrices)


def method(seed=0, **kwargs):
    torch.manual_seed(seed)
    return CMAL("tcn", NTU25, STREAMS, weights="own", frames=30, persons=1, width=8, feature_dim=16, **kwargs)


# --- precision and recall ---

def test_quality_by_hand():
    y = [0, 0, 1]
    label = torch.tensor([[1, 1, 1], [0, 1, 0], [0, 1, 1]])
    assert label_quality(label, y) == {"precision": 1 / 3, "recall": 1 / 2}        # (0,1) right; (0,2) and (2,1) wrong; (1,0) missed
    same = torch.tensor(y)[:, None] == torch.tensor(y)
    assert label_quality(same, y) == {"precision": 1., "recall": 1.}
    nothing = label_quality(torch.eye(3), y)
    assert math.isnan(nothing["precision"]) and nothing["recall"] == 0
    assert math.isnan(label_quality(torch.ones(3, 3), [0, 1, 2])["recall"])
    assert label_quality(torch.ones(3, 3), y)["precision"] == 1 / 3
    with pytest.raises(SimilarityError, match="N classes"): label_quality(torch.eye(3), [0, 1])


def test_quality_does_not_depend_on_the_order(data):
    m = made_up(data.y)["joint"]
    label, order = pseudo_label(*m, 3), torch.randperm(24, generator=torch.Generator().manual_seed(0))
    assert label_quality(label, data.y) == label_quality(label[order][:, order], data.y[order])


# --- the matrices of a method ---

def test_matrices_are_those_of_the_method_and_nothing_else_changes(data):
    m = method()
    m.train()
    m.predictors["bone"].eval()                                        # a mode of its own comes back too
    state, modes, chance = {k: v.clone() for k, v in m.state_dict().items()}, [x.training for x in m.modules()], torch.random.get_rng_state()
    found = batch_similarities(m, data, torch.Generator().manual_seed(3))
    assert list(found) == list(STREAMS) and all(S.shape == (24, 24) and not S.requires_grad for pair in found.values() for S in pair)
    assert all(torch.equal(v, state[k]) for k, v in m.state_dict().items()), "a batch norm has moved"
    assert modes == [x.training for x in m.modules()] and torch.equal(chance, torch.random.get_rng_state())
    g = torch.Generator().manual_seed(3)
    torch.randint(2**31, (1,), generator=g)
    views = m.views(data.batch(), g)
    m.train()
    want = similarities(*(o.detach() for o in m.outputs("motion", *(to_stream(v, "motion", NTU25) for v in views))[:4]))
    for a, b in zip(found["motion"], want): torch.testing.assert_close(a, b)
    again, other = batch_similarities(m, data), batch_similarities(m, data, train=False)
    assert torch.equal(again["joint"][0], batch_similarities(m, data)["joint"][0])         # the same views at every call
    assert not torch.allclose(again["joint"][0], other["joint"][0], atol=1e-3)             # batch statistics or running ones
    alone = batch_similarities(m.eval(), data.subset(range(10)), train=False)              # eval: a clip does not feel the others, but for the views
    assert alone["joint"][0].shape == (10, 10) and not m.training


def test_the_method_comes_back_after_an_error(data):
    m = method().train()
    def outputs(*args): raise RuntimeError("broken")
    m.outputs = outputs
    state = {k: v.clone() for k, v in m.state_dict().items()}
    with pytest.raises(RuntimeError, match="broken"): batch_similarities(m, data, train=False)
    assert m.training and all(torch.equal(v, state[k]) for k, v in m.state_dict().items())


def test_not_a_method(data):
    with pytest.raises(SimilarityError, match="Linear, which has no views, outputs"): batch_similarities(torch.nn.Linear(2, 2), data)
    with pytest.raises(SimilarityError, match="two clips or more, got 1"): batch_similarities(method(), data.subset([0]))


def test_watching_a_run_changes_nothing_in_it(data, tmp_path):
    train = clips(32, seed=1)
    plain, watched = method(), method()
    a = pretrain(plain, train, 3, batch_size=16, lr=.05, progress=False, device="cpu")
    recorder = SimilarityRecorder(data, every=1)
    b = pretrain(watched, train, 3, batch_size=16, lr=.05, progress=False, device="cpu", monitor=recorder, monitor_every=1, out=tmp_path / "run")
    assert [r["loss"] for r in a] == [r["loss"] for r in b]
    assert all(torch.equal(v, watched.state_dict()[k]) for k, v in plain.state_dict().items())
    assert list(recorder.matrices) == [1, 2, 3] and b[-1]["joint/label_recall"] >= 0
    last = batch_similarities(watched, data)
    assert torch.equal(last["bone"][1], recorder.matrices[3]["bone"][1])
    labels = [pseudo_label(*p) for p in last.values()]
    assert b[-1]["vote/label_recall"] == label_quality(vote(labels, 2), data.y)["recall"]
    assert all(math.isfinite(v) for v in b[-1].values())               # what cannot be counted is left out
    sparse = SimilarityRecorder(data, every=2)
    pretrain(method(), train, 3, batch_size=16, lr=.05, progress=False, device="cpu", monitor=sparse, monitor_every=1)
    assert list(sparse.matrices) == [2]
    with pytest.raises(SimilarityError): SimilarityRecorder(data, every=0)


def test_a_saved_run_comes_back(data, matrices, tmp_path):
    path = save_similarities(tmp_path / "run.safetensors", matrices, data)
    back = load_similarities(path, data)
    assert list(back) == [0, 5, 10] and list(back[5]) == list(STREAMS)
    assert all(torch.equal(m, w.clamp(-1, 1)) for e in back for s in STREAMS for m, w in zip(back[e][s], matrices[e][s]))
    with pytest.raises(SimilarityError, match="24 clips.*are not the 12"): load_similarities(path, data.subset(range(12)))
    with pytest.raises(SimilarityError, match="same order"): load_similarities(path, data.subset(range(23, -1, -1)))
    with pytest.raises(CheckpointError, match="no such file"): load_similarities(tmp_path / "other.safetensors")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="damaged"): load_similarities(path)


# --- what does not fit ---

@pytest.mark.parametrize("change, message", [
    (lambda m: {}, "an empty dict"),
    (lambda m: [1, 2], "got list"),
    (lambda m: {**m, "joint": m["joint"][0]}, "pair"),
    (lambda m: {**m, "joint": m["joint"][:1]}, "pair"),
    (lambda m: {**m, "joint": (m["joint"][0], m["joint"][1][:20])}, r"joint, S'.*\(24,24\).*\(20, 24\)"),
    (lambda m: {**m, "bone": (m["bone"][0] * 14, m["bone"][1])}, "bone, S: expected cosines.*temperature"),
    (lambda m: {**m, "bone": (m["bone"][0].masked_fill(torch.eye(24) > 0, float("nan")), m["bone"][1])}, "24 of 576 cosines are NaN.*row 0"),
    (lambda m: {1: m, 2: {"joint": m["joint"]}}, "epoch 2: expected the streams joint, motion, bone"),
    (lambda m: {"first": m}, "whole numbers"),
])
def test_matrices_that_do_not_fit(data, change, message):
    with pytest.raises(SimilarityError, match=message): explore_similarity(data, change(made_up(data.y)))


@pytest.mark.parametrize("setting, message", [
    (dict(k=9), "k: expected 0 to 8, got 9"), (dict(at_least=0), "1 to 3, got 0"), (dict(at_least=4), "1 to 3, got 4"), (dict(views="and"), "both, first, second"),
    (dict(epoch=3), "one of 0, 5, 10, got 3"), (dict(shown="joint"), "vote, joint: S"), (dict(selected=(0, 24)), "0 to 23"),
])
def test_settings_that_do_not_fit(data, matrices, setting, message):
    with pytest.raises(SimilarityError, match=message): explore_similarity(data, matrices, **setting)
    e = explore_similarity(data, matrices)
    if hasattr(e, "observe"):
        name, value = next(iter(setting.items()))
        with pytest.raises(Exception, match=message): setattr(e, name, list(value) if isinstance(value, tuple) else value)


def test_few_and_many_clips(data):
    with pytest.raises(SimilarityError, match="2 to 128 clips, got 1"): explore_similarity(data.subset([0]), made_up([0]))
    many = clips(130, frames=4)
    with pytest.raises(SimilarityError, match="got 130; take some"): explore_similarity(many, made_up(many.y))
    two = explore_similarity(data.subset([0, 1]), {"joint": (torch.eye(2), torch.eye(2))}, k=1)
    assert two.most == 2 and two.at_least == 1


# --- sizes and the kernel's side ---

def test_a_page_keeps_to_its_size_and_leaves_out_epochs_before_clips(data, explorer, matrices):
    assert len(explorer.to_html()) <= 265_000 and len(json.dumps({"data": {"text/html": explorer.to_html()}})) < 300_000
    assert '"left": 0' in explorer.to_html()
    run = {e: made_up(data.y, seed=e) for e in range(40)}
    long = explore_similarity(data, run, epoch=17)
    page = long.to_html()
    assert len(page) <= 265_000 and '"epoch": 17' in page
    state = json.loads(page[page.rindex("staticModel(") + 12:page.rindex("), el}")])
    assert 17 in state["epochs"] and state["left"] + len(state["epochs"]) == 40 and state["left"] > 0 and len(state["store"]["rows"]) == 24
    assert len(long.to_html(most_bytes=90_000)) <= 91_000


def test_a_live_explorer_sends_what_is_asked_for(data, matrices):
    pytest.importorskip("anywidget")
    e = explore_similarity(data, matrices, selected=(3, 9))
    assert e.sent["rows"] == [3, 9] and e.epoch == 10 and e.shown == "vote"
    e.wanted = [7, 2, 999]
    assert e.sent["rows"] == [7, 2]
    np.testing.assert_allclose(unpack(e.sent["clips"])[1].transpose(3, 0, 2, 1), data.x[2], atol=1e-4)
    bundle, _ = e._repr_mimebundle_()
    assert "text/html" in bundle and "image/png" in bundle and "application/vnd.jupyter.widget-view+json" in bundle
    assert repr(e) == "Similarities(24 clips, joint, motion, bone, 3 epochs)" == bundle["text/plain"]
    e.k = 5
    assert '"k": 5' in e.to_html()


def test_without_widgets_the_page_is_still_made(tmp_path):
    code = f"""
import sys
for name in ("anywidget", "ipywidgets", "IPython", "plotly", "matplotlib", "openTSNE", "umap"): sys.modules[name] = None
sys.path.insert(0, {str(__import__('pathlib').Path(__file__).parent)!r})
import torch
from skelnb.explore import explore_similarity
from skelnb.skeleton import NTU25
from skelnb.data import SkeletonData
import numpy as np
d = SkeletonData(np.random.default_rng(0).normal(size=(6, 3, 8, 25, 1)).astype("f4"), np.arange(6) % 2, classes=("a", "b"))
e = explore_similarity(d, {{"joint": (torch.eye(6), torch.eye(6))}})
assert type(e).__name__ == "StaticSimilarities"
e.save({str(tmp_path / 'vote.html')!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert (tmp_path / "vote.html").stat().st_size > 50_000


def test_a_folder_that_is_not_there_is_told(explorer, tmp_path):
    with pytest.raises(OSError, match="cannot write the page"): explorer.save(tmp_path / "no" / "vote.html")
    assert not list(tmp_path.iterdir())


# --- in a browser, without a network or a kernel ---

def opened(page, explorer, tmp_path, **options):
    target = tmp_path / "vote.html"
    target.write_text("<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>" + explorer.to_html(**options), encoding="utf-8")
    page.goto(target.as_uri())
    page.wait_for_function("() => document.querySelector('.skelnb-vote')?.similarity?.drawn > 0")
    return page.locator(".skelnb-vote")


def large(root): return root.locator(".skelnb-large canvas")


def click_cell(page, root, i, j):
    "Click the cell of places i, j of the large matrix."
    x, y = root.evaluate("(e, c) => e.similarity.cell(...c)", [i, j])
    large(root).click(position={"x": x, "y": y})
    page.wait_for_timeout(150)


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("ties", [False, True])
def test_every_stage_is_what_torch_computes(offline_page, data, matrices, tmp_path, ties):
    "All k, views, votes and epochs, label by label; with ties too, where the order within a row is torch's own affair."
    run = {e: {s: tuple((m * 4).round() / 4 for m in p) for s, p in found.items()} for e, found in matrices.items()} if ties else matrices
    root = opened(offline_page, explore_similarity(data, run), tmp_path)
    order = np.argsort(np.asarray(data.y), kind="stable")
    got = root.evaluate("""e => { const n = e.similarity.numbers, out = [];
      for (let t = 0; t < n.E; t++) for (let k = 0; k <= n.K; k++) {
        const sharp = [0, 1, 2].map(s => [0, 1].map(v => [...n.sharpen(t, s, v, k)]));
        for (const views of ["both", "first", "second"]) {
          const labels = [0, 1, 2].map(s => n.label(t, s, k, views));
          out.push({k, t, views, sharp, labels: labels.map(l => [...l]), votes: [1, 2, 3].map(need => [...n.vote(labels, need)]), table: n.table(t, views)[k]});
        }
      }
      return out; }""")
    assert len(got) == 3 * 9 * 3
    flat = lambda m: m.int().numpy()[order][:, order].ravel().tolist()
    number = lambda v: None if math.isnan(v) else pytest.approx(v)
    for case in got:
        found = run[[0, 5, 10][case["t"]]]
        sharp = [[sharpen(m, case["k"]) for m in found[s]] for s in STREAMS]
        labels = [{"both": a & b, "first": a, "second": b}[case["views"]] for a, b in sharp]
        assert case["sharp"] == [[flat(m) for m in pair] for pair in sharp]
        assert case["labels"] == [flat(m) for m in labels]
        if case["views"] == "both": assert all(torch.equal(l, pseudo_label(*found[s], case["k"])) for l, s in zip(labels, STREAMS))
        votes = [vote(labels, n) for n in (1, 2, 3)]
        assert case["votes"] == [flat(m) for m in votes]
        for label, q in [*zip(labels, case["table"]["streams"]), *zip(votes, case["table"]["votes"])]:
            want = label_quality(label, data.y)
            assert q["precision"] == number(want["precision"]) and q["recall"] == number(want["recall"])
    cosines = root.evaluate("e => { const n = e.similarity.numbers; return [0, 1, 2].map(s => [0, 1].map(v => Array.from({length: n.N}, (_, i) => Array.from({length: n.N}, (_, j) => n.cosine(2, s, v, i, j))))); }")
    want = [[m.numpy()[order][:, order] for m in run[10][s]] for s in STREAMS]
    np.testing.assert_allclose(cosines, want, atol=.0041)
    assert not offline_page.errors and not offline_page.requests


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_a_click_plays_the_two_clips(offline_page, explorer, data, tmp_path, screenshot):
    page = offline_page
    root = opened(page, explorer, tmp_path)
    page.wait_for_timeout(300)
    screenshot(page, "similarity-start", full_page=True)
    assert sorted(root.evaluate("e => e.similarity.stored")) == list(range(24))
    order = np.argsort(np.asarray(data.y), kind="stable")
    click_cell(page, root, 2, 17)
    pair = [int(order[2]), int(order[17])]
    assert root.evaluate("e => e.similarity.now.selected") == pair == root.evaluate("e => e.similarity.playing")
    packed = root.evaluate("e => { const c = e.similarity.clip; return {layout: c.layout, items: c.items, data: Array.from(c.data)}; }")
    shown = unpack({**packed, "data": bytes(packed["data"])})
    at = np.linspace(0, 29, len(shown[0])).round().astype(int)
    for x, row in zip(shown, pair): np.testing.assert_allclose(x.transpose(3, 0, 2, 1), data.x[row][:, at], atol=.006)
    assert [i["label"] for i in packed["items"]] == ["row: wave", "column: sit"]
    text = root.locator(".skelnb-story").text_content()
    S = explorer.matrices[10]["joint"][0][pair[0], pair[1]].item()
    assert f"{S:.2f}".replace("-", "\u2212") in text or f"{S + .004:.2f}" in text or f"{S - .004:.2f}".replace("-", "\u2212") in text
    pixels = lambda: root.locator(".skelnb-stage canvas").nth(1).evaluate("c => c.toDataURL()")
    assert len({pixels() for _ in range(8) if not page.wait_for_timeout(120)}) >= 4, "the clip does not move"
    screenshot(page, "similarity-clicked", full_page=True)
    assert not page.errors and not page.requests


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_sliders_votes_and_what_is_written(offline_page, explorer, data, matrices, tmp_path, screenshot):
    page = offline_page
    root = opened(page, explorer, tmp_path)
    def written(k, need, epoch, views="both"):
        labels = [pseudo_label(*matrices[epoch][s], k) if views == "both" else sharpen(matrices[epoch][s][0], k) for s in STREAMS]
        q = label_quality(vote(labels, need), data.y)
        told = ["\u2013" if math.isnan(v) else f"{math.floor(100 * v + .5)}\u00a0%" for v in (q["precision"], q["recall"])]
        return f"{told[0]} right\n{told[1]} found"
    vote_text = lambda: root.locator(".skelnb-mini").last.locator("small").text_content()
    assert vote_text() == written(2, 2, 10)
    root.locator(".skelnb-k").fill("5")
    assert vote_text() == written(5, 2, 10) and "at k = 5" in root.locator("h4").first.text_content()
    root.locator(".skelnb-need").select_option("3")
    assert vote_text() == written(5, 3, 10)
    root.locator(".skelnb-need").select_option(label="1 of 3")
    root.locator(".skelnb-epoch").fill("0")
    assert vote_text() == written(5, 1, 0) and root.evaluate("e => e.similarity.now.epoch") == 0
    root.locator(".skelnb-views").select_option("first")
    assert vote_text() == written(5, 1, 0, "first")
    before = large(root).evaluate("c => c.toDataURL()")
    root.locator(".skelnb-mini").first.click()
    page.wait_for_timeout(100)
    assert "cosines S," in root.locator("h4").first.text_content() and large(root).evaluate("c => c.toDataURL()") != before
    assert root.locator(".skelnb-mini[aria-pressed=true]").count() == 1
    x, y = root.evaluate("e => e.similarity.cell(0, 20)")
    large(root).hover(position={"x": x, "y": y})
    tip = root.locator(".skelnb-tip").text_content()
    order = np.argsort(np.asarray(data.y), kind="stable")
    S = matrices[0]["joint"][0][order[0], order[20]].item()
    assert tip.startswith(f"row: wave\ncolumn: {CLASSES[3]}\n") and abs(float(tip.split("cosine ")[1].replace("\u2212", "-")) - S) < .01
    screenshot(page, "similarity-cosines", full_page=True)
    chart = root.locator(".skelnb-charts svg").first
    box = chart.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 182 / 250, box["y"] + 60)               # the last k of the curve
    assert root.evaluate("e => e.similarity.now.k") == 8
    assert not page.errors and not page.requests


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_keys(offline_page, explorer, data, tmp_path):
    page = offline_page
    root = opened(page, explorer, tmp_path)
    order = np.argsort(np.asarray(data.y), kind="stable").tolist()
    now = lambda: root.evaluate("e => e.similarity.now")
    click_cell(page, root, 3, 3)
    for key, cell in (("ArrowRight", (3, 4)), ("ArrowDown", (4, 4)), ("ArrowLeft", (4, 3)), ("ArrowUp", (3, 3))):
        page.keyboard.press(key)
        assert now()["selected"] == [order[cell[0]], order[cell[1]]]
    page.keyboard.press("+"); page.keyboard.press("+"); page.keyboard.press("-")
    assert now()["k"] == 3
    label = np.array(root.evaluate("e => e.similarity.stage('vote')")).reshape(24, 24)
    assert label.sum() > 30
    np.fill_diagonal(label, 0)
    cells = [tuple(c) for c in np.argwhere(label)]
    page.keyboard.press("n")
    after = next((c for c in cells if c > (3, 3)), cells[0])
    assert now()["selected"] == [order[after[0]], order[after[1]]]
    page.keyboard.press("p"); page.keyboard.press("p")
    assert label[order.index(now()["selected"][0]), order.index(now()["selected"][1])]
    page.keyboard.press(" ")
    assert not root.evaluate("e => e.querySelector('.skelnb-player').skelnb.playing")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    root.locator(".skelnb-mini").nth(1).focus(); page.keyboard.press("Enter")
    assert now()["shown"] == "joint: S'"
    assert not page.errors


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_names_and_classes_stay_text(offline_page, explorer, data, tmp_path):
    page = offline_page
    root = opened(page, explorer, tmp_path)
    order = np.argsort(np.asarray(data.y), kind="stable").tolist()
    for row in (0, 1, 2):
        click_cell(page, root, order.index(row), order.index(3))
        assert NASTY[row] in root.locator(".skelnb-pair").text_content() and f"column: {CLASSES[3]}" in root.locator("figcaption").nth(1).text_content()
    evil = explore_similarity(data, {NASTY[0]: made_up(data.y)["joint"], "</script>": made_up(data.y, seed=1)["joint"]})
    root = opened(page, evil, tmp_path)
    click_cell(page, root, 1, 2)
    assert NASTY[0] in root.locator(".skelnb-pipe").text_content() and root.locator("img").count() == 0
    assert page.evaluate("window.hacked") is None and not page.errors


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("width", [400, 700])
def test_a_narrow_page_holds_all_of_it(open_page, explorer, tmp_path, screenshot, width):
    page = open_page(offline=True, viewport={"width": width, "height": 900})
    root = opened(page, explorer, tmp_path)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    click_cell(page, root, 5, 9)
    assert root.evaluate("e => e.similarity.playing.length") == 2
    screenshot(page, f"similarity-{width}", full_page=True)
    assert not page.errors


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_one_stream_two_clips_and_clips_that_are_not_kept(offline_page, data, matrices, tmp_path):
    page = offline_page
    root = opened(page, explore_similarity(data.subset([0, 1]), {"joint": (torch.eye(2), torch.eye(2))}, k=1), tmp_path)
    click_cell(page, root, 0, 1)
    assert root.evaluate("e => e.similarity.playing") == [0, 1]
    root = opened(page, explore_similarity(data, matrices, selected=(4, 6)), tmp_path, most_bytes=95_000)
    stored = root.evaluate("e => e.similarity.stored")
    assert stored[:2] == [4, 6] and len(stored) < 24 and root.evaluate("e => e.similarity.playing") == [4, 6]
    order = np.argsort(np.asarray(data.y), kind="stable").tolist()
    lost = next(i for i in order if i not in stored)
    click_cell(page, root, order.index(lost), order.index(4))
    assert "not kept in the page" in root.text_content() and root.evaluate("e => e.similarity.playing") == []
    assert not page.errors


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_a_batch_of_the_paper_is_drawn_in_time(offline_page, tmp_path, screenshot):
    many = clips(128, frames=6)
    root = opened(offline_page, explore_similarity(many, made_up(many.y)), tmp_path)
    got = root.evaluate("""async e => { const s = e.similarity.stats, slider = e.querySelector(".skelnb-k"), times = [];
      for (let i = 0; i < 18; i++) {
        const before = s.ms; slider.value = i % 9; slider.dispatchEvent(new Event("input"));
        await new Promise(requestAnimationFrame); await new Promise(requestAnimationFrame); times.push(s.ms - before);
      }
      return times.sort((a, b) => a - b); }""")
    print(f"drawing 17 matrices of 128 x 128: {got[0]:.0f} ms at best, {got[9]:.0f} as a rule")
    screenshot(offline_page, "similarity-128", full_page=True)
    assert 0 < got[2] < 60, got                                        # the quick ones: a busy machine does not matter
    assert not offline_page.errors


LIVE = """
async ([esm, state]) => {
  const bytes = t => { const b = Uint8Array.from(atob(t), c => c.charCodeAt(0)); return new DataView(b.buffer); };
  state.cosines = bytes(state.cosines); state.tops = bytes(state.tops);
  const heard = {}, fire = k => (heard["change:" + k] || []).forEach(f => f()), changed = new Set();
  const model = {
    get: k => state[k], on: (k, f) => (heard[k] = heard[k] || []).push(f), off() {},
    set(k, v) { state[k] = v; changed.add(k); fire(k); },
    async save_changes() {
      const now = [...changed]; changed.clear();
      for (const k of now) { const sent = await window.kernel(k, state[k]); if (sent) { sent.clips.data = bytes(sent.clips.data); state.sent = sent; fire("sent"); } }
    },
  };
  window.state = state; window.fire = fire;
  const module = await import(URL.createObjectURL(new Blob([esm], {type: "text/javascript"})));
  window.stop = module.default.render({model, el: document.body});
}
"""


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_the_live_module_asks_python_for_clips(offline_page, data, matrices):
    "The module that JupyterLab loads, with a stand-in for the channel between browser and kernel."
    pytest.importorskip("anywidget")
    page, told = offline_page, []
    e = explore_similarity(data, matrices, selected=(0, 1))

    def kernel(name, value):
        told.append((name, value))
        setattr(e, name, value)
        return json.loads(safe_json(e.sent)) if name == "wanted" else None

    page.goto("about:blank")
    page.expose_function("kernel", kernel)
    state = {k: getattr(e, k) for k in (*STATE, "left", "fps", "wanted", "store")} | {"live": True, "sent": {}}
    page.evaluate(LIVE, [e._esm, json.loads(safe_json(state))])
    page.wait_for_function("() => document.querySelector('.skelnb-vote').similarity.playing.length === 2")
    root = page.locator(".skelnb-vote")
    assert ("wanted", [0, 1]) in told and root.evaluate("e => e.similarity.playing") == [0, 1]
    click_cell(page, root, 4, 20)
    order = np.argsort(np.asarray(data.y), kind="stable")
    pair = [int(order[4]), int(order[20])]
    page.wait_for_function("p => String(document.querySelector('.skelnb-vote').similarity.playing) === String(p)", arg=pair)
    assert e.selected == pair and e.wanted == pair
    root.locator(".skelnb-k").fill("4")
    page.wait_for_timeout(100)
    assert e.k == 4
    page.evaluate("() => { state.k = 1; state.epoch = 0; fire('k'); fire('epoch'); }")                       # Python moves
    assert root.evaluate("e => [e.similarity.now.k, e.similarity.now.epoch]") == [1, 0] and root.locator(".skelnb-k").input_value() == "1"
    page.evaluate("stop()")
    assert root.count() == 0 and not page.errors


# --- in a real JupyterLab ---

@pytest.mark.browser
@pytest.mark.xdist_group("lab")
def test_the_chapter_in_jupyterlab(open_page, lab, screenshot):  # noqa: F811
    page = open_page(viewport={"width": 1250, "height": 900})
    open_and_run(page, lab, "explore/01_similarity.ipynb")
    root = page.locator(".skelnb-vote").first
    for _ in range(80):
        if page.locator(".skelnb-vote").count(): break
        page.locator(".jp-WindowedPanel-outer").last.evaluate("e => e.scrollBy(0, 500)")
        page.wait_for_timeout(250)
    stay_in_view(page, large(root))
    root.locator(".skelnb-k").fill("5")
    page.wait_for_function("e => e.similarity.now.k === 5", arg=root.element_handle())
    place = root.evaluate("e => e.similarity.cell(3, 11)")
    large(root).click(position={"x": place[0], "y": place[1]})
    want = root.evaluate("e => e.similarity.now.selected")
    page.wait_for_function("([e, w]) => String(e.similarity.playing) === String(w)", arg=[root.element_handle(), want], timeout=10_000)
    page.wait_for_timeout(800)
    screenshot(page, "lab-similarity")
    pixels = lambda: root.locator(".skelnb-stage canvas").first.evaluate("c => c.toDataURL()")
    assert len({pixels() for _ in range(8) if not page.wait_for_timeout(150)}) >= 4, "the clips do not move"
    assert not page.errors, "\n".join(page.errors)
