"""A fork server: it starts the labs' scripts without the time that their imports take.

It has imported the packages of the labs and nothing of the labs themselves. For each script it
forks, and the child runs the script as `python3 script` does: its own working directory,
environment, session, terminal, standard streams and `__main__`, and the interpreter's normal end.
The idea is that of multiprocessing's fork server, which runs functions and skips that end.

What a child does not show is the start of the interpreter itself. A test of that says so
(`Script(..., interpreter=processes.PYTHON)`), and with LABS_EXEC=1 every script starts in full.
"""

import contextlib
import fcntl
import gc
import importlib
import json
import os
import socket
import sys
import termios
import types
from collections.abc import Sequence

MODULES = (
    "grpc.aio",
    "grpc_tools.protoc",
    "google.protobuf.descriptor_pb2",
    "google.protobuf.internal.builder",
    "zmq.asyncio",
    "argparse",
    "concurrent.futures.process",
    "concurrent.futures.thread",
    "hashlib",
    "secrets",
    "sqlite3",
)
RECEIVE_BUFFER = 200_000  # bytes


def serve(connection: socket.socket) -> tuple[list, list[int]] | None:
    """Fork a child for each request. Return the request in the child, None at the end."""
    while True:
        request, files, _, _ = socket.recv_fds(connection, RECEIVE_BUFFER, 3)
        if not request:
            return None
        if not (child := os.fork()):
            if script := os.fork():
                connection.send(b"%d" % script)
                os._exit(0)
            return json.loads(request), files
        for fd in files:
            os.close(fd)
        os.waitpid(child, 0)
        connection.send(b"started")


def prepare(files: Sequence[int], folder: str, environment: dict[str, str], terminal: bool):
    """Give this process what a new one has from its parent."""
    for number, fd in enumerate(files):
        os.dup2(fd, number)
    os.closerange(3, 1000)
    os.setsid()
    if terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        buffering = 1 if name == "stderr" or os.isatty(number) else -1
        form = {"encoding": old.encoding, "errors": old.errors, "closefd": False}
        stream = open(number, "w" if number else "r", buffering, **form)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def main() -> None:
    os.environ["GRPC_VERBOSITY"] = "NONE"  # as rpc.py does; it is read once, at the import
    for module in MODULES:
        with contextlib.suppress(ImportError):  # the tests of its labs will say so
            importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a child's collections leave the shared pages alone
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        work = serve(connection)
        if work is None:
            return
        (sys.argv, *surroundings), files = work
        connection.detach()
        prepare(files, *surroundings)
    path = sys.argv[0]
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__file__ = path
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, vars(module))


if __name__ == "__main__":
    main()
