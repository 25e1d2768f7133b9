"""The page in a real browser: it shows what Python computes, step by step, and asks nobody else."""

import base64
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from drawnet.drawing import complete, morph, sample
from drawnet.models.draw import DrawConfig

for name in ("httpx", "websockets", "starlette", "uvicorn"):
    pytest.importorskip(name, reason="the page's tests need httpx, websockets, starlette, uvicorn")

import browser as chromium  # noqa: E402
from conftest import small  # noqa: E402
from served import Server, levels, save  # noqa: E402

if chromium.PROGRAM is None:
    pytest.skip("the page's tests need chromium", allow_module_level=True)

DONE = "document.body.dataset.state == 'done'"
REST = DONE + " && !document.body.classList.contains('playing')"
NARROW, WIDE = (360, 740), (1280, 800)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    draw = DrawConfig(steps=12, units=16, latents=4, read=2, write=5)
    return [
        save(folder, "windows", draw, (1, 28, 28)),
        save(folder, "told", small("conv_draw", classes=10), (1, 28, 28)),
        save(folder, "colour", small("conv_draw", likelihood="mixture"), (3, 16, 16)),
        save(folder, "vae", small("vae"), (1, 28, 28)),
    ]


@pytest.fixture(scope="module")
def server(paths):
    server = Server(*paths)
    yield server
    server.close()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    program = chromium.Browser(tmp_path_factory.mktemp("profile"))
    yield program
    program.close()


@pytest.fixture
def visit(program, server):
    """Opens the page at a fragment; at the end nobody has complained or called anyone else."""
    pages = []

    def go(fragment="", **settings):
        width, height = settings.pop("size", WIDE)
        page = program.page(server.url + fragment, width=width, height=height, **settings)
        pages.append(page)
        return page

    yield go
    for page in pages:
        page.js("1")  # what has happened until now is heard
        assert page.complaints == []
        hosts = {
            urlsplit(url).netloc for url in page.requests if not url.startswith(("data:", "blob:"))
        }
        assert hosts <= {urlsplit(server.url).netloc, ""}
        page.close()


PIXELS = """(() => {
  const view = document.querySelector('%s'), { width, height } = view;
  const box = view.getContext('2d').getImageData(0, 0, width, height);
  let raw = '';
  for (let k = 0; k < box.data.length; k++) raw += String.fromCharCode(box.data[k]);
  return [view.width, view.height, btoa(raw)];
})()"""


def canvas(page, selector="#view"):
    """Screen pixels of a canvas, (h, w, 3) uint8."""
    width, height, raw = page.js(PIXELS % selector)
    return np.frombuffer(base64.b64decode(raw), np.uint8).reshape(height, width, 4)[:, :, :3]


