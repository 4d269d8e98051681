"""Lab 3's pipeline and strangers on its sockets: garbage, malformed and large messages."""

import contextlib
import random

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from tests.lab03.parts import Hand
from tests.support.harness import wait_until


def test_garbage_on_every_socket_does_not_stop_the_pipeline(pipeline):
    noise = random.Random(5)
    with Hand() as hand:
        answers = hand.connect(zmq.PUB, pipeline.ports[3])
        for _ in range(100):
            hand.ask(pipeline.ports[0], noise.randbytes(noise.randrange(40)))
            answers.send(noise.randbytes(noise.randrange(40)))
        with hand.connect(zmq.REQ, pipeline.ports[0]) as requests:
            requests.send_multipart([b"isprime", b"7"])
            assert requests.recv() == b"accepted"
        with hand.connect(zmq.REQ, pipeline.ports[0]) as requests:
            requests.send(b"isprime " + b"1" * 100_000)  # too long: the connection ends
            assert not requests.poll(200)
    client = pipeline.client()
    client.send("isprime 7")
    client.expect("7 is prime")


def test_a_malformed_message_of_a_client_that_left_costs_no_other_a_confirmation(pipeline):
    """libzmq's REP would lose the next one, if it came to read the message only then."""
    with Hand() as hand, hand.connect(zmq.REQ, pipeline.ports[0]) as honest:
        for _ in range(10):
            with hand.connect(zmq.DEALER, pipeline.ports[0]) as stranger:
                for each, message in ((honest, [b"isprime 7"]), (stranger, [b"", b"isprime 7"])):
                    each.send_multipart(message)
                    assert each.poll(20_000) and each.recv_multipart()[-1] == b"accepted"
                pipeline.broker.pause()
                stranger.linger = 1000
                stranger.send_multipart([b"no", b"empty", b"frame"])
            honest.send(b"isprime 7")
            pipeline.broker.resume()
            assert honest.poll(2000) and honest.recv() == b"accepted"


def test_what_is_no_subscription_takes_no_worker_out(pipeline):
    with Hand() as hand:
        stranger = hand.connect(zmq.XSUB, pipeline.ports[2])
        stranger.send(b"xisprime")
        stranger.send(b"\x01seen")

        def seen():
            return b"seen" in hand.ask(pipeline.ports[0], b"foo")

        wait_until(seen, "the server to hear the stranger")
        assert hand.ask(pipeline.ports[0], b"isprime 7") == b"accepted"


@pytest.mark.parametrize("index, kind", [*enumerate([zmq.REQ, zmq.XSUB, zmq.XSUB, zmq.PUB])])
def test_a_message_too_large_ends_its_connection_on_every_socket(parts, index, kind):
    parts.server()
    with Hand() as hand:
        stranger = hand.context.socket(kind)
        monitor = stranger.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        stranger.connect(f"tcp://127.0.0.1:{parts.ports[index]}")
        assert (
            monitor.poll(20_000)
            and recv_monitor_message(monitor)["event"] != zmq.EVENT_DISCONNECTED
        )

        def dropped():
            with contextlib.suppress(zmq.ZMQError):  # a REQ sends only once
                stranger.send(b"x" * 200_000, zmq.NOBLOCK)
            return monitor.poll(20)

        wait_until(dropped, "the connection to be dropped")
        assert recv_monitor_message(monitor)["event"] == zmq.EVENT_DISCONNECTED
        stranger.disable_monitor()
