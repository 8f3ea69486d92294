"""The site in a headless browser: every page, at the width of a desktop and of a phone.

`python -m tests.site.browser FOLDER PAGE...` writes pictures of pages, for people to look at.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any, Final

SITE: Final = Path(__file__).parents[2] / "build/site"
WIDTHS: Final = {"desktop": 1280, "phone": 390}
WITHIN: Final = 120  # s; only ends what hangs

# Loads each page in a frame of each width, and notes what a reader would miss.
HARNESS: Final = """\
<!doctype html><meta charset="utf-8"><title>harness</title><body><script>
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
        // What it loaded or tried to load, from whom.
        asked: frame.contentWindow.performance.getEntriesByType("resource").map(
          each => new URL(each.name).hostname),
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
  await fetch("/found", {method: "POST", body: JSON.stringify(found)});
})();
</script>
"""


class _Handler(SimpleHTTPRequestHandler):
    """Serves the site, and the harness beside it, which posts what it found."""

    harness: bytes = b""
    found: Queue[str]

    def do_GET(self) -> None:
        if self.path != "/harness.html":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.harness)

    def do_POST(self) -> None:
        self.found.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(harness: str = "") -> Iterator[tuple[str, Queue[str]]]:
    """The site on a port of this machine: its address, and what is posted to it."""
    found: Queue[str] = Queue()
    handler = type("Handler", (_Handler,), {"harness": harness.encode(), "found": found})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(SITE)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", found
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


@contextmanager
def opened(url: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A browser that opens a page. It ends with the context, if not before."""
    # Its helpers may write for a moment after it has ended.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser(), "--headless", "--no-sandbox", "--disable-gpu"]
        command += ["--disable-dev-shm-usage", f"--user-data-dir={profile}", *options, url]
        quiet = subprocess.DEVNULL
        # The program is a script around the browser, so all of its group is ended.
        with subprocess.Popen(
            command, stdout=quiet, stderr=quiet, cwd=profile, start_new_session=True
        ) as process:
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait(WITHIN)


def pages() -> list[str]:
    """All pages of the site, by their paths in it."""
    names = (str(path.relative_to(SITE)) for path in SITE.rglob("*.html"))
    return sorted(name for name in names if name != "404.html")


def looked_at() -> dict[str, dict[str, Any]]:
    """What the browser found on each page at each width."""
    harness = HARNESS.replace("PAGES", json.dumps(pages()))
    harness = harness.replace("WIDTHS", json.dumps(list(WIDTHS.values())))
    keep_open = "--remote-debugging-port=0"
    with serving(harness) as (site, posted), opened(f"{site}/harness.html", keep_open):
        found: dict[str, dict[str, Any]] = json.loads(posted.get(timeout=WITHIN))
    return found


def main(folder: str, *names: str) -> None:
    """Write pictures of pages."""
    with serving() as (site, _):
        for name in names:
            for kind, width in WIDTHS.items():
                picture = Path(folder).absolute() / f"{name.replace('/', '-')}-{kind}.png"
                size = f"--window-size={width},1400"
                with opened(f"{site}/{name}.html", f"--screenshot={picture}", size) as process:
                    process.wait(WITHIN)


if __name__ == "__main__":
    main(*sys.argv[1:])
