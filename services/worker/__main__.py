"""`python -m octavo.services.worker`: one tensor-parallel rank."""

from octavo.services.worker.worker import main
from octavo.shared.process import run_child

if __name__ == "__main__":
    run_child(main)
