"""The READMEs: their sessions are played, and their commands, files and links exist.

A session is an indented block with a line that begins with `$ python3`. It shows one terminal, or
several side by side, and is played from left to right: `> ` is typed, `^C` is Ctrl-C, `...` stands
for anything. Ports are exchanged for free ones; times, rates and the ports of clients may differ.
"""

import collections
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.lab06.cluster import settled
from tests.support.harness import LABS, ROOT, load, wait_until
from tests.support.ports import free_port

READMES = sorted([ROOT / "README.md", *ROOT.glob("CONTRIBUTING.md"), *ROOT.glob("lab0*/README.md"),
                  *ROOT.glob("tests/README.md"), *ROOT.glob("tests/*/README.md")])  # fmt: skip
PORT = re.compile(r"(?<![\d.])(?:12300|5\d{3}|5000\d)(?!\d)")
START = re.compile(r"(?<!\S)\$ python3 ")
VARIABLE = [
    (re.escape("('127\\.0\\.0\\.1',") + r"\\ \d+", r"('127\.0\.0\.1',\\ \\d+"),
    (r"\d+\\\.\d+(?=\\ (?:s|MB/s))", r"[\\d.]+"),
    (r"\\\.\\\.\\\.", ".*"),
    (r"^\d\\ 127\\\.0\\\.0\\\.1:\d+$", r"\\d 127\\.0\\.0\\.1:\\d+"),  # the leader of a cluster
]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path) -> list[str]:
    """Return the indented blocks of a page; an empty line before a `$` parts them too."""
    found = re.findall(r"(?:^    .*\n|(?<=\n)\n(?=    ))+", path.read_text(), re.MULTILINE)
    plain = [re.sub("^    ", "", block, flags=re.MULTILINE) for block in found]
    return [part.strip("\n") for block in plain for part in re.split(r"\n\n(?=\$ )", block)]


def terminals(block: str) -> list[list[str]]:
    """Return the lines of each terminal of a block, from left to right."""
    lines = block.split("\n")
    columns = sorted({match.start() for line in lines for match in START.finditer(line)})
    *cells, last = (
        [line[begin:end].rstrip() for line in lines]
        for begin, end in zip(columns, [*columns[1:], None], strict=True)
    )
    # Only beside the last terminal is an empty line one of its own.
    last = "\n".join(last).strip("\n").split("\n")
    return [*([line for line in each if line] for each in cells), last]


def pattern(lines: list[str]) -> str:
    """Return a regular expression for what these lines of a terminal say was printed."""
    text = ""
    for line in lines:
        if line == "...":
            text += r"(?:.*\n)*"
        elif not line.startswith(("> ", "$ ")):
            line = re.escape(line.removeprefix("^C"))
            for part, replacement in VARIABLE:
                line = re.sub(part, replacement, line)
            text += f"{line}\n"
    return text


def play(session: list[list[str]], spawn, folder: Path) -> None:
    """Play the terminals of a session in a copy of its lab and compare what is printed."""
    *earlier, last = session
    started = []
    for lines in earlier:
        started.append(spawn(*start(lines[0], folder), cwd=folder))
        started[-1].expect(f"^{pattern(lines[1:2])}")
    if "lab06" in folder.name:
        settled(started, lambda: play_client(last, spawn, folder))
        return no_others_are_shown(earlier, started)
    play_client(last, spawn, folder)
    for lines, process in zip(earlier, started, strict=True):
        expected = pattern(lines)
        if any(line.startswith("^C") for line in lines):
            before = pattern([line for line in lines if not line.startswith("^C")][:-1])
            wait_until(lambda p=process, b=before: re.match(b, p.out), process.transcript())
            process.interrupt()
            assert process.wait() == 0
        wait_until(lambda p=process, e=expected: re.fullmatch(e, p.out), process.transcript())


