#!/usr/bin/env python3
"""Prints README's table of results from a run's report.json: every number beside its baselines.

usage: docs/readme_table.py RUN
"""

import json
import sys
from pathlib import Path


def short(value, digits=3):
    return '–' if value is None else f'{value:.{digits}g}' if abs(value) < 100 else f'{value:.0f}'


def with_error(metric, digits=3):
    error = metric.get('standard_error')
    unit = f" {metric['unit']}" if metric.get('unit') else ''
    return short(metric['value'], digits) + (f' ± {short(error, 2)}' if error is not None else '') + unit


def baselines(thing):
    return ', '.join(f'{label} {short(value)}' for label, value in thing.get('baselines', {}).items())


def series(thing):
    return ' / '.join(short(value) for value in thing['values'])


def row(what, value, beside=''):
    print(f'| {what} | {value} | {beside} |')


def parts(what, section, group):
    """One row for all parts together, with what stands beside, then one for each part."""
    metrics = {name.removeprefix(f'{group}_'): metric for name, metric in section['metrics'].items()
               if name.startswith(f'{group}_')}
    if metrics:
        each = ', '.join(f'{name} {with_error(metric)}' for name, metric in metrics.items() if name != 'all')
        row(f'{what}: all parts right ({each})', with_error(metrics['all']), baselines(metrics['all']))


def main():
    report = json.loads((Path(sys.argv[1]) / 'report.json').read_text())
    codes = report['stages']['codes']['sections']
    both = report['stages']['both']['sections']
    evolution = codes['residual_evolution']
    print('| held-out images, ± standard error | | beside it |\n|---|---|---|')
    row('PSNR from 1 / 2 / 3 / 4 stages of codes (dB)', series(evolution['series']['psnr_db']),
        baselines(evolution['metrics']['psnr_db']))
    row('PSNR from all pixel stages', with_error(evolution['metrics']['psnr_db']))
    row('codes in use, worst stage', short(evolution['metrics']['code_usage']['value']))
    if 'semantic_cosine' in evolution['series']:
        values = evolution['series']['semantic_cosine']
        row('cosine to the teacher, 1 → 6 stages: meaning does not show to rise with depth',
            f"{short(values['values'][0])} → {short(values['values'][-1])}", baselines(values))
    neighbours = evolution['metrics']['label_neighbours']
    row('group by nearest neighbours in the semantic space', with_error(neighbours), baselines(neighbours))
    masked = codes['masked_patches']['metrics']
    row('squared error of masked pixels (lower is better)', with_error(masked['masked_error']), baselines(masked['masked_error']))
    if 'mimic_cosine' in masked:
        row('cosine to the teacher at visible patches', with_error(masked['mimic_cosine']), baselines(masked['mimic_cosine']))
    for name in both:
        if 'accuracy' in both[name]['metrics']:
            answered = both[name]['metrics']['accuracy']
            row(f'{name} as answered by the model', with_error(answered), baselines(answered))
    for what in ('caption', 'draw'):
        for group, label in (('training', 'training pictures'), ('new', 'new pictures of seen combinations'),
                             ('never_seen', 'never-seen combinations')):
            parts(f'{what}, {label}', both[what], group)
    caption = both['caption']['metrics']
    if 'never_seen_all' not in caption:
        row('caption exactly right, training / held-out images',
            f"{with_error(caption['exact_seen'])} / {with_error(caption['exact_unseen'])}")
    draw = both['draw']
    uniform = draw['metrics']['code_loss_unseen']
    row('loss of the true codes by stage, seen names (nats)', series(draw['series']['code_loss_seen']), baselines(uniform))
    row('loss of the true codes by stage, unseen names (nats)', series(draw['series']['code_loss_unseen']))
    if 'retrieval_seen' in draw['metrics']:
        row('seen name whose drawing is nearest to its own image: memory, not skill',
            with_error(draw['metrics']['retrieval_seen']), baselines(draw['metrics']['retrieval_seen']))
    for name, stage in report['stages'].items():
        row(f'training, stage {name}', f"{short(stage['samples_per_s'])} samples/s", f"{stage['time_s']['training']:.0f} s")


if __name__ == '__main__':
    main()
