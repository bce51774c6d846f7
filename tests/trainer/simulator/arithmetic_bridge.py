"""A bridge (data/simulators/README.md) to a simulator of sums, for tests: needs no package.

An environment of seed s shows, in view v after n steps, pixels (s + 10 n + 100 v + position) mod 256, and the state
[s, n, sum of what was done]. An action is two numbers; the first counts. It ends after three steps, with success when
the sum is at least 2. `--fault` makes it misbehave in one way, `--size` gives it square pictures.
"""
import argparse
import json
import os
import signal
import socket
import struct
import sys
import time

VIEWS, HEIGHT, WIDTH = ["primary", "wrist"], 2, 3
LAST_STEP = 3


class Environment:
    def __init__(self, seed):
        self.seed, self.steps, self.sum = seed, 0, 0.0

    def act(self, action):
        if not self.ended():
            self.steps, self.sum = self.steps + 1, self.sum + action[0]

    def ended(self):
        return self.steps == LAST_STEP

    def images(self):
        pixels = range(HEIGHT * WIDTH * 3)
        return bytes((self.seed + 10 * self.steps + 100 * view + p) % 256 for view in range(len(VIEWS)) for p in pixels)


def receive_bytes(connection, count):
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data


def send(connection, fields, payload=b""):
    text = json.dumps(fields).encode()
    connection.sendall(struct.pack("<II", len(text), len(payload)) + text + payload)


def observation(environments, fault):
    state = b"".join(struct.pack("<fff", e.seed, e.steps, float("nan") if fault == "nan" else e.sum) for e in environments)
    return b"".join(e.images() for e in environments) + state


def misbehave(connection, fault):
    """On the first step."""
    if fault == "dies":
        print("the simulator has lost its mind", file=sys.stderr)
        sys.exit(3)
    if fault == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hangs":
        print("thinking", file=sys.stderr, flush=True)
        time.sleep(600)
    if fault == "dies inside an answer":
        connection.sendall(struct.pack("<II", 100, 0) + b"{")
        sys.exit(4)
    if fault == "absurd lengths":
        connection.sendall(b"\xff" * 8)
        time.sleep(600)
    if fault == "garbage":
        connection.sendall(struct.pack("<II", 7, 0) + b"\x80garbag")
        time.sleep(600)
    if fault == "ignores signals":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    if fault == "prints much":
        for line in range(20000):
            print("line", line, file=sys.stderr)


def answer(connection, question, payload, environments, fault):
    do = question["do"]
    if question.get("task") == "unknown":
        send(connection, {"error": "there is no task unknown"})
    elif do == "reset":
        environments[:] = [Environment(seed) for seed in question["seeds"]]
        send(connection, {"instructions": [f"sum of {seed}" for seed in question["seeds"]], "views": VIEWS, "height": HEIGHT,
                          "width": WIDTH + (fault == "wrong size"), "state_size": 3}, observation(environments, fault))
    elif do == "step":
        misbehave(connection, fault)
        actions = struct.unpack(f"<{len(payload) // 4}f", payload)
        for i, environment in enumerate(environments):
            environment.act(actions[2 * i:2 * i + 2])
        ended = [e.ended() for e in environments]
        success = [e.ended() and e.sum >= 2 for e in environments]
        send(connection, {"ended": ended[fault == "too few":], "success": success}, observation(environments, fault))
    elif do in ("expert", "random"):
        send(connection, {"success": [do == "expert" or seed % 2 == 0 for seed in question["seeds"]],
                          "steps": [LAST_STEP for _ in question["seeds"]]})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulator")
    parser.add_argument("--socket")
    parser.add_argument("--fault", default="none")
    parser.add_argument("--size", type=int)
    arguments = parser.parse_args()
    global HEIGHT, WIDTH
    HEIGHT, WIDTH = arguments.size or HEIGHT, arguments.size or WIDTH
    if arguments.fault == "does not start":
        raise ImportError("No module named sums")
    if arguments.fault == "does not connect":
        time.sleep(600)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(arguments.socket)
    version = 2 if arguments.fault == "newer" else 1
    # What a child must not have: our open files, and the environment of a rank.
    packages = {"sums": "1.0", "open files": str(len(os.listdir("/proc/self/fd"))),
                "rank": os.environ.get("OMPI_COMM_WORLD_RANK", "none"), "group": str(os.getpgrp() == os.getpid())}
    send(connection, {"hello": "espalier-bridge", "version": version, "simulator": arguments.simulator, "packages": packages})
    environments = []
    while True:
        text_bytes, payload_bytes = struct.unpack("<II", receive_bytes(connection, 8))
        question = json.loads(receive_bytes(connection, text_bytes))
        payload = receive_bytes(connection, payload_bytes)
        if question["do"] == "close":
            send(connection, {"closed": True})
            return
        answer(connection, question, payload, environments, arguments.fault)


if __name__ == "__main__":
    main()
