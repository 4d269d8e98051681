import sys

import zmq

context = zmq.Context()
kinds = [zmq.REP, zmq.PUB, zmq.PUB, zmq.SUB]
sockets = [context.socket(kind) for kind in kinds]
for sock, port in zip(sockets, sys.argv[1:5], strict=True):
    sock.bind(f"tcp://*:{port}")
client_inputs, client_outputs, worker_inputs, worker_outputs = sockets
worker_outputs.subscribe("")
poller = zmq.Poller()
poller.register(client_inputs, zmq.POLLIN)
poller.register(worker_outputs, zmq.POLLIN)
try:
    while True:
        ready = dict(poller.poll())
        if client_inputs in ready:
            line = client_inputs.recv()
            client_inputs.send(b"got it")
            worker_inputs.send(line)
        if worker_outputs in ready:
            client_outputs.send(worker_outputs.recv())
except KeyboardInterrupt:
    print("server ends")
