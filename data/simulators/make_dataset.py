#!/usr/bin/env python3
"""Runs a simulator's expert and writes its episodes as a data set: called by `prepare`, in the simulator's environment.

One finished episode is one file in OUT.partial/episodes, so a run that was killed goes on there. At the end they are
packed into OUT.partial/dataset, which is renamed to OUT: under the final name is a whole data set or nothing.
"""
import argparse
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import sys
import time
from pathlib import Path

import dataset_index
import episode_files
import rollout

# Seeds of a split start here (plus --seed-offset). A split never needs as many as lie between two of them.
FIRST_SEED = {"train": 0, "validation": 1_000_000, "test": 2_000_000, "unseen": 3_000_000}
SEEDS_OF_A_SPLIT = 1_000_000


class Plan:
    """What is asked for, and what of it is done."""

    def __init__(self, simulator, arguments):
        self.simulator = simulator
        self.out = arguments.out.resolve()
        self.partial = self.out.with_name(self.out.name + ".partial")
        self.dataset = self.partial / "dataset"
        self.tasks = arguments.tasks
        self.counts = {"train": arguments.episodes, "validation": arguments.validation, "test": arguments.test}
        self.first_seed = {split: arguments.seed_offset + seed for split, seed in FIRST_SEED.items()}
        self.noise = arguments.noise
        self.action_repeat = arguments.action_repeat
        self.command = command_line(simulator, arguments)

    def settings(self):
        return {"simulator": self.simulator.name, "packages": self.simulator.packages(), "tasks": self.tasks,
                "counts": self.counts, "first_seed": self.first_seed, "noise": self.noise,
                "action_repeat": self.action_repeat}

    def environment(self, task):
        return self.simulator.environment(task, **({"action_repeat": self.action_repeat} if self.action_repeat else {}))


def command_line(simulator, arguments):
    options = [f"--{name.replace('_', '-')} {shlex.quote(','.join(value) if isinstance(value, list) else str(value))}"
               for name, value in vars(arguments).items() if name not in ("simulator", "out") and value is not None]
    return " ".join([f"data/simulators/prepare {simulator.name} OUT", *options])


def write_atomically(path, data):
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def open_partial(plan):
    """Makes OUT.partial, or goes on in it if it was begun with the same settings."""
    settings = json.dumps(plan.settings(), indent=1, sort_keys=True)
    record = plan.partial / "plan.json"
    plan.partial.mkdir(parents=True, exist_ok=True)
    plan.lock = open(plan.partial / "lock", "w")  # held until this process ends
    try:
        fcntl.flock(plan.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"prepare: another run is building in {plan.partial}; wait for it or end it")
    if record.exists() and record.read_text() != settings:
        sys.exit(f"prepare: {plan.partial} was begun with other settings or package versions ({record} tells which). "
                 "Give those again, or remove that folder")
    needed = 2 * plan.simulator.bytes_per_episode * len(plan.tasks) * sum(plan.counts.values())  # recorded, then packed
    (plan.partial / "episodes").mkdir(exist_ok=True)
    free = shutil.disk_usage(plan.partial).free + sum(f.stat().st_size for f in plan.partial.rglob("*") if f.is_file())
    if needed > free:
        sys.exit(f"prepare: {plan.partial} needs about {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free there")
    write_atomically(record, settings.encode())
    print(f"{plan.out}: building in {plan.partial}, which takes about {needed / 1e6:,.0f} MB, half of it when complete", flush=True)


def start_digest(images, instruction):
    """What an episode is at its start, for a policy: the first frames and the instruction."""
    return hashlib.sha256(images.tobytes() + instruction.encode()).hexdigest()


def record_seed(plan, environment, split, task, seed, path):
    """Runs the expert once. Returns {"outcome": ..., "start": ...}, which is written beside the episode."""
    noise = plan.noise if split == "train" else 0.0
    episode = rollout.expert_episode(environment, task, seed, plan.simulator, noise)
    note = {"outcome": "success" if episode["fields"]["success"] else "failure", "start": start_digest(episode["images"][0], episode["fields"]["instruction"])}
    if note["outcome"] == "success":
        members = episode_files.episode_members("KEY", episode, plan.simulator.views)
        write_atomically(path.with_suffix(".tar"), episode_files.tar_members(members))
    write_atomically(path.with_suffix(".note"), json.dumps(note).encode())
    return note


def collect(plan, split, task, environment, seen):
    """Records seeds from the split's first one on until enough succeed. Returns the notes of all seeds it used.

    `seen`: digests of the starts of training episodes. A held-out episode that starts like one of them is left out.
    """
    notes, kept, began, printed = {}, 0, time.monotonic(), time.monotonic()
    fresh = 0
    seed = plan.first_seed[split]
    while kept < plan.counts[split]:
        path = plan.partial / "episodes" / f"{split}-{plan.tasks.index(task)}-{seed}.x"
        if path.with_suffix(".note").exists():
            note = json.loads(path.with_suffix(".note").read_text())
        else:
            note = record_seed(plan, environment, split, task, seed, path)
            fresh += 1
        if note["outcome"] == "success" and split != "train" and note["start"] in seen:
            note["outcome"] = "starts like a training episode"
        notes[seed] = note
        kept += note["outcome"] == "success"
        if len(notes) > 3 * plan.counts[split] + 20:
            sys.exit(f"prepare: only {kept} of {len(notes)} seeds of {task} ({split}) gave an episode; expected at "
                     "least a third. The expert does not solve this task with these settings")
        if time.monotonic() - printed > 10:
            printed = time.monotonic()
            print(f"  {split} {task}: {kept} of {plan.counts[split]} episodes, "
                  f"{fresh / (printed - began):.1f} a second", flush=True)
        seed += 1
    print(f"{split} {task}: {kept} episodes from {len(notes)} seeds, {fresh} of them run now in "
          f"{time.monotonic() - began:.0f} s", flush=True)
    return notes


