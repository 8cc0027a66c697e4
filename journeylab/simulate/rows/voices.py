"""Voices: opinions about orders, and requests for help."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journeylab.simulate import opinions
from journeylab.simulate.baskets import order_draws
from journeylab.simulate.chance import Floats, normals, uniforms
from journeylab.simulate.people import Flags, Ints
from journeylab.simulate.rows.clock import DAY
from journeylab.simulate.rows.columns import as_table, numbers, words
from journeylab.simulate.rows.orders import Lines
from journeylab.simulate.rows.scene import (
    ASKED_IN,
    CONTACT,
    CONTACT_HOUR,
    CONTACT_KIND,
    CONTACT_LENGTH,
    CONTACT_WAIT,
    HELPED,
    OPINION,
    OPINION_HOUR,
    OPINION_WAIT,
    SAYS,
    SCORE,
    WORDING,
    Orders,
    Scene,
    parted,
)

_ASKED = ("app", "chat", "sms")
_LATE_DAYS = 7
_WRITES = 0.7
"""Share of opinions with words."""
_TROUBLE = ("delivery", "quality", "wrong_item")
_QUESTIONS = ("question", "invoice", "account")


def feedback_rows(scene: Scene, orders: Orders, lines: Lines) -> tuple[pa.Table, pa.Table]:
    """Scores from 0 to 10 on some orders, most with a sentence."""
    key = scene.luck[orders.who]
    asked = uniforms(key, order_draws(orders.ordinal, OPINION)) < scene.preset.around.feedback
    rows = np.flatnonzero(asked)
    who, ordinal, key = orders.who[rows], orders.ordinal[rows], key[rows]
    money = orders.money

    def draw(what: int) -> Floats:
        return uniforms(key, order_draws(ordinal, what))

    # Log-logistic: most within days, some after weeks.
    share = draw(OPINION_WAIT)
    wait = 1 + np.minimum(2.5 * (share / (1 - share)) ** 0.6, 60).astype(np.int64)
    day = orders.day[rows] + wait
    moment = scene.at(who, day, draw(OPINION_HOUR))
    sent_back = (orders.refund_moment[rows] >= 0) & (money.refund_day[rows] < day)
    late = sent_back & (money.refund_day[rows] - orders.day[rows] > _LATE_DAYS)
    helped = _in_chat(scene, who, orders.day[rows]) & (draw(HELPED) < 0.25)
    cheap = money.discount[rows] * 10 >= money.listed[rows]
    score = 8.1 + 1.3 * normals(key, order_draws(ordinal, SCORE))
    score += np.where(orders.failed[rows], -3.6, 0.0) + np.where(late, -1.8, 0.0)
    score += np.where(sent_back & ~late, -0.6, 0.0) + 0.7 * helped + 0.3 * cheap
    score = np.clip(np.round(score), 0, 10)
    wording = draw(WORDING)
    # The most serious thing is what people write about; small things not always.
    first_line = np.searchsorted(lines.order, rows)
    subject = opinions.CATEGORY + lines.category[first_line]
    minor = draw(ASKED_IN)
    subject = np.where(cheap & (minor < 0.4), opinions.DISCOUNT, subject)
    subject = np.where(helped & (minor > 0.3), opinions.ADVISOR, subject)
    subject = np.where(sent_back, opinions.REFUND, subject)
    subject = np.where(late, opinions.LATE_REFUND, subject)
    subject = np.where(orders.failed[rows], opinions.FAILURE, subject)
    tone = np.where(score <= 5, opinions.LOW, np.where(score <= 7, opinions.MIDDLE, opinions.HIGH))
    said = opinions.make_opinions(tuple(scene.preset.baskets.categories))
    chosen = said.choose(scene.people.language[who], subject, tone, wording)
    text = np.where(draw(SAYS) < _WRITES, chosen, -1)
    channel = np.where(helped, 1, np.where(minor < 0.6, 0, 2))

    def make(entries: Ints) -> pa.Table:
        return as_table(
            "feedback",
            {
                "customer_id": scene.names(who[entries], orders.second[rows[entries]]),
                "given_at": scene.times(moment[entries]),
                "score": numbers(score[entries]),
                "text": words(said.texts, text[entries]),
                "channel": words(_ASKED, channel[entries]),
            },
        )

    return parted(scene, who, moment, make)


def _in_chat(scene: Scene, who: Ints, day: Ints) -> Flags:
    return np.asarray(scene.state.join_day[who] + scene.state.chat_after[who] <= day, np.bool_)


def contacts(scene: Scene, orders: Orders) -> pa.Table:
    """Requests for help about the stretch's orders, all settled, whenever that will be."""
    around = scene.preset.around
    key = scene.luck[orders.who]
    chance = np.where(orders.failed, around.contact_after_failure, around.contact)
    rows = np.flatnonzero(uniforms(key, order_draws(orders.ordinal, CONTACT)) < chance)
    who, ordinal, key = orders.who[rows], orders.ordinal[rows], key[rows]

    def draw(what: int) -> Floats:
        return uniforms(key, order_draws(ordinal, what))

    wait = 1 + np.minimum(3 * (-np.log(draw(CONTACT_WAIT))) ** 1.4, 30).astype(np.int64)
    opened = scene.at(who, orders.day[rows] + wait, draw(CONTACT_HOUR))
    length = np.exp(0.2 + 1.1 * normals(key, order_draws(ordinal, CONTACT_LENGTH)))
    closed = opened + 600 + (np.minimum(length, 45) * DAY).astype(np.int64)
    kind = (draw(CONTACT_KIND) * 3).astype(np.int64)
    kind = np.where(orders.failed[rows], kind, 3 + kind)
    return as_table(
        "service_contacts",
        {
            "customer_id": scene.names(who, orders.second[rows]),
            "opened_at": scene.times(opened),
            "kind": words((*_TROUBLE, *_QUESTIONS), kind),
            "closed_at": scene.times(closed),
            "status": words(("closed",), np.zeros(len(rows), np.int32)),
            "contact_id": scene.order_names(b"k", orders, rows),
        },
    )


def contacts_due(every: pa.Table, first: pa.Scalar, end: pa.Scalar) -> tuple[pa.Table, pa.Table]:
    """Requests as the shop sees them at ``end``: new ones, and those settled since ``first``.

    Returns:
        Rows of the stretch, those not settled yet without their end; all that come out again.
    """
    opened = pc.less(every["opened_at"], end)
    settled = pc.less(every["closed_at"], end)
    new = pc.and_(opened, pc.greater_equal(every["opened_at"], first))
    seen = every.filter(pc.or_(settled, new))
    still = pc.greater_equal(seen["closed_at"], end)
    none = pa.scalar(None, seen.schema.field("closed_at").type)
    names = seen.column_names
    seen = seen.set_column(
        names.index("closed_at"), "closed_at", pc.if_else(still, none, seen["closed_at"])
    )
    seen = seen.set_column(
        names.index("status"), "status", pc.if_else(still, "open", seen["status"])
    )
    return seen, every.filter(pc.invert(settled))
