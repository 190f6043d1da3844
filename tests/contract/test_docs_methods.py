"""The page of methods: each has its section there, which says its kind, its source and why it is a bound."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import certlip

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_page_has_the_methods_and_no_others() -> None:
    assert sorted(sections()) == list(certlip.methods())


@pytest.mark.parametrize("name", list(certlip.methods()))
def test_a_section_says_what_the_method_says_of_itself(name: str) -> None:
    section, info = sections()[name], certlip.methods()[name]
    first = section.strip().split(".")[0]
    assert first.lower() == str(info.kind)
    assert all(number in section for number in re.findall(r"\d{4}\.\d{5}", info.reference))
    assert re.search(r"Why it is (a|no|a lower) bound", section)
    assert f"[{name}](#{name})" in PAGE.read_text()
