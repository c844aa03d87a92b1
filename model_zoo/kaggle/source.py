"""Files from Kaggle: a notebook's output, a model, a competition's data; cached once fetched.

=================================================  ==============================================
``kaggle:owner/notebook``                          the one `.keras` or `.h5` in a notebook's output
``kaggle-model:owner/model/keras/variation/1``     the one `.keras` or `.h5` in a model's version
``kaggle-competition:slug``                        all data of a competition, as one zip
=================================================  ==============================================

Each takes `#name` at its end to choose one file. Nothing else is ever tried in a source's stead.
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
_PAGES = 50  # of listed files; a notebook may have very many
FORMS = {
    "kaggle": "kaggle:owner/notebook",
    "kaggle-model": "kaggle-model:owner/model/framework/variation/version",
    "kaggle-competition": "kaggle-competition:slug",
}


@dataclass(frozen=True)
class KaggleSource:
    """A source, taken apart: its scheme, the parts of its path, and the file it names."""

    text: str
    scheme: str
    path: tuple[str, ...]
    file: str | None

    @classmethod
    def parse(cls, text: str) -> KaggleSource:
        """Take `text` apart; SettingError, with the form it should have, if it is no source."""
        scheme, _, rest = text.partition(":")
        place, _, file = rest.partition("#")
        path = tuple(place.split("/"))
        form = FORMS.get(scheme)
        if form is None:
            raise SettingError(
                f"{text!r} is not a source to fetch; the forms are {', '.join(FORMS.values())}, "
                f"each with #file at the end if one file is meant."
            )
        well_named = all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", part) for part in path)
        versioned = scheme != "kaggle-model" or path[-1].isdecimal()
        if len(path) != form.count("/") + 1 or not well_named or not versioned:
            raise SettingError(f"{text!r} does not have the form {form} (or {form}#file).")
        return cls(text, scheme, path, file or None)

    @property
    def is_model(self) -> bool:
        """Whether the source gives a model, not data."""
        return self.scheme != "kaggle-competition"

    @property
    def subject(self) -> Subject:
        """The source in words, for messages."""
        name = "/".join(self.path)
        if self.scheme == "kaggle":
            page = f"https://www.kaggle.com/code/{name}/output"
            return Subject(f"the notebook {name}", page, f"it may be private; see {page}.")
        if self.scheme == "kaggle-model":
            page = f"https://www.kaggle.com/models/{'/'.join(self.path[:4])}"
            refusal = f"open {page} signed in, and accept the model's licence if it asks for that."
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
    """The path of the file that `source` (a form from the top of this module) names.

    It comes from the cache if it is there, unless `force` asks for it anew; its SHA-256 was
    recorded when it came and is checked on each use. `progress` is called with a `Progress` after
    every mebibyte. More than `max_bytes` (200 MiB for a model, 1 GiB for data if not given) are
    refused.

    SettingError for an ill-formed source; FetchError, saying what to do, for everything that keeps
    the file away. An unfinished download stays, and the next call goes on from there.
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
    """The finished download: an archive looked through, a file sent in a zip unpacked."""
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
    """Replace a zip of just the file `name` by that file: Kaggle sends large files so."""
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

    # One file of the version, never the whole: Kaggle sends that as a tar, which hides more traps.
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
    """All file names, page after page."""
    names, token = page("")
    for _ in range(_PAGES - 1):
        if not token:
            break
        more, token = page(token)
        names += more
    return names


def _choose(names: list[str], source: KaggleSource) -> str:
    """The file that the source names, else its only model; FetchError if that is not one."""
    fitting = [
        name
        for name in names
        if (name == source.file if source.file else name.lower().endswith(MODEL_SUFFIXES))
    ]
    if len(fitting) == 1:
        return fitting[0]
    shown = ", ".join(repr(name) for name in (fitting or names)[:10]) or "none at all"
    expected = repr(source.file) if source.file else "exactly one .keras or .h5 file"
    raise FetchError(
        f"{len(fitting)} files of {source.subject.words} fit where {expected} was expected; "
        f"it has {shown}. Name one with {source.text.partition('#')[0]}#file."
    )


def _framework(name: str) -> Any:
    """The client's word for a framework: `keras`, `tensorFlow2`, …"""
    from kagglesdk.models.types.model_enums import ModelFramework  # noqa: PLC0415

    known = {
        member.name.removeprefix("MODEL_FRAMEWORK_").replace("_", "").lower(): member
        for member in ModelFramework
        if member.value
    }
    if (found := known.get(name.lower())) is None:
        raise SettingError(
            f"{name!r} is no framework on Kaggle; known are {', '.join(sorted(known))}."
        )
    return found
