"""The size budget counts what it says, and fails where it should."""

from __future__ import annotations

from pathlib import Path

import pytest
import size


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def function(lines: int, name: str = "f") -> str:
    return f"def {name}():\n" + "    x = 1\n" * (lines - 1)


def test_counts(tmp_path: Path) -> None:
    text = "@decorated\n" + function(3) + "class A:\n    async def g(self): pass\n"
    files = size.measure(tree(tmp_path, {"shared/a.py": text, "tests/b.py": function(99)}))
    assert [(file.num_lines, file.functions) for file in files] == [(6, {"f:2": 3, "g:6": 1})]


@pytest.mark.parametrize(
    ("files", "code", "says"),
    [
        ({"shared/a.py": function(9)}, 0, ""),
        ({"shared/a.py": "x = 1\n" * 450}, 0, "warning: shared/a.py has 450 lines"),
        ({"services/b/a.py": "x = 1\n" * 501}, 1, "error: services/b/a.py: 501 lines"),
        ({"shared/a.py": function(61) + function(2, "g") * 2}, 1, "function f:1 has 61 lines"),
        ({"kernels/a.py": function(10)}, 1, "median 10 and p90 10 lines"),
        ({"kernels/a.py": function(2) * 8 + function(31) * 3}, 1, "median 2 and p90 31"),
    ],
)
def test_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], code: int, says: str
) -> None:
    assert size.main(tree(tmp_path, files)) == code
    shown = capsys.readouterr()
    assert says in shown.out + shown.err


def test_the_product_is_within_budget(capsys: pytest.CaptureFixture[str]) -> None:
    assert size.main(Path(size.__file__).parent.parent) == 0, capsys.readouterr().err
