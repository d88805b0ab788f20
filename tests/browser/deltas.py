"""
Opens a page with headless Chromium and tells how its static files came, as JSON.

    deltas.py URL PROFILE

The profile is that of an earlier visit, or a new one. The certificate's authority must be known to the
system: Chromium does without dictionaries where it was told to put up with a certificate.
"""

import json
import sys
import time

from selenium.webdriver.support.wait import WebDriverWait

from visit import browser


def note(told, driver):
    """Enter what the network part of the browser has told since the last time, by request."""
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        kept = told.setdefault(message["params"].get("requestId"), {})
        if message["method"] == "Network.requestWillBeSent":
            kept["url"] = message["params"]["request"]["url"]
        elif message["method"] == "Network.responseReceived":
            headers = message["params"]["response"]["headers"]
            kept["headers"] = {name.lower(): value for name, value in headers.items()}
        elif message["method"] == "Network.loadingFinished":
            kept["bytes"] = message["params"]["encodedDataLength"]


def responses(driver):
    """Every response of the page, by URL, when the page and its script have come."""
    told = {}

    def whole(driver):
        note(told, driver)
        # What began before the first page did, the log has by half.
        found = {one["url"]: one for one in told.values() if {"url", "headers", "bytes"} <= one.keys()}
        return found if any(url.endswith(".js") and "?" not in url for url in found) else None

    return WebDriverWait(driver, 30).until(whole)


def main(url, profile):
    """One visit."""
    driver = browser(profile)
    try:
        driver.get(url)
        version = WebDriverWait(driver, 30).until(lambda d: d.execute_script("return window.version"))
        came = responses(driver)
        # The browser notes a dictionary after the page has it, and nothing tells when it has.
        time.sleep(2)
    finally:
        driver.quit()
    print(json.dumps({"version": version, "responses": came}))


if __name__ == "__main__":
    main(*sys.argv[1:])
