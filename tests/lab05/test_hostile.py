"""Lab 5 among hostile peers: whatever they send, the ring serves on."""

import argparse
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab05.ring import Ring, wait_until
from tests.support.harness import ROOT, load

wire = load(ROOT / "lab05_chord/wire.py")
RECEIVED = ["Registration", "Departure", "Heartbeat", "View"]
RECEIVED += ["Operation", "DigestRequest", "FetchRequest", "Copies", "LeaseRequest"]
ANYTHING = settings(derandomize=True, max_examples=100, deadline=None)
LARGEST = 2**63 - 1


def messages_of(descriptor, depth=3):
    """Any message of a type: every field set to anything, or not at all."""
    fields = {}
    for field in descriptor.fields:
        if field.message_type:
            value = messages_of(field.message_type, depth - 1)
        elif field.type == field.TYPE_STRING:
            value = st.text(max_size=5)
        elif field.type == field.TYPE_BOOL:
            value = st.booleans()
        else:
            bits = 31 if field.type == field.TYPE_INT32 else 63
            value = st.integers(-(2**bits), 2**bits - 1) | st.integers(-1, 40)
        repeated = field.default_value == []
        fields[field.name] = st.lists(value, max_size=3) if repeated else value
    kind = getattr(wire.messages, descriptor.name)
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: kind(**given))


@pytest.mark.parametrize("name", RECEIVED)
def test_any_message_is_a_value_or_a_value_error(name):
    @ANYTHING
    @given(messages_of(getattr(wire.messages, name).DESCRIPTOR))
    def check(message):
        try:
            value = wire.from_message(message)
        except ValueError:
            return
        assert wire.from_message(wire.to_message(value)) == value

    check()


@ANYTHING
@given(st.text(max_size=40))
def test_the_client_splits_any_line_into_a_key_and_a_text(line):
    split_key = load(ROOT / "lab05_chord/Client.py").split_key
    key, rest = split_key(line)
    assert key in line and rest in line
    if line.strip() and not any(quote in line for quote in "\"“”„'‘’‚`"):
        assert line.strip().split(None, 1) == [key, *[rest] * bool(rest)]


@pytest.mark.parametrize(
    "line",
    ["'a b' text", "‘a b’ text", "'a", '"a', '"a b', '"a"b', '"a"text more', "“a b", "`a` b"],
)
def test_a_key_in_quotes_that_are_not_the_right_ones_is_no_key(line):
    assert load(ROOT / "lab05_chord/Client.py").split_key(line) == ("", "")


@pytest.mark.parametrize(
    "line, parts",
    [
        ("Some's text", ("Some's", "text")),
        ('"\'tis" x', ("'tis", "x")),
        ('3" pipe', ('3"', "pipe")),
        ('„a b“ "c" d', ("a b", '"c" d')),
    ],
)
def test_quotes_inside_a_key_or_a_text_are_a_part_of_it(line, parts):
    assert load(ROOT / "lab05_chord/Client.py").split_key(line) == parts


@ANYTHING
@given(st.text(alphabet="0123456789:[]x.- ٣²", max_size=12))
def test_any_argument_is_taken_or_named(text):
    registry = load(ROOT / "lab05_chord/Registry.py")
    for parse in (registry.parse_m, registry.parse_endpoint):
        with contextlib.suppress(argparse.ArgumentTypeError):
            parse(text)


