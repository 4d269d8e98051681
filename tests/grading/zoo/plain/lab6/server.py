import random
import sys
import threading
import time
from concurrent import futures

import grpc
import raft_pb2 as pb
import raft_pb2_grpc as rpc

HEARTBEAT = 0.05
OPTIONS = [("grpc.max_reconnect_backoff_ms", 300), ("grpc.initial_reconnect_backoff_ms", 100)]


class Server(rpc.ElectionsServicer):
    def __init__(self, my_id, addresses):
        self.my_id = my_id
        self.addresses = addresses
        self.majority = len(addresses) // 2 + 1
        self.term = 0
        self.state = "follower"
        self.voted_for = None
        self.leader = None
        self.votes = 0
        self.lock = threading.RLock()
        self.sleep_until = 0.0
        self.new_timer()
        self.others = {
            i: rpc.ElectionsStub(grpc.insecure_channel(address, options=OPTIONS))
            for i, address in addresses.items()
            if i != my_id
        }

    def say_state(self):
        print(f"I am a {self.state}. Term: {self.term}")

    def new_timer(self):
        self.timeout = random.uniform(0.15, 0.3)
        self.reset_timer()

    def reset_timer(self):
        self.deadline = time.monotonic() + self.timeout

    def follow(self, term):
        if term > self.term:
            self.term, self.voted_for, self.leader = term, None, None
            self.state = "follower"
            self.say_state()
        elif self.state != "follower":
            self.state = "follower"
            self.say_state()

    def check_awake(self, context):
        if time.monotonic() < self.sleep_until:
            context.abort(grpc.StatusCode.UNAVAILABLE, "suspended")

    def request_vote(self, request, context):
        self.check_awake(context)
        with self.lock:
            if request.candidate_term > self.term:
                self.follow(request.candidate_term)
            yes = request.candidate_term == self.term and self.voted_for is None
            if yes:
                self.voted_for = request.candidate
                self.reset_timer()
                print("Voted for node", request.candidate)
            return pb.Answer(my_term=self.term, yes=yes)

    def append_entries(self, request, context):
        self.check_awake(context)
        with self.lock:
            if request.leader_term < self.term:
                return pb.Answer(my_term=self.term, yes=False)
            if request.leader_term > self.term or self.state == "candidate":
                self.follow(request.leader_term)
            self.leader = request.leader
            self.reset_timer()
            return pb.Answer(my_term=self.term, yes=True)

    def get_leader(self, request, context):
        self.check_awake(context)
        print("Command from client: getleader")
        known = self.voted_for if self.leader is None else self.leader
        if known is None:
            return pb.Leader()
        print(known, self.addresses[known])
        return pb.Leader(id=known, address=self.addresses[known])

    def suspend(self, request, context):
        self.check_awake(context)
        print("Command from client: suspend", request.seconds)
        print("Sleeping for", request.seconds, "seconds")
        self.sleep_until = time.monotonic() + request.seconds
        return pb.Void()

    def elect(self):
        self.state = "candidate"
        self.term += 1
        self.voted_for, self.leader, self.votes = self.my_id, None, 1
        print("The leader is dead")
        self.say_state()
        print("Voted for node", self.my_id)
        self.reset_timer()
        self.lead_if_elected()
        for i in self.others:
            ballot = pb.Ballot(candidate_term=self.term, candidate=self.my_id)
            self.ask(self.others[i].request_vote, ballot, self.count, self.term)

    def ask(self, method, message, then, term):
        def done(future):
            try:
                answer = future.result()
            except (grpc.RpcError, grpc.FutureCancelledError):
                return
            with self.lock:
                if time.monotonic() < self.sleep_until:
                    return
                if answer.my_term > self.term:
                    self.follow(answer.my_term)
                    self.reset_timer()
                elif then:
                    then(answer, term)

        method.future(message, timeout=0.2).add_done_callback(done)

    def count(self, answer, term):
        if answer.yes and term == self.term and self.state == "candidate":
            self.votes += 1
            self.lead_if_elected()

    def lead_if_elected(self):
        if self.votes >= self.majority:
            self.state, self.leader = "leader", self.my_id
            print("Votes received")
            self.say_state()
            self.next_beat = time.monotonic()

    def run(self):
        while True:
            time.sleep(0.005)
            now = time.monotonic()
            if now < self.sleep_until:
                time.sleep(self.sleep_until - now)
                with self.lock:
                    self.reset_timer()
            with self.lock:
                now = time.monotonic()
                if self.state == "leader" and now >= self.next_beat:
                    self.next_beat = now + HEARTBEAT
                    for stub in self.others.values():
                        beat = pb.Beat(leader_term=self.term, leader=self.my_id)
                        self.ask(stub.append_entries, beat, None, self.term)
                elif self.state == "candidate" and now >= self.deadline:
                    self.state = "follower"
                    self.say_state()
                    self.new_timer()
                elif self.state == "follower" and now >= self.deadline:
                    self.elect()


def main():
    my_id = int(sys.argv[1])
    with open("config.conf") as f:
        rows = [line.split() for line in f if line.strip()]
    addresses = {int(i): f"{host}:{port}" for i, host, port in rows}
    handler = Server(my_id, addresses)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=20))
    rpc.add_ElectionsServicer_to_server(handler, server)
    server.add_insecure_port(addresses[my_id])
    print(f"The server starts at {addresses[my_id]}")
    handler.say_state()
    server.start()
    handler.reset_timer()
    try:
        handler.run()
    except KeyboardInterrupt:
        server.stop(0)


main()
