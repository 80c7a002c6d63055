"""Which pool a config names."""

from contextlib import AbstractContextManager, nullcontext

from flows.engine.gpu_pool import GpuPool, spread_over
from flows.engine.pool import Hold, LocalPool, Pool
from flows.engine.settings import Device, Engine, RaySettings
from storage.errors import FatalError, install


def open_pool(
    engine: Engine, ray: RaySettings, hold: Hold, *, device: Device = "one", keeps_models: bool = False
) -> AbstractContextManager[Pool]:
    """The pool of an engine, for the duration of a build. FatalError: Ray is asked for, but not installed."""
    if engine == "local":
        if names := spread_over(device):
            return GpuPool(names, hold, keeps_models=keeps_models)
        return nullcontext(LocalPool(hold, keeps_models=keeps_models))
    try:
        from flows.engine.ray_pool import RayPool  # an optional dependency
    except ImportError as error:
        raise FatalError(f"engine: ray needs Ray ({error}). Run {install('ray')}, or set engine: local.") from error
    return RayPool(ray, LocalPool(hold), hold)
