"""Meta-World (MuJoCo): a Sawyer arm on a table, its scripted experts, and what is seen of it.

`make_dataset.py` and `bridge.py` use this same class, so recorded and live frames are made by the same code.
"""
import ctypes.util
import importlib.metadata
import os
import warnings

# mujoco reads this when it is imported, and would otherwise look for a screen.
os.environ.setdefault("MUJOCO_GL", "egl" if ctypes.util.find_library("EGL") else "osmesa")

import metaworld.env_dict
import metaworld.policies
import mujoco
import numpy as np

from mujoco_painter import CELL, Painter

SIZE = 64  # pixels
LONGEST_EPISODE = 150  # simulator steps
STEPS_AFTER_SUCCESS = 3  # actions: the expert holds what it has reached
GOAL_RADIUS = 0.03  # metres: Meta-World draws 0.02, two pixels wide in a 64-pixel view
GOAL_COLOUR = (0.0, 0.9, 0.1, 1.0)  # Meta-World draws reach's goal red, as the puck that lies beside it
HIDDEN_GROUP = 5  # of sites: not drawn
INSTRUCTIONS = {
    "reach-v3": "reach the green goal",
    "push-v3": "push the red puck to the green goal",
    "drawer-open-v3": "open the drawer",
}


class Environment:
    """One Meta-World task. Life of an episode: reset(seed), then observe() and step(action) until `ended`."""

    painters = {}  # of each task: the drawing context is large, and environments of one task differ in positions alone

    def __init__(self, task, action_repeat=None):
        tasks = metaworld.env_dict.ALL_V3_ENVIRONMENTS
        if task not in tasks:
            raise ValueError(f"Meta-World has no task {task!r}; its tasks are {sorted(tasks)}")
        self.task = task
        self.action_repeat = action_repeat or Simulator.action_repeat
        self.max_steps = -(-LONGEST_EPISODE // self.action_repeat)
        self.instruction = INSTRUCTIONS.get(task, task.removesuffix("-v3").replace("-", " "))
        self.environment = tasks[task]()
        # The scripted experts need the goal in their observation; the state that we record leaves it out.
        self.environment._partially_observable = False
        del self.environment.sawyer_observation_space  # cached for the other observability
        # Positions are drawn anew at each reset, from the generator that reset(seed) seeds.
        self.environment._freeze_rand_vec = False
        self.environment.seeded_rand_vec = True
        self.environment._set_task_called = True
        self.environment.model.site_group[:] = HIDDEN_GROUP  # marks on the arm, which no camera would see
        goal = self.environment.model.site("goal")
        goal.group, goal.rgba = 0, GOAL_COLOUR
        goal.size[0] = max(goal.size[0], GOAL_RADIUS)
        if task not in self.painters:
            self.painters[task] = Painter(self.environment.model, SIZE)
        self.painter = self.painters[task]

    def reset(self, seed):
        self.environment.seed(seed)
        self.environment.reset()
        # Meta-World moves goal and furniture after the positions were computed; without this the first frame shows the
        # former episode's.
        mujoco.mj_forward(self.environment.model, self.environment.data)
        self._seen = self.environment._get_obs()
        self._policy = None
        self._steps_since_success = 0
        self.steps, self.ended, self.success = 0, False, False

    def step(self, action):
        """`action` F32 [4] in [-1, 1]: hand displacement in x, y, z (1 = 1 cm for each simulator step), gripper closing."""
        for _ in range(self.action_repeat):
            self._seen, _, _, _, information = self.environment.step(np.clip(action, -1, 1))
            self.success = self.success or bool(information["success"])
        self.steps += 1
        self._steps_since_success += self.success
        self.ended = self.steps >= self.max_steps or self._steps_since_success > STEPS_AFTER_SUCCESS

    def observe(self, labels=False):
        """(images U8 [2, 64, 64, 3], state F32 [4], {"depth.VIEW": F32 [64, 64], "segmentation.VIEW": U8 [64, 64],
        "trajectory.VIEW": a Moment, of which two make a trajectory})."""
        cameras, found = Simulator.cameras, {}
        model, data = self.environment.model, self.environment.data
        images = np.stack([self.painter.picture(model, data, cameras[view]) for view in Simulator.views])
        if labels:
            for view in Simulator.labelled_views:
                depth, segmentation, moment = self.painter.labels(model, data, cameras[view])
                found["depth." + view], found["segmentation." + view] = depth, segmentation
                found["trajectory." + view] = moment
        return images, self._seen[:4].astype(np.float32), found

    def expert_action(self):
        """The scripted expert's next action, F32 [4] in [-1, 1]."""
        if self._policy is None:
            self._policy = metaworld.policies.ENV_POLICY_MAP[self.task]()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an action will be clipped
            action = self._policy.get_action(self._seen)
        return np.clip(action, -1, 1).astype(np.float32)

    def slip(self, action, generator):
        """What happens instead of `action` when a demonstration is disturbed: the hand is pushed, the gripper is not."""
        push = np.append(generator.uniform(-1, 1, 3), 0.0)
        return np.clip(action + push, -1, 1).astype(np.float32)

    def random_action(self, generator):
        return generator.uniform(-1, 1, len(Simulator.action_names)).astype(np.float32)

    def close(self):
        self.environment.close()


class Simulator:
    name = "metaworld"
    dataset_name = "metaworld"
    expert = "the scripted policy of metaworld for the task"
    licence = ("metaworld: MIT. MuJoCo: Apache-2.0. The episodes contain renderings of Meta-World's scenes and of its model of "
               "the Sawyer arm, for which its wheel names no other licence.")
    size = SIZE  # height and width of a view, pixels
    views = ["primary", "wrist"]
    # Meta-World's own fixed cameras stand so far off that a puck is four pixels, and some are upside down.
    cameras = {"primary": ((0.0, 0.68, 0.12), 0.95, 150, -40), "wrist": "gripperPOV"}
    view_notes = {"primary": "a fixed camera beside the arm, 0.95 m from the middle of the table", "wrist": "Meta-World's camera gripperPOV, on the hand"}
    labelled_views = ["primary", "wrist"]  # with depth, segmentation and trajectories
    trajectory_ahead, trajectory_cell = 3, CELL  # steps and pixels
    segmentation_classes = Painter.CLASSES
    state_names = ["hand x", "hand y", "hand z", "gripper opening"]
    state_note = "the hand's place in metres, the opening from 0 to 1"
    action_repeat = 3  # simulator steps per action
    episodes, held_out = 60, 5  # per task, unless asked otherwise
    bytes_per_episode = 1_400_000  # measured, rounded up
    noise = 0.2  # of the steps of a training episode that are disturbed
    trials = 25  # unseen seeds per task on which expert and chance are tried
    action_kind = "continuous"
    action_names = ["hand dx", "hand dy", "hand dz", "gripper"]
    tasks = ["reach-v3", "push-v3", "drawer-open-v3"]
    limits = [
        "The experts are scripted and see positions, not pictures.",
        f"The goal is drawn as a green ball of at least {GOAL_RADIUS} m, and the marks on the arm are hidden: not "
        "Meta-World's own look, in which the goal is hardly seen at this size.",
        "Shadows and reflections are not drawn. Depth ends at "
        f"{Painter.FARTHEST} m.",
        "One instruction per task. Pictures depend on the OpenGL implementation, so other machines can differ in a few "
        "pixels; on one machine a seed gives the same bytes.",
    ]

    @staticmethod
    def packages():
        return {name: importlib.metadata.version(name) for name in ("metaworld", "mujoco", "gymnasium", "numpy", "scipy")}

    @staticmethod
    def environment(task, action_repeat=None):
        return Environment(task, action_repeat)
