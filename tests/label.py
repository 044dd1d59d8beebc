"""The agent's page for labels in a real browser: by touch at a phone's width, by keyboard at a desktop's, and without scripts.

    python tests/label.py http://127.0.0.1:PORT/label PICTURES

PICTURES is a folder for screenshots. Prints what it found as JSON: the number of samples that it labelled, and the faults.
"""

import json
import pathlib
import sys

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import TimeoutError, sync_playwright


def opened(browser, address, faults, name, **options):
    tab = browser.new_context(**options).new_page()
    here = address.rsplit("/", 1)[0]
    tab.on("request", lambda request: None if request.url.startswith(here) else faults.append(f"{name}: loads {request.url[:80]}"))
    tab.on("console", lambda message: faults.append(f"{name}: says {message.text}") if message.type == "error" else None)
    tab.goto(address)
    return tab


def look(tab, name, faults, pictures):
    """What can be wrong with how the page looks there."""
    wider = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wider > 0:
        faults.append(f"{name}: {wider} pixels wider than the screen")
    if tab.evaluate("[...document.images].filter((image) => image.naturalWidth == 0).length"):
        faults.append(f"{name}: the sample is not shown")
    low = tab.evaluate("[...document.querySelectorAll('button')].filter((one) => one.getBoundingClientRect().height < 44).length")
    if low:
        faults.append(f"{name}: {low} buttons are lower than a finger")
    faults += [f"{name}: not accessible: {fault['id']}" for fault in Axe().run(tab).response["violations"]]
    tab.screenshot(path=pictures / f"label-{name}.png", full_page=True)


def told(tab, start, faults, name):
    """Whether the page says so after what was done, once it has come back."""
    try:
        tab.wait_for_function("(start) => document.querySelector('[role=status]')?.innerText.startsWith(start)", arg=start, timeout=20000)
        return True
    except TimeoutError:
        text = tab.locator("[role=status]").inner_text()
        faults.append(f"{name}: says “{text}”, not “{start}”")
        return False


def main():
    address, pictures = sys.argv[1], pathlib.Path(sys.argv[2])
    pictures.mkdir(parents=True, exist_ok=True)
    faults, labelled = [], 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium-headless-shell", args=["--no-sandbox"])
        phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
        for scheme in ["light", "dark"]:
            name = f"phone-{scheme}"
            tab = opened(browser, address, faults, name, color_scheme=scheme, **phone)
            look(tab, name, faults, pictures)
            tab.locator("button[value=red]").tap()
            labelled += told(tab, "Saved as red.", faults, name)
        name = "desktop"
        tab = opened(browser, address, faults, name, viewport={"width": 1100, "height": 800})
        look(tab, name, faults, pictures)
        tab.keyboard.press("1")
        labelled += told(tab, "Saved as ", faults, "the key 1")
        tab.keyboard.press("0")
        told(tab, "Left out.", faults, "the key 0")
        tab.keyboard.press("Enter")
        labelled += told(tab, "Saved as ", faults, "Enter on the likeliest class")
        name = "without scripts"
        tab = opened(browser, address, faults, name, java_script_enabled=False)
        tab.locator("input[name=other]").fill("purple")
        tab.locator("button:has-text('Save')").click()
        labelled += told(tab, "Saved as purple.", faults, name)
        browser.close()
    print(json.dumps({"labelled": labelled, "faults": faults}))


main()
