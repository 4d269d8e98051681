"""Faults planted in lab 4, and in its rpc.py, which labs 5 and 6 have as well."""

from tests.mutants import Mutant

TESTS = [
    "tests/all_labs/test_terminal.py",
    "tests/lab04/test_service.py",
    "tests/lab04/test_scripts.py",
    "tests/lab04/test_failures.py",
    "tests/all_labs/test_rpc.py",
]

RPC = "lab04_grpc/rpc.py"
SERVER = "lab04_grpc/server.py"
CLIENT = "lab04_grpc/client.py"
SHELL = "lab04_grpc/shell.py"

MUTANTS = [
    # --- Channels and servers ---
    Mutant("no pings", RPC, '    ("grpc.keepalive_time_ms", KEEPALIVE_INTERVAL),\n', ""),
    Mutant(
        "no pings between calls",
        RPC,
        '("grpc.keepalive_permit_without_calls", 1)',
        '("grpc.keepalive_permit_without_calls", 0)',
    ),
    Mutant(
        "pings are abuse",
        RPC,
        '    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_INTERVAL // 2),\n',
        "",
    ),
    Mutant(
        "the back-off grows",
        RPC,
        '    ("grpc.max_reconnect_backoff_ms", 100),\n',
        "",
    ),
    Mutant(
        "one address of a host is enough",
        RPC,
        "for address in own_addresses(host):",
        "for address in own_addresses(host)[:1]:",
    ),
    Mutant(
        "an address that the machine lacks is an obstacle",
        RPC,
        "            problem = error\n",
        "            raise error\n",
    ),
    # --- Server ---
    Mutant("any number of calls", SERVER, "        maximum_concurrent_rpcs=MAX_CALLS,\n", ""),
    Mutant(
        "open streams delay the end",
        SERVER,
        'cli.end_on_signal("Shutting down")',
        'cli.on_signal(lambda: server.stop(0.5) and cli.say("Shutting down"))',
    ),
    # --- Client ---
    Mutant(
        "the largest integer is refused",
        CLIENT,
        "range(-(2**63), 2**63)",
        "range(-(2**63), 2**63 - 1)",
    ),
    Mutant("a hung server costs 15 s", CLIENT, "CALL_TIMEOUT = 5.0", "CALL_TIMEOUT = 15.0"),
    Mutant(
        "the whole stream has the time of one answer",
        CLIENT,
        "        while True:\n            deadline = time.monotonic() + CALL_TIMEOUT\n",
        "        deadline = time.monotonic() + CALL_TIMEOUT\n        while True:\n",
    ),
    Mutant(
        "our own time counts as silence",
        CLIENT,
        "            deadline = math.inf\n            if",
        "            if",
    ),
    Mutant("no call is made again", CLIENT, "ATTEMPTS = 3", "ATTEMPTS = 1"),
    Mutant(
        "answered numbers are asked again",
        CLIENT,
        "                unanswered.popleft()\n",
        "                pass\n",
    ),
    Mutant("a long text has no more time", CLIENT, " + 2 * request.ByteSize() / SLOWEST_LINK", ""),
    Mutant("answers reach the terminal", CLIENT, "cli.printable(reply.text)", "reply.text"),
    Mutant("replies reach the terminal", CLIENT, "else octal(c)", "else c"),
    Mutant("a byte order mark is text", SHELL, 'encoding = "utf-8-sig"', 'encoding = "utf-8"'),
]
