"""``python -m compare``: the command line, for ``torchrun -m compare train adafocus-v2 ...``."""

import sys

from compare.command_line.main import main

if __name__ == "__main__":
    sys.exit(main())
