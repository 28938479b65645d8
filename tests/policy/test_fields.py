"""The readers: what each grammar accepts, and that nothing else passes."""

import calendar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.policy._fields import (
    AUTO,
    DELAYS,
    MOMENTS,
    NUMBERS,
    dates_and_delays,
    http_date,
    iso_8601,
    parameters,
    split,
)

# A leading space, a sign, an exponent, a word of float(), digits that are not ASCII, length: no number.
NO_NUMBER = [
    "",
    " ",
    "-",
    "+5",
    "1e3",
    "1_000",
    "0x1f",
    "inf",
    "Infinity",
    "nan",
    "NaN",
    "1e400",
    "abc",
    "\u0663",
    "\u00b2",
    "5,",
    ".5",
    "5.",
    "1.2.3",
    "1 000",
    "5 seconds",
    "\x005",
    "5\x00",
    "\ud800",
    "9" * 33,
    "0" * 5000,
    "9" * 5000,
]


@pytest.mark.parametrize("text", NO_NUMBER, ids=lambda text: ascii(text[:12]))
@pytest.mark.parametrize("name", [*NUMBERS, *DELAYS, *MOMENTS])
def test_no_reader_takes_what_is_no_number(name: str, text: str) -> None:
    reader = (NUMBERS | DELAYS | MOMENTS)[name]
    assert reader(text) is None


NUMBER_ROWS = [
    ("whole", "0", 0),
    ("whole", "007", 7),
    ("whole", "1.0", None),
    ("whole", "-1", None),
    ("number", "1200", 1200),
    ("number", "299.0", 299.0),
    ("number", "-37.25", -37.25),
    ("number", "--1", None),
    ("grouped", "1,200.00", 1200.0),
    ("grouped", "12", 12),
    ("grouped", "123,456", 123456),
    ("grouped", "1" * 32, int("1" * 32)),
    ("grouped", "1" * 33, None),
    ("grouped", "1,234,567", 1234567),
    ("grouped", "1,20", None),
    ("grouped", "1234,567", None),
    ("grouped", ",200", None),
    ("seconds", "120", 120.0),
    ("seconds", "1.5", 1.5),
    ("seconds", "-5", None),
    ("whole_seconds", "120", 120.0),
    ("whole_seconds", "1.5", None),
    ("milliseconds", "2500", 2.5),
    ("milliseconds", "22273.5", 22.2735),
    ("whole_milliseconds", "1500", 1.5),
    ("whole_milliseconds", "1500.5", None),
    ("minutes", "19", 1140.0),
    ("minutes", "0.5", 30.0),
    ("duration", "1s", 1.0),
    ("duration", "6m0s", 360.0),
    ("duration", "12ms", 0.012),
    ("duration", "7h12m0s", 25920.0),
    ("duration", "2m59.56s", 179.56),
    ("duration", "57.238747106s", 57.238747106),
    ("duration", "0", 0.0),
    ("duration", "1.5h", 5400.0),
    ("duration", "3us", 3e-6),
    ("duration", "3\u00b5s", 3e-6),
    ("duration", "3\u03bcs", 3e-6),
    ("duration", "9ns", 9e-9),
    ("duration", "6 minutes", None),
    ("duration", "5", None),
    ("duration", "s", None),
    ("duration", "1d", None),
    ("duration", "-1s", None),
    ("duration", "1s ", None),
    ("duration", "1.s", None),
    ("duration", "1m" * 16, 960.0),
    ("duration", "1m" * 17, None),
    ("unix_seconds", "1700000042", 1700000042.0),
    ("unix_seconds", "1700000061.482", 1700000061.482),
    ("unix_seconds", "1700000061000", None),
    ("unix_milliseconds", "1700000060500", 1700000060.5),
    ("unix_milliseconds", "1700000060", None),
]


@pytest.mark.parametrize(("name", "text", "value"), NUMBER_ROWS)
def test_a_reader_reads_its_grammar(name: str, text: str, value: float | None) -> None:
    assert (NUMBERS | DELAYS | MOMENTS)[name](text) == pytest.approx(value)


