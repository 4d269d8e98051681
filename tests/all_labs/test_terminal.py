"""What interactive clients read and print: text of other editors, and text of hostile servers."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.all_labs.scripts import INTERACTIVE, OTHERS
from tests.support.harness import ROOT, load

CLEAR = "\x1b[2J"  # clears a terminal's screen
HOSTILE = f"a{CLEAR}b\x9b2J\r\n\u202ec"  # with the control sequence in 8 bits, and text to the left
HARMLESS = r"a\x1b[2Jb\x9b2J\r\n\u202ec"


@pytest.mark.parametrize("script", INTERACTIVE)
def test_a_byte_order_mark_is_no_part_of_the_first_command(spawn, script):
    client = spawn(script, *dict(OTHERS)[script])
    client.write("\ufeffexit\nhelp\n")
    client.close_stdin()
    assert client.wait() == 0
    assert "ommands" not in client.out and "\ufeff" not in client.out


@pytest.mark.parametrize("script", INTERACTIVE)
@pytest.mark.parametrize("word", ["exit", "quit"])
def test_exit_and_quit_both_end_a_client(spawn, script, word):
    client = spawn(script, *dict(OTHERS)[script])
    client.write(f"{word}\r\nhelp\r\n")
    assert client.wait() == 0
    assert "ommands" not in client.out


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(st.text())
def test_printable_text_stays_and_all_else_is_escaped(text):
    shown = load(ROOT / "lab04_grpc/cli.py").printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


@pytest.fixture
def hostile():
    """Start a gRPC server of a lab's service: hostile(lab, proto, service, method=answer, ...)."""
    servers, pool = [], ThreadPoolExecutor(4)

    def start(lab, proto, service, **answers):
        rpc = load(ROOT / lab / "rpc.py")
        messages, services = rpc.compile_proto(proto)
        base = getattr(services, f"{service}Servicer")
        methods = {name: make_method(messages, answer) for name, answer in answers.items()}
        server = grpc.server(pool)
        add = getattr(services, f"add_{service}Servicer_to_server")
        add(type("Hostile", (base,), methods)(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return port

    yield start
    for server in servers:
        server.stop(None).wait()
    pool.shutdown()


def make_method(messages, answer):
    """Return a servicer's method that gives an answer, which is made with the messages."""

    def method(self, request, context):
        return answer(messages, context)

    return method


def refuse(messages, context):
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, HOSTILE)


def test_no_text_of_lab_4s_server_controls_the_terminal(hostile, spawn):
    port = hostile(
        *("lab04_grpc", "service.proto", "TextTools"),
        isprime=lambda messages, context: iter([messages.IsPrimeReply(text=HOSTILE)]),
        reverse=lambda messages, context: messages.ReverseReply(message=HOSTILE),
        split=refuse,
    )
    client = spawn("lab04_grpc/client.py", f"127.0.0.1:{port}")
    client.write("isprime 7\nreverse a\nsplit a\n")
    client.close_stdin()
    assert client.wait() == 0
    assert client.out.isascii() and "\x1b" not in client.out and "\r" not in client.out
    assert client.lines[0] == HARMLESS
    assert client.lines[1] == r'message: "a\033[2Jb\302\2332J\r\n\342\200\256c"'
    assert client.lines[3].startswith(r"INVALID_ARGUMENT: a\x1b[2Jb\x9b2J")
    assert len(client.lines) == 5


def test_no_text_of_lab_6s_server_controls_the_terminal(hostile, spawn):
    port = hostile(
        *("lab06_raft", "raft.proto", "Raft"),
        GetLeader=lambda messages, context: messages.GetLeaderReply(leader_id=0, address=HOSTILE),
        GetVal=lambda messages, context: messages.GetValReply(success=True, value=HOSTILE),
        SetVal=refuse,
    )
    client = spawn("lab06_raft/client.py")
    client.write(f"connect 127.0.0.1 {port}\ngetleader\ngetval a\nsetval a b\n")
    client.close_stdin()
    assert client.wait() == 0
    assert client.lines[1:3] == [f"0 {HARMLESS}", HARMLESS]
    assert client.lines[3].startswith(r"a\x1b[2Jb\x9b2J")
    assert client.out.isascii() and len(client.lines) == 5
