"""Structured field values: RFC 9651's Lists and Dictionaries, parsed strictly; None for what is not one.

Rules of this file: the algorithms of RFC 9651 section 4.2, in its order and under its names. Linear, and
without recursion deeper than the grammar (a List, an Inner List, an Item). The one liberty that it takes is
the one that the RFC asks for (section 4.2.7): a Byte Sequence without padding, or with pad bits set, is
accepted.

Values are Python's: Integer int, Decimal float, String str, Boolean bool, Byte Sequence bytes; Token, Date
and DisplayString are subclasses of str and int, so that a String is never taken for a Token.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Bare = int | float | str | bytes | bool
    Parameters = dict[str, Bare]
    Member = tuple[Bare | list[tuple[Bare, Parameters]], Parameters]

__all__ = ["Date", "DisplayString", "Token", "parse_dictionary", "parse_item", "parse_list"]

LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
DIGITS = frozenset("0123456789")
KEY_START = LOWER | {"*"}
KEY = LOWER | DIGITS | frozenset("_-.*")
ALPHA = LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
TOKEN_START = ALPHA | {"*"}
TOKEN = ALPHA | DIGITS | frozenset("!#$%&'*+-.^_`|~:/")
BASE64 = ALPHA | DIGITS | frozenset("+/")
PADDING = frozenset("=")
HEX = DIGITS | frozenset("abcdef")


class Token(str):
    """A Token: a word without quotes."""

    __slots__ = ()


class DisplayString(str):
    """A Display String: Unicode text, percent-encoded on the wire."""

    __slots__ = ()


class Date(int):
    """A Date: seconds since 1970."""

    __slots__ = ()


class _Malformed(Exception):
    """The text is not what it should be; never leaves this file."""


class _Reader:
    """A text and how far it has been read."""

    __slots__ = ("at", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def skip(self, characters: str) -> None:
        while self.peek() and self.peek() in characters:
            self.at += 1

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise _Malformed
        self.at += 1

    def take(self, characters: frozenset[str]) -> str:
        start = self.at
        while self.peek() in characters:
            self.at += 1
        return self.text[start : self.at]

    def separated(self) -> bool:
        """Between two members: true when another one follows."""
        self.skip(" \t")
        if not self.peek():
            return False
        self.expect(",")
        self.skip(" \t")
        if not self.peek():
            raise _Malformed  # a trailing comma
        return True

    def key(self) -> str:
        if self.peek() not in KEY_START:
            raise _Malformed
        return self.take(KEY)

    def parameters(self) -> Parameters:
        found: Parameters = {}
        while self.peek() == ";":
            self.at += 1
            self.skip(" ")
            key = self.key()
            value: Bare = True
            if self.peek() == "=":
                self.at += 1
                value = self.bare_item()
            found[key] = value
        return found

    def item(self) -> tuple[Bare, Parameters]:
        value = self.bare_item()
        return value, self.parameters()

    def item_or_inner_list(self) -> Member:
        if self.peek() != "(":
            return self.item()
        self.at += 1
        members: list[tuple[Bare, Parameters]] = []
        while True:
            self.skip(" ")
            if self.peek() == ")":
                self.at += 1
                return members, self.parameters()
            members.append(self.item())
            if self.peek() not in (" ", ")"):
                raise _Malformed

    def bare_item(self) -> Bare:
        first = self.peek()
        if first == "-" or first in DIGITS:
            return self.number()
        if first == '"':
            return self.string()
        if first in TOKEN_START:
            return Token(self.take(TOKEN))
        if first == ":":
            return self.byte_sequence()
        if first == "?":
            self.at += 2
            return self.boolean(self.text[self.at - 1 : self.at])
        if first == "@":
            self.at += 1
            value = self.number()
            if not isinstance(value, int):
                raise _Malformed
            return Date(value)
        if first == "%":
            return self.display_string()
        raise _Malformed

    def boolean(self, digit: str) -> bool:
        if digit not in ("0", "1"):
            raise _Malformed
        return digit == "1"

    def number(self) -> int | float:
        sign = 1
        if self.peek() == "-":
            self.at += 1
            sign = -1
        before = self.take(DIGITS)
        if self.peek() != ".":
            if not 1 <= len(before) <= 15:
                raise _Malformed
            return sign * int(before)
        self.at += 1
        after = self.take(DIGITS)
        if not 1 <= len(before) <= 12 or not 1 <= len(after) <= 3:
            raise _Malformed
        return sign * float(f"{before}.{after}")

    def string(self) -> str:
        self.at += 1
        characters: list[str] = []
        while True:
            character = self.peek()
            self.at += 1
            if character == "\\":
                character = self.peek()
                self.at += 1
                if character not in ('"', "\\"):
                    raise _Malformed
            elif character == '"':
                return "".join(characters)
            elif not " " <= character <= "~":
                raise _Malformed
            characters.append(character)

    def byte_sequence(self) -> bytes:
        from binascii import Error, a2b_base64

        self.at += 1
        encoded = self.take(BASE64)
        padding = self.take(PADDING)
        self.expect(":")
        if (padding and len(encoded + padding) % 4) or len(padding) > 2:
            raise _Malformed
        try:
            return a2b_base64(encoded + "=" * (-len(encoded) % 4))
        except Error:
            raise _Malformed from None

    def display_string(self) -> DisplayString:
        self.at += 1
        self.expect('"')
        octets = bytearray()
        while True:
            character = self.peek()
            self.at += 1
            if character == '"':
                break
            if character == "%":
                pair = self.text[self.at : self.at + 2]
                if len(pair) != 2 or not HEX.issuperset(pair):
                    raise _Malformed
                octets.append(int(pair, 16))
                self.at += 2
            elif " " <= character <= "~":
                octets.append(ord(character))
            else:
                raise _Malformed
        try:
            return DisplayString(octets.decode())
        except UnicodeDecodeError:
            raise _Malformed from None

    def all_members(self) -> list[Member]:
        members: list[Member] = []
        if self.peek():
            members.append(self.item_or_inner_list())
            while self.separated():
                members.append(self.item_or_inner_list())
        return members

    def dictionary(self) -> dict[str, Member]:
        members: dict[str, Member] = {}
        more = bool(self.peek())
        while more:
            key = self.key()
            if self.peek() == "=":
                self.at += 1
                member = self.item_or_inner_list()
            else:
                member = (True, self.parameters())
            members[key] = member
            more = self.separated()
        return members


def parse_list(text: str) -> list[Member] | None:
    """The members of a List; each is an Item or an Inner List, with its parameters.

    >>> parse_list('"default";r=50;t=30, "daily";r=0')
    [('default', {'r': 50, 't': 30}), ('daily', {'r': 0})]
    >>> parse_list('"default') is None
    True
    """
    try:
        return _Reader(text.strip(" ")).all_members()
    except _Malformed:
        return None


def parse_dictionary(text: str) -> dict[str, Member] | None:
    """The members of a Dictionary by key, the last of the same key winning.

    >>> parse_dictionary("limit=100, remaining=50, reset=5")
    {'limit': (100, {}), 'remaining': (50, {}), 'reset': (5, {})}
    """
    try:
        return _Reader(text.strip(" ")).dictionary()
    except _Malformed:
        return None


def parse_item(text: str) -> tuple[Bare, Parameters] | None:
    """An Item with its parameters.

    >>> parse_item("100;w=60")
    (100, {'w': 60})
    """
    reader = _Reader(text.strip(" "))
    try:
        item = reader.item()
    except _Malformed:
        return None
    return None if reader.peek() else item
