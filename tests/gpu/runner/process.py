"""Processes that end when they should, with all that they started."""

import ctypes
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LIBC = ctypes.CDLL(None)


def adopt_orphans():
    """Processes whose parents are gone become children of this one, so that stop_descendants() finds them."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def parents():
    """Parent by process, of all that are there."""
    found = {}
    for entry in Path('/proc').iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / 'stat').read_text().rpartition(')')[2].split()
        except OSError:  # it has ended meanwhile
            continue
        found[int(entry.name)] = int(fields[1])
    return found


def descendants(of):
    tree = {}
    for process, parent in parents().items():
        tree.setdefault(parent, []).append(process)
    found, open_ends = [], [of]
    while open_ends:
        children = tree.get(open_ends.pop(), [])
        found += children
        open_ends += children
    return found


def stop_descendants(of, but=()):
    """Kills all that `of` started, again and again until nothing new appears. SIGKILL ends stopped ones too."""
    for _ in range(20):
        left = [process for process in descendants(of) if process not in but]
        if not left:
            return
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.1)
        reap()


def reap():
    """Takes note of the end of orphans that were adopted. Call only while no child of one's own runs."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        pass


class Output:
    """What a process prints: the first megabyte into a file, the last lines for later."""

    LOGGED = 1 << 20

    def __init__(self, stream, log):
        self.lines = []
        self._room = self.LOGGED
        self._stream, self._log = stream, log
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self._stream:
            if self._room > 0:
                self._room -= len(line)
                self._log.write(line if self._room > 0 else '… more than is kept here\n')
                self._log.flush()
            self.lines.append(line.rstrip('\n'))
            del self.lines[:-2000]

    def finish(self):
        # A descendant that lives on may hold the pipe open.
        self._thread.join(timeout=1)


def end_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def start(command, log, **options):
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               stdin=subprocess.DEVNULL, text=True, errors='replace', start_new_session=True,
                               preexec_fn=end_with_parent, **options)
    return process, Output(process.stdout, log)
