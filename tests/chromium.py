"""Chromium, driven headless through its DevTools protocol: open a page, look, press keys.

    with open_page(path, width=375) as page:
        assert page.requests == [] and page.console_errors == []
        assert page.evaluate("document.title") == "..."

``CHROMIUM`` is the browser's path, or None where there is none.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_PATIENCE_SECONDS = 60
_KEYS = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    " ": (32, " "),
    "Escape": (27, ""),
    "ArrowDown": (40, ""),
    "ArrowRight": (39, ""),
}


@dataclass
class Page:
    """One open page.

    Attributes:
        requests: Addresses asked for besides the page itself and ``data:`` addresses.
        console_errors: Errors in the console, refusals by the content-security policy included.
    """

    _socket: Any
    _session: str = ""
    _last_id: int = 0
    _loaded: bool = False
    _own_address: str = ""
    requests: list[str] = field(default_factory=list)
    console_errors: list[str] = field(default_factory=list)

    def evaluate(self, javascript: str) -> Any:
        """The value of an expression in the page, as JSON gives it."""
        answer = self._call(
            "Runtime.evaluate",
            {"expression": javascript, "returnByValue": True, "awaitPromise": True},
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release one key: Tab, Enter, Escape, an arrow, or the space bar."""
        code, text = _KEYS[key]
        event: dict[str, Any] = {"key": key, "code": "Space" if key == " " else key}
        event |= {"windowsVirtualKeyCode": code}
        down = {"type": "keyDown" if text else "rawKeyDown", **event}
        self._call("Input.dispatchKeyEvent", down | ({"text": text} if text else {}))
        self._call("Input.dispatchKeyEvent", {"type": "keyUp", **event})

    def screenshot(self, path: Path | str, full: bool = True) -> None:
        """Write the whole page, or what is in view, as PNG."""
        answer = self._call(
            "Page.captureScreenshot", {"captureBeyondViewport": full} | self._clip(full)
        )
        Path(path).write_bytes(base64.b64decode(answer["data"]))

    def pdf(self, path: Path | str) -> None:
        """Write the page as it prints."""
        answer = self._call("Page.printToPDF", {"printBackground": False})
        Path(path).write_bytes(base64.b64decode(answer["data"]))

    def emulate(self, media: str = "screen", scheme: str = "light") -> None:
        """Show the page for ``screen`` or ``print``, in ``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._call("Emulation.setEmulatedMedia", {"media": media, "features": [feature]})

    def _clip(self, full: bool) -> dict[str, Any]:
        if not full:
            return {}
        size = self._call("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        return {"clip": clip}

    def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == self._last_id:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        details = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                address = details["request"]["url"]
                if not address.startswith("data:") and address != self._own_address:
                    self.requests.append(address)
            case "Runtime.exceptionThrown":
                self.console_errors.append(json.dumps(details["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if details["type"] in ("error", "assert"):
                self.console_errors.append(json.dumps(details["args"]))
            case "Log.entryAdded" if details["entry"]["level"] == "error":
                self.console_errors.append(details["entry"]["text"])
            case "Page.loadEventFired":
                self._loaded = True

    def _open(self, address: str, width: int, height: int) -> None:
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable", {})
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._call("Emulation.setDeviceMetricsOverride", metrics)
        self._own_address = address
        self._loaded = False
        if failure := self._call("Page.navigate", {"url": address}).get("errorText"):
            raise AssertionError(f"{address}: {failure}")
        while not self._loaded:
            self._note(json.loads(self._socket.recv()))
        # What the page would ask for after it has loaded shows within two frames.
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 150)))")


@contextmanager
def open_page(
    path: Path | str, width: int = 1000, height: int = 800, scheme: str = "light"
) -> Iterator[Page]:
    """Open a file in a fresh Chromium with an empty profile, and close both afterwards.

    Args:
        path: The page.
        width: Of the window, CSS pixels; below 500 the page is shown as on a phone.
        height: Of the window, CSS pixels.
        scheme: ``light`` or ``dark``, as the reader's system prefers.
    """
    import websocket

    if CHROMIUM is None:
        raise RuntimeError("there is no chromium on the PATH")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
        )
        try:
            socket = websocket.create_connection(
                _endpoint(process, Path(profile)), timeout=_PATIENCE_SECONDS, suppress_origin=True
            )
            try:
                page = Page(socket)
                page._open(Path(path).resolve().as_uri(), width, height)
                page.emulate(scheme=scheme)
                yield page
            finally:
                socket.close()
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _endpoint(process: "subprocess.Popen[bytes]", profile: Path) -> str:
    """The browser's DevTools address, which it writes into its profile when it is ready."""
    announced = profile / "DevToolsActivePort"
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"chromium ended with code {process.returncode} before it was ready")
        lines = announced.read_text().splitlines() if announced.exists() else []
        if len(lines) >= 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise RuntimeError(f"chromium was not ready after {_PATIENCE_SECONDS} seconds")
