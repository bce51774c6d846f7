"""Says how long a recipe will take on this machine, from a few steps of each of its stages.

usage: estimate_time.py ESPALIER CONFIG RANKS

Trains for real, in a folder that is thrown away, on the recipe's smallest shard: a quarter of a minute on two fast
cores, LIMIT_S at most. Steps cost the same on any data; what a stage prepares grows with the data. Always exits 0:
a number that is missing is no reason to stop a first run.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

LIMIT_S = 60
STEPS = 6


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def size_of(shards):
    return sum(Path(shard).stat().st_size for shard in shards)


def train_briefly(espalier, config, ranks, settings):
    """The exit code; None when it ran into the limit."""
    command = [espalier, 'launch', config, '-n', ranks]
    for setting in settings:
        command += ['--set', setting]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            return process.wait(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.terminate()  # it asks its ranks to stop
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
            return None


def stage_seconds(stage, recipe, run, growth):
    """What the stage will take: preparation, steps, evaluations. None when the brief run did not come so far."""
    events = lines_of(run / 'events.jsonl')
    reports = [line for line in lines_of(run / 'metrics.jsonl') if line['stage'] == stage['name']]
    started = [event for event in events if event['event'] == 'stage_started' and event['stage'] == stage['name']]
    if not started or not reports or reports[-1]['step'] < 2:
        return None
    before = [event['time'] for event in events if event['time'] < started[0]['time']]
    preparation_s = started[0]['time'] - max(before)
    step_s = reports[-1]['samples'] / reports[-1]['step'] / reports[-1]['samples_per_s']
    every = recipe.get('evaluation', {}).get('every_steps', 0)
    in_between = (stage['steps'] - 1) // every if every else 0
    final_s = sum(event['seconds'] for event in events if event['event'] == 'evaluation' and event['stage'] == stage['name'])
    # The last evaluation is of two splits, those before it of one.
    return preparation_s * growth + step_s * stage['steps'] + final_s * (1 + in_between / 2)


def estimate(espalier, config, ranks):
    recipe = tomllib.loads(Path(config).read_text())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = Path(folder) / 'run'
        settings = [f'run.directory={run}', f'stage.*.steps={STEPS}', 'stage.*.optimizer.warmup_steps=0',
                    'checkpoint.every_steps=0', 'evaluation.every_steps=0']
        growth = 1
        for name, data in recipe.get('data', {}).items():
            splits = {split: [value] if isinstance(value, str) else value for split, value in data.items()
                      if split in ('train', 'validation', 'test')}
            smallest = min((shard for shards in splits.values() for shard in shards), key=lambda shard: size_of([shard]))
            growth = max(growth, size_of(splits['train']) / size_of([smallest]))
            settings += [f'data.{name}.{split}=["{smallest}"]' for split in splits]
        print(f'trying {STEPS} steps of each stage, to tell how long training will take here', flush=True)
        code = train_briefly(espalier, config, ranks, settings)
        if code == 64:
            print('  (they could not be tried)')
            return
        seconds = {stage['name']: stage_seconds(stage, recipe, run, growth) for stage in recipe['stage']}
    known = {name: value for name, value in seconds.items() if value}
    parts = ', '.join(f'{name} {value / 60:.1f}' for name, value in known.items())
    if len(known) == len(seconds):
        print(f'training will take about {sum(known.values()) / 60:.0f} minutes on this machine ({parts})')
    elif known:
        print(f'of training, these stages will take about so many minutes on this machine: {parts}')


def main():
    try:
        estimate(*sys.argv[1:4])
    except Exception as error:  # whatever it is, the run itself will tell it better
        print(f'  (no estimate: {error})')


if __name__ == '__main__':
    main()