def collect_all(plan):
    """{split: {task: notes}}. Training comes first: held-out episodes must not start like a training episode."""
    notes = {split: {} for split in plan.counts}
    for task in plan.tasks:
        environment = plan.environment(task)
        seen = set()
        for split in ("train", "validation", "test"):
            notes[split][task] = collect(plan, split, task, environment, seen)
            if split == "train":
                seen = {note["start"] for note in notes["train"][task].values()}
        environment.close()
    return notes


def unseen_seeds(plan):
    return [plan.first_seed["unseen"], plan.first_seed["unseen"] + SEEDS_OF_A_SPLIT - 1]


def try_unseen(plan, notes, unseen):
    """({task: rates on the first unseen seeds}, {task: most steps}). A rate "seen" is that of seeds whose start is a
    training episode's: what a closed-loop figure owes to them can be bounded by it."""
    trials, max_steps = {}, {}
    for task in plan.tasks:
        environment = plan.environment(task)
        seeds = range(unseen[0], unseen[0] + plan.simulator.trials)
        trials[task] = rollout.trials(environment, seeds)
        seen = {note["start"] for note in notes["train"][task].values()}
        trials[task]["seen"] = sum(start_of(environment, seed) in seen for seed in seeds) / len(seeds)
        max_steps[task] = environment.max_steps
        environment.close()
        print(f"  {task}: " + ", ".join(f"{name} {rate:.3f}" for name, rate in trials[task].items()), flush=True)
    return trials, max_steps


def start_of(environment, seed):
    environment.reset(seed)
    return start_digest(environment.observe()[0], environment.instruction)


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def share(text):
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and less than 1, got {text}")
    return value


def parse_arguments(simulator):
    parser = argparse.ArgumentParser(prog=f"data/simulators/prepare {simulator.name}",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the data set, made by this")
    parser.add_argument("--episodes", type=positive, default=simulator.episodes, help="training episodes per task")
    parser.add_argument("--validation", type=positive, default=simulator.held_out, help="validation episodes per task")
    parser.add_argument("--test", type=positive, default=simulator.held_out, help="test episodes per task")
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=",".join(simulator.tasks), help="separated by commas")
    parser.add_argument("--seed-offset", type=int, default=0, help="added to every seed")
    parser.add_argument("--noise", type=share, default=simulator.noise,
                        help="share of the steps of a training episode that go another way than the expert asked, which shows recovery")
    parser.add_argument("--action-repeat", type=positive, default=simulator.action_repeat,
                        help="simulator steps per action" if simulator.action_repeat else argparse.SUPPRESS)
    arguments = parser.parse_args(sys.argv[2:])
    if arguments.action_repeat and not simulator.action_repeat:
        parser.error(f"{simulator.name} has no --action-repeat")
    if max(arguments.episodes, arguments.validation, arguments.test) * 3 + 20 > SEEDS_OF_A_SPLIT:
        parser.error(f"at most {(SEEDS_OF_A_SPLIT - 20) // 3} episodes per task and split")
    if arguments.seed_offset < 0 or arguments.seed_offset + FIRST_SEED["unseen"] + SEEDS_OF_A_SPLIT > 2**31:
        parser.error(f"--seed-offset must be from 0 to {2**31 - FIRST_SEED['unseen'] - SEEDS_OF_A_SPLIT}")
    if len(set(arguments.tasks)) != len(arguments.tasks):
        parser.error(f"--tasks names one twice: {','.join(arguments.tasks)}")
    return arguments


def main():
    simulator = rollout.load_simulator(sys.argv[1])
    plan = Plan(simulator, parse_arguments(simulator))
    if plan.out.exists():
        if not (plan.out / "index.json").exists():
            sys.exit(f"prepare: {plan.out} exists and is no data set; name a folder that does not exist")
        made = json.loads((plan.out / "index.json").read_text())
        if made["command"] != plan.command or made["packages"] != simulator.packages():
            sys.exit(f"prepare: {plan.out} holds a data set made by '{made['command']}' with {made['packages']}; "
                     "remove it or name another folder")
        print(f"{plan.out} is complete: {made['splits']}")
        shutil.rmtree(plan.partial, ignore_errors=True)  # of a run that was killed after its last rename
        return
    for task in plan.tasks:
        plan.environment(task).close()  # a wrong name stops here, before any work
    open_partial(plan)
    began = time.monotonic()
    notes = collect_all(plan)
    print("expert and random actions on unseen seeds, and starts that occur in training", flush=True)
    unseen = unseen_seeds(plan)
    trials, max_steps = try_unseen(plan, notes, unseen)
    dataset_index.pack(plan, notes, trials, max_steps, unseen)
    os.rename(plan.dataset, plan.out)
    shutil.rmtree(plan.partial)
    print(f"{plan.out}: complete after {time.monotonic() - began:.0f} s of this run")


if __name__ == "__main__":
    try:
        main()
    except ValueError as problem:
        sys.exit(f"prepare: {problem}")
