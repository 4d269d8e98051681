import random
import sys
import threading
from concurrent import futures

import grpc
import ring_pb2 as pb
import ring_pb2_grpc as rpc


class Registry(rpc.RegistryApiServicer):
    def __init__(self, m):
        self.m = m
        self.nodes = {}
        self.lock = threading.Lock()

    def owner(self, k):
        ids = sorted(self.nodes)
        return next((i for i in ids if i >= k), ids[0])

    def peer(self, i):
        return pb.Peer(id=i, ip=self.nodes[i][0], port=self.nodes[i][1])

    def Join(self, request, context):
        with self.lock:
            if len(self.nodes) == 2**self.m:
                return pb.Joined(id=-1, info="the ring is full")
            i = random.randint(0, 2**self.m - 1)
            while i in self.nodes:
                i = random.randint(0, 2**self.m - 1)
            self.nodes[i] = (request.ip, request.port)
            return pb.Joined(id=i, info=str(self.m))

    def Leave(self, request, context):
        with self.lock:
            if request.id not in self.nodes:
                return pb.Outcome(ok=False, message="no such node")
            del self.nodes[request.id]
            return pb.Outcome(ok=True, message="left")

    def FingersOf(self, request, context):
        with self.lock:
            p = request.id
            ids = sorted(self.nodes)
            if p not in self.nodes:
                context.abort(grpc.StatusCode.NOT_FOUND, "no such node")
            fingers = []
            for i in range(self.m):
                f = self.owner((p + 2**i) % 2**self.m)
                if f != p and f not in fingers:
                    fingers.append(f)
            predecessor = ids[ids.index(p) - 1]
            return pb.Table(
                predecessor=self.peer(predecessor), fingers=[self.peer(f) for f in fingers]
            )

    def AllPeers(self, request, context):
        with self.lock:
            return pb.Peers(peers=[self.peer(i) for i in self.nodes])

    def GetRole(self, request, context):
        return pb.Role(name="Registry")


random.seed(0)
address, m = sys.argv[1:3]
server = grpc.server(futures.ThreadPoolExecutor(max_workers=20))
rpc.add_RegistryApiServicer_to_server(Registry(int(m)), server)
server.add_insecure_port(address)
server.start()
try:
    server.wait_for_termination()
except KeyboardInterrupt:
    print("registry ends")
