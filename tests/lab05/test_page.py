"""Lab 5's live page in a browser."""

import math

import pytest

from tests.lab05.example import CLOCKWISE, FINGERS
from tests.lab05.page import Page
from tests.lab05.ring import Ring
from tests.support import browser as chromium
from tests.support.harness import wait_until
from tests.support.live_page import HOSTILE


@pytest.fixture
def browser(tmp_path):
    with chromium.browsing(tmp_path) as browser:
        yield browser


def places(browser):
    """Return {id: the degrees, clockwise from the top, at which a node is drawn}."""
    found = browser.execute_script(
        "const middle = document.querySelector('.circle');"
        "const at = (circle) => ['cx', 'cy'].map((name) => Number(circle.getAttribute(name)));"
        "return [...document.querySelectorAll('.node')].map((node) =>"
        "  [Number(node.dataset.id), at(node.querySelector('.dot')), at(middle)]);"
    )
    return {
        id: math.degrees(math.atan2(x - middle_x, middle_y - y)) % 360
        for id, (x, y), (middle_x, middle_y) in found
    }


def kinds(browser):
    """Return {id: how a node is drawn}."""
    return dict(
        browser.execute_script(
            "return [...document.querySelectorAll('.node')].map((node) =>"
            "  [Number(node.dataset.id), node.classList[1]]);"
        )
    )


def ask(browser, action, key, text="", at=2):
    """Use the form; return what it tells when the walk is over."""
    browser.execute_script(
        "const [action, ...values] = arguments;"
        "['key', 'text', 'at'].forEach((id, i) => document.getElementById(id).value = values[i]);"
        "document.getElementById('key').dispatchEvent(new Event('input'));"
        "document.querySelector(`button[value=${action}]`).click();",
        *(action, key, text, at),
    )
    return wait_until(lambda: browser.find_element("id", "result").text)


def lines(browser, selector):
    return [element.text for element in browser.find_elements("css selector", selector)]


@chromium.needs_browser()
def test_the_page_draws_the_ring_and_the_walk_to_a_key(spawn, browser):
    from selenium.webdriver import ActionChains, Keys

    page = Page(spawn, Ring(spawn, 6).address)
    browser.get(page.url)
    wait_until(lambda: kinds(browser) == dict.fromkeys(CLOCKWISE, "in-sync"))
    assert places(browser) == pytest.approx({id: id / 32 * 360 for id in CLOCKWISE}, abs=0.1)
    assert len(lines(browser, "#fingers .chord")) == len(FINGERS[2])

    assert ask(browser, "save", "Kazan", "a city") == "True, Kazan is saved in node 24"
    assert [line.split(":")[0] for line in lines(browser, "#steps li")] == [
        *("node 2", "node 16", "node 24 owns id 22")
    ]
    assert len(browser.find_elements("css selector", "#walk .hop")) == 2
    wait_until(
        lambda: "1 key, 1 held" in browser.find_element("id", "ring").get_attribute("textContent")
    )

    assert ask(browser, "save", HOSTILE, HOSTILE).startswith(f"True, {HOSTILE} is saved")
    assert ask(browser, "find", HOSTILE).startswith(f"True, {HOSTILE} is saved")
    assert browser.find_element("id", "found").text == HOSTILE
    assert HOSTILE in browser.find_element("id", "place").text
    assert not browser.find_elements("tag name", "img")

    browser.execute_script("document.querySelector('.node[data-id=\"2\"]').focus()")
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
    focused = browser.switch_to.active_element
    assert focused.get_attribute("data-id") == "16"
    assert "owns ids 3 to 16" in focused.get_attribute("aria-label")
    chromium.look(browser, 400, 800, "dark")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    wait_until(
        lambda: places(browser) == pytest.approx({i: i / 32 * 360 for i in CLOCKWISE}, abs=0.1)
    )


@chromium.needs_browser()
def test_the_page_shows_a_killed_node_and_outlives_watch_py(spawn, browser):
    ring = Ring(spawn, 3)
    page = Page(spawn, ring.address)
    browser.get(page.url)
    wait_until(lambda: kinds(browser) == dict.fromkeys([2, 24, 26], "in-sync"))
    assert ask(browser, "save", "Moscow", "a city") == "True, Moscow is saved in node 26"
    ring.node(26).kill()
    wait_until(lambda: kinds(browser)[26] == "quiet", timeout=2.0)
    assert ask(browser, "find", "Moscow") == "True, Moscow is saved in node 2"
    assert lines(browser, "#steps li")[-1] == "node 2 owns id 25 now"
    wait_until(lambda: any("node 26 was silent" in line for line in lines(browser, "#log li")))
    lost = browser.find_element("id", "lost")
    assert not lost.is_displayed()
    page.script.kill()
    wait_until(lambda: "watch.py does not answer" in lost.text)
    Page(spawn, ring.address, page.port)
    wait_until(lambda: not lost.is_displayed())
    wait_until(lambda: kinds(browser) == dict.fromkeys([2, 24], "in-sync"))
    assert ask(browser, "find", "Moscow", at=24) == "True, Moscow is saved in node 2"
    browser.execute_script("walked.time = 0")
    assert browser.find_elements("css selector", "#walk .hop")
    ring.join()
    wait_until(lambda: "(before epoch" in browser.find_element("id", "result").text)
    assert not browser.find_elements("css selector", "#walk .hop")
    away = browser.find_element("id", "away")
    assert not away.is_displayed()
    ring.registry.kill()
    wait_until(lambda: f"The registry at {ring.address} does not answer" in away.text)
