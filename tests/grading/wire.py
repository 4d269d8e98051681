"""A TCP relay that remembers what passes, piece by piece."""

import contextlib
import socket
import threading

from tests.grading.scene import Scene

UP, DOWN = "up", "down"


class Recorder:
    """Stands between a client and a server, and can cut the connection after some replies.

    Args:
        cut_after: replies after which it hangs up on both; 0 for never.
    """

    def __init__(self, scene: Scene, server_port: int, cut_after: int = 0):
        self.pieces: list[tuple[str, bytes]] = []
        self.connections = 0
        self._server_port = server_port
        self._cut_after = cut_after
        self._listener = scene.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                far = socket.create_connection(("127.0.0.1", self._server_port), 5)
                for way in ((near, far, UP), (far, near, DOWN)):
                    threading.Thread(target=self._pump, args=way, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        with contextlib.suppress(OSError):
            source.settimeout(None)
            while data := source.recv(65536):
                self.pieces.append((direction, data))
                target.sendall(data)
                replies = sum(way == DOWN for way, _ in self.pieces)
                if self._cut_after and replies >= self._cut_after:
                    self._stop_listening()
                    break
        for sock in (source, target):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends a waiting accept() as well
        self._listener.close()

    def exchanges(self) -> list[tuple[bytes, bytes]]:
        """Return what went up and what came back for it, turn by turn."""
        turns: list[list[bytes]] = []
        last = DOWN
        for direction, data in list(self.pieces):
            if direction == UP and last == DOWN:
                turns.append([b"", b""])
            if turns:
                turns[-1][direction == DOWN] += data
            last = direction
        return [(up, down) for up, down in turns]
