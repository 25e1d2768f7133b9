"""The page in one file, opened from the disk: all of it works, and nothing is asked of anybody."""

import re

import pytest
import torch

for name in ("httpx", "playwright"):
    pytest.importorskip(name, reason="the page's tests need httpx and playwright")

from playwright.sync_api import expect, sync_playwright  # noqa: E402

from browsing import (  # noqa: E402
    CHROMIUM,
    DONE,
    FLAGS,
    REST,
    WIDE,
    canvas,
    contrast,
    picture,
    scribble,
    seek,
    tiles,
    until,
    values,
)
from conftest import small  # noqa: E402
from drawnet import cli, weights  # noqa: E402
from drawnet.demo import export, requests  # noqa: E402
from drawnet.drawing import figures, sample  # noqa: E402
from drawnet.models.draw import DrawConfig  # noqa: E402
from served import levels, save  # noqa: E402

PHONE = (390, 844)
VIEWS = ("draw", "redraw", "complete", "morph", "along", "explain")
DRAW = DrawConfig(steps=12, units=16, latents=4, read=2, write=5)
LABELLED = DrawConfig(steps=12, units=16, latents=4, read=3, write=5, classes=10)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    return [
        save(folder, "windows", DRAW, (1, 28, 28)),
        save(folder, "labelled", LABELLED, (1, 28, 28)),
    ]


