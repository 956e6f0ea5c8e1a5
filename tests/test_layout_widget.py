"""A layout drawn up by clicking: in Python, in a page without a kernel, and in a real JupyterLab."""

import json
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from test_lab import lab, open_and_run, stay_in_view  # noqa: F401
from skelnb.data.layouts import draw_layout, read_layout, studio_layout, to_studio_layout
from skelnb.data.synthetic import studio
from skelnb.skeleton import LayoutError

NITE, SMPL = studio_layout("nite15"), studio_layout("smpl22")


@pytest.fixture(scope="module")
def clip():
    x = np.concatenate([r.x for r in studio(1, 1, 1, 1, ["jumping jack", "throw", "pick up"], 0, 0, sensor=False)], 1)
    return lambda s: to_studio_layout(x, s.name)


# --- in Python ---

def test_begun_from_a_clip_a_frame_and_a_recording(clip, tmp_path):
    w = draw_layout(clip(NITE), NITE.names, title="mine", path=tmp_path / "mine.json")
    assert w.parents == [-1] * 15 and [tuple(p) for p in w.pairs] == sorted(NITE.pairs) and w.shoulders == list(NITE.shoulders) and w.frames == 60
    with pytest.raises(LayoutError, match="without a parent: Head"): w.layout()
    w.parents = list(NITE.parents)
    assert w.layout().to_dict() | {"pairs": 0} == NITE.to_dict() | {"name": "mine", "pairs": 0}
    assert read_layout(w.save()).parents == NITE.parents
    f = draw_layout(np.random.rand(15, 2), parents=[None, *[0] * 14], up="-y")
    assert f.names[3] == "joint3" and f.parents[3] == 0 and f.suggested == [] and f.pairs == [] and f.frames == 1
    holes = clip(NITE).copy(); holes[:, :5, 3] = np.nan; holes[:, 8:12] = 0
    assert np.isfinite(np.frombuffer(draw_layout(holes).points, "<f4")).mean() > .95
    two = np.concatenate([clip(NITE) * np.nan, clip(NITE)], 3)
    assert np.isfinite(np.frombuffer(draw_layout(two).points, "<f4")).all()


@pytest.mark.parametrize("x, more, message", [
    (np.zeros((3, 5, 15, 1)), {}, "all are zero or NaN"), (np.zeros((15, 4)), {}, "expected a clip"), (np.ones((15, 3)), dict(names=["a"]), "expected 15"), (np.ones((15, 3)), dict(up="q"), "up: expected"),
    (np.ones((15, 3)), dict(parents=[0]), "parents: expected 15"), (np.ones((3, 3)), dict(names=["a", "a", "b"]), "twice"), (np.ones((3, 3)), dict(parents=[7, 0, 0]), "parents: expected")])
def test_what_cannot_be_drawn_up(x, more, message):
    with pytest.raises(LayoutError, match=message): draw_layout(x, **more)


