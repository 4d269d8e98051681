import grpc
import raft_pb2 as pb
import raft_pb2_grpc as rpc

address = None
stub = None


def run(words):
    global address, stub
    if words[0] == "connect":
        address = ":".join(words[1:])
        stub = rpc.ElectionsStub(grpc.insecure_channel(address))
    elif stub is None:
        print("connect first")
    elif words[0] == "getleader":
        leader = stub.get_leader(pb.Void(), timeout=2)
        print(f"{leader.id} {leader.address}" if leader.address else "no leader is known")
    elif words[0] == "suspend":
        stub.suspend(pb.Period(seconds=int(words[1])), timeout=2)


print("The client starts")
try:
    while (line := input("> ").strip()) != "quit":
        try:
            if line:
                run(line.split())
        except grpc.RpcError:
            print(f"The server {address} is unavailable")
except (KeyboardInterrupt, EOFError):
    pass
print("The client ends")
