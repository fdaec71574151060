"""More than one machine, by Ray: rows, draws and members spread over a cluster, with the answers of one process."""

from caveat.interop.ray._draws import predict_draws
from caveat.interop.ray._map import ray_map
from caveat.interop.ray._predict import predict
from caveat.interop.ray._session import each_by_actor

__all__ = ["each_by_actor", "predict", "predict_draws", "ray_map"]
