"""The dashboard in a browser: what it shows is what the files say, and people can use it.

Needs Debian's package `chromium` (`CHROMIUM` says where another one is), and of PyPI the extra bench, playwright and
axe-playwright-python. With DASHBOARD_PICTURES=FOLDER, pictures of all views are left there.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bench import dashboard, results
from bench.history import Line, load
from tests import dashboard_demo as demo
from tests.test_dashboard import foreign_results, saved

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytest.importorskip("panel", reason="the extra bench is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
if not CHROMIUM:
    pytest.skip("there is no Chromium: apt-get install chromium", allow_module_level=True)

TABS = ("overview", "families", "roofline", "sizes", "history", "compare", "about")
COMMIT_URL = "https://example.org/project/commit/{commit}"
MINUS = "\N{MINUS SIGN}"
PICTURES = os.environ.get("DASHBOARD_PICTURES")

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of three families, commits of their history, and the page of them."""
    folder = tmp_path_factory.mktemp("dashboard")
    made = demo.results(450, ("convolution", "pooling", "recurrent"))
    history = saved(folder / "history.jsonl", "".join(json.dumps(line) + "\n" for line in demo.history(made)))
    run = results.read(saved(folder / "results.json", made))
    dashboard.write([run], load(history), folder / "demo.html", COMMIT_URL)
    return folder


def lines_of(made: dict[str, Any], **how: Any) -> list[Line]:
    """The history of made-up results, without a file."""
    return [Line(**{name: v for name, v in line.items() if name != "schema"}) for line in demo.history(made, **how)]


@pytest.fixture(scope="module")
def entries(folder: Path) -> list[dict[str, Any]]:
    """What was measured, from the file that the page was made of."""
    benchmarks = json.loads((folder / "results.json").read_text())["benchmarks"]
    return [entry["extra_info"] | {"group": entry["group"], "median": entry["stats"]["median"]} for entry in benchmarks]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # As root, as CI is, Chromium has no sandbox; what it opens is our own file.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, folder: Path) -> Iterator[Open]:
    """Opens a file of the folder; nothing may be complained about in the console, or fetched."""
    contexts, complaints = [], list[str]()

    def open_page(state: str = "", file: Path = folder / "demo.html", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else complaints.append(request.url),
        )
        page.goto(f"{file.as_uri()}#{state}")
        settled(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def settled(page: Any) -> None:
    """The view is drawn (a history is unpacked first)."""
    page.wait_for_function(
        "document.documentElement.dataset.ready"
        " && document.querySelector('[role=tabpanel]:not(.hidden)[aria-busy=false]')"
    )


def choose(page: Any, name: str, value: str) -> None:
    page.locator(f"select[name={name}]:visible").select_option(value)
    # The address changes first, and the view at its event.
    page.wait_for_function("name => [...document.querySelectorAll('select[name=' + name + ']')].length", arg=name)
    page.evaluate("() => new Promise(done => setTimeout(done, 0))")
    settled(page)


def show(page: Any, tab: str) -> None:
    page.locator(f"#tab-{tab}").click()
    page.wait_for_selector(f"#panel-{tab}:not(.hidden)")
    settled(page)


def state_of(page: Any) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).fragment).items()}


def rows_of(page: Any, tab: str, number: int = 0) -> list[dict[str, str]]:
    """A table of a view by its headings; opened if it is not."""
    for details in page.locator(f"#panel-{tab} details:not([open]):visible").all():
        details.locator("summary").click()
    table = page.locator(f"#panel-{tab} table:visible").nth(number)
    table.wait_for()
    return table.evaluate(
        """table => {
            const heads = [...table.tHead.rows[0].cells].map(cell => cell.textContent);
            return [...table.tBodies[0].rows].map(row =>
                Object.fromEntries([...row.cells].map((cell, i) => [heads[i], cell.textContent])));
        }"""
    )


def chart(page: Any, tab: str, what: str) -> Any:
    """Of the chart of a view: `chart` is it, `option` what it was given."""
    return page.evaluate(
        """([tab, what]) => {
            const chart = echarts.getInstanceByDom(document.querySelector(`#panel-${tab} .chart`));
            return new Function("chart", "option", "return " + what)(chart, chart.getOption());
        }""",
        [tab, what],
    )


