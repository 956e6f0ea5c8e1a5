"""The map of the features: its numbers, what it refuses, the bytes it keeps, and how it behaves in a real browser without a network."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from skelnb.data import SkeletonData
from skelnb.evaluate import EvaluationError, Features, knn
from skelnb.explore import align, embed, explore_embedding
from skelnb.explore.embedding import STATE, _clips, _fold, _near, _spread
from skelnb.player import safe_json, unpack
from skelnb.skeleton import NTU25

NASTY = '<img src=x onerror="window.hacked=1">', "</script><script>window.hacked=1</script>", "<!--<script>"
CLASSES = ("wave", "kick", "sit", *NASTY[:1])


def clips(n=60, frames=50, persons=1, seed=0):
    "Standing people of four classes; in each class another joint goes round. Names that must stay text."
    g, y, t = np.random.default_rng(seed), np.arange(n) % 4, np.linspace(0, 2 * np.pi, frames)
    x = np.repeat(NTU25.rest[None, None], n, 0).repeat(frames, 1)[:, :, None].repeat(persons, 2)
    circle = .4 * np.stack([np.sin(t), np.cos(t), 0 * t], -1)
    for c, joint in enumerate((7, 19, 3, 11)):
        x[y == c, :, :, joint] += circle[None, :, None]
    x = x + .01 * g.normal(size=x.shape)
    if persons > 1:
        x[::2, :, 1] = 0                                           # a second person who is not there,
        x[1, 20:30, 1] = 0                                         # and one who leaves and comes back
    meta = pd.DataFrame({"name": [*NASTY, *(f"clip{i}" for i in range(3, n))], "subject": np.arange(n) % 5, "camera": np.arange(n) % 3})
    return SkeletonData(x.transpose(0, 4, 1, 3, 2).astype("f4"), y, meta=meta, classes=CLASSES)


def table(data, D=8, spread=.4, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Features(3 * torch.nn.functional.one_hot(data.y, D) + spread * torch.randn(len(data), D, generator=g), data.y, classes=data.classes)


@pytest.fixture(scope="module")
def data(): return clips()


@pytest.fixture(scope="module")
def explorer(data):
    f = table(data)
    maps = {"5": embed(f, "pca"), "30": -embed(f, "pca")[:, ::-1]}
    return explore_embedding(data, f, maps, slider="perplexity", predictions=knn(None, f, f, k=5), colours={"length": ["long"] * 30 + ["short"] * 30})


# --- the map ---

@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 40])
@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_map_of_any_number_of_points(n, method):
    xy = embed(torch.randn(n, 6, generator=torch.Generator().manual_seed(n)), method)
    assert xy.shape == (n, 2) and xy.dtype == np.float32 and np.isfinite(xy).all()


def test_the_same_seed_gives_the_same_map_and_groups_stay_groups(data):
    from sklearn.manifold import trustworthiness
    f = table(data)
    xy = embed(f, seed=1)
    np.testing.assert_array_equal(xy, embed(f, seed=1))
    d = ((xy[:, None] - xy[None]) ** 2).sum(2)
    np.fill_diagonal(d, np.inf)
    assert (data.y[d.argmin(1)] == data.y).float().mean() > .95
    assert trustworthiness(f.normalised().x, xy, n_neighbors=5) > .85


def test_equal_rows_make_a_map_too():
    assert np.isfinite(embed(torch.ones(20, 4))).all()


def test_align_turns_and_mirrors_but_never_stretches():
    a = np.random.default_rng(0).normal(size=(30, 2))
    turn = np.array([[.6, -.8], [.8, .6]]) @ np.diag([1, -1])
    np.testing.assert_allclose(align(a @ turn + 5, a), a - a.mean(0), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(align(3 * a, a), axis=1), 3 * np.linalg.norm(a - a.mean(0), axis=1), rtol=1e-5)


def test_neighbours_are_others_even_among_copies():
    x = np.ones((6, 3), "f4")
    near = _near(x, 2)
    assert near.shape == (6, 2) and all(i not in row and len(set(row)) == 2 for i, row in enumerate(near.tolist()))


def test_what_does_not_fit_is_told(data):
    f = table(data)
    with pytest.raises(EvaluationError, match="known: tsne, umap, pca"): embed(f, "som")
    with pytest.raises(EvaluationError, match="NaN.*row 3"): embed(torch.tensor([[0., 1]] * 3 + [[np.nan, 1]]))
    with pytest.raises(EvaluationError, match="59 rows for 60 clips"): explore_embedding(data, f.x[:59], "pca")
    with pytest.raises(EvaluationError, match=r"shape \(60, 2\)"): explore_embedding(data, f, np.zeros((60, 3)))
    with pytest.raises(EvaluationError, match="0 to 59"): explore_embedding(data, f, np.zeros((60, 2)), selected=60)
    with pytest.raises(EvaluationError, match="60 predictions"): explore_embedding(data, f, np.zeros((60, 2)), predictions=[0])
    with pytest.raises(EvaluationError, match="colours.*bins"):
        many = clips(200); explore_embedding(many, table(many), np.zeros((200, 2)), colours={"id": np.arange(200)})


# --- the bytes ---

def restored(block, frames, persons, step):
    "What embedding.js does, in numpy."
    n = persons * 25 * 3
    here = np.frombuffer(block[:frames * persons], "u1").reshape(frames, persons)
    q = np.frombuffer(block[frames * persons:frames * persons + 2 * n], "<i2").astype("i4")
    q = np.concatenate([q[None], np.frombuffer(block[frames * persons + 2 * n:], "i1").astype("i4").reshape(frames - 1, n) * step]).cumsum(0)
    assert np.abs(q).max() <= 32767
    return np.where(here[:, :, None] == 0, -32768, q.reshape(frames, persons, 75))


@pytest.mark.parametrize("persons", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 21, 50])
def test_kept_clips_are_small_and_near_enough(persons, frames):
    packed, fps = _clips(clips(6, persons=persons), range(6), 25., frames)
    assert fps == pytest.approx(25 * frames / 50)
    for item, block in zip(packed["items"], packed["data"]):
        step, folded = _fold(block, item["frames"], item["persons"])
        want = np.frombuffer(block, "<i2").reshape(frames, persons, 75).astype("i4")
        got = restored(folded, frames, persons, step)
        np.testing.assert_array_equal(got == -32768, want == -32768)
        assert np.abs(got - want).max() * item["scale"] < .006         # metres
        if frames == 50: assert len(folded) < .6 * len(block)


def test_kept_clips_cover_every_class_and_bring_neighbours(data):
    x = table(data).normalised().x.numpy()
    near = _near(x, 3)
    kept = _spread(embed(x, "pca"), data.y, near, 20)
    assert len(kept) == len(set(kept)) == 20 and {int(c) for c in data.y[kept]} == {0, 1, 2, 3}
    assert sum(set(near[i]) <= set(kept) for i in kept) >= 4
    assert sorted(_spread(embed(x, "pca"), data.y, near, 99)) == list(range(60))


def test_a_fragment_keeps_to_its_size(data, explorer):
    assert len(explorer.to_html()) <= 270_000 and len(json.dumps({"data": {"text/html": explorer.to_html()}})) < 300_000
    assert len(explorer.to_html(most_bytes=110_000)) <= 112_000


def test_a_live_explorer_sends_what_is_asked_for(data):
    pytest.importorskip("anywidget")
    e = explore_embedding(data, table(data), np.random.default_rng(0).normal(size=(60, 2)), selected=5)
    assert e.sent["rows"][0] == 5 and len(e.sent["rows"]) == 4
    e.wanted = [7, 3, 999]
    assert e.sent["rows"] == [7, 3]
    x = unpack(e.sent["clips"])[0]                                     # (T,M,V,3)
    np.testing.assert_allclose(x.transpose(3, 0, 2, 1), data.x[7], atol=1e-4)
    with pytest.raises(Exception, match="0 to 59"): e.selected = 60
    bundle, _ = e._repr_mimebundle_()
    assert "text/html" in bundle and "application/vnd.jupyter.widget-view+json" in bundle
    e.selected = 9
    assert '"selected": 9' in e.to_html()


def test_without_widgets_the_page_is_still_made(tmp_path):
    code = f"""
