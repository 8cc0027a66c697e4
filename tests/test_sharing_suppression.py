"""Suppression: no blank can be solved for from what is shown and all totals."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from journeylab.errors import ContractError
from journeylab.sharing import suppress

K = 10


def table(counts, zeros=True) -> pd.DataFrame:
    rows = [
        {"segment": f"s{i}", "city": f"c{j}", "customers": count, "spend": 2.5 * count}
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if zeros or count
    ]
    return pd.DataFrame(rows, columns=["segment", "city", "customers", "spend"])


def equations(shape, blank):
    """Rows of sums that a reader of all totals knows of the blanks: rows, columns, the whole."""
    cells = [tuple(cell) for cell in np.argwhere(blank)]
    lines = [[int(i == r) for r, _ in cells] for i in range(shape[0])] if shape[1] > 1 else []
    lines += [[int(j == c) for _, c in cells] for j in range(shape[1])]
    return cells, np.array([*lines, [1] * len(cells)], dtype=float)


def solvable(counts, blank):
    """Blanks that linear algebra alone gives away: unit vectors in the row space of the sums."""
    cells, sums = equations(counts.shape, blank)
    rank = np.linalg.matrix_rank(sums)
    units = np.eye(len(cells))
    return [
        cell
        for cell, unit in zip(cells, units, strict=True)
        if np.linalg.matrix_rank(np.vstack([sums, unit])) == rank
    ]


def narrow(counts, blank):
    """Blanks whose range under all totals and no count below 0 is a single number."""
    cells, sums = equations(counts.shape, blank)
    held = np.array([counts[cell] for cell in cells], dtype=float)
    found = []
    for place, cell in enumerate(cells):
        aim = np.zeros(len(cells))
        aim[place] = 1
        ends = [
            linprog(sign * aim, A_eq=sums, b_eq=sums @ held, bounds=(0, None)).fun * sign
            for sign in (1, -1)
        ]
        if ends[1] - ends[0] < 1 - 1e-6:
            found.append(cell)
    return found


counts_of = st.one_of(st.just(0), st.integers(1, 9), st.integers(1, 30), st.integers(10, 500))
two_way = st.tuples(st.integers(2, 5), st.integers(2, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(counts_of, min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)


@settings(max_examples=150, deadline=None)
@given(two_way)
def test_no_blank_of_a_two_way_table_can_be_solved_for(rows):
    counts = np.array(rows)
    try:
        shown = suppress(table(rows), ["segment", "city"], "customers", K)
    except ContractError as refusal:
        assert "merge groups" in str(refusal)  # noqa: PT017 - refused is as good as hidden
        return
    blank = shown["suppressed"].to_numpy().reshape(counts.shape)
    assert not ((counts > 0) & (counts < K) & ~blank).any()
    if blank.any():
        assert solvable(counts, blank) == []
        assert narrow(counts, blank) == []


@settings(max_examples=150, deadline=None)
@given(st.lists(counts_of, min_size=2, max_size=12))
def test_no_blank_of_a_one_way_table_can_be_solved_for(values):
    frame = pd.DataFrame({"segment": range(len(values)), "customers": values})
    counts = np.array(values)[:, None]
    shown = suppress(frame, "segment", "customers", K)
    blank = shown["suppressed"].to_numpy()[:, None]
    assert not ((counts > 0) & (counts < K) & ~blank).any()
    if blank.any():
        assert solvable(counts, blank) == []
        assert counts[blank].sum() >= K or blank.all()


def test_a_single_small_count_takes_the_next_smallest_along():
    frame = pd.DataFrame({"segment": list("abcd"), "customers": [4, 250, 31, 90], "mean": 1.5})
    shown = suppress(frame, "segment", "customers")
    assert shown["suppressed"].tolist() == [True, False, True, False]
    assert shown["customers"].isna().tolist() == shown["mean"].isna().tolist() == [
        True, False, True, False,
    ]  # fmt: skip
    assert frame.columns.tolist() == ["segment", "customers", "mean"]


def test_two_small_counts_that_add_up_to_few_take_a_third_along():
    frame = pd.DataFrame({"segment": list("abcd"), "customers": [3, 4, 20, 90]})
    assert suppress(frame, "segment", "customers")["suppressed"].tolist() == [True] * 3 + [False]


def test_totals_of_a_two_way_table_do_not_give_the_small_count_back():
    shown = suppress(table([[5, 50, 60], [40, 70, 80], [90, 95, 99]]), ["segment", "city"],
                     "customers")  # fmt: skip
    blank = shown["suppressed"].to_numpy().reshape(3, 3)
    assert blank.tolist() == [[True, True, False], [True, True, False], [False] * 3]
    assert shown.loc[shown["suppressed"], "spend"].isna().all()


def test_pairs_without_a_row_count_zero_and_may_be_blanked_to_hide_others():
    counts = [[5, 0, 60], [0, 70, 80], [90, 95, 99]]
    left_out = suppress(table(counts, zeros=False), ["segment", "city"], "customers")
    given_zero = suppress(table(counts), ["segment", "city"], "customers")
    keys = ["segment", "city"]
    pd.testing.assert_series_equal(
        left_out.set_index(keys)["suppressed"].sort_index(),
        given_zero.set_index(keys)["suppressed"].sort_index(),
    )


def test_nothing_small_leaves_everything_as_it_was():
    frame = table([[10, 0], [25, 400]])
    shown = suppress(frame, ["segment", "city"], "customers")
    assert not shown["suppressed"].any()
    pd.testing.assert_frame_equal(shown.drop(columns="suppressed"), frame)


@pytest.mark.parametrize(
    ("frame", "groups", "words"),
    [
        (pd.DataFrame({"g": ["a"], "n": [4]}), "g", "merge groups"),
        (pd.DataFrame({"g": ["a", "a"], "n": [4, 20]}), "g", "1 of 2 rows repeat"),
        (pd.DataFrame({"g": ["a", "b"], "n": [4.5, 20]}), "g", "1 of 2 rows do not"),
        (pd.DataFrame({"g": ["a"], "n": [4]}), "h", "no column 'h'"),
        (pd.DataFrame({"g": ["a"], "n": [4]}), ["g", "n", "x"], "one or two columns"),
    ],
)
def test_what_cannot_be_hidden_is_refused_with_the_reason(frame, groups, words):
    with pytest.raises(ContractError, match=words):
        suppress(frame, groups, "n")
