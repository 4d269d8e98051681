"""Talk to the registry or to any node of a Chord ring: python3 Client.py

Commands: connect <ip:port>, get_info, info, keys, save <"key"> <text>, remove <key>, find <key>,
get <key>, help, exit. A key with spaces stands in quotes.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import re
import sys

import rpc
import shell
from rpc import grpc
from wire import ANY_LENGTH, messages, services

CONNECT_TIMEOUT = 2.0  # s
CALL_TIMEOUT = 10.0  # s; a node begins nothing new after 8
QUOTES = '"“”„'
SINGLE_QUOTES = "'‘’‚`"  # around a key they are a mistake; inside one they are text
KEY_AND_REST = re.compile(
    rf"(?:[{QUOTES}]([^{QUOTES}]*)[{QUOTES}]|([^\s{QUOTES}{SINGLE_QUOTES}]\S*))(?:\s+(.*))?", re.S
)


class Client(shell.Shell):
    """The prompt."""

    commands = {
        "connect <ip:port>": "connect 127.0.0.1:5000",
        "get_info": "get_info",
        "info": "info",
        "keys": "keys",
        'save <"key"> <text>': 'save "some key" some text',
        "remove <key>": 'remove "some key"',
        "find <key>": 'find "some key"',
        "get <key>": 'get "some key"',
    }

    def __init__(self, terminal: bool):
        super().__init__(terminal)
        self.address = ""
        self.channel = self.registry = self.node = None

    def obey(self, line: str) -> bool:
        try:
            return super().obey(line)
        except grpc.RpcError as error:
            self.fail(describe(error, self.address))
        except UnicodeEncodeError:
            self.fail("That is not valid Unicode")
        return False

    def do_connect(self, text: str) -> None:
        try:
            address = cli.join_address(*cli.parse_address(text))
        except argparse.ArgumentTypeError as error:
            return self.fail(cli.printable(f"connect: {error}"))
        self.disconnect()
        channel = grpc.insecure_channel(address, options=[*rpc.CHANNEL_OPTIONS, ANY_LENGTH])
        registry, node = services.RegistryServiceStub(channel), services.NodeServiceStub(channel)
        for name, ask in (("Registry", registry.get_chord_info), ("Node", node.get_finger_table)):
            try:
                rpc.insist(ask, messages.Empty(), CONNECT_TIMEOUT)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                    continue
                break
            self.address, self.channel = address, channel
            self.registry = registry if name == "Registry" else None
            self.node = node if name == "Node" else None
            return self.show(f"Connected to {name}")
        channel.close()
        self.fail(f"There is no registry or node at {address}")

    def disconnect(self) -> None:
        if self.channel:
            self.channel.close()
        self.address, self.channel = "", None
        self.registry = self.node = None

    def do_get_info(self, text: str) -> None:
        if self.registry:
            nodes = self.registry.get_chord_info(messages.Empty(), timeout=CALL_TIMEOUT).nodes
        elif self.node:
            reply = self.node.get_finger_table(messages.Empty(), timeout=CALL_TIMEOUT)
            self.show(f"Node id: {reply.id}")
            self.show("Finger table:")
            nodes = reply.finger_table
        else:
            return self.fail("Not connected: connect <ip:port> comes first")
        for node in nodes:
            self.show(cli.printable(f"{node.id}: {node.address}"))

    def do_info(self, text: str) -> None:
        """Show the place and the number of keys of this node, or of all that the registry names."""
        if not self.address:
            return self.fail("Not connected: connect <ip:port> comes first")
        addresses = [self.address]
        if self.registry:
            reply = self.registry.get_chord_info(messages.Empty(), timeout=CALL_TIMEOUT)
            addresses = [node.address for node in reply.nodes]
        for address in addresses:
            try:
                self.show(cli.printable(info_line(address)))
            except grpc.RpcError as error:  # of one; the others may answer
                self.fail(describe(error, cli.printable(address)))

    def do_keys(self, text: str) -> None:
        """List the keys that this node owns."""
        if node := self.need_node():
            request = messages.Inspection(with_keys=True)
            for key in node.inspect(request, timeout=CALL_TIMEOUT).keys:
                self.show(cli.printable(key))

    def do_save(self, text: str) -> None:
        key, rest = split_key(text)
        if not key or not rest:
            return self.fail('save needs a key and a text: save "some key" some text')
        if node := self.need_node():
            request = messages.SaveRequest(key=key, text=rest)
            self.tell(node.save(request, timeout=CALL_TIMEOUT), key)

    def do_remove(self, text: str) -> None:
        self.ask("remove", text, "is removed from")

    def do_find(self, text: str) -> None:
        self.ask("find", text)

    def do_get(self, text: str) -> None:
        reply = self.ask("get", text)
        if reply and reply.success:
            self.show(cli.printable(reply.text))

    def ask(self, method: str, text: str, done: str = "is saved in"):
        """Call a method that takes nothing but a key, and print the result."""
        key, rest = split_key(text)
        if not key or rest:
            return self.fail(f'{method} needs one key: {method} "some key"')
        if node := self.need_node():
            reply = getattr(node, method)(messages.KeyRequest(key=key), timeout=CALL_TIMEOUT)
            self.tell(reply, key, done)
            return reply

    def need_node(self):
        """Return the node to ask, or say that there is none."""
        if not self.node:
            self.fail("Not connected to a node: connect <ip:port> comes first")
        return self.node

    def tell(self, reply, key: str, done: str = "is saved in") -> None:
        """Show a result as the assignment has it."""
        if reply.success:
            self.show(cli.printable(f"True, {key} {done} node {reply.node_id}"))
        else:
            self.fail(cli.printable(f"False, {reply.message}"))


def info_line(address: str) -> str:
    """Ask a node where it stands and how many keys it has; return a line."""
    with rpc.open_channel(address) as channel:
        node = services.NodeServiceStub(channel)
        state = rpc.insist(node.inspect, messages.Inspection(), CONNECT_TIMEOUT)
    return (
        f"{state.id}: {address}, {state.own_keys} keys, {state.replicas} replicas, "
        f"predecessor {state.predecessor.id}, epoch {state.epoch}"
    )


def split_key(text: str) -> tuple[str, str]:
    """Split a line into a key, in double quotes or one word, and what follows it as it stands.

    The key is "" if there is none, or if it begins with a quote that does not end it.
    """
    match = KEY_AND_REST.fullmatch(text.strip())
    if not match:
        return "", ""
    quoted, word, rest = match.groups(default="")
    return quoted or word, rest


def describe(error: grpc.RpcError, address: str) -> str:
    """Return what went wrong with a call, in one line."""
    details = " ".join((error.details() or "").split())
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{address} does not answer"
    if error.code() == grpc.StatusCode.UNAVAILABLE and "owner" not in details:
        return f"{address} is unavailable"
    return cli.printable(f"{address} says: {details}")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser(
        "Save, find and remove keys in a Chord ring; `help` lists the commands.", ""
    )
    shell.add_commands(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with shell.console() as terminal:
        client = Client(terminal)
        status = client.run(args.commands)
        client.disconnect()
    return status


if __name__ == "__main__":
    sys.exit(main())
