"""Barlow's factorial codes: the same information in bits that say nothing about each other."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def bit_entropies(bits: Bool[Tensor, "N D"]) -> Float[Tensor, " D"]:
    """Returns the entropy of each bit by itself [bit]."""
    share = bits.double().mean(0)
    return (torch.special.entr(share) + torch.special.entr(1 - share)) / torch.log(torch.tensor(2.0))


def minimum_entropy_code(bits: Bool[Tensor, "N D"]) -> tuple[Bool[Tensor, "N D"], Bool[Tensor, "D D"]]:
    """Returns a code of least sum of bit entropies, and the matrix over GF(2) that makes it of the bits.

    A reversible code keeps the joint entropy, which is at most the sum of its bits' entropies, and equal to
    it only for independent bits (Barlow, Kaushal and Mitchison 1989). Found by descent: as long as the sum
    falls, a bit is replaced by its exclusive or with another one, which can be undone.
    """
    code, matrix = bits.clone(), torch.eye(bits.shape[1], dtype=torch.bool)
    while True:
        now = bit_entropies(code)
        pairs = code[:, :, None] ^ code[:, None, :]  # (N, D, D): bit i with bit j
        gain = now[:, None] - bit_entropies(pairs.flatten(1)).view(len(now), -1)
        gain.fill_diagonal_(-torch.inf)
        best = int(gain.argmax())
        i, j = divmod(best, len(now))
        if gain[i, j] <= 1e-9:
            return code, matrix
        code[:, i] ^= code[:, j]
        matrix[i] ^= matrix[j]
