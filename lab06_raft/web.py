"""The web server of a lab's live page, watch.html; the standard library and cli.py only.

    GET  /           the page, an HTML file with its style and script inside
    GET  /events     what happens, as server-sent events: each page gets the same ones
    POST /do/NAME    an action: a JSON object comes in, a JSON object goes out

Labs 5 and 6 have a copy of this file each, so that each folder runs alone; a test keeps
the copies identical.

It listens on 127.0.0.1 alone. A page of another site in the same browser must neither read nor do
anything here, so a request is refused unless Host, and Origin where there is one, are this server's
own. The browser runs no script and takes no style but those of the file, whose hashes it is told.
"""

import base64
import hashlib
import http.server
import json
import re
import socketserver
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import cli

HOST = "127.0.0.1"
MAX_CONNECTIONS = 100  # a page has one, and one more for each action
MAX_BODY = 64 * 1024  # bytes
MAX_DROPPED = 1024 * 1024  # bytes of a larger body that are read all the same: see _refuse_body
IO_TIMEOUT = 10.0  # s for one read or write
ALIVE_INTERVAL = 1.0  # s without an event, then an empty one shows that this server still runs

Action = Callable[[dict], dict]


class Feed:
    """The latest events, for any number of readers.

    Each reader has only a number: how many events there were when it read last. One that is slow
    misses events, and costs nothing.

    Args:
        keep: how many events a new reader gets at once: 1 if each holds the whole state.
    """

    def __init__(self, keep: int):
        self._events: deque[bytes] = deque(maxlen=keep)
        self._count = 0
        self._changed = threading.Condition()

    def publish(self, event: dict) -> None:
        """Send an event to all readers, as JSON."""
        data = b"data: %s\n\n" % json.dumps(event, separators=(",", ":")).encode()
        with self._changed:
            self._events.append(data)
            self._count += 1
            self._changed.notify_all()

    def read(self, seen: int, timeout: float) -> tuple[int, bytes]:
        """Return the number of events so far, and those after the first `seen`.

        Wait for one if there is none; after `timeout` seconds there are none.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._count > seen, timeout)
            missed = min(self._count - seen, len(self._events))
            return self._count, b"".join(list(self._events)[len(self._events) - missed :])


class Server(socketserver.ThreadingTCPServer):
    """Serves one page, its events and its actions.

    Args:
        port: of 127.0.0.1; 0 for any. page: the HTML file. feed: the events.
        actions: by name. An action gets the JSON object that was sent, and returns one; if it
            raises ValueError, the text is the answer, as {"error": text} with the status 400.

    Raises:
        OSError: the port cannot be had.
    """

    allow_reuse_address = True  # of connections that have ended; not of one that listens
    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, port: int, page: Path, feed: Feed, actions: dict[str, Action]):
        super().__init__((HOST, port), Handler)
        self.port = self.server_address[1]
        self.page = page.read_bytes()
        self.feed = feed
        self.actions = actions
        self.hosts = [f"{name}:{self.port}" for name in (HOST, "localhost")]
        self.policy = content_security_policy(self.page.decode())
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def process_request(self, request, client_address) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request, client_address) -> None:
        """Say nothing if the other side has gone."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    """One request, on a connection of its own."""

    timeout = IO_TIMEOUT
    server_version, sys_version = "watch", ""

    def do_GET(self) -> None:
        if not self._is_own():
            self.send_error(403)
        elif self.path == "/":
            self._answer(200, "text/html; charset=utf-8", self.server.page)
        elif self.path == "/events":
            self._send_events()
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        action = self.server.actions.get(self.path.removeprefix("/do/"))
        length = self.headers.get("Content-Length", "")
        if not self._is_own():
            self._refuse_body(403)
        elif not action or not self.path.startswith("/do/"):
            self._refuse_body(404)
        elif not (length.isascii() and length.isdigit()):
            self._refuse_body(411)
        elif len(length) > len(str(MAX_BODY)) or int(length) > MAX_BODY:
            self._refuse_body(413)
        else:
            status, answer = self._act(action, self.rfile.read(int(length)))
            self._answer(status, "application/json", json.dumps(answer).encode())

    def _is_own(self) -> bool:
        """Tell whether the request names this server, and comes from its page or from no page."""
        hosts, origins = (self.headers.get_all(name, []) for name in ("Host", "Origin"))
        own = self.server.hosts
        return (
            len(hosts) == 1
            and hosts[0] in own
            and all(origin in [f"http://{host}" for host in own] for origin in origins)
        )

    def _act(self, action: Action, body: bytes) -> tuple[int, dict]:
        """Return the status and the answer of an action."""
        try:
            arguments = json.loads(body)
            if not isinstance(arguments, dict):
                raise ValueError("a JSON object is expected")
            return 200, action(arguments)
        except (ValueError, RecursionError) as error:
            return 400, {"error": str(error)}

    def _send_events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        seen = 0
        while True:
            seen, events = self.server.feed.read(seen, ALIVE_INTERVAL)
            self.wfile.write(events or b"event: alive\ndata: 1\n\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse_body(self, status: int) -> None:
        """Refuse a request; read its body, or the answer might be lost with the connection."""
        self.send_error(status)
        self.wfile.flush()
        length = self.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit():
            self.rfile.read(min(int(length[:9]), MAX_DROPPED))

    def end_headers(self) -> None:
        for name, value in (
            ("Content-Security-Policy", self.server.policy),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format, *args) -> None:
        """Say nothing of each request."""


def add_port(parser, default: int) -> None:
    """Add the option --port of a page's script to its arguments."""
    help = "of the page, on 127.0.0.1; 0: any (default: %(default)s)"
    parser.add_argument("--port", type=cli.parse_port, default=default, help=help)


def serve(port: int, feed: Feed, actions: dict[str, Action], start: Callable[[], None]) -> int:
    """Serve the page beside this file until a stop signal; return the exit status.

    Args:
        port, feed, actions: see Server. start: is called once the port is there.
    """
    try:
        server = Server(port, Path(__file__).with_name("watch.html"), feed, actions)
    except OSError as error:
        return cli.complain(cli.cannot_listen(HOST, port, error))
    start()
    cli.report_ready(f"Open http://{HOST}:{server.port}")
    cli.end_on_signal()
    server.serve_forever()
    return 0


def content_security_policy(page: str) -> str:
    """Return the header that allows a page the script and the style inside it, and no others."""

    def hashes(element: str) -> str:
        inside = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in inside]
        return " ".join(f"'sha256-{digest.decode()}'" for digest in digests) or "'none'"

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
