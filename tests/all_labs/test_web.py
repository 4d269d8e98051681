"""web.py, which serves the live pages: what it answers, what it bounds, how it sends events."""

import contextlib
import http.client
import json
import socket
import threading

import pytest

from tests.support.harness import ROOT, load, wait_until

web = load(ROOT / "lab06_raft/web.py")
PAGE = "<style>p{}</style><p>a page</p><script>go()</script>"


def echo(arguments):
    if "wrong" in arguments:
        raise ValueError("<b>wrong</b>")
    return arguments


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "MAX_CONNECTIONS", 4)
    (tmp_path / "page.html").write_text(PAGE)
    server = web.Server(0, tmp_path / "page.html", web.Feed(keep=3), {"echo": echo})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask(server, method, path, body=None, **headers):
    """Return (status, body, headers) of one request; its Host is right if none is given."""
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with contextlib.closing(link):
        link.request(method, path, body, headers)
        answer = link.getresponse()
        return answer.status, answer.read(), answer.headers


@contextlib.contextmanager
def reading(server):
    """Yield what reads one event after another, as a page does."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as link:
        link.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % server.port)
        with link.makefile("rb") as lines:
            yield lambda: next(line[6:] for line in lines if line.startswith(b"data: "))


# --- Who may ask ---


FOREIGN = [
    {"Host": "evil.example"},
    {"Host": "127.0.0.1"},
    {"Host": "127.0.0.1:1"},
    {"Host": ""},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize(
    "request_line", [("GET", "/"), ("GET", "/events"), ("POST", "/do/echo", "{}")], ids=str
)
def test_a_foreign_host_or_origin_is_refused(server, request_line, headers):
    status, body, _ = ask(server, *request_line, **headers)
    assert status == 403 and b"a page" not in body


def test_two_hosts_or_a_foreign_origin_beside_its_own_are_refused(server):
    own = f"127.0.0.1:{server.port}"
    for more in (f"Host: {own}", f"Origin: http://{own}\r\nOrigin: http://evil.example"):
        with socket.create_connection(("127.0.0.1", server.port), 10) as link:
            link.sendall(f"GET / HTTP/1.1\r\nHost: {own}\r\n{more}\r\n\r\n".encode())
            assert b" 403 " in link.makefile("rb").readline()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_its_own_page_may_do_things_under_both_names(server, name):
    own = {"Host": f"{name}:{server.port}", "Origin": f"http://{name}:{server.port}"}
    assert ask(server, "GET", "/", **own)[0] == 200
    assert ask(server, "POST", "/do/echo", '{"a": "<b>"}', **own)[:2] == (200, b'{"a": "<b>"}')


def test_the_browser_is_told_to_run_only_what_the_file_holds(server):
    status, body, headers = ask(server, "GET", "/")
    assert (status, body.decode()) == (200, PAGE)
    policy = headers["Content-Security-Policy"].split("; ")
    assert "script-src 'sha256-5KYv+PUboo5h+0+YAtGRPbwv5d/QxzHslP4YGnUaxRw='" in policy
    assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} <= set(policy)
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_it_listens_on_loopback_alone(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


# --- Actions ---


@pytest.mark.parametrize(
    "path, body, status",
    [
        ("/do/echo", "{", 400),
        ("/do/echo", "[]", 400),
        ("/do/echo", "[" * 60_000, 400),
        ("/do/echo", b"\xff", 400),
        ("/do/other", "{}", 404),
        ("echo", "{}", 404),
        ("/do/echo", '{"a": "%s"}' % ("x" * 65_000), 200),
        ("/do/echo", '{"a": "%s"}' % ("x" * 65_536), 413),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_action_gets_an_object_of_bounded_size(server, path, body, status):
    assert ask(server, "POST", path, body)[0] == status


@pytest.mark.parametrize(
    "length, status", [("", 411), ("-1", 411), ("1e3", 411), ("9" * 5000, 413)]
)
def test_a_length_that_is_none_or_too_large_is_refused_before_the_body(server, length, status):
    with socket.create_connection(("127.0.0.1", server.port), 10) as link:
        link.sendall(
            b"POST /do/echo HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %s\r\n\r\n"
            % (server.port, length.encode())
        )
        link.shutdown(socket.SHUT_WR)
        assert b" %d " % status in link.makefile("rb").readline()


def test_the_reason_of_a_refused_action_is_json(server):
    status, body, headers = ask(server, "POST", "/do/echo", '{"wrong": 1}')
    assert (status, json.loads(body)) == (400, {"error": "<b>wrong</b>"})
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"


# --- Events ---


def test_a_new_page_gets_the_latest_events_and_then_all_that_follow(server):
    for number in range(5):
        server.feed.publish({"n": number})
    with reading(server) as first, reading(server) as second:
        assert [json.loads(first())["n"] for _ in range(3)] == [2, 3, 4]
        assert [json.loads(second())["n"] for _ in range(3)] == [2, 3, 4]
        server.feed.publish({"n": "a\nb"})
        assert json.loads(first()) == json.loads(second()) == {"n": "a\nb"}


def test_without_events_a_page_hears_that_the_server_is_alive(server):
    with reading(server) as event:
        assert event() == b"1\n"


def test_a_reader_that_is_slow_misses_what_is_no_longer_kept():
    feed = web.Feed(keep=2)
    for number in range(5):
        feed.publish({"n": number})
    assert feed.read(1, 0) == (5, b'data: {"n":3}\n\ndata: {"n":4}\n\n')
    assert feed.read(5, 0) == (5, b"")


def test_more_connections_than_allowed_are_closed_until_others_end(server):
    with contextlib.ExitStack() as pages:
        events = [pages.enter_context(reading(server)) for _ in range(4)]
        server.feed.publish({"n": 1})
        assert [event() for event in events] == [b'{"n":1}\n'] * 4
        with socket.create_connection(("127.0.0.1", server.port), 10) as link:
            assert link.recv(1) == b""
    wait_until(lambda: answers(server), "a place for one more")


def answers(server) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return ask(server, "GET", "/")[0] == 200
    return False
