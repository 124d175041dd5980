"""Times what a reader does with 5,000 utterances in the page of `joint-st report`; needs Chromium and its driver.

    joint-st report runs/quickstart && python benchmarks/report_page.py runs/quickstart/report.html

The utterances of the page are repeated until they are so many. The time of an act is that from its beginning to the
finished layout of the page: the median and the largest of 20. Next to it is the mean of the processor's time in
the page's thread, on which other jobs have little influence.

With 2 CPU cores that a dozen other processes wanted too, the utterances those of 600 in `spoken_grammar`:

    5000 utterances, 4.9 MB; open after 1098 ms
    filter by words     33.0 ms, at most   93.5; thread  11.0
    filter by errors    30.3 ms, at most   72.0; thread  10.3
    sort by a number    14.4 ms, at most   22.5; thread   6.5
    sort by a text      12.5 ms, at most   18.2; thread   6.5
    change the head     98.8 ms, at most  173.5; thread  47.5
    scroll a screen      4.7 ms, at most    8.5; thread   4.2
    next utterance      10.5 ms, at most   35.4; thread   6.1
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
from pathlib import Path

from selenium import webdriver

from joint_st.reports.page import make_page

SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
)
BEGIN, END = '<script type="application/json" id="data">', "</script>"

ACTS = {
    "filter by words": "byId('find').value = k % 2 ? 'an' : ''; list.update()",
    "filter by errors": "byId('kind').value = k % 2 ? 'd' : 'all'; list.update()",
    "sort by a number": "list.sortBy(k % 2)",
    "sort by a text": "list.sortBy(4 + k % 2)",
    "change the head": "byId('heads').children[k % 2].click()",
    "scroll a screen": "list.window.scrollTop += list.window.clientHeight; list.draw()",
    "next utterance": "list.choose(k)",
}
"""By name, JavaScript that does it the `k`-th time."""

TIMED = """
    const times = [];
    for (let k = 0; k < 20; k++) {
        const begun = performance.now();
        %s;
        document.body.offsetHeight;
        times.push(performance.now() - begun);
    }
    return times.sort((a, b) => a - b)"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--utterances", type=int, default=5000)
    options = parser.parse_args()
    text = options.page.read_text(encoding="utf-8")
    data = json.loads(text.split(BEGIN)[1].split(END)[0])
    own = itertools.islice(itertools.cycle(data["utterances"]), options.utterances)
    once = len(data["utterances"])
    data["utterances"] = [one | {"id": f"{one['id']} {k}"} for k, one in enumerate(own)]
    for one in data["utterances"][once:]:
        one.pop("sample", None)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(make_page(data), encoding="utf-8")
        chrome_options = webdriver.ChromeOptions()
        chrome_options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
        for switch in (*SWITCHES, f"--user-data-dir={folder}/profile"):
            chrome_options.add_argument(switch)
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        with webdriver.Chrome(options=chrome_options, service=service) as chrome:
            chrome.get(page.as_uri())
            ready = chrome.execute_script("return performance.getEntriesByType('navigation')[0].domComplete")
            size = page.stat().st_size / 1e6
            print(f"{options.utterances} utterances, {size:.1f} MB; open after {ready:.0f} ms")
            chrome.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
            for name, act in ACTS.items():
                before = _thread_ms(chrome)
                times = chrome.execute_script(TIMED % act)
                mean = (_thread_ms(chrome) - before) / len(times)
                median, most = times[len(times) // 2], times[-1]
                print(f"{name:<18}{median:6.1f} ms, at most {most:6.1f}; thread {mean:5.1f}")


def _thread_ms(chrome) -> float:
    metrics = chrome.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return 1000 * next(one["value"] for one in metrics if one["name"] == "TaskDuration")


if __name__ == "__main__":
    main()
