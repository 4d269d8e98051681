"""The scripts of lab 4, and what its client prints for `help`."""

SERVER, CLIENT = "lab04_grpc/server.py", "lab04_grpc/client.py"
COMMANDS = "commands: reverse <text>, split <text>, isprime <numbers>, help, exit"
