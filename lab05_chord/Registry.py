"""The registry: gives nodes their ids and knows which are in the ring.

    python3 Registry.py 127.0.0.1:5000 5        (or only the port: 127.0.0.1 is meant)

The second argument is m: ids are the integers 0 to 2**m - 1.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import random
import sys
import threading
import time

from chord import LARGEST_M
from membership import Membership
from rpc import bind
from wire import Threads, assigned, messages, new_server, receiver, services, to_message

TICK = 0.1  # s
parse_m = cli.number(1, LARGEST_M, "a number of bits")
SEED = 0  # so that the ids of a ring are the same in every run


class Servicer(services.RegistryServiceServicer):
    """Every call is one of the rules in membership.py."""

    def __init__(self, threads: Threads, membership: Membership):
        self.threads = threads
        self.membership = membership

    @receiver
    def register(self, registration):
        """Give a node its id, or -1."""
        return self.threads.do(self._register, registration)

    async def _register(self, registration):
        # As a part of the rule, so that the lines stand in the order of joining.
        reply = await self.membership.register(registration)
        if reply.view and not registration.prepare:
            cli.say(assigned(reply.id, reply.view))
            cli.log("node %d joins, epoch %d", reply.id, reply.view.epoch)
        return reply

    @receiver
    def deregister(self, departure):
        """Let a node go."""
        reply = self.threads.do(self.membership.deregister, departure)
        if reply.success:  # else it asks again, from the view that it gets
            cli.say(reply.message, "stderr")
        cli.log("node %d asks to leave: %s", departure.id, reply.message)
        return reply

    @receiver
    def populate_finger_table(self, heartbeat):
        """Tell a node its predecessor and its fingers; take it as a sign of life."""
        return self.threads.do(self.membership.populate_finger_table, heartbeat)

    @receiver
    def restore(self, view):
        """Learn the ring from its nodes."""
        before = self.membership.view
        reply = self.threads.do(self.membership.restore, view)
        if self.membership.view is not before:
            count = len(self.membership.view.members)
            cli.say(f"learned of a ring of {count} from its nodes", "stderr")
        return reply

    def get_chord_info(self, request, context):
        """List the nodes in order of joining, and those that are about to join."""
        view, joining = self.membership.view, self.threads.do(self.membership.joining)
        return messages.Nodes(
            nodes=map(to_message, view.members),
            epoch=view.epoch,
            m=view.m,
            joining=map(to_message, joining),
            listening=not self.membership.open,
        )


def drop_the_silent(threads: Threads, membership: Membership) -> None:
    """Let the registry notice that time passes."""
    while True:
        for node in threads.do(membership.tick):
            cli.log("node %d is dropped", node.id)
            cli.say(
                f"node {node.id} at {cli.printable(node.address)} is silent, it is out", "stderr"
            )
        time.sleep(TICK)


def parse_endpoint(text: str) -> tuple[str, int]:
    """Return (host, port) of "host:port", or of a port alone."""
    return cli.parse_address(text) if ":" in text else ("127.0.0.1", cli.parse_port(text))


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("Run the registry of a Chord ring.", "127.0.0.1:5000 5")
    parser.add_argument(
        "address", type=parse_endpoint, metavar="ip:port", help="where to listen; port 0: any"
    )
    parser.add_argument("m", type=parse_m, help=f"number of bits of an id, 1 to {LARGEST_M}")
    cli.add_verbose(parser, "each node that joins, leaves or is dropped")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    cli.start_log(args.verbose)
    host, port = args.address
    server = new_server()
    try:
        port = bind(server, host, port)
    except OSError as error:
        return cli.complain(str(error))
    random.seed(SEED)
    threads = Threads()
    membership = Membership(threads, args.m)
    services.add_RegistryServiceServicer_to_server(Servicer(threads, membership), server)
    server.start()
    threading.Thread(target=drop_the_silent, args=(threads, membership), daemon=True).start()
    cli.report_ready(f"Registry listens on {cli.join_address(host, port)}")
    cli.end_on_signal()
    server.wait_for_termination()
    return 0


if __name__ == "__main__":
    sys.exit(main())
