"""A few hundred facts of a small closed world."""

from __future__ import annotations

from octavo.services.demo.relations import Relation


def _table(text: str) -> dict[str, str]:
    return dict(entry.strip().split("=") for entry in text.split(","))


CAPITALS = _table(
    "France=Paris, Italy=Rome, Spain=Madrid, Germany=Berlin, Portugal=Lisbon, Greece=Athens,"
    "Austria=Vienna, Poland=Warsaw, Sweden=Stockholm, Norway=Oslo, Finland=Helsinki,"
    "Denmark=Copenhagen, Ireland=Dublin, Belgium=Brussels, Hungary=Budapest, England=London,"
    "Scotland=Edinburgh, Russia=Moscow, Turkey=Ankara, Egypt=Cairo, Kenya=Nairobi, Ghana=Accra,"
    "Morocco=Rabat, Japan=Tokyo, China=Beijing, India=New Delhi, Thailand=Bangkok, Korea=Seoul,"
    "Vietnam=Hanoi, Iran=Tehran, Iraq=Baghdad, Canada=Ottawa, Mexico=Mexico City, Cuba=Havana,"
    "Peru=Lima, Chile=Santiago, Brazil=Brasilia, Argentina=Buenos Aires, Australia=Canberra,"
    "Iceland=Reykjavik"
)
CONTINENTS = _table(
    "France=Europe, Italy=Europe, Spain=Europe, Germany=Europe, Greece=Europe, Poland=Europe,"
    "Norway=Europe, Egypt=Africa, Kenya=Africa, Ghana=Africa, Morocco=Africa, Japan=Asia,"
    "China=Asia, India=Asia, Thailand=Asia, Korea=Asia, Vietnam=Asia, Canada=North America,"
    "Mexico=North America, Cuba=North America, Peru=South America, Chile=South America,"
    "Brazil=South America, Argentina=South America"
)
COLOURS = _table(
    "sky=blue, grass=green, snow=white, coal=black, blood=red, lemon=yellow, orange=orange,"
    "banana=yellow, tomato=red, milk=white, night=black, sun=yellow, leaf=green, sea=blue,"
    "chocolate=brown, elephant=grey, flamingo=pink, plum=purple, frog=green, polar bear=white"
)
SOUNDS = _table(
    "dog=woof, cat=meow, cow=moo, sheep=baa, duck=quack, pig=oink, horse=neigh, lion=roar,"
    "mouse=squeak, bee=buzz, owl=hoot, snake=hiss, frog=croak, wolf=howl, hen=cluck"
)
YOUNG = _table(
    "dog=puppy, cat=kitten, cow=calf, sheep=lamb, duck=duckling, pig=piglet, horse=foal,"
    "lion=cub, goat=kid, hen=chick, deer=fawn, goose=gosling, swan=cygnet, frog=tadpole, owl=owlet"
)
LEGS = _table(
    "dog=4, cat=4, cow=4, horse=4, bird=2, duck=2, spider=8, ant=6, bee=6, snake=0, fish=0,"
    "octopus=8, crab=10, beetle=6, human=2, worm=0, frog=4, chair=4"
)
OPPOSITES = _table(
    "hot=cold, big=small, fast=slow, high=low, old=young, good=bad, light=dark, wet=dry,"
    "happy=sad, open=closed, full=empty, hard=soft, rich=poor, strong=weak, early=late,"
    "near=far, up=down, left=right, black=white, day=night, long=short, loud=quiet, thick=thin,"
    "clean=dirty, first=last, begin=end, love=hate, buy=sell, push=pull, true=false"
)
SYMBOLS = _table(
    "hydrogen=H, oxygen=O, carbon=C, nitrogen=N, gold=Au, silver=Ag, iron=Fe, copper=Cu,"
    "helium=He, sodium=Na, lead=Pb, tin=Sn, zinc=Zn, neon=Ne, sulfur=S, calcium=Ca"
)
SIDES = _table("triangle=3, square=4, rectangle=4, pentagon=5, hexagon=6, heptagon=7, octagon=8")
PLANETS = _table(
    "first=Mercury, second=Venus, third=Earth, fourth=Mars, fifth=Jupiter, sixth=Saturn,"
    "seventh=Uranus, eighth=Neptune"
)

