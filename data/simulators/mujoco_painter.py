"""Draws MuJoCo scenes off screen: pictures, depth in metres, segmentation by what things are."""
import atexit

import mujoco
import numpy as np

from point_motion import Moment

CELL = 8  # pixels: one point of each cell is followed


class Painter:
    """Draws square views with one OpenGL context. A picture of any model with the same meshes and textures as the one
    given can be drawn: positions are taken from the model and data of each call."""

    CLASSES = ["background", "arm", "hand", "object", "goal"]
    FARTHEST = 3.0  # metres: what is farther (floor and sky beside the table) is given this depth

    def __init__(self, model, size):
        self.size = size
        self.gl = mujoco.GLContext(size, size)
        self.gl.make_current()
        model.vis.quality.shadowsize = 0
        self.context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self.context)
        self.context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self.scene = mujoco.MjvScene(model, maxgeom=2000)
        # Both cost more time in a software renderer than all the rest.
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self.option = mujoco.MjvOption()
        self.perturbation = mujoco.MjvPerturb()
        self.area = mujoco.MjrRect(0, 0, size, size)
        self.class_of_geom = _class_of_geom(model)
        atexit.register(self._free)  # once modules are torn down, OpenGL's own clean-up complains

    def picture(self, model, data, camera):
        """U8 [size, size, 3]. `camera`: the name of one of the model's, or (point looked at, distance in metres, azimuth,
        elevation in degrees)."""
        self._update(model, data, camera)
        pixels = np.empty((self.size, self.size, 3), np.uint8)
        mujoco.mjr_render(self.area, self.scene, self.context)
        mujoco.mjr_readPixels(pixels, None, self.area, self.context)
        return pixels[::-1]

    def labels(self, model, data, camera):
        """(depth along the camera's axis in metres F32 [size, size], class U8 [size, size], Moment of the cells)."""
        self._update(model, data, camera)
        colours = np.empty((self.size, self.size, 3), np.uint8)
        depth = np.empty((self.size, self.size), np.float32)
        flags = (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)
        for flag in flags:
            self.scene.flags[flag] = True
        mujoco.mjr_render(self.area, self.scene, self.context)
        for flag in flags:
            self.scene.flags[flag] = False
        mujoco.mjr_readPixels(colours, depth, self.area, self.context)
        metres, geoms = self._metres(model, depth)[::-1], self._things(colours)[::-1]
        moment = Moment(self.scene, data, metres, self._bodies(model)[geoms], CELL)
        return metres, self._classes()[geoms], moment

    def _free(self):
        self.gl.make_current()
        self.context.free()
        self.gl.free()

    def _update(self, model, data, camera):
        self.gl.make_current()
        view = mujoco.MjvCamera()
        if isinstance(camera, str):
            view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera(camera).id
        else:
            view.type = mujoco.mjtCamera.mjCAMERA_FREE
            view.lookat, view.distance, view.azimuth, view.elevation = camera
        mujoco.mjv_updateScene(model, data, self.option, self.perturbation, view, mujoco.mjtCatBit.mjCAT_ALL, self.scene)

    def _metres(self, model, buffer):
        # The buffer holds b with 1/z = 1/far + b (1/near - 1/far): 1 at the near plane, 0 at the far one.
        near, far = (plane * model.stat.extent for plane in (model.vis.map.znear, model.vis.map.zfar))
        inverse = 1 / far + buffer.astype(np.float64) * (1 / near - 1 / far)
        return np.minimum(1 / inverse, self.FARTHEST).astype(np.float32)

    @staticmethod
    def _things(colours):
        # A pixel's colour is the number of what is drawn there plus one, the lowest byte first; 0 is nothing.
        return colours.astype(np.int32) @ np.array([1, 1 << 8, 1 << 16])

    def _of_things(self, dtype, of_geom, of_site):
        """[things + 1]: what `of_geom` or `of_site` says of each thing's number; 0 for nothing."""
        table = np.zeros(self.scene.ngeom + 1, dtype)
        for drawn in self.scene.geoms[:self.scene.ngeom]:
            if drawn.segid < 0:
                continue
            if drawn.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                table[drawn.segid + 1] = of_geom(drawn.objid)
            elif drawn.objtype == mujoco.mjtObj.mjOBJ_SITE:
                table[drawn.segid + 1] = of_site(drawn.objid)
        return table

    def _classes(self):
        return self._of_things(np.uint8, lambda geom: self.class_of_geom[geom], lambda site: self.CLASSES.index("goal"))

    def _bodies(self, model):
        return self._of_things(np.int32, lambda geom: model.geom_bodyid[geom], lambda site: model.site_bodyid[site])


def _class_of_geom(model):
    """U8 [geoms]. Table, walls and floor are background; what hangs on no robot body is the object."""
    background = {"world", "tablelink", "RetainingWall", "mocap"}
    of_body = np.zeros(model.nbody, np.uint8)
    for i in range(1, model.nbody):
        body, parent = model.body(i), model.body_parentid[i]
        if body.name in background:
            of_body[i] = 0
        elif body.name == "hand":
            of_body[i] = Painter.CLASSES.index("hand")
        elif of_body[parent]:
            of_body[i] = of_body[parent]
        else:
            of_body[i] = Painter.CLASSES.index("arm" if body.name == "base" else "object")
    return of_body[model.geom_bodyid]
