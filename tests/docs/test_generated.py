"""The committed files that are made from code are those that the code makes."""

import pytest

from tests.docs.generate import MADE, ROOT
from tests.docs.settings_texts import SECTIONS, page, settings


@pytest.mark.parametrize("name", MADE)
def test_it_is_up_to_date(name: str) -> None:
    made = MADE[name]()
    assert (ROOT / name).read_text("utf-8") == made, "run `python -m tests.docs.generate`"


def test_every_setting_is_explained() -> None:
    for section in SECTIONS:
        for setting in settings(section):
            assert f"| `{setting.name}` | `{setting.default}` | " in page()
            # What has no text of its own is named by the text of one before it.
            texts = [each.text for each in settings(section) if each.text]
            assert setting.text or any(f"`{setting.name}`" in text for text in texts), setting
