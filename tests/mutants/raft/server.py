"""Faults planted around lab 6's core: the server, what drives the core, peers and the disk."""

from tests.mutants import Mutant

STORAGE = "lab06_raft/storage.py"
NODE = "lab06_raft/node.py"
WAITING = "lab06_raft/waiting.py"
PEERS = "lab06_raft/peers.py"
SERVER = "lab06_raft/server.py"

MUTANTS = [
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
        "a commit returns before the disk has it",
        STORAGE,
        "PRAGMA synchronous = FULL;  ",
        "PRAGMA synchronous = OFF;  ",
    ),
    Mutant(
        "a write-ahead log that has changed is taken for one that a crash cut off",
        STORAGE,
        "if sum(frame > whole for frame in commits) > 1:",
        "if False:",
    ),
    Mutant(
        "a commit that a crash cut off is taken for damage",
        STORAGE,
        "if sum(frame > whole for frame in commits) > 1:",
        "if sum(frame > whole for frame in commits) > 0:",
    ),
    Mutant(
        "a write-ahead log whose header has changed is empty",
        STORAGE,
        " or checksum != _wal_checksum(header[:24], magic & 1)",
        "",
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
        "        if reply.success and await self.node.waiting.until(is_here, COPY_TIMEOUT):",
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
        "self._await_leader(self.raft.current_term, timeout))",
        "self.node.waiting.until(lambda: False, timeout))",
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
    Mutant(
        "inconsistent pages are loaded", STORAGE, '.fetchall() != [("ok",)]:', ".fetchall() == []:"
    ),
]