import sys
for name in ("anywidget", "ipywidgets", "IPython", "plotly", "openTSNE", "umap"): sys.modules[name] = None
sys.path.insert(0, {str(__import__('pathlib').Path(__file__).parent)!r})
import numpy as np
from test_explore_embedding import clips, table
from skelnb.explore import explore_embedding, embed
d = clips(20)
e = explore_embedding(d, table(d), method="pca")
assert type(e).__name__ == "StaticExplorer"
e.save({str(tmp_path / 'map.html')!r})
try: embed(table(d), "tsne")
except ImportError as error: assert "pip install" in str(error)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert (tmp_path / "map.html").stat().st_size > 50_000


def test_a_folder_that_is_not_there_is_told(explorer, tmp_path):
    with pytest.raises(OSError, match="cannot write the page"): explorer.save(tmp_path / "no" / "map.html")
    assert not list(tmp_path.iterdir())


# --- in a browser, without a network or a kernel ---

def opened(page, explorer, tmp_path, **options):
    target = tmp_path / "map.html"
    target.write_text("<!doctype html><meta charset=utf-8>" + explorer.to_html(**options), encoding="utf-8")
    page.goto(target.as_uri())
    root = page.locator(".skelnb-explorer")
    page.wait_for_function("() => document.querySelector('.skelnb-explorer')?.explorer?.drawn > 0")
    return root