@pytest.fixture(scope="module")
def file(paths, tmp_path_factory):
    """The page, written by the command."""
    file = tmp_path_factory.mktemp("page") / "page.html"
    cli.main(["demo", *map(str, paths), "--export", str(file)])
    return file


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, file):
    """Open the page at a fragment; at the end nobody has complained, and nothing was asked for."""
    complaints, urls, pages = [], [], []

    def load(fragment="", state=REST, *, dark=False, size=WIDE, still=False):
        page = browser.new_page(
            viewport={"width": size[0], "height": size[1]}, has_touch=size == PHONE,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce" if still else "no-preference",
        )  # fmt: skip
        pages.append(page)
        page.on("console", lambda m: m.type in ("error", "assert") and complaints.append(m.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: urls.append(request.url))
        page.goto(file.as_uri() + fragment)
        until(page, state)
        return page

    yield load
    for page in pages:
        page.close()
    asked = {url for url in urls if not url.startswith(("data:", "blob:"))}
    assert complaints == [] and {url.partition("#")[0] for url in asked} == {file.as_uri()}


@pytest.mark.parametrize("name", ["mnist", "mnist_conditional"])
def test_bundled_weights_fit_into_three_megabytes(name):
    text = export.page([requests.exhibit(weights.bundled()[name])])
    assert len(text.encode()) <= 3_000_000
    assert '"type":"bfloat16"' in text.replace("&quot;", '"')


@pytest.mark.parametrize(
    "config", [small("conv_draw"), small("draw", likelihood="logistic"), small("draw", read=0)]
)
def test_what_the_page_cannot_compute_gets_one_line(config, tmp_path, capsys):
    path = save(tmp_path, "other", config)
    with pytest.raises(SystemExit) as end:
        cli.main(["demo", str(path), "--export", str(tmp_path / "page.html")])
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1 and "cannot be exported" in said
    assert not (tmp_path / "page.html").exists()


def test_a_seed_draws_what_the_commands_draw(visit, paths):
    page = visit("#draw?n=9&seed=3", still=True)
    wanted = levels(sample.sample_trajectory(sample.load(paths[0]), 9, seed=3).images)
    found = tiles(page, 9, 3, (1, 28, 28))
    assert (found.int() - wanted.int()).abs().max() <= 1 and wanted.unique().numel() > 20


def test_it_may_connect_to_nobody(browser, file):
    page = browser.new_page()
    page.goto(file.as_uri())
    until(page, DONE)
    for code in ("fetch('http://127.0.0.1:9/')", "fetch('data:,x')"):
        assert "TypeError" in page.evaluate(f"{code}.then(() => 'answered', String)")
    page.close()


@pytest.mark.parametrize("model", ["windows", "labelled"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_works(visit, view, model):
    page = visit(f"#{view}?model={model}", DONE, still=True)
    assert len(set(canvas(page).flatten())) > 3
    if view != "draw":
        scribble(page)
        until(page, DONE)
    expect(page.locator("#gif")).to_be_hidden()


def test_what_the_label_is_for_is_said_in_every_view(visit):
    page = visit("#draw?model=labelled", DONE, still=True)
    for view, word in (("draw", "all"), ("redraw", "as read"), ("along", "all")):
        page.click(f"[data-tab={view}]")
        until(page, DONE, view=view)
        expect(page.locator("#labels span").first).to_have_text(word)


def test_a_drawing_is_redrawn_as_python_does(visit, paths):
    page = visit("#redraw?seed=4", still=True)
    scribble(page)
    until(page, DONE)
    page.locator("#windows").uncheck()
    x = picture(values(page)["x"])
    wanted = sample.redraw_trajectory(sample.load(paths[0]), x[None], seed=4).frames
    for t in (12, 5):
        seek(page, t)
        assert (tiles(page, 1, 1, (1, 28, 28)).int() - levels(wanted[t]).int()).abs().max() <= 1


def test_the_reader_follows_a_stroke_and_goes_on_without_it(visit):
    """Steps are read while the pen moves; the endings share them, and then differ."""
    page = visit("#along?n=4", still=True)
    page.click("#clear")
    box = page.locator("#padA").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    read = []
    for k in range(6):
        page.wait_for_timeout(60)
        page.mouse.move(box["x"] + 80 + 20 * k, box["y"] + 60 + 10 * k)
        read.append(int(page.evaluate("document.body.dataset.step")))
    assert read[-1] >= 3 and read == sorted(read)
    blue = canvas(page, "#padA").astype(int)
    assert ((blue[:, :, 2] > 200) & (blue[:, :, 0] < 120)).any()  # the read window, on the drawing
    page.evaluate("document.body.dataset.state = 'waiting'")
    page.mouse.up()
    until(page, DONE)
    page.locator("#windows").uncheck()
    seek(page, read[-1])
    first, *others = tiles(page, 4, 2, (1, 28, 28))
    assert all(torch.equal(first, other) for other in others)
    seek(page, 12)
    first, *others = tiles(page, 4, 2, (1, 28, 28))
    assert not any(torch.equal(first, other) for other in others)


def test_a_step_is_explained_part_by_part(visit, paths):
    """By keys alone; what is said of the window is what Python says."""
    page = visit("#explain?seed=5&step=3", DONE, still=True)
    until(page, step=3)
    network = sample.load(paths[0])
    x = picture(values(page)["x"])
    state = list(sample.redrawing(network, x[None], range(1), seed=5))[2].state
    x0, y0, _, sigma = figures.geometry(network, "read", state.read)[0].tolist()
    cards = page.locator("#parts > li")
    expect(cards).to_have_count(6)
    said = [
        float(v) for v in re.findall(r"-?\d+\.\d+", cards.nth(1).locator(".numbers").inner_text())
    ]
    for found, wanted in zip((said[0], said[1], said[3]), (x0, y0, sigma), strict=True):
        assert abs(found - wanted) <= 0.051
    expect(cards.nth(0)).to_have_attribute("aria-current", "step")
    page.keyboard.press("n")
    expect(cards.nth(1)).to_have_attribute("aria-current", "step")
    expect(page.locator("#spoken")).to_contain_text("Where to read")
    for _ in range(5):
        page.keyboard.press("n")
    until(page, step=4)
    expect(cards.nth(0)).to_have_attribute("aria-current", "step")
    cards.nth(4).focus()
    expect(cards.nth(4)).to_have_attribute("aria-current", "step")
    assert page.locator("#parts canvas:not([aria-label])").count() == 0


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [PHONE, WIDE])
def test_it_fits_and_can_be_read(visit, size, dark):
    """WCAG AA: every text stands out from its ground by 4.5, in every view and both themes."""
    page = visit("#draw?model=labelled&n=4", DONE, size=size, dark=dark, still=True)
    for view in VIEWS:
        page.click(f"[data-tab={view}]")
        until(page, DONE, view=view)
        assert page.evaluate("document.documentElement.scrollWidth") == size[0], view
        for text, front, ground in page.evaluate(TEXTS):
            assert contrast(front, ground) >= 4.5, (view, text)


TEXTS = """(() => {
  const channels = (c) => c.match(/[\\d.]+/g).map(Number);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = channels(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c.slice(0, 3);
    }
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || !e.offsetParent || e.closest("script, :disabled")) continue;
    const own = channels(getComputedStyle(e).color).slice(0, 3), behind = ground(e);
    let opacity = 1;
    for (let up = e; up; up = up.parentElement) opacity *= Number(getComputedStyle(up).opacity);
    found.push([text, own.map((v, k) => opacity * v + (1 - opacity) * behind[k]), behind]);
  }
  return found;
})()"""
"""[text, its colour, its ground] of all that is visible."""
