import grpc
import ring_pb2 as pb
import ring_pb2_grpc as rpc

stub = None
role = None


def connect(address):
    global stub, role
    channel = grpc.insecure_channel(address)
    for kind in (rpc.RegistryApiStub, rpc.NodeApiStub):
        try:
            role = kind(channel).GetRole(pb.Nothing(), timeout=2)
        except grpc.RpcError:
            continue
        stub = kind(channel)
        print("Connected to", role.name)
        return
    stub = role = None
    print("Nothing answers at", address)


def show_peers(peers):
    for peer in peers:
        print(f"{peer.id}:\t{peer.ip}:{peer.port}")


def run(line):
    command, _, rest = line.strip().partition(" ")
    if command == "connect":
        connect(rest)
    elif command == "get_info" and role and role.name == "Registry":
        show_peers(stub.AllPeers(pb.Nothing()).peers)
    elif command == "get_info" and role:
        print("Node id:", role.id)
        print("Finger table:")
        show_peers(stub.Fingers(pb.Nothing()).peers)
    elif command == "save":
        key, text = rest[1:].split('" ', 1)
        answer = stub.Save(pb.Item(key=key, text=text))
        print(f"{answer.ok}, {key} saved: {answer.message}")
    elif command == "find":
        answer = stub.Find(pb.Item(key=rest))
        print(f"{answer.ok}, {rest}: {answer.message}")
    elif command == "remove":
        answer = stub.Remove(pb.Item(key=rest))
        print(f"{answer.ok}, {rest} removed: {answer.message}")
    elif command:
        print("what?")


try:
    while (line := input("> ")) != "quit":
        try:
            run(line)
        except (grpc.RpcError, ValueError, AttributeError) as error:
            print("that did not work:", type(error).__name__)
except (KeyboardInterrupt, EOFError):
    pass
print("Terminating")
