"""FID and Inception Score by torch-fidelity, from a weights file that is at hand; nothing is downloaded here.

M. Heusel et al., *GANs Trained by a Two Time-Scale Update Rule …*, 2017 (FID); T. Salimans et al., *Improved
Techniques for Training GANs*, 2016 (Inception Score).
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mlegfn.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mlegfn.artifacts import StrPath

__all__ = ["WEIGHTS", "WEIGHTS_SHA256", "frechet", "inception_features", "inception_score", "read_inception"]

# The release file of torch-fidelity, the same bytes as pytorch-fid's pt_inception-2015-12-05-6726825d.pth.
# Its SHA-256 stands in genforce's models/inception_model.py (_MODEL_URL_SHA256); its name holds the beginning.
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

FEATURES, LOGITS = "2048", "logits_unbiased"  # torch-fidelity's layers for FID and for the Inception Score


def read_inception(path: StrPath, device: torch.device | str = "cpu") -> nn.Module:
    """torch-fidelity's Inception network from the weights file ``path``.

    The file is a pickle, so what is unpickled are the very bytes that were hashed.

    :raises UserError: if it cannot be read, or is any other file than ``WEIGHTS_SHA256`` says
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); expected torch-fidelity's {WEIGHTS}"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != WEIGHTS_SHA256:
        raise UserError(
            f"{path}: not torch-fidelity's {WEIGHTS}: SHA-256 expected {WEIGHTS_SHA256}, found {found}"
        )
    from torch_fidelity.feature_extractor_inceptionv3 import (
        FeatureExtractorInceptionV3,
    )

    network: nn.Module = FeatureExtractorInceptionV3(
        "inception-v3-compat", [FEATURES, LOGITS], feature_extractor_weights_path=io.BytesIO(content)
    )
    return network.to(device)


@torch.no_grad()
def inception_features(
    network: nn.Module, images: Tensor, levels: int, batch: int = 64
) -> tuple[Tensor, Tensor]:
    """(features [N, 2048], logits [N, 1008]) on the CPU of integer images uint8 [N, C, H, W], C = 1 or 3.

    Levels are spread over 0 … 255 and grey becomes three equal channels; the network scales to 299 × 299.
    """
    device = next(network.parameters()).device
    parts = []
    for part in images.split(batch):
        bytes_ = (part.float() * 255 / (levels - 1)).round().to(torch.uint8)
        rgb = bytes_.expand(-1, 3, -1, -1) if bytes_.shape[1] == 1 else bytes_
        parts.append([out.cpu() for out in network(rgb.to(device))])
    features, logits = (torch.cat(outs) for outs in zip(*parts))
    return features, logits


def frechet(features: Tensor, others: Tensor) -> float:
    """Fréchet distance of the Gaussians with the moments of two feature sets [N, F]: FID, a float."""
    from torch_fidelity.metric_fid import (
        KEY_METRIC_FID,
        fid_features_to_statistics,
        fid_statistics_to_metric,
    )

    pair = [fid_features_to_statistics(x) for x in (features, others)]
    distance: float = fid_statistics_to_metric(*pair, verbose=False)[KEY_METRIC_FID]
    return distance


def inception_score(logits: Tensor) -> dict[str, float | None]:
    """exp E KL(p(class | image) ‖ p(class)) of logits [N, 1008]: over ten splits if N ≥ 5000, else over all."""
    from torch_fidelity.metric_isc import (
        KEY_METRIC_ISC_MEAN,
        KEY_METRIC_ISC_STD,
        isc_features_to_metric,
    )

    splits = 10 if len(logits) >= 5000 else 1
    metric = isc_features_to_metric(logits, splits=splits)
    return {
        "mean": metric[KEY_METRIC_ISC_MEAN],
        "standard_deviation": metric[KEY_METRIC_ISC_STD] if splits > 1 else None,
        "splits": splits,
    }
