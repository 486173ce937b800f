"""Which regular expressions JavaScript accepts with the flag `u`, as clients compile the patterns of schemas.

Source: ECMA-262 §22.2.1, patterns with [+UnicodeMode] and +NamedCaptureGroups. Syntax newer than ES2018
(modifiers, duplicate names) and Python's own is refused, and so are, to keep this short, Unicode properties beyond general
categories.
"""

from __future__ import annotations

import re

__all__ = ["is_ecma_pattern"]

_ESCAPE = (
    r"\\(?:[dDwWsSfnrtv]|[\^$\\.*+?()\[\]{}|/]|0(?!\d)|c[A-Za-z]|x[0-9A-Fa-f]{2}"
    r"|u(?:[0-9A-Fa-f]{4}|\{0*(?:10|[0-9A-Fa-f])?[0-9A-Fa-f]{1,4}\})"
    r"|[pP]\{(?:L[lmotu]?|M[cen]?|N[dlo]?|P[cdefios]?|S[ckmo]?|Z[lps]?|C[cfnos]?|ASCII|Alphabetic|Any)\})"
)
_TOKEN = re.compile(
    rf"""(?P<escape>{_ESCAPE})|\\(?P<backreference>[1-9]\d*)|\\k<(?P<named>[A-Za-z_$][\w$]*)>
    |(?P<boundary>\\[bB]|\^|\$)|(?P<name>\(\?<(?P<group>[A-Za-z_$][\w$]*)>)
    |(?P<look>\(\?(?:<?[=!]))|(?P<plain>\(\?:)|(?P<capture>\((?!\?))|(?P<close>\))|(?P<bar>\|)
    |(?P<quantifier>(?:[*+?]|\{{(?P<least>\d+)(?:,(?P<most>\d*))?\}})\??)
    |(?P<class>\[\^?(?P<members>(?:\\.|[^\]\\])*)\])|(?P<literal>[^\\^$.*+?()\[\]{{}}|]|\.)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_MEMBER = re.compile(rf"(?P<escape>{_ESCAPE}|\\[b-])|(?P<literal>[^\\\]])", re.DOTALL | re.ASCII)
_SET = re.compile(r"\\[dDwWsSpP]")
"""Escapes for sets of characters, which cannot be the ends of a range."""


def is_ecma_pattern(pattern: str) -> bool:
    """Whether `new RegExp(pattern, "u")` accepts it for certain."""
    groups: list[str] = []
    captures, names, references = 0, set[str](), list[str]()
    quantifiable = False
    position = 0
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        if token is None:
            return False
        position = token.end()
        kind = token.lastgroup and next(name for name in _KINDS if token[name] is not None)
        match kind:
            case "quantifier":
                if not quantifiable or not _is_ordered(token["least"], token["most"]):
                    return False
                quantifiable = False
                continue
            case "name" | "look" | "plain" | "capture":
                groups.append(kind)
                captures += kind in ("name", "capture")
                if token["group"] in names:
                    return False
                names |= {token["group"]} - {None}
            case "close":
                if not groups:
                    return False
                # A look-around cannot be repeated.
                quantifiable = groups.pop() != "look"
                continue
            case "class":
                if not _is_class(token["members"]):
                    return False
            case "backreference" | "named":
                references.append(token[kind])
        quantifiable = kind in ("escape", "backreference", "named", "class", "literal")
    known = {str(number) for number in range(1, captures + 1)} | names
    return not groups and known.issuperset(references)


_KINDS = (
    "escape",
    "backreference",
    "named",
    "boundary",
    "name",
    "look",
    "plain",
    "capture",
    "close",
    "bar",
    "quantifier",
    "class",
    "literal",
)


def _is_ordered(least: str | None, most: str | None) -> bool:
    return not (least and most) or int(least) <= int(most)


def _is_class(members: str) -> bool:
    """Whether the text between brackets is members and ranges, whose ends are single characters in order."""
    found = [token[0] for token in _MEMBER.finditer(members)]
    if "".join(found) != members:
        return False
    position = 0
    while position < len(found):
        if position + 2 < len(found) and found[position + 1] == "-":
            first, last = found[position], found[position + 2]
            if _SET.match(first) or _SET.match(last) or _code_point(first) > _code_point(last):
                return False
            position += 3
        else:
            position += 1
    return True


_CONTROLS = {"b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}


def _code_point(member: str) -> int:
    if len(member) == 1:
        return ord(member)
    letter, rest = member[1], member[2:].strip("{}")
    if letter in "xu" and rest:
        return int(rest, 16)
    if letter == "c" and rest:
        return ord(rest) % 32
    return _CONTROLS.get(letter, ord(letter))
