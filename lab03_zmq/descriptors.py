"""What keeps the server from running out of file descriptors: each connection takes one.

Without a descriptor for the next connection libzmq tries again and again to accept it, which takes
a core. So the server asks the system for many, and closes the connections that take the last ones.
"""

import contextlib
import resource
import socket
import threading
from typing import NoReturn

import zmq
from zmq.utils.monitor import recv_monitor_message

MAX_OPEN = 10_000  # file descriptors, if the system gives as many
SPARE = 16  # descriptors that no connection may take


def keep_spare(bound: list[zmq.Socket]) -> None:
    """From here on close each new connection whose descriptor is one of the last."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    monitors = [each.get_monitor_socket(zmq.EVENT_ACCEPTED) for each in bound]

    def watch() -> NoReturn:
        poller = zmq.Poller()
        for monitor in monitors:
            poller.register(monitor, zmq.POLLIN)
        while True:
            for monitor, _ in poller.poll():
                descriptor = recv_monitor_message(monitor)["value"]
                if descriptor >= limit - SPARE:
                    shut_down(descriptor)

    if limit != resource.RLIM_INFINITY:
        threading.Thread(target=watch, daemon=True).start()


def shut_down(descriptor: int) -> None:
    """End a TCP connection that belongs to libzmq, which then closes it."""
    with contextlib.suppress(OSError):  # it has ended already
        connection = socket.socket(fileno=descriptor)
        try:
            connection.shutdown(socket.SHUT_RDWR)
        finally:
            connection.detach()
