"""Files behind URLs (s3, gs, az, hf, https): listed, read at offsets, copied into a bounded cache.

Only a URL that the user gave is opened. What its data names is opened only if it lies below that URL.
"""

from robustness.files.remote.cache import BYTES, Cache, cache_folder
from robustness.files.remote.places import RemotePlace, fetched, remote_place
from robustness.files.remote.urls import is_remote, shown

__all__ = [
    "BYTES",
    "Cache",
    "RemotePlace",
    "cache_folder",
    "fetched",
    "is_remote",
    "remote_place",
    "shown",
]