DATE_ROWS = [
    # The three forms of RFC 9110, the same instant.
    ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
    ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
    ("Wednesday, 09-Nov-94 08:49:37 GMT", 784370977),
    ("Sun Nov  6 08:49:37 1994", 784111777),
    ("Sun Nov 16 08:49:37 1994", 784975777),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ("Thu, 29 Feb 2024 00:00:00 GMT", 1709164800),
    ("Tue, 31 Dec 2016 23:59:60 GMT", 1483228800),
    ("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799),
    ("Mon, 01 Jan 0001 00:00:00 GMT", -62135596800),
    ("Mon, 06 Nov 1994 08:49:37 GMT", 784111777),
    # Another zone, another case, a missing or an impossible part.
    ("Sun, 06 Nov 1994 08:49:37 EST", None),
    ("Sun, 06 Nov 1994 08:49:37 UTC", None),
    ("Sun, 06 Nov 1994 08:49:37 +0000", None),
    ("Sun, 06 Nov 1994 08:49:37", None),
    ("Sun, 06 nov 1994 08:49:37 GMT", None),
    ("sun, 06 Nov 1994 08:49:37 GMT", None),
    ("Sun, 06 Nov 1994 08:49:37 gmt", None),
    ("Sun, 6 Nov 1994 08:49:37 GMT", None),
    ("Sun, 06 Nov 94 08:49:37 GMT", None),
    ("Sun 06 Nov 1994 08:49:37 GMT", None),
    ("Son, 06 Nov 1994 08:49:37 GMT", None),
    ("Sun, 31 Feb 1994 08:49:37 GMT", None),
    ("Sun, 29 Feb 1900 08:49:37 GMT", None),
    ("Sun, 00 Nov 1994 08:49:37 GMT", None),
    ("Sun, 06 Nov 0000 08:49:37 GMT", None),
    ("Sun, 06 Nov 1994 24:00:00 GMT", None),
    ("Sun, 06 Nov 1994 08:60:37 GMT", None),
    ("Sun, 06 Nov 1994 08:49:61 GMT", None),
    ("Sun, 06 Nov 1994 8:49:370 GMT", None),
    ("Sun, 06 Nov 99999 08:49:37 GMT", None),
    ("Sun, \u0660\u0666 Nov 1994 08:49:37 GMT", None),
    ("Sunday, 06-Nov-1994 08:49:37 GMT", None),
    ("Sunday, 06-Nov-94 08:49:37 PST", None),
    ("Sunday, 06-Xov-94 08:49:37 GMT", None),
    ("Sunday, 31-Feb-94 08:49:37 GMT", None),
    ("Sun, 06-Nov-94 08:49:37 GMT", None),
    ("Sunday, 06-Nov-94_08:49:37 GMT", None),
    ("Sunday, x6-Nov-94 08:49:37 GMT", None),
    ("Sun Nov 06 08:49:37 1994 GMT", None),
    ("Sun Nov xx 08:49:37 1994", None),
    ("1994-11-06T08:49:37Z", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "at"), DATE_ROWS)
def test_an_http_date_is_one_of_three_forms_and_nothing_else(text: str, at: int | None) -> None:
    assert http_date(text, 1700000000.0) == at


WHOLE_MOMENTS = [
    "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
    "1994-11-06T08:49:37Z", "1994-11-06T10:19:37+0130", "1994-11-06T10:19:37+01:30",
]  # fmt: skip


@pytest.mark.parametrize("text", WHOLE_MOMENTS)
def test_no_character_of_a_moment_may_be_another_one_or_be_missing_or_be_doubled(text: str) -> None:
    def read(text: str) -> float | None:
        return iso_8601(text) if text[:1].isdigit() else http_date(text, 1700000000.0)

    assert read(text) == 784111777
    for at in range(len(text)):
        before, character, after = text[:at], text[at], text[at + 1 :]
        assert read(f"{before}x{after}") is None, f"another character at {at}"
        assert read(f"{before}{character * 2}{after}") is None, f"a doubled character at {at}"
        if text[at:] != ":30":  # the zone may do without it
            assert read(f"{before}{after}") is None, f"a missing character at {at}"


@pytest.mark.parametrize("year", [1900, 2000, 2023, 2024, 2100, 2400])
@pytest.mark.parametrize("month", range(1, 13))
def test_a_month_ends_where_the_calendar_ends_it(year: int, month: int) -> None:
    name, last = calendar.month_abbr[month], calendar.monthrange(year, month)[1]
    for day in range(1, last + 1):
        at = calendar.timegm((year, month, day, 1, 2, 3))
        assert http_date(f"Sun, {day:02} {name} {year} 01:02:03 GMT") == at
    assert http_date(f"Sun, {last + 1:02} {name} {year} 01:02:03 GMT") is None


@pytest.mark.parametrize(
    ("year", "now", "at"),
    [
        # 2023: "73" is 50 years ahead and stays; a day further and it is the last century's.
        ("73", "Tue, 14 Nov 2023 22:13:20 GMT", 2073),
        ("74", "Tue, 14 Nov 2023 22:13:20 GMT", 1974),
        ("23", "Tue, 14 Nov 2023 22:13:20 GMT", 2023),
        ("00", "Fri, 31 Dec 1999 23:59:59 GMT", 2000),
        ("99", "Sat, 01 Jan 2000 00:00:00 GMT", 1999),
        ("10", "Sun, 01 Jan 2090 00:00:00 GMT", 2110),
        ("90", "Tue, 01 Jan 2030 00:00:00 GMT", 1990),
        ("00", "Wed, 01 Jun 2050 00:00:00 GMT", 2100),
    ],
)
def test_the_year_of_an_rfc_850_date_is_the_nearest_that_is_not_50_years_ahead(
    year: str, now: str, at: int
) -> None:
    clock = http_date(now)
    assert clock is not None
    assert http_date(f"Monday, 01-Jan-{year} 00:00:00 GMT", clock) == http_date(
        f"Mon, 01 Jan {at} 00:00:00 GMT"
    )


def test_an_rfc_850_date_is_judged_by_instants_not_by_years() -> None:
    """50 years ahead of a November lies in November: January of that year is nearer, December further."""
    now = http_date("Tue, 14 Nov 2023 22:13:20 GMT")
    assert now is not None
    assert http_date("Monday, 01-Jan-73 00:00:00 GMT", now) == http_date("Mon, 01 Jan 2073 00:00:00 GMT")
    assert http_date("Monday, 31-Dec-73 00:00:00 GMT", now) == http_date("Mon, 31 Dec 1973 00:00:00 GMT")


def test_an_rfc_850_date_without_a_clock_says_no_year() -> None:
    assert http_date("Sunday, 06-Nov-94 08:49:37 GMT") is None


@given(st.datetimes())
def test_every_date_of_the_calendar_reads_as_its_instant(moment) -> None:
    """Compared with the standard library's calendar."""
    import datetime

    utc = moment.replace(tzinfo=datetime.UTC, microsecond=0)
    day, month = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][utc.weekday()], utc.strftime("%b")
    text = f"{day}, {utc.day:02} {month} {utc.year:04} {utc:%H:%M:%S} GMT"
    assert http_date(text) == (utc - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds()
    assert iso_8601(utc.isoformat()) == http_date(text)


ISO_ROWS = [
    ("2025-01-20T00:00:00Z", 1737331200.0),
    ("2025-01-20t00:00:00z", 1737331200.0),
    ("2025-01-20 00:00:00Z", 1737331200.0),
    ("2025-01-20T00:00Z", 1737331200.0),
    ("2025-01-20T00:00:00.25Z", 1737331200.25),
    ("2026-09-27T07:08:00-05:00", 1790510880.0),
    ("2025-01-20T05:30:00+05:30", 1737331200.0),
    ("2025-01-20T05:30:00+0530", 1737331200.0),
    ("2025-01-20T00:00+00:00", 1737331200.0),
    ("2025-01-20T00:00:00." + "0" * 19 + "Z", 1737331200.0),
    ("2025-01-20T00:00:00." + "0" * 20 + "Z", None),
    ("9999-12-31T23:59:60Z", 253402300800.0),
    ("0001-01-01T00:00:00Z", -62135596800.0),
    ("0000-01-01T00:00:00Z", None),
    ("2025-00-20T00:00:00Z", None),
    ("2025-13-20T00:00:00Z", None),
    ("2025-01-00T00:00:00Z", None),
    ("2025-01-20T24:00:00Z", None),
    ("2025-01-20T00:60:00Z", None),
    ("2025-01-20T00:00:61Z", None),
    ("2025-01-20T23:59:59+23:59", 1737331200.0 + 59),
    ("2025-01-20T00:00:00", None),
    ("2025-01-20", None),
    ("2025-02-30T00:00:00Z", None),
    ("2025-01-20T25:00:00Z", None),
    ("2025-01-20T00:00:00.Z", None),
    ("2025-01-20T00:00:0Z", None),
    ("2025-01-20T00:00:00+24:00", None),
    ("2025-01-20T00:00:00+00:60", None),
    ("2025-01-20T00:00:00+0:00", None),
    ("2025-01-20T00:00:00+00-00", None),
    ("2025-01-20T00:00:00+xx:00", None),
    ("2025-01-20T00:00:00 GMT", None),
    ("2025/01/20T00:00:00Z", None),
    ("20x5-01-20T00:00:00Z", None),
    ("2025-01-20T00:00:", None),
    ("2025-01-20T00:00:00", None),
    ("2025-01-20T00:00:00." + "1" * 40 + "Z", None),
]


@pytest.mark.parametrize(("text", "at"), ISO_ROWS)
def test_an_iso_8601_moment_needs_a_date_a_time_and_a_zone(text: str, at: float | None) -> None:
    assert iso_8601(text) == at


AUTO_ROWS = [
    ("57", 57.0, False),
    ("999999999", 999999999.0, False),
    ("1700000060", 1700000060.0, True),
    ("1700000060500", 1700000060.5, True),
    ("2m0s", 120.0, False),
    ("Tue, 14 Nov 2023 22:13:50 GMT", 1700000030.0, True),
    ("2023-11-14T22:13:50Z", 1700000030.0, True),
    ("soon", None, None),
]


@pytest.mark.parametrize(("text", "value", "moment"), AUTO_ROWS)
def test_a_time_of_undeclared_unit_is_read_by_its_size(
    text: str, value: float | None, moment: bool | None
) -> None:
    read = [(got, is_moment) for reader, is_moment, _ in AUTO if (got := reader(text)) is not None]
    assert read[:1] == ([] if value is None else [(value, moment)])


def test_a_list_is_split_outside_quotes_and_no_further_than_its_bound() -> None:
    assert split("10, 10;w=1 ,\t1000;w=3600") == ["10", "10;w=1", "1000;w=3600"]
    assert split('"a,b";q=1, "c\\",d"') == ['"a,b";q=1', '"c\\",d"']
    assert split('"\\\\",b') == ['"\\\\"', "b"]
    assert split("") == [""]
    assert len(split("1," * 100)) == len(split('"1",' * 100)) == 32


def test_the_comma_of_a_date_does_not_separate() -> None:
    dates = ["Tue, 14 Nov 2023 22:13:50 GMT", "Tuesday, 14-Nov-23 22:13:50 GMT"]
    assert dates_and_delays(", ".join([*dates, "5"])) == [*dates, "5"]
    assert dates_and_delays(", ".join(["5", *dates])) == ["5", *dates]


def test_parameters_are_read_loosely_and_a_part_that_is_none_spoils_them() -> None:
    assert parameters("total=100; remaining=99; Resets=41") == (
        "",
        {"total": "100", "remaining": "99", "resets": "41"},
    )
    assert parameters('100;w=60;name="a;b"') == ("100", {"w": "60", "name": "a;b"})
    assert parameters("b=per_hour;;q=100") is None
    assert parameters("a=1;b") is None


@given(st.text(max_size=200))
def test_every_reader_is_total_and_gives_a_finite_number_or_none(text: str) -> None:
    for reader in (NUMBERS | DELAYS | MOMENTS).values():
        value = reader(text)
        assert value is None or abs(value) < 1e33
    http_date(text, 0.0)
    parameters(text)
    assert len(split(text)) <= 32
