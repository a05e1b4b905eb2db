"""`python -m octavo.services.worker`: one tensor-parallel rank."""

import gc
from collections.abc import Callable
from pathlib import Path

from octavo.services.worker.checkpoint import stored_tensors
from octavo.services.worker.phases import Phases
from octavo.shared.process import Child, run_child


def main(child: Child) -> None:
    phases = Phases(progress=child.alive)
    engine = child.config.server.engine
    if engine.load_format != "dummy":
        stored_tensors(Path(engine.model))  # broken files are named before torch takes its seconds
    rank = rank_main()
    phases.end("imports")
    rank(child, phases)


def rank_main() -> Callable[[Child, Phases], None]:
    """Import torch only now: that takes seconds, which count, and may fail, which is reported. A
    fifth of them would go to the garbage collector, which finds nothing."""
    gc.disable()
    from octavo.services.worker.worker import main

    gc.enable()
    return main


if __name__ == "__main__":
    run_child(main)