def test_no_call_of_a_stranger_stops_a_ring(spawn, rpc):
    ring = Ring(spawn, 3)
    node, registry = rpc.node(ring.nodes[0]), rpc.registry(ring)
    r = registry.populate_finger_table(rpc.Heartbeat(id=-1), timeout=5).view.ring
    view = rpc.View(epoch=9, m=5, ring=r, members=[rpc.Node(id=24, address="a:1")] * 2)
    other = rpc.View(epoch=99, m=5, ring=r + 1, members=[rpc.Node(id=24, address="a:1")])
    record = rpc.Record(key="Kazan", version=LARGEST, text="x")
    hostile = [
        (registry.register, rpc.Registration()),
        (registry.register, rpc.Registration(ipaddr="a", port=-1, wish=LARGEST)),
        (registry.deregister, rpc.Departure(id=-1, address="x")),
        (registry.populate_finger_table, rpc.Heartbeat(id=-1, epoch=LARGEST)),
        (registry.populate_finger_table, rpc.Heartbeat(id=-1, in_sync_epoch=LARGEST)),
        (registry.restore, rpc.View(epoch=LARGEST, m=5)),
        (registry.restore, rpc.View(epoch=2**30, m=5)),
        (registry.restore, rpc.View(epoch=9, m=6)),
        (registry.restore, view),
        (node.install, view),
        (node.install, rpc.View(epoch=9, ring=r)),
        (node.install, other),
        (node.digest, rpc.DigestRequest(to=24, view=other)),
        (node.install, rpc.View(epoch=9, m=5, ring=r, members=[rpc.Node(id=32, address="a:1")])),
        (node.digest, rpc.DigestRequest(to=24)),
        (node.digest, rpc.DigestRequest(to=24, view=view, after=-1, upto=LARGEST)),
        (node.digest, rpc.DigestRequest(to=24, view=rpc.View(epoch=LARGEST, m=5, ring=r))),
        (node.replicate, rpc.Copies(to=24, epoch=LARGEST, records=[record], ring=r)),
        (node.replicate, rpc.Copies(to=24, epoch=3, records=[record], ring=r)),
        (node.fetch, rpc.FetchRequest(keys=["", "nowhere"], ring=r)),
        (node.grant_lease, rpc.LeaseRequest(epoch=LARGEST, ring=r)),
        (node.route, rpc.Operation(kind=77, ring=r)),
        (node.route, rpc.Operation(kind=2, ring=r)),
        (node.route, rpc.Operation(kind=0, avoid=[-1, LARGEST], ring=r)),
    ]
    for call, request in hostile:
        with contextlib.suppress(rpc.error):
            call(request, timeout=2)
    wait_until(lambda: rpc.is_whole(ring), "the ring to be whole")
    assert node.save(rpc.SaveRequest(key="Kazan", text="mine"), timeout=9).success
    ring.join()
    assert rpc.node(ring.nodes[2]).get(rpc.KeyRequest(key="Kazan"), timeout=9).text == "mine"
    assert [script.err for script in ring.nodes] == [""] * 4
    assert "Traceback" not in ring.registry.err


HOSTILE = "\x1b]0;owned\x07\x9b31m\u202e"  # sets a window's title, colours, turns the text round


def test_no_text_of_others_controls_a_terminal(spawn, rpc):
    """A key and a text of another client, the addresses of a false node, errors, a registry."""
    ring = Ring(spawn, 1)
    node = ring.nodes[0]
    key = f"key {HOSTILE}"
    stub = rpc.node(node)
    assert stub.save(rpc.SaveRequest(key=key, text=f"text {HOSTILE}\nFalse"), timeout=9).success
    seen = ring.ask(f'get "{key}"', f'save "{key}" x', f"remove nothing{HOSTILE}", at=node)
    assert len(seen) == 4 and seen[1].endswith(r"\nFalse")

    class Liar(wire.services.NodeServiceServicer, wire.services.RegistryServiceServicer):
        def get_finger_table(self, request, context):
            nodes = [wire.messages.Node(id=1, address=HOSTILE)]
            return wire.messages.FingerTable(id=2, finger_table=nodes)

        def get_chord_info(self, request, context):
            return wire.messages.Nodes(nodes=[wire.messages.Node(id=1, address=HOSTILE)])

        def find(self, request, context):
            context.abort(wire.grpc.StatusCode.INTERNAL, f"owner\n{HOSTILE}")

        def register(self, request, context):
            return wire.messages.Registered(id=-1, reason=HOSTILE)

    for register in ("Node", "Registry"):
        with serving(Liar(), register) as port:
            seen += ring.ask("get_info", "find x", at=argparse.Namespace(port=port))
            if register == "Registry":
                refused = spawn("lab05_chord/Node.py", f"127.0.0.1:{port}", "127.0.0.1:0")
                assert refused.wait() == 1
                seen += refused.err.splitlines()
    assert len(seen) == 4 + 4 + 2 + 1
    for line in seen:
        assert line.isprintable(), line
    assert sum("owned" in line for line in seen) == 8


def test_the_registry_shows_the_address_of_a_false_node_escaped(spawn, rpc):
    ring = Ring(spawn, 1)  # with a node that is heard, or the false one would be waited for
    view = rpc.View(epoch=9, m=5, ring=1, members=[rpc.Node(id=1, address=HOSTILE)])
    assert rpc.registry(ring).restore(view, timeout=5).success
    assert ring.registry.expect_err("node 1 at .* is silent, it is out")[0].isprintable()


@contextlib.contextmanager
def serving(servicer, kind):
    """Run a servicer of ours as a node or a registry; yields its port."""
    server = wire.new_server()
    getattr(wire.services, f"add_{kind}ServiceServicer_to_server")(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


def test_a_malformed_reply_counts_as_no_reply():
    class Liar(wire.services.NodeServiceServicer):
        def install(self, request, context):
            return wire.messages.Ack(view=wire.messages.View(epoch=-1))

    threads = wire.Threads()
    with (
        serving(Liar(), "Node") as port,
        pytest.raises(wire.values.Unreachable, match="out of range"),
    ):
        threads.call(f"127.0.0.1:{port}", "install", wire.chord.View(), 5).block()
    for channel in threads.channels._open:
        channel.close()
