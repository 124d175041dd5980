"""The page opened from disk in a headless Chromium, used by pointer and keyboard, with its sound and animation."""

from __future__ import annotations

import shutil

import pytest

from joint_st.reports.page import make_page
from joint_st.reports.report import add_samples
from tests.reports.sample import HOSTILE, content, sample

webdriver = pytest.importorskip("selenium.webdriver", reason="no Selenium to drive a browser with")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=1280,900",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The browser with the page open; 300 utterances, four of them with audio."""
    browser, driver = (
        next(filter(None, map(shutil.which, names)), None)
        for names in (
            ("chromium", "chromium-browser", "google-chrome"),
            ("chromedriver",),
        )
    )
    if not (browser and driver):
        pytest.skip("no Chromium with its driver (Debian: chromium, chromium-driver)")
    folder = tmp_path_factory.mktemp("page")
    data = content(folder, 300)
    # Words long enough for a browser on a busy machine to be seen in the middle of one.
    assert add_samples(data, {one["id"]: sample(one["reference"], 1.0) for one in data["utterances"][3:7]}, 10**7) == 4
    (folder / "report.html").write_text(make_page(data), encoding="utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for switch in (*SWITCHES, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        prefer(chrome, "light")
        chrome.get((folder / "report.html").as_uri())
        yield chrome
        assert [line["message"] for line in chrome.get_log("browser")] == []
    finally:
        chrome.quit()


def prefer(chrome, scheme: str):
    """Set the system's preferences: light or dark colours, and reduced motion."""
    wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture(autouse=True)
def unfiltered(page):
    """Undo what the test before has typed, chosen or played."""
    page.execute_script(
        "player.audio.pause(); byId('find').value = '';"
        "byId('kind').value = 'all'; byId('group').value = ''; byId('heard').checked = false;"
        "list.sort = {column: 4, down: false}; list.update();"
        "list.window.focus()"
    )


def column(page, number: int) -> list[str]:
    """Return the texts in a column of the drawn rows, from top to bottom."""
    script = """
        return [...document.querySelectorAll('.row')].sort((a, b) => a.dataset.place - b.dataset.place)
            .map(row => row.querySelectorAll('[role=gridcell]')[arguments[0]].textContent)"""
    return page.execute_script(script, number)


def chosen(page) -> str:
    return page.find_element(By.CSS_SELECTOR, "#detail h3").text


def press(page, *keys: str):
    page.switch_to.active_element.send_keys(*keys)


def click(page, how: str, what: str):
    """Clicks where the page scrolls it to, clear of the bar at the top."""
    found = page.find_element(how, what)
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
    found.click()


def only_heard(page):
    click(page, By.ID, "heard")
    page.execute_script("list.window.focus()")


def test_rows_are_made_for_the_window_alone(page):
    assert page.find_element(By.ID, "count").text.startswith("300 of 300")
    assert 5 < len(column(page, 0)) < 40
    page.execute_script("list.window.scrollTop = 1e7")
    last = "return document.querySelector('[aria-rowindex=\"301\"]') !== null"
    WebDriverWait(page, 5).until(lambda _: page.execute_script(last))
    assert len(column(page, 0)) < 40


def test_a_column_sorts_both_ways(page):
    button = page.find_element(By.XPATH, "//*[@role='columnheader']/button[text()='length']")
    seconds = []
    for order in ("descending", "ascending"):
        button.click()
        assert button.find_element(By.XPATH, "..").get_attribute("aria-sort") == order
        seconds.append([float(text.removesuffix(" s")) for text in column(page, 2)])
    assert set(seconds[0]) == {5.0} and set(seconds[1]) == {1.0}


def test_words_and_groups_filter(page):
    page.find_element(By.ID, "find").send_keys("riga")
    texts = column(page, 4)
    assert texts and all("riga" in text for text in texts)
    # Those of 5, 6 and 7 words: 43 + 43 + 42.
    assert page.find_element(By.ID, "count").text.startswith("128 of 300")
    page.find_element(By.ID, "find").clear()
    page.find_element(By.ID, "find").send_keys(" ")
    click(page, By.XPATH, "//button[text()='speaker 2']")
    assert page.find_element(By.ID, "count").text.startswith("75 of 300")
    page.execute_script("byId('group').value = ''")
    click(page, By.XPATH, "//*[@id='word-tables']//button[text()='boris']")
    assert page.find_element(By.ID, "count").text.startswith("214 of 300")
    assert all("boris" in text for text in column(page, 4))
    page.execute_script("byId('find').value = '\"bori\"'; list.update()")
    assert page.find_element(By.ID, "count").text.startswith("0 of 300")
    assert page.find_element(By.ID, "list").text.endswith("No utterance fits; change the filters.")


def test_two_groups_of_one_name_have_their_own_rates(page):
    rates = [("all", 0.5), ("heard", 0.25), ("all", 0.75), ("heard", 0.625)]
    shared = {"head": "full_context", "group": "not stated", "cer": 0.125, "words": 8, "utterances": 2}
    rows = [shared | {"subset": subset, "wer": x, "wer_low": x, "wer_high": x} for subset, x in rates]
    script = """
        return [...breakdown(arguments[0]).querySelectorAll('tbody tr')]
            .map(line => [...line.cells].map(cell => cell.textContent))"""
    lines = page.execute_script(script, {"by": "speaker", "rows": rows, "notes": []})
    assert [line[0] for line in lines] == ["not stated"] * 2
    assert [line[-4] for line in lines] == ["25.0", "62.5"]


def test_kinds_of_errors_are_told_apart_without_colour(page):
    for kind, tag, letter in (("d", "del", "line-through"), ("s", "mark", "wavy"), ("i", "ins", "")):
        page.execute_script("byId('kind').value = arguments[0]; list.update()", kind)
        marks = page.find_elements(By.CSS_SELECTOR, f".row {tag}")
        assert marks
        assert letter in marks[0].value_of_css_property("text-decoration")
    before = "return getComputedStyle(document.querySelector('.row ins'), '::before').content"
    assert page.execute_script(before) == '"+"'


def test_a_hostile_transcript_is_shown_as_text(page):
    page.execute_script("byId('find').value = 'alert'; list.update()")
    assert column(page, 4) == [f"{HOSTILE} anna"]


def test_arrow_keys_move_and_the_chosen_row_is_named(page):
    first = chosen(page)
    press(page, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    third = chosen(page)
    press(page, Keys.END)
    last = chosen(page)
    window = page.find_element(By.CSS_SELECTOR, "[role=grid]")
    active = page.find_element(By.ID, window.get_attribute("aria-activedescendant"))
    assert active.get_attribute("aria-selected") == "true" and active.get_attribute("aria-rowindex") == "301"
    press(page, Keys.HOME)
    assert chosen(page) == first and len({first, third, last}) == 3


def test_space_plays_and_the_words_light_up_in_turn(page):
    only_heard(page)
    press(page, Keys.END)
    assert page.execute_script("return state.chosen.reference") == "anna met boris in riga at nine"
    press(page, Keys.SPACE)
    lit = "return [...document.querySelectorAll('button.word.lit')].map(word => word.textContent).join(' ')"
    WebDriverWait(page, 10, 0.05).until(lambda _: page.execute_script(lit) == "anna")
    WebDriverWait(page, 10, 0.05).until(lambda _: page.execute_script(lit) == "met")
    press(page, Keys.SPACE)
    assert page.execute_script("return player.audio.paused")
    # A word seeks itself, and what lights up is that word.
    click(page, By.XPATH, "//button[contains(@class, 'word')][normalize-space()='riga']")
    WebDriverWait(page, 5, 0.05).until(lambda _: page.execute_script(lit) == "riga")


def test_the_map_of_the_chosen_utterance_is_drawn(page):
    only_heard(page)
    assert len(page.find_elements(By.CSS_SELECTOR, "#detail .map image")) == 1
    assert page.find_elements(By.CSS_SELECTOR, "#detail .map .box")


def test_the_head_is_changed_by_keyboard(page):
    page.execute_script("byId('heads').querySelector('[aria-checked=true]').focus()")
    before = page.find_element(By.ID, "count").text
    press(page, Keys.ARROW_LEFT)
    radio = page.switch_to.active_element
    assert radio.text == "streaming" and radio.get_attribute("aria-checked") == "true"
    assert page.find_element(By.ID, "count").text != before
    press(page, Keys.ARROW_RIGHT)
    assert page.find_element(By.ID, "count").text == before


def test_the_theme_follows_the_system_until_the_button_is_used(page):
    background = "return getComputedStyle(document.body).backgroundColor"
    shown = []
    for preferred in ("light", "dark"):
        prefer(page, preferred)
        WebDriverWait(page, 5).until(
            lambda _: page.execute_script("return document.documentElement.dataset.theme") == preferred
        )
        shown.append(page.execute_script(background))
    page.find_element(By.ID, "theme").click()
    assert shown[0] != shown[1] and page.execute_script(background) == shown[0]


def test_the_tab_key_reaches_every_control(page):
    page.execute_script("""
        window.reached = [];
        document.addEventListener('focusin', ({target}) => reached.push(target.id || target.role || target.className));
        document.querySelector('.skip').focus()""")
    ActionChains(page).send_keys(*[Keys.TAB] * 40).perform()
    reached = set(page.execute_script("return reached"))
    assert {"theme", "summary", "img", "find", "kind", "group", "heard", "grid"} <= reached
