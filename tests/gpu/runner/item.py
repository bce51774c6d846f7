"""One thing that is shown, in a process and a time limit of its own."""

import dataclasses
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Callable

from . import process

PASSED, FAILED, TIMEOUT, NO_GPU, SKIPPED = 'passed', 'failed', 'timeout', 'no GPU', 'skipped'
NO_GPU_EXIT = 77  # of the bundle's programs


class Failed(Exception):
    """What should have held does not; the message says what was seen."""


class NoGpu(Exception):
    pass


class Skipped(Exception):
    """The machine lacks something other than a GPU; the message says what."""


@dataclasses.dataclass(frozen=True)
class Item:
    name: str
    shows: str  # in a sentence, for the report
    limit_s: float
    body: Callable
    needs_gpu: bool = True


class Context:
    """What a body works with: the machine, a folder of its own, figures that outlast a timeout."""

    def __init__(self, machine, work, name, deadline):
        self.machine, self.gpu = machine, machine.gpu
        self.work = Path(work) / name
        self.work.mkdir(parents=True, exist_ok=True)
        self.shared = Path(work)
        self.deadline = deadline  # by time.monotonic()
        self.root = machine.root

    def left_s(self):
        return self.deadline - time.monotonic()

    def figure(self, **figures):
        with open(self.work / 'figures.jsonl', 'a') as file:
            print(json.dumps(figures), file=file)

    def run(self, *command, check=True, environment=None, limit_s=None):
        """Runs a program to its end in the bundle's folder; what it prints is part of the item's output."""
        ended = self.start(*command, environment=environment).wait(limit_s or max(1, self.left_s()))
        if ended.code == NO_GPU_EXIT:
            raise NoGpu(ended.lines[-1] if ended.lines else '')
        if check and ended.code != 0:
            raise Failed(f"{Path(str(command[0])).name} ended with {ended.code}: {ended.why()}")
        return ended

    def start(self, *command, environment=None):
        print('+', *command, flush=True)
        return Running(command, environment or self.machine.environment(), self.root)

    def checks(self, *arguments, ranks=0, check=True, **more):
        """gpu_checks, and the JSON that it answers with."""
        launcher = ('mpirun', '-n', ranks) if ranks else ()
        ended = self.run(*launcher, self.root / 'bin' / 'gpu_checks', *arguments, check=check,
                         environment=self.machine.environment(**more))
        return ended.json()


class Running:
    def __init__(self, command, environment, folder):
        self.process, self.output = process.start(command, sys.stdout, env=environment, cwd=folder)

    def wait(self, seconds):
        try:
            self.process.wait(seconds)
        except Exception as late:
            raise Failed(f"still running after {seconds:.0f} s") from late
        self.output.finish()
        return Ended(self.process.returncode, self.output.lines)

    def signal(self, number):
        os.kill(self.process.pid, number)

    def is_running(self):
        return self.process.poll() is None


@dataclasses.dataclass
class Ended:
    code: int
    lines: list

    def json(self):
        for line in reversed(self.lines):
            if line.startswith('{'):
                return json.loads(line)
        raise Failed(f"no answer in JSON (exit {self.code}): {self.why()}")

    def why(self):
        """The line that says most: an error, or else the last one."""
        told = [line for line in self.lines if line.strip()]
        errors = [line for line in told if 'error' in line.lower() or line.startswith('gpu_checks:')]
        return (errors or told or ['it said nothing'])[-1].strip()[:400]


def run_body(item, context):
    """In the item's own process. Leaves result.json in its folder."""
    try:
        if item.needs_gpu and not context.gpu:
            raise NoGpu('')
        note = item.body(context)
        status, why = PASSED, note or ''
    except NoGpu as none:
        status, why = NO_GPU, str(none)
    except Skipped as lack:
        status, why = SKIPPED, str(lack)
    except Failed as failure:
        status, why = FAILED, str(failure)
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        status, why = FAILED, f"{type(error).__name__}: {error}"
    (context.work / 'result.json').write_text(json.dumps(dict(status=status, why=why)))


def figures_of(folder):
    figures = {}
    if (folder / 'figures.jsonl').exists():
        for line in (folder / 'figures.jsonl').read_text().splitlines():
            figures.update(json.loads(line))
    return figures


def run_item(item, command, work, limit_s, log):
    """Runs `command`, which calls run_body(item), within `limit_s`, and says how it ended."""
    folder = Path(work) / item.name
    started = time.monotonic()
    # The body gets a little less, to end by itself and say where it was.
    child, output = process.start([*command, '--seconds', f'{max(1.0, limit_s - 2):.1f}'], log)
    try:
        child.wait(limit_s)
        timed_out = False
    except Exception:
        timed_out = True
    process.stop_descendants(os.getpid())
    if timed_out:
        child.wait()
    output.finish()
    child.stdout.close()
    seconds = time.monotonic() - started
    result = folder / 'result.json'
    if result.exists():
        answer = json.loads(result.read_text())
    elif timed_out:
        answer = dict(status=TIMEOUT, why=f'did not end within {limit_s:.0f} s')
    else:
        code = child.returncode
        said = signal.Signals(-code).name if code < 0 else f'exit status {code}'
        answer = dict(status=FAILED, why=f'its process ended with {said} and left no result')
    return dict(item=item.name, shows=item.shows, status=answer['status'], why=answer['why'], seconds=round(seconds, 1),
                limit_s=round(limit_s, 1), figures=figures_of(folder), last_lines=[line[:300] for line in output.lines[-12:]])
