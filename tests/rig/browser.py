"""A person at a browser, for the login forms of oidc-provider: `browser.py URL [STOP]`.

Follows redirects, signs in as whoever it is told, agrees to everything, and ends at the page the client answers with, or
before a redirect to a URL that begins with STOP. Prints the URL where it ended.
"""

from __future__ import annotations

import http.cookiejar
import sys
import urllib.request
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode, urljoin

__all__ = ["log_in"]

SECONDS = 60
MAX_FORMS = 5


class _Form(HTMLParser):
    """The first form of a page: where it goes, and its hidden fields."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._inside = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form" and self.action is None:
            self.action, self._inside = given.get("action", ""), True
        elif tag == "input" and self._inside and given.get("name"):
            self.fields[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "form"


class _Arrived(Exception):
    """A redirect that is not to be followed."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, stop: str) -> None:
        self._stop = stop

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if self._stop and newurl.startswith(self._stop):
            raise _Arrived(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def log_in(url: str, person: str = "ann", stop: str = "") -> tuple[str, str]:
    """Open `url`, fill in every form up to the page of the client; gives the URL and the text of that page.

    A redirect to a URL that begins with `stop` is not followed: that URL is the end.

    Raises urllib.error.HTTPError for a page that is an error, AssertionError when there are more forms than a login has.
    """
    browser = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        _Redirects(stop),
    )
    try:
        return _filled_in(browser, url, person)
    except _Arrived as arrived:
        return str(arrived), ""


def _filled_in(browser: urllib.request.OpenerDirector, url: str, person: str) -> tuple[str, str]:
    place, page = _open(browser, url)
    for _ in range(MAX_FORMS):
        form = _Form()
        form.feed(page)
        if form.action is None:
            return place, page
        fields = {**form.fields, **({"login": person, "password": "any"} if "login" in form.fields else {})}
        place, page = _open(browser, urljoin(place, form.action), urlencode(fields).encode())
    raise AssertionError(f"no end of forms at {place}:\n{page}")


def _open(browser: urllib.request.OpenerDirector, url: str, data: bytes | None = None) -> tuple[str, str]:
    with browser.open(url, data, timeout=SECONDS) as answer:
        return answer.url, answer.read().decode(errors="replace")


if __name__ == "__main__":
    print(log_in(sys.argv[1], stop=sys.argv[2] if len(sys.argv) > 2 else "")[0])
