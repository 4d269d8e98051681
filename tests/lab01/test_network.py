"""Lab 1's scripts on networks that are bad in ways of their own."""

import re
import time

import pytest

from tests.lab01.peers import CLIENT, CONTENT, SERVER
from tests.support.harness import pass_time, wait_until
from tests.support.patches import LOCALHOST_IS_BOTH

# --- Addresses ---


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_answers_from_the_address_that_was_asked(spawn, source, folder, host):
    port = spawn(SERVER, 0, "--host", host, "--dir", folder).port()
    for address in ("127.0.0.1", "127.0.0.2"):
        client = spawn(CLIENT, f"{address}:{port}", source, address)
        assert client.wait() == 0
        assert (folder / address).read_bytes() == CONTENT


def test_a_second_ipv6_address_of_an_interface_answers_too(network, spawn, source, folder):
    client, server = network.host(), network.router
    client.ip("-6 address add fd00::2/64 dev eth0 nodad")
    for address in ("fd00::1", "fd00::9"):
        server.ip(f"-6 address add {address}/64 dev port1 nodad")
    spawn(SERVER, 5555, "--host", "::", "--dir", folder, interpreter=server.python).port()
    for address in ("fd00::1", "fd00::9"):
        script = spawn(CLIENT, f"[{address}]:5555", source, "copy", interpreter=client.python)
        assert script.wait() == 0, script.transcript()


def test_a_link_local_address_keeps_its_interface(network, spawn, source, folder):
    client, server = network.host(), network.router
    address = server.link_local("port1")
    options = ["--host", f"{address}%port1", "--dir", folder]
    spawn(SERVER, 5555, *options, interpreter=server.python).port()
    target = f"[{address}%eth0]:5555"
    assert spawn(CLIENT, target, source, "copy", interpreter=client.python).wait() == 0
    assert (folder / "copy").read_bytes() == CONTENT


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_localhost_is_the_same_address_for_both(spawn, source, folder, patched, host):
    environment = patched(LOCALHOST_IS_BOTH)
    server = spawn(SERVER, 0, "--host", host, "--dir", folder, env=environment)
    client = spawn(CLIENT, f"localhost:{server.port()}", source, "copy", env=environment)
    assert client.wait() == 0


# --- Ways that change ---


def test_a_path_narrower_than_both_ends_know_costs_retransmissions_only(
    network, spawn, source, folder
):
    client, server = network.host(), network.host(path_mtu=1000)
    options = ["--host", server.address, "--dir", folder]
    spawn(SERVER, 5555, *options, interpreter=server.python).port()
    script = spawn(CLIENT, f"{server.address}:5555", source, "copy", interpreter=client.python)
    assert script.wait() == 0, script.transcript()
    assert (folder / "copy").read_bytes() == CONTENT
    assert int(re.search(r"(\d+) retransmissions", script.out)[1]) <= 2


def test_an_interface_that_goes_down_for_a_moment_ends_no_upload(network, spawn, tmp_path, folder):
    (tmp_path / "source").write_bytes(CONTENT * 200)
    client, server = network.host(), network.host()
    options = ["--host", "0.0.0.0", "--dir", folder, "--buf-size", 1000]
    spawn(SERVER, 5555, *options, interpreter=server.python).port()
    script = spawn(
        CLIENT, f"{server.address}:5555", "source", "copy", cwd=tmp_path, interpreter=client.python
    )
    for host in (client, server):
        size = wait_until(lambda: sum(path.stat().st_size for path in folder.iterdir()))
        host.unplug()
        pass_time(0.7)
        assert script.running
        host.plug()
        wait_until(lambda size=size: any(p.stat().st_size > size for p in folder.iterdir()))
    assert script.wait(60) == 0, script.transcript()
    assert (folder / "copy").read_bytes() == CONTENT * 200


def test_a_way_that_is_found_only_after_the_start_is_soon_enough(network, spawn, source, folder):
    client, server = network.host(), network.host()
    options = ["--host", server.address, "--dir", folder]
    spawn(SERVER, 5555, *options, interpreter=server.python).port()
    client.unplug()
    script = spawn(CLIENT, f"{server.address}:5555", source, "copy", interpreter=client.python)
    pass_time(0.7)
    client.plug()
    assert script.wait() == 0, script.transcript()


def test_no_way_at_all_is_one_line_that_says_so_after_all_retries(network, spawn, source):
    client = network.host()
    client.unplug()
    begun = time.monotonic()
    script = spawn(CLIENT, "10.9.9.9:5555", source, "copy", interpreter=client.python)
    assert script.wait() == 1
    assert time.monotonic() - begun > 2.9
    assert script.err.count("\n") == 1
    assert "malfunctioning" in script.err and "Network is unreachable" in script.err
