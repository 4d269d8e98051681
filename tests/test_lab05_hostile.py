"""Lab 5 among hostile peers: whatever they send, the ring serves on."""

import argparse
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import ROOT, load
from tests.lab05_ring import Ring, Rpc, wait_until

wire = load(ROOT / "lab05_chord/wire.py")
RECEIVED = ["Registration", "Departure", "Question", "View", "Operation", "Arc", "Keys", "Copies"]
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


@pytest.mark.parametrize("name", [*RECEIVED, "Epoch"])
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
    if key and not any(quote in line for quote in '"“”„'):
        assert line.strip().split(None, 1) == [key, *[rest] * bool(rest)]


@ANYTHING
@given(st.text(alphabet="0123456789:[]x.- ٣²", max_size=12))
def test_any_argument_is_taken_or_named(text):
    registry = load(ROOT / "lab05_chord/Registry.py")
    for parse in (registry.parse_m, registry.parse_endpoint):
        with contextlib.suppress(argparse.ArgumentTypeError):
            parse(text)


@pytest.fixture
def rpc():
    with contextlib.closing(Rpc()) as rpc:
        yield rpc


def test_no_call_of_a_stranger_stops_a_ring(spawn, rpc):
    ring = Ring(spawn, 3)
    node, registry = rpc.node(ring.nodes[0]), rpc.registry(ring)
    r = registry.populate_finger_table(rpc.Question(id=-1), timeout=5).view.ring
    view = rpc.View(epoch=9, m=5, ring=r, members=[rpc.Node(id=24, address="a:1")] * 2)
    other = rpc.View(epoch=99, m=5, ring=r + 1, members=[rpc.Node(id=24, address="a:1")])
    record = rpc.Record(key="Kazan", version=LARGEST, text="x")
    hostile = [
        (registry.register, rpc.Registration()),
        (registry.register, rpc.Registration(ipaddr="a", port=-1, wish=LARGEST)),
        (registry.deregister, rpc.Departure(id=-1, address="x")),
        (registry.populate_finger_table, rpc.Question(id=-1, epoch=LARGEST, settled=LARGEST)),
        (registry.restore, rpc.View(epoch=LARGEST, m=5)),
        (registry.restore, rpc.View(epoch=2**29, m=5)),
        (registry.restore, rpc.View(epoch=9, m=6)),
        (registry.restore, view),
        (node.install, view),
        (node.install, rpc.View(epoch=9, ring=r)),
        (node.install, other),
        (node.digest, rpc.Arc(to=24, view=other)),
        (node.install, rpc.View(epoch=9, m=5, ring=r, members=[rpc.Node(id=32, address="a:1")])),
        (node.digest, rpc.Arc(to=24)),
        (node.digest, rpc.Arc(to=24, view=view, after=-1, upto=LARGEST)),
        (node.digest, rpc.Arc(to=24, view=rpc.View(epoch=LARGEST, m=5, ring=r))),
        (node.replicate, rpc.Copies(to=24, epoch=LARGEST, records=[record], ring=r)),
        (node.replicate, rpc.Copies(to=24, epoch=3, records=[record], ring=r)),
        (node.fetch, rpc.Keys(keys=["", "nowhere"], ring=r)),
        (node.confirm, rpc.Epoch(epoch=LARGEST, ring=r)),
        (node.route, rpc.Operation(kind=77, ring=r)),
        (node.route, rpc.Operation(kind=2, avoid=[-1, LARGEST], ring=r)),
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


def test_an_answer_that_makes_no_sense_is_none():
    class Liar(wire.services.NodeServiceServicer):
        def install(self, request, context):
            return wire.messages.Accepted(view=wire.messages.View(epoch=-1))

    server = wire.new_server()
    wire.services.add_NodeServiceServicer_to_server(Liar(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    threads = wire.Threads()
    with pytest.raises(wire.values.Unreachable, match="out of range"):
        threads.call(f"127.0.0.1:{port}", "install", wire.chord.View(), 5).block()
    server.stop(0).wait()