def tiles(page, n, columns, shape, selector="#view"):
    """The n pictures that a canvas shows, (n, C, H, W) uint8; every pixel must be an even square."""
    seen, (depth, height, width) = canvas(page, selector), shape
    rows = -(-n // columns)
    for scale in range(60, 0, -1):  # as stage.js lays them out
        gap = max(2, int(min(10, scale * max(height, width) / 24) + 0.5))
        if seen.shape[:2] == (
            rows * (height * scale + gap) + gap, columns * (width * scale + gap) + gap
        ):  # fmt: skip
            break
    else:
        raise AssertionError(f"no layout fits {seen.shape}")
    pictures = []
    for k in range(n):
        y, x = (
            gap + place * (side * scale + gap)
            for place, side in ((k // columns, height), (k % columns, width))
        )
        cell = seen[y : y + height * scale, x : x + width * scale].reshape(
            height, scale, width, scale, 3
        )
        assert (cell == cell[:, :1, :, :1]).all()
        pictures.append(cell[:, 0, :, 0].transpose(2, 0, 1)[:depth])
    return torch.from_numpy(np.stack(pictures))


def plain(page):
    """Windows off, playing over."""
    page.js(
        "document.querySelector('#windows').checked && document.querySelector('#windows').click()"
    )


def seek(page, t):
    page.js(
        f"(e => {{ e.value = {t}; e.dispatchEvent(new Event('input', {{bubbles: true}})) }})"
        "(document.querySelector('#time'))"
    )
    page.until(f"document.body.dataset.step == {t}")


def fragment(page):
    return page.js("location.hash")


def values(page):
    """The fragment's words."""
    return dict(parse_qsl(fragment(page).partition("?")[2]))


# ---- draw ---------------------------------------------------------------------------------------


def test_the_first_sheet_is_drawn_unasked_and_shows_what_python_computes(visit, paths):
    page = visit()
    page.until(REST)
    trajectory = sample.sample_trajectory(sample.load(paths[0]), 16, seed=1)
    assert torch.equal(tiles(page, 16, 4, (1, 28, 28)), levels(trajectory.images))
    plain(page)
    for t in (0, 1, 7, 11, 12):
        seek(page, t)
        assert torch.equal(tiles(page, 16, 4, (1, 28, 28)), levels(trajectory.frames[t]))
        assert values(page).get("step") == (str(t) if t < 12 else None)


def test_windows_are_where_python_says(visit, paths):
    page = visit("#draw?n=1&seed=1&step=5")
    page.until(DONE + " && document.body.dataset.step == 5")
    seen, trajectory = canvas(page), sample.sample_trajectory(sample.load(paths[0]), 1, seed=1)
    red = (seen[:, :, 0] > 200) & (seen[:, :, 1] < 120)
    ys, xs = np.nonzero(red)
    x, y, side, _ = trajectory.windows["write"][4, 0].tolist()
    scale = (seen.shape[0] - 20) // 28
    gap = (seen.shape[0] - 28 * scale) / 2
    for found, centre in ((xs, x), (ys, y)):
        low, high = (
            np.clip(gap + scale * (centre - 0.5 + reach), gap / 2, 28 * scale + 1.5 * gap)
            for reach in (-(side + 1) / 2, (side + 1) / 2)
        )
        # Half a line and its shade to either side.
        assert (
            abs(found.min() - low) < 0.75 * scale + 2 and abs(found.max() - high) < 0.75 * scale + 2
        )
    plain(page)
    seen = canvas(page)
    assert not ((seen[:, :, 0] > 200) & (seen[:, :, 1] < 120)).any()


def test_drawing_starts_within_a_second_of_the_click(visit):
    page = visit()
    page.until(REST)
    times = []
    for _ in range(12):  # the best of some, for other work on the machine
        times.append(
            page.js("""new Promise((resolve) => {
              const start = performance.now(), { body } = document;
              new MutationObserver((_, watch) => {
                if (body.dataset.step >= 1) {
                  watch.disconnect();
                  resolve(performance.now() - start);
                }
              }).observe(body, { attributes: true });
              body.dataset.step = -1;
              document.querySelector('#go').click();
            })""")
        )
        page.until(REST)
        if min(times) < 1000:
            break
    assert min(times) < 1000, times


def test_keys_draw_step_open_and_label(visit):
    page = visit("#draw?model=told&n=20")
    page.until(REST)
    page.key(" ")
    page.until(f"location.hash.includes('seed=2') && {REST}")
    page.key("ArrowLeft")
    page.until("document.body.dataset.step == 2")
    page.key("Home")
    page.key("ArrowRight")
    page.until("document.body.dataset.step == 1")
    page.key("Enter")
    page.until("location.hash.includes('open=0')")
    page.key("Escape")
    page.until("!location.hash.includes('open')")
    page.key("7")
    page.until(f"location.hash.includes('label=7') && {REST}")
    assert page.js("document.querySelector('#labels :checked').value") == "7"


def test_a_click_opens_a_picture_with_its_rates(visit, paths):
    page = visit("#draw?n=9&seed=4")
    page.until(REST)
    left, top, width, height = page.box("#view")
    page.drag((left + width * 0.83, top + height * 0.5))  # the sixth
    page.until("location.hash.includes('open=5')")
    plain(page)
    trajectory = sample.sample_trajectory(sample.load(paths[0]), 9, seed=4)
    assert torch.equal(tiles(page, 1, 1, (1, 28, 28)), levels(trajectory.images[5:6]))
    *_, state = sample.sampling(sample.load(paths[0]), range(9), seed=4)
    rate = sample.rates(sample.load(paths[0]), state, range(9), seed=4)[:, 5].sum()
    caption = page.js("document.querySelector('#caption').textContent")
    assert f"{rate:.1f} nats in all" in caption and "no posterior of its own" in caption
    bars = canvas(page, "#strip")
    assert len(np.unique(bars.reshape(-1, 3), axis=0)) > 2
    page.click("#next")
    page.until("location.hash.includes('open=6')")
    page.click("#close")
    page.until("!location.hash.includes('open')")


def test_labels_are_drawn_as_asked(visit, paths):
    page = visit("#draw?model=told&n=6&label=3&seed=2")
    page.until(REST)
    trajectory = sample.sample_trajectory(sample.load(paths[1]), 6, labels=[3], seed=2)
    assert torch.equal(tiles(page, 6, 3, (1, 28, 28)), levels(trajectory.images))


# ---- the other views ----------------------------------------------------------------------------


def scribble(page, pad="#padA", swipe=False):
    """A stroke on a pad."""
    left, top, width, height = page.box(pad)
    points = [
        (left + width * u, top + height * v) for u, v in ((0.3, 0.3), (0.7, 0.35), (0.5, 0.8))
    ]
    (page.swipe if swipe else page.drag)(*points)


def picture(text, shape=(1, 28, 28)):
    """A link's picture."""
    raw = np.frombuffer(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), np.uint8)
    return torch.from_numpy(np.unpackbits(raw, count=int(np.prod(shape)))).view(shape).float()


@pytest.mark.parametrize("touch", [False, True])
def test_a_drawing_is_redrawn(visit, paths, touch):
    page = visit("#redraw", size=NARROW if touch else WIDE, touch=touch)
    page.until(REST)
    before = values(page)["x"]
    page.js("document.body.dataset.state = 'waiting'")
    scribble(page, swipe=touch)
    page.until(REST)
    x = picture(values(page)["x"])
    assert values(page)["x"] != before and 30 < x.sum() < 200
    trajectory = sample.redraw_trajectory(sample.load(paths[0]), x[None], seed=1)
    plain(page)
    for t in (12, 3):
        seek(page, t)
        assert torch.equal(tiles(page, 1, 1, (1, 28, 28)), levels(trajectory.frames[t]))
        assert torch.equal(tiles(page, 1, 1, (1, 28, 28), "#padA"), levels(x[None]))
    assert "nats in all" in page.js("document.querySelector('#caption').textContent")


def test_a_dropped_picture_is_read_light_on_dark(visit):
    """Dark strokes on white paper, off the middle."""
    page = visit("#redraw")
    page.until(REST)
    page.js("document.body.dataset.state = 'waiting'")
    page.js("""(async () => {
      const paper = Object.assign(document.createElement('canvas'), { width: 300, height: 200 });
      const pen = paper.getContext('2d');
      pen.fillStyle = '#eee'; pen.fillRect(0, 0, 300, 200);
      pen.fillStyle = '#223'; pen.fillRect(200, 30, 20, 100);
      const blob = await new Promise((done) => paper.toBlob(done));
      const data = new DataTransfer();
      data.items.add(new File([blob], 'one.png', { type: 'image/png' }));
      const drop = new DragEvent('drop', { dataTransfer: data, bubbles: true });
      document.querySelector('#padA').dispatchEvent(drop);
    })()""")
    page.until(REST)
    x = picture(values(page)["x"])[0]
    rows, columns = x.nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 23, 12, 15)
    assert x.sum() == 80


def test_what_is_rubbed_out_is_completed(visit, paths):
    page = visit("#complete?n=4")
    page.until(REST)
    page.click("[data-hide=right]")
    page.js("document.body.dataset.state = 'waiting'")
    scribble(page)  # rubs out more
    page.until(REST)
    x, known = picture(values(page)["x"]), picture(values(page)["known"], (28, 28)).bool()
    assert not known[:, 14:].any() and not known[:, :14].all() and known[:, :14].any()
    rounds = list(complete.completing(sample.load(paths[0]), x, known, 4, seed=1))
    plain(page)
    for t in (16, 0, 5):
        seek(page, t)
        assert torch.equal(tiles(page, 4, 2, (1, 28, 28)), levels(rounds[t]))


def test_a_morph_goes_from_one_to_the_other(visit, paths):
    page = visit("#morph")
    page.until(DONE)
    page.js("document.body.dataset.state = 'waiting'")
    scribble(page, "#padB")
    page.until(DONE)
    words = values(page)
    pair = torch.stack([picture(words["a"]), picture(words["b"])])
    *_, state = morph.morphing(sample.load(paths[0]), pair, 33, seed=1)
    means = levels(sample.load(paths[0]).likelihood(state).mean.detach())
    for t in (0, 32, 10):
        seek(page, t)
        assert torch.equal(tiles(page, 1, 1, (1, 28, 28)), means[t : t + 1])


@pytest.mark.parametrize("view", ["draw", "redraw", "complete", "morph"])
@pytest.mark.parametrize("model", ["colour", "vae"])
def test_other_models_do_not_break_it(visit, view, model):
    page = visit(f"#{view}?model={model}", still=True)
    page.until(DONE)
    assert len(np.unique(canvas(page))) > 3
    assert page.js("document.querySelector('#status').className") == "quiet"
    if view != "draw":
        page.js("document.body.dataset.state = 'waiting'")
        scribble(page)
        page.until(DONE)


# ---- links, files, looks ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    [
        "#draw?model=told&n=20&seed=9&temperature=0.7&label=4&step=2",
        "#draw?n=9&seed=5&open=3",
        "#redraw?seed=3&step=4",
        "#complete?seed=3&step=7",
        "#morph?seed=3&step=20",
    ],
)
def test_a_link_gives_the_same_picture_again(visit, start):
    one = visit(start)
    step = start.partition("step=")[2]
    still = f"({REST}) && document.body.dataset.step == {step or 12}"
    one.until(still)
    link = fragment(one)
    other = visit(link, still=True)
    other.until(still)
    assert fragment(other) == link
    assert np.array_equal(canvas(one), canvas(other))
    assert np.array_equal(canvas(one, "#padA"), canvas(other, "#padA"))


