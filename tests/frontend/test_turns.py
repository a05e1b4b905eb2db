"""Who gets a helper next, also when some leave."""

from __future__ import annotations

import asyncio

from octavo.services.frontend.turns import Turns


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_the_one_whose_turn_is_longest_ago_comes_next() -> None:
    async def main() -> None:
        turns, order = Turns("x"), []

        async def use(owner: str) -> None:
            thing = await turns.take(owner)
            order.append(owner)
            await asyncio.sleep(0)
            turns.give_back(owner, thing)

        await asyncio.gather(*(use(owner) for owner in "aaaabbc"))
        assert "".join(order) == "abcabaa"
        assert not turns._waiting and not turns._last and not turns._held

    asyncio.run(main())


def test_who_leaves_takes_nothing_along() -> None:
    async def main() -> None:
        turns = Turns("x")
        first = await turns.take("a")
        waiting = [asyncio.create_task(turns.take(owner)) for owner in "bbc"]
        await settle()
        waiting[0].cancel()
        waiting[2].cancel()
        await settle()
        assert turns.num_waiting("b") == 1 and turns.num_waiting("c") == 0
        turns.give_back("a", first)
        waiting[1].cancel()  # it has got it, and does not know
        await settle()
        assert await turns.take("d") == "x"
        turns.give_back("d", "x")
        assert not turns._waiting and not turns._last and not turns._held

    asyncio.run(main())
