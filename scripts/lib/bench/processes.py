"""CPU time and memory of a daemon with all its processes."""
import os
import re

TICKS = os.sysconf("SC_CLK_TCK")


def stat(pid):
    """The fields of /proc/PID/stat after the name; none of a process that is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def tree(root):
    """The process and all below it that live."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := stat(name)):
            children.setdefault(int(fields[1]), []).append(int(name))
    found, ahead = [], [root]
    while ahead:
        pid = ahead.pop()
        found.append(pid)
        ahead += children.get(pid, [])
    return found


def cpu_seconds(root):
    """Of those that live, and of their children that have ended."""
    fields = [found for pid in tree(root) if (found := stat(pid))]
    return sum(int(it[at]) for it in fields for at in (11, 12, 13, 14)) / TICKS


def peak_mib(root):
    """The sum of what each had at its most: no less than what all had at once."""
    total = 0
    for pid in tree(root):
        try:
            with open(f"/proc/{pid}/status") as file:
                found = re.search(r"VmHWM:\s+(\d+)", file.read())
            total += int(found[1]) if found else 0
        except OSError:
            pass
    return total / 1024
