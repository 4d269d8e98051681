import sys

import zmq

context = zmq.Context()
inputs = context.socket(zmq.REQ)
inputs.connect(f"tcp://127.0.0.1:{sys.argv[1]}")
outputs = context.socket(zmq.SUB)
outputs.connect(f"tcp://127.0.0.1:{sys.argv[2]}")
outputs.subscribe("")
outputs.RCVTIMEO = 100
try:
    while True:
        line = input("> ")
        if line:
            inputs.send_string(line)
            inputs.recv()
        try:
            while True:
                print(outputs.recv_string())
        except zmq.Again:
            pass
except (KeyboardInterrupt, EOFError):
    print("client ends")
