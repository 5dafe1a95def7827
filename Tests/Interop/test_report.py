"""The page of `dmae report` in a browser, headless Chromium: it renders, narrow and wide, light and dark, without an error
in the console; its switches and keys do what they say. Skipped where there is no Chromium (Debian's package chromium)."""

import base64
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import time
import unittest
import urllib.request

from exchange import ROOT, Exchange

PICTURES = ROOT / "Fixtures/demo/images"
BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)


class Browser:
    """A headless browser, spoken to by the DevTools protocol over a WebSocket of the standard library alone."""

    def __init__(self, folder):
        profile = folder / "profile"
        self.process = subprocess.Popen(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0",
             f"--user-data-dir={profile}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 120
        file = profile / "DevToolsActivePort"
        while not file.exists() or len(file.read_text().splitlines()) < 2:
            assert time.monotonic() < limit and self.process.poll() is None, "the browser does not start"
            time.sleep(0.1)
        port = int(file.read_text().splitlines()[0])
        pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
        path = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page").split(str(port), 1)[1]
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        assert b" 101 " in head.split(b"\r\n")[0], head
        self.number, self.events = 0, []

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            assert part, "the browser is gone"
            data += part
        return data

    def receive(self):
        text = b""
        while True:
            first, second = self.read(2)
            length = second & 0x7F
            if length >= 126:
                length = struct.unpack(">H" if length == 126 else ">Q", self.read(2 if length == 126 else 8))[0]
            text += self.read(length)
            if first & 0x80:
                return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        text = json.dumps({"id": self.number, "method": method, "params": parameters}).encode()
        head = bytes([0x81]) + (
            bytes([0x80 | len(text)]) if len(text) < 126 else bytes([0xFE]) + struct.pack(">H", len(text)))
        mask = os.urandom(4)
        self.socket.sendall(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(text)))
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def evaluate(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def show(self, path, width, scheme):
        self.call("Runtime.enable"), self.call("Log.enable"), self.call("Network.enable"), self.call("Page.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.call("Page.navigate", url=pathlib.Path(path).as_uri())
        limit = time.monotonic() + 60
        while self.evaluate("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < limit
            time.sleep(0.05)

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)


@unittest.skipIf(BROWSER is None, "no Chromium is installed")
class Report(Exchange):
    # How much of a figure's frame is visible, and of what: the sizes of the drawn curves on the page.
    DRAWN = """[...document.querySelectorAll('.frame')].filter(f => f.offsetParent).map(f => {
        const frame = f.getBoundingClientRect(), paths = [...f.querySelectorAll('g path.mean')];
        const boxes = paths.map(p => p.getBoundingClientRect());
        return {width: frame.width, height: frame.height, curves: boxes.map(b => [b.width, b.height]),
            colors: paths.map(p => getComputedStyle(p).stroke), title: f.closest('figure').querySelector('h3').textContent,
            axis: f.parentNode.querySelector('.across').textContent,
            labels: [...f.querySelectorAll(':scope > span')].map(s => {
                const r = document.createRange(); r.selectNodeContents(s); const b = r.getBoundingClientRect();
                return {text: s.textContent, x: s.className == 'x', left: b.left, right: b.right, top: b.top,
                    bottom: b.bottom};})};})"""

    def pages(self):
        model = ["--student", "vit-miniature", "--width", "16", "--depth", "2", "--heads", "2", "--decoder-width", "16",
                 "--decoder-depth", "1", "--decoder-heads", "2", "--image-size", "32", "--batch", "8", "--effective-batch", "8",
                 "--quiet"]
        runs = []
        for rate in ["0.1", "0.02"]:
            runs.append(self.folder / f"run-{rate}")
            self.dmae("pretrain", "--recipe", "demo-teacher", "--data", PICTURES / "geography", "--val",
                      PICTURES / "education", "--output", runs[-1], "--epochs", "60", "--warmup-epochs", "2",
                      "--base-learning-rate", rate, *model)
        one, both = self.folder / "one.html", self.folder / "both.html"
        self.dmae("report", runs[0], "--output", one)
        self.dmae("report", *runs, "--output", both)
        return one, both

    def check(self, browser, path, width, scheme, runs):
        browser.show(path, width, scheme)
        what = f"{path.name} {width} {scheme}"
        drawn = browser.evaluate(self.DRAWN)
        self.assertGreaterEqual(len(drawn), 5, what)
        for figure in drawn:
            self.assertGreater(figure["width"], 0.6 * min(width, 500), (what, figure))
            self.assertGreaterEqual(len(figure["curves"]), 1, (what, figure))
            # A curve spans its frame; no two curves have one colour.
            self.assertGreater(figure["curves"][0][0], 0.9 * figure["width"], (what, figure))
            self.assertEqual(len(set(figure["colors"])), len(figure["colors"]), (what, figure))
            labels = figure["labels"]
            self.assertGreaterEqual(len(labels), 4, (what, figure))
            for i, a in enumerate(labels):
                self.assertTrue(0 <= a["left"] and a["right"] <= width, (what, figure["title"], a))
                for b in labels[i + 1:]:
                    apart = (a["right"] <= b["left"] or b["right"] <= a["left"] or a["bottom"] <= b["top"]
                             or b["bottom"] <= a["top"])
                    self.assertTrue(apart, (what, figure["title"], a, b))
        # Nothing but tables, which scroll by themselves, is wider than the page.
        self.assertLessEqual(browser.evaluate("document.documentElement.scrollWidth"), width, what)
        dark = browser.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 100")
        self.assertEqual(dark, scheme == "dark", what)
        pictures = browser.evaluate("[...document.images].map(i => i.naturalWidth)")
        self.assertTrue(pictures and all(pictures), what)
        # The contrast of text: WCAG's formula, at least 4.5.
        contrast = browser.evaluate("""(() => {
            const light = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
                .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
            const ground = e => { for (; e; e = e.parentElement) {
                const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(c)) return c; } return 'rgb(255,255,255)'; };
            return [...document.querySelectorAll('p, th, td, h1, h2, h3, li, nav label, .frame span, .badge, summary')]
                .filter(e => e.offsetParent && e.textContent.trim()).map(e => {
                    const a = light(getComputedStyle(e).color), b = light(ground(e));
                    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.slice(0, 40)]; })
                .sort((a, b) => a[0] - b[0])[0]; })()""")
        self.assertGreaterEqual(contrast[0], 4.5, (what, contrast))

    def quiet(self, browser):
        """Nothing was said in the console, and nothing was asked of a network."""
        for event in browser.events:
            self.assertNotIn(event["method"], ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"], event)
            if event["method"] == "Network.requestWillBeSent":
                address = event["params"]["request"]["url"]
                self.assertTrue(address.startswith(("file:", "data:")), address)

    def test_renders(self):
        one, both = self.pages()
        browser = Browser(self.folder)
        self.addCleanup(browser.close)
        for path, runs in [(one, 1), (both, 2)]:
            for width in [400, 800, 1400]:
                for scheme in ["light", "dark"]:
                    self.check(browser, path, width, scheme, runs)
                    self.quiet(browser)
        # The switches, by the keyboard: from steps to time; and the scale.
        browser.show(both, 1400, "light")
        self.assertEqual({figure["axis"] for figure in browser.evaluate(self.DRAWN)}, {"optimiser step"})
        browser.evaluate("document.getElementById('x-steps').focus()")

        def press(key):
            for kind in ["keyDown", "keyUp"]:
                browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode={
                    "ArrowRight": 39, "ArrowLeft": 37, "Tab": 9}[key])

        press("ArrowRight")
        self.assertEqual({figure["axis"] for figure in browser.evaluate(self.DRAWN)}, {"epoch"})
        press("ArrowRight")
        self.assertEqual({figure["axis"] for figure in browser.evaluate(self.DRAWN)}, {"time of training"})
        press("Tab")
        self.assertEqual(browser.evaluate("document.activeElement.id"), "y-auto")
        count = len(browser.evaluate(self.DRAWN))
        press("ArrowRight"), press("ArrowRight")
        self.assertEqual(browser.evaluate("document.activeElement.id"), "y-log")
        self.assertEqual(len(browser.evaluate(self.DRAWN)), count)
        # The arrow keys show the values of the first curve: the last is the log's.
        browser.show(one, 1400, "light")
        browser.evaluate("[...document.querySelectorAll('.frame>svg')].find(s => s.parentNode.offsetParent).focus()")
        press("ArrowLeft")
        shown = browser.evaluate("document.querySelector('.value').textContent")
        log = [json.loads(line) for line in (self.folder / "run-0.1/log.jsonl").read_text().splitlines()]
        last = [line for line in log if "loss" in line][-1]
        self.assertTrue(shown.startswith(f"step {last['step']}\n"), shown)
        value = float(shown.split("\n")[1].split("≈")[1])
        self.assertLess(abs(value - last["loss"]), 0.01 * last["loss"], shown)
        self.quiet(browser)
        # Printed it is dark on light, also where the screen is dark; no table is wider than its place; all settings are
        # there, and closed again afterwards.
        browser.show(both, 1400, "dark")
        browser.call("Emulation.setDeviceMetricsOverride", width=720, height=1000, deviceScaleFactor=1, mobile=False)
        browser.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        shown = browser.evaluate("""[...document.querySelectorAll('body, h1, .chart, .scroll, td, .commands code')].map(e => {
            const s = getComputedStyle(e); return [s.color, s.backgroundColor].map(c => {
                const v = c.match(/[\\d.]+/g).map(Number); return v.length == 4 && v[3] == 0 ? null : v[0]; }); })""")
        for color, ground in shown:
            self.assertLess(color, 128)
            self.assertTrue(ground is None or ground > 200, ground)
        wide = browser.evaluate("""[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1)
            .map(e => e.textContent.slice(0, 60))""")
        self.assertEqual(wide, [])
        browser.call("Emulation.setEmulatedMedia", media="", features=[])
        browser.evaluate("""addEventListener('beforeprint', () => {
            window.opened = document.querySelectorAll('details[open]').length; })""")
        data = base64.b64decode(browser.call("Page.printToPDF")["data"])
        self.assertTrue(data.startswith(b"%PDF"))
        self.assertEqual(browser.evaluate("[window.opened, document.querySelectorAll('details[open]').length]"),
                         [browser.evaluate("document.querySelectorAll('details').length"), 0])
        self.quiet(browser)


if __name__ == "__main__":
    unittest.main()
