"""A headless Chromium that a test drives, where one is installed (Debian: chromium-driver)."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-prefers-reduced-motion",
)


def needs_browser():
    """Return the mark of tests that are skipped where there is no browser."""
    found = shutil.which("chromium") and shutil.which("chromedriver")
    return pytest.mark.skipif(not found, reason="no browser: apt install chromium-driver")


@contextlib.contextmanager
def browsing(folder: Path) -> Iterator:
    """Yield a browser as selenium has it, with an own profile in this folder."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={folder}", "--window-size=1400,1000"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    try:
        yield browser
    finally:
        browser.quit()


def look(browser, width: int, height: int, scheme: str = "light") -> None:
    """Give the page another size, and the light or dark scheme."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
