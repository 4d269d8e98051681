"""Lab 1, reliable file transfer over UDP: the judge is the other side, and a bad network."""

import socket
import time
from pathlib import Path

from tests.grading.lab01_peers import (
    ACK,
    DATA,
    PORT,
    START,
    RawClient,
    RawServer,
    check_saved,
    content,
    saved,
    start_server,
)
from tests.grading.scene import Loss, Scene, check

ABANDON_AFTER = 3.0  # s of silence
KEEP_FINISHED = 1.0  # s


def gate(scene: Scene) -> None:
    """The server listens and answers a start message, or else the client begins to send."""
    try:
        RawClient(scene, start_server(scene)).begin("gate.bin", 10)
    except Loss as loss:
        for program in scene.programs:
            program.kill()
        try:
            listener = RawServer(scene)
            listener.client("gate.bin", b"0123456789")
            listener.receive(START)
        except Loss:
            raise loss from None


def start_is_acked(scene: Scene) -> None:
    server = start_server(scene)
    RawClient(scene, server).begin("first.bin", 3000)
    RawClient(scene, server).begin("second.bin", 3000, seqno0=41)


def file_is_saved(scene: Scene) -> None:
    server = start_server(scene)
    data = b"line of text\n" * 400
    RawClient(scene, server).transfer("text.txt", data, most=2000)
    check_saved(scene, server, "text.txt", data)


def data_is_raw(scene: Scene) -> None:
    server = start_server(scene)
    data = b" | d | 2 | " + bytes(range(256)) * 8 + b"| |\r\n | " + content(1500) + b" | 7 | \n"
    RawClient(scene, server).transfer("raw.bin", data, most=700)
    check_saved(scene, server, "raw.bin", data)


def datagram_of_buf_size(scene: Scene) -> None:
    server = start_server(scene)
    client = RawClient(scene, server)
    client.begin("probe.bin", 1)
    data = content(client.buf_size * 3 if client.buf_size < 20000 else 150_000)
    RawClient(scene, server).transfer("full.bin", data)
    check_saved(scene, server, "full.bin", data)


def duplicate_start_is_acked(scene: Scene) -> None:
    server = start_server(scene)
    client = RawClient(scene, server)
    client.begin("twice.bin", 1000)
    reply = client.once(b"s | 0 | twice.bin | 1000", "the same start message again")
    check(
        reply and (ack := ACK.fullmatch(reply)) and int(ack[1]) == 1,
        "an ack to the start message that came twice",
        f"{reply!r}\n{server.tail()}",
    )
    data = content(1000)
    for k, message in enumerate(client.pieces(data, most=400), 1):
        client.exchange(message, k + 1, f"`d | {k} | ...`")
    check_saved(scene, server, "twice.bin", data)


def duplicate_data_is_acked_once_saved(scene: Scene) -> None:
    server = start_server(scene)
    client, data = RawClient(scene, server), content(1500)
    client.begin("again.bin", len(data))
    for k, message in enumerate(client.pieces(data, most=400), 1):
        client.exchange(message, k + 1, f"`d | {k} | ...`")
        if k == 2:
            reply = client.once(message, f"`d | {k} | ...` once more")
            check(
                reply and (ack := ACK.fullmatch(reply)) and int(ack[1]) == k + 1,
                f"the ack `a | {k + 1}` to the duplicate of message {k}",
                f"{reply!r}\n{server.tail()}",
            )
    check_saved(scene, server, "again.bin", data)


def early_data_is_not_taken(scene: Scene) -> None:
    server = start_server(scene)
    client, data = RawClient(scene, server), content(1500)
    client.begin("order.bin", len(data))
    messages = client.pieces(data, most=400)
    client.exchange(messages[0], 2, "`d | 1 | ...`")
    scene.note_step("send: `d | 3 | ...` while 2 is awaited")
    client.send(messages[2])
    for reply in client.replies(0.5):
        ack = ACK.fullmatch(reply)
        check(
            ack and int(ack[1]) == 2,
            "no ack but `a | 2`, the message the server waits for",
            repr(reply),
        )
    for k, message in enumerate(messages[1:], 2):
        client.exchange(message, k + 1, f"`d | {k} | ...`")
    check_saved(scene, server, "order.bin", data)


def two_clients_at_once(scene: Scene) -> None:
    server = start_server(scene)
    files = {"left.bin": content(2000, 2), "right.bin": content(2300, 3)}
    clients = {name: RawClient(scene, server) for name in files}
    for name, client in clients.items():
        client.begin(name, len(files[name]))
    queues = {name: client.pieces(files[name], most=500) for name, client in clients.items()}
    for k in range(max(map(len, queues.values()))):
        for name, client in clients.items():
            if k < len(queues[name]):
                client.exchange(queues[name][k], k + 2, f"message {k + 1} of {name}")
    for name, data in files.items():
        check_saved(scene, server, name, data)


def silent_session_is_abandoned(scene: Scene) -> None:
    server = start_server(scene)
    client, data = RawClient(scene, server), content(1500)
    client.begin("gone.bin", len(data))
    messages = client.pieces(data, most=400)
    client.exchange(messages[0], 2, "`d | 1 | ...`")
    scene.note_step("be silent for 5 s")
    time.sleep(ABANDON_AFTER + 2)
    scene.note_step("send: `d | 2 | ...` to the abandoned session")
    client.send(messages[1])
    for reply in client.replies(1.0):
        ack = ACK.fullmatch(reply)
        check(not ack or int(ack[1]) != 3, "the session is abandoned: no ack `a | 3`", repr(reply))
    check(
        saved(scene, "gone.bin") in (None, b""), "nothing is left of the file", "gone.bin is there"
    )
    client.transfer("new.bin", data, most=400)
    check_saved(scene, server, "new.bin", data)


