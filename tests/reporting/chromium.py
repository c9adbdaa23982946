"""A headless Chromium that tests steer over its debugging pipe: no driver program, no port, no further package.

The protocol is JSON on two pipes, each message ended by a NUL byte: Chromium reads from file descriptor 3 and writes to 4.
https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds to wait for an answer, on a machine that is busy (chosen here)."""
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --no-default-browser-check "
    "--disable-background-networking --disable-component-update --disable-sync --disable-default-apps "
    "--disable-dev-shm-usage --disable-extensions --hide-scrollbars --force-color-profile=srgb --mute-audio"
).split()
# The pipes' ends get the numbers that Chromium wants only in a process of their own, where nothing else has them.
STARTER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)

KEYS = {  # key -> (code, virtual key code, text)
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    "Tab": ("Tab", 9, ""),
    "Backspace": ("Backspace", 8, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
    "Home": ("Home", 36, ""),
    "End": ("End", 35, ""),
    " ": ("Space", 32, " "),
}


class BrowserError(Exception):
    """Chromium did not do as it was told, or a page's expression threw."""


def find() -> str | None:
    """The path of an installed Chromium, None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class Tab:
    """One page. errors: what the console, the page's policy and its scripts complained of; console: all that was
    logged; requests: every address that was asked for; dialogs: the texts of alert() and its kin."""

    browser: Browser
    session: str
    errors: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    loads: int = 0

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer's result. Raises BrowserError."""
        return self.browser.command(method, self.session, **params)

    def open(self, address: str | Path) -> None:
        """Goes to a file or an address and waits until it has loaded. Another #part of the same page counts as loaded."""
        url = address.resolve().as_uri() if isinstance(address, Path) else address
        before = self.loads
        answer = self.command("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        if "loaderId" in answer:
            self.browser.wait(lambda: self.loads > before, f"{url} to load")

    def js(self, expression: str) -> Any:
        """The value of an expression, or what its promise resolves to. Raises BrowserError for one that throws."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {_said(answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Waits until an expression is true. Raises BrowserError when that takes too long."""
        self.browser.wait(lambda: self._holds(expression), f"{expression} to be true", pause=0.02)

    def _holds(self, expression: str) -> bool:
        try:
            return bool(self.js(expression))
        except BrowserError as error:
            # A page that is being left for another can't be asked; the next one can.
            if "target navigated" in str(error):
                return False
            raise

    def settle(self) -> None:
        """Waits for two frames: what a script asked to be drawn has been."""
        self.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def press(self, *keys: str, shift: bool = False, ctrl: bool = False) -> None:
        """Presses keys one after the other, as a person would: letters, "Enter", "ArrowLeft", "?" and so on."""
        for key in keys:
            code, number, text = KEYS.get(key) or ("", ord(key.upper()) if key.isalnum() else 0, key)
            common = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": 8 * shift + 2 * ctrl}
            # A key that writes something says so; with Ctrl nothing is written.
            writes = {"text": text} if text and not ctrl else {}
            self.command("Input.dispatchKeyEvent", type="keyDown" if writes else "rawKeyDown", **common, **writes)
            self.command("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, selector: str) -> None:
        """Clicks the middle of the first element that fits, scrolled into view."""
        x, y = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        common = {"x": x, "y": y, "button": "left", "clickCount": 1}
        self.command("Input.dispatchMouseEvent", type="mousePressed", **common)
        self.command("Input.dispatchMouseEvent", type="mouseReleased", **common)

    def size(self, width: int, height: int, *, scale: float = 1, phone: bool = False) -> None:
        """The window in CSS pixels, each of scale x scale device pixels; phone: viewport and touch of one."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        self.command("Emulation.setTouchEmulationEnabled", enabled=phone)

    def prefer(self, **features: str) -> None:
        """Media features, such as prefers_color_scheme="dark"."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.command("Emulation.setEmulatedMedia", features=named)

    def screenshot(self, path: Path, *, full: bool = False) -> None:
        """A PNG of the window; full: of the whole page."""
        clip = {}
        if full:
            box = self.command("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {**box, "scale": 1}, "captureBeyondViewport": True}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png", **clip)["data"]))

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """An event of this tab."""
        match method:
            case "Page.loadEventFired":
                self.loads += 1
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.consoleAPICalled":
                text = " ".join(str(each.get("value", each.get("description"))) for each in params["args"])
                self.console.append(text)
                if params["type"] in ("error", "assert"):
                    self.errors.append(text)
            case "Runtime.exceptionThrown":
                self.errors.append(_said(params["exceptionDetails"]))
            case "Log.entryAdded":
                entry = params["entry"]
                self.console.append(entry["text"])
                if entry["level"] in ("error", "warning"):
                    self.errors.append(f"{entry['text']} {entry.get('url', '')}".strip())
            case "Page.javascriptDialogOpening":
                self.dialogs.append(params["message"])
                self.browser.send("Page.handleJavaScriptDialog", self.session, accept=False)


def _said(exception: dict[str, Any]) -> str:
    return str(exception.get("exception", {}).get("description") or exception["text"])


class Browser:
    """A running Chromium. Use `launch`."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._number = 0
        self._rest = b""
        self._answers: dict[int, dict[str, Any]] = {}
        self._tabs: dict[str, Tab] = {}

    def tab(self) -> Tab:
        """A new empty page, which shares neither storage nor events with others."""
        context = self.command("Target.createBrowserContext")["browserContextId"]
        target = self.command("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._tabs[session] = tab = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.command(f"{domain}.enable")
        tab.command("Emulation.setFocusEmulationEnabled", enabled=True)
        tab.size(1280, 900)
        return tab

    def close(self, tab: Tab) -> None:
        """Closes a page."""
        tab.command("Page.close")
        del self._tabs[tab.session]

    def send(self, method: str, session: str = "", **params: Any) -> int:
        """The number under which the answer will come."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        content = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while content:
            content = content[os.write(self._write, content) :]
        return self._number

    def command(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """The answer's result. Raises BrowserError where Chromium refuses, is silent for too long, or has ended."""
        number = self.send(method, session, **params)
        self.wait(lambda: number in self._answers, method)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def wait(self, done: Callable[[], bool], what: str, *, pause: float = 0.25) -> None:
        """Listens until `done`. Raises BrowserError."""
        end = time.monotonic() + PATIENCE  # noqa: TID251 - how long a browser that hangs is waited for
        while not done():
            if time.monotonic() > end:  # noqa: TID251 - as above
                raise BrowserError(f"waited {PATIENCE:g} s for {what}")
            self._listen(pause)

    def _listen(self, seconds: float) -> None:
        """Takes in what has been said by now, or waits for it so long."""
        if not select.select([self._read], [], [], seconds)[0]:
            return
        content = os.read(self._read, 1 << 20)
        if not content:
            raise BrowserError("Chromium has ended")
        *messages, self._rest = (self._rest + content).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            elif tab := self._tabs.get(message.get("sessionId", "")):
                tab.heard(message["method"], message["params"])


def _pipe() -> tuple[int, int]:
    """(read, write), with numbers that are not 3 or 4."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]


@contextlib.contextmanager
def launch(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile in a new folder, ended with the block. Needs an installed Chromium (`find`)."""
    path = find()
    assert path
    (theirs_in, ours_out), (ours_in, theirs_out) = _pipe(), _pipe()
    starter = [sys.executable, "-c", STARTER, str(theirs_in), str(theirs_out)]
    process = subprocess.Popen(
        [*starter, path, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
    )
    os.close(theirs_in)
    os.close(theirs_out)
    browser = Browser(process, ours_out, ours_in)
    try:
        yield browser
        browser.send("Browser.close")
    finally:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(ours_out)
        os.close(ours_in)
