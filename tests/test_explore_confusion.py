"""The confusion matrix to click: which clips are in a cell, what is refused, what a page keeps, and how it behaves in a real browser without a network."""

import json
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import torch

from skelnb.data import SkeletonData
from skelnb.evaluate.features import Result
from skelnb.explore import ConfusionError, explore_confusion, members, sureness
from skelnb.skeleton import COCO17, NTU25
from test_lab import lab, open_and_run, stay_in_view  # noqa: F401

NASTY = '<img src=x onerror="window.hacked=1">'


def clips(n=60, C=4, frames=24, M=1, seed=0, skeleton=NTU25):
    "Standing people; the hand of class c goes round at height c."
    g, t = np.random.default_rng(seed), np.linspace(0, 2 * np.pi, frames)
    y = np.arange(n) % C
    x = np.repeat(g.normal(size=(1, 1, len(skeleton), 3)), n, 0).repeat(frames, 1)[:, :, None].repeat(M, 2)
    for i in range(n): x[i, :, 0, 7] += .4 * np.stack([np.sin(t + i), np.cos(t + i), 0 * t], -1) + [0, y[i], 0]
    if M > 1: x[::2, :, 1:] = 0
    names = ("wave", "kick", "sit down", NASTY, *(f"class {c}" for c in range(4, C)))[:C]
    return SkeletonData(x.transpose(0, 4, 1, 3, 2).astype("f4"), y, skeleton=skeleton, classes=names)


def answered(data, seed=0, sure=1.5):
    "A result on these clips, right more often than not."
    C = len(data.classes)
    y = torch.as_tensor(np.asarray(data.y))
    s = torch.randn(len(data), C, generator=torch.Generator().manual_seed(seed)) + sure * torch.nn.functional.one_hot(y, C)
    return Result(s, y, classes=data.classes, settings={"protocol": "made up"})


@pytest.fixture(scope="module")
def data(): return clips()


@pytest.fixture(scope="module")
def result(data): return answered(data)


def test_members_by_hand():
    #                 a, surely right   a, hardly right   a for b, a little   a for b, surely   b right
    s = torch.tensor([[.9, .1], [.6, .5], [.4, .6], [.1, .9], [.2, .7]])
    r = Result(s, [0, 0, 0, 0, 1])
    np.testing.assert_allclose(sureness(s, [0, 0, 0, 0, 1]), [.8, .1, .2, .8, .5], atol=1e-6)
    m = members(r)
    assert m["rows"].tolist() == [0, 1, 3, 2, 4] and m["cells"].tolist() == [0, 0, 1, 1, 3]
    assert m["tops"].tolist() == [[0, 1], [0, 1], [1, 0], [1, 0], [1, 0]]
    np.testing.assert_allclose(m["values"][2], [.9, .1])


def test_members_are_the_confusion_matrix(result):
    m, C = members(result), result.scores.shape[1]
    np.testing.assert_array_equal(np.bincount(m["cells"], minlength=C * C).reshape(C, C), result.confusion())
    assert sorted(m["rows"].tolist()) == list(range(len(result.y)))
    np.testing.assert_array_equal(m["tops"][:, 0], result.predictions[m["rows"].tolist()])
    assert (sureness(result.scores, result.y) >= 0).all()


def test_what_does_not_belong_together(data, result):
    with pytest.raises(ConfusionError, match="expected a Result"): explore_confusion(result.scores, data)
    with pytest.raises(ConfusionError, match="60 test clips of the result, got 59"): explore_confusion(result, data.subset(range(59)))
    with pytest.raises(ConfusionError, match="in the same order"): explore_confusion(result, data.subset(np.arange(59, -1, -1)))
    with pytest.raises(ConfusionError, match="each from 0 to 3"): explore_confusion(result, data, selected=(0, 4))
    with pytest.raises(ConfusionError, match="each from 0 to 3.*hop"): explore_confusion(result, data, selected=("wave", "hop"))
    with pytest.raises(ConfusionError, match="labels, worst, alike"): explore_confusion(result, data, order="size")
    with pytest.raises(ConfusionError, match="ntu25"): explore_confusion(result, data, clips(skeleton=COCO17))
    with pytest.raises(ConfusionError, match="classes that the result"): explore_confusion(result, data, clips(C=5))


