"""Spelling: forwards, backwards, first and last letter, length; and made-up words."""

from __future__ import annotations

from random import Random

from octavo.services.demo.dialogue import Exchange
from octavo.services.demo.listed import listed
from octavo.services.demo.relations import Relation, any_exchange
from octavo.services.demo.subjects.words import WORDS
from octavo.services.demo.wording import phrase

ONSETS = listed(
    "b c d f g h j k l m n p r s t v w z bl br cl cr dr fl fr gl gr pl pr sh sl st th tr"
)
VOWELS = listed("a e i o u ai ea ee oa oo ou")
CODAS = listed(
    ",b,d,g,k,l,m,n,p,r,s,t,x,ck,ld,lt,nd,nk,nt,rd,rk,rt,sh,st",
    ",",
)


def letters(word: str) -> str:
    return "-".join(word)


SPELLING = (
    Relation(
        "spell",
        (
            "Spell the word {x}.",
            "Spell {x}.",
            "How do you spell {x}?",
            "How is {x} spelled?",
            "Can you spell {x}?",
            "Spell {x} letter by letter.",
            "What are the letters of {x}?",
        ),
        "I would like you to spell {x}.",
        "{x} is spelled {y}.",
        {word: letters(word) for word in WORDS},
    ),
    Relation(
        "backwards",
        (
            "Spell {x} backwards.",
            "Spell the word {x} backwards.",
            "How do you spell {x} backwards?",
            "Can you spell {x} backwards?",
            "Write {x} backwards, letter by letter.",
        ),
        "I would like you to spell {x} backwards.",
        "{x} backwards is {y}.",
        {word: letters(word[::-1]) for word in WORDS},
    ),
    Relation(
        "first letter",
        (
            "What is the first letter of {x}?",
            "Which letter does {x} begin with?",
            "Name the first letter of {x}.",
            "What letter does {x} start with?",
        ),
        "Do you know the first letter of {x}?",
        "The first letter of {x} is {y}.",
        {word: word[0] for word in WORDS},
    ),
    Relation(
        "last letter",
        (
            "What is the last letter of {x}?",
            "Which letter does {x} end with?",
            "Name the last letter of {x}.",
            "What letter does {x} end in?",
        ),
        "Do you know the last letter of {x}?",
        "The last letter of {x} is {y}.",
        {word: word[-1] for word in WORDS},
    ),
    Relation(
        "length",
        (
            "How many letters does {x} have?",
            "How many letters are in {x}?",
            "How long is the word {x}?",
            "Count the letters of {x}.",
        ),
        "What is the number of letters in {x}?",
        "{x} has {y} letters.",
        {word: str(len(word)) for word in WORDS},
    ),
)


def exchange(rng: Random) -> Exchange:
    """One example; the made-up words teach the letters of every piece of the vocabulary."""
    if rng.random() < 0.8:
        return any_exchange(SPELLING, rng)
    relation = SPELLING[rng.random() < 0.3]
    word = "".join(_syllable(rng) for _ in range(rng.randint(1, 2)))
    answer = letters(word if relation.name == "spell" else word[::-1])
    said = relation.answer.format(x=word, y=answer)
    user = phrase(rng, rng.choice(relation.cores).format(x=word))
    return Exchange(user, said[0].upper() + said[1:], answer)


def _syllable(rng: Random) -> str:
    return rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS)
