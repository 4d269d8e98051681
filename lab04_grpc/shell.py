"""The loop of an interactive client: commands from a terminal, a pipe or the command line.

Labs 3 to 6 have a copy of this file each, so that each folder runs alone; a test keeps the copies
identical.
"""

import argparse
import contextlib
import ctypes
import os
import signal
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import cli

try:
    import readline
except ImportError:  # no line editing on this system
    readline = None

HISTORY_LENGTH = 1000  # lines
REDRAW_INTERVAL = 0.02  # s until the main thread is signalled again
READING = 0x80000  # RL_STATE_CALLBACK in rl_readline_state: a line is being edited


@contextlib.contextmanager
def console(goodbye: str = "") -> Iterator[bool]:
    """A context for an interactive client; yields whether stdin and stdout are a terminal.

    Input that cannot be decoded is replaced. The client prints `goodbye` at its end, unless its
    output has no reader.
    """
    encoding = sys.stdin.encoding
    if encoding.lower() == "utf-8" and not sys.stdin.isatty():
        encoding = "utf-8-sig"  # some editors put a byte order mark before the first line
    sys.stdin.reconfigure(encoding=encoding, errors="replace")
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    mode = termios.tcgetattr(0) if terminal else None
    if terminal:  # blocked in every thread that starts later; an Editor waits for it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT})

    def tidy() -> None:
        if terminal and os.tcgetpgrp(0) == os.getpgrp():  # the terminal is ours to set
            termios.tcsetattr(0, termios.TCSANOW, mode)

    # On a terminal an empty line comes first: it ends the line with the prompt.
    cli.end_on_signal(*[""] * terminal, *[goodbye] * bool(goodbye), tidy=tidy)
    with cli.output():
        yield terminal
        if goodbye:
            print(goodbye)


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the option -c to a client's arguments."""
    parser.add_argument(
        "-c",
        dest="commands",
        metavar="COMMAND",
        action="append",
        type=lambda text: text.encode(errors="surrogateescape").decode(errors="replace"),
        help="run this command instead of reading any; may be repeated (default: read them); the "
        "exit status is 1 if one failed",
    )


class Shell:
    """The loop of an interactive client.

    A subclass has a method `do_<name>` for each command, and `commands`: {form: example}, where the
    first word of the form is the name. A command calls fail() when it could not do its work.
    """

    commands: dict[str, str] = {}

    def __init__(self, terminal: bool):
        self.terminal = terminal
        self.editor: Editor | None = None
        self.failed = False

    def run(self, lines: list[str] | None = None) -> int:
        """Carry out these lines, or else what is typed; return the exit status."""
        if lines:
            for line in lines:
                if self.obey(line):
                    break
            return int(self.failed)
        if self.terminal:
            self.editor = Editor(self.names())
        read = self.editor.read if self.editor else sys.stdin.readline
        while (line := read()) and not self.obey(line):
            pass
        return 0

    def obey(self, line: str) -> bool:
        """Carry out one line; return whether it ends the loop."""
        line = line.strip()
        name, *rest = line.split(maxsplit=1) or [""]
        if line in ("exit", "quit"):
            return True
        if name in ("help", "?"):
            self.show(self.help(*rest))
        elif name:
            method = getattr(self, f"do_{name}", None)
            method("".join(rest)) if method else self.default(line)
        return False

    def names(self) -> list[str]:
        return [*(form.split()[0] for form in self.commands), "help", "exit"]

    def help(self, name: str = "") -> str:
        """Return a line with all commands, or the form of one and an example."""
        for form, example in self.commands.items():
            if form.split()[0] == name:
                return f"{form}\nexample: {example}"
        return f"commands: {', '.join([*self.commands, 'help', 'exit'])}"

    def default(self, line: str) -> None:
        """Handle a line whose first word is no command of this class."""
        self.fail(f"Unknown command: {cli.printable(line.split()[0])}; {self.help()}")

    def show(self, text: str) -> None:
        """Print a text, from any thread; above what is being typed, if something is."""
        self.editor.show(text) if self.editor else print(text, flush=True)

    def fail(self, text: str) -> None:
        """Say why a command could not do its work."""
        self.failed = True
        self.show(text)


