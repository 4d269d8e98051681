"""Faults planted in lab 3."""

from tests.mutants import Mutant

TESTS = [
    "tests/lab03/test_fuzz.py",
    "tests/lab03/test_scripts.py",
    "tests/lab03/test_answers.py",
    "tests/lab03/test_keywords.py",
    "tests/lab03/test_hostile.py",
    "tests/lab03/test_restarts.py",
    "tests/lab03/test_limits.py",
    "tests/lab03/test_floods.py",
    "tests/lab03/test_network.py",
]

SOCKETS = "lab03_zmq/sockets.py"
DESCRIPTORS = "lab03_zmq/descriptors.py"
SERVER = "lab03_zmq/server.py"
WORKER = "lab03_zmq/worker.py"
CLIENT = "lab03_zmq/client.py"

MUTANTS = [
    # --- Sockets ---
    Mutant("no heartbeats", SOCKETS, "    zmq.HEARTBEAT_IVL: HEARTBEAT_INTERVAL,\n", ""),
    Mutant("a line without a way delays the end", SOCKETS, "    zmq.LINGER: 0,\n", ""),
    Mutant(
        "an answer may be no longer than a line",
        SOCKETS,
        "MAX_ANSWER = 1 << 17",
        "MAX_ANSWER = MAX_LINE",
    ),
    # --- Server ---
    Mutant(
        "clients that have just come miss an answer",
        SERVER,
        "        self.client_outputs.get(zmq.EVENTS)\n",
        "",
    ),
    Mutant(
        "any number of lines waits at the start",
        SERVER,
        " and len(self.waiting) < MAX_WAITING",
        "",
    ),
    Mutant(
        "seconds for milliseconds",
        SERVER,
        "self.start_deadline - time.monotonic()) * 1000",
        "self.start_deadline - time.monotonic())",
    ),
    Mutant(
        "what waits is forgotten",
        SERVER,
        "            self.offer(envelope, line)\n",
        "            pass\n",
    ),
    Mutant(
        "a full queue drops lines",
        SERVER,
        "worker_inputs.setsockopt(zmq.XPUB_NODROP, 1)",
        "worker_inputs.setsockopt(zmq.XPUB_NODROP, 0)",
    ),
    Mutant(
        "a full queue drops answers",
        SERVER,
        "client_outputs.setsockopt(zmq.XPUB_NODROP, 1)  # a send waits while a queue is full",
        "client_outputs.setsockopt(zmq.XPUB_NODROP, 0)",
    ),
    Mutant(
        "answers wait for a client that never reads",
        SERVER,
        "sndtimeo = int(SLOW_TIMEOUT * 1000)",
        "sndtimeo = -1",
    ),
    Mutant(
        "after one slow client all queues drop answers",
        SERVER,
        "            self.client_outputs.setsockopt(zmq.XPUB_NODROP, 1)\n",
        "",
    ),
    Mutant(
        "a subscription to a part of a word counts",
        SERVER,
        "and not (topic[-1:].isalnum() and",
        "and not (topic and not topic and",
    ),
    Mutant(
        "a word ends at a hyphen",
        SERVER,
        "line[len(topic) : len(topic) + 1].strip())",
        "line[len(topic) : len(topic) + 1].isalnum())",
    ),
    Mutant("all keywords are named", SERVER, "MAX_NAMED = 20", "MAX_NAMED = 200_000"),
    Mutant("long keywords are named whole", SERVER, "topic[:MAX_NAME]", "topic"),
    Mutant(
        "a line too long is taken",
        SERVER,
        "            socket.maxmsgsize = sockets.MAX_LINE\n",
        "            pass\n",
    ),
    # --- Descriptors ---
    Mutant("the last descriptors are used", DESCRIPTORS, "SPARE = 16", "SPARE = -1"),
    Mutant("no more descriptors are asked for", DESCRIPTORS, "MAX_OPEN = 10_000", "MAX_OPEN = 64"),
    # --- Workers ---
    Mutant(
        "answers grow by decoding",
        WORKER,
        'data.decode("utf-8", "surrogateescape")',
        'data.decode("utf-8", "replace")',
    ),
    Mutant(
        "a busy worker keeps quiet",
        WORKER,
        "        else:\n            self.send(f",
        "        else:\n            str(f",
    ),
    Mutant(
        "a line is read only when the one before is answered",
        WORKER,
        "while not self.backlog or self.inputs.get(zmq.EVENTS) & zmq.POLLIN:",
        "while not self.backlog:",
    ),
    # --- Client ---
    Mutant(
        "a busy server is not told", CLIENT, '("no worker takes", "busy")', '("no worker takes",)'
    ),
    Mutant(
        "a known keyword takes any answer",
        CLIENT,
        "    if form is None:\n",
        '    if form is None or form.count("{}") != len(arguments):\n',
    ),
    Mutant(
        "what a worker says of a longer line is taken",
        CLIENT,
        'rest[:1] in ("", ":")',
        "not rest[:1].isalnum()",
    ),
]
