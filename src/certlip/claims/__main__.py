"""Check claims from the command line: python -m certlip.claims [NAME] [FOLDER]."""

from __future__ import annotations

import sys

from certlip import claims
from certlip.base.errors import CertlipError


def main(arguments: list[str]) -> int:
    """Print what is found of one claim, or of all; 1 for an unknown claim."""
    try:
        found = claims.check(arguments[1] if len(arguments) > 1 else f"data/{claims.FOLDER}", arguments[:1] or None)
    except CertlipError as error:
        print(f"certlip: {error}", file=sys.stderr)
        return 1
    for _, row in found.iterrows():
        print(f"{row['claim']} ({row['source']})")
        if row["reason"]:
            print(f"  {row['reason']}")
            continue
        numbers = f"claimed {row['claimed']:.6g}, proved {row['proved']:.6g} ({row['proof']})"
        print(f"  {row['what']}: {numbers}: {row['verdict']}")
        print(f"  {row['how']}. {row['repair']}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
