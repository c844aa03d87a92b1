"""Checks a norm against its contract, for its author."""

from __future__ import annotations

from robustness.errors import SettingError
from robustness.threat.norms import Norm
from robustness.threat.norms.soundness import expect_sound


def check_norm(norm: type[Norm] | Norm, *, channels: int = 3) -> None:
    """Check a norm against its contract, as an audit does before it uses a norm of another package.

    Its texts are texts; `distance` and `recount` agree, and `size` agrees with them; no pictures are farther
    apart than `largest`; `project`, `sample` and `to_grid` stay within the budget and 0..255; `to_grid` gives
    whole counts; `steepest` has the size 1, and a linear function rises along it.

    Parameters
    ----------
    norm : Norm or its class
        A class is instantiated without arguments.
    channels : int
        The number of channels of the pictures.

    Raises
    ------
    SettingError
        The norm breaks its contract; the message names the method, what it returned and what is expected.
    """
    made = norm() if isinstance(norm, type) else norm
    if not isinstance(made, Norm):
        raise SettingError(
            f"check_norm got {made!r:.100}; expected a robustness.threat.norms.Norm."
        )
    expect_sound(made, channels)