def test_it_opens_with_the_largest_confusion(data, result):
    e = explore_confusion(result, data)
    counts = result.confusion().to_numpy().copy(); np.fill_diagonal(counts, 0)
    assert counts[tuple(e.selected)] == counts.max() and "% right" in repr(e)
    assert explore_confusion(result, data, selected=("wave", "kick")).selected == [0, 1]
    perfect = Result(torch.nn.functional.one_hot(result.y, 4).float(), result.y, classes=data.classes)
    e = explore_confusion(perfect, data)
    assert e.selected[0] == e.selected[1] and "No clip is taken" in e.to_html()


def state_of(page): return json.loads(page[page.rindex("staticModel(") + 12:page.rindex("), el}")])


def test_a_page_keeps_to_its_size_and_the_largest_first():
    data = clips(400, C=6, frames=25); result = answered(data)
    e = explore_confusion(result, data)
    for most in (265_000, 150_000):
        page = e.to_html(most_bytes=most)
        assert .85 * most < len(page) <= most and len(json.dumps({"data": {"text/html": page}})) < 300_000
    state = state_of(page)
    assert e.found["rows"][e.found["cells"] == e.selected[0] * 6 + e.selected[1]][0] in state["store"]["rows"]
    assert len(state["store"]["rows"]) < 400 and len(state["told"]) <= len(state["store"]["rows"])


def test_training_clips_as_examples(data, result):
    train = clips(20, seed=5)
    e = explore_confusion(result, data, train)
    shown = np.frombuffer(e.examples, "<i4").reshape(4, -1)
    assert (shown >= 60).all() and (np.asarray(train.y)[shown - 60] == np.arange(4)[:, None]).all()
    e.wanted = [60, 3] if hasattr(e, "observe") else []
    if e.wanted:
        x = train.batch([0]).numpy()[0]
        from skelnb.player import pack
        first = e.sent["clips"]["items"][0]
        assert e.sent["rows"] == [60, 3] and e.sent["clips"]["data"][:first["frames"] * 150] == pack(x, NTU25)["data"]
    none = explore_confusion(result, data, train.subset(np.flatnonzero(np.asarray(train.y) != 2)))
    assert (np.frombuffer(none.examples, "<i4").reshape(4, -1)[2] == -1).all() and none.to_html()


def test_a_live_explorer_and_a_saved_page(data, result, tmp_path):
    pytest.importorskip("anywidget")
    e = explore_confusion(result, data)
    bundle, _ = e._repr_mimebundle_()
    assert "text/html" in bundle and "image/png" in bundle and "application/vnd.jupyter.widget-view+json" in bundle
    e.selected = [1, 2]
    assert '"selected": [1, 2]' in e.to_html()
    with pytest.raises(Exception, match="each from 0 to 3"): e.selected = [1, 9]
    assert e.save(tmp_path / "confusions.html").stat().st_size > 60_000


