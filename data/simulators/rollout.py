"""Episodes of a simulator's environment, driven by its expert or by chance."""
import importlib

import numpy as np

SIMULATORS = ("babyai", "metaworld")


def load_simulator(name):
    if name not in SIMULATORS:
        raise ValueError(f"no simulator is named {name!r}; there are {', '.join(SIMULATORS)}")
    return importlib.import_module(f"{name}_simulator").Simulator


def expert_episode(environment, task, seed, simulator, noise=0.0):
    """Frame t and state t are what there is before action t.

    With `noise`, that share of the steps goes another way than the expert asked, and `actions` still holds what it
    asked: so recovery from errors is shown, and no error (DART, Laskey et al. 2017). The field `disturbed` holds what
    was done instead, by step.
    """
    environment.reset(seed)
    generator = np.random.default_rng(seed)
    images, states, actions, labels, disturbed = [], [], [], [], {}
    while not environment.ended:
        image, state, label = environment.observe(labels=True)
        action = environment.expert_action()
        images.append(image)
        states.append(state)
        actions.append(action)
        labels.append(label)
        if generator.random() < noise:
            action = environment.slip(action, generator)
            disturbed[len(actions) - 1] = action.tolist()
        environment.step(action)
    tensors = {"actions": np.stack(actions), "state": np.stack(states)}
    for name in labels[0]:
        values = [label[name] for label in labels]
        if name.startswith("trajectory."):
            last = len(values) - 1
            values = [now.displacements(values[min(t + simulator.trajectory_ahead, last)]) for t, now in enumerate(values)]
        tensors[name] = np.stack(values)
    fields = {"instruction": environment.instruction, "task": task, "seed": seed, "steps": len(actions),
              "success": environment.success, "expert": simulator.expert}
    if noise > 0:
        fields["disturbed"] = disturbed
    return {"images": np.stack(images), "tensors": tensors, "fields": fields}


def run(environment, seed, choose):
    """(success, steps) of an episode whose actions choose() gives; nothing is drawn."""
    environment.reset(seed)
    while not environment.ended:
        environment.step(choose())
    return environment.success, environment.steps


def run_expert(environment, seed):
    return run(environment, seed, environment.expert_action)


def run_random(environment, seed):
    generator = np.random.default_rng(seed)
    return run(environment, seed, lambda: environment.random_action(generator))


def trials(environment, task_seeds):
    """{"expert": rate of success, "random": ...} over the seeds."""
    rates = {}
    for name, runner in (("expert", run_expert), ("random", run_random)):
        rates[name] = sum(runner(environment, seed)[0] for seed in task_seeds) / len(task_seeds)
    return rates
