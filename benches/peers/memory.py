"""Memory of this process, in bytes."""
import resource
import sys


def resident():
    """Current resident size; None if the system does not report it like Linux."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return None


def peak():
    """Peak resident size."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
