"""Lab 6's watch.py as its pages see it."""


def watch(spawn, cluster, port=0):
    script = spawn("lab06_raft/watch.py", "--port", port, cwd=cluster.folders[0])
    return script, int(script.expect(r"^Open http://127\.0\.0\.1:(\d+)$")[1])
