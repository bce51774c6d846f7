"""What people read about an episode data set: card.md and contact-sheet.png."""
import numpy as np

import episode_files

EPISODES_PER_TASK = 3  # on the contact sheet
FRAMES = 12  # of an episode, evenly spaced; the first and the last are among them
GAP = 4  # pixels between frames


def contact_sheet(samples):
    """PNG of film strips. `samples`: {task: [(fields, [film U8 [T*H, W, 3] of each view])]}; a row is one view."""
    rows = []
    for episodes in samples.values():
        for fields, films in episodes:
            rows += [_strip(film, fields["steps"]) for film in films]
            rows.append(np.full((GAP, rows[-1].shape[1], 3), 255, np.uint8))
        rows.append(np.full((3 * GAP, rows[-1].shape[1], 3), 255, np.uint8))
    return episode_files.encode_png(np.vstack(rows))


def _strip(film, steps):
    frames = film.reshape(steps, -1, *film.shape[1:])
    height, width = frames.shape[1:3]
    strip = np.full((height + GAP, FRAMES * (width + GAP), 3), 255, np.uint8)
    shown = np.unique(np.linspace(0, steps - 1, min(steps, FRAMES)).round().astype(int))
    for column, step in enumerate(shown):
        left = column * (width + GAP)
        strip[:height, left:left + width] = frames[step]
    return strip


def card(plan, index, notes, trials):
    simulator = plan.simulator
    sections = [
        f"# {index['name']}", _what(simulator, index), "## How it was made", _made(simulator, index),
        "## Sizes", _sizes(index), "## What the expert and chance reach", _rates(plan, notes, trials),
        "## Splits", _splits(index), "## Licences", simulator.licence,
        "Who made these episodes adds no terms of their own.",
        "## Known limits", "\n".join(f"- {limit}" for limit in simulator.limits),
        "## Contact sheet", f"contact-sheet.png shows {EPISODES_PER_TASK} training episodes of each task, in the order "
        f"{', '.join(plan.tasks)}; a row for each view ({', '.join(simulator.views)}), at most {FRAMES} frames of each.",
    ]
    return "\n\n".join(sections) + "\n"


def _what(simulator, index):
    lines = [f"Demonstrations of {', '.join(index['tasks'])} by an expert: pictures, proprioception, instruction, actions.", ""]
    lines += [f"- view `{view}`, {simulator.size} x {simulator.size} RGB: {note}" for view, note in simulator.view_notes.items()]
    lines.append(f"- state: {', '.join(simulator.state_names)} ({simulator.state_note})")
    lines.append(f"- action, {simulator.action_kind}: {', '.join(simulator.action_names)}")
    if simulator.labelled_views:
        classes = ", ".join(f"{i} {name}" for i, name in enumerate(simulator.segmentation_classes))
        lines.append(f"- depth in metres along the camera's axis and segmentation ({classes}) for {', '.join(simulator.labelled_views)}")
        lines.append(f"- trajectory: how far the middle of each cell of {simulator.trajectory_cell} pixels will have moved right and "
                     f"down, in cells, {simulator.trajectory_ahead} steps later (at most at the last frame): from depth and the "
                     "simulator's bodies, so hidden points have a place too")
    return "\n".join(lines)


def _made(simulator, index):
    versions = ", ".join(f"{name} {version}" for name, version in index["packages"].items())
    return (f"`{index['command']}` with {versions}. Expert: {simulator.expert}. Only episodes that end in success are "
            "kept. Frame t and state t are what there is before action t. A level's seed fixes everything in it.")


def _sizes(index):
    lines = ["| split | episodes | steps | bytes |", "|---|---|---|---|"]
    for split, numbers in index["splits"].items():
        size = sum(shard["bytes"] for shard in index["shards"] if shard["split"] == split)
        lines.append(f"| {split} | {numbers['episodes']:,} | {numbers['steps']:,} | {size:,} |")
    return "\n".join(lines)


def _rates(plan, notes, trials):
    """Success while recording, then on unseen seeds, where nothing was selected."""
    lines = [f"Unseen: the first {plan.simulator.trials} unseen seeds of each task.", "",
             "| task | seeds recorded | expert failed | left out: starts like a training episode | expert, unseen | "
             "random actions, unseen | unseen seeds that start like a training episode |", "|---|---|---|---|---|---|---|"]
    for task in plan.tasks:
        outcomes = [note["outcome"] for split in notes for note in notes[split][task].values()]
        lines.append(f"| {task} | {len(outcomes)} | {outcomes.count('failure')} | "
                     f"{outcomes.count('starts like a training episode')} | {trials[task]['expert']:.1%} | "
                     f"{trials[task]['random']:.1%} | {trials[task]['seen']:.1%} |")
    return "\n".join(lines)


def _splits(index):
    ranges = ", ".join(f"{split} {first}..{last}" for split, (first, last) in
                       ((split, numbers["seeds"]) for split, numbers in index["splits"].items()))
    first, last = index["unseen_seeds"]
    return (f"By seed, the same ranges for each task: {ranges}; for closed-loop evaluation {first}..{last}, of which none "
            "was recorded. A held-out seed whose first frames and instruction equal those of a training episode was left out.")
