"""Code that a script runs before its own: what its sitecustomize.py holds."""

LOCALHOST_IS_BOTH = """
import socket
resolve = socket.getaddrinfo
def getaddrinfo(host, *args, **options):
    if host != "localhost":
        return resolve(host, *args, **options)
    return [info for name in ("::1", "127.0.0.1") for info in resolve(name, *args, **options)]
socket.getaddrinfo = getaddrinfo
"""
