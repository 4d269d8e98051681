"""Merges the reports of all servers into one timeline of messages and events.

A message is known twice, from the server that has sent it and from the one that has received it.
Nothing in the messages tells which two reports belong together; here a receipt goes with the latest
sending of an equal message before it. A sending that no receipt follows was lost.

Times are in seconds since 1970; servers on several machines need clocks that agree.
"""

from collections import defaultdict
from dataclasses import dataclass, field

SILENCE_TIMEOUT = 0.3  # s without a report, of which there is one each 0.1 s: it hangs
ISOLATION_TIMEOUT = 0.4  # s without a message from another server, though it has sent some
LOSS_TIMEOUT = 0.6  # s from the sending of a message until it counts as lost
REPORT_DELAY = 0.15  # s after which what has happened is reported, if the server runs
PAIRING_TIMEOUT = 0.3  # s that a receipt waits for the report of its sending
CLOCK_ERROR = 0.002  # s by which a receipt may seem to come before its sending
MAX_MESSAGES = 300  # in one event; the others are counted

UNKNOWN, RUNS, GONE, SILENT = "unknown", "", "not running", "no answer"
SUSPENDED, CUT_OFF = "suspended", "cut off"
HAPPENED = {
    GONE: "is not running",
    SILENT: "does not answer",
    SUSPENDED: "is suspended",
    CUT_OFF: "hears no other server",
}


@dataclass
class Lane:
    """What is known of one server."""

    address: str
    state: dict = field(default_factory=dict)  # as in raft.proto; empty before the first report
    status: str = UNKNOWN
    is_gone: bool = False  # nothing listens at its address
    last_report: float = 0.0
    last_heard: float = 0.0  # when it received a message from another server
    is_answered: bool = True  # it has sent nothing since
    last_mark: float = 0.0


