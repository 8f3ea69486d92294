"""The settings: TOML files, checked by pydantic, turned into the core's `Policy`.

`/etc/nicwatchd/nicwatchd.toml`, then `conf.d/*.toml` beside it in the order of their names; a later
file overrides single keys of earlier ones, and adds `[[interface]]` sections. Without files, the
defaults apply. Each error of a file is reported in a line that names the file, the key, and what
would be correct.
"""

from __future__ import annotations

import difflib
import reprlib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nicwatchd.service import trust
from nicwatchd.service.section_settings import TOLD
from nicwatchd.service.settings_model import Settings

__all__ = ["DEFAULT_FILE", "Settings", "SettingsError", "load"]

DEFAULT_FILE: Final = Path("/etc/nicwatchd/nicwatchd.toml")

_SHORT: Final = reprlib.Repr()  # shortens wrong values in errors
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80
_LONGEST: Final = 200  # characters of one; what is nested may be long, however short its parts are


class SettingsError(Exception):
    """The settings cannot be used; the text has a line for each thing that is wrong."""

    @property
    def in_one_line(self) -> str:
        """The same for where there is one line."""
        return "; ".join(str(self).splitlines())


def load(file: Path | None = None) -> Settings:
    """The settings in `file` (default: the system's) and in `conf.d` beside it.

    A file that was named must exist; the system's may be missing. Raises SettingsError.
    """
    main = file or DEFAULT_FILE
    merged: dict[str, Any] = {}
    for path in _files(main, required=file is not None):
        document = _read(path)
        _validate(document, path)  # each file by itself, so that an error can name it
        _merge(merged, document)
    return _validate(merged, main)


def _files(main: Path, *, required: bool) -> Iterator[Path]:
    try:
        if required or main.exists():
            yield main
        # Not glob(), which silently skips a directory that it may not read.
        inside = main.parent / "conf.d"
        files = inside.iterdir() if inside.exists() else ()
        for directory in (main.parent, inside):
            if directory.exists():
                trust.check_directory(directory)
        yield from sorted(file for file in files if file.match("*.toml"))
    except trust.UntrustedError as error:
        raise SettingsError(str(error)) from None
    except OSError as error:
        raise SettingsError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(trust.read(path).decode())
    except trust.UntrustedError as error:
        raise SettingsError(str(error)) from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8 text") from None
    except ValueError as error:  # TOMLDecodeError is one; so is a number of 5000 digits
        raise SettingsError(f"{path}: is not TOML: {error}") from None
    except RecursionError:
        raise SettingsError(f"{path}: is not TOML: nested too deeply") from None


def _merge(into: dict[str, Any], document: Mapping[str, Any]) -> None:
    for key, value in document.items():
        if isinstance(value, list) and key == "interface" and key in into:
            into[key] = [*into[key], *value]  # sections of a later file come later
        elif isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def _validate(document: Mapping[str, Any], path: Path) -> Settings:
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        every = (f"{path}: {_explain(each)}" for each in error.errors(include_url=False))
        raise SettingsError("\n".join(dict.fromkeys(every))) from None


def _explain(error: ErrorDetails) -> str:
    """One error, in one line."""
    place = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        return _unknown_key(place)
    if error["type"] == TOLD:
        return ": ".join(part for part in (".".join(place), error["msg"]) if part)
    message = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if place[0] == "interface" and error["type"] in ("model_type", "list_type"):
        message = "a section with double brackets, [[interface]]"
    elif error["type"] == "model_type":
        message = f"a section, [{place[-1]}]"
    elif error["type"] == "too_short":
        message = "a list with something in it"
    wrong = _SHORT.repr(error["input"])
    if len(wrong) > _LONGEST:
        wrong = f"{wrong[: _LONGEST - 3]}..."
    return f"{'.'.join(place)}: {wrong} is wrong; it should be {message}"


def _unknown_key(place: list[str]) -> str:
    """Name the unknown key, and the one that was perhaps meant."""
    model: type[BaseModel] = Settings
    for part in place[:-1]:
        annotation = model if part.isdecimal() else model.model_fields[part].annotation
        annotation = next(iter(get_args(annotation)), annotation)  # of a list of sections
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    known = list(model.model_fields)
    near = difflib.get_close_matches(place[-1], known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
    return f"unknown key {'.'.join(place)!r}; {hint}"
