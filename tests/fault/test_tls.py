"""On the way to the hub nobody listens, and nobody stands in between, whatever they can show."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec

from farthing.channels.client.session import say_error
from farthing.channels.client.tls import (
    CertificateRefused,
    MalformedTrust,
    TlsRefused,
    Trust,
    dial,
    fingerprint,
    read_certificate,
)
from farthing.channels.client.wire import ConnectionLost, Refused, Wire
from farthing.channels.errors import PeerError
from farthing.channels.ids import ZERO_WORD, Address
from farthing.channels.messages import Ping
from farthing.channels.signing import BadSignature
from farthing.node.certificate import BadHostName, CertificateExists, make_certificate
from farthing.node.server import CannotListen, open_listener
from farthing.node.tls import (
    ServerTls,
    SpeaksOtherwise,
    UnusableCertificate,
    accept,
    load_tls,
)

from ..certificates import HOST, Authority, Leaf, key_pem
from ..people import ALICE, BOB, DOMAIN

PATIENCE_SECONDS = 60


@dataclass
class Door:
    """Alice's listener: whom she knows, and why she let others go."""

    tls: ServerTls | None
    port: int = 0
    peers: list[Address | None] = field(default_factory=list)
    errors: list[PeerError] = field(default_factory=list)

    async def serve(self, stream: trio.SocketStream) -> None:
        wire = Wire(stream)
        try:
            secured, certificate = await accept(stream, self.tls)
            wire = Wire(secured, certificate=certificate)
            await wire.accept(DOMAIN, ALICE)
            self.peers.append(wire.peer)
            await wire.say_now(Ping(token=7))
        except PeerError as error:
            self.errors.append(error)
            if not isinstance(error, TlsRefused) or isinstance(error, SpeaksOtherwise):
                await say_error(wire, error)
        await wire.finish()

    async def error(self) -> PeerError:
        """Wait for the end of a connection that was none."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not self.errors:
                await trio.lowlevel.checkpoint()
        return self.errors[0]


@asynccontextmanager
async def door(leaf: Leaf | None) -> AsyncIterator[Door]:
    """Alice listens, with TLS where she has a certificate."""
    tls = None if leaf is None else load_tls(leaf.certificate, leaf.key)
    made = Door(tls)
    listener = await open_listener(HOST, 0, tls)
    made.port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, made.serve, [listener])
        yield made
        nursery.cancel_scope.cancel()


async def speak(port: int, trust: Trust | None, host: str = HOST) -> None:
    """Bob dials and proves himself, and hears alice; raises what stops him."""
    with trio.fail_after(PATIENCE_SECONDS):
        dialled = await dial(host, port, trust)
        wire = Wire(dialled.stream, certificate=dialled.certificate)
        try:
            await wire.dial(DOMAIN, BOB, ALICE.address)
            assert await wire.receive() == [Ping(token=7)]
        finally:
            await wire.finish()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def pinned(*leaves: Leaf) -> Trust:
    return Trust(pins=tuple(leaf.hash for leaf in leaves))


# -- who is trusted -----------------------------------------------------------------------------


async def test_a_pinned_certificate_is_known_whatever_its_name_and_dates(
    authority: Authority,
) -> None:
    old = authority.leaf("old", "somewhere.example", days=-1)
    async with door(old) as alice:
        await speak(alice.port, pinned(old))
        assert alice.peers == [BOB.address]


async def test_while_a_certificate_is_renewed_both_are_known(authority: Authority) -> None:
    old, new, other = (authority.leaf(name) for name in ("old", "new", "other"))
    for leaf in (old, new):
        async with door(leaf) as alice:
            await speak(alice.port, pinned(old, new))
    async with door(other) as alice:
        with pytest.raises(CertificateRefused):
            await speak(alice.port, pinned(old, new))


async def test_another_certificate_than_the_pinned_one_is_shown_both_hashes(
    authority: Authority,
) -> None:
    known, other = authority.leaf("known"), authority.leaf("other")
    async with door(other) as alice:
        with pytest.raises(CertificateRefused) as caught:
            await speak(alice.port, pinned(known))
        assert fingerprint(known.hash) in str(caught.value)
        assert fingerprint(other.hash) in str(caught.value)
        assert "farthing wallet trust" in caught.value.what_to_do
        assert isinstance(await alice.error(), ConnectionLost)  # bob said nothing at all
        assert alice.peers == []


async def test_a_certificate_of_a_trusted_ca_is_known_by_its_name(authority: Authority) -> None:
    trust = Trust(ca=str(authority.file))
    async with door(authority.leaf("here")) as alice:
        await speak(alice.port, trust)
    async with door(authority.leaf("named", "localhost")) as alice:
        await speak(alice.port, trust, "localhost")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda ca: ca.leaf("elsewhere", "192.0.2.1"), "IP address mismatch"),
        (lambda ca: ca.leaf("expired", days=-1), "expired"),
    ],
    ids=["other name", "expired"],
)
async def test_a_ca_s_certificate_for_another_name_or_time_is_refused(
    authority: Authority, make: Callable[[Authority], Leaf], why: str
) -> None:
    async with door(make(authority)) as alice:
        with pytest.raises(CertificateRefused, match=why):
            await speak(alice.port, Trust(ca=str(authority.file)))
        assert isinstance(await alice.error(), TlsRefused)


async def test_a_certificate_of_nobody_one_trusts_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "mallory").mkdir()
    leaf = Authority(tmp_path / "mallory").leaf("here")
    for trust in (Trust(ca=str(authority.file)), Trust(ca="system")):
        async with door(leaf) as alice:
            with pytest.raises(CertificateRefused):
                await speak(alice.port, trust)
            assert alice.peers == []


# -- in between -----------------------------------------------------------------------------------


async def forward(one: trio.abc.Stream, other: trio.abc.Stream) -> None:
    """Hand on bytes both ways until either end closes."""
    async with trio.open_nursery() as nursery:

        async def pump(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while data := await source.receive_some(65536):
                    await sink.send_all(data)
            nursery.cancel_scope.cancel()

        nursery.start_soon(pump, one, other)
        nursery.start_soon(pump, other, one)


@asynccontextmanager
async def between(alice: Door, trust: Trust | None, tls: ServerTls | None) -> AsyncIterator[int]:
    """Mallory's proxy: ends TLS with a certificate of her own, dials the hub anew, hands all on."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            secured: trio.abc.Stream = stream
            if tls is not None:
                secured, _ = await accept(stream, tls)
            dialled = await dial(HOST, alice.port, trust)
            try:
                await forward(secured, dialled.stream)
            finally:
                await trio.aclose_forcefully(dialled.stream)
        finally:
            await trio.aclose_forcefully(stream)

    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_a_proxy_with_another_valid_certificate_is_found_out_by_both_signatures(
    authority: Authority,
) -> None:
    trust = Trust(ca=str(authority.file))
    hubs, mallorys = authority.leaf("hub"), authority.leaf("mallory")
    mallory = load_tls(mallorys.certificate, mallorys.key)
    async with door(hubs) as alice, between(alice, trust, mallory) as port:
        with pytest.raises(Refused, match="signature"):  # TLS itself has nothing to say against it
            await speak(port, trust)
        assert isinstance(await alice.error(), BadSignature)
        assert alice.peers == []
    async with (
        door(hubs) as alice,
        between(alice, trust, load_tls(hubs.certificate, hubs.key)) as p,
    ):
        await speak(p, trust)  # with the hub's own key the very same proxy is the hub


