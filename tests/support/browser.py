"""Chromium without a window, over its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
from octavo_server import free_port
from websockets.sync.client import connect


def chromium() -> str | None:
    return shutil.which("chromium")


class Navigated(Exception):
    """The page was left while it was asked."""


class Browser:
    """One page. `problems`: what its console complained of; `hosts`: whom it asked."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 900) -> None:
        port = free_port()
        self.process = subprocess.Popen(
            [
                *(str(chromium()), "--headless=new", "--no-sandbox", "--disable-gpu"),
                *("--disable-background-networking", "--no-first-run", "--disable-dev-shm-usage"),
                *(f"--user-data-dir={folder}", f"--remote-debugging-port={port}"),
                *(f"--window-size={width},{height}", "about:blank"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._port = port
        self._stack = contextlib.ExitStack()
        # Chromium answers no pings, for want of which the line would be cut after 40 seconds.
        address = _address(port)
        line = connect(address, max_size=None, ping_interval=None)
        self._socket = self._stack.enter_context(line)
        self._numbers = itertools.count(1)
        self.problems: list[str] = []
        self.hosts: set[str] = set()
        self._paths: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            if message.get("id") == number:
                if "navigated" in message.get("error", {}).get("message", ""):
                    raise Navigated
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message["method"]:
            case "Runtime.exceptionThrown":
                self.problems.append(str(params["exceptionDetails"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.problems.append(str(params["entry"]))
            case "Network.requestWillBeSent":
                url = httpx.URL(params["request"]["url"])
                self._paths.append(url.path)
                self.hosts |= {f"{url.host}:{url.port}"} if url.scheme.startswith("http") else set()

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        address = json.dumps(url)  # not the page before, which is complete as well
        self.until(f"location.href === {address} && document.readyState === 'complete'")

    def requests(self, path: str) -> int:
        """How often it has asked for that."""
        self.run("1")  # hears what there is to hear
        return self._paths.count(path)

    def reload(self) -> None:
        self.run("window.isOld = true")
        self.call("Page.reload")
        self.until("!window.isOld && document.readyState === 'complete'")

    def tab(self, url: str) -> str:
        """Another one, in front of those there are; returns its id."""
        return str(httpx.put(f"http://127.0.0.1:{self._port}/json/new?{url}").json()["id"])

    def close_tab(self, tab: str) -> None:
        httpx.get(f"http://127.0.0.1:{self._port}/json/close/{tab}")

    def run(self, script: str) -> Any:
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, condition: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not self._holds(condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.1)

    def _holds(self, condition: str) -> bool:
        try:
            return bool(self.run(f"Boolean({condition})"))
        except Navigated:
            return False

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def prefer(self, theme: str) -> None:
        """What the system is set to: dark or light."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **text)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        self._stack.close()
        self.process.terminate()
        self.process.wait(10)


def _address(port: int) -> str:
    deadline = time.monotonic() + 30
    while True:
        try:
            pages = httpx.get(f"http://127.0.0.1:{port}/json").json()
            return str(next(one["webSocketDebuggerUrl"] for one in pages if one["type"] == "page"))
        except (httpx.HTTPError, StopIteration):
            assert time.monotonic() < deadline, "chromium did not start"
            time.sleep(0.1)
