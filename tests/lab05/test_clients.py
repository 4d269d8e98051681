"""Lab 5, clients of a real ring: many at once, any key, and every line of the shell."""

import threading

from tests.lab05.ring import Ring, save_some
from tests.support.ports import free_port


def test_connect_tells_what_is_there(spawn):
    ring = Ring(spawn, 1)
    client = spawn("lab05_chord/Client.py")
    client.send(f"connect 127.0.0.1:{free_port()}")
    client.send(f"connect {ring.address}")
    client.expect("Connected to Registry")
    client.send(f"connect 127.0.0.1:{ring.nodes[0].port}")
    client.expect("Connected to Node")
    client.send("quit")
    assert client.wait() == 0
    assert len(client.lines) == 3


def test_many_clients_through_every_node_do_not_block_each_other(spawn, rpc):
    ring = Ring(spawn, 4)
    save_some(rpc, ring, 10)
    answers, errors = [], []

    def client(number):
        stub = rpc.node(ring.nodes[number % 4])
        try:
            for i in range(5):
                request = rpc.SaveRequest(key=f"{number} {i}", text="x")
                answers.append(stub.save(request, timeout=20).success)
                answers.append(stub.find(rpc.KeyRequest(key="key 3"), timeout=20).success)
        except rpc.error as error:
            errors.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(answers) == 800 and all(answers)


def test_of_several_saves_of_one_key_at_the_same_time_one_succeeds(spawn, rpc):
    ring = Ring(spawn, 3)
    stubs = [rpc.node(node) for node in ring.nodes]
    for key in ("one", "two", "three", "four", "five"):
        calls = [
            stubs[i % 3].save.future(rpc.SaveRequest(key=key, text=f"text {i}"), timeout=15)
            for i in range(9)
        ]
        winners = [i for i, call in enumerate(calls) if call.result().success]
        assert len(winners) == 1
        text = stubs[0].get(rpc.KeyRequest(key=key), timeout=15).text
        assert text == f"text {winners[0]}"


def test_keys_are_any_text_but_none(spawn):
    ring = Ring(spawn, 1)
    lines = ['save "Набережные Челны" ÿ \U0001f600', 'get "Набережные Челны"', 'save "" x', "find"]
    answers = ring.ask(*lines, at=ring.nodes[0])
    assert answers[:2] == ["True, Набережные Челны is saved in node 24"] * 2
    assert answers[2] == "ÿ \U0001f600"
    assert len(answers) == 5 and "needs a key" in answers[3] and "needs one key" in answers[4]


def test_a_line_of_the_wrong_form_gets_one_that_shows_the_right_one(spawn):
    ring = Ring(spawn, 1)
    lines = ["save 'Nizhny Novgorod' x", 'save "Kazan x', "save Kazan", "find Some Key", "get 'a'"]
    saving = 'save needs a key and a text: save "some key" some text'
    assert ring.ask(*lines, at=ring.nodes[0]) == [
        *[saving] * 3,
        'find needs one key: find "some key"',
        'get needs one key: get "some key"',
    ]


def test_the_client_answers_every_line_until_the_end_of_its_input(spawn):
    client = spawn("lab05_chord/Client.py")
    for line in ("", "help", "foo bar", "find x", "get_info", "connect nowhere", "\udcff"):
        client.send(line)
    client.close_stdin()
    assert client.wait() == 0
    assert client.err == ""
    assert len(client.lines) == 6
    assert "commands:" in client.lines[0] and "commands:" in client.lines[1]


def test_info_and_keys_tell_what_each_node_has(spawn):
    registry = spawn("lab05_chord/Registry.py", "127.0.0.1:0", 5)
    address = f"127.0.0.1:{registry.port()}"
    ports = [free_port() for _ in range(4)]
    nodes = []
    for port in ports:  # with the ids 24, 26, 2 and 16
        nodes.append(spawn("lab05_chord/Node.py", address, f"127.0.0.1:{port}"))
        nodes[-1].expect("assigned")
    client = spawn("lab05_chord/Client.py")
    for line in ("info", "keys", f"connect 127.0.0.1:{ports[1]}"):
        client.send(line)
    for key in ("Kazan", "Moscow", "Minsk", "gone"):  # on the nodes 24, 26 and 16
        client.send(f"save {key} text")
    for line in ("remove gone", "keys", "info", f"connect {address}", "info", "keys"):
        client.send(line)
    client.expect("Not connected: connect <ip:port> comes first\nNot connected to a node: ")
    client.expect("^True, gone is removed .*\nMoscow\n26: ")
    client.expect("Connected to Registry\n")
    lines = []
    for id, port, predecessor in zip((24, 26, 2, 16), ports, (16, 24, 26, 2), strict=True):
        place = rf"^{id}: 127.0.0.1:{port}, (\d) keys, (\d) replicas, predecessor {predecessor}, "
        lines.append(client.expect(place + r"epoch 4$"))
    assert [int(line[1]) for line in lines] == [1, 1, 0, 1]
    assert sum(int(line[2]) for line in lines) == 6  # two of each key
    client.expect("Not connected to a node: ")
    nodes[2].kill()
    client.send("info")
    client.expect(f"^127.0.0.1:{ports[2]} is unavailable\n16: ")
