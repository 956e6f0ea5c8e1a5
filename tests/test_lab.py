"""A real JupyterLab in a real browser: the index and the map of the features, as a student meets them.

The notebooks are copied first, so that nothing a browser saves lands in the checkout.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("lab")]
ROOT = pathlib.Path(__file__).resolve().parent.parent
IDLE = "text=/\\| Idle/"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "Address of a JupyterLab started by our own command line on a copy of the course."
    from skelnb.cli import lab_command, lab_environment
    root = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "nbs", root / "nbs")
    shutil.copytree(ROOT / "data" / "results", root / "data" / "results")
    shutil.copytree(ROOT / "benchmarks", root / "benchmarks")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    environment = {**lab_environment(), "HOME": str(root), "JUPYTER_CONFIG_DIR": str(root / "config"), "JUPYTER_TOKEN": "a-token-for-this-test",
                   "OMP_NUM_THREADS": "1", "SKELNB_HOME": os.environ.get("SKELNB_HOME", str(ROOT / "data"))}
    command = lab_command(root, browser=False, port=port)
    with open(root / "lab.log", "w") as log:
        process = subprocess.Popen(command, env=environment, cwd=root, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{url}/api", timeout=1)
            break
        except OSError:
            assert process.poll() is None, (root / "lab.log").read_text()[-2000:]
            time.sleep(.25)
    yield url
    process.terminate()
    process.wait(20)


def open_and_run(page, lab, notebook):
    "Open a notebook, wait for its kernel, run all cells, wait until it is idle again."
    page.goto(f"{lab}/lab/tree/nbs/{notebook}?token=a-token-for-this-test&reset")
    page.wait_for_selector(IDLE, timeout=90_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    quiet = 0
    for _ in range(360):                                    # idle between two cells is not the end
        page.wait_for_timeout(500)
        quiet = quiet + 1 if page.locator(IDLE).count() else 0
        if quiet == 5:
            break
    assert quiet == 5, "the notebook still runs after three minutes"
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']", has_text="Traceback").count() == 0


def show_last(page, selector):
    "Scroll the last element that matches into view (the notebook draws only what is near) and return it."
    page.locator(".jp-Notebook").last.click(position={"x": 5, "y": 5})
    for _ in range(60):
        page.keyboard.press("Control+End")
        page.locator(".jp-WindowedPanel-outer").last.evaluate("e => e.scrollTo(0, e.scrollHeight)")
        if page.locator(selector).count():
            break
        page.wait_for_timeout(500)
    return stay_in_view(page, page.locator(selector).last)


def stay_in_view(page, found):
    "Scroll until the element stays in view: JupyterLab scrolls on its own for a while after a key or a run."
    there = "e => { const b = e.getBoundingClientRect(), y = (b.top + b.bottom) / 2; return y > 100 && y < innerHeight - 50 }"
    quiet = 0
    for _ in range(60):
        quiet = quiet + 1 if found.evaluate(there) else 0
        if quiet == 4:
            return found
        if not quiet:
            found.evaluate("e => e.scrollIntoView({block: 'center'})")
        page.wait_for_timeout(250)
    raise AssertionError("the element does not stay in view")


def pixels(canvas):
    return canvas.evaluate("c => c.toDataURL()")


def test_the_token_is_asked_for(lab):
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{lab}/api/contents", timeout=5)


def test_the_index_ends_with_a_moving_skeleton(page, lab, screenshot):
    open_and_run(page, lab, "index.ipynb")
    assert not page.get_by_text("Jupyter news").count()     # nothing pops up over the course
    player = show_last(page, ".skelnb-player")
    page.wait_for_timeout(500)
    screenshot(page, "lab-index")
    canvas = player.locator("canvas").first
    if player.get_by_role("button", name="Play").count():
        player.get_by_role("button", name="Play").first.click()
    seen = set()
    for _ in range(6):
        seen.add(pixels(canvas))
        page.wait_for_timeout(150)
    assert not page.errors, "\n".join(page.errors)
    assert len(seen) >= 4, "the skeleton does not move"


def test_the_map_plays_the_clip_that_is_clicked(page, lab, screenshot):
    open_and_run(page, lab, "explore/02_embedding.ipynb")
    explorer = page.locator(".skelnb-explorer").first
    for _ in range(80):
        if page.locator(".skelnb-explorer").count():
            break
        page.locator(".jp-WindowedPanel-outer").last.evaluate("e => e.scrollBy(0, 500)")
        page.wait_for_timeout(250)
    stay_in_view(page, explorer)
    before = explorer.evaluate("e => e.explorer.selected")
    place = explorer.evaluate("e => e.explorer.place(7)")
    explorer.locator("canvas").first.click(position={"x": place[0], "y": place[1]})
    page.wait_for_function("e => e.explorer.selected === 7 && e.explorer.playing[0] === 7", arg=explorer.element_handle(), timeout=10_000)
    page.wait_for_timeout(800)
    screenshot(page, "lab-embedding")
    assert before != 7
    clip, seen = explorer.locator(".skelnb-side canvas").first, set()
    for _ in range(6):
        seen.add(pixels(clip))
        page.wait_for_timeout(150)
    assert len(seen) >= 4, "the clip of the point does not move"
    assert not page.errors, "\n".join(page.errors)