def test_a_link_from_other_weights_says_so(visit):
    page = visit("#draw?model=windows&weights=00000000&n=4")
    page.until(DONE)
    assert "other weights" in page.js("document.querySelector('#status').textContent")


def test_odd_links_are_taken_as_well_as_they_can_be(visit):
    for odd in (
        "#nowhere",
        "#draw?n=1e9&seed=-4&label=x&open=99&step=zz&temperature=nan",
        "#redraw?x=%3F%3F",
    ):
        page = visit(odd)
        page.until(DONE)


def saved(page, button, folder):
    """The file that a button saves."""
    page.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    page.click(button)
    chromium.wait(lambda: [p for p in folder.iterdir() if p.suffix in (".png", ".gif")], 30)
    (path,) = folder.iterdir()
    return path


@pytest.mark.parametrize("view", ["draw", "redraw", "complete", "morph"])
def test_every_view_is_saved(visit, view, tmp_path):
    page = visit(f"#{view}", still=True)
    page.until(DONE)
    for name, kind in (("png", "PNG"), ("gif", "GIF")):
        folder = tmp_path / name
        folder.mkdir()
        with Image.open(saved(page, f"#{name}", folder)) as image:
            assert image.format == kind and min(image.size) >= 28
            if view == "draw" and kind == "PNG":
                assert np.array_equal(np.asarray(image.convert("RGB")), canvas(page))


