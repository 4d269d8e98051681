"""The scripts of the labs."""

# Every script with a command line that starts it; servers with the port 0.
SERVERS = [
    ("lab01_udp/server.py", ["0"]),
    ("lab02_tcp_threads/server.py", ["0"]),
    ("lab03_zmq/server.py", ["0", "0", "0", "0"]),
    ("lab04_grpc/server.py", ["0"]),
]
OTHERS = [
    ("lab01_udp/client.py", ["localhost:1", "server.py", "name"]),
    ("lab02_tcp_threads/client.py", ["localhost:1"]),
    ("lab03_zmq/prime.py", ["1", "2"]),
    ("lab03_zmq/gcd.py", ["1", "2"]),
    ("lab03_zmq/client.py", ["1", "2"]),
    ("lab04_grpc/client.py", ["localhost:1"]),
    ("lab05_chord/Registry.py", ["127.0.0.1:0", "5"]),
    ("lab05_chord/Node.py", ["127.0.0.1:1", "127.0.0.1:0"]),
    ("lab05_chord/Client.py", []),
    ("lab05_chord/watch.py", ["--port", "0", "127.0.0.1:1"]),
    ("lab06_raft/server.py", ["0"]),
    ("lab06_raft/client.py", []),
    ("lab06_raft/watch.py", ["--port", "0"]),
]
INTERACTIVE = [script for script, _ in OTHERS if script.lower().endswith("client.py")][2:]
# The labs whose clients take no commands: what follows the address, with a file `source` to send.
WITHOUT_PROMPT = [("lab01_udp", ["source", "copy"]), ("lab02_tcp_threads", [])]
