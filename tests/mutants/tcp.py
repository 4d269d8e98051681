"""Faults planted in lab 2."""

from tests.mutants import Mutant

TESTS = [
    "tests/lab02/test_worker.py",
    "tests/lab02/test_slow_lane.py",
    "tests/lab02/test_wire.py",
    "tests/lab02/test_crowds.py",
    "tests/lab02/test_scripts.py",
    "tests/lab02/test_hostile.py",
]

SERVER = "lab02_tcp_threads/server.py"
CONNECTION = "lab02_tcp_threads/connection.py"
SLOW_LANE = "lab02_tcp_threads/slow_lane.py"
CLIENT = "lab02_tcp_threads/client.py"

MUTANTS = [
    # --- Numbers ---
    Mutant(
        "silence is counted from the first digit",
        SERVER,
        "                self.quiet_at.pop(connection, None)\n                connection.read()",
        "                connection.read()",
    ),
    Mutant("a worker wakes for nothing", SERVER, "        return None\n", "        return QUIET\n"),
    Mutant(
        "the last number is lost",
        CONNECTION,
        "            self.ended = True\n            self.end_token()",
        "            self.ended = True",
    ),
    Mutant(
        "a long last number is lost",
        SERVER,
        "        elif connection.tokens:\n            self.selector.unregister(connection.sock)\n"
        "            self.slow_lane.put(connection)\n        elif connection.ended:\n"
        "            self.close(connection)\n",
        "        elif connection.ended:\n            self.close(connection)\n"
        "        elif connection.tokens:\n            self.selector.unregister(connection.sock)\n"
        "            self.slow_lane.put(connection)\n",
    ),
    Mutant("a token is a byte too short", CONNECTION, "MAX_TOKEN = 4096", "MAX_TOKEN = 4095"),
    Mutant("a token is a byte too long", CONNECTION, "MAX_TOKEN = 4096", "MAX_TOKEN = 4097"),
    Mutant(
        "a byte order mark is part of a number",
        CONNECTION,
        '.replace(BYTE_ORDER_MARK, b"")',
        "",
    ),
    # --- Fairness ---
    Mutant("a turn has no end", CONNECTION, " and time.monotonic() < ends", ""),
    Mutant("no number takes long", CONNECTION, "SLOW_DIGITS = 50", "SLOW_DIGITS = 1000"),
    Mutant("the slow lane has no order", SLOW_LANE, "COURTESY = 10.0", "COURTESY = 0.0"),
    Mutant(
        "a test goes on without its client",
        SLOW_LANE,
        "        if self.stopping or fd not in self._here:",
        "        if self.stopping:",
    ),
    Mutant(
        "a test goes on when the server stops",
        SLOW_LANE,
        "        if self.stopping or fd not in self._here:",
        "        if fd not in self._here:",
    ),
    Mutant(
        "a client keeps the slow lane to itself",
        SLOW_LANE,
        "        if connection.tokens and not connection.output:\n",
        "        while connection.tokens and takes_long(connection.tokens[0]):\n"
        "            connection.answer_next()\n            connection.send()\n"
        "        if connection.tokens and not connection.output:\n",
    ),
    Mutant(
        "a worker finishes its batch before it stops",
        SERVER,
        "                if self.stopping:\n                    break\n",
        "",
    ),
    # --- Ends ---
    Mutant("no client is given up", SERVER, "        enable_keepalive(listener)\n", ""),
    Mutant("no probes", SERVER, "socket.SO_KEEPALIVE, 1)", "socket.SO_KEEPALIVE, 0)"),
    Mutant(
        "data waits for ever", SERVER, '    "TCP_USER_TIMEOUT": 30_000,  # ms; Linux only\n', ""
    ),
    Mutant("small answers wait for others", SERVER, "TCP_NODELAY, 1)", "TCP_NODELAY, 0)"),
    Mutant(
        "connections under way are not disconnected",
        SERVER,
        "            slow_lane.claim(*element).close()\n",
        "            pass\n",
    ),
    Mutant(
        "connections in the slow lane are not disconnected",
        SERVER,
        "    slow_lane.close_connections()\n",
        "",
    ),
    Mutant(
        "a worker leaves its connections open",
        SERVER,
        "                self.close(key.data)\n",
        "                pass\n",
    ),
    Mutant("descriptors stay few", SERVER, "    cli.allow_open_files(MAX_OPEN_FILES)\n", ""),
    Mutant(
        "no signal ends it",
        SERVER,
        "    cli.on_signal(waker.close)",
        "    cli.on_signal(bool)",
    ),
    Mutant(
        "the server takes localhost as it comes",
        SERVER,
        "!= socket.AF_INET)",
        "!= socket.AF_INET or True)",
    ),
    # --- The client ---
    Mutant("a client waits for ever", CLIENT, "        sock.settimeout(REPLY_TIMEOUT)\n", ""),
    Mutant("a reply has no end", CLIENT, "        if len(reply) > MAX_REPLY:", "        if False:"),
]
