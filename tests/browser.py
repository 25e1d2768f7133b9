"""Headless Chromium, driven over its DevTools protocol: enough of it for the page's tests."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path

from websockets.sync.client import connect

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--disable-extensions",
    "--disable-default-apps",
    "--mute-audio",
    "--remote-debugging-port=0",
]


class Browser:
    """A Chromium of its own, with an empty profile in `folder`."""

    def __init__(self, folder: Path) -> None:
        words = [PROGRAM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = folder / "DevToolsActivePort"
        wait(lambda: port.exists() and port.read_text().count("\n"), 60)
        number, path = port.read_text().split("\n")[:2]
        self.address = f"ws://127.0.0.1:{number}"
        self.open = contextlib.ExitStack()
        self.socket = self.open.enter_context(connection(self.address + path))
        self.last = 0

    def ask(self, method, **values):
        return exchange(self, method, values, lambda event: None)

    def page(self, url="about:blank", **settings):
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        page = Page(f"{self.address}/devtools/page/{target}")
        page.set(**settings)
        page.go(url)
        return page

    def close(self):
        self.open.close()
        self.process.terminate()
        self.process.wait(20)


def connection(address):
    return connect(address, max_size=None, proxy=None)


def exchange(one, method, values, heard):
    """Send a command and return its result; events that come meanwhile are `heard`."""
    one.last += 1
    one.socket.send(json.dumps({"id": one.last, "method": method, "params": values}))
    while True:
        said = json.loads(one.socket.recv(60))
        if said.get("id") == one.last:
            assert "error" not in said, f"{method}: {said['error']}"
            return said["result"]
        heard(said)


class Page:
    """A tab: what it asked of the network and complained of is kept."""

    def __init__(self, address):
        self.open = contextlib.ExitStack()
        self.socket = self.open.enter_context(connection(address))
        self.last, self.requests, self.complaints = 0, [], []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **values):
        return exchange(self, method, values, self.hear)

    def hear(self, event):
        values = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(values["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(values["exceptionDetails"].get("exception", values))
            case "Runtime.consoleAPICalled" if values["type"] in ("error", "assert"):
                self.complaints.append(values["args"])
            case "Log.entryAdded" if values["entry"]["level"] == "error":
                self.complaints.append(values["entry"])

    def set(self, width=1280, height=800, scale=1, dark=False, still=False, touch=False):
        """The screen, and what its user prefers."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=touch,
        )  # fmt: skip
        self.ask("Emulation.setTouchEmulationEnabled", enabled=touch)
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if still else "no-preference",
        }
        pairs = [{"name": name, "value": value} for name, value in features.items()]
        self.ask("Emulation.setEmulatedMedia", features=pairs)

    def go(self, url):
        self.ask("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def js(self, code):
        """The value of an expression, awaited."""
        said = self.ask("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def until(self, code, seconds=30):
        wait(lambda: self.js(code), seconds, code)

    def drag(self, *points):
        """Press at the first point, move through the others, let go at the last."""
        for k, (x, y) in enumerate(points):
            kind = "mouseMoved" if k else "mousePressed"
            self.ask(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1,
                clickCount=1,
            )  # fmt: skip
        self.ask(
            "Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1
        )

    def swipe(self, *points):
        """The same with a finger."""
        for k, (x, y) in enumerate(points):
            kind = "touchMove" if k else "touchStart"
            self.ask("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
        self.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def key(self, name, text=""):
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=name, text=text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=name)

    def box(self, selector):
        """(left, top, width, height) of an element, scrolled into view."""
        return self.js(
            f"(e => (e.scrollIntoView({{block: 'center'}}), (b => [b.x, b.y, b.width, b.height])"
            f"(e.getBoundingClientRect())))(document.querySelector({selector!r}))"
        )

    def click(self, selector):
        left, top, width, height = self.box(selector)
        self.drag((left + width / 2, top + height / 2))

    def screenshot(self, path, whole=False):
        values = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(values["data"]))

    def close(self):
        self.ask("Page.close")
        self.open.close()


def wait(met, seconds, what="the browser"):
    """Until met() is true; an error after so many seconds."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, f"waited {seconds} seconds for {what}"
        time.sleep(0.02)
