#!/usr/bin/env python3
"""Lets another process drive a simulator: closed loop over a Unix-domain socket.

    bridge.py --simulator babyai|metaworld --socket PATH [--action-repeat N]     PATH is bound and listened on by the other side

Runs in the simulator's environment (.deps/simulators-NAME/bin/python). Messages are described in README.md beside this
file. Pictures come from the same code as those of a data set that `prepare` made.
"""
import argparse
import json
import socket
import struct
import sys

import numpy as np

import rollout

HEADER = struct.Struct("<II")  # bytes of JSON, bytes of payload
LONGEST_MESSAGE = 1 << 28  # bytes; more means that the other side speaks something else


class Closed(Exception):
    """The other side has gone."""


def receive_bytes(connection, count):
    data = bytearray()
    while len(data) < count:
        part = connection.recv(min(count - len(data), 1 << 20))
        if not part:
            raise Closed
        data += part
    return bytes(data)


def receive(connection):
    """(JSON as an object, payload). A message that is no JSON object raises ValueError and is wholly consumed."""
    text_bytes, payload_bytes = HEADER.unpack(receive_bytes(connection, HEADER.size))
    if max(text_bytes, payload_bytes) > LONGEST_MESSAGE:
        sys.exit(f"bridge: a message of {text_bytes} + {payload_bytes} bytes; at most {LONGEST_MESSAGE} each. "
                 "Does the other side speak this protocol (little-endian lengths)?")
    text = receive_bytes(connection, text_bytes)
    payload = receive_bytes(connection, payload_bytes)
    message = json.loads(text)
    if not isinstance(message, dict):
        raise ValueError(f"a message is a JSON object, got {text[:80]!r}")
    return message, payload


def send(connection, message, payload=b""):
    text = json.dumps(message).encode()
    connection.sendall(HEADER.pack(len(text), len(payload)) + text + payload)


class Session:
    """The environments of one connection. Environments are kept per task and used again: to load one is slow."""

    def __init__(self, simulator, options):
        self.simulator = simulator
        self.options = options  # of each environment
        self.pool = {}  # task -> environments
        self.running = []
        self.frames = []  # of each running environment: (images, state), the last ones once it has ended

    def environments(self, task, count):
        pool = self.pool.setdefault(task, [])
        while len(pool) < count:
            pool.append(self.simulator.environment(task, **self.options))
        return pool[:count]

    def answer(self, message, payload):
        """(answer, payload) of one ask; raises ValueError for one that cannot be answered."""
        handlers = {"reset": self._reset, "step": self._step, "expert": self._expert, "random": self._random}
        if message.get("do") not in handlers:
            raise ValueError(f"'do' is {message.get('do')!r}; expected close, {', '.join(handlers)}")
        return handlers[message["do"]](message, payload)

    def _reset(self, message, payload):
        task, seeds = _task_and_seeds(message)
        self.running, self.frames = [], []  # should a reset fail, the former episodes are not stepped by mistake
        environments = self.environments(task, len(seeds))
        for environment, seed in zip(environments, seeds):
            environment.reset(seed)
        self.running, self.frames = environments, [environment.observe()[:2] for environment in environments]
        return {"instructions": [environment.instruction for environment in environments], "views": self.simulator.views,
                "height": self.simulator.size, "width": self.simulator.size,
                "state_size": len(self.simulator.state_names)}, self._observation()

    def _step(self, message, payload):
        size = len(self.simulator.action_names)
        if not self.running:
            raise ValueError("step before a reset that succeeded")
        if len(payload) != 4 * size * len(self.running):
            raise ValueError(f"step takes F32 [{len(self.running)}, {size}], {4 * size * len(self.running)} bytes, got {len(payload)}")
        actions = np.frombuffer(payload, "<f4").reshape(len(self.running), size)
        for i, environment in enumerate(self.running):
            if environment.ended:
                continue
            if not np.isfinite(actions[i]).all():
                raise ValueError(f"the action of environment {i} is not finite: {actions[i].tolist()}")
            environment.step(actions[i].astype(np.float32))
            self.frames[i] = environment.observe()[:2]
        return {"ended": [bool(environment.ended) for environment in self.running],
                "success": [bool(environment.success) for environment in self.running]}, self._observation()

    def _expert(self, message, payload):
        return self._run(message, rollout.run_expert)

    def _random(self, message, payload):
        return self._run(message, rollout.run_random)

    def _run(self, message, runner):
        task, seeds = _task_and_seeds(message)
        self.running, self.frames = [], []
        environment = self.environments(task, 1)[0]
        results = [runner(environment, seed) for seed in seeds]
        return {"success": [bool(success) for success, _ in results], "steps": [int(steps) for _, steps in results]}, b""

    def _observation(self):
        images = np.stack([images for images, _ in self.frames])
        state = np.stack([state for _, state in self.frames]).astype("<f4")
        return images.tobytes() + state.tobytes()


def _task_and_seeds(message):
    task, seeds = message.get("task"), message.get("seeds")
    if not isinstance(task, str):
        raise ValueError(f"'task' is {task!r}; expected a name")
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds):
        raise ValueError(f"'seeds' is {str(seeds)[:80]}; expected a list of whole numbers from 0 to {2**31 - 1}")
    return task, seeds


def serve(connection, simulator, options):
    session = Session(simulator, options)
    send(connection, {"hello": "espalier-bridge", "version": 1, "simulator": simulator.name, "packages": simulator.packages()})
    while True:
        try:
            message, payload = receive(connection)
            if message.get("do") == "close":
                send(connection, {"closed": True})
                return
            answer, answer_payload = session.answer(message, payload)
        except (Closed, OSError):
            raise
        except Exception as problem:  # a fault inside the simulator must reach the trainer, and not end the evaluation
            answer, answer_payload = {"error": f"{simulator.name}: {type(problem).__name__}: {problem}"}, b""
        send(connection, answer, answer_payload)


def main():
    parser = argparse.ArgumentParser(description="Drives a simulator for another process.")
    parser.add_argument("--simulator", required=True, choices=rollout.SIMULATORS)
    parser.add_argument("--socket", required=True, metavar="PATH")
    parser.add_argument("--action-repeat", type=int, metavar="N", help="simulator steps per action, as the data set was made")
    arguments = parser.parse_args()
    simulator, options = rollout.load_simulator(arguments.simulator), {}
    if arguments.action_repeat is not None:
        if arguments.action_repeat < 1 or not simulator.action_repeat:
            parser.error(f"--action-repeat {arguments.action_repeat}: a whole number from 1, and not for babyai")
        options["action_repeat"] = arguments.action_repeat
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(arguments.socket)
    except OSError as problem:
        sys.exit(f"bridge: cannot connect to {arguments.socket}: {problem.strerror}. The trainer must listen there first")
    try:
        serve(connection, simulator, options)
    except (Closed, BrokenPipeError, ConnectionResetError):
        return  # the trainer has gone: nothing is left to do
    finally:
        connection.close()


if __name__ == "__main__":
    main()
