"""Python libraries of others as programs, like those in bare.py.

python3 peers.py tftpy-server FOLDER
python3 peers.py tftpy-client PORT BLKSIZE FILE NAME
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


PROGRAMS = {
    "tftpy-server": tftpy_server,
    "tftpy-client": tftpy_client,
    "py3tftp-server": py3tftp_server,
}

if __name__ == "__main__":
    program, *arguments = sys.argv[1:]
    PROGRAMS[program](*arguments)
