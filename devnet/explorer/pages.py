"""The explorer's pages over HTTP: only GET, no script, no cookie, nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ...channels.units import format_cents
from ..asking import ChainAsk
from ..looking import NotThere
from . import scenes

if TYPE_CHECKING:
    from ..server import Owner

TEMPLATES = Path(__file__).parent / "templates"
FILES = {"explorer.css": "text/css", "icon.svg": "image/svg+xml"}
SEARCH_CHARACTERS_MAX = 80
NUMBER_DIGITS_MAX = 18

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer: what a template forgot to escape would still not run."""

_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_NUMBER = re.compile(rf"[0-9]{{1,{NUMBER_DIGITS_MAX}}}")

Endpoint = Callable[[Request], Awaitable[Response]]


def explorer_routes(owner: Owner) -> list[Route]:
    """The routes of the explorer over a chain's owner."""

    def page(path: str, template: str, choose: Callable[[Request], scenes.Scene]) -> Route:
        return Route(path, _endpoint(owner, template, choose), methods=["GET"])

    return [
        page("/", "overview.html", lambda _: scenes.overview),
        page("/blocks", "blocks.html", lambda r: partial(scenes.blocks, before=_before(r))),
        page("/block/{at}", "block.html", lambda r: partial(scenes.block, at=_block(r))),
        page("/tx/{hash}", "tx.html", lambda r: partial(scenes.transaction, hash_=_hash(r))),
        page("/events", "events.html", lambda r: partial(scenes.events, before=_before(r))),
        page("/channels", "channels.html", lambda r: partial(scenes.channels, before=_before(r))),
        page("/channel/{hash}", "channel.html", lambda r: partial(scenes.channel, id_=_hash(r))),
        Route("/search", _search(owner), methods=["GET"]),
        *(Route(f"/{name}", _file(name, kind), methods=["GET"]) for name, kind in FILES.items()),
        Route("/{rest:path}", _nothing, methods=["GET", "POST"]),
    ]


def _endpoint(owner: Owner, template: str, choose: Callable[[Request], scenes.Scene]) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            scene = choose(request)
            context = await owner.run(partial(scene, ChainAsk(owner.rpc)))
        except NotThere as missing:
            return await _rendered("missing.html", {"text": missing.text}, status=404)
        return await _rendered(template, context)

    return answer


def _search(owner: Owner) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            where = await owner.run(partial(scenes.find, ChainAsk(owner.rpc), _wanted(request)))
        except NotThere as missing:
            return await _rendered("missing.html", {"text": missing.text}, status=404)
        return RedirectResponse(where, status_code=303, headers=HEADERS)

    return answer


async def _nothing(_request: Request) -> Response:
    return await _rendered("missing.html", {"text": "there is no such page"}, status=404)


def _file(name: str, kind: str) -> Endpoint:
    async def answer(_request: Request) -> Response:
        return Response(
            await trio.Path(TEMPLATES / name).read_bytes(), media_type=kind, headers=HEADERS
        )

    return answer


async def _rendered(template: str, context: dict[str, Any], *, status: int = 200) -> Response:
    page = _environment().get_template(template)
    text = await trio.to_thread.run_sync(partial(page.render, context))
    return Response(text, status_code=status, media_type="text/html", headers=HEADERS)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        cents=format_cents, when=_when, machine_time=_machine_time, short=_short, digits=_digits
    )
    return environment


def _when(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _machine_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _short(hex_: str) -> str:
    """The two ends of a long hex."""
    return hex_ if len(hex_) <= len("0x12345678…1234") else f"{hex_[:8]}…{hex_[-4:]}"


def _digits(value: int) -> str:
    return f"{value:,}"


# What a path or a query names


def _wanted(request: Request) -> str:
    text = request.query_params.get("q", "").strip()[:SEARCH_CHARACTERS_MAX]
    if not (_HASH.fullmatch(text) or _NUMBER.fullmatch(text)):
        raise NotThere(f"{text!r} is neither a block's number nor a hash")
    return text.lower()


def _hash(request: Request) -> str:
    text = str(request.path_params["hash"])
    if not _HASH.fullmatch(text):
        raise NotThere("a hash is 0x and 64 hex digits")
    return text.lower()


def _block(request: Request) -> str:
    text = str(request.path_params["at"])
    if _NUMBER.fullmatch(text):
        return hex(int(text))
    if _HASH.fullmatch(text) or text == "latest":
        return text.lower()
    raise NotThere("a block is named by its number or hash")


def _before(request: Request) -> int | None:
    text = request.query_params.get("before")
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise NotThere("`before` is a block's number")
    return int(text)
