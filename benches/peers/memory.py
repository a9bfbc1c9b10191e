"""How much memory this process has held, in bytes."""
import resource
import sys


def resident():
    """What is resident now; None where the system does not say it as Linux does."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return None


def peak():
    """The most that ever was resident."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
