import socket
import struct
import sys

numbers = [15492781, 15492787, 15492803, 15492811, 15492810, 15492833]
numbers += [15492859, 15502547, 15520301, 15527509, 15522343, 1550784]

host, port = sys.argv[1].split(":")
try:
    with socket.create_connection((host, int(port))) as sock:
        print("Connected")
        for n in numbers:
            sock.sendall(struct.pack(">q", n))
            answer = sock.recv(1)
            if not answer:
                raise OSError("the server has gone")
            print(n, "is a prime" if answer == b"Y" else "is not a prime")
        print("Completed")
except OSError as error:
    print("Server problem:", error)
    sys.exit(1)
