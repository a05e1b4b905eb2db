"""A sentence, and what it says as a JSON object with the keys that were asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from octavo.services.demo.dialogue import Exchange
from octavo.services.demo.heldout import held_out
from octavo.services.demo.listed import listed
from octavo.services.demo.subjects.tool_use import CITIES

NAMES = listed(
    "Ada Alan Alice Anna Ben Bob Carla Clara David Diana Emma Eric Felix Frank Grace Hanna Hugo "
    "Ida Ivan Jane John Julia Karl Kate Laura Leo Lisa Mark Mary Max Mia Nina Noah Oscar Paul "
    "Peter Rosa Sam Sara Tom Vera Will Zoe"
)
JOBS = listed("teacher nurse baker pilot farmer doctor lawyer singer driver cook painter engineer")
PRODUCTS = listed("lamp chair table book phone camera bottle jacket guitar bike clock mirror desk")
EVENTS = listed("concert meeting party lecture wedding exam picnic match race dinner fair")
DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
Facts = dict[str, Any]
ASKED = (
    "Extract the {keys} as JSON: {text}",
    "Extract {keys} from this text as JSON: {text}",
    "Give me a JSON object with {keys}: {text}",
    "{text} Answer as JSON with the keys {keys}.",
    "{text} Extract the {keys}.",
    "Read this and fill in {keys} as JSON. {text}",
    "Extract the information: {text} Keys: {keys}.",
)


def _person(rng: Random) -> tuple[Facts, str]:
    facts: Facts = {
        "name": rng.choice(NAMES),
        "age": rng.randint(5, 99),
        "city": rng.choice(CITIES),
        "job": rng.choice(JOBS),
    }
    texts = (
        "{name} is {age} years old, lives in {city} and works as a {job}.",
        "{name}, {age}, is a {job} in {city}.",
        "My friend {name} is a {job} from {city}. {name} is {age}.",
        "{name} lives in {city}, is {age} years old and is a {job}.",
    )
    return facts, rng.choice(texts).format(**facts)


def _short_person(rng: Random) -> tuple[Facts, str]:
    facts: Facts = {
        "name": rng.choice(NAMES),
        "age": rng.randint(5, 99),
        "city": rng.choice(CITIES),
    }
    texts = (
        "{name} is {age} years old and lives in {city}.",
        "{name} ({age}) lives in {city}.",
        "I am {name}, I am {age} and I live in {city}.",
        "{name} from {city} is {age} years old.",
    )
    return facts, rng.choice(texts).format(**facts)


def _order(rng: Random) -> tuple[Facts, str]:
    facts: Facts = {
        "product": rng.choice(PRODUCTS),
        "quantity": rng.randint(2, 20),
        "price": rng.randint(2, 500),
    }
    texts = (
        "We order {quantity} times the {product} for {price} euros.",
        "Please send {quantity} of the {product}. The price is {price} dollars.",
        "The {product} costs {price} dollars, and I take {quantity}.",
    )
    return facts, rng.choice(texts).format(**facts)


def _event(rng: Random) -> tuple[Facts, str]:
    facts: Facts = {
        "event": rng.choice(EVENTS),
        "day": rng.choice(DAYS),
        "city": rng.choice(CITIES),
        "hour": rng.randint(1, 23),
    }
    texts = (
        "The {event} in {city} is on {day} at {hour}.",
        "On {day} at {hour} there is a {event} in {city}.",
        "Come to the {event} on {day}! It begins at {hour} in {city}.",
    )
    return facts, rng.choice(texts).format(**facts)


KINDS: tuple[Callable[[Random], tuple[Facts, str]], ...] = (_person, _short_person, _order, _event)


def exchange(rng: Random, *, exam: bool = False) -> Exchange:
    """On the wanted side of the split by all that the sentence says."""
    while True:
        facts, text = rng.choice(KINDS)(rng)
        if held_out("extraction", *facts.values()) == exam:
            break
    keys = rng.sample(list(facts), rng.randint(min(2, len(facts)), len(facts)))
    named = ", ".join(keys[:-1]) + rng.choice((" and ", ", ")) + keys[-1]
    user = rng.choice(ASKED).format(keys=named, text=text)
    return Exchange(user, json.dumps({key: facts[key] for key in keys}))
