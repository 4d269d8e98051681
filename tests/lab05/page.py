"""Lab 5's watch.py as its pages see it."""

import contextlib
import time

from tests.support.harness import PATIENCE, wait_until
from tests.support.live_page import Events, do


class Page:
    """watch.py of a ring, and what it tells a page."""

    def __init__(self, spawn, registry, port=0):
        self.script = spawn("lab05_chord/watch.py", registry, "--port", port)
        self.url = self.script.expect(r"^Open (http://127\.0\.0\.1:\d+)$")[1]
        self.port = int(self.url.rpartition(":")[2])

    @contextlib.contextmanager
    def reading(self):
        """Yield the pictures of the ring as they come, beginning with the present one."""
        with contextlib.closing(Events(self.port, timeout=10)) as events:
            yield iter(events)

    def state(self):
        """Return the present picture of the ring."""
        with self.reading() as pictures:
            return next(pictures)

    def node(self, id):
        """Return what is shown of a node, or None."""
        return next((node for node in self.state()["nodes"] if node["id"] == id), None)

    def states(self):
        """Return {id: state} of all nodes that are shown."""
        return states_in(self.state())

    def texts(self):
        """Return the events so far, as text."""
        return [event["text"] for event in self.state()["events"]]

    def wait_for(self, states, timeout=PATIENCE):
        """Wait until just these nodes are shown, in these states."""
        wait_until(lambda: self.states() == states, f"{states}", timeout)

    def do(self, action, **arguments):
        """Return the status and the answer of an action."""
        return do(self.port, action, arguments)


def states_in(picture):
    """Return {id: state} of all nodes of a picture."""
    return {node["id"]: node["state"] for node in picture["nodes"]}


def shows(pictures, id, state, within=2.0):
    """Tell whether one of the next pictures shows a node in a state, within so many seconds."""
    deadline = time.monotonic() + within
    for picture in pictures:
        if states_in(picture).get(id) == state:
            return True
        if time.monotonic() > deadline:
            return False
    return False
