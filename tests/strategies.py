"""A Hypothesis strategy for every wire message: a message without one fails a test."""

from typing import Any

from hypothesis import strategies as st

from farthing.channels import messages
from farthing.channels.fields import TEXT_BYTES_MAX
from farthing.channels.ids import ZERO_WORD
from farthing.channels.messages import OUTCOMES_MAX, READINGS_BYTES_MAX, RecordOutcome, SignedTotal
from farthing.channels.receipt import RECEIPT_BYTES_MAX, Receipt, ReceiptType
from farthing.channels.voucher import LaneTotal, Payment

UINT8, UINT16, UINT64, UINT96 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 64, 96))
ADDRESS, WORD, SHORT_ID = (st.binary(min_size=n, max_size=n) for n in (20, 32, 16))
SIGNATURE = st.binary(min_size=65, max_size=65)
TEXT = st.text(st.characters(codec="utf-8"), max_size=TEXT_BYTES_MAX // 4)
AMOUNT = st.integers(1, 2**96 - 1)


@st.composite
def lane_totals(draw: st.DrawFn) -> LaneTotal:
    """Any total that a lane can have."""
    nonce = draw(st.integers(0, 2**64 - 1))
    if nonce == 0:
        return LaneTotal()
    return LaneTotal(
        nonce=nonce,
        transferred_ucent=draw(st.integers(nonce, 2**96 - 1)),
        history=draw(WORD.filter(lambda word: word != ZERO_WORD)),
    )


RECEIPTS = st.builds(
    Receipt,
    type=st.sampled_from(ReceiptType),
    cbor=st.binary(max_size=RECEIPT_BYTES_MAX),
    salt=WORD,
)
PAYMENTS = st.builds(Payment, amount_ucent=AMOUNT, receipt=RECEIPTS)
SIGNED = st.none() | st.builds(
    SignedTotal, total=lane_totals(), conditions=WORD, signature=SIGNATURE
)
OUTCOMES = st.builds(
    RecordOutcome, amount_ucent=UINT96, nonce=UINT64, code=TEXT, text=TEXT, what_to_do=TEXT
)
CLOSE = {
    "channel": WORD,
    "transferred_a_ucent": UINT96,
    "transferred_b_ucent": UINT96,
    "expires": UINT64,
    "signature": SIGNATURE,
}
WITHDRAWAL = {
    "channel": WORD,
    "account": ADDRESS,
    "total_ucent": UINT96,
    "expires": UINT64,
    "signature": SIGNATURE,
}

MESSAGES: dict[type[Any], st.SearchStrategy[Any]] = {
    messages.Hello: st.builds(
        messages.Hello,
        version=UINT16,
        features=UINT64,
        chain_id=UINT64,
        contract=ADDRESS,
        signer=ADDRESS,
        peer=ADDRESS,
        nonce=WORD,
    ),
    messages.Challenge: st.builds(
        messages.Challenge, version=UINT16, features=UINT64, signer=ADDRESS, nonce=WORD
    ),
    messages.Authenticate: st.builds(messages.Authenticate, signature=SIGNATURE),
    messages.Error: st.builds(
        messages.Error, code=TEXT, channel=st.just(b"") | WORD, text=TEXT, what_to_do=TEXT
    ),
    messages.Ping: st.builds(messages.Ping, token=UINT64),
    messages.Pong: st.builds(messages.Pong, token=UINT64),
    messages.ChannelProposal: st.builds(
        messages.ChannelProposal, account=ADDRESS, challenge_seconds=UINT64, challenge_blocks=UINT64
    ),
    messages.ChannelTerms: st.builds(
        messages.ChannelTerms,
        account_a=ADDRESS,
        signer_a=ADDRESS,
        account_b=ADDRESS,
        signer_b=ADDRESS,
        challenge_seconds=UINT64,
        challenge_blocks=UINT64,
        sequence=UINT64,
    ),
    messages.Reestablish: st.builds(
        messages.Reestablish, channel=WORD, sent=SIGNED, received=SIGNED
    ),
    messages.Update: st.builds(
        messages.Update,
        channel=WORD,
        first_nonce=st.integers(1, 2**64 - 1),
        signature=SIGNATURE,
        payments=st.lists(PAYMENTS, min_size=1, max_size=5).map(tuple),
    ),
    messages.Ack: st.builds(messages.Ack, channel=WORD, nonce=UINT64, history=WORD),
    messages.SubmitReadings: st.builds(
        messages.SubmitReadings,
        id=SHORT_ID,
        format=UINT8,
        senml=st.binary(max_size=200) | st.just(bytes(READINGS_BYTES_MAX)),
    ),
    messages.ReadingOutcome: st.builds(
        messages.ReadingOutcome,
        id=SHORT_ID,
        outcomes=st.lists(OUTCOMES, max_size=5).map(tuple)
        | OUTCOMES.map(lambda one: (one,) * OUTCOMES_MAX),
    ),
    messages.PaymentRequest: st.builds(
        messages.PaymentRequest,
        channel=WORD,
        id=SHORT_ID,
        amount_ucent=UINT96,
        purpose=TEXT,
        expires=UINT64,
    ),
    messages.PaymentRefused: st.builds(messages.PaymentRefused, id=SHORT_ID, code=TEXT, text=TEXT),
    messages.CloseRequest: st.builds(messages.CloseRequest, channel=WORD),
    messages.CloseOffer: st.builds(messages.CloseOffer, **CLOSE),
    messages.CloseAccept: st.builds(messages.CloseAccept, **CLOSE),
    messages.WithdrawalOffer: st.builds(messages.WithdrawalOffer, **WITHDRAWAL),
    messages.WithdrawalAccept: st.builds(messages.WithdrawalAccept, **WITHDRAWAL),
    messages.VoucherDeposit: st.builds(
        messages.VoucherDeposit,
        channel=WORD,
        account_a=ADDRESS,
        signer_a=ADDRESS,
        account_b=ADDRESS,
        signer_b=ADDRESS,
        challenge_seconds=UINT64,
        challenge_blocks=UINT64,
        sequence=UINT64,
        nonce=UINT64,
        transferred_ucent=UINT96,
        history=WORD,
        conditions=WORD,
        signature=SIGNATURE,
    ),
    messages.VoucherKept: st.builds(
        messages.VoucherKept, channel=WORD, nonce=UINT64, transferred_ucent=UINT96
    ),
}

ANY_MESSAGE = st.one_of(*MESSAGES.values())
