#!/usr/bin/env python3
"""Expert demonstrations and the bridge, with the real simulator: simulators_test.py babyai|metaworld.

Runs in the environment that `data/simulators/prepare NAME --environment-only` makes. Without it nothing is tested, and
the exit code is 77, which CTest shows as skipped.
"""
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIMULATORS = ROOT / "data/simulators"
NAME = sys.argv[1] if len(sys.argv) > 1 else "babyai"
ENVIRONMENT = ROOT / f".deps/simulators-{NAME}"
SKIPPED = 77


def enter_environment():
    python = ENVIRONMENT / "bin/python"
    wanted = hashlib.sha256((SIMULATORS / f"{NAME}.txt").read_bytes()).hexdigest()
    complete = ENVIRONMENT / "complete"
    if not complete.exists() or complete.read_text().strip() != wanted:
        print(f"SKIPPED: {ENVIRONMENT} is missing or of other versions; "
              f"'data/simulators/prepare {NAME} --environment-only' makes it")
        sys.exit(SKIPPED)
    if Path(sys.prefix).resolve() != ENVIRONMENT.resolve():
        environment = {"MUJOCO_GL": "egl", **os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        os.execve(python, [str(python), *sys.argv], environment)


enter_environment()
sys.path.insert(0, str(SIMULATORS))
import numpy as np

import episode_files
import make_dataset
import rollout

TASKS = {"babyai": ["BabyAI-GoToObj-v0", "BabyAI-GoToLocal-v0"], "metaworld": ["reach-v3"]}[NAME]
simulator = rollout.load_simulator(NAME)


def prepare(out, *options):
    return [SIMULATORS / "prepare", NAME, out, "--episodes", "4", "--validation", "1", "--test", "2",
            "--noise", "0.3", "--tasks", ",".join(TASKS), *options]


def run_prepare(out, *options):
    return subprocess.run(prepare(out, *options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Episode:
    """One episode of a data set, read where the index says it lies."""

    def __init__(self, folder, shard, entry):
        with open(folder / shard["file"], "rb") as file:
            file.seek(entry["offset"])
            self.bytes = file.read(entry["bytes"])
        self.members = episode_files.read_tar(self.bytes)
        self.fields = json.loads(self.members[0][1])
        films = [episode_files.decode_png(data) for _, data in self.members[1:-1]]
        self.images = np.stack([film.reshape(entry["steps"], -1, *film.shape[1:]) for film in films], axis=1)
        self.tensors = episode_files.decode_safetensors(self.members[-1][1])
        self.executed = self.tensors["actions"].copy()
        for step, action in self.fields.get("disturbed", {}).items():
            self.executed[int(step)] = action


class WithDataset(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.out = Path(cls.folder.name) / "episodes"
        result = run_prepare(cls.out)
        if result.returncode != 0:
            raise RuntimeError(result.stdout)
        cls.index = json.loads((cls.out / "index.json").read_text())

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def episodes(self, split=None):
        for shard in self.index["shards"]:
            for entry in shard["episodes"]:
                if split in (None, shard["split"]):
                    yield shard, entry, Episode(self.out, shard, entry)


class Dataset(WithDataset):
    def test_offsets_point_at_headers_and_spans_end_at_the_next_one(self):
        for shard in self.index["shards"]:
            data = (self.out / shard["file"]).read_bytes()
            self.assertEqual(len(data), shard["bytes"])
            self.assertEqual(hashlib.sha256(data).hexdigest(), shard["sha256"])
            position = 0
            for entry in shard["episodes"]:
                self.assertEqual(entry["offset"], position)
                self.assertEqual(data[position:position + 13].decode(), entry["key"] + ".json")
                self.assertEqual(data[position + 257:position + 262], b"ustar")
                position += entry["bytes"]
            self.assertEqual(data[position:], bytes(1024))

    def test_each_episode_has_the_agreed_members_in_order_and_of_the_agreed_shapes(self):
        size, views, keys = simulator.size, simulator.views, []
        for shard, entry, episode in self.episodes():
            key, steps = entry["key"], entry["steps"]
            keys.append(key)
            self.assertEqual([name for name, _ in episode.members],
                             [f"{key}.json", *(f"{key}.{view}.png" for view in views), f"{key}.safetensors"])
            self.assertEqual(episode.images.shape, (steps, len(views), size, size, 3))
            shapes = {name: (tensor.dtype.str, tensor.shape) for name, tensor in episode.tensors.items()}
            expected = {"actions": ("<f4", (steps, self.index["action"]["size"])),
                        "state": ("<f4", (steps, self.index["state"]["size"]))}
            for view in self.index["depth"]:
                expected[f"depth.{view}"] = ("<f4", (steps, size, size))
                expected[f"segmentation.{view}"] = ("|u1", (steps, size, size))
                cells = size // self.index["trajectory"]["cell"]
                expected[f"trajectory.{view}"] = ("<f4", (steps, cells, cells, 2))
            self.assertEqual(shapes, expected)
            self.assertEqual((episode.fields["task"], episode.fields["steps"], episode.fields["success"]),
                             (entry["task"], steps, True))
        self.assertEqual(keys, [f"{i:08d}" for i in range(7 * len(TASKS))])

    def test_actions_are_one_hot_or_between_minus_one_and_one(self):
        for _, _, episode in self.episodes():
            actions = episode.tensors["actions"]
            if self.index["action"]["kind"] == "discrete":
                self.assertTrue(((actions == 0) | (actions == 1)).all() and (actions.sum(1) == 1).all())
            else:
                self.assertLessEqual(np.abs(actions).max(), 1)

    def test_statistics_and_words_are_those_of_the_training_split(self):
        train = [episode for _, _, episode in self.episodes("train")]
        for tensor, name in (("actions", "action"), ("state", "state")):
            rows = np.concatenate([episode.tensors[tensor] for episode in train]).astype(np.float64)
            np.testing.assert_allclose(self.index[f"{name}_mean"], rows.mean(0), atol=1e-6)
            np.testing.assert_allclose(self.index[f"{name}_std"], np.maximum(rows.std(0), 1e-3), atol=1e-6)
        self.assertEqual(self.index["words"], sorted({w for e in train for w in e.fields["instruction"].lower().split()}))

    def test_splits_share_no_seed_and_no_start_and_leave_the_unseen_seeds_alone(self):
        splits = self.index["splits"]
        ranges = sorted([*(split["seeds"] for split in splits.values()), self.index["unseen_seeds"]])
        for (_, last), (first, _) in zip(ranges, ranges[1:]):
            self.assertLess(last, first)
        starts = {}
        for shard, entry, episode in self.episodes():
            first, last = splits[shard["split"]]["seeds"]
            self.assertTrue(first <= episode.fields["seed"] <= last)
            start = make_dataset.start_digest(episode.images[0], episode.fields["instruction"])
            starts.setdefault(shard["split"], set()).add((entry["task"], start))
        self.assertFalse(starts["train"] & (starts["validation"] | starts["test"]))

    @unittest.skipUnless(simulator.labelled_views, f"{NAME} has no trajectories")
    def test_trajectories_lead_to_where_the_drawn_things_are(self):
        cell, ahead = self.index["trajectory"]["cell"], self.index["trajectory"]["ahead"]
        background = simulator.segmentation_classes.index("background")
        kept, moved, longest = 0, 0, 0.0
        for _, _, episode in self.episodes("test"):
            moves, classes = episode.tensors["trajectory.primary"], episode.tensors["segmentation.primary"]
            middle = np.arange(cell // 2, simulator.size, cell)
            here = classes[:, middle][:, :, middle]
            # The camera stands still, and so does the table.
            self.assertLess(np.abs(moves[here == background]).max(), 1e-3)
            self.assertLess(np.abs(moves[-1]).max(), 1e-4)
            for t in range(episode.fields["steps"] - ahead):
                for row, column in np.argwhere(here[t] != background):
                    right, down = np.array([column, row]) * cell + cell // 2 + 0.5 + moves[t, row, column] * cell
                    if np.abs(moves[t, row, column]).max() < 0.5 or not (0 <= right < simulator.size and 0 <= down < simulator.size):
                        continue
                    moved += 1
                    kept += classes[t + ahead, int(down), int(right)] == here[t, row, column]
                    longest = max(longest, np.abs(moves[t, row, column]).max())
        self.assertGreater(moved, 20)
        self.assertGreater(kept / moved, 0.75)  # the others are hidden then
        self.assertLess(longest, simulator.size / cell)

    @unittest.skipUnless(simulator.labelled_views, f"{NAME} has no depth and no segmentation")
    def test_depth_and_segmentation_agree_with_what_the_scene_holds(self):
        for _, _, episode in self.episodes("test"):
            for view in self.index["depth"]:
                depth, classes = episode.tensors[f"depth.{view}"], episode.tensors[f"segmentation.{view}"]
                self.assertTrue(np.isfinite(depth).all() and depth.min() > 0)
                self.assertLess(classes.max(), len(simulator.segmentation_classes))
                # The arm and the table are nearer than a metre and a half to both cameras.
                self.assertTrue(0.01 < np.median(depth) < 1.5)
            if "primary" in self.index["segmentation"]:
                goal = simulator.segmentation_classes.index("goal")
                self.assertTrue((episode.tensors["segmentation.primary"][0] == goal).sum() >= 3)

    def test_the_same_command_finds_it_complete_and_another_one_is_refused(self):
        before = contents(self.out)
        again, other = run_prepare(self.out), run_prepare(self.out, "--seed-offset", "5")
        self.assertEqual((again.returncode, "is complete" in again.stdout), (0, True), again.stdout)
        self.assertNotEqual(other.returncode, 0)
        self.assertIn("holds a data set made by", other.stdout)
        self.assertEqual(contents(self.out), before)

    def test_a_killed_run_leaves_nothing_under_the_final_name_and_goes_on_to_equal_bytes(self):
        out = self.out.with_name("killed")
        process = subprocess.Popen(prepare(out), stdout=subprocess.DEVNULL, start_new_session=True)
        recorded = out.with_name("killed.partial") / "episodes"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(list(recorded.glob("*.note"))) < 2:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.assertFalse(out.exists())
        self.assertGreaterEqual(len(list(recorded.glob("*.note"))), 2)
        mixed = run_prepare(out, "--seed-offset", "5")
        self.assertNotEqual(mixed.returncode, 0)
        self.assertIn("was begun with other settings", mixed.stdout)
        result = run_prepare(out)
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertEqual(contents(out), contents(self.out))
        self.assertFalse(recorded.parent.exists())

    def test_a_task_that_does_not_exist_is_refused_by_name(self):
        result = run_prepare(self.out.with_name("none"), "--tasks", "no-such-task")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("no-such-task", result.stdout)
        self.assertFalse(list(self.out.parent.glob("none*")))


class Bridge:
    """The trainer's side of the socket."""

    def __init__(self, folder):
        self.path = str(Path(folder) / "bridge.socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path)
            listener.listen(1)
            listener.settimeout(60)
            self.process = subprocess.Popen([sys.executable, SIMULATORS / "bridge.py", "--simulator", NAME, "--socket", self.path])
            self.connection, _ = listener.accept()
        self.connection.settimeout(120)
        self.hello = self.receive()[0]

    def receive(self):
        def exactly(count):
            data = b""
            while len(data) < count:
                part = self.connection.recv(count - len(data))
                if not part:
                    raise EOFError("the bridge closed the socket")
                data += part
            return data
        text, payload = struct.unpack("<II", exactly(8))
        return json.loads(exactly(text)), exactly(payload)

    def ask_raw(self, text, payload=b""):
        self.connection.sendall(struct.pack("<II", len(text), len(payload)) + text + payload)
        return self.receive()

    def ask(self, payload=b"", **message):
        return self.ask_raw(json.dumps(message).encode(), payload)

    def observation(self, payload, count):
        split = count * len(simulator.views) * simulator.size**2 * 3
        images = np.frombuffer(payload[:split], np.uint8).reshape(count, -1, simulator.size, simulator.size, 3)
        return images, np.frombuffer(payload[split:], "<f4").reshape(count, -1)

    def end(self):
        self.connection.close()
        return self.process.wait(timeout=60)


class BridgeReplaysEpisodes(WithDataset):
    def setUp(self):
        self.socket_folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.socket_folder.cleanup)
        self.bridge = Bridge(self.socket_folder.name)
        self.addCleanup(self.bridge.end)

    def test_what_was_done_gives_the_recorded_frames_bit_for_bit_and_success(self):
        for split in ("train", "test"):
            episodes = [episode for _, entry, episode in self.episodes(split) if entry["task"] == TASKS[-1]]
            self.assertEqual(any(e.fields.get("disturbed") for e in episodes), split == "train")
            self.check_replay(episodes)

    def check_replay(self, episodes):
        answer, payload = self.bridge.ask(do="reset", task=TASKS[-1], seeds=[e.fields["seed"] for e in episodes])
        self.assertEqual(answer["instructions"], [e.fields["instruction"] for e in episodes])
        self.assertEqual((answer["views"], answer["height"], answer["width"], answer["state_size"]),
                         (simulator.views, simulator.size, simulator.size, self.index["state"]["size"]))
        last = max(e.fields["steps"] for e in episodes)
        for step in range(last):
            images, state = self.bridge.observation(payload, len(episodes))
            actions = np.zeros((len(episodes), self.index["action"]["size"]), "<f4")
            for i, episode in enumerate(episodes):
                if step < episode.fields["steps"]:
                    np.testing.assert_array_equal(images[i], episode.images[step])
                    np.testing.assert_array_equal(state[i], episode.tensors["state"][step])
                    actions[i] = episode.executed[step]
            answer, payload = self.bridge.ask(actions.tobytes(), do="step")
            self.assertEqual(answer["ended"], [step + 1 >= e.fields["steps"] for e in episodes])
        self.assertEqual(answer["success"], [True] * len(episodes))

    def test_a_disturbed_step_still_holds_what_the_expert_asked(self):
        _, _, episode = next(found for found in self.episodes("train") if found[2].fields["disturbed"])
        environment = simulator.environment(episode.fields["task"])
        environment.reset(episode.fields["seed"])
        for asked, done in zip(episode.tensors["actions"], episode.executed):
            np.testing.assert_array_equal(environment.expert_action(), asked)
            environment.step(done)
        environment.close()

    def test_an_environment_that_has_ended_repeats_its_last_frame(self):
        _, _, episode = next(self.episodes("test"))
        self.bridge.ask(do="reset", task=TASKS[0], seeds=[episode.fields["seed"]])
        for action in episode.tensors["actions"]:
            answer, last = self.bridge.ask(action.tobytes(), do="step")
        self.assertEqual(answer["ended"], [True])
        answer, after = self.bridge.ask(episode.tensors["actions"][0].tobytes(), do="step")
        self.assertEqual((answer, after), ({"ended": [True], "success": [True]}, last))

    def test_the_expert_succeeds_where_it_was_recorded_and_chance_is_repeatable(self):
        episodes = [episode for _, entry, episode in self.episodes("test") if entry["task"] == TASKS[0]]
        seeds = [episode.fields["seed"] for episode in episodes]
        answer, payload = self.bridge.ask(do="expert", task=TASKS[0], seeds=seeds)
        self.assertEqual((answer, payload), ({"success": [True] * len(seeds), "steps": [e.fields["steps"] for e in episodes]}, b""))
        first = self.bridge.ask(do="random", task=TASKS[0], seeds=seeds)
        self.assertEqual(self.bridge.ask(do="random", task=TASKS[0], seeds=seeds), first)
        many = self.bridge.ask(do="random", task=TASKS[0], seeds=list(range(20)))
        self.assertLess(sum(many[0]["success"]), 20)

    def test_faults_are_answered_and_the_bridge_goes_on(self):
        self.assertEqual(self.bridge.hello, {"hello": "espalier-bridge", "version": 1, "simulator": NAME,
                                             "packages": simulator.packages()})
        faults = [
            (dict(do="dance"), b"", "dance"),
            (dict(do="step"), b"", "before a reset"),
            (dict(do="reset", task="no-such-task", seeds=[1]), b"", "no-such-task"),
            (dict(do="reset", task=TASKS[0], seeds=[]), b"", "seeds"),
            (dict(do="reset", task=TASKS[0], seeds=[-1]), b"", "seeds"),
        ]
        for message, payload, named in faults:
            answer, _ = self.bridge.ask(payload, **message)
            self.assertIn(named, answer["error"])
        self.assertIn("error", self.bridge.ask_raw(b"{no json")[0])
        self.assertIn("error", self.bridge.ask_raw(b"[1]")[0])
        self.bridge.ask(do="reset", task=TASKS[0], seeds=[1, 2])
        self.assertIn("bytes", self.bridge.ask(bytes(4), do="step")[0]["error"])
        endless = np.full((2, self.index["action"]["size"]), np.nan, "<f4").tobytes()
        self.assertIn("not finite", self.bridge.ask(endless, do="step")[0]["error"])
        self.assertIn("ended", self.bridge.ask(np.zeros_like(np.frombuffer(endless, "<f4")).tobytes(), do="step")[0])

    def test_close_is_answered_and_ends_the_bridge(self):
        self.assertEqual(self.bridge.ask(do="close"), ({"closed": True}, b""))
        self.assertEqual(self.bridge.process.wait(timeout=60), 0)

    def test_the_bridge_ends_when_the_socket_closes(self):
        self.assertEqual(self.bridge.end(), 0)


class PngStrips(unittest.TestCase):
    def test_decoding_gives_back_smooth_and_rough_pictures(self):
        generator = np.random.default_rng(0)
        smooth = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None], (40, 7, 3)).copy()
        rough = generator.integers(0, 256, (40, 7, 3), np.uint8)
        for pixels in (smooth, rough):
            np.testing.assert_array_equal(episode_files.decode_png(episode_files.encode_png(pixels)), pixels)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
