"""Faults planted in lab 6's calls: the client's retries, what is refused, what replies do, time."""

from tests.mutants import Mutant

CLIENT = "lab06_raft/client.py"
NODE = "lab06_raft/node.py"
PEERS = "lab06_raft/peers.py"
SERVER = "lab06_raft/server.py"

MUTANTS = [
    Mutant(
        "the client's commands have no number",
        CLIENT,
        "value=words[1], client_id=self.client_id, sequence=self.sequence",
        "value=words[1]",
    ),
    Mutant(
        "the client does not repeat a call whose connection broke",
        CLIENT,
        (
            "                if error.code() is not grpc.StatusCode.UNAVAILABLE:\n"
            "                    raise\n"
        ),
        "                raise\n",
    ),
    Mutant(
        "a term far above the own one is not plausible",
        NODE,
        "MAX_TERM_STEP = 2**32 ",
        "MAX_TERM_STEP = 2**20 ",
    ),
    Mutant(
        "an absurd term in a reply is obeyed",
        NODE,
        "        if reply is None or self.suspended or not self.is_plausible(reply.term):",
        "        if reply is None or self.suspended:",
    ),
    Mutant(
        "a leader that stood still puts its heartbeats off",
        NODE,
        "        return deadline if self.raft.leadership else max(deadline, self._not_before)",
        "        return max(deadline, self._not_before)",
    ),
    Mutant(
        "a suspension does not restart the timer",
        NODE,
        ("        self.suspended = False\n        self.raft.restart_timer(self.loop.time())\n"),
        "        self.suspended = False\n",
    ),
    Mutant(
        "a session's command needs no number",
        SERVER,
        "        if request.client_id and request.sequence < 1:",
        "        if False:",
    ),
    Mutant(
        "a period may be negative",
        SERVER,
        "        if request.period < 0:",
        "        if False:",
    ),
    Mutant(
        "a connection that has died is given up late",
        PEERS,
        "PING_INTERVAL = 200 ",
        "PING_INTERVAL = 5000 ",
    ),
    Mutant(
        "an idle connection that has died is not given up",
        PEERS,
        '    "grpc.http2.bdp_probe": 0,',
        '    "grpc.keepalive_permit_without_calls": 0,\n    "grpc.http2.bdp_probe": 0,',
    ),
    Mutant(
        "a snapshot that has arrived is kept for its follower",
        "lab06_raft/leader.py",
        "            follower.outgoing = None  # it is there, though its last reply may be lost\n",
        "            pass\n",
    ),
    Mutant(
        "a server among others that forgot its snapshot's end follows them without it",
        "lab06_raft/replica.py",
        "            if index < self.log.snapshot_index or self.log.holds(index, term):\n",
        "            if index <= self.log.snapshot_index or self.log.holds(index, term):\n",
    ),
]
