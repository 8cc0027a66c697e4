"""Which columns of this topic's tables are shares, so that a page shows them in per cent."""

import re

import pandas as pd

_SHARES = re.compile(
    r"no_purchase|still_member|observed|predicted|baseline|outcome|everybody|come_back|of_buyers"
    r"|of_leavers|incidence|skill|level_gap|contacted|(risk|change)_\d+"
)


def table_units(table: pd.DataFrame) -> dict[str, str]:
    """Column -> ``share``, for ``record(name, table, units=table_units(table))``.

    Args:
        table: One that this topic made; the ends of an interval follow their estimate.
    """
    return {str(name): "share" for name in table.columns if _SHARES.fullmatch(str(name))}
