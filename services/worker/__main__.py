"""`python -m octavo.services.worker`: one tensor-parallel rank."""

from octavo.services.worker.phases import Phases
from octavo.shared.process import Child, run_child


def main(child: Child) -> None:
    """Import torch only now: that takes seconds, which count, and may fail, which is reported."""
    phases = Phases(progress=child.alive)
    from octavo.services.worker.worker import main

    phases.end("imports")
    main(child, phases)


if __name__ == "__main__":
    run_child(main)
