"""Gradual warm-up of the learning rate (Goyal et al. 2017, arXiv 1706.02677, section 2.2), then any other schedule."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any, SupportsFloat

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


class GradualWarmupScheduler(LRScheduler):
    """Raises the rate linearly over ``total_epoch`` epochs, then leaves it to ``after_scheduler``.

    The rate after k calls of ``step()``, for a base rate b, a multiplier m and a warm-up of n epochs:

    * k ≤ n: ``b·k/n`` if m is 1, ``b·(1 + (m - 1)·k/n)`` if m > 1;
    * k > n: what ``after_scheduler``, started from m·b, gives at its own epoch k - n - 1; ``m·b`` without one.

    So step n is the last one of the warm-up, at the peak, and step n + 1 is epoch 0 of ``after_scheduler``: T epochs
    of it are its epochs 0 to T - 1. With n = 0 there is no warm-up, and step k is its epoch k. An "epoch" is one call
    of ``step()``: call it per batch and every length counts batches.

    With m > 1 the ``base_lrs`` of ``after_scheduler`` and the groups' ``initial_lr`` are multiplied by m when it takes
    over. Rates that were given to it as such (``eta_min``, ``max_lr``, ``min_lr``) stay as given.

    Args:
        optimizer: its groups may have different rates; each is warmed up to m times its own.
        multiplier: the peak over the base rate, 1 or more. Note that 1 starts from 0, anything above from b.
        total_epoch: length of the warm-up in epochs, 0 or more.
        after_scheduler: made on the same optimizer before this object and stepped by this object only.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number out of range, or an ``after_scheduler`` made on another optimizer.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        multiplier: float,
        total_epoch: int,
        after_scheduler: LRScheduler | None = None,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {optimizer!r}")
        if not isinstance(multiplier, Real):
            raise TypeError(f"multiplier must be a number, got {multiplier!r}")
        if not 1 <= multiplier < math.inf:
            raise ValueError(f"multiplier must be finite and at least 1, got {multiplier!r}")
        if not isinstance(total_epoch, Integral):
            raise TypeError(f"total_epoch must be a whole number of epochs, got {total_epoch!r}")
        if total_epoch < 0:
            raise ValueError(f"total_epoch must be 0 or more, got {total_epoch!r}")
        if after_scheduler is not None and not isinstance(after_scheduler, LRScheduler):
            raise TypeError(f"after_scheduler must be a torch learning-rate scheduler or None, got {after_scheduler!r}")
        if after_scheduler is not None and after_scheduler.optimizer is not optimizer:
            raise ValueError(f"after_scheduler {type(after_scheduler).__name__} was made on another optimizer")

        self.multiplier = float(multiplier)
        self.total_epoch = int(total_epoch)
        self.after_scheduler = after_scheduler
        # Building after_scheduler has set the rates of its epoch 0, which the warm-up now covers.
        self._after_lrs = [self.multiplier * float(group["lr"]) for group in optimizer.param_groups]
        super().__init__(optimizer)  # calls step(), to epoch 0

    def step(self, epoch: int | None = None, metrics: SupportsFloat | None = None) -> None:
        """Move on by one epoch and set the optimizer's rates.

        Args:
            epoch: move on to this epoch instead; the current one changes nothing. Epochs jumped over count as stepped.
            metrics: the value that ReduceLROnPlateau watches; it is not looked at during the warm-up, needed after it.

        Raises:
            TypeError: ``epoch`` is not a whole number, for instance a metric given as the first argument.
            ValueError: ``epoch`` lies in the past, or ReduceLROnPlateau lacks its ``metrics``.
        """
        if epoch is not None and not isinstance(epoch, Integral):
            raise TypeError(f"epoch must be a whole number, got {epoch!r}: give a metric as step(metrics=...)")
        target = self.last_epoch + 1 if epoch is None else int(epoch)
        if target < self.last_epoch:
            raise ValueError(f"cannot step back from epoch {self.last_epoch} to {target}: load an earlier state_dict")
        after = self.after_scheduler
        if isinstance(after, ReduceLROnPlateau) and metrics is None and target > max(self.total_epoch, self.last_epoch):
            raise ValueError(f"ReduceLROnPlateau needs a metric at epoch {target}: call step(metrics=...)")

        while self.last_epoch < target:
            self.last_epoch += 1
            if after is None or self.last_epoch < self._handover_epoch:
                self._set("lr", self.get_lr())
                continue
            if self.last_epoch == self._handover_epoch:
                self._hand_over(after)
            if isinstance(after, ReduceLROnPlateau):
                if metrics is not None and self.last_epoch == target:  # no metric is known for epochs jumped over
                    after.step(metrics)
            elif self.last_epoch > self._handover_epoch:
                after.step()
        self._last_lr = self.get_last_lr()

    def get_lr(self) -> list[float | Tensor]:
        """The rates of the current epoch, one per parameter group."""
        if self.after_scheduler is not None and self.last_epoch >= self._handover_epoch:
            return self.get_last_lr()
        done = min(self.last_epoch / self.total_epoch, 1.0) if self.total_epoch else 1.0
        start = 0.0 if self.multiplier == 1 else 1.0
        factor = start + (self.multiplier - start) * done
        return [float(base_lr) * factor for base_lr in self.base_lrs]

    def get_last_lr(self) -> list[float | Tensor]:
        """The optimizer's rates as they are now, one float per parameter group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, ``after_scheduler`` included, as numbers, strings, lists and dicts.

        Raises:
            TypeError: ``after_scheduler``, being of a user's own class, keeps something else in its state.
        """
        after = self.after_scheduler
        return {
            "multiplier": self.multiplier,
            "total_epoch": self.total_epoch,
            "last_epoch": self.last_epoch,
            "base_lrs": [float(lr) for lr in self.base_lrs],
            "_last_lr": self.get_last_lr(),
            "after_lrs": list(self._after_lrs),
            "after_kind": None if after is None else type(after).__name__,
            "after_scheduler": None if after is None else _to_plain(after.state_dict()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, before or after the optimizer's own is loaded: its rates are set here as well.

        As with torch's schedulers, the saved settings replace those given to the constructor.

        Raises:
            ValueError: the state is of something else, of another kind of ``after_scheduler``, or of another number
                of parameter groups. Nothing is changed then.
        """
        if missing := self.state_dict().keys() - state_dict.keys():
            raise ValueError(f"not a state of GradualWarmupScheduler: it lacks {', '.join(sorted(missing))}")
        after, groups = self.after_scheduler, len(self.optimizer.param_groups)
        kind = None if after is None else type(after).__name__
        if state_dict["after_kind"] != kind:
            raise ValueError(f"the state was saved with after_scheduler {state_dict['after_kind']}, this one is {kind}")
        if len(state_dict["base_lrs"]) != groups:
            raise ValueError(f"the state has {len(state_dict['base_lrs'])} parameter groups, the optimizer {groups}")

        self.multiplier, self.total_epoch = state_dict["multiplier"], state_dict["total_epoch"]
        self.last_epoch, self.base_lrs = state_dict["last_epoch"], list(state_dict["base_lrs"])
        self._last_lr, self._after_lrs = list(state_dict["_last_lr"]), list(state_dict["after_lrs"])
        self._set("lr", self._last_lr)
        handed_over = after is not None and self.last_epoch >= self._handover_epoch
        self._set("initial_lr", [lr * (self.multiplier if handed_over else 1) for lr in self.base_lrs])
        if after is not None:
            after.load_state_dict(_from_plain(state_dict["after_scheduler"]))
        # torch would warn that the new optimizer has not stepped yet; the one of the saved run had
        self.optimizer._opt_called = True  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def _handover_epoch(self) -> int:
        return self.total_epoch + 1 if self.total_epoch else 0

    def _hand_over(self, after: LRScheduler) -> None:
        self._set("initial_lr", [self.multiplier * float(lr) for lr in self.base_lrs])
        self._set("lr", self._after_lrs)
        for scheduler in _with_parts(after):
            if hasattr(scheduler, "base_lrs"):  # ReduceLROnPlateau has none
                scheduler.base_lrs = [self.multiplier * lr for lr in scheduler.base_lrs]
        after._last_lr = self.get_last_lr()

    def _set(self, key: str, values: Iterable[float | Tensor]) -> None:
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            current = group.get(key)
            if isinstance(current, Tensor):  # a rate that a captured or compiled optimizer reads in place
                current.fill_(float(value))
            else:
                group[key] = float(value)


def _with_parts(scheduler: LRScheduler) -> Iterator[LRScheduler]:
    """The scheduler and, of a SequentialLR or ChainedScheduler, all those inside it."""
    yield scheduler
    for part in getattr(scheduler, "_schedulers", ()):
        yield from _with_parts(part)


def _to_plain(value: Any) -> Any:
    """A scheduler's state in terms of what JSON and ``torch.load(weights_only=True)`` know."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, Counter):  # MultiStepLR's milestones; JSON would turn its keys into strings
        return {"__counter__": sorted(value.elements())}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_plain(item) for item in value]
    raise TypeError(f"cannot save {value!r} of type {type(value).__name__}, found in the state of after_scheduler")


def _from_plain(value: Any) -> Any:
    """The state that `_to_plain` was given, its tuples and tensors as lists and numbers."""
    if isinstance(value, Mapping):
        if value.keys() == {"__counter__"}:
            return Counter(value["__counter__"])
        return {key: _from_plain(item) for key, item in value.items()}
    return [_from_plain(item) for item in value] if isinstance(value, list) else value
