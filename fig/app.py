"""Photograph the page of `mhnet app` for docs/app.md, at 1280 and at 390 pixels, light and dark.

python fig/app.py            (or the names of some, as in: python fig/app.py app_phone)

Needs `pip install 'mhnet[app]' playwright` and Chromium.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from mhnet.app.server import Options, serving
from mhnet.core.errors import MHNetError, exits_cleanly

HERE = Path(__file__).resolve().parent
EXAMPLE = "button[data-name='oakland-zoo-otters.jpg']"
RESTORED = "#viewer .stage.restored"
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 1240}, "is_mobile": True, "has_touch": True}
SHOTS: dict[str, dict[str, Any]] = {
    "app": {"viewport": {"width": 1280, "height": 830}},
    "app_dark": {"viewport": {"width": 1280, "height": 1080}, "color_scheme": "dark"},
    "app_phone": PHONE,
    "app_phone_dark": {**PHONE, "color_scheme": "dark"},
}


@exits_cleanly
def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise MHNetError("The page is photographed by Chromium: install it.")
    with serving(Options(port=0)) as address, sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name in sys.argv[1:] or SHOTS:
            page = browser.new_context(**SHOTS[name]).new_page()
            page.goto(address)
            page.click(EXAMPLE)
            page.wait_for_selector(RESTORED, timeout=120_000)
            if name == "app_dark":  # zoomed in, with what is under Advanced
                page.click("#advanced button")
                page.click("[data-zoom=in]")
                page.click("[data-zoom=in]")
            page.wait_for_timeout(1000)
            page.evaluate("window.scrollTo(0, 0)")
            page.screenshot(path=HERE / f"{name}.jpg", type="jpeg", quality=88)
            page.close()
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