class Timeline:
    """Takes reports and tells them, merged, in events.

    Args:
        addresses: of the servers, by id. now: the time at the start.
    """

    def __init__(self, addresses: dict[int, str], now: float):
        self.lanes = {
            server: Lane(address, last_report=now, last_heard=now)
            for server, address in addresses.items()
        }
        self._sent = defaultdict(list)  # times, by message
        self._received = defaultdict(list)
        # For the next event.
        self._marks: list[dict] = []
        self._messages: list[dict] = []
        self._notes: list[dict] = []

    # What the servers say

    def report(self, server: int, states: list[dict], traffic: list[dict], now: float) -> None:
        """Take a report, its messages as dictionaries with the field names of raft.proto."""
        lane = self.lanes[server]
        if lane.is_gone:
            lane.is_gone, lane.state = False, {}  # it has started anew
        lane.last_report = now
        for record in traffic:
            message = tuple(record[name] for name in ("kind", "from", "to", "term", "entries"))
            message += (record["success"],)
            times = self._received if record["received"] else self._sent
            times[message].append(record["time"])
            lane.is_answered = record["received"]
            if record["received"]:
                lane.last_heard = now
        for state in states:
            before, lane.state = lane.state, state
            if any(before.get(name) != state[name] for name in ("role", "term", "voted_for")):
                self._mark(server, state["time"])
                self._tell(server, before, state)

    def gone(self, server: int) -> None:
        """Note that nothing listens at the server's address."""
        self.lanes[server].is_gone = True

    # What comes of it

    def event(self, now: float) -> dict:
        """Return what the page has to know beyond the events before."""
        for server, lane in self.lanes.items():
            self._judge(server, lane, now)
        self._pair(now)
        event = {
            "now": now,
            "servers": [
                {"id": server, "address": lane.address, "status": lane.status, **lane.state}
                for server, lane in self.lanes.items()
            ],
            "marks": self._marks,
            "messages": self._messages[:MAX_MESSAGES],
            "left_out": len(self._messages[MAX_MESSAGES:]),
            "notes": sorted(self._notes, key=lambda note: note["time"]),
        }
        self._marks, self._messages, self._notes = [], [], []
        return event

    def _judge(self, server: int, lane: Lane, now: float) -> None:
        """Note if a server's status has changed."""
        before, lane.status = lane.status, self._status(lane, now)
        if lane.status in (GONE, SILENT, SUSPENDED):
            lane.last_heard = now  # from its return on it is to hear others
        if lane.status != before:
            self._mark(server, lane.last_report)  # one that hangs has done so since then
            runs = {UNKNOWN: "runs", GONE: "has started again"}.get(before, "is back")
            back = f"{runs}: {lane.state.get('role')} in term {lane.state.get('term')}"
            since = now if lane.status in (RUNS, CUT_OFF) else lane.last_report
            self._note(since, f"Server {server} {HAPPENED.get(lane.status, back)}")

    def _status(self, lane: Lane, now: float) -> str:
        if lane.is_gone:
            return GONE
        if now - lane.last_report > SILENCE_TIMEOUT:
            return SILENT
        if not lane.state:
            return UNKNOWN
        if lane.state["suspended"]:
            return SUSPENDED
        is_alone = not lane.is_answered and now - lane.last_heard > ISOLATION_TIMEOUT
        return CUT_OFF if is_alone else RUNS

    def _mark(self, server: int, time: float) -> None:
        """Let the server's lane change its colour or label; its marks are in the order of time."""
        lane = self.lanes[server]
        lane.last_mark = max(time, lane.last_mark)
        names = {name: lane.state.get(name) for name in ("role", "term")}
        mark = {"server": server, "time": lane.last_mark, "status": lane.status, **names}
        self._marks.append(mark)

    def _tell(self, server: int, before: dict, state: dict) -> None:
        """Say what a server has done, unless it is alone and only repeats itself."""
        lane, term = self.lanes[server], state["term"]
        changed = state["role"] != before.get("role") or term != before.get("term")
        voted_for = state["voted_for"]
        if state["role"] == "leader" and changed:
            self._note(state["time"], f"Server {server} became leader in term {term}")
        elif lane.status == CUT_OFF or not before:
            return
        elif state["role"] == "candidate" and changed:
            self._note(state["time"], f"Server {server} stands for election in term {term}")
        elif before["role"] == "leader":
            self._note(state["time"], f"Server {server} leads no more: term {term}")
        if voted_for not in (None, server) and (voted_for, term) != (
            before.get("voted_for"),
            before.get("term"),
        ):
            text = f"Server {server} votes for server {voted_for} in term {term}"
            self._note(state["time"], text)

    def _note(self, time: float, text: str) -> None:
        self._notes.append({"time": time, "text": text})

    # Messages

    def _pair(self, now: float) -> None:
        """Pair each receipt with its sending; report what stays unpaired after a while."""
        for message, receipts in list(self._received.items()):
            sendings = self._sent[message]
            waiting = []
            for received in sorted(receipts):
                earlier = [time for time in sendings if time <= received + CLOCK_ERROR]
                if earlier and received < now - REPORT_DELAY:
                    sendings.remove(max(earlier))
                    self._add(message, max(earlier), received)
                elif received < now - PAIRING_TIMEOUT:
                    self._add(message, None, received)
                else:
                    waiting.append(received)
            self._received[message] = waiting
        for message, sendings in list(self._sent.items()):
            for sent in [time for time in sendings if time < now - LOSS_TIMEOUT]:
                sendings.remove(sent)
                self._add(message, sent, None)
        for times in (self._sent, self._received):
            for message in [message for message, left in times.items() if not left]:
                del times[message]

    def _add(self, message: tuple, sent: float | None, received: float | None) -> None:
        kind, sender, receiver, term, entries, success = message
        self._messages.append(
            {
                "kind": kind,
                "from": sender,
                "to": receiver,
                "term": term,
                "entries": entries,
                "success": success,
                "sent": sent,
                "received": received,
            }
        )
