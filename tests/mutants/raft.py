"""Faults planted in lab 6: the rules of Raft, and what its driver and its disk promise."""

from tests.mutants import Mutant

TESTS = [
    "tests/lab06/test_core.py",
    "tests/lab06/test_replication.py",
    "tests/lab06/test_storage.py",
    "tests/lab06/test_snapshots.py",
    "tests/lab06/test_state_machine.py",
    "tests/lab06/test_log.py",
    "tests/lab06/test_node.py",
    "tests/lab06/test_reads.py",
    "tests/lab06/test_saves.py",
    "tests/lab06/test_watching.py",
    "tests/lab06/test_driver.py",
    "tests/lab06/test_simulation.py::test_no_seed_violates_a_property_or_loses_what_was_acknowledged",
    "tests/lab06/test_service.py",
    "tests/lab06/test_durability.py",
    "tests/lab06/test_hostile.py",
    "tests/lab06/test_faults.py",
    "tests/lab06/test_client.py",
]

RAFT = "lab06_raft/raft.py"
LEADER = "lab06_raft/leader.py"
REPLICA = "lab06_raft/replica.py"
LOG = "lab06_raft/log.py"
SNAPSHOTS = "lab06_raft/snapshots.py"
MACHINE = "lab06_raft/state_machine.py"
STORAGE = "lab06_raft/storage.py"
NODE = "lab06_raft/node.py"
WAITING = "lab06_raft/waiting.py"
PEERS = "lab06_raft/peers.py"
SERVER = "lab06_raft/server.py"

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
        "a value is read before a majority has confirmed the read",
        SERVER,
        (
            "confirmed = bool(self.raft.leadership) and await self.node.waiting.confirm_read()\n"
            "        await self._check(context)\n"
            "        value = self.raft.values.get(request.key)\n"
        ),
        (
            "value = self.raft.values.get(request.key)\n"
            "        confirmed = bool(self.raft.leadership)\n"
            "        confirmed = confirmed and await self.node.waiting.confirm_read()\n"
            "        await self._check(context)\n"
        ),
    ),
    Mutant(
        "a save that fails is ignored",
        NODE,
        "            self._fail(error)",
        "            del error",
    ),
    Mutant(
        "what is applied at a command's index counts as the command",
        REPLICA,
        "        return held and self.machine.has_done(place.index, self.log[place.index])",
        "        return True",
    ),
    Mutant(
        "a commit returns before the disk has it",
        STORAGE,
        "PRAGMA synchronous = FULL;  ",
        "PRAGMA synchronous = OFF;  ",
    ),
    Mutant(
        "a save is no transaction",
        STORAGE,
        ('        self.db.execute("BEGIN")\n        if unsaved.installed:'),
        "        if unsaved.installed:",
    ),
    Mutant(
        "there is no write-ahead log",
        STORAGE,
        "PRAGMA journal_mode = WAL; ",
        "PRAGMA journal_mode = MEMORY; ",
    ),
    Mutant(
        "a suspended server takes requests",
        SERVER,
        "        if self.node.suspended:",
        "        if False:",
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
        "        elif not self.log.holds(prev, request.prev_log_term):",
        "        elif prev > self.log.last_index:",
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
        "            self.leadership.is_over(call)",
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
        ("            if self.log.holds(index + offset, entry.term):\n                continue\n"),
        "",
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
        "a vote is asked for before it is saved",
        NODE,
        "                self._when_saved(partial(self._make, call))",
        "                self._make(call)",
    ),
    Mutant(
        "a reply goes out before the save",
        NODE,
        ("        if self._is_saving:\n            saved = self.loop"),
        ("        if False:\n            saved = self.loop"),
    ),
    Mutant(
        "what follows the next save is let out after this one",
        NODE,
        "            self._after_next.append(effect)",
        "            self._after_save.append(effect)",
    ),
    Mutant(
        "a follower that stood still does not read first",
        NODE,
        "now + (HEARTBEAT_INTERVAL if late < longest else longest)",
        "0.0",
    ),
    Mutant(
        "a follower that stood still for long does not wait for a new connection",
        NODE,
        "(HEARTBEAT_INTERVAL if late < longest else longest)",
        "HEARTBEAT_INTERVAL",
    ),
    Mutant(
        "a save holds up the event loop",
        NODE,
        "        if self._executor is None:",
        "        if True:",
    ),
    Mutant(
        "a suspended server uses a late reply",
        NODE,
        "        if reply is None or self.suspended or not",
        "        if reply is None or not",
    ),
    Mutant(
        "a suspended server sends",
        NODE,
        "        if self.suspended:\n            self.raft.call_lost",
        "        if False:\n            self.raft.call_lost",
    ),
    Mutant("a suspension leaves requests waiting", NODE, "        self.waiting.give_up()\n", ""),
    Mutant(
        "any term is plausible",
        NODE,
        "        return term <= self.raft.current_term + MAX_TERM_STEP",
        "        return True",
    ),
    Mutant(
        "a timer goes on while suspended",
        NODE,
        "        if not self._timer and not self.suspended:",
        "        if not self._timer:",
    ),
    Mutant(
        "a lost command waits for its timeout",
        WAITING,
        "        while writes and not self.raft.log.holds(*writes[-1][0]):",
        "        while False:",
    ),
    Mutant(
        "a lost read waits for its timeout",
        WAITING,
        "            if confirmed or read.term != self.raft.current_term:",
        "            if confirmed:",
    ),
    Mutant(
        "requests are not gathered",
        WAITING,
        "        elif self._new and not self._is_under_way and",
        "        elif self._new and",
    ),
    Mutant(
        "a request does not wait for the one after it",
        WAITING,
        "            self._flush_timer.cancel()\n            self._flush_timer = None\n",
        "            pass\n",
    ),
    Mutant(
        "requests are gathered without end",
        WAITING,
        "min(now + GATHER_INTERVAL, self._flush_deadline)",
        "now + GATHER_INTERVAL",
    ),
    Mutant(
        "a read that comes late joins the round under way",
        WAITING,
        "            self._reads.append((read, reads))",
        "            self._reads.append((read._replace(round=read.round - 1), reads))",
    ),
    Mutant(
        "a vote arrives without the log's last term",
        PEERS,
        "message.candidate_id, message.last_log_index, message.last_log_term",
        "message.candidate_id, message.last_log_index, message.term",
    ),
    Mutant(
        "large messages share the connection of heartbeats",
        PEERS,
        "        stub = self._large if size > LARGE else self._small",
        "        stub = self._small",
    ),
    Mutant(
        "entries lose their sessions on the way",
        PEERS,
        "protocol.Entry(entry.term, entry.key, entry.value, entry.client_id, entry.sequence)",
        "protocol.Entry(entry.term, entry.key, entry.value)",
    ),
    Mutant(
        "snapshots lose their sessions on the way",
        PEERS,
        "        tuple((session.client_id, session.sequence) for session in message.sessions),",
        "        (),",
    ),
    Mutant(
        "a stranger is obeyed",
        SERVER,
        "        if sender not in self.node.peers:",
        "        if False:",
    ),
    Mutant(
        "an absurd term is obeyed",
        SERVER,
        "        elif not self.node.is_plausible(term):",
        "        elif False:",
    ),
    Mutant(
        "entries of a later term are taken",
        SERVER,
        "        elif max(log_terms) > term:",
        "        elif False:",
    ),
    Mutant(
        "a candidate says True",
        SERVER,
        "        return messages.SetValReply(success=False)\n",
        "        return messages.SetValReply(success=True)\n",
    ),
    Mutant(
        "a command without a session is passed on twice",
        SERVER,
        ("            if not request.client_id:\n                break\n"),
        "",
    ),
    Mutant(
        "a session's command is done again by the next leader",
        SERVER,
        "        if request.client_id and last >= request.sequence:",
        "        if False:",
    ),
    Mutant(
        "an old command of a session is answered True",
        SERVER,
        "self.raft.replica.last_place() if last == request.sequence else None",
        "self.raft.replica.last_place()",
    ),
    Mutant(
        "a follower answers before it has what it forwarded",
        SERVER,
        "        if reply.success and await self.node.waiting.until(here, COPY_TIMEOUT):",
        "        if False:",
    ),
    Mutant(
        "every read says that it is confirmed",
        SERVER,
        "value=value, confirmed=confirmed)",
        "value=value, confirmed=True)",
    ),
    Mutant(
        "a forwarded command is forwarded again",
        SERVER,
        "            if request.forwarded or self.raft.leader_id is None:",
        "            if self.raft.leader_id is None:",
    ),
    Mutant(
        "a command that is passed on waits for a leader that hangs",
        SERVER,
        "        moved = asyncio.ensure_future(self.node.waiting.until(next_leader, timeout))",
        "        moved = asyncio.ensure_future(self.node.waiting.until(lambda: False, timeout))",
    ),
    Mutant(
        "a vote is not saved",
        STORAGE,
        "state = (*owner, unsaved.current_term, unsaved.voted_for, index",
        "state = (*owner, unsaved.current_term, None, index",
    ),
    Mutant(
        "a directory has no owner", STORAGE, "        if rows[0][:2] != owner:", "        if False:"
    ),
    Mutant(
        "a changed row is loaded",
        STORAGE,
        "        if any(_checksum(row[:-1]) != row[-1] for row in rows):",
        "        if False:",
    ),
    Mutant(
        "a gap in the log is loaded",
        STORAGE,
        "        if [position for position, *_ in rows] != list(range(first, last + 1)):",
        "        if False:",
    ),
    Mutant(
        "an old tail of the log stays on disk",
        STORAGE,
        '        self.db.execute("DELETE FROM log WHERE position >= ?", (first,))\n',
        "",
    ),
    Mutant(
        "two processes may use one directory",
        STORAGE,
        "    PRAGMA locking_mode = EXCLUSIVE;     -- no second process on the same file\n",
        "",
    ),
]
