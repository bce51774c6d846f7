"""How the points that a camera sees move: where each of them will be seen some steps later.

Needs no tracker: a pixel's depth says where in the world its point is, the body it lies on carries the point along,
and the camera of the later step says where it is seen then. Points that are hidden then have a place all the same.
"""
import mujoco
import numpy as np

FARTHEST_CELLS = 64.0  # a point behind the camera is nowhere in the picture: displacements end here
NEAREST = 1e-2  # metres before the camera


class Camera:
    """Pinhole of a drawn scene: axes [3, 3] (right, up, forward), place [3], half the picture's height at depth 1."""

    def __init__(self, scene):
        drawn = mujoco.mjv_averageCamera(scene.camera[0], scene.camera[1])
        forward, up = np.array(drawn.forward, np.float64), np.array(drawn.up, np.float64)
        self.place = np.array(drawn.pos, np.float64)
        self.axes = np.stack([np.cross(forward, up), up, forward])
        self.half = (drawn.frustum_top - drawn.frustum_bottom) / 2 / drawn.frustum_near

    def points(self, pixels, depth, size):
        """World [n, 3] of pixels [n, 2] (right, down, their corners at whole numbers) that lie `depth` [n] along the axis."""
        across = (2 * pixels / size - 1) * np.array([1, -1]) * self.half
        rays = np.concatenate([across, np.ones((len(pixels), 1))], axis=1)
        return self.place + (rays * depth[:, None]) @ self.axes

    def pixels(self, points, size):
        """Inverse of points(): [n, 2]."""
        seen = (points - self.place) @ self.axes.T
        across = seen[:, :2] / np.maximum(seen[:, 2:], NEAREST) / self.half
        return (across * np.array([1, -1]) + 1) * size / 2


class Moment:
    """What must be known of one step and view: points of the cells, the bodies they lie on, where all bodies are."""

    def __init__(self, scene, data, depth, bodies, cell):
        """`depth` F32 [size, size], `bodies` int [size, size]: of each pixel, as it is seen."""
        self.size, self.cell = len(depth), cell
        middle = np.arange(cell // 2, self.size, cell)
        down, right = (grid.ravel() for grid in np.meshgrid(middle, middle, indexing="ij"))
        self.camera = Camera(scene)
        self.places = np.stack([right, down], axis=1) + 0.5
        self.world = self.camera.points(self.places, depth[down, right].astype(np.float64), self.size)
        self.bodies = bodies[down, right]
        self.body_place, self.body_axes = data.xpos.copy(), data.xmat.reshape(-1, 3, 3).copy()

    def displacements(self, later):
        """F32 [size / cell, size / cell, 2]: cells to the right and down from here to the same points in `later`."""
        on_body = np.einsum("nji,nj->ni", self.body_axes[self.bodies], self.world - self.body_place[self.bodies])
        then = np.einsum("nij,nj->ni", later.body_axes[self.bodies], on_body) + later.body_place[self.bodies]
        moved = (later.camera.pixels(then, self.size) - self.places) / self.cell
        side = self.size // self.cell
        return np.clip(moved, -FARTHEST_CELLS, FARTHEST_CELLS).astype(np.float32).reshape(side, side, 2)