def test_without_widgets_the_page_is_still_made(tmp_path):
    code = f"""
import sys
for name in ("anywidget", "ipywidgets", "IPython", "plotly", "matplotlib", "PIL", "openTSNE", "umap"): sys.modules[name] = None
sys.path.insert(0, {str(__import__('pathlib').Path(__file__).parent)!r})
import numpy as np, torch
from skelnb.data import SkeletonData
from skelnb.skeleton import NTU25
from skelnb.evaluate.features import Result
from skelnb.explore import explore_confusion
y = np.arange(8) % 2
data = SkeletonData(np.random.default_rng(0).normal(size=(8, 3, 6, 25, 1)).astype("f4"), y, skeleton=NTU25, classes=("a", "b"))
r = Result(torch.randn(8, 2), y, classes=data.classes)
assert "<table" in r._repr_html_() and "anywidget" not in str(sys.modules["skelnb.evaluate"])
e = explore_confusion(r, data)
assert type(e).__name__ == "StaticConfusion"
e.save({str(tmp_path / 'confusions.html')!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert (tmp_path / "confusions.html").stat().st_size > 40_000


# --- in a browser, without a network or a kernel ---

def opened(page, explorer, tmp_path, **kw):
    target = tmp_path / "confusion.html"
    target.write_text("<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>" + explorer.to_html(**kw), encoding="utf-8")
    page.goto(target.as_uri())
    page.wait_for_function("() => document.querySelector('.skelnb-confusion')?.confusion?.stats.draws > 0")
    return page.locator(".skelnb-confusion")


def click_cell(page, root, i, j):
    x, y = root.evaluate("(e, c) => e.confusion.cell(...c)", [i, j])
    root.locator(".skelnb-matrix canvas").click(position={"x": x, "y": y})


browser_test = lambda f: pytest.mark.browser(pytest.mark.xdist_group("browser")(f))


@browser_test
def test_a_click_on_a_cell_plays_that_confusion(offline_page, data, result, tmp_path, screenshot):
    page, e = offline_page, explore_confusion(result, data)
    root = opened(page, e, tmp_path)
    now = lambda what: root.evaluate(f"e => e.confusion.{what}")
    y, guess = result.y.tolist(), result.predictions.tolist()
    first = now("playing")
    assert now("selected") == e.selected and (y[first[0]], guess[first[0]]) == tuple(e.selected)
    screenshot(page, "confusion-start", full_page=True)
    counts = result.confusion().to_numpy()
    cells = [(i, j) for i in range(4) for j in range(4) if counts[i, j] and [i, j] != e.selected]
    for i, j in cells[:6]:
        click_cell(page, root, i, j)
        playing = now("playing")
        assert now("selected") == [i, j] and (y[playing[0]], guess[playing[0]]) == (i, j) and playing != first
        assert [y[r] for r in playing[1:]] == [i] + [j] * (i != j) and all(y[r] == guess[r] for r in playing[1:]), "examples of the true and the predicted class"
        labels = root.locator(".skelnb-panel figcaption").all_text_contents()
        assert labels[0].startswith(data.classes[i]) and (i == j or data.classes[j] in labels[0]) and len(labels) == len(playing)
        assert f"{counts[i, j]} of {counts[i].sum()} clips" in root.locator("h4").last.text_content()
        first = playing
    pixels = lambda: root.locator(".skelnb-stage canvas").first.evaluate("c => c.toDataURL()")
    assert len({pixels() for _ in range(8) if not page.wait_for_timeout(120)}) >= 4, "the clips do not move"
    screenshot(page, "confusion-clicked", full_page=True)
    assert not page.errors and not page.requests and page.evaluate("window.hacked") is None and root.locator("img").count() == 0


@browser_test
def test_next_clip_order_keys_and_the_list(offline_page, data, result, tmp_path, screenshot):
    page, e = offline_page, explore_confusion(result, data)
    root = opened(page, e, tmp_path)
    now = lambda what: root.evaluate(f"e => e.confusion.{what}")
    counts = result.confusion().to_numpy()
    i = int(counts.diagonal().argmax())
    click_cell(page, root, i, i)
    seen = []
    for _ in range(3): seen.append(now("playing")[0]); root.locator(".skelnb-after").click()
    own = e.found["rows"][e.found["cells"] == i * 5].tolist()
    assert seen == own[:3], "the surest first"
    root.locator(".skelnb-before").click()
    assert now("playing")[0] == own[2]
    root.locator(".skelnb-order").select_option("worst")
    assert now("order") == sorted(range(4), key=lambda c: (counts[c, c] / counts[c].sum(), c))
    click_cell(page, root, 2, 1)
    assert now("selected") == [2, 1], "a click finds the class where it is now"
    root.locator(".skelnb-order").select_option("alike")
    assert sorted(now("order")) == [0, 1, 2, 3]
    root.locator(".skelnb-order").select_option("labels")
    click_cell(page, root, 1, 1)
    page.keyboard.press("ArrowRight"); page.keyboard.press("ArrowDown")
    assert now("selected") == [2, 2]
    if counts[2, 2] > 1:
        before = now("playing"); page.keyboard.press("n")
        assert now("playing") != before
        page.keyboard.press("p")
        assert now("playing") == before
    button = root.locator(".skelnb-largest button").nth(1); button.click()
    assert button.get_attribute("aria-pressed") == "true" and now("selected") != [2, 2]
    x, y = root.evaluate("e => e.confusion.cell(0, 0)"); root.locator(".skelnb-matrix canvas").hover(position={"x": x, "y": y})
    assert root.locator(".skelnb-tip").text_content().startswith("wave recognised")
    assert not page.errors


@browser_test
def test_many_classes_on_a_narrow_page(open_page, tmp_path, screenshot):
    page = open_page(offline=True, viewport={"width": 420, "height": 900})
    data = clips(600, C=120, frames=12, M=2); result = answered(data, sure=2.5)
    root = opened(page, explore_confusion(result, data), tmp_path, most_bytes=160_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    screenshot(page, "confusion-120", full_page=True)
    counts = result.confusion().to_numpy()
    kept = root.evaluate("e => { for (let i = 0; i < 120; i++) for (let j = 0; j < 120; j++) if (i !== j && e.confusion.kept(i, j)) return [i, j]; }")
    lost = next((i, j) for i, j in zip(*counts.nonzero()) if not root.evaluate("(e, c) => e.confusion.kept(...c)", [int(i), int(j)]))
    root.locator(".skelnb-matrix canvas").focus(); root.evaluate("e => e.querySelector('canvas').scrollIntoView()")
    click_cell(page, root, *map(int, lost))
    assert "No clip of this cell is kept" in root.locator(".skelnb-lost").text_content()
    click_cell(page, root, *kept)
    first = root.evaluate("e => e.confusion.playing")[0]
    assert [int(result.y[first]), int(result.predictions[first])] == kept and not page.errors


# --- in a real JupyterLab ---

@pytest.mark.browser
@pytest.mark.xdist_group("lab")
def test_in_jupyterlab_clips_come_from_the_kernel_and_python_hears_of_clicks(open_page, lab, screenshot):  # noqa: F811
    import nbformat
    cells = ["import torch\nfrom skelnb.data import load\nfrom skelnb.evaluate import Result\nfrom skelnb.explore import explore_confusion\ndata = load('synthetic-small', frames=25).subset(range(0, 400, 4))\n"
             "s = torch.randn(100, 10, generator=torch.Generator().manual_seed(0)) + torch.nn.functional.one_hot(data.y.long(), 10)\n"
             "e = explore_confusion(Result(s, data.y, classes=data.classes), data)\ne.observe(lambda change: setattr(e, 'order', 'worst'), 'selected')\ne"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}})
    request = urllib.request.Request(f"{lab}/api/contents/nbs/confusion-test.ipynb?token=a-token-for-this-test", json.dumps({"type": "notebook", "content": book}).encode(), {"Content-Type": "application/json"}, method="PUT")
    urllib.request.urlopen(request, timeout=20).close()
    page = open_page(viewport={"width": 1250, "height": 1100})
    open_and_run(page, lab, "confusion-test.ipynb")
    root = page.locator(".skelnb-confusion").first
    root.locator(".skelnb-matrix canvas").scroll_into_view_if_needed()
    page.wait_for_function("e => e.confusion.playing.length >= 2", arg=root.element_handle(), timeout=30_000)
    before = root.evaluate("e => [e.confusion.playing, e.confusion.stored.length]")
    button = root.locator(".skelnb-largest button").nth(3); button.click()
    page.wait_for_function("([e, b]) => e.confusion.playing.length >= 2 && String(e.confusion.playing) !== b", arg=[root.element_handle(), ",".join(map(str, before[0]))], timeout=20_000)
    page.wait_for_function("e => e.querySelector('.skelnb-order').value === 'worst'", arg=root.element_handle(), timeout=15_000)          # Python heard of it and answered
    assert root.evaluate("e => e.confusion.stats.asked") >= 1 and root.evaluate("e => e.confusion.stored.length") > 0
    stay_in_view(page, root.locator(".skelnb-stage"))
    pixels = lambda: root.locator(".skelnb-stage canvas").first.evaluate("c => c.toDataURL()")
    assert len({pixels() for _ in range(8) if not page.wait_for_timeout(150)}) >= 4, "the clips do not move"
    screenshot(page, "lab-confusion")
    assert not page.errors, "\n".join(page.errors)
