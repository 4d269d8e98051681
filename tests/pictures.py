"""Draw the pictures of the READMEs: make pictures

Each shows the live page of a lab, with real processes behind it and a fault or two.
"""

import base64
import contextlib
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from tests.lab05.page import Page
from tests.lab05.ring import Ring
from tests.lab06.cluster import Cluster
from tests.support.browser import browsing, look
from tests.support.harness import ROOT, wait_until
from tests.support.processes import spawning

WIDTH = 860  # pixels


def clip(browser, selector: str) -> bytes:
    """Return a PNG of one element of the page."""
    box = browser.execute_script(
        "const {x, y, width, height} = document.querySelector(arguments[0])"
        ".getBoundingClientRect(); return {x, y, width, height, scale: 1}",
        selector,
    )
    shot = {"captureBeyondViewport": True, "clip": box}
    return base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", shot)["data"])


def chord(spawn, folder: Path, browser) -> bytes:
    """Return the assignment's ring, the fingers of node 2, and its walk to the key Kazan."""
    ring = Ring(spawn, 6)
    page = Page(spawn, ring.address)
    wait_until(lambda: len(page.states()) == 6 and set(page.states().values()) == {"in sync"})
    look(browser, WIDTH, 720)
    browser.get(page.url)
    wait_until(lambda: browser.find_elements("css selector", ".node"))
    for field, text in (("key", "Kazan"), ("text", "a city")):
        browser.find_element("id", field).send_keys(text)
    browser.find_element("css selector", "button[value=save]").click()
    wait_until(lambda: browser.find_element("id", "result").text)
    wait_until(lambda: page.node(26)["held"])
    moment(0.5)
    browser.execute_script("scrollTo(0, 0)")
    return clip(browser, "#ring")


def raft(spawn, folder: Path, browser) -> bytes:
    """Return the end of a leader, the next election, a write, and a server that hangs."""
    cluster = Cluster(spawn, folder, 3)
    script = spawn("lab06_raft/watch.py", "--port", 0, cwd=cluster.folders[0])
    look(browser, WIDTH, 800)
    browser.get(f"http://127.0.0.1:{script.port()}/")
    leader = cluster.leader()
    moment(2.0)
    cluster.servers[leader].kill()
    successor = cluster.leader(other_than=leader)
    moment(0.5)
    cluster.setval(successor, "city", "Kazan")
    moment(0.4)
    cluster.start(leader)
    moment(1.2)
    browser.find_element("id", "pause").click()
    moment(0.5)
    return clip(browser, "main .panel")


def moment(seconds: float) -> None:
    """Let so much time be in the picture."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end)


# --- Smaller files: a palette instead of 24 bits for each pixel ---


def with_palette(png: bytes) -> bytes:
    """Return an 8-bit RGB or RGBA PNG with at most 256 colours, near the ones that it had."""
    parts = dict.fromkeys((b"IHDR", b"IDAT"), b"")
    place = 8
    while place < len(png):
        (length,), kind = struct.unpack_from(">I", png, place), png[place + 4 : place + 8]
        parts[kind] = parts.get(kind, b"") + png[place + 8 : place + 8 + length]
        place += 12 + length
    width, height, _, kind = struct.unpack_from(">IIBB", parts[b"IHDR"])
    rows = unfiltered(zlib.decompress(parts[b"IDAT"]), width, height, 4 if kind == 6 else 3)
    for bits in (4, 5, 6):  # that each channel loses
        number: dict[tuple, int] = {}
        lines = [
            b"\0" + bytes(number.setdefault(tuple(c >> bits for c in pixel), len(number)) % 256
                          for pixel in row)
            for row in rows
        ]  # fmt: skip
        if len(number) <= 256:
            break
    full = (1 << (8 - bits)) - 1
    palette = bytes(round(255 * channel / full) for color in number for channel in color)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    body = zlib.compress(b"".join(lines), 9)
    pieces = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", body), (b"IEND", b""))
    return png[:8] + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in pieces
    )


def unfiltered(data: bytes, width: int, height: int, size: int) -> list[list[tuple]]:
    """Return the pixels of each row (PNG specification, section 9), without their alpha."""
    rows, above = [], bytes(width * size)
    for n in range(height):
        start = n * (width * size + 1)
        method, line = data[start], bytearray(data[start + 1 : start + 1 + width * size])
        for k in range(len(line)):
            left = line[k - size] if k >= size else 0
            corner = above[k - size] if k >= size else 0
            near = min(
                (left, above[k], corner), key=lambda v, s=left + above[k] - corner: abs(s - v)
            )
            line[k] = (line[k] + (0, left, above[k], (left + above[k]) // 2, near)[method]) % 256
        rows.append([tuple(line[k : k + 3]) for k in range(0, len(line), size)])
        above = line
    return rows


PICTURES: dict[str, Callable] = {"lab05_chord/watch.png": chord, "lab06_raft/watch.png": raft}


def main() -> int:
    for path, draw in PICTURES.items():
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            browser = stack.enter_context(browsing(folder / "profile"))
            spawn = stack.enter_context(spawning())
            picture = with_palette(draw(spawn, folder, browser))
        (ROOT / path).write_bytes(picture)
        print(f"{path}: {len(picture)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
