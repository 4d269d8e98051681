"""Faults planted in lab 6's core: elections, the log, snapshots, sessions."""

from tests.mutants import Mutant

RAFT = "lab06_raft/raft.py"
LEADER = "lab06_raft/leader.py"
REPLICA = "lab06_raft/replica.py"
LOG = "lab06_raft/log.py"
SNAPSHOTS = "lab06_raft/snapshots.py"
MACHINE = "lab06_raft/state_machine.py"

MUTANTS = [
    Mutant(
        "match_index is kept over elections",
        LEADER,
        "self.followers = {peer: Follower(self.log.last_index + 1) for peer in peers}",
        (
            "self.followers = vars(replica).setdefault(\n"
            '            "followers", {peer: Follower(self.log.last_index + 1) for peer in peers}\n'
            "        )"
        ),
    ),
    Mutant(
        "what is applied at a command's index counts as the command",
        REPLICA,
        "        return held and self.machine.has_done(place.index, self.log[place.index])",
        "        return True",
    ),
    Mutant(
        "a server votes twice in a term",
        RAFT,
        "request.term == self.current_term and self.voted_for is None",
        "request.term == self.current_term",
    ),
    Mutant(
        "a vote of an earlier term is given",
        RAFT,
        "return request.term == self.current_term and self.voted_for is None",
        "return self.voted_for is None",
    ),
    Mutant(
        "a shorter log gets votes",
        RAFT,
        "return (request.last_log_term, request.last_log_index) >= own",
        "return request.last_log_term >= own[0]",
    ),
    Mutant(
        "logs are compared by length first",
        RAFT,
        "return (request.last_log_term, request.last_log_index) >= own",
        "return (request.last_log_index, request.last_log_term) >= own[::-1]",
    ),
    Mutant(
        "a late vote counts",
        RAFT,
        "        return request.term == self.current_term\n",
        "        return True\n",
    ),
    Mutant(
        "a vote that was refused counts",
        RAFT,
        "        if reply.result and self.role",
        "        if self.role",
    ),
    Mutant(
        "half of the servers are a majority",
        RAFT,
        "self.quorum = len(members) // 2 + 1",
        "self.quorum = (len(members) + 1) // 2 or 1",
    ),
    Mutant(
        "a new term keeps the old vote",
        RAFT,
        "            self.voted_for = self.leader_id = self._incoming = None",
        "            self.leader_id = self._incoming = None",
    ),
    Mutant(
        "a vote does not restart the timer",
        RAFT,
        (
            "            self.voted_for = request.candidate_id\n"
            "            self.restart_timer(now)\n"
        ),
        "            self.voted_for = request.candidate_id\n",
    ),
    Mutant(
        "a leader of an earlier term is followed",
        RAFT,
        "        if request.term < self.current_term or self.leadership:",
        "        if self.leadership:",
    ),
    Mutant(
        "entries are taken wherever they come",
        RAFT,
        "        if prev > self.commit_index and not self.log.holds(prev, prev_term):",
        "        if prev > self.log.last_index:",
    ),
    Mutant(
        "a follower commits all that it has",
        RAFT,
        "self.replica.commit(min(request.leader_commit, last_new_index))",
        "self.replica.commit(min(request.leader_commit, self.log.last_index))",
    ),
    Mutant(
        "a heartbeat does not restart the timer",
        RAFT,
        ("        self.leader_id = request.leader_id\n        self.restart_timer(now)\n"),
        "        self.leader_id = request.leader_id\n",
    ),
    Mutant(
        "an unsaved entry counts for the leader",
        LEADER,
        "sorted([self.log.saved_index, *matches], reverse=True)",
        "sorted([self.log.last_index, *matches], reverse=True)",
    ),
    Mutant(
        "a committed snapshot is installed again",
        RAFT,
        "        if request.last_included_index <= self.commit_index:",
        "        if False:",
    ),
    Mutant(
        "a late reply counts in another term",
        RAFT,
        "return self.leadership is not None and self.leadership.term == term",
        "return self.leadership is not None",
    ),
    Mutant(
        "a lost call is not told to the leadership",
        RAFT,
        "            self.leadership.end_call(call)",
        "            pass",
    ),
    Mutant(
        "a candidate keeps its span", RAFT, "            self.timeout = self._new_timeout()\n", ""
    ),
    Mutant(
        "a forwarded command is committed wherever it stands",
        RAFT,
        "        if self.log.holds(*place):",
        "        if place.index <= self.log.last_index:",
    ),
    Mutant(
        "entries of earlier terms are committed by counting",
        LEADER,
        "        return self.log.term(index) == self.term\n",
        "        return True\n",
    ),
    Mutant(
        "a new leader adds no entry of its own",
        LEADER,
        "        self.log.append([Entry(term)])\n",
        "",
    ),
    Mutant(
        "a read asks only that the leader leads",
        LEADER,
        "return answered + 1 >= self.quorum and self.replica.commit_index >= read.index",
        "return self.replica.commit_index >= read.index",
    ),
    Mutant(
        "a new leader reads before its own entry is committed",
        LEADER,
        "return Read(self.term, self.round, max(self.replica.commit_index, self.start_index))",
        "return Read(self.term, self.round, self.replica.commit_index)",
    ),
    Mutant(
        "an earlier round confirms a read",
        LEADER,
        "peer.answered_round >= read.round for",
        "peer.answered_round >= read.round - 1 for",
    ),
    Mutant(
        "what is under way is sent again",
        LEADER,
        "if follower.under_way or follower.next_index > self.released_index:",
        "if follower.next_index > self.released_index:",
    ),
    Mutant(
        "waiting commands are not bounded",
        LEADER,
        "if waiting >= limits.waiting_entries or self.log",
        "if False and self.log",
    ),
    Mutant(
        "a leader compacts what a snapshot under way needs",
        LEADER,
        "            last = min([last, *(index for index in sent if index >= start)])",
        "            del sent",
    ),
    Mutant(
        "a follower drops what it has although it matches",
        REPLICA,
        "            if index < self.log.snapshot_index or self.log.holds(index, term):\n",
        "            if index <= self.commit_index:\n",
    ),
    Mutant(
        "an installed snapshot keeps a log that does not fit",
        REPLICA,
        "fits = self.log.holds(snapshot.index, snapshot.term)",
        "fits = snapshot.index <= self.log.last_index",
    ),
    Mutant(
        "the log is never compacted",
        REPLICA,
        "        if last - start < limits.snapshot_after and not is_large:",
        "        if True:",
    ),
    Mutant(
        "entries that are not on disk are compacted",
        REPLICA,
        "last, start = min(last, self.commit_index, log.saved_index), log.snapshot_index",
        "last, start = min(last, self.commit_index), log.snapshot_index",
    ),
    Mutant(
        "a truncated log keeps its saved index",
        LOG,
        "        self.saved_index = min(self.saved_index, index - 1)\n",
        "",
    ),
    Mutant(
        "a truncation is not saved",
        LOG,
        "        self._first_unsaved = min(self._first_unsaved, index)\n",
        "",
    ),
    Mutant(
        "a save of entries that were replaced counts",
        LOG,
        ("        if self.holds(index, term):\n            self.saved_index"),
        ("        if index <= self.last_index:\n            self.saved_index"),
    ),
    Mutant(
        "a retry is done twice",
        MACHINE,
        "            if entry.sequence <= self.sessions.get(entry.client_id, 0):",
        "            if False:",
    ),
    Mutant(
        "sessions are without a bound",
        MACHINE,
        "            if len(self.sessions) > MAX_SESSIONS:",
        "            if False:",
    ),
    Mutant(
        "a piece of a snapshot is taken out of order",
        SNAPSHOTS,
        "        if request.offset == self.offset:",
        "        if True:",
    ),
    Mutant(
        "a snapshot forgets the sessions",
        SNAPSHOTS,
        "            tuple(snapshot.sessions.items()) if done else (),",
        "            (),",
    ),
    Mutant(
        "pieces of two snapshots are mixed",
        SNAPSHOTS,
        "        return self._source == _source(request)",
        "        return True",
    ),
    Mutant(
        "ten times as many commands may wait",
        REPLICA,
        "    waiting_entries: int = 10_000 ",
        "    waiting_entries: int = 100_000 ",
    ),
    Mutant(
        "commands of ten times the size may wait",
        REPLICA,
        "    waiting_size: int = 64_000_000\n",
        "    waiting_size: int = 640_000_000\n",
    ),
    Mutant(
        "the log gets ten times as long",
        REPLICA,
        "    snapshot_after: int = 10_000 ",
        "    snapshot_after: int = 100_000 ",
    ),
    Mutant(
        "the log gets ten times as large",
        REPLICA,
        "    snapshot_after_size: int = 16_000_000\n",
        "    snapshot_after_size: int = 160_000_000\n",
    ),
    Mutant(
        "a part of a snapshot outlives its leader",
        RAFT,
        "            self.voted_for = self.leader_id = self._incoming = None",
        "            self.voted_for = self.leader_id = None",
    ),
    Mutant(
        "a part of a snapshot is installed",
        SNAPSHOTS,
        "            self.is_complete = request.done",
        "            self.is_complete = True",
    ),
]
