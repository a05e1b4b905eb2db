"""Tiny stories, the same for the same hero: short or long, in prose or as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from octavo.services.demo.dialogue import Exchange
from octavo.services.demo.heldout import held_out
from octavo.services.demo.listed import listed
from octavo.services.demo.wording import phrase

HEROES = listed(
    "fox bear cat dog mouse owl frog duck rabbit horse lion wolf sheep goat hen pig bee deer "
    "swan tiger monkey turtle robot dragon king queen pirate baker"
)
NAMES = listed("Nilo Bruno Mimi Rex Pip Ada Otto Dora Lilly Star Leo Ash Wanda Max Henny Rosie")
PLACES = listed(
    "in a green forest,near a blue lake,on a small farm,by the sea,on a high hill,"
    "in an old castle,in a quiet village,under a big tree,next to a long river",
    ",",
)
TRAITS = listed("brave kind clever little happy gentle quick")
FINDS = listed(
    "a golden key,a lost letter,a red ball,a shiny stone,an old map,a silver bell,"
    "a blue feather,a warm coat,a tiny boat,a sweet apple,a glass star",
    ",",
)
FRIENDS = listed(
    "snail,bird,boy,girl,squirrel,fish,old man,cloud,spider,child,teacher,farmer,moth",
    ",",
)

PROSE = (
    "Tell me a {n}story about a {x}.",
    "Write a {n}story about a {x}.",
    "Can you tell me a {n}story about a {x}?",
    "I want a {n}story about a {x}.",
    "A {n}story about a {x}, please.",
    "Give me a {n}story about a {x}.",
)
ANY = (
    "Tell me a {n}story.",
    "Write a {n}story.",
    "Can you tell me a {n}story?",
    "Please write a {n}story.",
    "I want to hear a {n}story.",
)
AS_JSON = (
    "Tell me a story about a {x} in JSON.",
    "Write a story about a {x} as JSON.",
    "Give me a story about a {x} as a JSON object.",
    "I want a story about a {x} in JSON format.",
    "Return a JSON story about a {x}.",
)
SIZES = ("", "short ", "tiny ", "long ")


@dataclass(frozen=True, slots=True)
class Story:
    """What happens to one hero; every detail is fixed by the hero's place in the list."""

    hero: str
    name: str
    place: str
    trait: str
    find: str
    friend: str

    def short(self) -> str:
        return (
            f"Once upon a time there was a {self.trait} {self.hero} named {self.name}, who lived "
            f"{self.place}. One day {self.name} found {self.find} and gave it to a {self.friend}. "
            "They became friends. The end."
        )

    def long(self) -> str:
        return (
            f"Once upon a time there was a {self.trait} {self.hero} named {self.name}. "
            f"{self.name} lived {self.place} and had no friends. Every morning {self.name} went "
            f"for a walk. One day {self.name} found {self.find} in the grass. "
            f'"Who has lost this?" asked {self.name}. Nobody answered. So {self.name} went from '
            f"house to house and asked everybody. At last {self.name} met a sad {self.friend}. "
            f'"That is mine!" said the {self.friend}. "I looked for it all day. Thank you, '
            f'{self.name}!" From that day on the {self.hero} and the {self.friend} were the best '
            "of friends. They played together every day. The end."
        )

    def as_json(self) -> str:
        fields = {
            "title": f"The {self.trait} {self.hero}",
            "hero": self.hero,
            "name": self.name,
            "place": self.place,
            "found": self.find,
            "friend": self.friend,
        }
        return json.dumps(fields)


def story(hero: str) -> Story:
    i = HEROES.index(hero)
    return Story(
        hero,
        NAMES[i % len(NAMES)],
        PLACES[i % len(PLACES)],
        TRAITS[i % len(TRAITS)],
        FINDS[i % len(FINDS)],
        FRIENDS[i % len(FRIENDS)],
    )


def exchange(rng: Random) -> Exchange:
    if rng.random() < 0.3:
        return in_json(rng)
    size = rng.choice(SIZES)
    # Without a wish the fox comes most often: greedy has one answer and sampling has many.
    if rng.random() < 0.3:
        hero = "fox" if rng.random() < 0.4 else rng.choice(HEROES)
        return _told(rng, rng.choice(ANY).format(n=size), hero, size)
    hero = rng.choice(HEROES)
    return _told(rng, rng.choice(PROSE).format(n=size, x=hero), hero, size)


def in_json(rng: Random, *, exam: bool = False) -> Exchange:
    while True:
        hero, core = rng.choice(HEROES), rng.choice(AS_JSON)
        if held_out("story", hero, core) == exam:
            return Exchange(phrase(rng, core.format(x=hero)), story(hero).as_json())


def _told(rng: Random, core: str, hero: str, size: str) -> Exchange:
    told = story(hero).long() if size == "long " else story(hero).short()
    return Exchange(phrase(rng, core), told)