def test_the_page_says_when_the_server_is_gone(program, paths):
    server = Server(paths[3])
    page = program.page(server.url)
    page.until(DONE)
    server.close()
    page.click("#go")
    page.until("document.querySelector('#status').textContent.includes('does not answer')")
    page.close()


def test_still_for_those_who_ask_for_it(visit):
    page = visit(still=True)
    page.until("document.body.dataset.received == 12")
    assert page.js("document.body.classList.contains('playing')") is False
    page.until("document.body.dataset.step == 12")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [NARROW, WIDE])
def test_it_fits_and_can_be_read(visit, size, dark, tmp_path):
    """No view is wider than its screen; text stands out from its ground; what is pressed has a name."""
    page = visit(size=size, dark=dark, still=True, touch=size == NARROW)
    for view in ("draw", "redraw", "complete", "morph"):
        page.js(f"document.querySelector('[data-tab={view}]').click()")
        page.until(f"document.body.dataset.view == '{view}' && {DONE}")
        assert page.js("document.documentElement.scrollWidth") == size[0]
        page.screenshot(tmp_path / f"{view}-{size[0]}-{'dark' if dark else 'light'}.png")
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        for text in ("body", "#lead", "figcaption", "#count", "legend"):
            colours = page.js(
                f"[{ground}, getComputedStyle(document.querySelector({text!r})).color]"
                ".map((c) => c.match(/\\d+/g).slice(0, 3).map(Number))"
            )
            assert contrast(*colours) > 4.5, (view, text)
        nameless = page.js("""[...document.querySelectorAll('button, input, select, a, canvas')]
          .filter((e) => e.offsetParent && !e.ariaLabel && !e.textContent.trim())
          .filter((e) => !e.labels?.[0]?.textContent.trim())
          .map((e) => e.outerHTML)""")
        assert nameless == []


def contrast(*colours):
    """The ratio of two colours' luminances, as WCAG 2 defines it."""
    light = []
    for colour in colours:
        c = np.array(colour) / 255
        light.append(
            np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
            @ [0.2126, 0.7152, 0.0722]
        )
    return (max(light) + 0.05) / (min(light) + 0.05)
