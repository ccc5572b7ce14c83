r"""Few-shot episodes drawn by counters: a draw is a function of its place, the same on any device.

Episode e has k classes of those eligible and s samples of each, all without replacement. Draw i of
stream t (0: the classes; 1 + a: the samples of the a-th class) takes 64 bits w of the block

.. math:: \mathrm{Philox4{\times}32\text{-}10}_{\mathrm{seed}}(\lfloor i/2 \rfloor, t, e)

and swaps the items of places i and :math:`i + \lfloor w (m - i) / 2^{64} \rfloor` of m, the start
of a Fisher-Yates shuffle: items are exchangeable, and the probability of each swap errs by less
than :math:`2^{-64}`. So episode e is the same however many episodes, samples or classes are asked
for. Generator: Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _check
from .._procedure import Procedure
from .._spec import Bad, Make, ProcedureSpec, Shape, replacing

NAME = "draw_episodes"
_WORD = 0xFFFFFFFF


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: int) -> tuple[Tensor, ...]:
    """Philox4x32-10 of counters that broadcast, as four int64 tensors of 32-bit words."""
    a, b, c, d = counter
    first, second = key & _WORD, key >> 32 & _WORD
    for _ in range(10):
        (p_high, p_low), (q_high, q_low) = _product(0xD2511F53, a), _product(0xCD9E8D57, c)
        a, b, c, d = q_high ^ b ^ first, q_low, p_high ^ d ^ second, p_low
        first, second = first + 0x9E3779B9 & _WORD, second + 0xBB67AE85 & _WORD
    return a, b, c, d


def _product(factor: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """The high and low word of a product of 32-bit words; no int64 overflows."""
    low = factor * (word & 0xFFFF)
    high = factor * (word >> 16) + (low >> 16)
    return high >> 16, (high & 0xFFFF) << 16 | low & 0xFFFF


def shuffled_places(
    seed: int, episodes: Tensor, streams: Tensor, sizes: Tensor, count: int
) -> Tensor:
    """Which of [0, size) the first ``count`` places of each row hold after the shuffle.

    Episodes, streams and sizes broadcast to the rows; the result has an axis ``count`` more.
    """
    blocks = torch.arange((count + 1) // 2, device=sizes.device)
    episodes, streams, sizes = (t.unsqueeze(-1) for t in (episodes, streams, sizes))
    words = philox((blocks, streams, episodes & _WORD, episodes >> 32), seed)
    low, high = (torch.stack(words[i::2], -1).flatten(-2)[..., :count] for i in (0, 1))
    step = torch.arange(count, device=sizes.device)
    places = step + (high * (sizes - step) + (low * (sizes - step) >> 32) >> 32)
    for earlier in reversed(range(count - 1)):  # swaps undone, last first: csrc/.../draw_episodes.h
        later = places[..., earlier + 1 :]
        later.masked_fill_(later == places[..., earlier : earlier + 1], earlier)
    return places


def reference(
    classes: Tensor, samples: Tensor, members: Tensor, offsets: Tensor, eligible: Tensor, seed: int
) -> None:
    """Draws into ``classes`` (E, k) and ``samples`` (E, k, s); ``check`` has seen the arguments."""
    number, ways, each = samples.shape
    if number == 0 or ways == 0:
        return
    episodes = torch.arange(number, device=members.device)
    streams = torch.arange(1 + ways, device=members.device)
    places = shuffled_places(seed, episodes, streams[0], streams.new_tensor(len(eligible)), ways)
    classes.copy_(eligible[places])
    first, end = offsets[classes], offsets[classes + 1]
    places = shuffled_places(seed, episodes[:, None], streams[1:], end - first, each)
    samples.copy_(members[first[..., None] + places])


def check(
    classes: Tensor, samples: Tensor, members: Tensor, offsets: Tensor, eligible: Tensor, seed: int
) -> None:
    """Refuses what the kernel must not see; a GPU's tables are not read."""
    tables = {"members": members, "offsets": offsets, "eligible": eligible}
    arguments = {"classes": classes, "samples": samples} | tables
    _check.tensors(NAME, arguments)
    _check.dtype(NAME, arguments, torch.int64)
    for name, value in arguments.items():
        if value.device != classes.device:
            _check.refuse(NAME, name, f"be on device {classes.device}", value.device, ValueError)
    if samples.ndim != 3 or classes.shape != samples.shape[:2]:
        rule = f"have the first two axes of samples {tuple(samples.shape)}"
        _check.refuse(NAME, "classes", rule, tuple(classes.shape), ValueError)
    for name, value in tables.items():
        if value.ndim != 1:
            _check.refuse(NAME, name, "be a vector", tuple(value.shape), ValueError)
    if len(members) >= 2**31:
        _check.refuse(NAME, "members", "be fewer than 2^31", len(members), ValueError)
    if len(eligible) < classes.shape[1]:
        rule = f"name at least {classes.shape[1]} classes"
        _check.refuse(NAME, "eligible", rule, len(eligible), ValueError)
    if _check.has_values(eligible) and len(eligible):
        _check_sizes(offsets, eligible, len(members), samples.shape[2])


