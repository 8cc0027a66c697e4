"""Opinions: what people write about an order, in Chinese and in English, put together from parts.

A sentence is an opening, a clause about what happened and a closing. What happened decides the
clause, the score decides the tone.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from journeylab.simulate.people import LANGUAGES, Ints

FAILURE, LATE_REFUND, REFUND, ADVISOR, DISCOUNT, CATEGORY = range(6)
"""What an opinion is about; ``CATEGORY + k`` is the preset's category number ``k``."""
LOW, MIDDLE, HIGH = range(3)

_ENGLISH = {
    "护肤": "skin care",
    "彩妆": "make-up",
    "母婴": "baby goods",
    "食品": "food",
    "家居": "home goods",
    "饮料": "drinks",
    "生鲜": "fresh food",
    "日用": "household goods",
}
_CHINESE = {english: chinese for chinese, english in _ENGLISH.items()}

_OPENINGS = {
    "zh": (
        ("说实话有点失望,", "第一次这么不满意,", "不太愉快的一次购物,", "期待挺高的,结果",
         "等了好几天,", "唉,"),
        ("总体还行,", "中规中矩吧,", "买过几次了,", "有好有坏,", "先说结论:一般。", "这次嘛,"),
        ("很满意!", "老顾客了,", "超出预期,", "朋友推荐来的,", "必须给好评,", "用了一周来评价,"),
    ),
    "en": (
        ("Honestly a let-down: ", "Not happy this time: ", "I expected better. ", "Sorry, but ",
         "After days of waiting, ", "Disappointing. "),
        ("All in all fine, ", "Mixed feelings: ", "Average, I would say. ", "It is okay, ",
         "Some good, some bad: ", "This time "),
        ("Very pleased! ", "Regular customer here, ", "Better than expected, ",
         "A friend told me, ", "Five stars, ", "After a week of use: "),
    ),
}  # fmt: skip
_CLOSINGS = {
    "zh": (
        ("希望改进。", "不会再来了。", "请尽快处理。", "考虑换一家。"),
        ("再观察看看。", "下次再说。", "还有提升空间。", "凑合用吧。"),
        ("会回购的。", "推荐给大家。", "下次还来。", "继续支持!"),
    ),
    "en": (
        ("Please do better.", "I will not be back.", "Please sort it out.",
         "Looking elsewhere now."),
        ("We will see.", "Maybe next time.", "Room to improve.", "It will do."),
        ("Will buy again.", "Recommended.", "See you next time.", "Keep it up!"),
    ),
}  # fmt: skip
# By subject, then by tone; {} is the category.
_CLAUSES: dict[str, dict[int, tuple[tuple[str, ...], ...]]] = {
    "zh": {
        FAILURE: (
            ("发错货了,", "包装破了,里面漏了,", "快递迟到五天没人管,", "少发了一件,",
             "客服推来推去,"),
            ("送得晚了点,", "外箱压坏了但东西没事,", "发错了,后来补发了,", "物流信息一直不更新,"),
            ("出了点小差错,很快就解决了,", "少了一件,当天就补来了,", "快递慢,但客服很耐心,"),
        ),
        LATE_REFUND: (
            ("退款拖了一个多星期,", "退货容易退钱难,", "催了三次才退款,"),
            ("退款有点慢,", "退货流程太长,", "钱总算退回来了,"),
            ("退款慢了些,不过态度好,", "退货晚了几天,说明得很清楚,"),
        ),
        REFUND: (
            ("颜色不对只好退了,", "跟图片差太多,退了,", "用着过敏,退货了,"),
            ("不合适,退货还算顺利,", "退了一件,钱第二天就到,", "尺寸不对,退了,"),
            ("退货很爽快,", "退款秒到,放心,", "不合适就退,一点不为难,"),
        ),
        ADVISOR: (
            ("群里顾问推得太勤,", "顾问答非所问,", "顾问说有货,结果没有,"),
            ("顾问挺热情,就是消息多,", "顾问回得慢,人不错,", "顾问的建议一半有用,"),
            ("群里顾问特别耐心,", "顾问推荐得很准,", "顾问小姐姐有问必答,", "顾问还提醒我用法,"),
        ),
        DISCOUNT: (
            ("先涨价再打折,", "优惠券用不上,", "买完第二天更便宜,"),
            ("打折才值这个价,", "折扣一般,", "凑单凑得累,"),
            ("折扣给力,", "活动价很划算,", "用券便宜不少,", "囤货的好时机,"),
        ),
        CATEGORY: (
            ("这次的{}质量不行,", "{}和描述不符,", "{}快过期了才发,", "{}有股怪味,"),
            ("{}马马虎虎,", "{}比上次差一点,", "{}还可以,就是小贵,", "{}没什么特别,"),
            ("{}品质很好,", "{}全家都喜欢,", "{}性价比高,", "{}用起来很舒服,", "{}比专柜实惠,"),
        ),
    },
    "en": {
        FAILURE: (
            ("the wrong article came. ", "the parcel was torn and leaking. ",
             "delivery was five days late and nobody cared. ", "one piece was missing. ",
             "service sent me from one to the next. "),
            ("it came a little late. ", "the box was crushed but the goods survived. ",
             "wrong article first, right one later. ", "tracking never moved. "),
            ("there was a small slip, solved at once. ", "a missing piece came the same day. ",
             "slow courier but patient service. "),
        ),
        LATE_REFUND: (
            ("the refund took more than a week. ", "sending it back was easy, my money was not. ",
             "I had to ask three times for the refund. "),
            ("the refund was slow. ", "returning takes too many steps. ",
             "the money came back in the end. "),
            ("the refund was late but they were kind about it. ",
             "the return took days, well explained though. "),
        ),
        REFUND: (
            ("the colour was wrong, so back it went. ", "nothing like the picture, returned. ",
             "it gave me a rash, returned. "),
            ("it did not fit, the return was fine. ", "sent one back, paid the next day. ",
             "wrong size, returned. "),
            ("returning was painless. ", "the refund came in no time. ",
             "no fuss at all about a return. "),
        ),
        ADVISOR: (
            ("the advisor pushes too much in the group. ",
             "the advisor did not answer what I asked. ",
             "the advisor said it was in stock, it was not. "),
            ("friendly advisor, too many messages. ", "slow but nice advisor. ",
             "half of the advice was useful. "),
            ("our advisor has endless patience. ", "the advisor knew just what I needed. ",
             "every question answered by the advisor. ",
             "the advisor even told me how to use it. "),
        ),
        DISCOUNT: (
            ("price up first, then a discount. ", "the coupon did not work. ",
             "cheaper the day after I bought. "),
            ("worth it only on sale. ", "the discount was nothing special. ",
             "had to fill the basket for the offer. "),
            ("a strong discount. ", "the sale price is a bargain. ", "the coupon saved a lot. ",
             "a good time to stock up. "),
        ),
        CATEGORY: (
            ("the {} this time is poor. ", "the {} is not as described. ",
             "the {} had almost expired. ", "the {} smells odd. "),
            ("the {} is so-so. ", "the {} was better last time. ", "the {} is fine but dear. ",
             "the {} is nothing special. "),
            ("the {} is really good. ", "the whole family likes the {}. ",
             "the {} is good value. ", "the {} is a pleasure to use. ",
             "cheaper {} than at the counter. "),
        ),
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Opinions:
    """Everything that may be written, and where to look for it.

    Attributes:
        texts: All sentences.
        first, count: Where those of a language, subject and tone begin, and how many they are;
            shape languages x subjects x tones.
    """

    texts: tuple[str, ...]
    first: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]

    def choose(self, language: Any, subject: Any, tone: Any, share: Any) -> Ints:
        """Positions in ``texts``, one for each entry; ``share`` in (0, 1) picks among the fit."""
        at = (language, subject, tone)
        return np.asarray(self.first[at] + (share * self.count[at]).astype(np.int64))


@cache
def make_opinions(categories: tuple[str, ...]) -> Opinions:
    """All sentences about a shop with these categories."""
    shape = (len(LANGUAGES), CATEGORY + len(categories), 3)
    texts: list[str] = []
    first, count = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for language, word in enumerate(LANGUAGES):
        for subject in range(shape[1]):
            for tone in range(3):
                clauses = _CLAUSES[word][min(subject, CATEGORY)][tone]
                if subject >= CATEGORY:
                    name = _named(categories[subject - CATEGORY], word)
                    clauses = tuple(clause.format(name) for clause in clauses)
                first[language, subject, tone] = len(texts)
                texts += [
                    opening + clause + closing
                    for clause in clauses
                    for opening in _OPENINGS[word][tone]
                    for closing in _CLOSINGS[word][tone]
                ]
                count[language, subject, tone] = len(texts) - first[language, subject, tone]
    return Opinions(tuple(texts), first, count)


def _named(category: str, language: str) -> str:
    known = _ENGLISH if language == "en" else _CHINESE
    return known.get(category, category)
