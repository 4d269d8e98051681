"""Networks of several hosts on one machine: Linux network namespaces around a router.

    with Network() as network:
        client, server = network.host(), network.host()
        spawn("lab02_tcp_threads/server.py", 5555, "--host", "0.0.0.0", interpreter=server.python)
        sock = client.call(lambda: socket.create_connection((server.address, 5555)))
        server.vanish()    # as in a power cut: no FIN, no RST, nothing comes back
        server.reappear()

A namespace has no name. It lives as long as a file descriptor of this process or a process in it,
so nothing is left behind, not even by kill -9, and tests at the same time do not meet.

    unshare --net python -m tests.support.namespaces 2 command ...    # with 2 % loss on loopback
"""

import contextlib
import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.support.harness import wait_until

Result = TypeVar("Result")
CLONE_NEWNET = 0x40000000  # <linux/sched.h>
MTU = 1500  # bytes
VANISHED = 100  # the priority of the rules of `vanish`, which tells them from others

# A connection in the output of ss, with IPv4 addresses inside IPv6 ones as gRPC has them.
ENDPOINT = r"\[?(?:::ffff:)?(10\.[\d.]+)\]?:(\d+)"
CONNECTION = re.compile(rf"{ENDPOINT}\s+{ENDPOINT}")


class Unavailable(Exception):
    """This machine does not give us network namespaces; the message says why."""


class Host:
    """A machine of its own: a network namespace with loopback and one interface, eth0.

    Args:
        address: its IPv4 address. gateway: the router's on the same link.
    """

    def __init__(self, address: str = "", gateway: str = ""):
        self.address = address
        self.gateway = gateway
        self.fd = _new_namespace()
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        self.enter = ["nsenter", f"--net={self.path}", "--"]
        self.python = (*self.enter, sys.executable)  # the `interpreter` of a Script
        self.call(lambda: Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0"))
        self.ip("link set lo up")

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function in this namespace; a socket that it makes stays there."""

        def inside() -> Result:
            _libc("setns", self.fd, CLONE_NEWNET)
            return function()

        return _in_a_thread(inside)

    def ip(self, command: str) -> str:
        """Run `ip` with a command in this namespace; return its output."""
        return self.run("ip", *command.split())

    def run(self, *command: str) -> str:
        """Run a program in this namespace; return its output."""
        return _run(*self.enter, *command)

    def link_local(self, interface: str) -> str:
        """Return the link-local IPv6 address of an interface, which it has soon after it is up."""
        command = f"-6 -o address show dev {interface} scope link"
        return wait_until(lambda: re.search(r"fe80:[\w:]+", self.ip(command)), command)[0]

    def unplug(self) -> None:
        """Take the interface down: there is no way to anywhere any more."""
        self.ip("link set eth0 down")

    def plug(self) -> None:
        """Bring the interface up, with the routes that went with it."""
        self.ip("link set eth0 up")
        self.ip(f"route replace default via {self.gateway}")

    def close(self) -> None:
        """Give the namespace up; it goes when the last process in it does."""
        os.close(self.fd)


class Peer(Host):
    """A host at the router, which can keep from it and others what they send."""

    def __init__(self, router: Host, number: int, path_mtu: int):
        super().__init__(f"10.0.{number}.2", f"10.0.{number}.1")
        self.router = router
        port = f"port{number}"
        router.ip(f"link add {port} type veth peer name eth0 netns {self.path}")
        router.ip(f"address add {self.gateway}/24 dev {port}")
        router.ip(f"link set {port} mtu {path_mtu} up")
        self.ip(f"address add {self.address}/24 dev eth0")
        self.plug()

    def vanish(self) -> None:
        """Lose all that is sent to it or by it, without a word to either side."""
        for way in ("to", "from"):
            self.router.ip(f"rule add {way} {self.address} priority {VANISHED} blackhole")

    def reappear(self) -> None:
        """End `vanish`."""
        for way in ("to", "from"):
            self.router.ip(f"rule del {way} {self.address} priority {VANISHED} blackhole")


class Network(contextlib.ExitStack):
    """Hosts, each on a link of its own to one router; raise Unavailable if there can be none."""

    def __init__(self):
        super().__init__()
        try:
            self.router = self.enter_context(contextlib.closing(Host()))
            self.router.call(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
        except (AttributeError, OSError, subprocess.SubprocessError) as error:
            self.close()
            reason = getattr(error, "stderr", None) or error
            raise Unavailable(f"needs Linux, root, ip and nsenter: {str(reason).strip()}") from None
        self._peers: list[Peer] = []

    def host(self, path_mtu: int = MTU) -> Peer:
        """Add a host; datagrams on the way to it may have `path_mtu` bytes, which it cannot see."""
        peer = Peer(self.router, len(self._peers) + 1, path_mtu)
        self._peers.append(self.enter_context(contextlib.closing(peer)))
        return peer

    def forget_connections(self) -> None:
        """Lose the segments of every TCP connection there is, as a restarted firewall does.

        No side is told; new connections pass.
        """
        found = [CONNECTION.findall(peer.run("ss", "-Htn")) for peer in self._peers]
        for source, port, target, target_port in {ends for some in found for ends in some}:
            ends = f"from {source} to {target} ipproto tcp sport {port} dport {target_port}"
            self.router.ip(f"rule add {ends} blackhole")


def _new_namespace() -> int:
    """Return a file descriptor of a new network namespace."""

    def make() -> int:
        _libc("unshare", CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    return _in_a_thread(make)


def _in_a_thread(function: Callable[[], Result]) -> Result:
    """Call a function in a thread that ends with it: a namespace is a property of a thread."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result()


def _libc(name: str, *args: int) -> None:
    """Call a function of the C library that Python has from 3.12 on only; raise OSError."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*args) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def lose(percent: float, interface: str, run: Callable[..., str] = _run) -> None:
    """Lose a part of the packets that leave through an interface, at random.

    This does what `tc qdisc add ... netem loss` does, which many kernels come without: a classic
    BPF program puts a packet into class 1:2, a black hole, if a random number is below the limit.

    Args:
        run: runs the commands where the interface is, such as `Host.run`.
    """
    limit = int(percent / 100 * 2**32)
    load_random, return_class = "32 0 0 4294963256", "6 0 0"  # the offset is SKF_AD_RANDOM
    keep, lost = f"{return_class} {0x10001}", f"{return_class} {0x10002}"
    program = f"4,{load_random},53 1 0 {limit},{lost},{keep}"  # 53: jump over one if at least
    for kind, rest in (
        ("qdisc", "root handle 1: htb default 1"),
        ("class", "parent 1: classid 1:1 htb rate 100gbit quantum 65536"),
        ("class", "parent 1: classid 1:2 htb rate 100gbit quantum 65536"),
        ("qdisc", "parent 1:2 blackhole"),
    ):
        run("tc", kind, "add", "dev", interface, *rest.split())
    bpf = "bpf", "bytecode", program, "flowid", "1:1"
    run("tc", "filter", "add", "dev", interface, "parent", "1:", *bpf)


def main(argv: list[str]) -> None:
    """Become a command, with a lossy loopback in this namespace, which is to be a new one."""
    percent, *command = argv
    _run("ip", "link", "set", "lo", "up")
    lose(float(percent), "lo")
    os.environ["LABS_LOSSY"] = percent  # see harness.LOSSY
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
