"""Files from Kaggle: a notebook's output, a model, or the data of a competition, cached after the download.

=================================================  ==============================================
``kaggle:owner/notebook``                          the only model file in a notebook's output
``kaggle-model:owner/model/keras/variation/1``     the only model file in a version of a model
``kaggle-competition:slug``                        all data of a competition, as one zip
=================================================  ==============================================

Model files are those with a suffix in `models.suffixes.MODEL_SUFFIXES`. `#name` at the end of a source
selects one file. There are no fallbacks to other sources.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from robustness.errors import FetchError, SettingError
from robustness.model_zoo.downloads import archive
from robustness.model_zoo.downloads.cache import Slot, safe_name
from robustness.model_zoo.downloads.download import Report, download
from robustness.model_zoo.kaggle.client import Connection, Subject, connect
from robustness.models.suffixes import KERAS_SUFFIX, MODEL_SUFFIXES

MODEL_BYTES = 200 << 20
DATA_BYTES = 1 << 30
_PAGES = 50
"""Most pages of listed files that are read."""
MODEL_FILE = f"{', '.join(MODEL_SUFFIXES[:-1])} or {MODEL_SUFFIXES[-1]} file"
"""A model file, for messages."""
FORMS = {
    "kaggle": "kaggle:owner/notebook",
    "kaggle-model": "kaggle-model:owner/model/framework/variation/version",
    "kaggle-competition": "kaggle-competition:slug",
}


@dataclass(frozen=True)
class KaggleSource:
    """A parsed source.

    Attributes
    ----------
    text : the source as given. scheme : a key of `FORMS`. path : the parts of the path between slashes. file
    : the file selected by `#name`; None without one.
    """

    text: str
    scheme: str
    path: tuple[str, ...]
    file: str | None

    @classmethod
    def parse(cls, text: str) -> KaggleSource:
        """Parse a source.

        Raises
        ------
        SettingError
            `text` has none of the forms in `FORMS`; the message states the expected form.
        """
        scheme, _, rest = text.partition(":")
        place, _, file = rest.partition("#")
        path = tuple(place.split("/"))
        form = FORMS.get(scheme)
        if form is None:
            raise SettingError(
                f"{text!r} is not a source on Kaggle; expected one of the forms {', '.join(FORMS.values())}, "
                f"each optionally with #file at the end."
            )
        well_named = all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", part) for part in path)
        versioned = scheme != "kaggle-model" or path[-1].isdecimal()
        if len(path) != form.count("/") + 1 or not well_named or not versioned:
            raise SettingError(f"{text!r} does not have the form {form} (or {form}#file).")
        return cls(text, scheme, path, file or None)

    @property
    def is_model(self) -> bool:
        """Whether the source is a model, not data."""
        return self.scheme != "kaggle-competition"

    @property
    def subject(self) -> Subject:
        """The source as the subject of requests and messages."""
        name = "/".join(self.path)
        if self.scheme == "kaggle":
            page = f"https://www.kaggle.com/code/{name}/output"
            return Subject(f"the notebook {name}", page, f"it may be private; see {page}.")
        if self.scheme == "kaggle-model":
            page = f"https://www.kaggle.com/models/{'/'.join(self.path[:4])}"
            refusal = (
                f"open {page} signed in, and accept the model's licence if the page asks for it."
            )
            return Subject(f"the model {name}", page, refusal)
        page = f"https://www.kaggle.com/competitions/{name}"
        refusal = f"open {page}/rules signed in, accept the rules, then fetch again."
        return Subject(f"the data of the competition {name}", f"{page}/data", refusal)


def fetch(
    source: str,
    *,
    force: bool = False,
    progress: Report | None = None,
    max_bytes: int | None = None,
) -> Path:
    """Return the path of a file from Kaggle, downloaded or from the cache.

    The SHA-256 is recorded after the download and checked at each use. An interrupted download is kept, and
    the next call resumes it.

    Parameters
    ----------
    source
        One of the forms at the top of this module.
    force
        Download again even if the file is in the cache.
    progress
        Called with a `Progress` after every mebibyte.
    max_bytes
        Limit on the size; by default 200 MiB for a model, 1 GiB for data.

    Returns
    -------
    The path of the file in the cache.

    Raises
    ------
    SettingError
        The source has no valid form.
    FetchError
        The file cannot be obtained; the message says what to do.
    """
    parsed = KaggleSource.parse(source)
    limit = max_bytes or (MODEL_BYTES if parsed.is_model else DATA_BYTES)
    slot = Slot.of(source)
    if not force and (cached := slot.cached()) is not None:
        return cached
    with slot.locked(), connect(parsed.subject) as connection:
        name, question = _QUESTIONS[parsed.scheme](connection, parsed)
        download(
            lambda: connection.ask(question),
            slot.part,
            what=f"{name} of {parsed.subject.words}",
            limit=limit,
            report=progress,
        )
        return slot.keep(_checked(slot.part, name), name)


def _checked(part: Path, name: str) -> Path:
    """The finished download, checked: an archive is inspected, a file inside a zip is unpacked."""
    suffix = Path(name).suffix.lower()
    try:
        if suffix == ".zip":
            archive.members(part)
        elif suffix != KERAS_SUFFIX and zipfile.is_zipfile(part):
            _unwrap(part, name)
    except FetchError:
        part.unlink()
        raise
    return part


def _unwrap(part: Path, name: str) -> None:
    """Replace a zip that holds only the file `name` by that file, since Kaggle sends large files zipped."""
    members = archive.members(part)
    if [safe_name(member.filename) for member in members] != [safe_name(name)]:
        return
    folder = part.with_name("unpacked")
    shutil.rmtree(folder, ignore_errors=True)
    (file,) = archive.extract(part, folder)
    file.replace(part)
    shutil.rmtree(folder)


Question = Callable[[Any], requests.Response]


def _notebook(connection: Connection, source: KaggleSource) -> tuple[str, Question]:
    from kagglesdk.kernels.types.kernels_api_service import (  # noqa: PLC0415
        ApiDownloadKernelOutputRequest,
        ApiListKernelSessionOutputRequest,
    )

    owner, slug = source.path

    def page(token: str) -> tuple[list[str], str]:
        request = ApiListKernelSessionOutputRequest()
        request.user_name, request.kernel_slug = owner, slug
        request.page_size, request.page_token = 100, token
        answer = connection.ask(
            lambda client: client.kernels.kernels_api_client.list_kernel_session_output(request)
        )
        return [str(file.file_name) for file in answer.files or []], answer.next_page_token

    wanted = ApiDownloadKernelOutputRequest()
    wanted.owner_slug, wanted.kernel_slug = owner, slug
    wanted.file_path = _choose(_listed(page), source)
    return (
        wanted.file_path,
        lambda client: client.kernels.kernels_api_client.download_kernel_output(wanted),
    )


def _model(connection: Connection, source: KaggleSource) -> tuple[str, Question]:
    from kagglesdk.models.types.model_api_service import (  # noqa: PLC0415
        ApiDownloadModelInstanceVersionRequest,
        ApiListModelInstanceVersionFilesRequest,
    )

    def addressed(request: Any) -> Any:
        request.owner_slug, request.model_slug, _, request.instance_slug, version = source.path
        request.framework, request.version_number = _framework(source.path[2]), int(version)
        return request

    def page(token: str) -> tuple[list[str], str]:
        request = addressed(ApiListModelInstanceVersionFilesRequest())
        request.page_size, request.page_token = 100, token
        answer = connection.ask(
            lambda client: client.models.model_api_client.list_model_instance_version_files(request)
        )
        return [str(file.name) for file in answer.files or []], answer.next_page_token

    # One file of the version, never all: Kaggle sends all as a tar, which is harder to check.
    wanted = addressed(ApiDownloadModelInstanceVersionRequest())
    wanted.path = _choose(_listed(page), source)
    return (
        wanted.path,
        lambda client: client.models.model_api_client.download_model_instance_version(wanted),
    )


def _competition(connection: Connection, source: KaggleSource) -> tuple[str, Question]:
    from kagglesdk.competitions.types.competition_api_service import (  # noqa: PLC0415
        ApiDownloadDataFileRequest,
        ApiDownloadDataFilesRequest,
    )

    if source.file is None:
        everything = ApiDownloadDataFilesRequest()
        everything.competition_name = source.path[0]
        return (
            f"{source.path[0]}.zip",
            lambda client: client.competitions.competition_api_client.download_data_files(
                everything
            ),
        )
    one = ApiDownloadDataFileRequest()
    one.competition_name, one.file_name = source.path[0], source.file
    return (
        source.file,
        lambda client: client.competitions.competition_api_client.download_data_file(one),
    )


_QUESTIONS = {"kaggle": _notebook, "kaggle-model": _model, "kaggle-competition": _competition}


def _listed(page: Callable[[str], tuple[list[str], str]]) -> list[str]:
    """All file names of all pages."""
    names, token = page("")
    for _ in range(_PAGES - 1):
        if not token:
            break
        more, token = page(token)
        names += more
    return names


def _choose(names: list[str], source: KaggleSource) -> str:
    """The file that the source selects, or else its only model file; FetchError unless exactly one fits."""
    fitting = [
        name
        for name in names
        if (name == source.file if source.file else name.lower().endswith(MODEL_SUFFIXES))
    ]
    if len(fitting) == 1:
        return fitting[0]
    shown = ", ".join(repr(name) for name in (fitting or names)[:10]) or "no files"
    expected = repr(source.file) if source.file else f"exactly one {MODEL_FILE}"
    raise FetchError(
        f"{len(fitting)} files of {source.subject.words} match; expected {expected}. "
        f"It has {shown}. Select one with {source.text.partition('#')[0]}#file."
    )


def _framework(name: str) -> Any:
    """The client's member for a framework such as `keras` or `tensorFlow2`."""
    from kagglesdk.models.types.model_enums import ModelFramework  # noqa: PLC0415

    known = {
        member.name.removeprefix("MODEL_FRAMEWORK_").replace("_", "").lower(): member
        for member in ModelFramework
        if member.value
    }
    if (found := known.get(name.lower())) is None:
        raise SettingError(
            f"{name!r} is not a framework on Kaggle; expected one of {', '.join(sorted(known))}."
        )
    return found
