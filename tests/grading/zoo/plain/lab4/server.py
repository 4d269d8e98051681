import sys
from concurrent import futures

import grpc
import tools_pb2
import tools_pb2_grpc


def is_prime(n):
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))


class Handler(tools_pb2_grpc.ToolsServicer):
    def ReverseText(self, request, context):
        return tools_pb2.Text(value="".join(reversed(request.value)))

    def SplitText(self, request, context):
        words = request.text.split(request.delimiter)
        return tools_pb2.SplitAnswer(count=len(words), words=words)

    def IsPrime(self, request_iterator, context):
        for request in request_iterator:
            word = "is prime" if is_prime(request.n) else "is not prime"
            yield tools_pb2.Text(value=f"{request.n} {word}")


server = grpc.server(futures.ThreadPoolExecutor(max_workers=20))
tools_pb2_grpc.add_ToolsServicer_to_server(Handler(), server)
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
try:
    server.wait_for_termination()
except KeyboardInterrupt:
    print("Shutting down")
