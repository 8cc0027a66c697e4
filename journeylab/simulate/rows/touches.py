"""Touches that were sent, and assignments to the arms of tests and of randomised weeks."""

import numpy as np
import pyarrow as pa

from journeylab.simulate.chronicle import GIVEN
from journeylab.simulate.life import BLOCKED, STATUSES
from journeylab.simulate.people import Ints
from journeylab.simulate.rows.clock import DAY
from journeylab.simulate.rows.columns import as_table, money, numbers, spell, texts, words
from journeylab.simulate.rows.names import DIGITS
from journeylab.simulate.rows.scene import TOUCH_FROM, Scene
from journeylab.simulate.touching import label_of_week

TEMPLATES = ("hello", "new_arrivals", "weekend")
_BY_ADVISORS = ("chat", "voice")
_APART = 1200
"""Seconds between two messages to the same person on a day, at least."""


def touch_rows(scene: Scene, moment: Ints) -> pa.Table:
    """One row per message sent; ``moment`` as from ``touch_moments``."""
    preset, sent = scene.preset, scene.chronicle.sent
    touches, status = sent.touches, scene.chronicle.happened.touch_status
    who, day = touches.person, touches.day
    channel = touches.channel.astype(np.int64)
    names = preset.channel_names
    turn = _turns(scene)
    letters = texts(
        spell(b"t", (scene.codes[0][who], DIGITS), b"-", (day, 5), (turn, 2), rows=len(who))
    )
    weeks = np.unique(sent.wave)
    labels = ["given" if week == GIVEN else f"w{week}" for week in weeks]
    template = (scene.draws(who, day, TOUCH_FROM + 3 * turn + 1) * len(TEMPLATES)).astype(int)
    messages = [f"{name}_{template}" for name in names for template in TEMPLATES]
    logged = ~np.isnan(sent.propensity)
    prices = np.array([round(of.cost * 100) for of in preset.channels], np.int64)
    by_advisor = np.array([name in _BY_ADVISORS for name in names])[channel]
    advised = by_advisor & (scene.state.join_day[who] + scene.state.chat_after[who] <= day)
    return as_table(
        "touches",
        {
            "customer_id": scene.names(who),
            "touched_at": scene.times(moment),
            "channel": words(names, channel),
            "touch_id": letters,
            "campaign_id": words(labels, np.searchsorted(weeks, sent.wave)),
            "message": words(messages, channel * len(TEMPLATES) + template),
            "arm": words(names, np.where(logged, channel, -1)),
            "propensity": numbers(np.where(logged, sent.propensity, 0.0), logged),
            "cost": money(np.where(status == BLOCKED, 0, prices[channel])),
            "status": words(STATUSES, status),
            "staff_id": scene.advisors(who, advised),
        },
    )


def touch_moments(scene: Scene) -> Ints:
    """When each message of the stretch was sent: one after the other on the same day."""
    touches, turn = scene.chronicle.sent.touches, _turns(scene)
    who, day = touches.person, touches.day
    share = scene.draws(who, day, TOUCH_FROM + 3 * turn)
    moment = scene.at(who, day, 0.05 + 0.75 * share)
    night = day.astype(np.int64) * DAY + DAY - 60
    for number in range(1, int(turn.max()) + 1 if len(turn) else 1):
        rows = np.flatnonzero(turn == number)
        before = moment[rows - 1]
        left = np.maximum(night[rows] - before - _APART, 0)
        later = before + _APART + (share[rows] * left * 0.4).astype(np.int64)
        moment[rows] = np.minimum(later, night[rows] + number)
    return moment


def _turns(scene: Scene) -> Ints:
    """Which message of the day it is to that person, from 0."""
    touches = scene.chronicle.sent.touches
    place = np.arange(len(touches))
    starts = np.ones(len(touches), np.bool_)
    starts[1:] = (touches.person[1:] != touches.person[:-1]) | (touches.day[1:] != touches.day[:-1])
    return place - np.maximum.accumulate(np.where(starts, place, 0))


def assignment_rows(scene: Scene) -> pa.Table:
    """One row per unit put into an arm, as far as it was logged."""
    preset, assigned = scene.preset, scene.chronicle.assigned
    who, test = assigned.person, assigned.test
    tests, channels = preset.tests, preset.channel_names
    known = np.unique(test)
    labels = [
        tests[code].name
        if code >= 0
        else f"touch_wave_{label_of_week(preset.start, -1 - int(code))}"
        for code in known
    ]
    variants = ["none", *channels]
    begins = []
    for of in tests:
        begins.append(len(variants))
        variants += [arm.name for arm in of.arms]
    base = np.array([*begins, 0], np.int64)[np.where(test >= 0, test, len(tests))]
    variant = np.where(test >= 0, base + assigned.arm, 1 + assigned.arm)
    by_group = np.array([*(of.unit == "group" for of in tests), False])
    clustered = by_group[np.where(test >= 0, test, len(tests))]
    # The system decides before people are awake.
    morning = assigned.day.astype(np.int64) * DAY + 6 * 3600
    joined = scene.joined[who]
    moment = np.where(joined >= assigned.day.astype(np.int64) * DAY, joined + 1, morning)
    return as_table(
        "assignments",
        {
            "experiment_id": words(labels, np.searchsorted(known, test)),
            "customer_id": scene.names(who),
            "variant": words(variants, variant),
            "assigned_at": scene.times(moment),
            "cluster_id": scene.groups(who, clustered),
            "propensity": numbers(assigned.propensity),
        },
    )
