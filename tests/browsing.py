"""What the tests of the page do in a real browser."""

import base64
import io
import shutil
from urllib.parse import parse_qsl

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("playwright", reason="the page's tests need playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("the page's tests need chromium", allow_module_level=True)

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
DONE, REST = "[data-state=done]", "[data-state=done]:not(.playing)"
WIDE = (1280, 800)


def until(page, state="", **data):
    """Wait until the body is in this state and has these data-KEY."""
    values = "".join(f"[data-{key}='{value}']" for key, value in data.items())
    page.locator(f"body{state}{values}").wait_for()


def canvas(page, selector="#view"):
    """Screen pixels of a canvas, (h, w, 3) uint8."""
    url = page.locator(selector).evaluate("canvas => canvas.toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


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


def seek(page, t):
    page.locator("#time").fill(str(t))
    until(page, step=t)


def values(page):
    """The words of the address's fragment."""
    return dict(parse_qsl(page.evaluate("location.hash").partition("?")[2]))


def scribble(page, pad="#padA", touch=False):
    """Draw a stroke on a pad; the page is done when it has answered this one."""
    page.locator(pad).scroll_into_view_if_needed()
    box = page.locator(pad).bounding_box()
    first, *others = (
        {"x": box["x"] + box["width"] * u, "y": box["y"] + box["height"] * v}
        for u, v in ((0.3, 0.3), (0.7, 0.35), (0.5, 0.8))
    )
    if touch:  # playwright itself can only tap
        session = page.context.new_cdp_session(page)

        def finger(kind, *points):
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        finger("touchStart", first)
        for point in others:
            finger("touchMove", point)
        unsettle(page)
        finger("touchEnd")
    else:
        page.mouse.move(**first)
        page.mouse.down()
        for point in others:
            page.mouse.move(**point)
        unsettle(page)
        page.mouse.up()


def unsettle(page):
    """Whatever is done by now does not count."""
    page.evaluate("document.body.dataset.state = 'waiting'")


def picture(text, shape=(1, 28, 28)):
    """A link's picture."""
    raw = np.frombuffer(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), np.uint8)
    return torch.from_numpy(np.unpackbits(raw, count=int(np.prod(shape)))).view(shape).float()


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