def finished_session_is_kept(scene: Scene) -> None:
    server = start_server(scene)
    client, data = RawClient(scene, server), content(1000)
    messages = client.transfer("kept.bin", data, most=400)
    time.sleep(0.3)
    last = len(messages)
    reply = client.once(messages[-1], f"the last message, {last}, again 0.3 s after its ack")
    check(
        reply and (ack := ACK.fullmatch(reply)) and int(ack[1]) == last + 1,
        f"the ack `a | {last + 1}` again: the first one may have been lost",
        f"{reply!r}\n{server.tail()}",
    )
    time.sleep(KEEP_FINISHED + 1.5)
    client.transfer("next.bin", data[:500], most=400)
    check_saved(scene, server, "next.bin", data[:500])
    check_saved(scene, server, "kept.bin", data)


def client_sends_start(scene: Scene) -> None:
    server = RawServer(scene)
    server.client("remote-name.txt", b"x" * 1234)
    start = server.receive(START)
    check(
        start[2] == b"remote-name.txt" and int(start[3]) == 1234,
        "s | seqno0 | remote-name.txt | 1234",
        repr(start[0]),
    )


def client_sends_file(scene: Scene) -> None:
    server, data = RawServer(scene), content(2600)
    seqno0 = server.open("sent.bin", data, 300)
    found = server.collect(seqno0, len(data))
    check(
        found == data, f"the {len(data)} bytes of the file, in order", f"{len(found)} other bytes"
    )


def client_keeps_to_buf_size(scene: Scene) -> None:
    server, data = RawServer(scene), content(2000)
    server.open("small.bin", data, 128)
    expected, received = "no data message is longer than the buf_size of 128", 0
    while received < len(data):
        message = server.receive(DATA)
        check(len(message[0]) <= 128, expected, f"{len(message[0])} bytes")
        received += len(message[2])
        server.ack(int(message[1]) + 1)


def client_waits_for_each_ack(scene: Scene) -> None:
    server, data = RawServer(scene), content(1200)
    server.open("wait.bin", data, 300)
    message = server.receive(DATA)
    early = server.quiet(0.25)
    check(
        early is None or early == message[0],
        "nothing new before the ack",
        repr(early and early[:30]),
    )
    server.ack(int(message[1]) + 1)
    follower = server.receive(DATA)
    if follower[0] == message[0]:
        follower = server.receive(DATA)
    seen = repr(follower[0][:30])
    check(int(follower[1]) > int(message[1]), "the next data message after the ack", seen)


def client_repeats_what_is_not_acked(scene: Scene) -> None:
    server, data = RawServer(scene), content(1200)
    server.client("lost.bin", data)
    start = server.receive(START)
    scene.note_step("do not answer the first start message")
    begun = time.monotonic()
    again = server.receive(START, 4)
    check(again[0] == start[0], "the same start message again", repr(again[0]))
    waited = time.monotonic() - begun
    check(waited > 0.3, "again after 0.5 s", f"after {waited:.2f} s")
    server.ack(int(start[1]) + 1, 300)
    message = server.receive(DATA)
    scene.note_step("do not answer the first data message")
    repeated = server.receive(DATA, 4)
    check(
        repeated[0] == message[0],
        f"the same data message {int(message[1])} again",
        repr(repeated[0][:40]),
    )


def client_gives_up(scene: Scene) -> None:
    server = RawServer(scene)
    client = server.client("void.bin", b"x" * 500)
    first = server.receive(START)
    scene.note_step("never answer")
    count, deadline = 1, time.monotonic() + 12
    while client.running and time.monotonic() < deadline:
        count += server.quiet(0.2) == first[0]
    check(
        client.ends(0.1),
        "the client ends when no ack comes",
        f"it still sends after 12 s\n{client.tail()}",
    )
    while server.quiet(0.05) == first[0]:
        count += 1
    check(
        4 <= count <= 7,
        "the start message is sent again up to 5 times",
        f"it was sent {count} times in all",
    )


def client_gives_up_in_the_middle(scene: Scene) -> None:
    server = RawServer(scene)
    server.open("half.bin", content(1200), 300)
    message = server.receive(DATA)
    server.ack(int(message[1]) + 1)
    scene.note_step("acknowledge one data message, then nothing more")
    ended = server.program.ends(15)
    check(
        ended, "the client ends when no ack comes any more", f"it runs on\n{server.program.tail()}"
    )


def our_client_to_this_server(scene: Scene) -> None:
    server = start_server(scene)
    data = content(40_000)
    path: Path = scene.work() / "ours.bin"
    path.write_bytes(data)
    address = f"127.0.0.1:{scene.port(PORT, socket.SOCK_DGRAM)}"
    client = scene.start_ours("client", address, path, "from-reference.bin")
    check(client.ends(30), "the reference client ends", client.tail() + "\n" + server.tail())
    check_saved(scene, server, "from-reference.bin", data)


def this_client_to_our_server(scene: Scene) -> None:
    port = scene.port(PORT, socket.SOCK_DGRAM)
    (target := scene.work() / "received").mkdir()
    server = scene.start_ours("server", port, cwd=target)
    scene.wait_for_port(server, PORT, socket.SOCK_DGRAM)
    path, data = scene.work() / "theirs.bin", content(40_000)
    path.write_bytes(data)
    client = scene.start("client", f"127.0.0.1:{port}", path, "to-reference.bin")
    client.ends(30)
    received = target / "to-reference.bin"
    scene.until(received.exists, "the reference server has the file", 2, client, server)
    check(received.read_bytes() == data, "the same bytes", "others")
