"""Frames as words: a word for each cell, told from the other words, or one after another.

    T3, BERT:                -log p(k_n | what is visible),        of hidden cells n
    T1, autoregressive:      -log p(k_n | k_1 ... k_{n-1}, the frames before)

A word is the number of a patch in a vocabulary, found by k-means: in traffic free road, the front of a car, a
lane marking.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from worldmodel.nn import encode, features_of, gather, stride_of
from worldmodel.nn.cluster import nearest
from worldmodel.nn.vit import attention_blocks, positions
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.columns import Means
from worldmodel.ssl.dictionary import PatchDictionary
from worldmodel.ssl.latent import filled
from worldmodel.ssl.masked import Filler
from worldmodel.ssl.objective import Losses, Objective


class Vocabulary(nn.Module):
    """Patches -> words.

    Args:
        size: number of words.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.patches = PatchDictionary(size, columns=Means())

    def attach(self, encoder: nn.Module, frame: Float[Tensor, "B C H W"]) -> None:
        """Makes the words, for the cells of the encoder's map."""
        self.stride = stride_of(encoder)
        rows, columns = (
            size // step for size, step in zip(self._filled(frame).shape[2:], self.stride, strict=True)
        )
        self.patches.attach(frame.shape[1], self.stride, (rows, columns))
        self.patches.requires_grad_(False)

    def forward(self, frame: Float[Tensor, "B C H W"]) -> Int[Tensor, "B N"]:
        """Returns the word of each cell, row by row."""
        patches = self.patches.targets(self._filled(frame))
        return nearest(patches, self.patches.weight.T).unflatten(0, (frame.shape[0], -1))

    def refit(self, clips: Iterable[FrameClip]) -> None:
        """Fits the words to the patches of clips; they keep their numbers."""
        self.patches.refit(gather(torch.cat([self._filled(clip.frames.flatten(0, 1)) for clip in clips])))

    def _filled(self, frame: Tensor) -> Tensor:
        return filled(frame, self.stride)


class MaskedTokens(Objective):
    """Words of hidden cells, from what is visible: BERT (Devlin et al. 2019), on a map.

    The encoder sees nothing of the hidden cells, as in `MaskedAutoEncoder`.

    Args:
        num: of words.
        ratio: of cells hidden.
        width: of the transformer, a multiple of four and of the heads.
        depth: of it.
        heads: of its attention.
    """

    filler: Filler

    def __init__(
        self, num: int = 32, *, ratio: float = 0.5, width: int = 32, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.ratio, self.width, self.depth, self.heads = ratio, width, depth, heads
        self.vocabulary = Vocabulary(num)
        self.say = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num))

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        self.vocabulary.attach(encoder, clip.frames.flatten(0, 1))
        self.filler = Filler(encoder, width=self.width, depth=self.depth, heads=self.heads)

    def logits(
        self, encoder: nn.Module, frame: Float[Tensor, "B C H W"], hidden: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B N K"]:
        """Returns what each cell may say, where some are hidden."""
        return self.say(self.filler(encoder, frame, hidden))

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        frame = clip.frames.flatten(0, 1)
        hidden = self.filler.hide(frame, ratio=self.ratio)
        logits, words = self.logits(encoder, frame, hidden), self.vocabulary(frame)
        return {"loss": F.cross_entropy(logits[hidden], words[hidden])}

    def refit(self, encoder: nn.Module, clips: Iterable[FrameClip]) -> None:
        self.vocabulary.refit(clips)


class NextTokens(Objective):
    """Words of the last frame of a clip one by one, each from those before it and the frames before.

    The factorisation of autoregressive models of text (Bengio et al. 2003), row by row of the map. The maps
    of the frames before take the place of a prompt.

    Args:
        num: of words.
        width: of the transformers, a multiple of four and of the heads.
        depth: of each: of that of the frames before, and of that of the words.
        heads: of their attention.
    """

    def __init__(self, num: int = 32, *, width: int = 32, depth: int = 1, heads: int = 4) -> None:
        super().__init__()
        self.width = width
        self.vocabulary = Vocabulary(num)
        self.embedding = nn.Embedding(num + 1, width)  # the last one begins the sentence
        self.past = attention_blocks(width, depth=depth, heads=heads)
        self.blocks = attention_blocks(width, depth=depth, heads=heads)
        self.say = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num))

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        num_past = clip.frames.shape[1] - 1
        if num_past < 1:
            raise ValueError("clips of 1 frame, expected 2: one to be told, and one before it; lengthen them")
        self.vocabulary.attach(encoder, clip.frames.flatten(0, 1))
        self.narrow = nn.Conv2d(num_past * features_of(encoder), self.width, 1)

    def context(self, encoder: nn.Module, past: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B N D"]:
        """Returns what the frames before say to each cell, and where it is."""
        maps = encode(encoder, past.flatten(0, 1)).unflatten(0, past.shape[:2])
        cells = self.narrow(maps.flatten(1, 2))
        return self.past(cells.flatten(2).mT + positions(cells.shape[-2:], self.width).to(cells))

    def logits(self, context: Float[Tensor, "B N D"], words: Int[Tensor, "B N"]) -> Float[Tensor, "B N K"]:
        """Returns what each word may be; no word has a say in those before it, or in itself."""
        begin = torch.full_like(words[:, :1], self.embedding.num_embeddings - 1)
        tokens = context + self.embedding(torch.cat([begin, words[:, :-1]], 1))
        later = nn.Transformer.generate_square_subsequent_mask(words.shape[1], device=words.device)
        for block in self.blocks:
            tokens = block(tokens, src_mask=later.to(tokens), is_causal=True)
        return self.say(tokens)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        words = self.vocabulary(clip.frames[:, -1])
        logits = self.logits(self.context(encoder, clip.frames[:, :-1]), words)
        return {"loss": F.cross_entropy(logits.flatten(0, 1), words.flatten())}

    @torch.no_grad()
    def draw(self, encoder: nn.Module, past: Float[Tensor, "B T C H W"]) -> Int[Tensor, "B N"]:
        """Returns the words of a frame that may come next, drawn one after another."""
        context = self.context(encoder, past)
        words = torch.zeros(context.shape[:2], dtype=torch.long, device=past.device)
        for place in range(words.shape[1]):
            logits = self.logits(context[:, : place + 1], words[:, : place + 1])
            words[:, place] = torch.multinomial(logits[:, -1].softmax(-1), 1)[:, 0]
        return words

    def refit(self, encoder: nn.Module, clips: Iterable[FrameClip]) -> None:
        self.vocabulary.refit(clips)
