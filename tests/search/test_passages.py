"""What files become when they are read for searching: passages that cite the bytes they came from."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit.search import passages
from ipfs_kit.search.passages import PASSAGE_BYTES_MAX, format_of, parse

FORMS = ("text", "markdown", "html", "python", "csv", "docx")


def test_the_media_type_decides_before_the_name() -> None:
    assert format_of(b"x.md", None) == "markdown"
    assert format_of(b"x.MD", None) == "markdown"
    assert format_of(b"x.md", "text/html; charset=utf-8") == "html"
    assert format_of(b".md", None) == "text"
    assert format_of(b"\xff.\xff", None) == "text"


@pytest.mark.parametrize("form", ["text", "markdown", "python", "csv"])
@given(data=st.binary(min_size=1, max_size=9_000).map(lambda raw: raw.replace(b"\0", b"")).filter(bool))
def test_passages_of_text_cover_every_word_once_in_order(form: str, data: bytes) -> None:
    parsed = parse(form, data, len(data))
    at = 0
    for passage in parsed.passages:
        assert at <= passage.start < passage.stop <= len(data)
        assert not passages.shown(data[at : passage.start]).strip(), "nothing between passages is lost"
        assert passage.stop - passage.start <= PASSAGE_BYTES_MAX
        assert passage.text == passages.shown(data[passage.start : passage.stop]).strip()
        at = passage.stop
    assert not passages.shown(data[at:]).strip()


@pytest.mark.parametrize("form", FORMS)
@given(data=st.binary(max_size=3_000))
def test_no_bytes_make_a_parser_fail(form: str, data: bytes) -> None:
    parsed = parse(form, data, len(data))
    assert parsed.outcome in ("indexed", "binary", "empty", "damaged")
    assert all(0 <= one.start < one.stop <= len(data) for one in parsed.passages)


def test_characters_are_never_cut() -> None:
    data = "é漢🎉".encode() * 3_000
    parsed = parse("text", data, len(data))
    assert len(parsed.passages) > 10
    assert "".join(one.text for one in parsed.passages) == data.decode()


def test_markdown_passages_stand_under_their_headings() -> None:
    data = b"# Guide\n\nintro\n\n## Setup\n\nrun it\n\n```\n# no heading\n```\n\n## Use ##\nwords\n"
    parsed = parse("markdown", data, len(data))
    assert parsed.title == "Guide"
    assert [one.heading for one in parsed.passages] == ["Guide", "Setup", "Use"]
    assert "no heading" in parsed.passages[1].text
    setup = parsed.passages[1]
    assert data[setup.start : setup.stop].startswith(b"## Setup")


def test_python_passages_are_named_for_what_they_define() -> None:
    data = b"import os\n\nclass Store:\n    x = 1\n\n    async def put(self):\n        return 1\n\ndef main():\n    Store()\n"
    headings = [one.heading for one in parse("python", data, len(data)).passages]
    assert headings == ["", "Store", "Store.put", "main"]


def test_html_is_read_as_people_see_it_and_cites_its_bytes() -> None:
    data = (
        b"<html><head><title>Tea &amp; time</title><style>p {hidden: 1}</style><script>var hidden = '<p>';</script></head>"
        b"<body><!-- hidden --><h1>Brew<b>ing</b></h1><p>Boil the w&auml;ter</p><p>Wait</p><h2>Later</h2>drink</body>"
    )
    parsed = parse("html", data, len(data))
    assert parsed.title == "Tea & time"
    assert [one.heading for one in parsed.passages] == ["Brewing", "Later"]
    assert "Boil the wäter" in parsed.passages[0].text
    assert not any("hidden" in one.text for one in parsed.passages)
    assert data[parsed.passages[1].start : parsed.passages[1].stop] == b"Later</h2>drink"


@pytest.mark.parametrize("piece", [b"<", b"<!--", b"<a ", b"<script>", b"&", b"<h1>", b"</h1>", b"<p><h2>", b"<title>"])
def test_hostile_html_is_read_in_one_pass(piece: bytes) -> None:
    data = piece * (2_000_000 // len(piece))
    assert parse("html", data, len(data)).outcome in ("indexed", "empty")


def word_file(body: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f"<w:document><w:body>{body}</w:body></w:document>")
    return made.getvalue()


def test_word_files_give_their_paragraphs() -> None:
    heading = '<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>Plan</w:t></w:r></w:p>'
    data = word_file(
        heading + '<w:p><w:r><w:t xml:space="preserve">buy </w:t></w:r><w:r><w:t>a &amp; b</w:t></w:r></w:p>'
    )
    parsed = parse("docx", data, len(data))
    assert (parsed.outcome, parsed.title) == ("indexed", "Plan")
    assert parsed.passages[0].text == "Plan\nbuy a & b"
    assert (parsed.passages[0].start, parsed.passages[0].stop) == (0, len(data))


def test_a_word_file_that_inflates_without_end_is_given_up() -> None:
    data = word_file("<w:p>" + "<w:r><w:t>aaaaaaaa</w:t></w:r>" * 3_000_000)
    assert len(data) < passages.READ_BYTES_MAX
    assert parse("docx", data, len(data)).outcome == "damaged"
