"""The parts that kills.py and mutate.py share: their arguments, and the folder that stays if something failed."""

import os
import random
import shutil
import sys
import tempfile


def arguments():
    """The program, the number of trials, random numbers from the seed, and the other words."""
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    return os.path.abspath(sys.argv[1]), int(sys.argv[2]), random.Random(seed), sys.argv[4:]


def folder(name):
    """A new folder for the files of the trials."""
    return tempfile.mkdtemp(prefix=f"polyhead-{name}-")


def end(place, failed):
    """Removes the folder, or says where it is and exits with 1 if something failed."""
    if failed:
        print(f"the files are kept in {place}")
        sys.exit(1)
    shutil.rmtree(place)
