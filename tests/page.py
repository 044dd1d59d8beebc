"""The page of `train --report FILE.html` in a real browser: nothing is loaded, nothing is wider than the screen, no fault of accessibility,
and it prints on A4.

    python tests/page.py PAGE.html PICTURES

PICTURES is a folder for a screenshot of each width and colour scheme.
"""

import pathlib
import sys

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

WIDTHS = {"phone": 360, "desktop": 1100}
A4_POINTS = (595, 842)


def look(browser, page, width, scheme, picture):
    """The faults of the page as it looks there."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab, faults = context.new_page(), []
    tab.on("request", lambda request: faults.append(f"loads {request.url[:80]}") if is_loaded(request.url, page) else None)
    tab.on("console", lambda message: faults.append(f"says {message.text}") if message.type == "error" else None)
    tab.goto(page.as_uri())
    wider = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wider > 0:
        faults.append(f"is {wider} pixels wider than the screen")
    broken = tab.evaluate("[...document.images].filter((image) => image.naturalWidth == 0).length")
    if broken or not tab.evaluate("document.images.length"):
        faults.append(f"has {broken} broken pictures, or none")
    faults += [f"is not accessible: {fault['id']}" for fault in Axe().run(tab).response["violations"]]
    tab.screenshot(path=picture, full_page=True)
    context.close()
    return faults


def is_loaded(url, page):
    return url != page.as_uri() and not url.startswith("data:")


def printed(browser, page):
    """The size of the first printed page in points."""
    tab = browser.new_page()
    tab.goto(page.as_uri())
    text = tab.pdf(prefer_css_page_size=True).decode("latin-1")
    box = text.split("/MediaBox [", 1)[1].split("]", 1)[0].split()
    return tuple(round(float(side)) for side in box[2:])


def main():
    page, pictures = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    pictures.mkdir(parents=True, exist_ok=True)
    faults = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium-headless-shell", args=["--no-sandbox"])
        for name, width in WIDTHS.items():
            for scheme in ["light", "dark"]:
                found = look(browser, page, width, scheme, pictures / f"{name}-{scheme}.png")
                faults += [f"{name}, {scheme}: the page {fault}" for fault in found]
        size = printed(browser, page)
        if any(abs(found - wanted) > 1 for found, wanted in zip(size, A4_POINTS)):
            faults.append(f"printed pages are {size[0]} × {size[1]} points, not A4's")
        browser.close()
    for fault in faults:
        print(fault)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
