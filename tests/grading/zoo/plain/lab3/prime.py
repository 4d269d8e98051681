import sys

import zmq

context = zmq.Context()
inputs = context.socket(zmq.SUB)
inputs.connect(f"tcp://127.0.0.1:{sys.argv[1]}")
inputs.subscribe("isprime")
outputs = context.socket(zmq.PUB)
outputs.connect(f"tcp://127.0.0.1:{sys.argv[2]}")


def is_prime(n):
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))


try:
    while True:
        words = inputs.recv_string().split()
        if len(words) == 2 and words[0] == "isprime" and words[1].lstrip("-").isdigit():
            n = int(words[1])
            outputs.send_string(f"{n} is prime" if is_prime(n) else f"{n} is not prime")
except KeyboardInterrupt:
    print("prime ends")
