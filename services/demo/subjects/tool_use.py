"""Dialogues with tools: the right call, no call where none fits, and the result in a sentence.

Names of tools and parameters are drawn from many, so that what is learnt is to read the list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from octavo.services.demo.dialogue import Message, message
from octavo.services.demo.heldout import held_out
from octavo.services.demo.listed import listed
from octavo.services.demo.subjects.facts import CAPITALS
from octavo.services.demo.tooling import Call, Tool, called, tool
from octavo.services.demo.wording import phrase

CITIES = (
    *CAPITALS.values(),
    *listed(
        "Hamburg Munich Lyon Nice Milan Turin Venice Porto Seville Krakow Boston Chicago Denver "
        "Seattle Dallas Miami Toronto Montreal Osaka Kyoto Sydney Perth Mumbai Delhi Lagos Geneva "
        "Zurich Basel Bergen Malmo Glasgow Leeds Bristol Dublin Cork Graz Linz Tokyo Santiago"
    ),
)
SKIES = listed("sunny cloudy rainy windy foggy snowy clear stormy")
SONGS = listed("Yesterday, Hello, Moonlight, Blue Train, Summer, Rainbow, Home, Thunder", ", ")
THINGS = listed("shoes, a red bike, old maps, garden chairs, jazz records, warm socks, tea", ", ")
TASKS = listed("call Anna, buy milk, water the plants, pay the rent, feed the cat, ring Tom", ", ")
NAMES = listed("Anna Ben Clara David Emma Felix Grace Hugo Ida Jonas Kate Leo Mia Noah")
TRIES = 200
NO_TOOL = "I have no tool for that."


@dataclass(frozen=True)
class Kind:
    """What one sort of tool is for. `parameters`: for each, (names it may have, JSON type)."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: tuple[tuple[tuple[str, ...], str], ...]
    values: Callable[[Random], tuple[Any, ...]]
    asked: tuple[str, ...]
    """With {0}, {1} for the values."""
    result: Callable[[Random], tuple[str, ...]]
    answers: str
    """With {0}, {1} for the values and {r0}, {r1} for the result's parts."""


def _city(rng: Random) -> tuple[Any, ...]:
    return (rng.choice(CITIES),)


def _weather(rng: Random) -> tuple[str, ...]:
    return rng.choice(SKIES), str(rng.randint(-9, 35))


