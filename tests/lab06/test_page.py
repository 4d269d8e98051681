"""Lab 6's live page in a browser."""

import pytest

from tests.lab06.page import watch
from tests.support import browser as chromium
from tests.support.harness import wait_until
from tests.support.live_page import HOSTILE


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def shown(browser, selector: str) -> str:
    """Return the text of the elements that a CSS selector finds."""
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent).join('|')"
    return browser.execute_script(script, selector)


def count(browser, selector: str) -> int:
    return browser.execute_script("return document.querySelectorAll(arguments[0]).length", selector)


def card(browser, server: int) -> str:
    return shown(browser, f".card:nth-of-type({server + 1}) .role")


@chromium.needs_browser()
def test_the_page_shows_a_leaders_end_and_the_next_leader(watched, browser):
    cluster, _, port = watched()
    browser.get(f"http://127.0.0.1:{port}/")
    leader = cluster.leader()
    wait_until(lambda: "★ leader" in card(browser, leader), "the leader's card")
    wait_until(lambda: f"Server {leader} leads" in shown(browser, "#summary"))
    cluster.servers[leader].kill()
    wait_until(lambda: "✕ not running" in card(browser, leader))

    def report():
        """Return what the page's list says of the present leader, if all else shows it too."""
        successor = cluster.leader(other_than=leader)
        term = cluster.states()[successor][1]
        line = f"Server {successor} became leader in term {term}"
        is_shown = "★ leader" in card(browser, successor) and line in shown(browser, "#story li")
        return is_shown and f"leader, term {term}" in shown(browser, "#bands text") and line

    told = wait_until(report, "the next leader")
    wait_until(lambda: count(browser, "#arrows .heartbeat"))
    browser.find_element("id", "heartbeats").click()
    wait_until(lambda: not count(browser, "#arrows .heartbeat"))
    browser.find_element("css selector", "#span [value='30']").click()
    wait_until(lambda: "RequestVoteRequest" in shown(browser, "#arrows .vote title"))
    times = shown(browser, "#story time").split("|")
    assert times == sorted(times, reverse=True)  # a silence stands where it began
    browser.find_element("xpath", f"//li[contains(., '{told}')]//button").click()
    wait_until(lambda: "s ago" in shown(browser, "#when"))
    wait_until(lambda: "RequestVoteReply" in shown(browser, "#arrows .vote title"))
    assert browser.find_element("id", "span").get_attribute("value") == "0.5"
    assert not [line for line in browser.get_log("browser") if f":{port}/" in line["message"]]


@chromium.needs_browser()
def test_suspend_and_a_hostile_key_from_the_page_do_what_they_say(watched, browser):
    cluster, _, port = watched()
    browser.get(f"http://127.0.0.1:{port}/")
    leader = cluster.leader()
    wait_until(lambda: "leader" in card(browser, leader))
    for field, text in (("key", HOSTILE), ("value", HOSTILE)):
        browser.find_element("id", field).send_keys(text)
    browser.find_element("id", "setval").click()
    wait_until(lambda: shown(browser, "#answer").endswith(f" {HOSTILE} = {HOSTILE}: committed"))
    browser.find_element("id", "getval").click()

    def value_is_shown():
        answer = shown(browser, "#answer")
        return f" {HOSTILE} = {HOSTILE}" in answer and "committed" not in answer

    wait_until(value_is_shown)
    assert browser.execute_script("return document.images.length") == 0
    browser.find_element("css selector", f"[aria-label='Suspend server {leader}']").click()
    wait_until(lambda: "suspended" in card(browser, leader), "the server to be suspended")
    wait_until(lambda: count(browser, ".band.suspended"), "its lane")
    cluster.leader(other_than=leader)
    wait_until(lambda: "suspended" not in card(browser, leader), "its return")


@chromium.needs_browser()
def test_the_page_says_that_watch_py_is_gone_and_goes_on_when_it_is_back(spawn, watched, browser):
    cluster, script, port = watched(1)
    browser.get(f"http://127.0.0.1:{port}/")
    wait_until(lambda: "leader" in card(browser, 0))
    script.kill()
    wait_until(lambda: "watch.py does not answer" in shown(browser, "#link.lost"))
    assert "Last known: Server 0 leads" in shown(browser, "#summary")
    before = shown(browser, "#story li")
    watch(spawn, cluster, port)
    wait_until(lambda: not shown(browser, "#link"), "the page to go on")
    wait_until(
        lambda: shown(browser, "#story li").endswith(before) and "leader" in card(browser, 0)
    )
    browser.find_element("id", "pause").click()
    wait_until(lambda: "ago" in shown(browser, "#when"))
    browser.find_element("id", "plot").send_keys(" ")
    wait_until(lambda: shown(browser, "#when") == "now")


@chromium.needs_browser()
def test_nothing_of_the_page_is_wider_than_a_phone(watched, browser):
    _, _, port = watched(1)
    chromium.look(browser, 400, 800)
    browser.get(f"http://127.0.0.1:{port}/")
    wait_until(lambda: "leader" in card(browser, 0))
    wait_until(lambda: count(browser, "#bands rect"), "its lane")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    chromium.look(browser, 1400, 1000)