class Editor:
    """The prompt on a terminal: line editing, history, completion, and lines that come meanwhile.

    What another thread shows goes above the line that is being edited. Only the main thread may
    redraw that line, and only while it waits for a key. So wake() sends it SIGUSR1, and catch_up()
    is the handler. It calls functions of GNU readline that Python does not offer, by ctypes: they
    know where the cursor is and how many rows the line takes.
    """

    prompt = "> "

    def __init__(self, names: list[str]):
        self.names = names
        self.reading = False
        self.waiting: deque[str] = deque()  # texts to be shown above the line
        self.continued = False  # after a stop
        self.library = None
        with contextlib.suppress(AttributeError, OSError):
            library = ctypes.CDLL(getattr(readline, "__file__", None))
            library.rl_clear_visible_line, library.rl_forced_update_display, library.fflush  # noqa: B018
            self.library = library
        if readline:
            readline.set_completer(self.complete)
            readline.set_completer_delims(" ")
            libedit = "libedit" in (readline.__doc__ or "")
            readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
            self.history = open_history()
        signal.signal(signal.SIGUSR1, self.catch_up)
        threading.Thread(target=self.watch, daemon=True).start()

    def read(self) -> str:
        """Return the next line, or "" at the end of the input."""
        self.reading = True
        try:
            line = input(self.prompt) + "\n"
        except EOFError:
            line = ""
            self.waiting.appendleft("")  # Ctrl-D has ended no line
        self.reading = False
        self.print_waiting()
        if readline and line.strip():
            self.remember()
        return line

    def remember(self) -> None:
        """Keep the latest line for later sessions."""
        with contextlib.suppress(OSError):
            if self.history and hasattr(readline, "append_history_file"):
                readline.append_history_file(1, self.history)
            elif self.history:
                readline.write_history_file(self.history)

    def complete(self, text: str, state: int) -> str | None:
        """Return a command that begins so, for the first word of a line."""
        found = [f"{name} " for name in self.names if name.startswith(text)]
        return found[state] if readline.get_begidx() == 0 and state < len(found) else None

    def print_waiting(self) -> None:
        for text in self.take_waiting():
            print(text, flush=True)

    def take_waiting(self) -> list[str]:
        """Return the texts that wait, each to one caller alone, also if two threads call this."""
        texts = []
        with contextlib.suppress(IndexError):
            while True:
                texts.append(self.waiting.popleft())
        return texts

    def show(self, text: str) -> None:
        """Print a text, from any thread."""
        self.waiting.append(text)
        while self.waiting:
            self.wake()
            if not self.reading:
                self.print_waiting()

    def watch(self) -> NoReturn:
        """Bring the prompt back whenever Ctrl-Z and `fg` have stopped and continued the client."""
        while True:
            signal.sigwait({signal.SIGCONT})
            self.continued = True
            self.wake()

    def wake(self) -> None:
        """Signal the main thread until it has caught up: it may miss a signal before it waits."""
        while self.reading and (self.waiting or self.continued):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            time.sleep(REDRAW_INTERVAL)

    def catch_up(self, signum, frame) -> None:
        """Print what has come, above the line; in the main thread, while it waits for a key."""
        if not self.editing() or os.tcgetpgrp(0) != os.getpgrp():
            return
        texts = self.take_waiting()
        if self.library and self.continued:  # the shell has changed the terminal's mode
            self.library.rl_cleanup_after_signal()
            self.library.rl_reset_after_signal()
        elif self.library and texts:
            self.library.rl_clear_visible_line()
            self.library.fflush(None)  # before we write
        elif texts:
            texts.insert(0, "")
        self.write("".join(f"{text}\n" for text in texts))
        if texts or self.continued:
            self.redraw()
        self.continued = False

    def editing(self) -> bool:
        """Tell whether a line is being edited at this moment."""
        if not (self.reading and self.library):
            return self.reading
        return bool(ctypes.c_ulong.in_dll(self.library, "rl_readline_state").value & READING)

    def redraw(self) -> None:
        if self.library:
            self.library.rl_forced_update_display()
        else:
            self.write(self.prompt + (readline.get_line_buffer() if readline else ""))

    def write(self, text: str) -> None:
        """Write to the terminal; print() may be at work in the main thread."""
        data = text.encode(errors="replace")
        while data:
            data = data[os.write(1, data) :]


def open_history() -> str | None:
    """Read this client's history of earlier sessions; return its file, or None if there is none."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    folder = Path(base) / "distributed-systems-labs"
    file = folder / f"{Path(sys.argv[0]).resolve().parent.name}.history"
    readline.set_history_length(HISTORY_LENGTH)
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
        readline.read_history_file(file)
        return str(file)
    return None
