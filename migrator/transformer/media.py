"""Images, recordings and videos that a model was given, and the texts that describe them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from migrator.model import RunRecord
from migrator.transformer.found import Found
from migrator.transformer.profiles import normalise
from migrator.transformer.prose import Prose, kind_of_text
from migrator.transformer.values import words

_MEDIA_FILE = re.compile(
    r"(?i)\S.*\.(png|jpe?g|webp|gif|bmp|tiff?|heic|wav|mp3|m4a|ogg|flac|aac|mp4|mov|webm|mkv)"
    r"(\?\S*)?"
)
_MADE = words("output result generated saved plot chart figure curve matrix heatmap model")
"""Words of keys of files that the run made itself."""

_DESCRIPTIONS = words("description descriptions caption captions alt ocr transcript transcription")
"""Last words of keys of texts that say what an image shows, or a recording says."""


def media_of(run: RunRecord) -> tuple[Found, ...]:
    """The params and tags that name a file of an image, a recording or a video, but an output."""
    return tuple(
        Found(text, place, key)
        for place, key, text in _values(run)
        if _MEDIA_FILE.fullmatch(text.strip()) and _MADE.isdisjoint(normalise(key).split("_"))
    )


def descriptions_of(run: RunRecord) -> tuple[Found, ...]:
    """The texts whose name says that they describe something."""
    described: list[Found] = []
    for place, key, text in (*_values(run), *_texts(run)):
        stem = key.rpartition("/")[2].partition(".")[0] if place == "artifact" else key
        last_word = normalise(stem).rpartition("_")[2]
        if last_word in _DESCRIPTIONS and kind_of_text(text) >= Prose.TERMS:
            described.append(Found(text, place, key))
    return tuple(described)


def _values(run: RunRecord) -> Iterator[tuple[str, str, str]]:
    for key, text in run.params.items():
        yield "param", key, text
    for key, text in run.tags.items():
        if not key.startswith("mlflow."):
            yield "tag", key, text


def _texts(run: RunRecord) -> Iterator[tuple[str, str, str]]:
    for path, text in run.texts.items():
        yield "artifact", path, text
