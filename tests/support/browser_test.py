#!/usr/bin/env python3
"""Renders the report in headless Chromium: every picture decodes, nothing is fetched, nothing is
wider than the window, on a wide and a narrow screen, in light and dark.

  browser_test.py UNIT_TESTS          lets the test program write a sample report and renders that
  browser_test.py --report FILE.html  renders a report that is there

Exits 77 (skipped) where no Chromium is installed. PARSIMONY_BROWSER names another browser.
"""
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
         "--virtual-time-budget=5000"]

# Put into a copy of the page; what it finds is read from the dumped document.
PROBE = """<script>
window.addEventListener('load', () => {
  for (const d of document.querySelectorAll('details')) d.open = true;
  const images = [...document.images];
  const wide = [];
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('.scroll') && !e.classList.contains('scroll')) continue;
    if (e.getBoundingClientRect().right > window.innerWidth + 1) wide.push(e.outerHTML.slice(0, 80));
  }
  const out = document.createElement('pre');
  out.id = 'probe-result';
  out.textContent = JSON.stringify({
    images: images.length,
    broken: images.filter(i => !i.complete || i.naturalWidth === 0).map(i => i.alt),
    nameless: images.filter(i => !i.alt).length,
    fetched: performance.getEntriesByType('resource').map(r => r.name)
      .filter(n => !n.startsWith('data:')),
    scripts: document.scripts.length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    wide: wide.slice(0, 5),
    width: window.innerWidth,
    dark: matchMedia('(prefers-color-scheme: dark)').matches,
    background: getComputedStyle(document.body).backgroundColor,
    headings: document.querySelectorAll('h2').length,
    verdicts: [...document.querySelectorAll('.verdict')].map(e => e.textContent.trim()),
  });
  document.body.append(out);
});
</script>"""

failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print(f"FAILED: {what}", file=sys.stderr)


def browser():
    names = [os.environ.get("PARSIMONY_BROWSER", ""), "chromium", "chromium-browser",
             "google-chrome"]
    return next((found for found in map(shutil.which, filter(None, names)) if found), None)


def run_browser(program, work, arguments, url):
    with tempfile.TemporaryDirectory(dir=work, ignore_cleanup_errors=True) as profile:
        return subprocess.run([program, *FLAGS, f"--user-data-dir={profile}", *arguments, url],
                              capture_output=True, timeout=120).stdout.decode("utf-8", "replace")


def probe(program, work, page, width, dark):
    text = page.read_text(encoding="utf-8")
    # The page forbids scripts; the copy with the probe allows that one.
    text, count = re.subn(r"default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'",
                          text, count=1)
    check(count == 1, "the page has its content policy")
    copy = page.with_name("report-probe.html")
    copy.write_text(text.replace("</head>", PROBE + "</head>", 1), encoding="utf-8")
    scheme = [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    dom = run_browser(program, work, ["--dump-dom", f"--window-size={width},900", *scheme],
                      copy.as_uri())
    copy.unlink()
    found = re.search(r'<pre id="probe-result">(.*?)</pre>', dom, re.S)
    if not found:
        check(False, f"the page loads at {width} px; got {dom[:300]!r}")
        return None
    return json.loads(html.unescape(found.group(1)))


def requests_of(program, work, page):
    """Addresses that a page made the browser ask for over the network. What the browser asks for
    by itself (its updates) has no origin as its initiator."""
    log = Path(work) / "net.json"
    run_browser(program, work, ["--dump-dom", f"--log-net-log={log}"], page.as_uri())
    asked = set()
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line.rstrip().rstrip(",").removesuffix("]}"))
        except ValueError:
            continue
        params = event.get("params", {}) if isinstance(event, dict) else {}
        url = str(params.get("url", ""))
        if params.get("initiator", "not an origin") != "not an origin" and \
                not url.startswith(("file:", "data:")):
            asked.add(url)
    log.unlink()
    return asked


def sees_requests(program, work):
    """Whether a page that does fetch something is caught."""
    page = Path(work) / "fetching.html"
    page.write_text('<!DOCTYPE html><title>x</title><img src="http://example.invalid/x.png">')
    return requests_of(program, work, page) == {"http://example.invalid/x.png"}


def main():
    program = browser()
    if program is None:
        print("skipped: no Chromium is installed", file=sys.stderr)
        return 77
    if len(sys.argv) not in (2, 3) or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        folder = Path(work) / "out"
        folder.mkdir()
        if sys.argv[1] == "--report":
            page = folder / "report.html"
            shutil.copy(sys.argv[2], page)
        else:
            subprocess.run([sys.argv[1], "[.sample]"], check=True, stdout=subprocess.DEVNULL,
                           env={**os.environ, "PARSIMONY_SAMPLE": str(folder)})
            page = folder / "report.html"
        source = page.read_text(encoding="utf-8")
        seen = []
        for width, dark in ((1280, False), (500, True)):
            result = probe(program, work, page, width, dark)
            if result is None:
                continue
            seen.append(result)
            at = f"at {width} px"
            check(result["width"] == width, f"the window is {width} px wide; got {result['width']}")
            check(result["dark"] == dark, f"the colour scheme is the one asked for {at}")
            check(result["images"] == source.count("<img "), f"every picture is there {at}")
            check(not result["broken"], f"every picture decodes {at}: {result['broken']}")
            check(result["nameless"] == 0, f"every picture has a text {at}")
            check(not result["fetched"], f"nothing is fetched {at}: {result['fetched']}")
            check(result["scripts"] == 1, f"no script but the probe {at}")
            check(result["overflow"] <= 0 and not result["wide"],
                  f"nothing is wider than the window {at}: {result['overflow']} {result['wide']}")
            check(result["headings"] >= 3, f"the sections are there {at}")
            for word in result["verdicts"]:
                check(word.split(" ", 1)[-1] in ("holds", "fails", "not run"), f"verdict {word!r}")
        check(len({r["background"] for r in seen}) == 2, "dark mode has a background of its own")
        asked = requests_of(program, work, page)
        check(not asked, f"no network request: {sorted(asked)}")
        check(sees_requests(program, work), "a page that fetches something would be caught")
    if not failures:
        print(f"report rendered by {program}: {seen[0]['images']} pictures, "
              f"{len(seen[0]['verdicts'])} verdicts, no request")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
