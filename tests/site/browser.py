"""The site in a headless browser: every page, at the width of a desktop and of a phone.

`python -m tests.site.browser FOLDER PAGE...` writes pictures of pages, for people to look at.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

SITE: Final = Path(__file__).parents[2] / "build/site"
WIDTHS: Final = {"desktop": 1280, "phone": 390}
WITHIN: Final = 240  # s; only ends what hangs

# Loads each page in a frame of each width, and notes what a reader would miss.
HARNESS: Final = """\
<!doctype html><meta charset="utf-8"><title>harness</title><pre id="found"></pre><script>
const pages = PAGES, widths = WIDTHS, found = {};
function look(page, width) {
  return new Promise(done => {
    const frame = document.createElement("iframe");
    frame.style = `border:0;height:900px;width:${width}px`;
    frame.onload = async () => {
      const inside = frame.contentDocument, root = inside.documentElement;
      await inside.fonts.ready;
      const body = inside.querySelector("article");
      done({
        title: inside.title,
        heading: body?.querySelector("h1")?.innerText ?? "",
        words: (body?.innerText ?? "").split(/\\s+/).length,
        overflow: root.scrollWidth - root.clientWidth,
        broken: [...inside.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
        drawn: [...inside.querySelectorAll("svg")].length,
      });
      frame.remove();
    };
    frame.src = page;
    document.body.append(frame);
  });
}
(async () => {
  for (const page of pages)
    for (const width of widths)
      found[`${page} ${width}`] = await look(page, width);
  document.getElementById("found").textContent = JSON.stringify(found);
})();
</script>
"""


class _Handler(SimpleHTTPRequestHandler):
    """Serves the site, and the harness beside it."""

    harness: bytes = b""

    def do_GET(self) -> None:
        if self.path != "/harness.html":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.harness)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(harness: str = "") -> Iterator[str]:
    """The site on a port of this machine; its address."""
    handler = type("Handler", (_Handler,), {"harness": harness.encode()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(SITE)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def browser() -> str:
    """The program. A test that cannot run fails."""
    for name in ("chromium-headless-shell", "chromium"):
        if program := shutil.which(name):
            return program
    raise AssertionError("no browser: run .ci/setup docs")


def run(url: str, *options: str) -> str:
    """Open a page; what the browser printed."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser(), "--headless", "--no-sandbox", "--disable-gpu"]
        command += ["--disable-dev-shm-usage", f"--user-data-dir={profile}", *options, url]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=WITHIN, cwd=profile
        )
    return done.stdout


def pages() -> list[str]:
    """All pages of the site, by their paths in it."""
    names = (str(path.relative_to(SITE)) for path in SITE.rglob("*.html"))
    return sorted(name for name in names if name != "404.html")


def looked_at(log: Path) -> dict[str, dict[str, Any]]:
    """What the browser found on each page at each width; `log` gets its requests."""
    harness = HARNESS.replace("PAGES", json.dumps(pages()))
    harness = harness.replace("WIDTHS", json.dumps(list(WIDTHS.values())))
    with serving(harness) as site:
        dom = run(
            f"{site}/harness.html",
            "--dump-dom",
            f"--log-net-log={log}",
            f"--timeout={WITHIN * 1000}",
            f"--virtual-time-budget={WITHIN * 1000}",
        )
    match = re.search(r'<pre id="found">(.+?)</pre>', dom, re.DOTALL)
    assert match, dom[-2000:]
    found: dict[str, dict[str, Any]] = json.loads(html.unescape(match[1]))
    return found


def requested(log: Path) -> set[str]:
    """The hosts that the browser wanted something from, by its own log."""
    text = log.read_text("utf-8")
    return set(re.findall(r'"url":"(?:https?|wss?)://([^/":]+)', text))


def main(folder: str, *names: str) -> None:
    """Write pictures of pages."""
    with serving() as site:
        for name in names:
            for kind, width in WIDTHS.items():
                picture = Path(folder).absolute() / f"{name.replace('/', '-')}-{kind}.png"
                run(
                    f"{site}/{name}.html",
                    f"--screenshot={picture}",
                    f"--window-size={width},1400",
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
