"""Weights beside those in training: their moving average, and those that a run starts from."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mhnet.checkpoints.files import WeightsError, read_checkpoint
from mhnet.core.errors import shortened

Tensors = tuple[Tensor, ...] | list[Tensor]


def start_from(network: nn.Module, path: str) -> str:
    """Gives a new network the weights of a file, or bundled ones by their name, as far as name and shape fit, and
    returns a sentence that says how far.

    Raises:
        WeightsError: they cannot be read, or none fits.
    """
    state, wanted = read_checkpoint(path).state, network.state_dict()
    fitting = {name: tensor for name, tensor in state.items() if name in wanted and wanted[name].shape == tensor.shape}
    if not fitting:
        raise WeightsError(f"MODEL.WEIGHTS {path} holds no parameter of this network, by name and shape")
    network.load_state_dict(fitting, strict=False)
    said = f"starting from {path}: {len(fitting)} of the network's {len(wanted)} parameters"
    fresh, unused = [name for name in wanted if name not in fitting], [name for name in state if name not in fitting]
    said += f"; not in it or of another shape, so drawn afresh: {shortened(fresh, 4)}" if fresh else ""
    return said + (f"; in it and not taken: {shortened(unused, 4)}" if unused else "")


def moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """What moves the averages of the weights: w̄ ← d w̄ + (1 − d) w, for `AveragedModel`.

    After n steps d is (1 + n) / (10 + n), and at most the decay: the first, bad weights are soon forgotten. The same
    formula as in TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """

    def update(averages: Tensors, weights: Tensors, count: Tensor | int) -> None:
        done = float(count)
        get_ema_multi_avg_fn(min(decay, (1 + done) / (10 + done)))(averages, weights, count)

    return update
