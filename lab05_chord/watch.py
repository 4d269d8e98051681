"""A live page of a ring: python3 watch.py 127.0.0.1:5000

The argument is the registry's address. The page shows the circle, its nodes, their keys and
fingers, what happens to them, and the walk to a key.
"""

import cli

if __name__ == "__main__":
    cli.start()  # before what takes long to import

import argparse
import sys
import threading

import web
from chord import Node, View, between, closest_preceding_finger, key_id, next_hop
from rpc import CHANNEL_OPTIONS, grpc, insist, open_channel
from watching import Watcher
from wire import ANY_LENGTH, messages, services

HOP_TIMEOUT = 1.0  # s for one node of a walk; more than one attempt to connect
OPERATION_TIMEOUT = 10.0  # s; a node begins nothing new after 8
LONGEST_KEY = 200  # characters
LONGEST_TEXT = 1000  # characters that a page saves, or is shown


class Walk:
    """The way from a node to the owner of a key, by the finger tables of the nodes themselves.

    `steps` has a dict for each node that was asked: its id as "node", the id of the next one or
    None, whether that one did not answer ("lost"), and a sentence.

    Args:
        view: the ring. Only where no finger is left, it gives the successor list.
    """

    def __init__(self, view: View, key: str):
        self.view, self.k = view, key_id(key, view.m)
        self.steps: list[dict] = []

    def go(self, start: Node) -> None:
        """Ask one node after the other, at most 2m + 2 of them."""
        state, avoid = inspect(start.address), set()
        if state is None:
            self._step(start.id, None, f"node {start.id} does not answer")
            return
        for _ in range(2 * self.view.m + 2):
            found = self._choose(state, avoid)
            if found is None:
                return
            following = inspect(found.address)
            if following is None:
                avoid.add(found.id)
                self.steps[-1]["lost"] = True
                self.steps[-1]["text"] += f"; but node {found.id} does not answer"
            else:
                state = following

    def _choose(self, state: messages.NodeState, avoid: set[int]) -> Node | None:
        """Decide at one node where the key goes next, and say why (Chord Fig. 4, §5.2)."""
        k, me, fingers = self.k, state.id, state.finger_table
        if between(k, state.predecessor.id, me):
            reason = f"owns id {k}: it lies in ({state.predecessor.id}, {me}]"
            return self._step(me, None, f"node {me} {reason}")
        if fingers and between(k, me, fingers[0].id):
            owner, reason = fingers[0], f"id {k} lies in ({me}, {fingers[0].id}], so its successor"
            if owner.id in avoid:
                return self._step(me, None, f"node {me}: {reason} is waited for, or dropped")
            return self._step(me, owner, f"node {me}: {reason} owns it")
        node = closest_preceding_finger(fingers, me, k, avoid)
        if node:
            reason = f"its farthest finger that does not overstep id {k} is {node.id}"
            return self._step(me, node, f"node {me}: {reason}")
        node = next_hop(self.view, me, k, avoid) if me in self.view.by_id else None
        reason = f"its successor list has node {node.id}" if node else "it knows no other way"
        return self._step(me, node, f"node {me}: no finger before id {k} is left; {reason}")

    def end(self, start: Node, owner: int) -> None:
        """Add how the operation ended, if the ring has changed since the walk."""
        last = self.steps[-1]["node"]
        if last != owner:
            text = f"node {start.id} asked again until the ring had changed: it is node {owner}'s"
            self._step(last, Node(owner, ""), text)
            self._step(owner, None, f"node {owner} owns id {self.k} now")

    def _step(self, me: int, node: Node | None, text: str) -> Node | None:
        next_id = node.id if node else None
        self.steps.append({"node": me, "next": next_id, "lost": False, "text": text})
        return node


def inspect(address: str):
    """Return what a node says of itself, or None if it does not answer."""
    with open_channel(address) as channel:
        try:
            request = messages.Inspection(without_counts=True)
            return insist(services.NodeServiceStub(channel).inspect, request, HOP_TIMEOUT)
        except grpc.RpcError:
            return None


class Actions:
    """What a page may ask for: {"key", "at": the id of the node that is asked, "text"}."""

    def __init__(self, watcher: Watcher):
        self.watcher = watcher

    def find(self, arguments: dict) -> dict:
        """Walk to a key, and get its text."""
        return self._operate(arguments, "get", "saved in")

    def save(self, arguments: dict) -> dict:
        """Walk to where a key belongs, and save a text there."""
        text = arguments.get("text")
        if not text or not isinstance(text, str) or len(text) > LONGEST_TEXT:
            raise ValueError(f"a text of 1 to {LONGEST_TEXT} characters is expected")
        return self._operate(arguments, "save", "saved in", text=text)

    def remove(self, arguments: dict) -> dict:
        """Walk to a key, and remove it."""
        return self._operate(arguments, "remove", "removed from")

    def _operate(self, arguments: dict, method: str, done: str, **text) -> dict:
        key, node = self._key(arguments), self._node(arguments)
        walk = Walk(self.watcher.view(), key)
        walk.go(node)
        request = (messages.SaveRequest if text else messages.KeyRequest)(key=key, **text)
        with grpc.insecure_channel(node.address, options=[*CHANNEL_OPTIONS, ANY_LENGTH]) as channel:
            try:
                stub = services.NodeServiceStub(channel)
                reply = insist(getattr(stub, method), request, OPERATION_TIMEOUT)
            except grpc.RpcError as error:
                reply = messages.Result(message=describe(error, node))
        if reply.success:
            walk.end(node, reply.node_id)
        message = f"{key} is {done} node {reply.node_id}" if reply.success else reply.message
        return {
            "steps": walk.steps,
            "success": reply.success,
            "owner": reply.node_id,
            "message": f"{reply.success}, {message}",
            "text": reply.text[:LONGEST_TEXT],
        }

    @staticmethod
    def _key(arguments: dict) -> str:
        key = arguments.get("key")
        if not key or not isinstance(key, str) or len(key) > LONGEST_KEY:
            raise ValueError(f"a key of 1 to {LONGEST_KEY} characters is expected")
        key.encode()  # a UnicodeEncodeError is a ValueError
        return key

    def _node(self, arguments: dict) -> Node:
        for node in self.watcher.members():
            if node.id == arguments.get("at"):
                return Node(node.id, node.address)
        raise ValueError("there is no such node in the ring")


def describe(error: grpc.RpcError, node: Node) -> str:
    """Return why a node did not carry an operation out."""
    details = error.details() or ""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"node {node.id} does not answer"
    if error.code() is grpc.StatusCode.UNAVAILABLE and not details.startswith("the owner of"):
        return f"node {node.id} is unavailable"
    return details


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser("Show a Chord ring on a live page in a browser.", "127.0.0.1:5000")
    parser.add_argument(
        "registry", type=cli.parse_address, metavar="registry-ip:port", help="where it listens"
    )
    web.add_port(parser, 8005)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    watcher, feed = Watcher(cli.join_address(*args.registry)), web.Feed(keep=1)
    actions = Actions(watcher)
    named = {"find": actions.find, "save": actions.save, "remove": actions.remove}
    poller = threading.Thread(target=watcher.run, args=[feed.publish], daemon=True)
    return web.serve(args.port, feed, named, poller.start)


if __name__ == "__main__":
    sys.exit(main())