def play_client(lines: list[str], spawn, folder: Path) -> None:
    """Play the last terminal, which is the client's."""
    client = spawn(*start(lines[0], folder), cwd=folder)
    for count, line in enumerate(lines):
        if line.startswith("> "):
            shown = pattern(lines[1:count])
            wait_until(lambda shown=shown: re.match(shown, client.out), client.transcript())
            client.send(line[2:])
    assert client.wait() == 0
    assert re.fullmatch(pattern(lines), client.out), client.transcript()


def no_others_are_shown(terminals: list[list[str]], servers: list) -> None:
    """An election goes another way each time: compare kinds of lines, without their numbers."""
    kinds = {re.sub(r"\d+", "#", line) for server in servers for line in server.lines}
    for line in (line for lines in terminals for line in lines[1:]):
        assert re.sub(r"\d+", "#", line) in kinds, line


def start(line: str, folder: Path) -> list:
    script, *arguments = shlex.split(line.removeprefix("$ python3 "))
    return [folder / script, *arguments]


@pytest.mark.parametrize("lab", [lab for lab in LABS if (ROOT / lab / "README.md").exists()])
def test_the_session_prints_what_the_readme_says(spawn, tmp_path, lab):
    folder = shutil.copytree(ROOT / lab, tmp_path / lab)
    ports = collections.defaultdict(
        lambda: str(free_port(socket.SOCK_DGRAM if "udp" in lab else socket.SOCK_STREAM))
    )

    def exchange(text: str) -> str:
        return PORT.sub(lambda match: ports[match[0]], text)

    for config in folder.glob("config.conf"):
        config.write_text(exchange(config.read_text()))
    found = [block for block in blocks(ROOT / lab / "README.md") if START.search(block)]
    session = [[exchange(line) for line in each] for block in found for each in terminals(block)]
    for file, size in re.findall(
        r"client\.py \S+ (\S+\.\S+) [\s\S]*?(\d+) bytes", "\n".join(found)
    ):
        (folder / file).write_bytes(bytes(int(size)))  # a file to send
    play(session, spawn, folder)


@pytest.mark.parametrize("path", READMES, ids=name)
def test_every_command_line_in_a_readme_is_one_that_its_script_takes(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for script, text in re.findall(r"python3 (\S+\.py)((?: [^\s`#&|()]+)*)", path.read_text()):
        file = next(file for file in (path.parent / script, ROOT / script) if file.exists())
        arguments = shlex.split(text)
        if "." in "".join(arguments[1:2]):  # a file to send
            (tmp_path / arguments[1]).touch()
        module = load(file)
        if hasattr(module, "parse_args"):
            module.parse_args(arguments)
        else:
            module.worker.parse_args(arguments, "")


WORD = r"(?:[a-z-]+|[A-Z_]+=(?:\"[^\"]*\"|[^\s`]+))"


@pytest.mark.parametrize("path", READMES, ids=name)
def test_every_make_target_in_a_readme_is_there(path):
    for command in re.findall(rf"(?:^    |`)(make {WORD}(?: {WORD})*)", path.read_text(), re.M):
        made = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True)
        assert made.returncode == 0, (command, made.stderr)


@pytest.mark.parametrize("path", READMES, ids=name)
def test_every_file_and_link_in_a_readme_is_there(path):
    text = path.read_text()
    files = re.findall(r"`([\w./]+\.(?:py|md|proto|conf|json|txt))`", text)
    files += [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    for file in files:
        if not file.startswith("OUT/"):  # what the grader makes
            pattern = file.replace("0N", "0?")
            found = [*path.parent.glob(pattern), *ROOT.glob(pattern)]
            assert found or (path.parent == ROOT and list(ROOT.glob(f"lab0*/{pattern}"))), file


@pytest.mark.parametrize("lab", LABS)
def test_each_lab_has_a_readme_of_a_page(lab):
    text = (ROOT / lab / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    for heading in ("A session", "Promises", "Reading order", "Things to try"):
        assert f"\n## {heading}\n" in text