def click_point(page, root, i):
    x, y = root.evaluate("(e, i) => e.explorer.place(i)", i)
    root.locator("canvas").first.click(position={"x": x, "y": y})
    page.wait_for_function("i => document.querySelector('.skelnb-explorer').explorer.selected === i", arg=i)
    page.wait_for_timeout(150)


def pixels(root): return root.locator(".skelnb-stage canvas").first.evaluate("c => c.toDataURL()")


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_a_click_plays_that_clip(offline_page, explorer, data, tmp_path, screenshot):
    page = offline_page
    root = opened(page, explorer, tmp_path)
    page.wait_for_timeout(300)
    screenshot(page, "explorer-start")
    assert root.evaluate("e => e.explorer.playing[0]") == 0 and root.evaluate("e => e.explorer.playing.length") == 4
    stored = root.evaluate("e => e.explorer.stored")
    assert len(stored) == 60                                           # all of this small set fit
    target = next(i for i in stored if data.y[i] == 1)
    before = pixels(root)
    click_point(page, root, target)
    assert root.evaluate("e => e.explorer.playing[0]") == target
    assert pixels(root) != before
    packed = root.evaluate("e => { const c = e.explorer.clip; return {layout: c.layout, items: c.items, data: Array.from(c.data)}; }")
    x = unpack({**packed, "data": bytes(packed["data"])})[0].transpose(3, 0, 2, 1)
    at = np.linspace(0, 49, 21).round().astype(int)
    np.testing.assert_allclose(x, data.x[target][:, at], atol=.006)    # the clip on the screen is the clip of that row
    assert [i["label"][:4] for i in packed["items"]][0] == "kick"
    frames = {pixels(root) for _ in range(8) if not page.wait_for_timeout(120)}
    assert len(frames) >= 4, "the clip does not move"
    screenshot(page, "explorer-clicked")
    assert not page.errors and not page.requests


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_names_and_classes_stay_text(offline_page, explorer, tmp_path):
    root = opened(offline_page, explorer, tmp_path)
    for i in (0, 1, 2, 3):
        click_point(offline_page, root, i)
        assert root.locator("h4").text_content() == (*NASTY, "clip3")[i]
    x, y = root.evaluate("e => e.explorer.place(0)")
    root.locator("canvas").first.hover(position={"x": x, "y": y})
    assert NASTY[0] in root.locator(".skelnb-tip").text_content()
    assert root.locator("img").count() == 0 and offline_page.evaluate("window.hacked") is None
    assert not offline_page.errors


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_keys_legend_colours_slider_and_zoom(offline_page, explorer, data, tmp_path, screenshot):
    page = offline_page
    root = opened(page, explorer, tmp_path)
    state = lambda what: root.evaluate(f"e => e.explorer.{what}")
    canvas = root.locator("canvas").first
    click_point(page, root, 3)
    for key, sign, axis in (("ArrowLeft", -1, 0), ("ArrowRight", 1, 0), ("ArrowUp", -1, 1), ("ArrowDown", 1, 1)):
        a = state("selected"); at = state(f"place({a})")
        page.keyboard.press(key); page.wait_for_timeout(60)
        b = state("selected")
        if b != a: assert sign * (state(f"place({b})")[axis] - at[axis]) > 0
    here = state("selected"); near = state(f"near({here})")
    page.keyboard.press("n"); assert state("selected") == near[0]
    page.keyboard.press("p"); assert state("selected") == here
    # the legend: only that class can be pointed at
    root.locator(".skelnb-legend button", has_text="kick").click()
    assert state("chosen") == [1]
    x, y = state("place(0)")
    canvas.hover(position={"x": x, "y": y}); page.wait_for_timeout(50)
    assert state("hover") == -1 or data.y[state("hover")] == 1
    screenshot(page, "explorer-legend")
    root.get_by_role("button", name="show all").click(); assert state("chosen") == []
    # colours
    assert root.locator(".skelnb-colour option").all_text_contents() == ["class", "predicted", "answer", "length", "subject", "camera"]
    root.locator(".skelnb-colour").select_option(label="subject")
    assert state("colour") == "subject" and root.locator(".skelnb-legend button").count() == 5
    # another map: points move there
    before = state("place(9)")
    root.locator(".skelnb-layout").fill("1")
    page.wait_for_function("() => !document.querySelector('.skelnb-explorer').explorer.moving"); page.wait_for_timeout(100)
    assert state("map") == 1 and root.locator(".skelnb-tools output").text_content() == "30"
    # wheel: needs the focus; drag pans; reset brings all back
    home = state("place(9)")
    box = canvas.bounding_box(); page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.locator("body").evaluate("() => document.activeElement.blur()")
    page.mouse.wheel(0, -240); page.wait_for_timeout(100); assert state("view.zoom") == 1
    canvas.focus(); page.mouse.wheel(0, -240); page.wait_for_timeout(100); assert state("view.zoom") > 1.2
    page.mouse.down(); page.mouse.move(box["x"] + 260, box["y"] + 230, steps=4); page.mouse.up(); page.wait_for_timeout(60)
    screenshot(page, "explorer-zoom")
    root.get_by_role("button", name="reset view").first.click(); page.wait_for_timeout(100)
    np.testing.assert_allclose(state("place(9)"), home, atol=.01)
    assert not page.errors and not page.requests


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_a_clip_that_is_not_kept_is_said_to_be_missing(offline_page, explorer, tmp_path):
    root = opened(offline_page, explorer, tmp_path, most_bytes=90_000)
    stored = root.evaluate("e => e.explorer.stored")
    assert 1 <= len(stored) < 60
    click_point(offline_page, root, next(i for i in range(60) if i not in stored))
    assert "not kept in the page" in root.text_content() and root.evaluate("e => e.explorer.playing") == []
    click_point(offline_page, root, stored[-1])
    assert root.evaluate("e => e.explorer.playing[0]") == stored[-1]
    assert not offline_page.errors


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_thousands_of_points_are_drawn_in_time(offline_page, tmp_path, screenshot):
    many = clips(3000, frames=4)
    root = opened(offline_page, explore_embedding(many, table(many, spread=1.), method="pca"), tmp_path)
    root.locator("canvas").first.focus()
    for _ in range(20): offline_page.keyboard.press("+"); offline_page.keyboard.press("-")
    stats = root.evaluate("e => e.explorer.stats")
    screenshot(offline_page, "explorer-many")
    assert stats["ms"] / stats["draws"] < 33, stats


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_a_narrow_page_and_two_persons(open_page, tmp_path, screenshot):
    page = open_page(offline=True, viewport={"width": 420, "height": 900})
    pairs = clips(24, persons=2)
    root = opened(page, explore_embedding(pairs, table(pairs), method="pca"), tmp_path)
    click_point(page, root, 5)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    screenshot(page, "explorer-narrow", full_page=True)
    assert not page.errors


