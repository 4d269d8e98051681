import sys

import zmq

context = zmq.Context()
inputs = context.socket(zmq.SUB)
inputs.connect(f"tcp://127.0.0.1:{sys.argv[1]}")
inputs.subscribe("gcd")
outputs = context.socket(zmq.PUB)
outputs.connect(f"tcp://127.0.0.1:{sys.argv[2]}")


def gcd(a, b):
    while b:
        a, b = b, a % b
    return abs(a)


try:
    while True:
        words = inputs.recv_string().split()
        try:
            command, a, b = words
            a, b = int(a), int(b)
        except ValueError:
            continue
        if command == "gcd":
            outputs.send_string(f"gcd for {a} {b} is {gcd(a, b)}")
except KeyboardInterrupt:
    print("gcd ends")
