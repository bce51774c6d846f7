"""BabyAI (minigrid): a grid world of one room, its expert, and what is seen of it.

`make_dataset.py` and `bridge.py` use this same class, so recorded and live frames are made by the same code.
"""
import contextlib
import importlib.metadata
import io

import gymnasium
import minigrid  # registers the BabyAI levels
import numpy as np
from minigrid.core.constants import DIR_TO_VEC
from minigrid.utils.baby_ai_bot import BabyAIBot

TILE = 8  # pixels
SIZE = 64  # pixels: a room of 8 x 8 tiles


class Environment:
    """One BabyAI level. Life of an episode: reset(seed), then observe() and step(action) until `ended`."""

    def __init__(self, task):
        if not task.startswith("BabyAI-") or task not in gymnasium.registry:
            raise ValueError(f"BabyAI has no level {task!r}; its levels are "
                             f"{sorted(name for name in gymnasium.registry if name.startswith('BabyAI-'))}")
        self.environment = gymnasium.make(task, disable_env_checker=True).unwrapped
        height, width = self.environment.height * TILE, self.environment.width * TILE
        if height > SIZE or width > SIZE:
            raise ValueError(f"{task} is {width // TILE} x {height // TILE} tiles; only levels of at most "
                             f"{SIZE // TILE} x {SIZE // TILE} tiles fit into the {SIZE}-pixel view")

    def reset(self, seed):
        with contextlib.redirect_stdout(io.StringIO()):  # minigrid prints each rejected sample
            self.environment.reset(seed=seed)
        self.instruction = self.environment.mission
        self.max_steps = self.environment.max_steps
        self.steps, self.ended, self.success = 0, False, False
        self._bot, self._taken = None, None

    def step(self, action):
        """`action` F32 [7]: the largest entry is taken."""
        self._taken = int(np.argmax(action))
        _, reward, terminated, truncated, _ = self.environment.step(self._taken)
        self.steps += 1
        self.success = bool(terminated and reward > 0)
        self.ended = bool(terminated or truncated)

    def observe(self, labels=False):
        """(images U8 [2, 64, 64, 3], state F32 [6], {}); BabyAI has no depth and no segmentation."""
        above = self.environment.get_full_render(highlight=False, tile_size=TILE)
        own = self.environment.get_pov_render(tile_size=TILE)
        return np.stack([_on_ground(above), _on_ground(own)]), self._state(), {}

    def expert_action(self):
        """The bot's next action, one-hot F32 [7]. It is asked before each step, from the first one on."""
        if self._bot is None:
            self._bot = BabyAIBot(self.environment)
            # By itself the bot knows what its own 7 x 7 view has shown and explores the rest. The `primary` view shows
            # the whole room, so the expert sees it too: else it would search for what the policy has before it.
            self._bot.vis_mask[:] = True
        return _one_hot(self._bot.replan(self._taken))

    def slip(self, action, generator):
        """What happens instead of `action` when a demonstration is disturbed: a turn or a step, by chance."""
        return _one_hot(generator.integers(3))

    def random_action(self, generator):
        return _one_hot(generator.integers(len(Simulator.action_names)))

    def close(self):
        self.environment.close()

    def _state(self):
        # Where the agent stands and where it looks: what odometry would tell. Nothing about the objects.
        column, row = self.environment.agent_pos
        direction = np.zeros(len(DIR_TO_VEC), np.float32)
        direction[self.environment.agent_dir] = 1
        place = [column / (self.environment.width - 1), row / (self.environment.height - 1)]
        return np.concatenate([np.asarray(place, np.float32), direction])


def _one_hot(index):
    action = np.zeros(len(Simulator.action_names), np.float32)
    action[int(index)] = 1
    return action


def _on_ground(picture):
    """On black, SIZE x SIZE, near the middle, its tiles on the same grid in every view: patches cut no tile."""
    ground = np.zeros((SIZE, SIZE, 3), np.uint8)
    top, left = ((SIZE - side) // 2 // TILE * TILE for side in picture.shape[:2])
    ground[top:top + picture.shape[0], left:left + picture.shape[1]] = picture
    return ground


class Simulator:
    name = "babyai"
    dataset_name = "babyai-goto"
    expert = "BabyAIBot of minigrid, with sight of the whole room: walks the shortest way"
    licence = ("minigrid: Apache-2.0 by the licence file in its wheel (the wheel's metadata says MIT). The episodes contain "
               "renderings of its tiles and no work of others.")
    size = SIZE  # height and width of a view, pixels
    views = ["primary", "wrist"]
    view_notes = {"primary": "the whole room from above, 8 pixels a tile; the agent is the red triangle that points where it looks",
                  "wrist": "the 7 x 7 tiles before the agent as it sees them, 56 x 56 pixels in the upper left corner; the agent is below, looking up"}
    labelled_views = []  # with depth and segmentation
    segmentation_classes = []
    state_names = ["column", "row", "looks right", "looks down", "looks left", "looks up"]
    state_note = "column and row in [0, 1] of the room's tiles, the direction one-hot"
    action_repeat = None  # every action is one step of the simulator
    episodes, held_out = 1500, 60  # per task, unless asked otherwise
    bytes_per_episode = 6_000  # measured, rounded up
    noise = 0.15  # of the steps of a training episode that are disturbed
    trials = 200  # unseen seeds per task on which expert and chance are tried
    action_kind = "discrete"
    action_names = ["left", "right", "forward", "pickup", "drop", "toggle", "done"]
    tasks = ["BabyAI-GoToObj-v0", "BabyAI-GoToRedBallGrey-v0", "BabyAI-GoToRedBall-v0", "BabyAI-GoToLocal-v0"]
    limits = ["The expert sees the whole room, as the primary view does.",
              "It turns and walks only: pickup, drop and toggle do not occur in these tasks' episodes.",
              "GoToRedBallGrey and GoToRedBall have one instruction each; GoToObj and GoToLocal name one of 18 objects."]

    @staticmethod
    def packages():
        return {name: importlib.metadata.version(name) for name in ("minigrid", "gymnasium", "numpy", "pygame-ce")}

    @staticmethod
    def environment(task):
        return Environment(task)
