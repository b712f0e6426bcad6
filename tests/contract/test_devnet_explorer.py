"""The devnet's explorer: its pages as they are sent, and as a browser without scripts shows."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.browser import DESKTOP, PHONE, Browser, chromium

from farthing.channels.units import format_cents
from farthing.devnet.explorer.pages import HEADERS

from .lively import DEPOSIT_UCENT, PAID_UCENT, REWARD_UCENT, Lively

NOWHERE = "0x" + "ab" * 32

LOW_CONTRAST = """
(() => {
  const rgb = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = rgb(c).map(v => v / 255).map(
    v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if ((rgb(c)[3] ?? 1) > 0) return c; } return 'rgb(255, 255, 255)'; };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) found.push(e.outerHTML.slice(0, 80));
  }
  return found;
})()
"""
"""Texts with less contrast than WCAG 2's AA asks for."""


@pytest.fixture(scope="module")
def client(lively_devnet: Lively) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=lively_devnet.rpc_url, trust_env=False, timeout=60) as client:
        yield client


def pages(world: Lively) -> dict[str, str]:
    """A path of each kind, and something that its page must show."""
    return {
        "/": "Chain 20262026 at block",
        "/blocks": "Blocks",
        "/block/latest": "State root",
        "/block/0": "none: the first block",
        "/channels": format_cents(REWARD_UCENT),
        "/events": "CloseStarted",
        f"/channel/{world.channels[0]}": "Lane B to A",
        f"/channel/{world.channels[1]}": "The challenge window ends after",
        f"/tx/{world.opened}": "payment_channels.<wbr>open_many",
        f"/tx/{world.reverted}": "failed",
        f"/tx/{NOWHERE}": "There is no transaction",
    }


def test_each_page_says_what_is_on_the_chain(client: httpx.Client, lively_devnet: Lively) -> None:
    for path, shown in pages(lively_devnet).items():
        answer = client.get(path)
        assert answer.status_code == (404 if NOWHERE in path else 200), path
        assert shown in answer.text, path
        assert "<script" not in answer.text
        assert "style=" not in answer.text
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_both_lanes_of_a_channel_are_shown_with_what_was_paid(
    client: httpx.Client, lively_devnet: Lively
) -> None:
    text = client.get(f"/channel/{lively_devnet.channels[0]}").text
    hub, wallet = text.split("Lane B to A")
    spendable = format_cents(DEPOSIT_UCENT + PAID_UCENT)
    assert f"{format_cents(REWARD_UCENT)} paid of {spendable}" in hub
    assert f"{format_cents(PAID_UCENT)} paid of {format_cents(REWARD_UCENT)}" in wallet
    assert f"<dd>{format_cents(REWARD_UCENT - PAID_UCENT)}</dd>" in wallet


@pytest.mark.parametrize(
    "path",
    [
        *("/block/999999", "/block/x", "/tx/0x12", f"/channel/{NOWHERE}", "/nothing/here"),
        *("/blocks?before=x", "/search", "/search?q=<b>", f"/search?q={NOWHERE}"),
        "/search?q=999999",
    ],
)
def test_what_is_not_there_is_answered_with_404_and_escaped(
    client: httpx.Client, path: str
) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "Not found" in answer.text
    assert "<b>" not in answer.text


def test_the_search_leads_to_blocks_transactions_and_channels(
    client: httpx.Client, lively_devnet: Lively
) -> None:
    latest = str(lively_devnet.w3.eth.get_block("latest")["hash"].to_0x_hex())
    for text, place in (
        ("3", "/block/3"),
        (latest, f"/block/{latest}"),
        (lively_devnet.opened.upper().replace("X", "x"), f"/tx/{lively_devnet.opened}"),
        (lively_devnet.channels[0], f"/channel/{lively_devnet.channels[0]}"),
    ):
        answer = client.get("/search", params={"q": text})
        assert (answer.status_code, answer.headers["location"]) == (303, place)


def test_older_ones_are_on_further_pages(client: httpx.Client, lively_devnet: Lively) -> None:
    first = int(lively_devnet.w3.eth.get_transaction_receipt(lively_devnet.opened)["blockNumber"])
    assert "Opened" not in client.get("/events", params={"before": first}).text
    assert client.get("/channels", params={"before": first + 1}).text.count('href="/channel/') == 3
    assert 'href="/block/1"' in client.get("/blocks", params={"before": 3}).text
    assert "None are older" in client.get("/blocks", params={"before": 0}).text


def test_a_page_that_calls_itself_by_another_host_is_refused(client: httpx.Client) -> None:
    for path in ("/", "/channels", "/explorer.css"):
        assert client.get(path, headers={"host": "evil.example"}).status_code == 400
    assert client.post("/channels", json={}).status_code == 404


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def test_a_browser_without_scripts_shows_every_page_at_both_widths_and_in_both_schemes(
    browser: Browser, lively_devnet: Lively
) -> None:
    backs = set()
    for path in pages(lively_devnet):
        for (width, height), scheme in ((DESKTOP, "light"), (PHONE, "dark")):
            browser.size(width, height)
            browser.scheme(scheme)
            browser.open(lively_devnet.rpc_url + path)
            assert browser.look("document.documentElement.scrollWidth") <= width, path
            assert browser.look("document.querySelectorAll('h1').length") == 1
            assert browser.look(LOW_CONTRAST) == [], (path, scheme)
            backs.add(browser.look("getComputedStyle(document.body).backgroundColor"))
    assert len(backs) == 2
    # Nothing was refused by the page's own policy, and nothing asked for from elsewhere.
    assert [text for text in browser.complaints if "404" not in text] == []
    assert all(url.startswith(lively_devnet.rpc_url) for url in browser.requests)


def test_whoever_does_not_see_the_page_hears_its_tables_links_and_landmarks(
    browser: Browser, lively_devnet: Lively
) -> None:
    browser.size(*PHONE)  # where rows are laid out as cards, they are rows all the same
    browser.open(lively_devnet.rpc_url + "/channels")
    heard = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in browser.ask("Accessibility.getFullAXTree")["nodes"]
        if not node["ignored"]
    ]
    roles = [role for role, _ in heard]
    assert {"banner", "navigation", "main", "contentinfo", "search", "table"} <= set(roles)
    assert roles.count("row") == 1 + len(lively_devnet.channels)
    bars = [name for role, name in heard if role == "progressbar"]
    assert len(bars) == 2 * len(lively_devnet.channels)
    for role in ("link", "button", "searchbox", "progressbar", "columnheader"):
        names = [name for each, name in heard if each == role]
        assert names, role
        assert all(names), (role, names)
    assert browser.look("document.documentElement.lang") == "en"
