"""Summarises why pictures were not read, the most frequent reasons first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

MOST = 3


def tallied(reasons: Iterable[str], total: int) -> str:
    """Count the reasons, as in `2,431 of 2,500: the file is empty; 69: there is no such file`.

    Parameters
    ----------
    reasons : iterable of str
        One reason for each picture that was not read.
    total : int
        The number of all pictures.

    Returns
    -------
    str
        The `MOST` most frequent reasons and the number of the others; "" without any reason.
    """
    counted = Counter(reason for reason in reasons if reason)
    some = counted.most_common(MOST)
    if not some:
        return ""
    parts = [
        f"{count:,}{f' of {total:,}' if not place else ''}: {reason[0].lower()}{reason[1:].rstrip('.')}"
        for place, (reason, count) in enumerate(some)
    ]
    if more := counted.total() - sum(count for _, count in some):
        parts.append(f"{more:,}: other reasons")
    return "; ".join(parts)
