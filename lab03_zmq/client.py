"""Send lines to the workers behind a lab 3 server: python3 client.py 5555 5556

The ports are the server's client_inputs and client_outputs. A line goes to client_inputs, which
confirms it; the answer comes on client_outputs, as do the answers to all other clients.
"""

import argparse
import cmd
import contextlib
import os
import signal
import sys
import threading

import process  # before all other packages

# isort: split
import sockets
import zmq
from process import printable
from zmq.utils.monitor import recv_monitor_message

try:
    import readline
except ImportError:  # no line editing on this system
    readline = None

CONNECT_TIMEOUT = 3.0  # s, at the start
RECONNECT_TIMEOUT = 0.5  # s, for each line while the server is away
CONFIRM_TIMEOUT = 3.0  # s: a server that has just started gives its workers 2 s to arrive
ANSWER_TIMEOUT = 2.0  # s
MAX_LINE = 60_000  # bytes; the server takes 64 KB
REFUSED = ("no worker takes", "busy")  # how a confirmation of our server begins that is none
ANSWERS = {"isprime": "{} is ", "gcd": "gcd for {} {} is "}  # by the first word of the line
COMMANDS = "commands: isprime N, gcd A B, anything else that a worker takes, help, exit"


class Answers(threading.Thread):
    """Receives and prints whatever the workers answer, to us and to others.

    Args:
        show: prints one answer.
    """

    def __init__(self, context: zmq.Context, endpoint: str, show):
        super().__init__(daemon=True)
        self.context = context
        self.endpoint = endpoint
        self.show = show
        self.connected = threading.Event()
        self.connections = 0  # that have been made, one after the other
        self.answered = threading.Event()
        self.line = ""  # the one whose answer is awaited

    def run(self) -> None:
        socket = self.context.socket(zmq.SUB)
        socket.subscribe(b"")
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        socket.connect(self.endpoint)
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(monitor, zmq.POLLIN)
        with socket, monitor, contextlib.suppress(zmq.ContextTerminated):
            try:
                while True:
                    ready = dict(poller.poll())
                    if monitor in ready:
                        self.note(recv_monitor_message(monitor)["event"])
                    if socket in ready:
                        self.receive(socket.recv().decode("utf-8", "replace"))
            except BrokenPipeError:  # nobody reads what we print
                os.kill(os.getpid(), signal.SIGTERM)

    def note(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.connections += 1
            self.connected.set()
        else:
            self.connected.clear()

    def receive(self, answer: str) -> None:
        self.show(printable(answer))
        if self.line and is_answer(answer, self.line):
            self.answered.set()

    def expect(self, line: str) -> None:
        """Begin to look out for the answer to a line."""
        self.answered.clear()
        self.line = line


def is_answer(answer: str, line: str) -> bool:
    """Tell whether an answer is to this line, and not to what another client has asked.

    A worker that cannot make sense of a line repeats it. Answers of workers that we do not know
    only have to name the arguments, in their order.
    """
    keyword, *arguments = line.split()
    form = ANSWERS.get(keyword)
    if form is None:
        words = iter(answer.split())
        return all(argument in words for argument in arguments)
    if form.count("{}") == len(arguments) and answer.startswith(form.format(*arguments)):
        return True
    rest = answer[len(line) :].lstrip()
    return answer.startswith(line) and not (rest[:1].isalnum() or rest[:1] in ("+", "-"))


class Client(cmd.Cmd):
    """The prompt."""

    def __init__(self, context: zmq.Context, host: str, inputs: int, outputs: int, terminal: bool):
        super().__init__()
        self.context = context
        self.terminal = terminal
        self.prompt = "> " if terminal else ""
        self.typing = False
        self.printing = threading.Lock()
        self.server = sockets.join_address(host, inputs)
        self.answers = Answers(context, f"tcp://{sockets.join_address(host, outputs)}", self.show)
        self.requests = self.open_requests()

    def open_requests(self) -> zmq.Socket:
        """Return a socket for lines, for the present connection on which answers come.

        Its handshake follows the subscription, and so do its lines: no answer comes too early.
        """
        self.connection = self.answers.connections
        socket = self.context.socket(zmq.REQ)
        socket.connect(f"tcp://{self.server}")
        return socket

    def reopen(self) -> None:
        self.requests.close()
        self.requests = self.open_requests()

    def preloop(self) -> None:
        self.answers.start()
        if not self.answers.connected.wait(CONNECT_TIMEOUT):
            self.show(f"The server {self.server} is not reachable")
        self.typing = self.terminal

    def precmd(self, line: str) -> str:
        self.typing = False
        return line

    def postcmd(self, stop: bool, line: str) -> bool:
        self.typing = self.terminal
        return stop

    def onecmd(self, line: str) -> bool:
        line = line.strip()
        if line == "EOF" and self.terminal:  # the name that cmd gives to the end of the input
            print()  # nobody has pressed Enter
        if line in ("exit", "quit", "EOF"):
            return True
        if line in ("help", "?"):
            self.show(COMMANDS)
        elif line:
            self.ask(line)
        return False

    def ask(self, line: str) -> None:
        """Send a line; return when its answer is printed, or else why there is none."""
        if len(line.encode()) > MAX_LINE:
            return self.show(f"The line is longer than {MAX_LINE} bytes")
        if not self.answers.connected.wait(RECONNECT_TIMEOUT):
            return self.show(f"The server {self.server} is not reachable")
        if self.connection != self.answers.connections:
            self.reopen()
        self.answers.expect(line)
        self.requests.send_string(line)
        if not self.requests.poll(CONFIRM_TIMEOUT * 1000):
            self.reopen()  # without the line, which must not arrive when nothing awaits its answer
            return self.show(f"The server {self.server} does not confirm: {line}")
        confirmation = self.requests.recv().decode("utf-8", "replace")
        if confirmation.startswith(REFUSED):
            return self.show(printable(f"{line}: {confirmation}"))
        if not self.answers.answered.wait(ANSWER_TIMEOUT):
            return self.show(f"No answer within {ANSWER_TIMEOUT:g} s to: {printable(line)}")

    def show(self, text: str) -> None:
        """Print a line, above the prompt and what is being typed there."""
        with self.printing:
            if not self.typing:
                print(text, flush=True)
                return
            typed = readline.get_line_buffer() if readline else ""
            print(f"\r\033[K{text}\n{self.prompt}{typed}", end="", flush=True)

    def completenames(self, text: str, *ignored) -> list[str]:
        return [name for name in ("isprime ", "gcd ", "help", "exit") if name.startswith(text)]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Send lines to the workers behind a server and print their answers.",
        epilog="example: python3 client.py 5555 5556",
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message}\n")
    for name in ("client_inputs", "client_outputs"):
        parser.add_argument(name, type=sockets.parse_port, help="port of the server")
    parser.add_argument(
        "--host", type=sockets.parse_host, default="127.0.0.1", help="where the server is"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    context = sockets.open_context(args.host)
    with process.console() as terminal:
        client = Client(context, args.host, args.client_inputs, args.client_outputs, terminal)
        client.cmdloop()
    client.requests.close()
    context.term()
    return 0


if __name__ == "__main__":
    sys.exit(main())
