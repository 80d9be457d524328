"""``python -m mono_quant`` is the ``monoquant`` command."""

import sys

from mono_quant.cli import main

if __name__ == "__main__":
    sys.exit(main())
