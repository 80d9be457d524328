"""What ``monoquant demo`` promises, from an installed package. Run by ``nox -s demo``."""

import json
import subprocess
import sys


def main() -> int:
    ran = subprocess.run(["monoquant", "demo", "--json"], check=True, capture_output=True, text=True)  # noqa: S607
    sys.stdout.write(ran.stdout)
    figures = json.loads(ran.stdout)
    promises = {
        "int8 accuracy within 0.5 points of float": figures["float_accuracy"] - figures["int8_accuracy"] <= 0.5,
        "load-run passed": figures["load_test_passed"] is True,
        "the file is at least 3.5 times smaller": figures["file_ratio"] >= 3.5,
    }
    for promise, is_kept in promises.items():
        sys.stdout.write(f"{'kept' if is_kept else 'BROKEN'}: {promise}\n")
    return 0 if all(promises.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
