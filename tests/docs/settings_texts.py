"""The settings, as the shipped file, the manual page and the page of the site tell them.

All three are made from the model and the text below each of its fields.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from annotated_types import Ge, Gt, Le, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nicwatchd.service.section_settings import MATCHES, InterfaceSection
from nicwatchd.service.settings_model import Settings

SECTIONS: Final = ("", "interfaces", "retry", "imds", "kernel")
# In hexadecimal, as `ip rule` and `nft` show it.
HEXADECIMAL: Final = {"forwarded_mask"}
WIDTH: Final = 106

HEAD: Final = """\
Settings of nicwatchd: /etc/nicwatchd/nicwatchd.toml.

On EC2 you need not change anything here. Each setting is shown with its default. To change one,
remove the # at the start of its line. (A line that begins with "# " explains; "#name = value" is
a setting.) Files /etc/nicwatchd/conf.d/*.toml are read after this one, in the order of their
names, and override single settings, or add [[interface]] sections. All durations are in seconds.
IMDS is the instance metadata service of EC2.

Changes take effect with `systemctl reload nicwatchd`; [imds] and platform need a restart. If the
new settings are wrong, nothing changes, and the journal says what is wrong.
"""
MATCH: Final = """\
Settings for some interfaces: any number of [[interface]] sections. An interface takes the first
section that matches it, and what that section does not set is as above. A section names one or
more of:
"""
UNDECIDED: Final = """\
An interface must match all that the section names. While IMDS has not told an id that decides, the
interface is not touched. A section can set:
"""
EXAMPLE: Final = """\
On a Kubernetes node where the container network owns all interfaces but those of one subnet:

    [[interface]]
    subnet = "subnet-0123456789abcdef0"
    manage = true
"""


@dataclass(frozen=True)
class Setting:
    """One setting: its name, its default in TOML, what it means, and which values it takes."""

    name: str
    default: str
    text: str
    values: str


def texts(model: type[BaseModel]) -> dict[str, str]:
    """The string below each field of a model, as one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    (node,) = tree.body
    assert isinstance(node, ast.ClassDef)
    found = {}
    for field, after in zip(node.body, node.body[1:], strict=False):
        match field, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found


def toml(value: Any, *, hexadecimal: bool = False) -> str:
    """A default in TOML."""
    match value:
        case bool():
            return str(value).lower()
        case int() if hexadecimal:
            return hex(value)
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case str():
            return f'"{value}"'
    return str(value)


def values(field: FieldInfo) -> str:
    """Which values a setting takes, in a few words; empty if its text says so anyway."""
    bounds = dict[str, Any]()
    for each in field.metadata:
        match each:
            case Gt(gt=low):
                bounds["above"] = low
            case Ge(ge=low):
                bounds["from"] = low
            case Le(le=high):
                bounds["to"] = high
            case MultipleOf(multiple_of=step):
                bounds["in steps of"] = step
    return " ".join(f"{word} {bound:,}" for word, bound in bounds.items())


def settings(section: str) -> list[Setting]:
    """The settings of a section, in their order in the model; "" has those outside of one."""
    default = Settings()
    table: BaseModel = getattr(default, section) if section else default
    told = texts(type(table))
    return [
        Setting(
            name,
            toml(getattr(table, name), hexadecimal=name in HEXADECIMAL),
            told.get(name, ""),
            values(field),
        )
        for name, field in type(table).model_fields.items()
        if name not in SECTIONS and name != "interface"
    ]


def of_sections() -> tuple[dict[str, str], dict[str, str]]:
    """What a `[[interface]]` section matches by, and what it sets, each with its text."""
    told = texts(InterfaceSection)
    keys = {name: told.get(name, "as above") for name in InterfaceSection.model_fields}
    matching = {name: text for name, text in keys.items() if name in MATCHES}
    return matching, {name: text for name, text in keys.items() if name not in MATCHES}


# --- the shipped file ----------------------------------------------------------------------------


def shipped() -> str:
    """systemd/nicwatchd.toml: every setting, explained, commented out at its default."""
    lines = [*_comment(HEAD), ""]
    for section in SECTIONS:
        lines += [f"[{section}]"] if section else []
        for setting in settings(section):
            if setting.text:
                lines += ["", *_comment(setting.text)]
            lines.append(f"#{setting.name} = {setting.default}")
        lines.append("")
    matching, setting_keys = of_sections()
    lines += [*_comment(MATCH), "#", *_keys(matching), "#", *_comment(UNDECIDED), "#"]
    lines += [*_keys(setting_keys), "#", *_comment(EXAMPLE), ""]
    return re.sub(r"(?m)^(\[\w+\]\n)\n", r"\1", re.sub(r"\n{3,}", "\n\n", "\n".join(lines)))


def _comment(text: str) -> Iterator[str]:
    if "\n" in text:
        yield from (f"# {line}".rstrip() for line in text.splitlines())
    else:
        yield from (f"# {line}" for line in wrapped(text))


def wrapped(text: str, width: int = WIDTH - 2) -> list[str]:
    """The lines of a text; values in quotes or brackets may be broken like words."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _keys(keys: dict[str, str]) -> Iterator[str]:
    same = ", ".join(name for name, text in keys.items() if text == "as above")
    rows = [(name, text) for name, text in keys.items() if text != "as above"]
    rows += [(same, "as above")] if same else []
    for name, text in rows:
        indent = f"#   {name:17} "
        if len(name) > 17:
            indent = f"#   {name}    "
        first, *rest = wrapped(text, WIDTH - 22)
        yield indent + first
        yield from (f"#{'':21}{line}" for line in rest)


# --- the page of the site ------------------------------------------------------------------------

PAGE: Final = """\
# Settings

<!-- Made from nicwatchd/service/settings_model.py by `python -m tests.docs.generate`. -->

On EC2 you need not set anything. The settings are in `/etc/nicwatchd/nicwatchd.toml`, which has
each of them with its default, commented out. Files `/etc/nicwatchd/conf.d/*.toml` are read after
it, in the order of their names, and override single settings, or add [`[[interface]]`
sections](#interface). All durations are in seconds.

    sudo systemctl reload nicwatchd

makes changes take effect; `[imds]` and `platform` need a restart, which disturbs no traffic. If
the new settings are wrong, nothing changes, and the journal names the file, the key, and what
would be right. Only root, and the user that reads them, may be able to write the files and their
directories: others are refused. To see beforehand what new settings would change in the kernel:

    nicwatchd plan --config /etc/nicwatchd/nicwatchd.toml

The same is in the manual page nicwatchd.toml(5).
"""
# See docs/site.css: on a phone, each row of this table is a card.
CARDS: Final = '<div class="cards" markdown>'
TITLES: Final = {
    "": "For the host",
    "interfaces": "[interfaces]",
    "retry": "[retry]",
    "imds": "[imds]",
    "kernel": "[kernel]",
}


def page() -> str:
    """docs/settings.md."""
    lines = [PAGE]
    for section in SECTIONS:
        lines += [f"## {TITLES[section]}" + (f" {{#{section}}}" if section else ""), ""]
        lines += [f"{_about(section)}", ""] if section else []
        lines += [CARDS, "", "| setting | default | meaning |", "|---|---|---|"]
        for each in settings(section):
            text = _code(each.text or _beside(section, each.name))
            limits = f" ({each.values})" if each.values else ""
            lines.append(f"| `{each.name}` | `{each.default}` | {text}{limits} |")
        lines += ["", "</div>", ""]
    matching, setting_keys = of_sections()
    lines += ["## [[interface]] {#interface}", "", *_plain(MATCH), "", *_rows(matching, "key"), ""]
    lines += [*_plain(UNDECIDED), "", *_rows(setting_keys, "setting"), ""]
    example = EXAMPLE.splitlines()
    lines += [example[0], "", "```toml", *(line[4:] for line in example[2:]), "```", ""]
    return "\n".join(lines)


def _about(section: str) -> str:
    table = getattr(Settings(), section)
    return (inspect.getdoc(type(table)) or "").split("\n\n")[0].replace("\n", " ")


def _beside(section: str, name: str) -> str:
    """What a setting without a text of its own says: the one before it, which names it."""
    before = ""
    for each in settings(section):
        if each.name == name:
            return f"see `{before}`"
        before = each.name if each.text else before
    raise LookupError(name)


def _plain(text: str) -> list[str]:
    return text.replace("[[interface]]", "`[[interface]]`").splitlines()


def _rows(keys: dict[str, str], first: str) -> Iterator[str]:
    yield f"| {first} | meaning |"
    yield "|---|---|"
    yield from (f"| `{name}` | {_code(text)} |" for name, text in keys.items())


def _code(text: str) -> str:
    """The values in quotes and the lists of a text as code."""
    return re.sub(r'(?<!`)(\["[^]]*"\]|"[^"]*")', r"`\1`", text)


# --- the manual page -----------------------------------------------------------------------------

MANUAL: Final = r""".\" Made from service/settings_model.py by `python -m tests.docs.generate`.
.TH NICWATCHD.TOML 5 2026-11-26 nicwatchd "File formats"
.SH NAME
nicwatchd.toml \- settings of nicwatchd
.SH SYNOPSIS
.I /etc/nicwatchd/nicwatchd.toml
.br
.I /etc/nicwatchd/conf.d/*.toml
.SH DESCRIPTION
On EC2 nothing has to be set. The files are TOML. Those of
.I conf.d
are read after
.IR nicwatchd.toml ,
in the order of their names, and override single settings, or add
.B [[interface]]
sections. All durations are in seconds. IMDS is the instance metadata service of EC2.
.PP
Changes take effect with
.BR "systemctl reload nicwatchd" ;
.B [imds]
and
.B platform
need a restart, which disturbs no traffic. If the new settings are wrong, nothing changes, and the
journal says what is wrong. Files and directories that others than root and the reading user may
write are refused.
"""
MANUAL_END: Final = r""".SH SEE ALSO
.BR nicwatchd (8)
"""


def manual() -> str:
    """systemd/nicwatchd.toml.5."""
    lines = [MANUAL.rstrip("\n")]
    for section in SECTIONS:
        lines.append(f".SH {_roff(TITLES[section]).upper() if section else 'FOR THE HOST'}")
        lines += _roff_lines(_about(section)) if section else []
        for each in settings(section):
            lines += [".TP", f".B {each.name} = {_roff(each.default)}"]
            lines += _roff_lines(each.text or f"See {_beside(section, each.name)[5:-1]}.")
            lines += [f"Allowed: {each.values}."] if each.values else []
    matching, setting_keys = of_sections()
    lines += [".SH [[INTERFACE]]", *_roff_lines(MATCH), *_tagged(matching), ".PP"]
    lines += [*_roff_lines(UNDECIDED), *_tagged(setting_keys), ".SH EXAMPLE"]
    example = EXAMPLE.splitlines()
    lines += [*_roff_lines(example[0]), ".PP", ".in +4", ".nf"]
    lines += [*(_roff(line[4:]) for line in example[2:]), ".fi", ".in"]
    return "\n".join([*lines, MANUAL_END])


def _tagged(keys: dict[str, str]) -> Iterator[str]:
    for name, text in keys.items():
        yield from (
            ".TP",
            f".B {name}",
            *_roff_lines(text[0].upper() + text[1:] + "." * (text[-1] != ".")),
        )


def _roff(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")


def _roff_lines(text: str) -> list[str]:
    """Lines of running text; none may begin with a character that is a request."""
    sentences = re.split(r"(?<=[.:;]) (?=\S)", " ".join(text.split()))
    lines = [line for each in sentences for line in wrapped(_roff(each))]
    return [rf"\&{line}" if line[0] in ".'" else line for line in lines]


if __name__ == "__main__":
    sys.stdout.write({"toml": shipped, "page": page, "man": manual}[sys.argv[1]]())
