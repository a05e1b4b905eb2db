"""Days and months: before and after, their order, their lengths."""

from __future__ import annotations

from octavo.services.demo.listed import listed
from octavo.services.demo.relations import Relation

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = listed(
    "January February March April May June July August September October November December"
)
LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
ORDINALS = listed(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
)


def _shifted(names: tuple[str, ...], by: int) -> dict[str, str]:
    return {name: names[(i + by) % len(names)] for i, name in enumerate(names)}


def _far(names: tuple[str, ...], unit: str) -> dict[str, str]:
    """ "3 days after Monday": Thursday, and so on up to five each way."""
    return {
        f"{n} {unit} {word} {name}": names[(i + sign * n) % len(names)]
        for n in range(2, 6)
        for word, sign in (("after", 1), ("before", -1))
        for i, name in enumerate(names)
    }


def _step(unit: str, word: str, table: dict[str, str]) -> Relation:
    return Relation(
        f"{unit} {word}",
        (
            f"Which {unit} comes {word} {{x}}?",
            f"What is the {unit} {word} {{x}}?",
            f"What {unit} comes {word} {{x}}?",
            f"What comes {word} {{x}}?",
            f"Name the {unit} {word} {{x}}.",
            f"{{x}}: which {unit} is {word} it?",
        ),
        f"Do you know the {unit} {word} {{x}}?",
        f"The {unit} {word} {{x}} is {{y}}.",
        table,
    )


def _nth(unit: str, whole: str, names: tuple[str, ...]) -> Relation:
    return Relation(
        f"nth {unit}",
        (
            f"What is the {{x}} {unit} of the {whole}?",
            f"Which {unit} is the {{x}} of the {whole}?",
            f"Name the {{x}} {unit} of the {whole}.",
            f"Which {unit} of the {whole} is the {{x}}?",
            f"What is the {{x}} {unit}?",
        ),
        f"Do you know the {{x}} {unit} of the {whole}?",
        f"The {{x}} {unit} of the {whole} is {{y}}.",
        dict(zip(ORDINALS, names, strict=False)),
    )


def _distance(unit: str, names: tuple[str, ...]) -> Relation:
    return Relation(
        f"far {unit}",
        (
            f"Which {unit} is {{x}}?",
            f"What {unit} is {{x}}?",
            f"Name the {unit} {{x}}.",
            f"What is the {unit} {{x}}?",
            "What comes {x}?",
        ),
        f"Do you know which {unit} is {{x}}?",
        "{x} is {y}.",
        _far(names, f"{unit}s"),
    )


DATES = (
    _step("day", "after", _shifted(DAYS, 1)),
    _step("day", "before", _shifted(DAYS, -1)),
    _step("month", "after", _shifted(MONTHS, 1)),
    _step("month", "before", _shifted(MONTHS, -1)),
    _nth("day", "week", DAYS),
    _nth("month", "year", MONTHS),
    _distance("day", DAYS),
    _distance("month", MONTHS),
    Relation(
        "month length",
        (
            "How many days does {x} have?",
            "How many days are in {x}?",
            "How many days has {x}?",
            "How long is {x}?",
            "What is the number of days in {x}?",
            "{x} has how many days?",
        ),
        "Tell me how many days there are in {x}.",
        "{x} has {y} days.",
        {name: str(days) for name, days in zip(MONTHS, LENGTHS, strict=True)},
    ),
    Relation(
        "month number",
        (
            "What number is the month {x}?",
            "Which month of the year is {x}?",
            "What is the number of the month {x}?",
            "{x} is which month of the year?",
            "Where in the year is {x}?",
        ),
        "Tell me the number of the month {x}.",
        "{x} is the {y} month of the year.",
        dict(zip(MONTHS, ORDINALS, strict=True)),
    ),
)
