"""The player: what it refuses, what it writes, and how it behaves in a real browser without a network."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skelnb.player import _JS, ABSENT, ClipError, StaticPlayer, _live_player, module_js, pack, player, poster, project, quantise, restore, safe_json, unpack
from skelnb.skeleton import COCO17, LAYOUTS, NTU25, Skeleton

NASTY = '<img src=x onerror="window.hacked=1">', "</script><script>window.hacked=1</script>", "<!--<script>", "\u2028a & b \"c\" 'd'"


def clip(frames=50, persons=1, seed=0, skeleton=NTU25):
    "A standing person who sways and lifts the hands: (3,T,V,M) in metres."
    t = np.linspace(0, 2 * np.pi, frames, endpoint=False)
    x = np.repeat(skeleton.rest.T[:, None, :, None], frames, 1).repeat(persons, 3).astype("f4")
    hands = [j for j, n in enumerate(skeleton.names) if "hand" in n or "wrist" in n]
    x[1, :, hands] += .5 * np.sin(t + seed)[None, :, None] + .5
    x[0] += .05 * np.sin(t)[:, None, None] + np.arange(persons) * 1.1
    return x


# --- what it refuses ---

@pytest.mark.parametrize("change, words", [
    (lambda x: x[..., 0], "one person"), (lambda x: x[:, :, :20], "25 joints"), (lambda x: x[:, :0], "nothing to show"), (lambda x: x[..., :0], "nothing to show"),
    (lambda x: np.concatenate([x, x]), "3 coordinates"), (lambda x: [], "empty list"), (lambda x: [x] * 25, "too many"), (lambda x: "clip.npy", "numbers of shape"),
    (lambda x: [x, x[:, :, :3]], "clip 1"), (lambda x: None, "clip (C,T,V,M)"), (lambda x: x.astype("c8").astype(object), "numbers of shape"),
])
def test_what_is_no_clip_is_told(change, words):
    with pytest.raises(ClipError, match=re.escape(words)):
        player(change(clip(5)), NTU25)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_placed(bad):
    x = clip(5)
    x[1, 3, 7, 0] = bad
    with pytest.raises(ClipError, match=r"1 values are NaN or infinite, the first at frame 3, joint 7 \(left_hand\), person 0"):
        player(x, NTU25)


@pytest.mark.parametrize("options, words", [
    (dict(labels=["a", "b"]), "labels: expected 1"), (dict(fps=0), "fps"), (dict(fps=float("nan")), "fps"), (dict(speed=-1), "speed"), (dict(fit="huge"), "fit"),
])
def test_wrong_options_are_told(options, words):
    with pytest.raises(ClipError, match=words):
        player(clip(5), NTU25, **options)
    with pytest.raises(ClipError, match="Skeleton"):
        player(clip(5), "ntu25")


def test_a_page_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="nowhere.*does the folder exist"):
        player(clip(5), NTU25).save(tmp_path / "nowhere" / "a.html")
    p = player(clip(5), NTU25)
    assert p.save(tmp_path / "a.html").read_text(encoding="utf-8").endswith("</html>")
    assert [f.name for f in tmp_path.iterdir()] == ["a.html"]


# --- the frames ---

@settings(max_examples=50, deadline=None)
@given(hnp.arrays("f4", hnp.array_shapes(min_dims=4, max_dims=4, max_side=4).map(lambda s: (*s[:3], 3)),
                  elements=st.floats(-50, 50, width=32).map(lambda v: v if abs(v) > 1e-3 else 0.)))
def test_quantised_frames_are_near_and_absence_survives(x):
    q, middle, scale = quantise(x)
    back = restore(q, middle, scale)
    absent = ~(x != 0).any((2, 3))
    assert q.dtype.itemsize == 2 and (back[absent] == 0).all() and (q[absent] == ABSENT).all() and not (q[~absent] == ABSENT).any()
    assert np.abs(back - x)[~absent].max(initial=0) <= scale * .51 + 1e-5
    assert scale <= 100 / 65534 * 1.001


def test_several_clips_come_back_out_of_their_bytes():
    clips = [clip(50), clip(7, 2), torch.from_numpy(clip(3))]
    clips[1][:, 4:, :, 1] = 0
    for x, y in zip(clips, unpack(pack(clips, NTU25))):
        assert np.abs(np.asarray(x).transpose(1, 3, 2, 0) - y).max() < 1e-4
    assert not unpack(pack(clips, NTU25))[1][4:, 1].any()
    batch = torch.stack([torch.from_numpy(clip(4))] * 3).requires_grad_()
    assert len(pack(batch, NTU25)["items"]) == 3


@pytest.mark.parametrize("skeleton", LAYOUTS.values(), ids=lambda s: s.name)
def test_every_layout_stands_upright_and_shows_its_front(skeleton):
    packed = pack(clip(2, skeleton=skeleton), skeleton)
    y = unpack(packed)[0][0, 0]
    head, ankle = (skeleton.index(n) for n in ("head" if "head" in skeleton.names else "nose", "left_ankle"))
    assert y[head, 1] > y[ankle, 1] and packed["items"][0]["facing"] is False
    turned = clip(2, skeleton=skeleton) * np.array([-1, 1, -1], "f4")[:, None, None, None]
    assert pack(turned, skeleton)["items"][0]["facing"] is True


def test_flat_clips_are_shown():
    assert pack(clip(4, skeleton=COCO17)[:2], COCO17)["items"][0]["frames"] == 4


def test_outputs_stay_small():
    one = player(clip(50), NTU25)._repr_mimebundle_()[0]
    assert sum(len(v) for v in one.values() if isinstance(v, str)) < 80_000
    eight = player([clip(50, 2)] * 8, NTU25)._repr_mimebundle_()[0]
    assert sum(len(v) for v in eight.values() if isinstance(v, str)) < 300_000
    long = player([clip(300, 2)] * 4, NTU25, fps=30)
    assert len(json.dumps(long.to_html())) < 260_000 and "One frame in 3 is kept" in long.to_html()
    assert len(long.to_html(most_bytes=10**7)) > 400_000


def test_the_fragment_is_the_same_each_time_and_holds_no_tag_from_outside():
    names = [f"{n}{NASTY[0]}" for n in NTU25.names]
    wild = Skeleton.from_dict({**NTU25.to_dict(), "names": names, "name": NASTY[1]})
    x = clip(5)
    page = player([x] * 4, wild, NASTY).to_html()
    assert page == player([x] * 4, wild, NASTY).to_html()
    assert page.count("</script") == 1 and page.count("<script") == 1 and "<!--" not in page and page.lower().count("<img") == 1
    assert "http:" not in page.replace("http://www.w3.org/2000/svg", "") and "https:" not in page      # nothing to fetch
    assert json.loads(safe_json({"a": NASTY})) == {"a": list(NASTY)}


def test_a_module_that_cannot_be_inlined_is_refused(tmp_path):
    for text in ("let a = 1;", "export const a = 1; export default a;", "export default '</script>';"):
        path = tmp_path / f"{len(text)}.js"
        path.write_text(text)
        with pytest.raises(ClipError, match="export default"):
            module_js(str(path))


def test_poster_has_a_row_for_each_clip():
    fig = poster([clip(50), clip(9, 2)], NTU25, ["a $x", "b"], frames=4)
    assert len(fig.axes) == 2 and fig.axes[0].get_title(loc="left") == "a $x"
    fig.canvas.draw()
    with pytest.raises(ClipError, match="whole number"):
        poster(clip(5), NTU25, frames=0)
    poster(np.zeros((3, 2, 25, 1), "f4"), NTU25).canvas.draw()               # nobody there: an empty floor


# --- alive and not alive ---

def test_show_replaces_clips_and_keeps_the_frame_inside():
    p = player(clip(50), NTU25, frame=40)
    assert p.frame == 40 and p.show(clip(10), "short") is p and p.frame == 9 and p.clips["items"][0]["label"] == "short"
    with pytest.raises(ClipError):
        p.show(clip(10)[:, :, :4])
    assert p.clips["items"][0]["frames"] == 10


def test_in_a_notebook_it_is_a_widget_with_a_page_and_a_poster():
    data, _ = player(clip(5), NTU25)._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html", "image/png", "application/vnd.jupyter.widget-view+json"}
    assert data["text/plain"] == "Player(1 clip, ntu25, 5 frames at 25 a second)"


def test_the_module_needs_numpy_alone_and_plays_without_widgets():
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('anywidget', 'traitlets', 'ipywidgets', 'matplotlib', 'PIL', 'torch', 'plotly'): raise ImportError(name)
sys.meta_path.insert(0, Absent())
import numpy as np
from skelnb.player import player, StaticPlayer
from skelnb.skeleton import NTU25
p = player(NTU25.rest.T[:, None, :, None], NTU25)
assert type(p) is StaticPlayer and p.playing
data, _ = p._repr_mimebundle_()
assert set(data) == {'text/plain', 'text/html'} and 'needs JavaScript' in data['text/html']
p.show(p.skeleton.rest.T[:, None, :, None] * 2)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- in a browser ---

browser_test = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def marked(f):
    for m in browser_test:
        f = m(f)
    return f


@pytest.fixture
def shown(tmp_path, open_page):
    "shown(clips, ...) -> page, the player's element; the page is a file and has no network."
    pages = []

    def show(x, skeleton=NTU25, labels=None, context={}, title="Skeletons", **options):
        page = open_page(offline=True, **context)
        pages.append(page)
        page.goto(player(x, skeleton, labels, **options).save(tmp_path / f"page{len(pages)}.html", title).as_uri())
        element = page.locator(".skelnb-player")
        if context.get("java_script_enabled", True):
            page.wait_for_function("() => document.querySelector('.skelnb-player')?.skelnb.stats.draws > 0")
        return page, element

    yield show
    for page in pages:
        assert page.errors == [] and page.requests == []


def pixels(element, n=0):
    "The picture of one clip, after the next draw."
    element.page.evaluate("() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
    return element.locator("canvas").nth(n).evaluate("c => c.toDataURL()")


def get(element, what):
    return element.evaluate(f"e => e.skelnb.{what}")


def frame(element):
    return int(element.get_by_label("frame", exact=True).input_value())


@marked
def test_it_plays_and_stops(shown, screenshot):
    two = clip(60, 2)
    two[:, 40:, :, 1] = 0
    page, p = shown([clip(50), clip(50, 1, 2), two], labels=["lift", "the other way round", "two, then one"])
    seen = set()
    for _ in range(40):
        seen.add(pixels(p))
        page.wait_for_timeout(100)
        if len(seen) >= 6:
            break
    assert len(seen) >= 6 and get(p, "playing")
    p.get_by_role("button", name="pause").click()
    before = frame(p), pixels(p)
    page.wait_for_timeout(200)
    assert (frame(p), pixels(p)) == before and get(p, "time") == before[0]
    p.get_by_role("button", name="play").click()
    page.wait_for_timeout(200)
    assert frame(p) != before[0]
    screenshot(page, "player-three")


@marked
def test_thirty_pictures_a_second_with_six_clips(shown):
    "The cost of a picture always; the rate on a machine that is not kept busy by others, where no browser could show it."
    page, p = shown([clip(50, 2, k) for k in range(6)], labels=list("abcdef"))
    rate = """async e => { const s = e.skelnb.stats, d = s.draws, t = performance.now();
        await new Promise(r => setTimeout(r, 700)); return (s.draws - d) / (performance.now() - t) * 1000; }"""
    best = 0
    for _ in range(10):
        best = max(best, p.evaluate(rate))
        if best >= 30:
            break
    cost, busy = get(p, "stats.best"), os.getloadavg()[0] / os.cpu_count()
    print(f"{best:.0f} pictures a second at {cost:.1f} ms, {busy:.1f} processes a core")
    assert cost < 8
    assert best >= 30 or busy > 2


@marked
def test_the_slider_goes_to_a_frame_and_back(shown):
    page, p = shown(clip(50), playing=False)
    first, slider = pixels(p), p.get_by_label("frame", exact=True)
    slider.fill("30")
    assert pixels(p) != first and get(p, "time") == 30 and p.locator("output").inner_text() == "31 / 50"
    assert slider.get_attribute("aria-valuetext") == "frame 31 of 50"
    slider.fill("0")
    assert pixels(p) == first


@marked
def test_dragging_turns_all_clips_and_a_double_click_resets(shown, screenshot):
    page, p = shown([clip(50), clip(50, 1, 1)], playing=False)
    before, box = [pixels(p, i) for i in (0, 1)], p.locator("canvas").first.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 130, steps=4)
    page.mouse.up()
    assert all(pixels(p, i) != before[i] for i in (0, 1)) and get(p, "view.yaw") == pytest.approx(.4 + .8)
    screenshot(page, "player-turned")
    p.locator("canvas").first.dblclick(position={"x": 20, "y": 20})
    page.mouse.move(0, 0)
    assert [pixels(p, i) for i in (0, 1)] == before
    p.locator("canvas").first.hover(position={"x": 20, "y": 40})
    page.mouse.down()
    page.mouse.move(600, 5000)
    page.mouse.up()
    assert get(p, "view.pitch") == 1.5                                          # from straight above, not beyond


@marked
def test_keys_do_everything_the_mouse_does_and_stay_inside(shown):
    page, p = shown(clip(50), playing=False)
    page.evaluate("() => { window.heard = []; document.body.addEventListener('keydown', e => window.heard.push(e.key)); }")
    assert p.get_attribute("data-lm-suppress-shortcuts") == "true"
    p.locator(".skelnb-stage").focus()
    steps = [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowUp", 11), ("ArrowDown", 1), ("End", 49), ("ArrowRight", 49), ("Home", 0), ("ArrowLeft", 0)]
    for key, at in steps:
        page.keyboard.press(key)
        assert frame(p) == at, key
    page.keyboard.press("Space")
    page.wait_for_timeout(150)
    assert get(p, "playing") and frame(p) > 0
    page.keyboard.press("Space")
    assert not get(p, "playing")
    first = pixels(p)
    for key in ("Shift+ArrowLeft", "Shift+ArrowUp", "+", "n"):
        now = pixels(p)
        page.keyboard.press(key)
        assert pixels(p) != now, key
    page.keyboard.press("n")
    page.keyboard.press("r")
    assert pixels(p) == first
    assert set(page.evaluate("window.heard")) <= {"Shift"}                                  # the page around hears none of these
    p.get_by_label("frame", exact=True).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert get(p, "playing")
    p.get_by_role("button", name="pause").focus()
    page.keyboard.press("Space")
    assert not get(p, "playing")                                                # once, not twice
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skelnb-speed" or page.evaluate("window.heard.at(-1)") == "Tab"


@marked
def test_the_wheel_scrolls_the_page_until_the_player_has_the_focus(shown):
    page, p = shown(clip(20), playing=False)
    page.evaluate("() => { document.body.style.height = '4000px'; }")
    p.locator("canvas").hover()
    page.mouse.wheel(0, 120)
    page.wait_for_function("() => scrollY > 50")
    assert get(p, "view.zoom") == 1 and p.locator(".skelnb-hint.on").count() == 1
    page.evaluate("() => scrollTo(0, 0)")
    p.locator("canvas").click()
    page.mouse.wheel(0, -120)
    page.wait_for_function("() => document.querySelector('.skelnb-player').skelnb.view.zoom > 1.1")
    assert page.evaluate("scrollY") == 0
    page.keyboard.press("Escape")
    page.mouse.wheel(0, 120)
    page.wait_for_function("() => scrollY > 50")


@marked
def test_nothing_from_outside_becomes_html(shown):
    names = [f"{n}{NASTY[k % 3]}" for k, n in enumerate(NTU25.names)]
    wild = Skeleton.from_dict({**NTU25.to_dict(), "names": names, "name": NASTY[1]})
    page, p = shown([clip(5)] * 4, wild, NASTY, playing=False, title=NASTY[0])
    assert p.locator("figcaption").all_inner_texts() == [n.replace("\u2028", p.locator("figcaption").nth(3).inner_text()[0]) if "\u2028" in n else n for n in NASTY]
    box, at = p.locator("canvas").first.bounding_box(), get(p, "joint(0, 0, 7)")
    page.mouse.move(box["x"] + at[0], box["y"] + at[1])
    page.wait_for_timeout(100)
    assert p.get_attribute("data-joint") == names[7]
    assert page.evaluate("window.hacked") is None and page.locator("img").count() == 0 and page.locator("h1").inner_text() == NASTY[0]


@marked
def test_the_pointer_reads_the_name_of_a_joint(shown, screenshot):
    page, p = shown(clip(40), playing=False)
    bare, box, at = pixels(p), p.locator("canvas").bounding_box(), get(p, "joint(0, 0, 3)")
    page.mouse.move(box["x"] + at[0] + 3, box["y"] + at[1] - 2)
    assert pixels(p) != bare and p.get_attribute("data-joint") == "head"
    at = get(p, "joint(0, 0, 21)")
    page.mouse.move(box["x"] + at[0], box["y"] + at[1])
    assert pixels(p) != bare
    screenshot(page, "player-hover")
    page.mouse.move(0, 0)
    assert pixels(p) == bare and p.get_attribute("data-joint") == ""


@marked
def test_clips_of_different_length_and_people_and_absence(shown):
    two = clip(30, 2)
    two[:, 10:, :, 1] = 0
    page, p = shown([clip(10), two, np.zeros((3, 4, 25, 1), "f4")], labels=["short", "two", "nobody"], playing=False)
    slider = p.get_by_label("frame", exact=True)
    assert slider.get_attribute("max") == "29" and get(p, "shown(1)") == [1, 1] and get(p, "shown(2)") == [0]
    slider.fill("9")
    short, one = pixels(p, 0), pixels(p, 1)
    slider.fill("25")
    assert pixels(p, 0) == short and pixels(p, 1) != one and get(p, "shown(1)") == [1, 0]      # the short one stands at its end
    assert "two persons" in p.locator("canvas").nth(1).get_attribute("aria-label") or "2 persons" in p.locator("canvas").nth(1).get_attribute("aria-label")


@marked
def test_the_camera_is_the_one_of_the_notebook(shown):
    x = clip(3)
    page, p = shown(x, playing=False)
    item, y = pack(x, NTU25)["items"][0], unpack(pack(x, NTU25))[0][0, 0]
    flat, _ = project(y - np.array(item["middle"]), far=5 * max(item["wide"], item["high"]))
    there = np.array([get(p, f"joint(0, 0, {v})") for v in range(25)])
    size = p.locator("canvas").evaluate("c => [c.clientWidth, c.clientHeight]")
    scale = (there[3, 1] - there[14, 1]) / (flat[14, 1] - flat[3, 1])
    assert np.abs(there - (np.array(size) / 2 + scale * flat * [1, -1])).max() < .05      # pixels


@marked
def test_it_stays_still_where_less_motion_is_asked_for(shown):
    page, p = shown(clip(50), context=dict(reduced_motion="reduce"))
    page.wait_for_timeout(200)
    assert not get(p, "playing") and frame(p) == 0
    p.get_by_role("button", name="play").click()
    page.wait_for_timeout(200)
    assert frame(p) > 0


@marked
def test_without_scripts_the_poster_is_seen(shown, screenshot):
    page, p = shown([clip(50), clip(50, 1, 1)], labels=["one", "two"], context=dict(java_script_enabled=False))
    assert p.count() == 0
    image = page.get_by_role("img", name="an animation that needs JavaScript")
    assert image.is_visible() and image.bounding_box()["width"] > 200
    screenshot(page, "player-no-script")


@marked
def test_sharp_on_dense_screens_and_whole_on_narrow_ones(shown, screenshot):
    page, p = shown([clip(20)] * 3, labels=["a", "b", "c"], playing=False, context=dict(device_scale_factor=2, viewport={"width": 380, "height": 800}))
    assert p.locator("canvas").first.evaluate("c => c.width / c.clientWidth") == pytest.approx(2, abs=.02)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    screenshot(page, "player-narrow")


@marked
def test_the_focus_and_the_names_are_there_for_everyone(shown):
    page, p = shown([clip(20), clip(20, 2)], labels=["one", "two"], playing=False)
    assert p.get_attribute("aria-label") == "skeleton player, 2 clips" and p.get_attribute("role") == "group"
    assert page.get_by_role("img").count() == 2 and page.get_by_role("slider", name="frame").count() == 1
    ring = "e => getComputedStyle(e).boxShadow"
    assert p.locator(".skelnb-stage").evaluate(ring) == "none"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skelnb-stage" and p.locator(".skelnb-stage").evaluate(ring) != "none"


@marked
def test_the_same_output_twice_in_a_page_lives_twice(open_page, tmp_path):
    page, text = open_page(offline=True), player(clip(20), NTU25).to_html()
    (tmp_path / "twice.html").write_text(f"<!doctype html><meta charset=utf-8>{text}<hr>{text}", encoding="utf-8")
    page.goto((tmp_path / "twice.html").as_uri())
    page.wait_for_function("() => [...document.querySelectorAll('.skelnb-player')].filter(e => e.skelnb.stats.draws).length === 2")
    assert not page.errors


@marked
def test_as_a_widget_it_answers_to_the_model(open_page):
    "The module itself, mounted as anywidget does: new clips, frame and play come from Python, and go back."
    page = open_page(offline=True)
    page.goto("about:blank")
    p = player([clip(50)], NTU25, playing=False)
    send = lambda packed: {**packed, "data": list(packed["data"])}
    page.evaluate("""async ([source, state]) => {
        const url = URL.createObjectURL(new Blob([source], {type: 'text/javascript'})), module = (await import(url)).default, heard = {}, sent = window.sent = [];
        const wire = c => ({...c, data: new DataView(Uint8Array.from([0, 0, 0, ...c.data]).buffer, 3)});       // a view into a message, not at its start
        state.clips = wire(state.clips);
        window.model = {get: k => state[k], set: (k, v) => { state[k] = v; sent.push([k, v]); }, save_changes() {}, on: (k, f) => { heard[k] = f; }, off: k => { delete heard[k]; },
            change: (k, v) => { state[k] = k === 'clips' ? wire(v) : v; heard['change:' + k]?.(); }, heard};
        window.stop = module.render({model: window.model, el: document.body}); }""",
        [_JS.read_text(encoding="utf-8"), dict(clips=send(p.clips), **{k: getattr(p, k) for k in "fps frame playing speed width height numbers".split()})])
    e = page.locator(".skelnb-player")
    page.wait_for_function("() => document.querySelector('.skelnb-player').skelnb.stats.draws > 0")
    first = pixels(e)
    page.evaluate("model.change('frame', 20)")
    assert frame(e) == 20 and pixels(e) != first
    page.evaluate("model.change('playing', true)")
    page.wait_for_timeout(200)
    e.get_by_role("button", name="pause").click()
    assert ["playing", False] in page.evaluate("sent") and page.evaluate("sent.at(-1)[0]") == "frame"
    e.locator("canvas").hover(position={"x": 30, "y": 30})
    page.keyboard.press("Tab")
    turned = get(e, "view")
    page.evaluate("c => model.change('clips', c)", send(pack([clip(10), clip(12, 2)], NTU25, ["new", "<b>two</b>"])))
    assert e.locator("canvas").count() == 2 and e.locator("figcaption").all_inner_texts() == ["new", "<b>two</b>"]
    assert e.get_by_label("frame", exact=True).get_attribute("max") == "11" and get(e, "view") == turned
    page.evaluate("() => stop()")
    assert e.count() == 0 and page.evaluate("Object.keys(model.heard).length") == 0 and not page.errors


def test_the_widget_class_is_made_once():
    assert _live_player() is _live_player() and isinstance(player(clip(2), NTU25), _live_player()) and not issubclass(_live_player(), StaticPlayer)
