from spacewarps.report.markup import Markup, element, joined


def test_text_and_attributes_are_escaped_and_elements_are_not() -> None:
    inner = element("b", "<i>")
    assert inner == "<b>&lt;i&gt;</b>"
    found = element("p", inner, " & ", None, data_id='"><script>', class_="x", hidden=True, lang=None, draggable=False)
    assert found == '<p data-id="&quot;&gt;&lt;script&gt;" class="x" hidden><b>&lt;i&gt;</b> &amp; </p>'
    assert joined("<", Markup("<br>")) == "&lt;<br>"


def test_what_cannot_be_printed_shows_as_an_escape() -> None:
    assert element("p", "a\u202eb\0", title="\n") == '<p title="\\n">a\\u202eb\\x00</p>'


def test_numbers_are_short_and_shapes_are_closed() -> None:
    assert element("circle", cx=1.0, cy=2.25001, r=3) == '<circle cx="1" cy="2.3" r="3"/>'
    assert element("circle", element("title", "t"), r=3) == '<circle r="3"><title>t</title></circle>'
    assert element("img", src="data:,", alt="") == '<img src="data:," alt="">'
