"""The report, as JSON for programs and as Markdown for people; both are whole after every item."""

import json
import os
from pathlib import Path

from .item import FAILED, NO_GPU, PASSED, SKIPPED, TIMEOUT

ORDER = (PASSED, FAILED, TIMEOUT, NO_GPU, SKIPPED)


def write(path, text):
    partial = path.with_name(path.name + '.partial')
    partial.write_text(text)
    os.replace(partial, path)


def short(value):
    if isinstance(value, float):
        return f'{value:.4g}'
    if isinstance(value, dict):
        return ', '.join(f'{name} {short(inner)}' for name, inner in value.items())
    if isinstance(value, list):
        return ' '.join(short(inner) for inner in value[:6]) + (' …' if len(value) > 6 else '')
    return str(value)


def cell(text):
    return text.replace('|', '\\|').replace('\n', ' ')


class Report:
    def __init__(self, folder, machine, bundle, planned):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.head = dict(machine=machine, bundle=bundle)
        self.planned = planned
        self.items = []
        self.seconds = 0.0
        self.save()

    def add(self, result, seconds):
        self.items.append(result)
        self.seconds = seconds
        self.save()

    def counts(self):
        return {status: sum(item['status'] == status for item in self.items) for status in ORDER}

    def summary(self):
        return ', '.join(f'{count} {status}' for status, count in self.counts().items() if count or status in (PASSED, FAILED))

    def save(self):
        done = [item['item'] for item in self.items]
        missing = [name for name in self.planned if name not in done]
        everything = self.head | dict(seconds=round(self.seconds, 1), counts=self.counts(), not_run_yet=missing, items=self.items)
        write(self.folder / 'gpu_report.json', json.dumps(everything, indent=1) + '\n')
        write(self.folder / 'gpu_report.md', self.markdown(missing))

    def markdown(self, missing):
        machine, lines = self.head['machine'], ['# What the GPU showed', '']
        lines += [f'* {name}: {short(value)}' for name, value in machine.items()]
        lines += [f'* bundle: {short(self.head["bundle"])}', '', f'{self.summary()}; {self.seconds:.0f} s.']
        if missing:
            lines += ['', f'Not run: {", ".join(missing)}.']
        lines += ['', '| item | status | seconds | why |', '|---|---|---|---|']
        lines += [f"| {i['item']} | {i['status']} | {i['seconds']} | {cell(i['why'])} |" for i in self.items]
        for item in self.items:
            lines += ['', f"## {item['item']}: {item['status']}", '', item['shows']]
            lines += [f'* {name}: {short(value)}' for name, value in item['figures'].items()]
            if item['status'] in (FAILED, TIMEOUT):
                lines += ['', '```', *item['last_lines'], '```']
        return '\n'.join(lines) + '\n'
