import sys

import grpc
import tools_pb2
import tools_pb2_grpc

stub = tools_pb2_grpc.ToolsStub(grpc.insecure_channel(sys.argv[1]))
try:
    while True:
        command, _, rest = input("> ").partition(" ")
        if command == "reverse":
            print("message:", stub.ReverseText(tools_pb2.Text(value=rest)).value)
        elif command == "split":
            answer = stub.SplitText(tools_pb2.SplitQuery(text=rest, delimiter=" "))
            print("number:", answer.count)
            for word in answer.words:
                print("part:", word)
        elif command == "isprime":
            numbers = (tools_pb2.Number(n=int(word)) for word in rest.split())
            for reply in stub.IsPrime(numbers):
                print(reply.value)
        elif command == "exit":
            print("Shutting down")
            break
except (KeyboardInterrupt, EOFError):
    print("Shutting down")
