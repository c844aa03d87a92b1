"""Reads pictures from folders, zip archives, CSV lists, `.npz` files and arrays.

`open_source` detects the kind of a source from its path. A source lists its entries without decoding them,
and decodes one picture at a time. A bad picture must not raise an error: it is a `Picture` with a reason. A
source that cannot be used as a whole raises `ImagesError`.
"""

from robustness.images.arrays import from_arrays
from robustness.images.entries import Entry, Picture, Source, readable, unreadable
from robustness.images.selection import select
from robustness.images.source_kinds import SourceKind, SourceOptions
from robustness.images.sources import open_source
from robustness.images.streams import Sample, Stream
from robustness.images.unread_reasons import tallied

__all__ = [
    "Entry",
    "Picture",
    "Sample",
    "Source",
    "SourceKind",
    "SourceOptions",
    "Stream",
    "from_arrays",
    "open_source",
    "readable",
    "select",
    "tallied",
    "unreadable",
]
