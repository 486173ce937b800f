"""A server with a tool for each type a result may have, and each kind of schema: what clients must take.

`trio-mcp serve tests/clients/promises.py`. `CASES` and `SCHEMAS` are what the tests go through.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import math
import pathlib
import re
import uuid
import zoneinfo
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Optional, TypeVar, Union

import msgspec
import pydantic
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field, field_serializer, model_serializer
from typing_extensions import TypedDict

from trio_mcp import MCPServer

__all__ = ["CASES", "SCHEMAS", "mcp"]

T = TypeVar("T")
NAIVE = dt.datetime(2026, 1, 2, 3, 4, 5, 678)
AWARE = NAIVE.replace(tzinfo=dt.UTC)
ODD_ZONE = NAIVE.replace(tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=45, seconds=30)))
NOT_UTF_8 = b"\xff\xfe\xfd"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Moment(enum.Enum):
    THEN = NAIVE
    PRICE = decimal.Decimal("1.1")


class Address(BaseModel):
    street: str
    colour: Colour = Colour.RED
    since: dt.datetime = NAIVE
    photo: bytes = NOT_UTF_8
    price: decimal.Decimal = decimal.Decimal("1E+3")


class Person(BaseModel):
    name: Annotated[str, Field(alias="fullName")]
    home: Address
    others: list[Address] = []
    secret: pydantic.SecretStr = pydantic.SecretStr("x")
    hidden: int = Field(default=0, exclude=True)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def took(self) -> dt.timedelta:
        return dt.timedelta(hours=-1, microseconds=5)


class Node(BaseModel):
    at: dt.time = dt.time(12)
    children: list[Node] = []


class Box(BaseModel, Generic[T]):
    content: T
    when: dt.datetime = NAIVE


class Stamped(BaseModel):
    at: dt.datetime

    @field_serializer("at")
    def _stamp(self, value: dt.datetime):  # type: ignore[no-untyped-def]  # noqa: ANN202 - nobody says what it returns
        return value.timestamp()


class Whole(BaseModel):
    x: int

    @model_serializer
    def _whole(self):  # type: ignore[no-untyped-def]  # noqa: ANN202
        return f"x={self.x}"


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: int = 1


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_bytes="hex")
    x: bytes = NOT_UTF_8


class Moments(RootModel[list[dt.datetime]]):
    pass


@dataclass
class Size:
    width: float
    at: dt.datetime | None = None
    raw: bytes = NOT_UTF_8
    path: pathlib.Path = field(default=pathlib.Path("/a b"))


@pydantic.dataclasses.dataclass
class Checked:
    at: dt.time
    raw: bytes


class Row(TypedDict):
    id: uuid.UUID
    at: NotRequired[dt.datetime]


class Pair(NamedTuple):
    at: dt.datetime
    raw: bytes


class Struct(msgspec.Struct):
    at: dt.datetime
    took: dt.timedelta = dt.timedelta(seconds=-1)
    time: dt.time = dt.time(1, 2, 3)
    raw: bytes = NOT_UTF_8
    price: decimal.Decimal = decimal.Decimal("1.10")
    id: uuid.UUID = uuid.UUID(int=1)


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    barks: bool = True


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
HOME = Address(street="x")
ADA = Person.model_validate({"fullName": "Ada", "home": HOME, "others": [HOME]})

CASES: list[tuple[str, Any, Any]] = [
    ("naive_datetime", dt.datetime, NAIVE),
    ("aware_in_datetime", dt.datetime, AWARE),
    ("aware_datetime", pydantic.AwareDatetime, AWARE),
    ("aware_datetime_zoned", pydantic.AwareDatetime, NAIVE.replace(tzinfo=zoneinfo.ZoneInfo("Asia/Kathmandu"))),
    ("aware_datetime_odd_zone", pydantic.AwareDatetime, ODD_ZONE),
    ("naive_only", pydantic.NaiveDatetime, NAIVE),
    ("past_datetime", pydantic.PastDatetime, dt.datetime(2020, 1, 1)),
    ("first_datetime", dt.datetime, dt.datetime(1, 1, 1)),
    ("date", dt.date, dt.date(1, 1, 2)),
    ("past_date", pydantic.PastDate, dt.date(2020, 1, 1)),
    ("time", dt.time, dt.time(12)),
    ("time_aware", dt.time, dt.time(12, 0, 0, 5, tzinfo=dt.UTC)),
    ("timedelta", dt.timedelta, dt.timedelta(seconds=1, microseconds=5)),
    ("timedelta_negative", dt.timedelta, dt.timedelta(hours=-1)),
    ("timedelta_days", dt.timedelta, dt.timedelta(days=400)),
    ("uuid", uuid.UUID, uuid.UUID(int=1)),
    ("uuid4", pydantic.UUID4, uuid.UUID("4ad5fd2f-2fa5-4f5e-9f5f-2fd3a3c2f0a1")),
    ("decimal", decimal.Decimal, decimal.Decimal("1.10")),
    ("decimal_exponent", decimal.Decimal, decimal.Decimal("1E+30")),
    ("decimal_bounded", Annotated[decimal.Decimal, Field(max_digits=6, decimal_places=2, ge=0)], decimal.Decimal("-0")),
    ("path", pathlib.Path, pathlib.Path("/a b/ü")),
    ("pure_path", pathlib.PureWindowsPath, pathlib.PureWindowsPath("C:\\x")),
    ("directory", pydantic.DirectoryPath, pathlib.Path("/")),
    ("bytes", bytes, NOT_UTF_8),
    ("bytes_bounded", Annotated[bytes, Field(max_length=3)], NOT_UTF_8),
    ("bytes_list", list[bytes], [NOT_UTF_8]),
    ("base64_bytes", pydantic.Base64Bytes, b"/w=="),
    ("base64_url", pydantic.Base64UrlBytes, b"_w=="),
    ("ipv4", ipaddress.IPv4Address, ipaddress.IPv4Address("1.2.3.4")),
    ("ipv6", ipaddress.IPv6Address, ipaddress.IPv6Address("fe80::1%eth0")),
    ("ipv4_network", ipaddress.IPv4Network, ipaddress.IPv4Network("1.2.3.0/24")),
    ("ipv6_interface", ipaddress.IPv6Interface, ipaddress.IPv6Interface("fe80::1/64")),
    ("ip_any", pydantic.IPvAnyAddress, ipaddress.IPv6Address("::1")),
    ("any_url", pydantic.AnyUrl, pydantic.AnyUrl("http://ü.example/a b?q={|}^#`")),
    ("http_url", pydantic.HttpUrl, pydantic.HttpUrl("https://user:p@[::1]:8/x?y=[1]|2")),
    ("mongo_dsn", pydantic.MongoDsn, pydantic.MongoDsn("mongodb://a:1,b:2/db")),
    ("file_url", pydantic.FileUrl, pydantic.FileUrl("file:///a|b")),
    ("enum", Colour, Colour.RED),
    ("int_enum", Level, Level.LOW),
    ("odd_enum", Moment, Moment.THEN),
    ("odd_enum_decimal", Moment, Moment.PRICE),
    ("literal", Literal["a", 1] | None, "a"),
    ("literal_enum", Literal[Colour.RED], Colour.RED),
    ("set", set[int], {2**53, 2**53 + 1}),
    ("set_of_secrets", list[pydantic.SecretStr], [pydantic.SecretStr("a"), pydantic.SecretStr("b")]),
    ("frozenset", frozenset[Colour], frozenset({Colour.RED})),
    ("secret", pydantic.SecretStr, pydantic.SecretStr("a")),
    (
        "secret_bounded",
        Annotated[pydantic.SecretStr, Field(min_length=20)],
        pydantic.SecretStr("a" * 20),
    ),
    ("secret_bytes", pydantic.SecretBytes, pydantic.SecretBytes(b"a")),
    ("secret_int", pydantic.Secret[int], pydantic.Secret[int](5)),
    ("float_or_null_nan", float | None, math.nan),
    ("float_or_null_inf", list[float | None], [math.inf, 1.0]),
    ("float_multiple", Annotated[float, Field(multiple_of=0.1)], 0.3),
    ("any_nan", dict[str, Any], {"a": math.nan}),
    ("int_beyond_53_bits", int, 2**63 + 1),
    ("int_multiple", Annotated[int, Field(multiple_of=3)], 3 * (2**60 + 1)),
    ("int_very_large", dict[str, int], {"a": 10**300}),
    ("byte_size", pydantic.ByteSize, pydantic.ByteSize(5)),
    ("complex", complex, 1 + 2j),
    ("fraction", fractions.Fraction, fractions.Fraction(1, 3)),
    ("pattern", re.Pattern, re.compile("(?P<x>a)(?i:b)")),
    ("zone", zoneinfo.ZoneInfo, zoneinfo.ZoneInfo("Europe/Berlin")),
    ("json_string", pydantic.Json[list[int]], "[1]"),
    ("dict_int_keys", dict[int, int], {1: 1}),
    ("dict_float_keys", dict[float, int], {1.5: 1}),
    ("dict_bool_keys", dict[bool, int], {True: 1}),
    ("dict_datetime_keys", dict[dt.datetime, int], {NAIVE: 1}),
    ("dict_date_keys", dict[dt.date, int], {dt.date(2026, 1, 2): 1}),
    ("dict_uuid_keys", dict[uuid.UUID, int], {uuid.UUID(int=1): 1}),
    ("dict_decimal_keys", dict[decimal.Decimal, int], {decimal.Decimal("1E+2"): 1}),
    ("dict_bytes_keys", dict[bytes, int], {NOT_UTF_8: 1}),
    ("dict_tuple_keys", dict[tuple[int, int], int], {(1, 2): 1}),
    ("dict_enum_keys", dict[Colour, int], {Colour.RED: 1}),
    ("dict_ip_keys", dict[ipaddress.IPv4Address, int], {ipaddress.IPv4Address("1.2.3.4"): 1}),
    ("dict_none_keys", dict[int | None, int], {None: 1}),
    ("dict_any_keys", dict[Any, Any], {NAIVE: NAIVE, 1: NOT_UTF_8, Colour.RED: Colour.BLUE}),
    ("dict_pattern_keys", dict[Annotated[str, Field(pattern="^(?i:a)")], int], {"Ab": 1}),
    ("dict_bare", dict, {"a": NAIVE, "b": decimal.Decimal("1.1"), "c": {1: NOT_UTF_8}, "d": "\ud800"}),
    ("mapping", Mapping[str, dt.time], {"a": dt.time(1)}),
    ("counter", collections.Counter[str], collections.Counter("aab")),
    ("default_dict", collections.defaultdict[str, int], collections.defaultdict(int, a=1)),
    ("ordered_dict", collections.OrderedDict[str, int], collections.OrderedDict(a=1)),
    ("deque", collections.deque[int], collections.deque([1])),
    ("sequence", Sequence[dt.datetime], (NAIVE,)),
    ("iterable", Iterable[int], [1, 2]),
    ("generator", Generator[int, None, None], [1, 2]),
    ("tuple", tuple[int, dt.time], (1, dt.time(1))),
    ("tuple_variable", tuple[dt.time, ...], (dt.time(1),)),
    ("list_lone_surrogate", list[str], ["caf\udce9.txt"]),
    ("text_lone_surrogate", str, "caf\udce9.txt"),
    ("email", Annotated[str, Field(json_schema_extra={"format": "email"})], "ü@ü.de"),
    ("said_to_be_a_uri", Annotated[str, Field(json_schema_extra={"format": "uri"})], "no uri |"),
    ("text_pattern", Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], "abc"),
    ("text_python_pattern", Annotated[str, Field(pattern=r"(?i)^[a-z]+$")], "Ab"),
    ("model", Person, ADA),
    ("model_list", list[Person], [ADA]),
    ("model_recursive", Node, Node(children=[Node()])),
    ("model_recursive_list", list[Node], [Node(children=[Node()])]),
    ("model_generic", Box[dt.time], Box[dt.time](content=dt.time(1))),
    ("model_generic_of_model", Box[Address], Box[Address](content=HOME)),
    ("model_extra", Loose, Loose(y=NAIVE)),  # type: ignore[call-arg]
    ("model_closed", Closed, Closed()),
    ("model_root", Moments, Moments([NAIVE])),
    ("model_field_serializer", Stamped, Stamped(at=AWARE)),
    ("model_serializer", Whole, Whole(x=1)),
    ("serializer_without_type", Annotated[dt.datetime, pydantic.PlainSerializer(lambda it: it.year)], NAIVE),
    (
        "serializer_with_type",
        Annotated[dt.datetime, pydantic.PlainSerializer(lambda it: it.year, return_type=int)],
        NAIVE,
    ),
    ("dataclass", Size, Size(1.5, NAIVE)),
    ("pydantic_dataclass", Checked, Checked(dt.time(1), NOT_UTF_8)),
    ("typed_dict", Row, {"id": uuid.UUID(int=1), "at": NAIVE}),
    ("named_tuple", Pair, Pair(NAIVE, NOT_UTF_8)),
    ("struct", Struct, Struct(NAIVE)),
    ("optional", Optional[dt.datetime], None),  # noqa: UP045
    ("optional_set", dt.datetime | None, NAIVE),
    ("union", Union[int, dt.datetime, bytes], NOT_UTF_8),  # noqa: UP007
    ("union_of_models", Cat | Dog, Dog()),
    ("discriminated", Pet, Cat()),
    ("discriminated_list", list[Pet], [Cat(), Dog()]),
]


class Deep(BaseModel):
    unit: Colour = Colour.RED
    node: Node | None = None
    pet: Pet = Cat()
    code: Annotated[str, Field(pattern=r"\Aab?\z")] = "ab"
    late: float = math.inf


def takes_models(person: Person, deep: Deep, pets: list[Pet], colour: Colour = Colour.RED) -> None:
    """Nested models, enums and a discriminated union."""


def takes_patterns(
    a: Annotated[str, Field(pattern="(?i)^[a-z]+$")],
    b: Annotated[str, Field(pattern=r"\Aab\z")],
    c: Annotated[str, Field(pattern=r"^(?P<x>a)$")],
    d: Annotated[str, Field(pattern=r"^[a-z_\-]+$")],
    e: dict[Annotated[str, Field(pattern="(?s:a)")], int],
) -> None:
    """Patterns that JavaScript has, and some that it has not."""


def takes_defaults(
    a: str = None,  # type: ignore[assignment]  # noqa: RUF013
    b: float = math.inf,
    c: Annotated[int, Field(ge=5)] = 1,
    d: list[int] = None,  # type: ignore[assignment]  # noqa: RUF013
    e: str | None = None,
) -> None:
    """Defaults, some of which their own types refuse."""


def by_hand(**arguments: Any) -> dict[str, str]:
    """Schemas written by hand."""
    return {"code": "Ab"}


SCHEMAS: list[Callable[..., None]] = [takes_models, takes_patterns, takes_defaults]

mcp = MCPServer("promises")


def _giving(kind: Any, value: Any) -> Any:
    async def give() -> Any:
        return value

    give.__annotations__["return"] = kind
    return give


for _name, _kind, _value in CASES:
    mcp.tool(_name)(_giving(_kind, _value))
for _fn in SCHEMAS:
    mcp.tool(_fn)
mcp.tool(
    "by_hand",
    input_schema={"type": "object", "properties": {"a": {"type": "string", "pattern": "(?i)^a$"}}},
    output_schema={"type": "object", "properties": {"code": {"type": "string", "pattern": "(?i)^[a-z]+$"}}},
)(by_hand)
