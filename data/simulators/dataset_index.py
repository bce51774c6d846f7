"""Packs recorded episodes into shards and writes the index, the data card and the contact sheet."""
import hashlib
import json
import shutil

import numpy as np

import data_card
import episode_files

SHARD_BYTES = 64 << 20
MIN_STD = 1e-3  # what never changes is not blown up by a division


class ShardWriter:
    """Writes episodes into tars of at most SHARD_BYTES (or one episode) and notes where each lies."""

    def __init__(self, folder, split):
        self.folder, self.split, self.shards, self.file = folder, split, [], None

    def add(self, data, entry):
        if self.file is not None and self.file.tell() + len(data) + len(episode_files.TAR_END) > SHARD_BYTES:
            self.close()
        if self.file is None:
            name = f"{self.split}-{len(self.shards):05d}.tar"
            self.file = open(self.folder / name, "w+b")
            self.shards.append({"file": name, "split": self.split, "bytes": 0, "sha256": "", "episodes": []})
        self.shards[-1]["episodes"].append(
            {"key": entry["key"], "offset": self.file.tell(), "bytes": len(data), "task": entry["task"], "steps": entry["steps"]})
        self.file.write(data)

    def close(self):
        if self.file is None:
            return
        self.file.write(episode_files.TAR_END)
        self.shards[-1]["bytes"] = self.file.tell()
        self.file.seek(0)
        self.shards[-1]["sha256"] = hashlib.file_digest(self.file, "sha256").hexdigest()
        self.file.close()
        self.file = None


class Moments:
    """Mean and standard deviation per column, gathered in float64."""

    def __init__(self, columns):
        self.count, self.sum, self.squares = 0, np.zeros(columns), np.zeros(columns)

    def add(self, rows):
        rows = rows.astype(np.float64)
        self.count += len(rows)
        self.sum += rows.sum(0)
        self.squares += (rows**2).sum(0)

    def mean(self):
        return self.sum / self.count

    def std(self):
        return np.maximum(np.sqrt(np.maximum(self.squares / self.count - self.mean()**2, 0)), MIN_STD)


def kept_paths(plan, notes, split):
    """Files of the split's episodes, dealt out over the tasks, so that each part of a shard holds every task."""
    by_task = []
    for number, task in enumerate(plan.tasks):
        seeds = [seed for seed, note in notes[split][task].items() if note["outcome"] == "success"]
        by_task.append([plan.partial / "episodes" / f"{split}-{number}-{seed}.tar" for seed in seeds])
    return [path for row in zip(*by_task, strict=True) for path in row]


class Packer:
    def __init__(self, plan):
        self.plan, self.key, self.shards, self.samples, self.splits = plan, 0, [], {}, {}
        self.words = set()
        self.actions = Moments(len(plan.simulator.action_names))
        self.state = Moments(len(plan.simulator.state_names))

    def pack(self, split, notes):
        writer = ShardWriter(self.plan.dataset, split)
        steps = 0
        for path in kept_paths(self.plan, notes, split):
            members = [(name.replace("KEY", f"{self.key:08d}", 1), data)
                       for name, data in episode_files.read_tar(path.read_bytes())]
            fields = json.loads(members[0][1])
            entry = {"key": f"{self.key:08d}", "task": fields["task"], "steps": fields["steps"]}
            writer.add(episode_files.tar_members(members), entry)
            steps += fields["steps"]
            if split == "train":
                self._count(fields, members)
            self.key += 1
        writer.close()
        self.shards += writer.shards
        seeds = [seed for task in self.plan.tasks for seed in notes[split][task]]
        self.splits[split] = {"seeds": [min(seeds), max(seeds)],
                              "episodes": sum(len(shard["episodes"]) for shard in writer.shards), "steps": steps}

    def _count(self, fields, members):
        tensors = episode_files.decode_safetensors(members[-1][1])
        self.actions.add(tensors["actions"])
        self.state.add(tensors["state"])
        self.words.update(fields["instruction"].lower().split())
        sample = self.samples.setdefault(fields["task"], [])
        if len(sample) < data_card.EPISODES_PER_TASK:
            sample.append((fields, [episode_files.decode_png(data) for _, data in members[1:-1]]))


def pack(plan, notes, trials, max_steps, unseen):
    simulator = plan.simulator
    shutil.rmtree(plan.dataset, ignore_errors=True)  # of a run that was killed while it packed
    plan.dataset.mkdir()
    packer = Packer(plan)
    for split in notes:
        packer.pack(split, notes)
    index = {
        "format": "espalier-episodes", "version": 1,
        "name": simulator.dataset_name, "simulator": simulator.name, "packages": simulator.packages(),
        "expert": simulator.expert, "command": plan.command,
        "image": {"views": simulator.views, "height": simulator.size, "width": simulator.size, "channels": 3},
        "state": {"size": len(simulator.state_names), "names": simulator.state_names},
        "action": {"kind": simulator.action_kind, "size": len(simulator.action_names), "names": simulator.action_names},
        "depth": simulator.labelled_views, "segmentation": simulator.labelled_views,
        **({"trajectory": {"views": simulator.labelled_views, "ahead": simulator.trajectory_ahead,
                           "cell": simulator.trajectory_cell}} if simulator.labelled_views else {}),
        "tasks": plan.tasks, "max_steps": max_steps, "words": sorted(packer.words),
        "action_mean": packer.actions.mean().tolist(), "action_std": packer.actions.std().tolist(),
        "state_mean": packer.state.mean().tolist(), "state_std": packer.state.std().tolist(),
        "splits": packer.splits, "unseen_seeds": unseen, "shards": packer.shards,
    }
    (plan.dataset / "contact-sheet.png").write_bytes(data_card.contact_sheet(packer.samples))
    (plan.dataset / "card.md").write_text(data_card.card(plan, index, notes, trials))
    (plan.dataset / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    print(f"packed {sum(s['bytes'] for s in packer.shards) / 1e6:.0f} MB into {len(packer.shards)} shards", flush=True)
