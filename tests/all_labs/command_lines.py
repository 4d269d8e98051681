"""Run one script with many command lines: imported once, then each in a process of its own.

    python tests/all_labs/command_lines.py lab04_grpc/client.py < command lines > their ends

Command lines come as a JSON list of lists, ends go out as a JSON list of [status, stdout, stderr].
To import gRPC takes ten times as long as to read a command line.
"""

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path

path = Path(sys.argv[1])
sys.path[0] = str(path.parent)
script, cli = importlib.import_module(path.stem), importlib.import_module("cli")
ends = []
for arguments in json.load(sys.stdin):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = [str(path), *arguments]
            cli.start()
            sys.exit(script.main())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = [os.pread(file.fileno(), 1_000_000, 0).decode() for file in (out, err)]
        ends.append([status, *texts])
json.dump(ends, sys.stdout)
