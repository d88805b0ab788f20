"""
Visits the demo site with headless Chromium and fails at the first thing that is not as it should be.

    visit.py ORIGIN KEY_HASH PROFILE SCREENSHOTS

KEY_HASH is a file with the SHA-256 of the certificate's public key. Chromium is told to trust that key
and no other: a certificate that it merely puts up with would keep it from caching anything.
"""

import base64
import os
import shutil
import sys
from pathlib import Path

from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

RESOURCES = """
const seen = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
return seen.map((entry) => ({
  url: entry.name, status: entry.responseStatus, size: entry.transferSize, protocol: entry.nextHopProtocol,
}));
"""


def program(*names):
    """The first of the programs that is there."""
    return next(filter(None, map(shutil.which, names)), None) or sys.exit(f"no {names[0]}; run `make test`")


def browser(profile, key_hash=None):
    """
    A headless Chromium with a profile of its own, that speaks to nobody but the site. It trusts the key with
    that hash besides those that the system trusts.
    """
    options = ChromeOptions()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (
        "--headless",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=1000,1200",
        f"--user-data-dir={profile}",
        *([f"--ignore-certificate-errors-spki-list={encoded(key_hash)}"] if key_hash else []),
        # Chromium's sandbox refuses to work for root.
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ):
        options.add_argument(flag)
    return Chrome(options, ChromeService(program("chromedriver")))


def encoded(key_hash):
    """The hash in a file, as Chromium wants it."""
    return base64.b64encode(Path(key_hash).read_bytes()).decode()


class Visit:
    """A browser and what is expected of each page it opens."""

    def __init__(self, driver, origin, screenshots):
        self.driver, self.origin, self.screenshots = driver, origin, Path(screenshots)

    def open(self, path):
        """Open a page and wait until all is loaded."""
        self.driver.get(self.origin + path)
        self.until("the page is loaded", lambda d: d.execute_script("return document.readyState") == "complete")

    def until(self, what, condition):
        """Wait for a condition; `what` says in the error which one."""
        try:
            return WebDriverWait(self.driver, 30).until(condition)
        except TimeoutException:
            self.driver.save_screenshot(str(self.screenshots / "failed.png"))
            return sys.exit(f"still waiting until {what}; the console says {self.driver.get_log('browser')}")

    def text(self, css):
        """The text of an element."""
        return self.driver.find_element(By.CSS_SELECTOR, css).text

    def check(self, name):
        """No complaint on the console, every resource with 200 over HTTP/2; returns the static files."""
        self.driver.save_screenshot(str(self.screenshots / f"{name}.png"))
        complaints = [entry for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        expect(not complaints, f"{name}: the console says {complaints}")
        resources = self.driver.execute_script(RESOURCES)
        # A stream that the page itself closed has no status; its events are looked at instead.
        wrong = [e for e in resources if e["status"] != 200 and not e["url"].endswith("/events/")]
        expect(not wrong, f"{name}: not everything came with 200: {wrong}")
        loaded = {e["url"].removeprefix(self.origin): e for e in resources if "/static/" in e["url"]}
        print(f"{name}: {len(resources)} resources, {len(loaded)} of them static")
        return loaded


def expect(condition, otherwise):
    """Stop the visit where something is wrong."""
    if not condition:
        sys.exit(otherwise)


def home(visit):
    """The page with all kinds of assets, and its events; then again, from the cache."""
    visit.open("/")
    visit.until("the events are over", lambda _: visit.text("#events-state") == "done")
    expect(visit.text("#module") == "loaded", "the module did not run")
    events = [item.text for item in visit.driver.find_elements(By.CSS_SELECTOR, "#events li")]
    expect(events == [f"event {n} of 5" for n in range(1, 6)], f"the events were {events}")
    expect(visit.driver.execute_script("return document.fonts.check('16px Lobby', '\\ue000')"), "the font is missing")
    first = visit.check("home")
    names = ("site.", "base.", "lobby.", "events.", "door.", "tiles.")
    expect(all(any(f"/{name}" in url for url in first) for name in names), f"something was not loaded: {list(first)}")
    # The picture is also the icon, and whichever is asked for later comes from the cache at once.
    fetched = [e for url, e in first.items() if "/door." not in url]
    expect(all(e["size"] > 0 and e["protocol"] == "h2" for e in fetched), f"not over the network: {fetched}")

    visit.open("/echo/")
    visit.open("/")
    visit.until("the module has run", lambda _: visit.text("#module") == "loaded")
    visit.until("the events are over", lambda _: visit.text("#events-state") == "done")
    second = visit.check("home-again")
    expect(set(second) == set(first), f"the second visit loaded other files: {list(second)}")
    expect(all(e["size"] == 0 for e in second.values()), f"not all from the cache: {second}")


def note(visit):
    """The form with the token, as a visitor fills it in."""
    visit.driver.find_element(By.NAME, "name").send_keys("Grace")
    visit.driver.find_element(By.NAME, "text").send_keys("Came in by the front door")
    visit.driver.find_element(By.CSS_SELECTOR, "#book button").click()
    visit.until("the note is listed", lambda _: "Grace: Came in by the front door" in visit.text("#book ul"))


def admin(visit):
    """Logs in, and opens the page of the admin that has the most scripts."""
    visit.open("/admin/")
    visit.check("admin-login")
    visit.driver.find_element(By.NAME, "username").send_keys("admin")
    visit.driver.find_element(By.NAME, "password").send_keys("admin")
    visit.driver.find_element(By.CSS_SELECTOR, "input[type=submit]").click()
    visit.until("the admin is open", lambda d: d.find_elements(By.ID, "user-tools"))
    expect("Site administration" in visit.text("#content h1"), "this is not the admin")
    visit.check("admin")
    visit.open("/admin/auth/user/1/change/")
    expect(visit.driver.find_elements(By.CSS_SELECTOR, ".datetimeshortcuts, .selector"), "the scripts did not run")
    loaded = visit.check("admin-user")
    expect(len(loaded) > 20, f"only these were loaded: {list(loaded)}")
    visit.open("/admin/pages/note/")
    expect("Grace" in visit.text("#result_list"), "the note is not in the admin")
    visit.check("admin-notes")


def main(origin, key_hash, profile, screenshots):
    """The whole visit."""
    driver = browser(profile, key_hash)
    try:
        visit = Visit(driver, origin, screenshots)
        home(visit)
        note(visit)
        admin(visit)
    finally:
        driver.quit()
    print("all is well")


if __name__ == "__main__":
    main(*sys.argv[1:])
