import socket
import struct
import sys
from multiprocessing import Queue
from queue import Empty
from threading import Thread

stopping = False


def is_prime(n):
    if n < 2:
        return False
    if n % 2 == 0:
        return n == 2
    i = 3
    while i * i <= n:
        if n % i == 0:
            return False
        i += 2
    return True


def serve(conn):
    conn.settimeout(0.2)
    data = b""
    while not stopping:
        try:
            part = conn.recv(8 - len(data))
        except TimeoutError:
            continue
        if not part:
            return
        data += part
        if len(data) == 8:
            conn.sendall(b"Y" if is_prime(struct.unpack(">q", data)[0]) else b"N")
            data = b""


def worker(queue):
    while not stopping:
        try:
            conn, address = queue.get(timeout=0.2)
        except Empty:
            continue
        print(address, "connected")
        with conn:
            try:
                serve(conn)
            except OSError as error:
                print(error)
        print(address, "disconnected")


def main():
    global stopping
    queue = Queue()
    workers = [Thread(target=worker, args=(queue,)) for _ in range(4)]
    for thread in workers:
        thread.start()
    with socket.create_server(("", int(sys.argv[1]))) as listener:
        try:
            while True:
                queue.put(listener.accept())
        except KeyboardInterrupt:
            print("Shutting down")
            stopping = True
    for thread in workers:
        thread.join()
    print("Done")


main()
