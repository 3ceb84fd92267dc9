"""The copies of the network's file: `make copies` writes them, tests/test_copies.py compares."""

import re
from pathlib import Path

from mhnet.checkpoints import source

ROOT = Path(__file__).resolve().parent.parent
ORIGINAL = ROOT / "mhnet" / "models" / "mhnet.py"
N_FEAT = {"Deblurring": 64, "Deraining": 40}


def copies() -> dict[Path, str]:
    """Each file that is derived from the network's, and what it must hold."""
    text = ORIGINAL.read_text(encoding="utf-8")
    made = {ROOT / room / "MHNet.py": source.N_FEAT.sub(f"    n_feat: int = {n}", text) for room, n in N_FEAT.items()}
    path = Path(source.__file__)
    digests = path.read_text(encoding="utf-8")
    for name in source.PUBLISHED:
        code = source.code_of((ORIGINAL.parent / name).read_text(encoding="utf-8"))
        digests = re.sub(rf'"{name}": "\w*"', f'"{name}": "{source.digest(code)}"', digests)
    return made | {path: digests}


if __name__ == "__main__":
    for path, text in copies().items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")
