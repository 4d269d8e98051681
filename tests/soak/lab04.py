"""Attacks on lab 4: streams by the thousand and cut midway, messages of any size, restarts."""

import contextlib
import threading
import time

import grpc

from tests.support.harness import ROOT, load, wait_until
from tests.support.ports import free_port
from tests.support.processes import resident, running
from tests.support.relays import TcpRelay

LIMIT = 4 << 20  # bytes of a message, gRPC's own
CALL_TIMEOUT = 60.0  # s, for a call
FLAT = 32 << 20  # bytes: what a server may keep of a thousand streams
TOO_LONG = "Too long: a text and its answer may have 4 MB each"
END = 'message: "enod"\n\n'
messages, services = load(ROOT / "lab04_grpc/rpc.py").compile_proto("service.proto")


class Streams:
    """isprime streams that have had their first answer and then wait for nothing."""

    def __init__(self, target: str, count: int):
        self.done = threading.Event()
        self.channel = grpc.insecure_channel(target)
        stub = services.TextToolsStub(self.channel)
        self.calls = [stub.isprime(self.numbers(), timeout=2 * CALL_TIMEOUT) for _ in range(count)]
        answers = [next(call).text for call in self.calls]
        assert answers == ["7 is prime"] * count

    def numbers(self):
        yield messages.IsPrimeRequest(num=7)
        self.done.wait(2 * CALL_TIMEOUT)

    def broken(self) -> int:
        """Return how many have ended with an error."""
        count = 0
        for call in self.calls:
            with contextlib.suppress(StopIteration):
                try:
                    next(call)
                except grpc.RpcError:
                    count += 1
        return count

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.done.set()
        self.channel.close()


def reverse(stub, text: str) -> str:
    return stub.reverse(messages.ReverseRequest(text=text), timeout=CALL_TIMEOUT).message


def streams(scale: float) -> str:
    """Calls go on beside idle streams; streams that are cut midway leave nothing behind."""
    count, rounds, sizes = max(10, round(1000 * scale)), 4, []
    with running("lab04_grpc/server.py", 0) as server, TcpRelay(server.port()) as relay:
        target = "{}:{}".format(*relay.server)
        with grpc.insecure_channel(target) as channel:
            stub = services.TextToolsStub(channel)
            with Streams(target, count):
                begun = time.monotonic()
                for number in range(count):
                    assert reverse(stub, f"{number}!") == f"{number}!"[::-1]
                elapsed = time.monotonic() - begun
            for _ in range(rounds):  # two at once would be all that the server takes
                with Streams(f"127.0.0.1:{relay.port}", count) as cut:
                    relay.cut()
                    assert cut.broken() == count
                for _ in range(5):
                    with running("lab04_grpc/client.py", target) as client:
                        client.send("isprime" + " 9223372036854775783" * 40_000)
                        client.expect("is prime$")
                        client.kill()
                        assert client.out.count("prime") < 40_000, "not killed midway"
                assert reverse(stub, "abc") == "cba"
                sizes.append(resident(server.pid))
        assert server.err == "" and max(sizes) - sizes[0] < FLAT, f"server: {sizes} bytes"
    return (
        f"{count} calls beside {count} idle streams, {count / elapsed:.0f} a second; "
        f"{rounds * count} streams cut and {rounds * 5} clients killed midway, "
        f"server {sizes[0] >> 20} MB, then {sizes[-1] >> 20} MB"
    )


def sizes(scale: float) -> str:
    """Texts at and over the limit of a message, in both directions: an answer or one clear line."""
    near = range(-8, 9, max(1, round(1 / scale)))
    commands = [f"reverse {'x' * (LIMIT + more)}" for more in (*near, LIMIT, 15 * LIMIT)]
    # Three bytes of the answer for each two of the text: here only the answer is too long.
    commands += [f"split {'x ' * (LIMIT // 3 + more)}" for more in (-100, 0, 100)]
    answered = refused = 0
    with running("lab04_grpc/server.py", 0) as server:
        target = f"127.0.0.1:{server.port()}"
        for command in commands:
            with running("lab04_grpc/client.py", target) as client:
                client.write(f"{command}\nreverse done\n")
                wait_until(lambda out=client.out_stream: out.text.endswith(END), "the next answer")
                lines = client.out.removesuffix(END).splitlines()
                if lines[0].startswith(("message: ", "number: ")):
                    answered += 1
                else:
                    assert lines == [TOO_LONG], f"{lines[0][:200]} and {len(lines) - 1} more"
                    refused += 1
        assert server.running and server.err == ""
    assert answered and refused
    return f"{answered} texts up to the limit answered, {refused} over it refused in one line"


def restarts(scale: float) -> str:
    """The server is killed in the middle of a stream and restarted; one session goes on."""
    rounds, port, slowest = max(1, round(10 * scale)), free_port(), 0.0
    with running("lab04_grpc/client.py", f"127.0.0.1:{port}") as client:
        for number in range(rounds):
            with running("lab04_grpc/server.py", port) as server:
                server.port()
                begun = time.monotonic()

                def answered(text=f"round {number}"):
                    client.send(f"reverse {text}")
                    return client.expect(r"^message: .*$|is unavailable$")[0] != "is unavailable"

                wait_until(answered, "the new server to be found")
                slowest = max(slowest, time.monotonic() - begun)
                client.send("isprime" + " 9223372036854775783" * 40_000)
                client.expect("is prime$")
                server.kill()
                client.expect(f"^The server 127.0.0.1:{port} is unavailable$")
        client.send("exit")
        assert client.wait() == 0 and client.err == ""
    return (
        f"{rounds} kills of the server in mid-stream, the next one found in {slowest:.2f} s at most"
    )


ATTACKS = {"streams": streams, "sizes": sizes, "restarts": restarts}
