"""The networks of namespaces.py do what the tests that use them rely on."""

import contextlib
import errno
import os
import socket

import pytest

from tests.support import namespaces
from tests.support.harness import wait_until


def listen(host):
    return host.call(lambda: socket.create_server(("", 5555)))


def connect(client, server):
    return client.call(lambda: socket.create_connection((server.address, 5555), timeout=20))


def datagrams(host):
    """Return a UDP socket on this host."""
    sock = host.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.settimeout(20)
    sock.bind(("", 0))
    return sock


def test_hosts_reach_each_other_and_loopback_is_their_own(network):
    client, server = network.host(), network.host()
    with listen(server), connect(client, server) as sock:
        assert sock.getsockname()[0] == client.address
        with pytest.raises(ConnectionRefusedError):
            client.call(lambda: socket.create_connection(("127.0.0.1", 5555)))


def test_a_script_runs_on_its_host(network, spawn):
    server = network.host()
    script = spawn("lab02_tcp_threads/server.py", 5555, interpreter=server.python)
    script.port()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", 5555))
    script.interrupt()
    assert script.wait(5) == 0


def test_a_host_that_vanishes_says_nothing_and_goes_on_when_it_reappears(network):
    client, server = network.host(), network.host()
    with listen(server) as listener, connect(client, server) as near:
        far = listener.accept()[0]
        with far:
            server.vanish()
            near.sendall(b"lost for now")
            far.settimeout(0.3)
            with pytest.raises(TimeoutError):
                far.recv(100)
            server.reappear()
            far.settimeout(20)
            assert far.recv(100) == b"lost for now"


def test_old_connections_die_without_a_word_and_new_ones_work(network):
    client, server = network.host(), network.host()
    with listen(server) as listener, connect(client, server) as near:
        far = listener.accept()[0]
        with far:
            network.forget_connections()
            near.sendall(b"lost")
            far.sendall(b"lost")
            for sock in (near, far):
                sock.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    sock.recv(100)
            with connect(client, server) as new, listener.accept()[0] as served:
                new.sendall(b"new")
                assert served.recv(100) == b"new"


def test_without_its_interface_a_host_finds_no_way(network):
    client, server = network.host(), network.host()
    with datagrams(client) as near, datagrams(server) as far:
        target = (server.address, far.getsockname()[1])
        client.unplug()
        with pytest.raises(OSError) as error:
            near.sendto(b"x", target)
        assert error.value.errno == errno.ENETUNREACH
        client.plug()
        near.sendto(b"x", target)
        assert far.recv(100) == b"x"


def test_a_narrow_path_is_reported_by_the_router(network):
    client, server = network.host(), network.host(path_mtu=1000)
    with datagrams(client) as near, datagrams(server) as far:
        near.connect((server.address, far.getsockname()[1]))

        def too_long():
            with contextlib.suppress(OSError):
                return not near.send(bytes(1472))
            return True

        wait_until(too_long)
        near.send(b"x")  # this one fits
        assert far.recv(100) == b"x"


def test_a_lossy_interface_loses_its_part_at_random(network):
    host = network.host()
    namespaces.lose(20, "lo", host.run)
    with datagrams(host) as sock:
        sock.setblocking(False)
        received = 0
        for _ in range(2000):
            sock.sendto(b"x", ("127.0.0.1", sock.getsockname()[1]))
            with contextlib.suppress(BlockingIOError):
                received += len(sock.recv(100))
    assert 1400 < received < 1800


def test_nothing_stays_of_a_network(network):
    inodes = [os.stat(host.fd).st_ino for host in (network.router, network.host())]
    network.close()
    for inode in inodes:
        assert not [fd for fd in os.listdir("/proc/self/fd") if has_inode(fd, inode)]


def has_inode(fd, inode):
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/self/fd/{fd}").st_ino == inode
    return False
