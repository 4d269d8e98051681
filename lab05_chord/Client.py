"""Talk to the registry or to any node of a Chord ring: python3 Client.py

Commands: connect <ip:port>, get_info, save <"key"> <text>, remove <key>, find <key>, get <key>,
help, quit. A key with blanks stands in quotes.
"""

import argparse
import cmd
import contextlib
import re
import sys

import process
import rpc
from rpc import grpc
from wire import ANY_LENGTH, messages, services

with contextlib.suppress(ImportError):  # line editing and history, where the system has it
    import readline  # noqa: F401

CONNECT_TIMEOUT = 2.0  # s
CALL_TIMEOUT = 10.0  # s; a node itself gives up after 8
COMMANDS = (
    'commands: connect <ip:port>, get_info, save <"key"> <text>, '
    "remove <key>, find <key>, get <key>, help, quit"
)
QUOTES = '"“”„'
SINGLE_QUOTES = "'‘’‚`"  # around a key they are a mistake; inside one they are text
KEY_AND_REST = re.compile(
    rf"(?:[{QUOTES}]([^{QUOTES}]*)[{QUOTES}]|([^\s{QUOTES}{SINGLE_QUOTES}]\S*))(?:\s+(.*))?", re.S
)


class Client(cmd.Cmd):
    """The prompt."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.prompt = "> " if terminal else ""
        self.address = ""
        self.channel = self.registry = self.node = None

    def onecmd(self, line: str) -> bool:
        try:
            return bool(super().onecmd(line.strip()))
        except grpc.RpcError as error:
            show(describe(error, self.address))
        except UnicodeEncodeError:
            show("That is not valid Unicode")
        return False

    def do_connect(self, text: str) -> None:
        try:
            address = rpc.join_address(*rpc.parse_address(text))
        except argparse.ArgumentTypeError as error:
            return show(f"connect: {error}")
        self.disconnect()
        channel = grpc.insecure_channel(address, options=[*rpc.CHANNEL_OPTIONS, ANY_LENGTH])
        registry, node = services.RegistryServiceStub(channel), services.NodeServiceStub(channel)
        for name, ask in (("Registry", registry.get_chord_info), ("Node", node.get_finger_table)):
            try:
                ask(messages.Empty(), timeout=CONNECT_TIMEOUT)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                    continue
                break
            self.address, self.channel = address, channel
            self.registry = registry if name == "Registry" else None
            self.node = node if name == "Node" else None
            return show(f"Connected to {name}")
        channel.close()
        show(f"There is no registry or node at {address}")

    def disconnect(self) -> None:
        if self.channel:
            self.channel.close()
        self.channel = self.registry = self.node = None

    def do_get_info(self, text: str) -> None:
        if self.registry:
            nodes = self.registry.get_chord_info(messages.Empty(), timeout=CALL_TIMEOUT).nodes
        elif self.node:
            reply = self.node.get_finger_table(messages.Empty(), timeout=CALL_TIMEOUT)
            show(f"Node id: {reply.id}")
            show("Finger table:")
            nodes = reply.finger_table
        else:
            return show("Not connected: connect <ip:port> comes first")
        for node in nodes:
            show(f"{node.id}: {node.address}")

    def do_save(self, text: str) -> None:
        key, rest = split_key(text)
        if not key or not rest:
            return show('save needs a key and a text: save "some key" some text')
        if node := self.need_node():
            request = messages.SaveRequest(key=key, text=rest)
            show_result(node.save(request, timeout=CALL_TIMEOUT), key)

    def do_remove(self, text: str) -> None:
        self.ask("remove", text, "is removed from")

    def do_find(self, text: str) -> None:
        self.ask("find", text)

    def do_get(self, text: str) -> None:
        reply = self.ask("get", text)
        if reply and reply.success:
            show(reply.text)

    def ask(self, method: str, text: str, done: str = "is saved in"):
        """Call a method that takes nothing but a key, and print the result."""
        key, rest = split_key(text)
        if not key or rest:
            return show(f'{method} needs one key: {method} "some key"')
        if node := self.need_node():
            reply = getattr(node, method)(messages.KeyRequest(key=key), timeout=CALL_TIMEOUT)
            show_result(reply, key, done)
            return reply

    def need_node(self):
        """Return the node to ask, or say that there is none."""
        if not self.node:
            show("Not connected to a node: connect <ip:port> comes first")
        return self.node

    def do_quit(self, text: str) -> bool:
        return True

    do_exit = do_quit

    def do_EOF(self, text: str) -> bool:  # the name that cmd gives to the end of the input
        if self.prompt:
            print()  # the end of the input is no end of a line
        return True

    def do_help(self, text: str) -> None:
        show(COMMANDS)

    def default(self, line: str) -> None:
        show(f"Unknown command; {COMMANDS}")

    def emptyline(self) -> None:
        pass

    def completenames(self, text: str, *ignored) -> list[str]:
        names = ("connect ", "get_info", "save ", "remove ", "find ", "get ", "help", "quit")
        return [name for name in names if name.startswith(text)]


def split_key(text: str) -> tuple[str, str]:
    """Split a line into a key, in double quotes or one word, and what follows it as it stands.

    The key is "" if there is none, or if it begins with a quote that does not end it.
    """
    match = KEY_AND_REST.fullmatch(text.strip())
    if not match:
        return "", ""
    quoted, word, rest = match.groups(default="")
    return quoted or word, rest


def show(line: str) -> None:
    """Print one line; characters in it that could control a terminal are escaped."""
    print(process.printable(line))


def show_result(reply, key: str, done: str = "is saved in") -> None:
    """Print a result as the assignment has it."""
    show(f"True, {key} {done} node {reply.node_id}" if reply.success else f"False, {reply.message}")


def describe(error: grpc.RpcError, address: str) -> str:
    """Return what went wrong with a call, in one line."""
    details = " ".join((error.details() or "").split())
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{address} does not answer"
    if error.code() == grpc.StatusCode.UNAVAILABLE and "owner" not in details:
        return f"{address} is unavailable"
    return f"{address} says: {details}"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="Client.py",
        description="Save, find and remove keys in a Chord ring. Reads commands.",
        epilog='example: python3 Client.py, then "connect 127.0.0.1:5001", "save Kazan a city"',
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    parse_args(argv)
    with process.console() as terminal:
        client = Client(terminal)
        client.cmdloop()
        client.disconnect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