LIVE = """
async ([esm, state]) => {
  const bytes = t => { const b = Uint8Array.from(atob(t), c => c.charCodeAt(0)); return new DataView(b.buffer); };
  state.points = bytes(state.points); state.near = bytes(state.near);
  state.groups = state.groups.map(g => ({...g, codes: bytes(g.codes)}));
  const heard = {}, fire = k => (heard["change:" + k] || []).forEach(f => f());
  const changed = new Set();
  const model = {
    get: k => state[k], on: (k, f) => (heard[k] = heard[k] || []).push(f), off() {},
    set(k, v) { state[k] = v; changed.add(k); fire(k); },
    async save_changes() {
      const now = [...changed]; changed.clear();
      for (const k of now) { const sent = await window.kernel(k, state[k]); if (sent) { sent.clips.data = bytes(sent.clips.data); state.sent = sent; fire("sent"); } }
    },
  };
  window.model = model; window.fire = fire; window.state = state;
  const module = await import(URL.createObjectURL(new Blob([esm], {type: "text/javascript"})));
  window.stop = module.default.render({model, el: document.body});
}
"""


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_the_live_module_asks_python_for_clips(offline_page, data):
    "The module that JupyterLab loads, with a stand-in for the channel between browser and kernel."
    pytest.importorskip("anywidget")
    page, told = offline_page, []
    e = explore_embedding(data, table(data), embed(table(data), "pca"))

    def kernel(name, value):
        told.append(name)
        setattr(e, name, value)
        return json.loads(safe_json(e.sent)) if name == "wanted" else None

    page.goto("about:blank")
    page.expose_function("kernel", kernel)
    state = {k: getattr(e, k) for k in (*STATE, "fps")} | {"live": True, "store": {}, "sent": {}, "wanted": []}
    page.evaluate(LIVE, [e._esm, json.loads(safe_json(state))])
    root = page.locator(".skelnb-explorer")
    playing = "i => document.querySelector('.skelnb-explorer').explorer.playing[0] === i"
    page.wait_for_function(playing, arg=0)
    click_point(page, root, 21)
    page.wait_for_function(playing, arg=21)
    assert e.selected == 21 and "wanted" in told and len(root.evaluate("e => e.explorer.playing")) == 4
    packed = root.evaluate("e => { const c = e.explorer.clip; return {layout: c.layout, items: c.items, data: Array.from(c.data)}; }")
    np.testing.assert_allclose(unpack({**packed, "data": bytes(packed["data"])})[0].transpose(3, 0, 2, 1), data.x[21], atol=1e-4)
    page.evaluate("() => { state.selected = 33; fire('selected'); }")          # Python chooses
    page.wait_for_function(playing, arg=33)
    asked = root.evaluate("e => e.explorer.stats.asked")
    click_point(page, root, 21)                                                 # known by now: nobody is asked again
    page.wait_for_function(playing, arg=21)
    assert root.evaluate("e => e.explorer.stats.asked") == asked
    page.evaluate("stop()")
    assert root.count() == 0 and not page.errors
