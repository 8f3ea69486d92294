"""Settings that others may write are refused in one clear line, and so is what is no settings."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nicwatchd.core.policy import Policy
from nicwatchd.service import trust
from nicwatchd.service.settings import Settings, SettingsError, load
from nicwatchd.service.settings_model import Settings as Model

OTHER = 12345
USER = 1000


@pytest.fixture
def main(tmp_path: Path) -> Path:
    """The settings of a host: a file, and one beside it."""
    (tmp_path / "conf.d").mkdir(mode=0o755)
    for file in (tmp_path / "nicwatchd.toml", tmp_path / "conf.d" / "10-a b.toml"):
        file.touch(mode=0o644)
    return tmp_path / "nicwatchd.toml"


def refusal(main: Path) -> str:
    with pytest.raises(SettingsError) as error:
        load(main)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("which", "mode", "mend"),
    [
        ("nicwatchd.toml", 0o666, "sudo chmod go-w {}/nicwatchd.toml"),
        ("nicwatchd.toml", 0o664, "sudo chmod go-w {}/nicwatchd.toml"),
        ("conf.d/10-a b.toml", 0o602, "sudo chmod go-w '{}/conf.d/10-a b.toml'"),
        ("conf.d", 0o777, "sudo chmod go-w {}/conf.d"),
        (".", 0o757, "sudo chmod go-w {}"),
    ],
)
def test_what_others_may_write_is_not_used(main: Path, which: str, mode: int, mend: str) -> None:
    assert load(main) == Settings()
    changed = main.parent / which
    changed.chmod(mode)
    line = refusal(main)
    assert line.startswith(f"{changed}: others may write to it (its mode is {mode:04o})")
    assert line.endswith(f"mend that: {mend.format(main.parent)}")
    changed.chmod(mode & ~0o022 | 0o100)
    assert load(main) == Settings()


def found(mode: int, uid: int, gid: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("reader", "mode", "uid", "gid", "ok"),
    [
        pytest.param(0, 0o644, 0, 0, True, id="root's"),
        pytest.param(997, 0o644, 0, 0, True, id="root's, read by the daemon"),
        pytest.param(997, 0o644, 997, 997, True, id="the daemon's own"),
        pytest.param(0, 0o644, OTHER, 0, False, id="another user's"),
        pytest.param(997, 0o644, OTHER, 0, False, id="another user's, read by the daemon"),
        pytest.param(0, 0o664, 0, 0, False, id="root's group may write: an ACL says who"),
        pytest.param(USER, 0o664, USER, USER, True, id="a user's by a umask of 002"),
        pytest.param(USER, 0o664, USER, OTHER, False, id="... of a group of several"),
        pytest.param(USER, 0o666, USER, USER, False, id="everybody's"),
    ],
)
def test_whose_settings_are_used(
    monkeypatch: pytest.MonkeyPatch, reader: int, mode: int, uid: int, gid: int, *, ok: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: reader)
    monkeypatch.setattr(os, "getegid", lambda: reader)
    raises = pytest.raises(
        trust.UntrustedError, match=r"^/etc/nicwatchd/x\.toml: .* mend that: sudo"
    )
    with nullcontext() if ok else raises:
        trust._check(Path("/etc/nicwatchd/x.toml"), found(0o100000 | mode, uid, gid))


@pytest.mark.parametrize("whole", [True, False], ids=["of the host", "of a user namespace"])
def test_a_file_of_nobody_is_trusted_where_its_owner_has_no_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, whole: bool
) -> None:
    mapped = tmp_path / "uid_map"
    mapped.write_text("0 0 4294967295\n" if whole else "         0       1000          1\n")
    monkeypatch.setattr(trust, "UID_MAP", mapped)
    file = found(0o100644, trust.NOBODY, trust.NOBODY)
    if not whole:
        trust._check(tmp_path, file)
        return
    with pytest.raises(trust.UntrustedError, match="belongs to uid 65534"):
        trust._check(tmp_path, file)


def test_a_link_is_as_good_as_what_it_leads_to(main: Path) -> None:
    shared = main.parent / "shared"
    main.rename(shared)
    main.symlink_to(shared)
    assert load(main) == Settings()
    shared.chmod(0o646)
    assert refusal(main).startswith(f"{main}: others may write to it (its mode is 0646)")


def test_a_pipe_is_not_waited_for(main: Path) -> None:
    main.unlink()
    os.mkfifo(main)
    assert refusal(main) == f"{main}: is not a regular file"


def test_a_file_without_end_is_not_read_to_its_end(main: Path) -> None:
    main.unlink()
    main.symlink_to("/dev/zero")
    assert refusal(main) == f"{main}: is not a regular file"
    main.unlink()
    with main.open("wb") as file:
        file.truncate(1 << 40)
    main.chmod(0o644)
    assert refusal(main) == f"{main}: is larger than 1 MiB"


def test_nothing_is_no_settings(main: Path) -> None:
    main.unlink()
    main.symlink_to("/dev/null")
    assert load(main) == Settings()


# --- whatever is in it ---------------------------------------------------------------------------

KEYS = sorted(
    set(Model.model_fields)
    | {
        inner
        for field in Model.model_fields.values()
        for inner in getattr(field.annotation, "model_fields", {})
    }
    | {"name", "mac", "eni", "subnet", "vpc", "security_group", "manage"}
)
words = st.sampled_from([*KEYS, "", "eth1", "auto", "10.0.0.0/8", "::/0", "ipv6", "x" * 300])
scalars = st.one_of(
    words,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.sampled_from([inf, -inf, nan]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from(KEYS), values, max_size=4)
tables = st.dictionaries(
    st.sampled_from(sorted(Model.model_fields)),
    st.dictionaries(st.sampled_from(KEYS), values, max_size=4)
    | st.lists(st.dictionaries(st.sampled_from(KEYS), values, max_size=4), max_size=3),
    max_size=3,
)


def toml(value: Any) -> str:
    """A value as TOML has it, tables within a line."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value).replace("\x7f", "\\u007F")
        case dict():
            return f"{{{', '.join(f'{toml(str(k))} = {toml(v)}' for k, v in value.items())}}}"
        case list():
            return f"[{', '.join(map(toml, value))}]"
    return str(value)


def check(file: Path) -> None:
    """It can be used, or it is said in lines that name the file why not."""
    try:
        policy = load(file).policy()
    except SettingsError as error:
        for line in str(error).split("\n"):
            assert line.startswith(f"{file}: ")
            assert len(line) < 1000
    else:
        assert isinstance(policy, Policy)


@given(documents | tables)
@example({"egress": [{f"{'long' * 40}{n}": ["long" * 40] * 9 for n in range(9)}] * 9})
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
def test_whatever_the_values_are_it_is_said_what_is_wrong(
    main: Path, document: dict[str, Any]
) -> None:
    lines = (f"{toml(key)} = {toml(value)}\n" for key, value in document.items())
    main.write_text("".join(lines), encoding="utf-8")
    check(main)


@given(st.binary(max_size=100) | st.text(max_size=100).map(lambda t: t.encode(errors="replace")))
@settings(max_examples=200, suppress_health_check=list(HealthCheck))
def test_whatever_is_in_the_file_it_is_said_what_is_wrong(main: Path, content: bytes) -> None:
    main.write_bytes(content)
    check(main)