FACTS = (
    Relation(
        "capital",
        (
            "What is the capital of {x}?",
            "What's the capital of {x}?",
            "Name the capital of {x}.",
            "Which city is the capital of {x}?",
            "What is the capital city of {x}?",
            "{x}: capital?",
            "Do you know the capital of {x}?",
            "What is the name of the capital of {x}?",
        ),
        "I would like to know the capital of {x}.",
        "The capital of {x} is {y}.",
        CAPITALS,
    ),
    Relation(
        "capital of",
        (
            "{x} is the capital of which country?",
            "Which country has the capital {x}?",
            "Of which country is {x} the capital?",
            "In which country is {x}?",
            "Where is {x}?",
            "What country is {x} in?",
        ),
        "Which country is {x} the capital of?",
        "{x} is the capital of {y}.",
        {city: country for country, city in CAPITALS.items()},
    ),
    Relation(
        "continent",
        (
            "On which continent is {x}?",
            "Which continent is {x} in?",
            "What continent does {x} lie in?",
            "{x} is on which continent?",
            "Name the continent of {x}.",
            "{x}: continent?",
        ),
        "Do you know the continent of {x}?",
        "{x} is in {y}.",
        CONTINENTS,
    ),
    Relation(
        "colour",
        (
            "What colour is the {x}?",
            "Which colour does the {x} have?",
            "What is the colour of the {x}?",
            "What color is the {x}?",
            "Name the colour of the {x}.",
            "The {x} has which colour?",
        ),
        "Do you know the colour of the {x}?",
        "The {x} is {y}.",
        COLOURS,
    ),
    Relation(
        "sound",
        (
            "What does the {x} say?",
            "What sound does the {x} make?",
            "Which sound does the {x} make?",
            "How does the {x} sound?",
            "What is the sound of the {x}?",
            "What noise does the {x} make?",
        ),
        "Do you know the sound of the {x}?",
        "The {x} says {y}.",
        SOUNDS,
    ),
    Relation(
        "young",
        (
            "What is the young of the {x} called?",
            "What do you call the baby of the {x}?",
            "How is the young of the {x} called?",
            "What is the name for the baby of the {x}?",
            "What is the baby of the {x} called?",
            "Name the young of the {x}.",
        ),
        "What do you call the young of the {x}?",
        "The young of the {x} is called {y}.",
        YOUNG,
    ),
    Relation(
        "legs",
        (
            "How many legs does the {x} have?",
            "How many legs has the {x}?",
            "What number of legs does the {x} have?",
            "The {x} has how many legs?",
            "Count the legs of the {x}.",
            "Number of legs of the {x}?",
        ),
        "What is the number of legs of the {x}?",
        "The {x} has {y} legs.",
        LEGS,
    ),
    Relation(
        "opposite",
        (
            "What is the opposite of {x}?",
            "What's the opposite of {x}?",
            "Name the opposite of {x}.",
            "Which word is the opposite of {x}?",
            "Give me the opposite of {x}.",
            "{x} is the opposite of what?",
        ),
        "Do you know the opposite of {x}?",
        "The opposite of {x} is {y}.",
        OPPOSITES | {y: x for x, y in OPPOSITES.items() if y not in OPPOSITES},
    ),
    Relation(
        "symbol",
        (
            "What is the chemical symbol of {x}?",
            "What's the symbol for {x}?",
            "Which symbol does {x} have?",
            "Name the chemical symbol of {x}.",
            "What is the symbol of {x}?",
            "Give me the symbol for {x}.",
        ),
        "Do you know the chemical symbol of {x}?",
        "The symbol of {x} is {y}.",
        SYMBOLS,
    ),
    Relation(
        "sides",
        (
            "How many sides does the {x} have?",
            "How many sides has the {x}?",
            "What number of sides does the {x} have?",
            "The {x} has how many sides?",
            "Count the sides of the {x}.",
            "Number of sides of the {x}?",
        ),
        "What is the number of sides of the {x}?",
        "The {x} has {y} sides.",
        SIDES,
    ),
    Relation(
        "planet",
        (
            "What is the {x} planet from the sun?",
            "Which planet is the {x} from the sun?",
            "Name the {x} planet.",
            "What is the {x} planet?",
            "Which planet is {x}?",
            "What is the name of the {x} planet?",
        ),
        "Do you know the {x} planet?",
        "The {x} planet from the sun is {y}.",
        PLANETS,
    ),
)
