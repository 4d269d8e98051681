import os
import socket
import sys


def send_until_acked(sock, server, message, expected):
    for _ in range(6):
        sock.sendto(message, server)
        try:
            while True:
                parts = sock.recv(1024).decode().split("|")
                if parts[0].strip() == "a" and int(parts[1]) == expected:
                    return parts
        except TimeoutError:
            print("no answer, once more")
        except ConnectionRefusedError:
            pass
    print("The server is malfunctioning")
    sys.exit(1)


host, port = sys.argv[1].split(":")
path, name = sys.argv[2:4]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(0.5)
server = (host, int(port))
size = os.path.getsize(path)
buf_size = int(send_until_acked(sock, server, f"s | 0 | {name} | {size}".encode(), 1)[2])
seqno = 1
with open(path, "rb") as f:
    while True:
        header = f"d | {seqno} | ".encode()
        chunk = f.read(buf_size - len(header))
        if not chunk:
            break
        send_until_acked(sock, server, header + chunk, seqno + 1)
        seqno += 1
print("done")