async def test_a_proxy_that_speaks_plainly_on_one_side_is_found_out(authority: Authority) -> None:
    trust = Trust(ca=str(authority.file))
    hubs = authority.leaf("hub")
    async with door(hubs) as alice, between(alice, trust, None) as port:
        with pytest.raises(Refused, match="signature"):
            await speak(port, None)
        assert isinstance(await alice.error(), BadSignature)
    mallorys = authority.leaf("mallory")
    mallory = load_tls(mallorys.certificate, mallorys.key)
    async with door(None) as alice, between(alice, None, mallory) as port:
        with pytest.raises(Refused, match="signature"):
            await speak(port, trust)
        assert isinstance(await alice.error(), BadSignature)


async def test_a_wire_that_hands_on_encrypted_bytes_sees_nothing_and_changes_nothing(
    authority: Authority,
) -> None:
    hubs = authority.leaf("hub")
    async with door(hubs) as alice, between(alice, None, None) as port:
        await speak(port, pinned(hubs))
        assert alice.peers == [BOB.address]


# -- versions -------------------------------------------------------------------------------------


async def test_older_versions_of_tls_are_refused_by_the_hub(authority: Authority) -> None:
    async with door(authority.leaf("hub")) as alice:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        plain = await trio.open_tcp_stream(HOST, alice.port)
        with pytest.raises(trio.BrokenResourceError):
            await trio.SSLStream(plain, old).do_handshake()
        await trio.aclose_forcefully(plain)
        error = await alice.error()
        assert isinstance(error, TlsRefused)
        assert "does not speak TLS 1.3" in error.text