def test_without_widgets_the_page_is_still_made(tmp_path):
    code = f"""
import sys
for name in ("anywidget", "ipywidgets", "IPython", "plotly", "matplotlib"): sys.modules[name] = None
import numpy as np
from skelnb.data import draw_layout
w = draw_layout(np.random.rand(3, 20, 6, 1), ["c", "left_shoulder", "right_shoulder", "<script>", "e", "f"])
assert type(w).__name__ == "StaticLayout" and "<script>alert" not in w.to_html()
w.parents = [0] * 6
print(w.save({str(tmp_path / 'x.json')!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert read_layout(tmp_path / "x.json").shoulders == (1, 2)


# --- in a browser, without a network or a kernel ---

browser_test = lambda f: pytest.mark.browser(pytest.mark.xdist_group("browser")(f))


def opened(page, widget, tmp_path):
    target = tmp_path / "layout.html"
    target.write_text("<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>" + widget.to_html(), encoding="utf-8")
    page.goto(target.as_uri())
    page.wait_for_function("() => document.querySelector('.skelnb-layout')?.layout?.stats.draws > 0")
    return page.locator(".skelnb-layout")


def state(root): return root.evaluate("e => e.layout.state()")


def click(page, root, *joints):
    for j in joints:
        page.wait_for_timeout(40)
        x, y = root.evaluate("(e, j) => e.layout.place(j)", j)
        root.locator("canvas").click(position={"x": x, "y": y})


@browser_test
def test_a_body_is_drawn_up_by_clicking(offline_page, clip, tmp_path, screenshot):
    page, names = offline_page, [f"m{j}" for j in range(15)]
    root = opened(page, draw_layout(clip(NITE), names, title="clicked"), tmp_path)
    at = NITE.index
    screenshot(page, "layout-start", full_page=True)
    click(page, root, at("LeftHand"), at("LeftElbow"), at("LeftShoulder"), at("Neck"), at("Torso"))       # one click a joint, inwards
    assert [state(root)["parents"][at(n)] for n in ("LeftHand", "LeftElbow", "LeftShoulder", "Neck")] == [at(n) for n in ("LeftElbow", "LeftShoulder", "Neck", "Torso")] and state(root)["selected"] == at("Torso")
    page.keyboard.press("r")
    assert state(root)["parents"][at("Torso")] == at("Torso")
    page.keyboard.press("Escape")
    click(page, root, at("Head"), at("Neck"))
    assert state(root)["selected"] == -1, "the body is reached: the next click begins anew"
    click(page, root, at("Neck"), at("LeftHand"))
    assert "circle" in root.locator(".skelnb-layout-hint").text_content() and state(root)["parents"][at("Neck")] == at("Torso")
    page.keyboard.press("Escape")
    click(page, root, at("LeftFoot"), at("LeftKnee"), at("LeftHip"), at("Torso"))
    for part in ("Shoulder", "Elbow", "Hand", "Hip", "Knee", "Foot"):
        click(page, root, at("Left" + part)); root.locator(".skelnb-layout-pair").click(); click(page, root, at("Right" + part))
    assert sorted(map(tuple, state(root)["pairs"])) == sorted(NITE.pairs)
    root.locator(".skelnb-layout-mirror").click()
    assert state(root)["parents"] == list(NITE.parents)
    root.locator(".skelnb-layout-undo").click()
    assert state(root)["parents"][at("RightFoot")] == -1
    root.locator(".skelnb-layout-redo").click()
    root.locator("canvas").focus(); page.keyboard.press("Control+z"); page.keyboard.press("Control+Shift+z")
    assert state(root)["parents"] == list(NITE.parents)
    root.locator(".skelnb-layout-save").click()
    assert "which pair are the shoulders" in root.locator(".skelnb-layout-hint").text_content()
    root.locator(".skelnb-layout-shoulders").select_option(f"{NITE.shoulders[0]},{NITE.shoulders[1]}")
    for j, name in enumerate(NITE.names):
        root.locator(".skelnb-layout-list button").nth(j).click()
        root.locator(".skelnb-layout-name").fill(name); page.keyboard.press("Enter"); page.keyboard.press("Escape")
    screenshot(page, "layout-done", full_page=True)
    with page.expect_download() as download: root.locator(".skelnb-layout-save").click()
    made = read_layout(download.value.path()) if str(download.value.path()).endswith("json") else read_layout(json.loads(open(download.value.path()).read()))
    assert download.value.suggested_filename == "clicked.json" and made.to_dict() | {"name": 0, "pairs": 0} == NITE.to_dict() | {"name": 0, "pairs": 0}
    assert not page.errors and not page.requests


@browser_test
def test_suggestions_names_and_wrong_turns(offline_page, clip, tmp_path, screenshot):
    page = offline_page
    w = draw_layout(clip(SMPL), SMPL.names)
    root = opened(page, w, tmp_path)
    root.locator(".skelnb-layout-suggest").click()
    found = state(root)["parents"]
    assert found == w.suggested and min(found) >= 0
    screenshot(page, "layout-suggested", full_page=True)
    j = SMPL.index("left_collar")
    root.locator(".skelnb-layout-list button").nth(j).click()
    root.locator(".skelnb-layout-parent").select_option(str(SMPL.index("spine3")))
    assert state(root)["parents"][j] == SMPL.index("spine3") or "circle" in root.locator(".skelnb-layout-hint").text_content()
    root.locator(".skelnb-layout-root").click()
    assert state(root)["parents"][j] == j and state(root)["parents"].count(-1) == 0 and sum(p == i for i, p in enumerate(state(root)["parents"])) == 1
    root.locator(".skelnb-layout-name").fill("head"); page.keyboard.press("Enter")
    assert "called head already" in root.locator(".skelnb-layout-hint").text_content() and state(root)["names"][j] == "left_collar"
    root.locator(".skelnb-layout-name").fill("<img src=x onerror=window.hacked=1>"); page.keyboard.press("Enter")
    assert state(root)["names"][j].startswith("<img") and root.locator("img").count() == 0 and page.evaluate("window.hacked") is None
    root.locator(".skelnb-layout-free").click()
    page.keyboard.press("Escape")
    root.locator("canvas").focus(); page.keyboard.press("n")
    assert state(root)["parents"][state(root)["selected"]] == -1
    page.keyboard.press("Escape")
    root.locator(".skelnb-layout-swap").click()
    assert state(root)["pairs"] == [[r, l] for l, r in w.pairs] and state(root)["shoulders"] == list(reversed(w.shoulders))
    before = root.evaluate("e => e.layout.place(0)")
    root.locator(".skelnb-layout-up").select_option("z")
    page.wait_for_timeout(60)
    assert root.evaluate("e => e.layout.place(15)") != before and state(root)["up"] == "z"
    for _ in range(20): root.locator(".skelnb-layout-undo").click(timeout=500) if root.locator(".skelnb-layout-undo").is_enabled() else None
    assert state(root)["parents"] == [-1] * 22 and state(root)["names"] == list(SMPL.names) and state(root)["up"] == "y"
    assert not page.errors


@browser_test
def test_a_narrow_page(open_page, clip, tmp_path, screenshot):
    page = open_page(offline=True, viewport={"width": 400, "height": 900})
    opened(page, draw_layout(clip(studio_layout("marker39")), studio_layout("marker39").names), tmp_path)
    page.wait_for_timeout(150)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    screenshot(page, "layout-400", full_page=True)
    assert not page.errors


# --- in a real JupyterLab ---

def opened_in_lab(open_page, lab, name, cells):  # noqa: F811
    "A new notebook of these cells, open and run."
    import nbformat
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}})
    request = urllib.request.Request(f"{lab}/api/contents/nbs/{name}?token=a-token-for-this-test", json.dumps({"type": "notebook", "content": book}).encode(), {"Content-Type": "application/json"}, method="PUT")
    urllib.request.urlopen(request, timeout=20).close()
    page = open_page(viewport={"width": 1250, "height": 1000})
    open_and_run(page, lab, name)
    return page


@pytest.mark.browser
@pytest.mark.xdist_group("lab")
def test_in_jupyterlab_clicks_reach_python_and_the_file(open_page, lab, screenshot):  # noqa: F811
    cells = ["from skelnb.data.layouts import draw_layout, studio_layout, to_studio_layout\nfrom skelnb.data.synthetic import studio\ns = studio_layout('nite15')\n"
             "w = draw_layout(to_studio_layout(studio(1, 1, 1, 1, ['wave'], 0, 0)[0].x, 'nite15'), s.names, parents=[None, *s.parents[1:]], path='mine.json')\n"
             "w.observe(lambda change: setattr(w, 'title', 'heard'), 'parents')\nw"]
    page = opened_in_lab(open_page, lab, "layout-test.ipynb", cells)
    root = page.locator(".skelnb-layout").first
    stay_in_view(page, root.locator("canvas"))
    page.wait_for_function("e => e.layout.place(0)", arg=root.element_handle())
    click(page, root, 0, NITE.parents[0])
    page.wait_for_function("e => e.layout.state().title === 'heard'", arg=root.element_handle(), timeout=15_000)      # Python heard of it and answered
    page.keyboard.press("n")                                                        # not JupyterLab's key
    assert state(root)["parents"] == list(NITE.parents)
    root.locator(".skelnb-layout-save").click()
    page.wait_for_function("e => e.querySelector('.skelnb-layout-said').textContent.includes('Saved: mine.json')", arg=root.element_handle(), timeout=15_000)
    screenshot(page, "lab-layout")
    got = json.loads(urllib.request.urlopen(f"{lab}/api/contents/nbs/mine.json?token=a-token-for-this-test&format=text", timeout=20).read())["content"]
    assert read_layout(json.loads(got)).parents == NITE.parents
    assert not page.errors, "\n".join(page.errors)


@pytest.mark.browser
@pytest.mark.xdist_group("lab")
def test_in_jupyterlab_a_form_prepares_a_folder(open_page, lab, screenshot):  # noqa: F811
    page = opened_in_lab(open_page, lab, "form-test.ipynb", [
        "import os, tempfile\nfrom skelnb.data import PrepareForm, write_custom\nos.environ['SKELNB_HOME'] = tempfile.mkdtemp()\n"
        "got = write_custom(tempfile.mkdtemp() + '/recordings', '31', unit='cm', up='z', missing=.1, n_subjects=2, n_repeats=1)\n"
        "form = PrepareForm(got['clips'].parent, got['layout'], frames=12)\nform"])
    out = page.locator(".jp-OutputArea-output").first
    out.locator("pre", has_text="entries of").wait_for(timeout=30_000)
    assert "cm   (a person is" in out.inner_text() and "PROBLEM" not in out.inner_text()
    units = out.locator("select").first
    units.select_option("m"); out.locator("pre", has_text="PROBLEM").wait_for(timeout=15_000)                      # heard, read again, and told
    units.select_option("cm"); out.locator("pre", has_text="PROBLEM").wait_for(state="detached", timeout=15_000)
    out.get_by_placeholder("what the set is called").fill("mine"); page.keyboard.press("Tab")
    out.get_by_role("button", name="Prepare").click()
    out.locator("pre", has_text="load('mine', frames=12) opens it.").wait_for(timeout=30_000)
    screenshot(page, "lab-form")
    assert not page.errors, "\n".join(page.errors)
