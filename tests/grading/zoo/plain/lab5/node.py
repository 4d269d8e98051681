import sys
import threading
import time
import zlib
from concurrent import futures

import grpc
import ring_pb2 as pb
import ring_pb2_grpc as rpc


def stub_of(peer):
    return rpc.NodeApiStub(grpc.insecure_channel(f"{peer.ip}:{peer.port}"))


class Node(rpc.NodeApiServicer):
    def __init__(self, me, m, registry):
        self.me = me
        self.m = m
        self.registry = registry
        self.data = {}
        self.lock = threading.RLock()
        self.predecessor = me
        self.fingers = []

    def refresh(self):
        table = self.registry.FingersOf(pb.Id(id=self.me.id))
        with self.lock:
            self.predecessor, self.fingers = table.predecessor, list(table.fingers)

    def hash(self, key):
        return zlib.adler32(key.encode()) % 2**self.m

    def between(self, k, a, b):
        """Whether k lies in (a, b] on the ring."""
        if a < b:
            return a < k <= b
        return k > a or k <= b

    def next_peer(self, k):
        """The node to ask for k: None if that is this one."""
        with self.lock:
            if not self.fingers or self.between(k, self.predecessor.id, self.me.id):
                return None
            best = self.fingers[0]
            for finger in self.fingers:
                if finger.id == k or not self.between(k, self.me.id, finger.id):
                    best = finger
            return best

    def forward(self, method, item):
        peer = self.next_peer(self.hash(item.key))
        return getattr(stub_of(peer), method)(item, timeout=5) if peer else None

    def Save(self, request, context):
        answer = self.forward("Save", request)
        if answer:
            return answer
        with self.lock:
            if request.key in self.data:
                return pb.Outcome(ok=False, message=f"exists in node {self.me.id}")
            self.data[request.key] = request.text
        return pb.Outcome(ok=True, message=f"node {self.me.id}")

    def Remove(self, request, context):
        answer = self.forward("Remove", request)
        if answer:
            return answer
        with self.lock:
            if self.data.pop(request.key, None) is None:
                return pb.Outcome(ok=False, message=f"is not in node {self.me.id}")
        return pb.Outcome(ok=True, message=f"node {self.me.id}")

    def Find(self, request, context):
        answer = self.forward("Find", request)
        if answer:
            return answer
        if request.key in self.data:
            return pb.Outcome(ok=True, message=f"node {self.me.id}")
        return pb.Outcome(ok=False, message=f"is not in node {self.me.id}")

    def Fingers(self, request, context):
        return pb.Peers(peers=self.fingers)

    def GetRole(self, request, context):
        return pb.Role(name="Node", id=self.me.id)

    def GiveMine(self, request, context):
        with self.lock:
            before = self.predecessor.id if self.fingers else self.me.id
            keys = [k for k in self.data if self.between(self.hash(k), before, request.id)]
            return pb.Items(items=[pb.Item(key=k, text=self.data.pop(k)) for k in keys])

    def TakeOver(self, request, context):
        with self.lock:
            for item in request.items:
                self.data[item.key] = item.text
        return pb.Outcome(ok=True)

    def NewPredecessor(self, request, context):
        with self.lock:
            self.predecessor = request
        return pb.Outcome(ok=True)

    def NewSuccessor(self, request, context):
        with self.lock:
            self.fingers = [request, *self.fingers[1:]] if request.id != self.me.id else []
        return pb.Outcome(ok=True)

    def leave(self):
        self.refresh()
        self.registry.Leave(pb.Id(id=self.me.id))
        if self.fingers:
            successor = self.fingers[0]
            items = [pb.Item(key=k, text=v) for k, v in self.data.items()]
            stub_of(successor).TakeOver(pb.Items(items=items))
            stub_of(successor).NewPredecessor(self.predecessor)
            stub_of(self.predecessor).NewSuccessor(successor)


def main():
    registry = rpc.RegistryApiStub(grpc.insecure_channel(sys.argv[1]))
    ip, port = sys.argv[2].split(":")
    joined = registry.Join(pb.Joining(ip=ip, port=int(port)))
    if joined.id < 0:
        print(joined.info)
        sys.exit(1)
    me = pb.Peer(id=joined.id, ip=ip, port=int(port))
    node = Node(me, int(joined.info), registry)
    node.refresh()
    successor = node.fingers[0] if node.fingers else me
    if node.fingers:
        node.data.update((i.key, i.text) for i in stub_of(successor).GiveMine(me).items)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=20))
    rpc.add_NodeApiServicer_to_server(node, server)
    server.add_insecure_port(f"{ip}:{port}")
    server.start()
    print(f"node {me.id}, successor {successor.id}, predecessor {node.predecessor.id}")
    try:
        while True:
            time.sleep(1)
            node.refresh()
    except KeyboardInterrupt:
        node.leave()


main()
