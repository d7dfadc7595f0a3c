"""The page in a browser, on a laptop and on a phone, light and dark: it fits and is readable."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.cli import main as cli

SIZES = {"phone": (390, 844), "tablet": (820, 1180), "laptop": (1280, 800)}
LEAST_CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3, for text of any size

# Elements that a user sees; those clipped to nothing are for screen readers.
_SEEN = """
const seen = (root, what) => [...root.querySelectorAll(what)].filter(one => {
  const box = one.getBoundingClientRect();
  return box.width > 0 && box.height > 0 && !one.closest('thead')?.matches(HIDDEN);
});
const HIDDEN = innerWidth <= 960 ? 'thead' : ':not(*)';
const name = one =>
  `${one.tagName}.${one.getAttribute('class') ?? ''} "${one.textContent.slice(0, 40)}"`;
"""
OVERFLOWING = (
    "() => {"
    + _SEEN
    + """
  const wide = seen(document.body, '*').filter(one => {
    const box = one.getBoundingClientRect();
    const inner = one instanceof HTMLElement && getComputedStyle(one).display !== 'inline'
      && one.scrollWidth > one.clientWidth + 1;
    return box.left < -0.5 || box.right > innerWidth + 0.5 || inner;
  });
  const page = document.documentElement;
  return [...wide.map(name), ...(page.scrollWidth > page.clientWidth ? ['the page'] : [])];
}"""
)
OVERLAPPING = (
    "() => {"
    + _SEEN
    + """
  // A font's line is higher than its letters: 2 px of it are air.
  const air = ({left, right, top, bottom}) => ({left, right, top: top + 2, bottom: bottom - 2});
  const box = one => air(one.getBoundingClientRect());
  const bad = [];
  const cross = (a, b) =>
    a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const lines = seen(document.body, '*').filter(one => !one.closest('svg')).flatMap(one =>
    [...one.childNodes].filter(node => node.nodeType === 3 && node.data.trim()).flatMap(node => {
      const range = document.createRange();
      range.selectNodeContents(node);
      return [...range.getClientRects()].map(line => [one, air(line)]);
    }));
  lines.forEach(([one, a], i) => {
    for (const [other, b] of lines.slice(0, i))
      if (cross(a, b)) bad.push(`${name(one)} over ${name(other)}`);
  });
  for (const chart of seen(document, 'svg')) {
    const frame = chart.getBoundingClientRect();
    const texts = seen(chart, 'text').map(one => [one, box(one)]);
    texts.forEach(([one, a], i) => {
      if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top
          || a.bottom > frame.bottom) bad.push(`${name(one)} leaves its chart`);
      for (const [other, b] of texts.slice(0, i))
        if (cross(a, b)) bad.push(`${name(one)} over ${name(other)}`);
    });
  }
  return bad;
}"""
)
# Colours below a text are blended as they lie on the screen, transparent shapes of charts too.
FAINT = (
    "least => {"
    + _SEEN
    + """
  const colour = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g)?.map(Number) ?? [0, 0, 0, 0];
    return text === 'none' ? [0, 0, 0, 0] : [r, g, b, a];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((c, i) => a * c + (1 - a) * below[i]);
  const paint = one => {
    const style = getComputedStyle(one);
    if (one instanceof HTMLElement) return colour(style.backgroundColor);
    if (!(one instanceof SVGGeometryElement)) return [0, 0, 0, 0];
    const [r, g, b, a] = colour(style.fill);
    return [r, g, b, a * style.fillOpacity * style.opacity];
  };
  const luminance = rgb => rgb.map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (one, below) => {
    const [low, high] = [luminance(one), luminance(below)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const texts = seen(document.body, '*').filter(one =>
    [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())
    && one.tagName !== 'title');
  const found = texts.map(one => {
    const {left, right, top, bottom} = one.getClientRects()[0]; // its first line
    const stack = document.elementsFromPoint((left + right) / 2, (top + bottom) / 2);
    const at = stack.indexOf(one);
    const under = (at < 0 ? [] : stack.slice(one instanceof SVGElement ? at + 1 : at)).reverse();
    const page = colour(getComputedStyle(document.body).backgroundColor);
    const below = under.reduce((rgb, layer) => over(paint(layer), rgb), page.slice(0, 3));
    const style = getComputedStyle(one);
    const ink = colour(one instanceof SVGElement ? style.fill : style.color);
    return [at < 0 ? 0 : contrast(over(ink, below), below), one];
  });
  return [texts.length, found.filter(([ratio]) => ratio < least)
    .map(([ratio, one]) => `${ratio.toFixed(2)}: ${name(one)}`)];
}"""
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright; pip install 'orchestra-ray[dev]'"
    )
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on the PATH (Debian: apt install chromium)")
    with playwright.sync_playwright() as driver:
        # Chromium's own sandbox refuses to start as root, as in a container.
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A run with every section, three seeds of a setting, two settings, and extreme values."""
    folder = tmp_path_factory.mktemp("pages")
    seeds = [make_run(f"study-s{seed}", seed, ledger=True) for seed in range(3)]
    dear = make_run("long_name_of_another_setting", 4, config={"reward": {"preset": "gdpo"}})
    policies = {
        f"expert_with_a_long_name_{n}": {
            "accuracy": 0.3 + 0.05 * n, "accuracy_ci95": [0.25 + 0.05 * n, 0.35 + 0.05 * n],
            "cost_usd": 10.0 ** (n - 5) if n else 0.0, "latency_s": 60.0 * n,
            "reward": -n / 3, "reward_ci95": [-n / 3 - 0.1, -n / 3 + 0.1], "turns": 50.0,
            "by_family": {
                f"benchmark_{k}": {"accuracy": 0.5, "accuracy_ci95": [0.0, 1.0], "tasks": 9}
                for k in range(11)
            },
            "calls": {f"a_tool_called_{k}": k * n for k in range(15)},
        }
        for n in range(7)
    }  # fmt: skip
    many = make_run("extremes", steps=3, baselines=policies)
    runs_of_page = {
        "one": [make_run("whole", preference=True, ledger=True)],
        "seeds": seeds,
        "settings": [*seeds[:2], dear],
        "extremes": [many],
    }
    for name, runs in runs_of_page.items():
        out = str(folder / f"{name}.html")
        assert cli.main(["report", *map(str, runs), "--out", out]) == 0
    return {name: folder / f"{name}.html" for name in runs_of_page}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["one", "seeds", "settings", "extremes"])
def test_a_page_fits_is_readable_in_both_schemes_and_asks_for_nothing(
    browser: Any, pages: dict, name: str, size: str, tmp_path: Path
) -> None:
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(30_000)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(pages[name].as_uri())
    # Whole on the screen: what lies under a text can only be asked of what is in view.
    whole = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": width, "height": whole})
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=tmp_path / f"{name}-{size}-{scheme}.png")
        texts, faint = page.evaluate(FAINT, LEAST_CONTRAST)
        assert texts > 100 and faint == [], scheme
    assert page.evaluate(OVERFLOWING) == []
    assert page.evaluate(OVERLAPPING) == []
    assert [url for url in asked if not url.startswith("data:")] == [pages[name].as_uri()]
    assert said == []
    page.close()
