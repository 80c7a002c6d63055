"""Weights in fewer bits, for models of this process that memory does not hold."""

from typing import Any

from storage.errors import FatalError, install


def in_int8(network: Any) -> None:
    """Keep the weights of a network's linear layers as int8 with a scale for each output; activations stay as they are.

    Raises FatalError without torchao, which does it.
    """
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise FatalError(f"quantize needs torchao ({error}). Run {install('quantized')}.") from error
    quantize_(network, Int8WeightOnlyConfig(version=2))
