"""A notebook exported to a static page (nbconvert, no kernel) stays alive in a browser without a network."""

import pathlib

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def exported(tmp_path):
    def export(notebook):
        from nbconvert import HTMLExporter
        body, _ = HTMLExporter().from_filename(str(ROOT / "nbs" / notebook))
        target = tmp_path / "page.html"
        target.write_text(body, encoding="utf-8")
        return target.as_uri()
    return export


def block_network(page):
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(("file:", "data:", "blob:")) else route.abort())


def test_players_of_an_exported_notebook_play(page, exported, screenshot):
    block_network(page)
    page.goto(exported("01_player.ipynb"))
    player = page.locator(".skelnb-player").first
    player.scroll_into_view_if_needed()
    canvas = player.locator("canvas").first
    if player.get_by_role("button", name="Play").count():
        player.get_by_role("button", name="Play").first.click()
    seen = set()
    for _ in range(6):
        seen.add(canvas.evaluate("c => c.toDataURL()"))
        page.wait_for_timeout(150)
    screenshot(page, "static-player")
    assert len(seen) >= 4


def test_the_map_of_an_exported_notebook_plays_a_clicked_clip(page, exported, screenshot):
    block_network(page)
    page.goto(exported("explore/02_embedding.ipynb"))
    explorer = page.locator(".skelnb-explorer").first
    explorer.scroll_into_view_if_needed()
    before = explorer.evaluate("e => e.explorer.selected")
    number = 3 if before != 3 else 4
    place = explorer.evaluate(f"e => e.explorer.place({number})")
    explorer.locator("canvas").first.click(position={"x": place[0], "y": place[1]})
    page.wait_for_function(f"e => e.explorer.selected === {number}", arg=explorer.element_handle(), timeout=5_000)
    screenshot(page, "static-embedding")
