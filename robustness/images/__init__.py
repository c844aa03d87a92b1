"""Reads pictures: folders, zip archives, CSV lists, `.npz` files and arrays.

`open_source` finds out what a path holds; a source lists its entries without decoding anything and
decodes one picture at a time. A bad picture is a `Picture` with a reason, never a crash; a source
that cannot be used as a whole is an `ImagesError`.
"""

from robustness.images.arrays import from_arrays
from robustness.images.entries import Entry, Picture, Source
from robustness.images.selection import select
from robustness.images.sources import open_source
from robustness.images.unread_reasons import tallied

__all__ = ["Entry", "Picture", "Source", "from_arrays", "open_source", "select", "tallied"]
