"""Code that runs before a script's own: for the fixtures `patched` and `spawn_after`."""

# macOS starts programs with 256.
FEW_DESCRIPTORS = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (50, 1000))"

LOCALHOST_IS_BOTH = """
import socket
resolve = socket.getaddrinfo
def getaddrinfo(host, *args, **options):
    if host != "localhost":
        return resolve(host, *args, **options)
    return [info for name in ("::1", "127.0.0.1") for info in resolve(name, *args, **options)]
socket.getaddrinfo = getaddrinfo
"""