def _clock(rng: Random) -> tuple[str, ...]:
    return (f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",)


def _sum(rng: Random) -> tuple[Any, ...]:
    return rng.randint(100, 999), rng.randint(100, 999)


KINDS = (
    Kind(
        listed("get_weather weather current_weather getWeather check_weather weather_now "
               "fetch_weather get_current_weather lookup_weather show_weather"),
        ("Get the weather in a city.", "The current weather of a place.", "Look up the weather.",
         "Get the current weather in a given location"),
        ((listed("city location place town"), "string"),),
        _city,
        ("What is the weather in {0}?", "What's the weather like in {0}?", "How is the weather in "
         "{0}?", "Is it raining in {0}?", "Tell me the weather in {0}.", "Weather in {0}?",
         "What is the weather in {0} today?", "Do I need an umbrella in {0}?"),
        _weather,
        "It is {r0} in {0}, with {r1} degrees.",
    ),
    Kind(
        listed("get_time current_time time_in clock getTime local_time what_time world_clock"),
        ("Get the time in a city.", "The local time of a place.", "Tell the current time."),
        ((listed("city location place town"), "string"),),
        _city,
        ("What time is it in {0}?", "What is the time in {0}?", "Tell me the time in {0}.",
         "How late is it in {0}?", "Time in {0}?"),
        _clock,
        "It is {r0} in {0}.",
    ),
    Kind(
        listed("add add_numbers sum calculator plus addition calculate_sum sum_numbers"),
        ("Add two numbers.", "The sum of two numbers.", "Adds numbers."),
        ((listed("a x first left"), "integer"), (listed("b y second right"), "integer")),
        _sum,
        ("What is {0} + {1}?", "Add {0} and {1}.", "What is {0} plus {1}?",
         "What is the sum of {0} and {1}?", "Use the tool to add {0} and {1}."),
        lambda rng: (str(rng.randint(200, 1998)),),
        "{0} + {1} = {r0}.",
    ),
    Kind(
        listed("search web_search find search_web look_up google searchShop shop_search"),
        ("Search the web.", "Find something.", "Search for a text."),
        ((listed("query text q words"), "string"),),
        lambda rng: (rng.choice(THINGS),),
        ("Search for {0}.", "Find {0}.", "Look for {0} on the web.", "Please search {0}."),
        lambda rng: (str(rng.randint(2, 90)),),
        "I found {r0} results for {0}.",
    ),
    Kind(
        listed("play_music play play_song music start_song playSong"),
        ("Play a song.", "Play music.", "Start a song."),
        ((listed("song title name track"), "string"),),
        lambda rng: (rng.choice(SONGS),),
        ("Play {0}.", "Please play {0}.", "Put on {0}.", "I want to hear {0}."),
        lambda rng: ("ok",),
        "I am playing {0}.",
    ),
    Kind(
        listed("set_reminder remind reminder add_reminder create_reminder remind_me"),
        ("Set a reminder.", "Remind the user of something.", "Create a reminder."),
        ((listed("task text what note"), "string"), (listed("hour time at"), "integer")),
        lambda rng: (rng.choice(TASKS), rng.randint(1, 23)),
        ("Remind me to {0} at {1}.", "Set a reminder to {0} at {1}.", "At {1}, remind me to {0}."),
        lambda rng: ("ok",),
        "I will remind you to {0} at {1}.",
    ),
    Kind(
        listed("send_message message text send_text write_message sendMessage"),
        ("Send a message to somebody.", "Send a text.", "Write to a person."),
        ((listed("to person name recipient"), "string"), (listed("text message body"), "string")),
        lambda rng: (rng.choice(NAMES), rng.choice(listed("hello, I am late, see you soon, "
                                                          "good night, happy birthday", ", "))),
        ("Tell {0}: {1}.", "Send {0} the message {1}.", "Write {1} to {0}.", "Text {0}: {1}."),
        lambda rng: ("sent",),
        "I told {0}: {1}.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Offer:
    """One tool that is offered, and the sort it is of."""

    kind: Kind
    tool: Tool
    parameters: tuple[str, ...]

    @property
    def name(self) -> str:
        name: str = self.tool["function"]["name"]
        return name

    def call(self, values: tuple[Any, ...]) -> Call:
        return self.name, dict(zip(self.parameters, values, strict=True))


@dataclass(frozen=True)
class Task:
    """Tools, what the user asks, and the calls it takes: none where no tool is for it."""

    tools: list[Tool]
    user: str
    calls: list[Call]
    said: list[Message]
    """The rest of the dialogue: calls, results, answer."""


def offer(rng: Random, kind: Kind) -> Offer:
    chosen = tuple(rng.choice(names) for names, _ in kind.parameters)
    typed = dict(zip(chosen, (kind_ for _, kind_ in kind.parameters), strict=True))
    return Offer(kind, tool(rng.choice(kind.names), rng.choice(kind.descriptions), typed), chosen)


def task(rng: Random, *, exam: bool = False) -> Task:
    """A request with one to four tools on the wanted side of the split."""
    kinds = rng.sample(KINDS, rng.randint(1, 4))
    offers = [offer(rng, kind) for kind in kinds]
    tools = [each.tool for each in offers]
    turn = rng.random()
    if turn < 0.12 and len(kinds) < len(KINDS):
        other = rng.choice([kind for kind in KINDS if kind not in kinds])
        user = _asked(rng, other, _values(rng, other, exam))
        return Task(tools, user, [], [message("assistant", NO_TOOL)])
    wanted = rng.choice(offers)
    if turn < 0.24 and wanted.kind in KINDS[:2]:
        return _both(rng, wanted, tools, exam)
    values = _values(rng, wanted.kind, exam)
    return _task(rng, tools, _asked(rng, wanted.kind, values), wanted, [values])


def _both(rng: Random, wanted: Offer, tools: list[Tool], exam: bool) -> Task:
    """Two places at once."""
    first, second = (_values(rng, wanted.kind, exam) for _ in range(2))
    what = "weather" if wanted.kind is KINDS[0] else "time"
    asked = ("What is the {w} in {a} and in {b}?", "What is the {w} in {a} and {b}?")
    user = rng.choice(asked).format(w=what, a=first[0], b=second[0])
    return _task(rng, tools, user, wanted, [first, second])


def _task(
    rng: Random, tools: list[Tool], user: str, wanted: Offer, each: list[tuple[Any, ...]]
) -> Task:
    calls = [wanted.call(values) for values in each]
    said = [message("assistant", called(calls))]
    answers = []
    for values in each:
        result = wanted.kind.result(rng)
        said.append(message("tool", _result(rng, result)))
        parts = {f"r{i}": part for i, part in enumerate(result)}
        answers.append(wanted.kind.answers.format(*values, **parts))
    return Task(tools, user, calls, [*said, message("assistant", " ".join(answers))])


def _result(rng: Random, parts: tuple[str, ...]) -> str:
    """What a tool gives back, in one of several forms."""
    form = rng.random()
    if form < 0.4:
        return ", ".join(parts)
    keys = listed("result value") if len(parts) == 1 else listed("weather degrees")
    quoted = (f'"{part}"' for part in parts)
    inner = ", ".join(f'"{key}": {part}' for key, part in zip(keys, quoted, strict=False))
    return "{" + inner + "}"


def _values(rng: Random, kind: Kind, exam: bool) -> tuple[Any, ...]:
    """Values that the exam keeps for itself, or that it does not; of some kinds it has none."""
    for _ in range(TRIES):
        values = kind.values(rng)
        if held_out("tool", kind.names[0], *values) == exam:
            return values
    return kind.values(rng)


def _asked(rng: Random, kind: Kind, values: tuple[Any, ...]) -> str:
    return phrase(rng, rng.choice(kind.asked).format(*values))
