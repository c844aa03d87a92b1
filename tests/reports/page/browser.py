"""Control a headless Chromium through its debugging pipe: JSON messages on two file descriptors.

Needs no driver and no web socket: `--remote-debugging-pipe` reads from descriptor 3 and writes to 4.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find() -> str | None:
    """The path of an installed Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in its own Chromium process.

    `errors` collects exceptions, console errors and violations of the content security policy; `requests`
    collects every requested address that is not a data URI.
    """

    def __init__(self, width: int = 1280, height: int = 1000, dark: bool = False) -> None:
        path = find()
        assert path is not None
        self._profile = tempfile.TemporaryDirectory(prefix="page-test-", ignore_cleanup_errors=True)
        there, self._write = os.pipe()
        self._read, back = os.pipe()
        options = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
            *("--disable-extensions", "--disable-background-networking", "--disable-sync"),
            *("--disable-dev-shm-usage", "--remote-debugging-pipe", "--force-color-profile=srgb"),
            f"--window-size={width},{height}",
            f"--user-data-dir={self._profile.name}",
        ]
        self._process = subprocess.Popen(
            [
                "/bin/bash",
                "-c",
                f'exec "$0" "$@" 3<&{there} 4>&{back}',
                path,
                *options,
                "about:blank",
            ],
            pass_fds=(there, back),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there)
        os.close(back)
        self._buffer, self._number, self._session = b"", 0, ""
        self.errors: list[str] = []
        self.requests: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.size(width, height)
        # Disable smooth scrolling, so that no click happens during it.
        features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
        if dark:
            features.append({"name": "prefers-color-scheme", "value": "dark"})
        self.call("Emulation.setEmulatedMedia", features=features)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        os.close(self._write)
        self._process.terminate()
        self._process.wait(30)
        os.close(self._read)
        self._profile.cleanup()

    def size(self, width: int, height: int, scale: float = 1) -> None:
        """The window's inner size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a command and return its result; AssertionError with the browser's message if it fails."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(60)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _next(self, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            more = os.read(self._read, 1 << 20)
            assert more, "the browser has gone"
            self._buffer += more
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        about, said = message.get("method"), message.get("params", {})
        if about == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(said["exceptionDetails"])[:800])
        elif about == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(said["args"])[:800])
        elif about == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.errors.append(said["entry"]["text"][:800])
        elif about == "Network.requestWillBeSent":
            address = said["request"]["url"]
            if not address.startswith("data:"):
                self.requests.append(address)

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a file and wait until its script has finished."""
        self.errors.clear()
        self.requests.clear()
        self.call("Page.navigate", url="about:blank")
        self.requests.clear()
        self.call("Page.navigate", url=page.resolve().as_uri() + fragment)
        self.until("document.readyState === 'complete'")

    def run(self, code: str) -> Any:
        """Evaluate an expression in the page; promises are awaited."""
        found = self.call(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, json.dumps(found["exceptionDetails"])[:2000]
        return found["result"].get("value")

    def until(self, code: str, seconds: float = 30) -> Any:
        """Wait until an expression is true; return its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.run(code):
                return value
            time.sleep(0.05)
        raise AssertionError(f"never came true: {code}; errors {self.errors}")

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """Click at a position in an element, given in fractions of its box."""
        x, y = self.at(selector, across, down)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y)

    def at(self, selector: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """The screen position of a point in an element, after scrolling to it."""
        box = self.run(
            f"(() => {{ const n = document.querySelector({json.dumps(selector)});"
            " n.scrollIntoView({block: 'center', behavior: 'instant'}); const b = n.getBoundingClientRect();"
            " return [b.left, b.top, b.width, b.height]; })()"
        )
        return box[0] + across * box[2], box[1] + down * box[3]

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Send a mouse event."""
        self.call(
            "Input.dispatchMouseEvent",
            **{"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1},
        )

    def key(
        self, key: str, *, shift: bool = False, kinds: tuple[str, ...] = ("keyDown", "keyUp")
    ) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        for kind in kinds:
            self.call(
                "Input.dispatchKeyEvent",
                **{
                    "type": kind,
                    "key": key,
                    "modifiers": 8 if shift else 0,
                    **(text if kind == "keyDown" else {}),
                },
            )

    def choose(self, selector: str, value: str) -> None:
        """Choose a value of a select element."""
        self.run(
            f"(() => {{ const n = document.querySelector({json.dumps(selector)});"
            f" n.value = {json.dumps(value)}; n.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"
        )

    def screenshot(self, target: Path, *, whole: bool = False) -> None:
        """The window, or the whole page, as a PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        target.write_bytes(base64.b64decode(found["data"]))