def _check_sizes(offsets: Tensor, eligible: Tensor, members: int, each: int) -> None:
    if eligible.min() < 0 or eligible.max() >= len(offsets) - 1:
        rule = f"lie in [0, {len(offsets) - 1})"
        _check.refuse(NAME, "eligible", rule, eligible.tolist(), ValueError)
    first, end = offsets[eligible], offsets[eligible + 1]
    if first.min() < 0 or end.max() > members or (end - first).min() < each:
        rule = f"give every eligible class {each} of {members} members"
        _check.refuse(NAME, "offsets", rule, offsets.tolist(), ValueError)


PROCEDURE = Procedure(
    name=NAME,
    schema="Tensor(a!) classes, Tensor(b!) samples, Tensor members, Tensor offsets, "
    "Tensor eligible, int seed",
    reference=reference,
    check=check,
)


def _sample(size: Shape, make: Make) -> tuple[Any, ...]:
    """Classes of s, s + 1, ... members, every third one not eligible."""
    episodes, ways, each, classes = size
    where = make(1).device
    counts = each + torch.arange(classes, device=where)
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    members = torch.arange(int(offsets[-1]), device=where).flip(0)
    eligible = torch.tensor([c for c in range(classes) if c % 3 != 1], device=where)
    drawn = torch.full((episodes, ways), -7, device=where)
    samples = torch.full((episodes, ways, each), -7, device=where)
    return drawn, samples, members, offsets, eligible, 20260401


_with = replacing(PROCEDURE, lambda make: _sample((2, 3, 4, 6), make))


SPEC = ProcedureSpec(
    name=NAME,
    procedure=PROCEDURE,
    reference=reference,
    sample=_sample,
    variants={"small seed": lambda a: a, "seed of 64 bits": lambda a: (*a[:-1], -(2**62))},
    writes=2,
    sizes=((0, 2, 3, 5), (1, 1, 1, 1), (3, 5, 7, 11), (40, 5, 20, 12), (3, 2, 67, 5)),
    roundings=0,
    source="Salmon, Moraes, Dror, Shaw 2011; Fisher and Yates in Knuth's TAOCP 2, 3.4.2",
    bad={
        "dtype": Bad(
            _with(2, lambda make: make(4)),
            TypeError,
            "dlaccel.draw_episodes: members must have dtype int64, got float32.",
        ),
        "shapes": Bad(
            _with(0, lambda make: torch.zeros(2, 2, dtype=torch.int64, device=make(1).device)),
            ValueError,
            "dlaccel.draw_episodes: classes must have the first two axes of samples (2, 3, 4), "
            "got (2, 2).",
        ),
        "too few classes": Bad(
            _with(4, lambda make: torch.tensor([0, 2], device=make(1).device)),
            ValueError,
            "dlaccel.draw_episodes: eligible must name at least 3 classes, got 2.",
        ),
    },
)