async def test_older_versions_of_tls_are_refused_by_the_wallet(authority: Authority) -> None:
    leaf = authority.leaf("hub")
    old = load_tls(leaf.certificate, leaf.key).context
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    async def serve(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(stream, old, server_side=True)
        with pytest.raises(trio.BrokenResourceError):
            await secured.do_handshake()
        await stream.send_all(secured._outgoing.read())  # the alert, which trio keeps
        await stream.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        port = listener.socket.getsockname()[1]
        for trust in (pinned(leaf), Trust(ca=str(authority.file))):
            with pytest.raises(TlsRefused, match=r"does not speak TLS 1\.3"):
                await speak(port, trust)
        nursery.cancel_scope.cancel()


async def test_a_hub_that_goes_away_in_the_middle_of_tls_is_one_that_broke_off() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        await stream.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        with pytest.raises(TlsRefused, match="broke off"):
            await speak(listener.socket.getsockname()[1], Trust(ca="system"))
        nursery.cancel_scope.cancel()


# -- plain and TLS --------------------------------------------------------------------------------


async def test_a_wallet_that_speaks_plainly_to_a_hub_with_tls_is_told_so(
    authority: Authority,
) -> None:
    async with door(authority.leaf("hub")) as alice:
        with pytest.raises(Refused, match="nothing but TLS") as caught:
            await speak(alice.port, None)
        assert "farthing wallet trust" in caught.value.what_to_do
        assert "nothing but TLS" in str(await alice.error())


async def test_a_wallet_that_speaks_tls_to_a_hub_without_is_told_so(authority: Authority) -> None:
    async with door(None) as alice:
        with pytest.raises(TlsRefused, match="does not speak TLS"):
            await speak(alice.port, Trust(ca=str(authority.file)))
        assert "speaks TLS" in str(await alice.error())


async def test_without_tls_the_certificate_is_zeros_on_both_ends() -> None:
    async with door(None) as alice:
        await speak(alice.port, None)
        dialled = await dial(HOST, alice.port, None)
        assert dialled.certificate == ZERO_WORD
        await dialled.stream.aclose()


# -- files ----------------------------------------------------------------------------------------


def test_a_certificate_that_cannot_be_served_is_named(authority: Authority) -> None:
    one, other = authority.leaf("one"), authority.leaf("other")
    locked = one.key.with_name("locked.pem")
    locked.write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))
    for certificate, key, why in (
        (one.certificate, other.key, "no certificate and its key"),
        (one.certificate, one.certificate, "no certificate and its key"),
        (one.certificate, one.key.with_name("none"), "cannot be read"),
        (one.key, one.key, "holds no certificate"),
        (one.key.with_name("none"), one.key, "cannot be read"),
        (one.certificate, locked, "encrypted"),
    ):
        with pytest.raises(UnusableCertificate, match=why):
            load_tls(certificate, key)


def test_a_file_that_holds_no_certificate_is_no_pin(tmp_path: Path) -> None:
    file = tmp_path / "not.pem"
    for text in ("", "text", "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----"):
        file.write_text(text)
        with pytest.raises(MalformedTrust, match="no certificate"):
            read_certificate(file)
    with pytest.raises(MalformedTrust, match=r"not\.pem"):
        Trust(ca=str(file)).context()
    with pytest.raises(MalformedTrust, match="No such file"):
        Trust(ca=str(tmp_path / "none.pem")).context()


@pytest.mark.parametrize("host", [HOST, "localhost"])
async def test_a_certificate_that_farthing_makes_is_served_pinned_and_its_own_ca(
    tmp_path: Path, host: str
) -> None:
    certificate, key = make_certificate(tmp_path, host)
    assert key.stat().st_mode & 0o777 == 0o600
    leaf = Leaf(certificate, key)
    for trust in (pinned(leaf), Trust(ca=str(certificate))):
        async with door(leaf) as alice:
            await speak(alice.port, trust, host)
    with pytest.raises(CertificateExists):
        make_certificate(tmp_path, host)
    assert leaf.hash == pinned(leaf).pins[0]


@pytest.mark.parametrize("host", ["", "hüb.example"])
def test_a_name_that_no_certificate_can_carry_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(BadHostName):
        make_certificate(tmp_path, host)
    assert list(tmp_path.iterdir()) == []


async def test_only_with_tls_is_another_address_than_loopback_listened_on(
    authority: Authority,
) -> None:
    with pytest.raises(CannotListen, match="no TLS"):
        await open_listener("0.0.0.0", 0)  # noqa: S104 - refused
    leaf = authority.leaf("hub")
    listener = await open_listener("0.0.0.0", 0, load_tls(leaf.certificate, leaf.key))  # noqa: S104 - TLS
    await listener.aclose()