def bars(page: Any, tab: str) -> dict[str, dict[str, float]]:
    """Place (without the mark of disturbed ones): name: the number that its bar stands for."""
    places = [place.removeprefix("* ") for place in chart(page, tab, "option.yAxis[0].data")]
    found = chart(page, tab, "option.series.filter(s => s.type === 'bar').map(s => [s.name, s.data])")
    drawn: dict[str, dict[str, float]] = {place: {} for place in places}
    for name, data in found:
        for place, value in zip(places, data, strict=True):
            if value is not None:
                drawn[place][name] = 2**value
    return drawn


def geometric(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def of(entries: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [entry for entry in entries if all(entry[name] == value for name, value in wanted.items())]


def best_peers(entries: list[dict[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for entry in of(entries, role="peer"):
        found[entry["group"]] = min(found.get(entry["group"], math.inf), entry["ratio"][0])
    return found


def number(text: str) -> float:
    return float(re.match(r"[\d.-]+", text.replace(MINUS, "-").lstrip("+"))[0])  # type: ignore[index]


def test_ready_within_a_second(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 2,000 results and 200 commits, which are 4 MB at most."""
    # Where the steps are makes no difference here, and finding so many takes long.
    monkeypatch.setattr("bench.history.change_points", lambda values: [len(values) // 3])
    made, path = demo.results(), tmp_path / "large.html"
    lines = lines_of(made)
    dashboard.write([results.read(saved(tmp_path / "a.json", made))], lines, path)
    assert len(made["benchmarks"]) == 2000
    assert path.stat().st_size <= 4_000_000
    page = open_page("tab=about", file=path)
    session = page.context.new_cdp_session(page)
    # What it needs of a processor, as a neighbour's processes are not its doing; alone, the clock says little more.
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto("about:blank")
    page.goto(path.as_uri())
    settled(page)
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    clock = page.locator("html").get_attribute("data-ready")
    print(f"{path.stat().st_size} bytes, ready after {clock} ms, of which busy {1000 * metrics['TaskDuration']:.0f} ms")
    assert 0 < metrics["TaskDuration"] < 1
    page = open_page("tab=history", file=path)
    assert page.locator("#panel-history table tbody tr").count() == 100


def test_overview(open_page: Open, entries: list[dict[str, Any]]) -> None:
    page = open_page()
    rows = {row["Family"]: row for row in rows_of(page, "overview")}
    drawn = bars(page, "overview")
    assert rows.keys() == drawn.keys() == {entry["family"] for entry in entries}
    for family, row in rows.items():
        inside = of(entries, family=family)
        best = list(best_peers(inside).values())
        references = [entry["ratio"][0] for entry in of(inside, role="reference")]
        roofline = [entry["of_roofline"] for entry in of(inside, implementation="fastdl")]
        assert number(row["Cases"]) == len(roofline)
        assert number(row["Over numpy"]) == pytest.approx(geometric(references), rel=5e-3)  # three digits
        assert number(row["Over the best peer"]) == pytest.approx(geometric(best), rel=5e-3)
        assert number(row["Of the roofline"]) == pytest.approx(100 * geometric(roofline), rel=5e-3)
        assert row["Lost"] == f"{sum(ratio < 1 for ratio in best)} of {len(best)}"
        assert drawn[family]["over numpy"] == pytest.approx(geometric(references), rel=1e-3)
        assert drawn[family]["over the best peer"] == pytest.approx(geometric(best), rel=1e-3)
    page.get_by_role("link", name="pooling").click()
    assert state_of(page) == {"tab": "families", "family": "pooling"}


def test_filters_and_bars(open_page: Open, entries: list[dict[str, Any]]) -> None:
    page = open_page()
    show(page, "families")
    wanted = {"family": "convolution", "dtype": "float32", "threads": 2, "size": "large"}
    for name, value in wanted.items():
        choose(page, name, str(value))
    inside = of(entries, **wanted)
    groups = {entry["group"] for entry in inside}
    assert page.locator("#count").text_content() == f"{len(groups)} comparisons, {len(inside)} results"
    drawn = bars(page, "families")
    assert len(drawn) == len(groups)
    for place, ratios in drawn.items():
        others = {e["implementation"]: e["ratio"][0] for e in of(inside, case=place) if e["implementation"] != "fastdl"}
        assert ratios == pytest.approx(others, rel=1e-3)
    # Ordered by how far ahead of the best peer.
    best = best_peers(inside)
    order = sorted(groups, key=lambda group: best[group])
    assert list(drawn) == [of(inside, group=group)[0]["case"] for group in order]
    choose(page, "sort", "name")
    assert list(bars(page, "families")) != list(drawn)
    rows = rows_of(page, "families")
    assert [row["Case"] for row in rows] == list(bars(page, "families"))
    low, high = of(inside, case=rows[0]["Case"], implementation="numpy")[0]["ratio"][1:]
    assert [float(part) for part in rows[0]["numpy"].split("(")[1].rstrip(")").split(" to ")] == pytest.approx(
        [low, high], rel=5e-3
    )
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function("location.hash === '#tab=families'")
    groups = {entry["group"] for entry in entries}
    assert page.locator("#count").text_content() == f"{len(groups)} comparisons, {len(entries)} results"


def test_backend_baseline_and_search(open_page: Open, entries: list[dict[str, Any]]) -> None:
    page = open_page("tab=families&q=lstm 8x64 float32 [float32, 1")
    (place,) = bars(page, "families")
    inside = {e["implementation"]: e for e in of(entries, case=place, dtype="float32", threads=1)}
    choose(page, "base", "torch")
    expected = {n: e["median"] / inside["torch"]["median"] for n, e in inside.items() if n != "torch"}
    assert bars(page, "families")[place] == pytest.approx(expected, rel=1e-3)
    choose(page, "base", "fastest")
    (ratios,) = bars(page, "families").values()
    assert all(ratio >= 1 for ratio in ratios.values())
    choose(page, "base", "ours")
    choose(page, "backend", "numba")
    expected = {n: e["median"] / inside["numba"]["median"] for n, e in inside.items() if n not in ("numba", "fastdl")}
    assert bars(page, "families")[place] == pytest.approx(expected, rel=1e-3)
    choose(page, "backend", "")
    page.locator("input[name=q]").fill("lstm")
    page.wait_for_function("location.hash.includes('q=lstm&') || location.hash.endsWith('q=lstm')")
    assert (
        page.locator("#count")
        .text_content()
        .startswith(f"{len({e['group'] for e in entries if 'lstm' in e['group']})} ")
    )


def test_disturbed_can_be_left_out(open_page: Open, entries: list[dict[str, Any]]) -> None:
    page = open_page()
    page.get_by_label("Leave out disturbed").check()
    page.wait_for_function("location.hash.includes('clean=1')")
    left = {entry["group"] for entry in of(entries, disturbed="")}
    assert page.locator("#count").text_content().startswith(f"{len(left)} comparisons")
    assert len(left) < len({entry["group"] for entry in entries})


def test_pages_of_cases_and_sorted_tables(open_page: Open) -> None:
    page = open_page("tab=families")
    first = list(bars(page, "families"))
    page.get_by_role("button", name="Next").click()
    page.wait_for_function("location.hash.includes('page=2')")
    second = list(bars(page, "families"))
    assert not set(first) & set(second)
    heading = page.locator("#panel-families").get_by_role("columnheader", name="torch")
    rows_of(page, "families")
    for direction, sign in ("ascending", 1), ("descending", -1):
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == direction
        found = [number(row["torch"]) for row in rows_of(page, "families") if row["torch"][0].isdigit()]
        assert found == sorted(found, key=lambda v, sign=sign: sign * v)


def test_keyboard(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").evaluate("node => node.getBoundingClientRect().top >= 0")  # it is to be seen now
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert state_of(page) == {}
    page.locator("#tab-overview").focus()
    for key, tab in ("ArrowRight", "families"), ("End", "about"), ("ArrowRight", "overview"), ("ArrowLeft", "about"):
        page.keyboard.press(key)
        page.wait_for_selector(f"#panel-{tab}:not(.hidden)")
        settled(page)
        assert page.evaluate("document.activeElement.id") == f"tab-{tab}"
        selected = page.locator("[role=tab][aria-selected=true]")
        assert selected.evaluate_all("nodes => nodes.map(node => node.id)") == [f"tab-{tab}"]
        assert page.locator("[role=tab][tabindex='0']").count() == 1
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    # A table is opened, reached and sorted without a pointer.
    page.keyboard.press("Home")
    page.wait_for_selector("#panel-overview:not(.hidden)")
    page.locator("#panel-overview thead button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#panel-overview th[aria-sort=ascending]").count() == 1


def test_link_to_a_state_and_back(open_page: Open) -> None:
    page = open_page("tab=families&dtype=float64&threads=2&sort=slow&base=numpy")
    for name, value in {"dtype": "float64", "threads": "2", "sort": "slow", "base": "numpy"}.items():
        assert page.locator(f"select[name={name}]").input_value() == value
    before, drawn = page.url, bars(page, "families")
    choose(page, "dtype", "float32")
    assert state_of(page)["dtype"] == "float32"
    assert bars(page, "families") != drawn
    show(page, "roofline")
    page.go_back()
    page.wait_for_selector("#panel-families:not(.hidden)")
    page.go_back()
    page.wait_for_function("address => location.href === address", arg=before)
    settled(page)
    assert page.locator("select[name=dtype]").input_value() == "float64"
    assert bars(page, "families") == drawn
    # What no page ever wrote there does no harm.
    assert open_page("tab=nowhere&family=none&page=-3&sort=toString&run=99").locator("#panel-overview").is_visible()


def test_roofline(open_page: Open, entries: list[dict[str, Any]]) -> None:
    page = open_page("tab=roofline&family=pooling&dtype=float32&threads=1")
    ours = of(entries, family="pooling", dtype="float32", threads=1, implementation="fastdl")
    points = chart(page, "roofline", "option.series.find(s => s.type === 'scatter').data.map(d => d.value)")
    expected = [[e["flops"] / e["bytes"], e["flops"] / e["median"]] for e in ours]
    by_rate = sorted(expected, key=lambda point: point[1])
    assert sorted(points, key=lambda point: point[1]) == [pytest.approx(each, rel=1e-3) for each in by_rate]
    (ceiling,) = chart(page, "roofline", "option.series.filter(s => s.type === 'line').map(s => s.data)")
    peak, bandwidth = ours[0]["peak_flops"], ours[0]["bandwidth"]
    for x, y in ceiling:
        assert y == pytest.approx(min(peak, x * bandwidth), rel=1e-3)
    assert [peak / bandwidth, peak] in [pytest.approx(each, rel=1e-3) for each in ceiling]
    # Under the pointer is the case.
    x, y = chart(
        page,
        "roofline",
        "(() => { const i = option.series.findIndex(s => s.type === 'scatter'), s = option.series[i];"
        " return chart.convertToPixel({seriesIndex: i}, s.data[0].value); })()",
    )
    box = page.locator("#panel-roofline .chart").bounding_box()
    page.locator("#panel-roofline .chart").scroll_into_view_if_needed()
    box = page.locator("#panel-roofline .chart").bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + y, steps=3)
    page.wait_for_function(
        "cases => cases.includes(document.querySelector('.tip strong')?.textContent)", arg=[e["case"] for e in ours]
    )
    assert "of the roofline" in page.locator(".tip").text_content()
    rows = rows_of(page, "roofline")
    assert len(rows) == len(ours)
    choose(page, "who", "torch")
    assert {row["Implementation"] for row in rows_of(page, "roofline")} == {"torch"}


def test_speed_by_size(open_page: Open, entries: list[dict[str, Any]]) -> None:
    page = open_page("tab=sizes&dtype=float32&threads=1")
    choose(page, "operation", "conv2d")
    inside = of(entries, operation="conv2d", dtype="float32", threads=1)
    drawn = dict(
        chart(
            page,
            "sizes",
            "option.series.filter(s => s.data[0].index !== undefined).map(s => [s.name, s.data.map(d => d.value)])",
        )
    )
    assert drawn.keys() == {entry["implementation"] for entry in inside}
    for name, points in drawn.items():
        expected = sorted([e["flops"], e["flops"] / e["median"]] for e in of(inside, implementation=name))
        assert points == [pytest.approx(each, rel=1e-3) for each in expected]
    choose(page, "y", "time")
    choose(page, "x", "bytes")
    assert len(rows_of(page, "sizes")) == len(inside)


def test_history(open_page: Open, folder: Path) -> None:
    page = open_page("tab=history&family=pooling")
    found = [row for row in rows_of(page, "history", 1) if row["Case"].startswith(demo.SLOWED[1] + " ")]
    assert found
    at = {demo.sha(demo.SLOWER + i)[:8] for i in (-1, 0, 1)}
    assert all(row["Commit"][:8] in at for row in found)
    assert all(number(row["Faster by"]) == pytest.approx(-13, abs=2) for row in found)  # 1 / 1.15
    link = page.locator("#panel-history table").last.get_by_role("link", name=found[0]["Commit"][:8]).first
    commit = next(demo.sha(i) for i in range(demo.COMMITS) if demo.sha(i).startswith(found[0]["Commit"][:8]))
    assert link.get_attribute("href") == COMMIT_URL.replace("{commit}", commit)
    # The case of a row, drawn.
    page.locator("#panel-history table").last.get_by_role("link", name=found[0]["Case"], exact=True).first.click()
    page.wait_for_function("location.hash.includes('case=')")
    settled(page)
    assert page.locator("select[name=case]").input_value() == found[0]["Case"]
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    against = page.locator("select[name=against]").input_value()
    expected = [line["ratio"][against][0] for line in lines if line["group"] == found[0]["Case"]]
    drawn = chart(page, "history", f"option.series.find(s => s.name === 'ratio to {against}').data.map(d => d[1])")
    assert drawn[: len(expected)] == pytest.approx(expected, rel=1e-3)  # then the run's own, unless disturbed
    marks = chart(page, "history", "option.series.find(s => s.name === 'new level begins').data.map(d => d[0])")
    assert any(abs(mark - demo.SLOWER) <= 1 for mark in marks)
    assert len(rows_of(page, "history", 0)) == len(drawn)


def test_two_commits(open_page: Open, folder: Path) -> None:
    page = open_page("tab=compare&family=convolution")
    choose(page, "a", demo.sha(demo.FASTER - 5))
    choose(page, "b", demo.sha(demo.FASTER + 5))
    (row,) = rows_of(page, "compare", 1)
    assert row["Family"] == "convolution"
    assert number(row["Faster by"]) == pytest.approx(25, abs=1)
    assert row["Surely faster"] == row["Figures"]
    rows = rows_of(page, "compare", 0)
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    before, after = (
        next(e["ratio"] for e in lines if e["group"] == rows[0]["Case"] and e["commit"] == demo.sha(demo.FASTER + i))
        for i in (-5, 5)
    )
    against = rows[0]["Ratio to"]
    assert number(rows[0]["Faster by"]) == pytest.approx(100 * (after[against][0] / before[against][0] - 1), abs=0.6)
    assert len(bars(page, "compare")) == 20


def test_dark(open_page: Open) -> None:
    def colours(page: Any) -> tuple[str, str]:
        axis = chart(page, "overview", "option.yAxis[0].axisLabel.color")
        return page.evaluate("getComputedStyle(document.body).backgroundColor"), axis

    light, dark = colours(open_page()), colours(open_page(color_scheme="dark"))
    assert light == ("rgb(244, 246, 249)", "#17202c")
    assert dark == ("rgb(15, 20, 27)", "#e7ecf2")
    page = open_page(color_scheme="dark")
    page.get_by_role("button", name="Light colours").click()
    assert colours(page) == light
    page.emulate_media(color_scheme="light")
    page.emulate_media(color_scheme="dark")  # the reader's own choice stays
    assert colours(page) == light
    page.reload()
    settled(page)
    assert colours(page) == light


def test_accessible(open_page: Open, tmp_path: Path) -> None:
    """axe finds nothing, on every view, its tables open; and no contrast too low in the dark."""
    made = demo.results(40)
    lines = lines_of(made, commits=12)
    dashboard.write([results.read(saved(tmp_path / "a.json", made))], lines, tmp_path / "small.html", COMMIT_URL)
    page = open_page(file=tmp_path / "small.html")
    for tab in TABS:
        show(page, tab)
        for details in page.locator("details:not([open]):visible").all():
            details.locator("summary").click()
        found = axe.Axe().run(page)
        assert not found.violations_count, found.generate_report()
    page.emulate_media(color_scheme="dark")
    for tab in "overview", "history", "about":
        show(page, tab)
        found = axe.Axe().run(page, options={"runOnly": ["color-contrast"], "resultTypes": ["violations"]})
        assert not found.violations_count, found.generate_report()


def test_narrow(open_page: Open) -> None:
    """On a phone nothing is wider than it; tables and the row of tabs scroll by themselves."""
    page = open_page(viewport={"width": 360, "height": 740})
    for tab in TABS:
        show(page, tab)
        page.wait_for_function("document.documentElement.scrollWidth <= 360", timeout=5000)
        wide = page.locator("main *:visible, header *:visible").evaluate_all(
            "nodes => nodes.filter(n => !n.closest('.scroll, [role=tablist], svg'))"
            ".filter(n => n.getBoundingClientRect().right > 361).map(n => n.outerHTML.slice(0, 100))"
        )
        assert not wide
        if tab != "about":
            page.wait_for_function(
                "tab => document.querySelector(`#panel-${tab} .chart svg`).getBoundingClientRect().width <= 340",
                arg=tab,
            )


def test_on_paper(open_page: Open) -> None:
    page = open_page("tab=families&family=recurrent", color_scheme="dark")
    assert page.locator("#panel-families table").count() == 0
    printed: dict[str, Any] = page.evaluate(
        """() => {
            dispatchEvent(new Event("beforeprint"));
            const chart = echarts.getInstanceByDom(document.querySelector("#panel-families .chart"));
            return {
                theme: document.documentElement.dataset.theme, width: chart.getWidth(), height: chart.getHeight(),
                tables: document.querySelectorAll("#panel-families table").length,
            };
        }"""
    )
    assert printed["theme"] == "light"
    assert printed["width"] == 680  # A4 less its margins
    assert printed["height"] <= 700
    assert printed["tables"] == 1
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.emulate_media(media="print")
    assert not page.locator("#filters").is_visible()
    assert not page.locator("#tabs").is_visible()
    assert page.locator("#panel-families .chart").is_visible()
    page.emulate_media(media="screen")
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_names_are_text(open_page: Open, tmp_path: Path) -> None:
    bad = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
    made = demo.results(most=40)
    for i, entry in enumerate(made["benchmarks"]):
        entry["group"] += bad
        extra = entry["extra_info"]
        for name in ("family", "case", "operation", "dtype", "level", "disturbed"):
            extra[name] += bad
        if extra["implementation"] != "fastdl":
            extra["implementation"] += bad
        entry["params"] = {bad: i + 1}
    made["commit_info"] |= {"subject": bad, "branch": bad}
    made["machine_info"]["fastdl"]["versions"][bad] = bad
    made["machine_info"]["fastdl"]["processor"] = bad
    run = saved(tmp_path / "a.json", made)
    lines = [replace(line, subject=bad, processor=bad) for line in lines_of(made, commits=12)]
    dashboard.write([results.read(run)], lines, tmp_path / "bad.html")
    page = open_page(file=tmp_path / "bad.html")
    for tab in TABS:
        show(page, tab)
        for details in page.locator("details:not([open]):visible").all():
            details.locator("summary").click()
        if tab != "about":
            chart(
                page,
                tab,
                "option.series.map((_, i) => chart.dispatchAction({type: 'showTip', seriesIndex: i, dataIndex: 0}))",
            )
        assert bad in page.locator(f"#panel-{tab}").text_content()
    assert page.evaluate("window.hacked") is None
    assert page.locator("script").count() == 3
    assert page.locator("img").count() == 0


def test_ratios_are_of_one_file(open_page: Open, tmp_path: Path) -> None:
    """What only an older file has was not measured beside ours as it is now."""
    older, newer = demo.results(most=1), demo.results(most=1)
    (ours,) = newer["benchmarks"]
    torch = json.loads(json.dumps(ours)) | {"name": "torch", "fullname": "torch"}
    torch["extra_info"] |= {"implementation": "torch", "role": "peer", "backend": "", "ratio": [2.0, 1.9, 2.1]}
    torch["stats"]["median"] = 2 * ours["stats"]["median"]
    older["benchmarks"].append(torch)
    older |= {"datetime": demo.date(0), "commit_info": {"id": demo.sha(0)}}
    ours["stats"]["median"] /= 2  # ours is twice as fast now
    runs = [results.read(saved(tmp_path / f"{i}.json", made)) for i, made in enumerate((older, newer))]
    dashboard.write(runs, [], tmp_path / "two.html")
    page = open_page("tab=families", file=tmp_path / "two.html")
    assert [*bars(page, "families").values()] == [{"torch": pytest.approx(4, rel=1e-3)}]
    choose(page, "run", "0")
    assert [*bars(page, "families").values()] == [{"torch": pytest.approx(2, rel=1e-3)}]


def test_project_of_others(open_page: Open, tmp_path: Path) -> None:
    """Several files of a foreign project: groups by name, the fastest as the base, and their history."""
    paths = foreign_results(tmp_path, 2)
    runs = [results.read(path) for path in paths]
    dashboard.write(runs, [], tmp_path / "out.html")
    page = open_page("tab=families", file=tmp_path / "out.html")
    latest = {(e.fullname.split("::")[1]): e.median for e in runs[1].entries}
    drawn = bars(page, "families")
    assert "join <script>window.hacked = 1</script>" in drawn
    for n in (10, 100, 1000):
        times = {name: latest[f"{name}[{n}]"] for name in ("test_set", "test_sorted")}
        slow = max(times, key=lambda name: times[name])
        assert drawn[f"sorting [{n}]"] == pytest.approx({slow: times[slow] / min(times.values())}, rel=1e-3)
    choose(page, "base", "test_set")
    assert bars(page, "families")["sorting [10]"] == pytest.approx(
        {"test_sorted": latest["test_sorted[10]"] / latest["test_set[10]"]}, rel=1e-3
    )
    choose(page, "run", "0")
    first = {(e.fullname.split("::")[1]): e.median for e in runs[0].entries}
    assert bars(page, "families")["sorting [10]"] == pytest.approx(
        {"test_sorted": first["test_sorted[10]"] / first["test_set[10]"]}, rel=1e-3
    )
    show(page, "sizes")
    lines = dict(
        chart(
            page,
            "sizes",
            "option.series.filter(s => s.data[0].index !== undefined).map(s => [s.name, s.data.map(d => d.value[0])])",
        )
    )
    assert lines == {"test_set": [10, 100, 1000], "test_sorted": [10, 100, 1000]}
    show(page, "history")
    choose(page, "case", "sorting [100]")
    choose(page, "against", "test_set")
    drawn_times = chart(page, "history", "option.series.find(s => s.name === 'median time').data.map(d => d[1])")
    assert drawn_times == pytest.approx([first["test_set[100]"], latest["test_set[100]"]], rel=1e-3)
    for tab in TABS:
        show(page, tab)
    assert page.evaluate("window.hacked") is None


@pytest.mark.skipif(not PICTURES, reason="pictures are made on request: DASHBOARD_PICTURES=FOLDER")
@pytest.mark.parametrize("kind", ["light", "dark", "phone"])
def test_pictures(kind: str, open_page: Open) -> None:
    for tab in TABS:
        more: dict[str, Any] = {"viewport": {"width": 360, "height": 740}} if kind == "phone" else {}
        page = open_page(f"tab={tab}", color_scheme="dark" if kind == "dark" else "light", **more)
        page.screenshot(path=Path(PICTURES or "") / f"{kind}-{tab}.png", full_page=True)
