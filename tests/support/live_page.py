"""A live page's server, as its pages see it: events and actions."""

import contextlib
import http.client
import json
import time
import urllib.request

HOSTILE = "<img src=x onerror=alert(1)>"  # must stay text on every page


class Events:
    """One page's stream of events; a read takes at most `timeout` seconds."""

    def __init__(self, port: int, timeout: float = 20):
        self._stream = urllib.request.urlopen(f"http://127.0.0.1:{port}/events", timeout=timeout)

    def close(self) -> None:
        self._stream.close()

    def __iter__(self):
        for line in self._stream:
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])

    def until(self, fact, timeout=20.0):
        """Return the first event for which a fact holds."""
        deadline = time.monotonic() + timeout
        for event in self:
            if fact(event):
                return event
            assert time.monotonic() < deadline, event
        raise AssertionError("the stream has ended")


def do(port: int, action: str, arguments: dict, **headers) -> tuple[int, dict | bytes]:
    """Return the status and the answer of an action."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(link):
        link.request("POST", f"/do/{action}", json.dumps(arguments), headers)
        response = link.getresponse()
        answer = response.read()
        is_json = response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(answer) if is_json else answer
