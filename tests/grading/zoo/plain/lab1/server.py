import socket
import sys
import time

BUF_SIZE = 1024


class Session:
    def __init__(self, seqno0, filename, total_size):
        self.seqno0 = seqno0
        self.filename = filename
        self.total_size = total_size
        self.next_seqno = seqno0 + 1
        self.data = b""
        self.done = False
        self.last_time = time.time()


def save(session):
    with open(session.filename, "wb") as f:
        f.write(session.data)
    session.done = True
    print("saved", session.filename)


def handle(sessions, message, address):
    kind, seqno, rest = message.split(b" | ", 2)
    seqno = int(seqno)
    if kind == b"s":
        name, size = rest.rsplit(b" | ", 1)
        session = sessions.get(address)
        if session is None or (session.filename, session.seqno0) != (name.decode(), seqno):
            session = sessions[address] = Session(seqno, name.decode(), int(size))
            if session.total_size == 0:
                save(session)
        session.last_time = time.time()
        return f"a | {seqno + 1} | {BUF_SIZE}"
    session = sessions[address]
    session.last_time = time.time()
    if seqno == session.next_seqno and not session.done:
        session.data += rest
        session.next_seqno += 1
        if len(session.data) >= session.total_size:
            save(session)
    return f"a | {session.next_seqno}"


def clean(sessions):
    for address, session in list(sessions.items()):
        silence = time.time() - session.last_time
        if silence > (1.0 if session.done else 3.0):
            del sessions[address]


def main():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", int(sys.argv[1])))
    sock.settimeout(0.5)
    sessions = {}
    while True:
        try:
            message, address = sock.recvfrom(BUF_SIZE)
            clean(sessions)
            sock.sendto(handle(sessions, message, address).encode(), address)
        except TimeoutError:
            clean(sessions)
        except (ValueError, KeyError):
            print("strange message")


try:
    main()
except KeyboardInterrupt:
    print("bye")
