"""Python libraries of others as programs, like those in bare.py.

python3 peers.py tftpy-server FOLDER
python3 peers.py tftpy-client PORT BLKSIZE FILE NAME
python3 peers.py kademlia-node PORT OTHER-PORT...
python3 peers.py pysyncobj-node PORT OTHER-PORT...
"""

import logging
import sys
import threading
import time

HOST = "127.0.0.1"


def tftpy_server(folder: str) -> None:
    import tftpy

    logging.disable()
    server = tftpy.TftpServer(folder)
    threading.Thread(target=server.listen, args=(HOST, 0), daemon=True).start()
    server.is_running.wait()
    print(f"Listening on {HOST}:{server.listenport}", flush=True)
    threading.Event().wait()


def tftpy_client(port: str, blksize: str, path: str, name: str) -> None:
    import tftpy

    logging.disable()
    client = tftpy.TftpClient(HOST, int(port), {"blksize": int(blksize)})
    begun = time.perf_counter()
    client.upload(name, path)
    print(f"in {time.perf_counter() - begun:.6f} s", flush=True)


def py3tftp_server(port: str) -> None:
    """It serves its working directory."""
    from py3tftp.__main__ import main

    sys.argv[1:] = ["--host", HOST, "--port", port]
    main()


def kademlia_node(port: str, *others: str) -> None:
    """Obey lines: join; save FIRST COUNT and get FIRST COUNT, one key after the other."""
    import asyncio

    from kademlia.network import Server

    async def serve() -> None:
        server = Server(ksize=3)
        await server.listen(int(port), interface=HOST)
        print(f"Listening on {HOST}:{port}", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            command, *arguments = line.split()
            if command == "join":
                await join(server)
                print("joined", flush=True)
                continue
            first, count = map(int, arguments)
            for i in range(first, first + count):
                while not await carry_out(server, command, f"set {i}"):
                    await join(server)  # on a busy machine it may lose all its neighbours
            print("done", flush=True)

    async def join(server: Server) -> None:
        await server.bootstrap([(HOST, int(other)) for other in others])

    async def carry_out(server: Server, command: str, key: str) -> bool:
        if command == "save":
            return await server.set(key, "x")
        return await server.get(key) == "x"

    asyncio.run(serve())


def pysyncobj_node(port: str, *others: str) -> None:
    """Obey lines COUNT THREADS: the leader writes so often, in so many threads."""
    from concurrent.futures import ThreadPoolExecutor

    from pysyncobj import SyncObj, SyncObjConf, replicated

    class Store(SyncObj):
        def __init__(self):
            # The times of lab 6; entries go out at once.
            conf = SyncObjConf(
                raftMinTimeout=0.15,
                raftMaxTimeout=0.3,
                appendEntriesPeriod=0.0499,
                appendEntriesUseBatch=False,
            )
            super().__init__(f"{HOST}:{port}", [f"{HOST}:{other}" for other in others], conf)
            self.values = {}

        @replicated
        def set(self, key, value):
            self.values[key] = value

    store = Store()
    for line in sys.stdin:
        count, threads = map(int, line.split())
        if not store._isLeader():
            print("not the leader", flush=True)
            continue
        begun = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            write = lambda i: store.set(f"key{i % 100}", f"{i}", sync=True, timeout=5)  # noqa: E731
            list(pool.map(write, range(count)))
        print(f"in {time.perf_counter() - begun:.6f} s", flush=True)


PROGRAMS = {
    "pysyncobj-node": pysyncobj_node,
    "kademlia-node": kademlia_node,
    "tftpy-server": tftpy_server,
    "tftpy-client": tftpy_client,
    "py3tftp-server": py3tftp_server,
}

if __name__ == "__main__":
    program, *arguments = sys.argv[1:]
    PROGRAMS[program](*arguments)
