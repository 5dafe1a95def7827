"""Reads a page strictly: every element is closed in order, attributes are quoted, nothing is loaded from elsewhere, IDs
are unique, labels have their fields. Prints the page's visible text. usage: PageCheck.py page.html"""

import html.parser
import re
import sys

VOID = {"meta", "link", "input", "img", "br"}
TEXT_ONLY = {"script", "style"}


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.fors, self.words = [], [], [], []

    def handle_starttag(self, tag, attributes):
        raw = self.get_starttag_text()
        inside = raw[len(tag) + 1 : -2 if raw.endswith("/>") else -1]
        assert re.fullmatch(r'(\s+[a-zA-Z-]+(="[^"<>]*")?)*\s*', inside), raw
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), raw
        for name, value in attributes:
            assert not name.startswith("on"), raw
            if name in ("src", "href"):
                assert value.startswith("data:"), raw
            if name == "id":
                self.ids.append(value)
            if name == "for":
                self.fors.append(value)
        if tag == "img":
            assert "alt" in names and "width" in names and "height" in names, raw
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert "svg" in self.open, f"<{tag}/> outside of a figure"
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] in TEXT_ONLY:
            assert "http" not in data and "@import" not in data and "url(" not in data, "loads something"
            return
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", data), repr(data)
        self.words.append(data)


text = open(sys.argv[1], encoding="utf-8", newline="").read()
assert text.startswith("<!DOCTYPE html>\n<!-- report of dmae -->\n<html lang="), text[:80]
page = Page()
page.feed(text)
page.close()
assert not page.open, page.open
assert len(set(page.ids)) == len(page.ids), page.ids
assert set(page.fors) <= set(page.ids), page.fors
# Every cell's text, and every other text, is a line.
print("\n".join(word.strip() for word in page.words if word.strip()))
