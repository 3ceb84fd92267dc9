"""GradualWarmupScheduler against the recorded schedules, torch's own schedulers, and itself interrupted."""

import io
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from warmup_scheduler import GradualWarmupScheduler

pytestmark = [pytest.mark.filterwarnings("error")]  # torch's advice on the order of calls included
if not hasattr(LRScheduler, "_update_lr"):  # an older torch, whose SequentialLR warns of its own call
    pytestmark.append(pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning"))

FOLDER = Path(__file__).parent
RECORDED: dict[str, list[float]] = json.loads((FOLDER / "data" / "lr_schedules.json").read_text())
BASE_LRS = (0.1, 0.02)
EPOCHS = 16
# Falls, rests, rises: enough for ReduceLROnPlateau to act several times within EPOCHS.
METRICS = [5.0, 4.0, 3.0, 3.0, 3.0, 3.5, 3.0, 2.0, 2.0, 2.5, 3.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0]

AFTER: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "cosine": lambda o: CosineAnnealingLR(o, T_max=5, eta_min=1e-4),  # up again after its T_max
    "step": lambda o: StepLR(o, step_size=3, gamma=0.5),
    "multistep": lambda o: MultiStepLR(o, milestones=[2, 5, 5, 9], gamma=0.5),
    "exponential": lambda o: ExponentialLR(o, gamma=0.9),
    "lambda": lambda o: LambdaLR(o, lambda epoch: 0.5 / (1 + epoch)),  # does not start at the peak
    "multiplicative": lambda o: MultiplicativeLR(o, lambda epoch: 1 - 0.01 * epoch),
    "linear": lambda o: LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=6),
    "polynomial": lambda o: PolynomialLR(o, total_iters=9, power=2.0),
    "restarts": lambda o: CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2, eta_min=1e-5),
    "one_cycle": lambda o: OneCycleLR(o, max_lr=[0.3, 0.06], total_steps=20),
    "cyclic": lambda o: CyclicLR(o, base_lr=[0.1, 0.02], max_lr=[0.9, 0.5], step_size_up=3),
    "sequential": lambda o: SequentialLR(
        o, [MultiStepLR(o, [2], gamma=0.5), CosineAnnealingLR(o, 4), ExponentialLR(o, 0.8)], milestones=[4, 8]
    ),
    "chained": lambda o: ChainedScheduler([LinearLR(o, 0.5, total_iters=4), ExponentialLR(o, 0.9)]),
    "plateau": lambda o: ReduceLROnPlateau(o, factor=0.5, patience=0, cooldown=1),
}
ABSOLUTE = {"one_cycle", "cyclic"}  # their rates are arguments, so that a multiplier does not simply scale them


def make_optimizer(base_lrs: Iterable[float | torch.Tensor] = BASE_LRS, kind: type[Optimizer] = SGD) -> Optimizer:
    return kind([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in base_lrs], lr=1.0)  # pyright: ignore[reportCallIssue]


def rates(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def advance(optimizer: Optimizer, scheduler: LRScheduler, epoch: int) -> list[float]:
    """Train for one epoch, step the scheduler to ``epoch``, and return the new rates."""
    optimizer.step()
    if isinstance(scheduler, GradualWarmupScheduler):
        scheduler.step(metrics=METRICS[epoch])
        assert scheduler.get_last_lr() == scheduler._last_lr == rates(optimizer)
        assert scheduler.get_lr() == rates(optimizer)
    elif isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(METRICS[epoch])
    else:
        scheduler.step()
    return rates(optimizer)


def build(
    after: str | None, multiplier: float = 1, total_epoch: int = 3, optimizer: Optimizer | None = None
) -> tuple[Optimizer, GradualWarmupScheduler]:
    optimizer = optimizer or make_optimizer()
    after_scheduler = AFTER[after](optimizer) if after else None
    return optimizer, GradualWarmupScheduler(optimizer, multiplier, total_epoch, after_scheduler)


# ---- the recorded schedules of release 0.3: entry k - 1 is the rate after k steps ----

RECIPE, CONSTANT, DOUBLED = (
    "recipe_20_epochs_warmup3_2e-4_to_1e-6",
    "warmup5_multiplier8_no_after_12",
    "warmup5_multiplier2_cosine_15",
)


def run_recorded(name: str) -> list[float]:
    base_lr, multiplier, total_epoch, t_max, eta_min = {
        RECIPE: (2e-4, 1, 3, 17, 1e-6),
        CONSTANT: (1e-3, 8, 5, None, 0.0),
        DOUBLED: (1e-3, 2, 5, 10, 0.0),
    }[name]
    optimizer = make_optimizer([base_lr], Adam)
    after = CosineAnnealingLR(optimizer, t_max, eta_min) if t_max else None
    scheduler = GradualWarmupScheduler(optimizer, multiplier, total_epoch, after)
    ours = []
    for _ in RECORDED[name]:
        scheduler.step()
        ours += rates(optimizer)
        optimizer.step()
    return ours


@pytest.mark.parametrize(("name", "until"), [(RECIPE, 3), (CONSTANT, 12), (DOUBLED, 5)])
def test_warm_up_is_the_recorded_one(name, until):
    assert run_recorded(name)[:until] == pytest.approx(RECORDED[name][:until], rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("name", "total_epoch", "peak", "eta_min", "overshoot"),
    [(RECIPE, 3, 2e-4, 1e-6, 0.0086), (DOUBLED, 5, 2e-3, 0.0, 0.0251)],
)
def test_cosine_has_the_recorded_shape_without_the_overshoot(name, total_epoch, peak, eta_min, overshoot):
    ours, recorded = run_recorded(name)[total_epoch:], RECORDED[name][total_epoch:]
    assert max(recorded) > peak == ours[0] == max(ours)
    assert ours == sorted(ours, reverse=True)
    # The recorded curve is ours times one factor, so the two differ by the overshoot at most.
    factors = [(theirs - eta_min) / (mine - eta_min) for mine, theirs in zip(ours, recorded, strict=True)]
    assert factors == pytest.approx([factors[0]] * len(factors), rel=1e-9)
    assert ours == pytest.approx(recorded, rel=overshoot, abs=0)


def test_recipe_ends_next_to_the_minimum():
    assert run_recorded(RECIPE)[-1] == pytest.approx(2.694e-6, rel=1e-3)


# ---- warm-up, and the schedule after it ----


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize(("multiplier", "start"), [(1, 0.0), (4, 1.0)])
def test_warm_up_climbs_linearly_from_construction_on(after, multiplier, start):
    optimizer, scheduler = build(after, multiplier, total_epoch=4)
    base_lrs = [0.012, 0.0024] if after == "one_cycle" else BASE_LRS  # OneCycleLR sets its own: max_lr / 25
    assert scheduler.get_last_lr() == rates(optimizer)
    seen = [rates(optimizer)] + [advance(optimizer, scheduler, k) for k in range(1, 5)]
    for k, got in enumerate(seen):
        factor = start + (multiplier - start) * k / 4
        assert got == pytest.approx([lr * factor for lr in base_lrs], rel=1e-12)


@pytest.mark.parametrize("total_epoch", [0, 1, 3])
@pytest.mark.parametrize(
    ("after", "multiplier"), [(name, m) for name in AFTER for m in (1, 4) if m == 1 or name not in ABSOLUTE]
)
def test_after_scheduler_runs_its_own_epochs_from_the_multiplied_rate(after, multiplier, total_epoch):
    alone = make_optimizer([multiplier * lr for lr in BASE_LRS])
    scheduler = AFTER[after](alone)
    first = total_epoch + 1 if total_epoch else 0  # our step that is its epoch 0
    expected = [rates(alone)]
    if after == "plateau" and total_epoch:  # it has no epoch 0: it starts with the first metric after the warm-up
        expected = []
        first -= 1
    expected += [advance(alone, scheduler, first + k) for k in range(1, EPOCHS - first)]

    optimizer, warmup = build(after, multiplier, total_epoch)
    seen = [rates(optimizer)] + [advance(optimizer, warmup, k) for k in range(1, EPOCHS)]
    got = seen[-len(expected) :]
    for mine, theirs in zip(got, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-12)
    assert len({tuple(r) for r in got}) > 2  # the after_scheduler did act


def test_rates_given_as_such_are_not_multiplied():
    optimizer, scheduler = build("cosine", multiplier=4)
    lowest = min(advance(optimizer, scheduler, k)[0] for k in range(1, EPOCHS))
    assert lowest == pytest.approx(1e-4)  # eta_min
    optimizer, scheduler = build("one_cycle", multiplier=4)
    seen = [advance(optimizer, scheduler, k)[0] for k in range(1, EPOCHS)]
    assert seen[3] == pytest.approx(4 * 0.3 / 25)
    assert max(seen) == pytest.approx(0.3)  # max_lr


def test_initial_lr_is_multiplied_when_the_after_scheduler_takes_over():
    optimizer, scheduler = build("step", multiplier=4)
    initial = []
    for k in range(1, 7):
        advance(optimizer, scheduler, k)
        initial.append([group["initial_lr"] for group in optimizer.param_groups])
    assert initial == [list(BASE_LRS)] * 3 + [[4 * lr for lr in BASE_LRS]] * 3
    assert scheduler.after_scheduler is not None
    assert scheduler.after_scheduler.base_lrs == initial[-1]


@pytest.mark.parametrize("after", AFTER)
def test_after_scheduler_knows_its_rates(after):
    optimizer, scheduler = build(after, multiplier=4)
    assert scheduler.after_scheduler is not None
    for k in range(1, 7):
        got = advance(optimizer, scheduler, k)
        assert k < 4 or scheduler.after_scheduler.get_last_lr() == got


@pytest.mark.parametrize("total_epoch", [0, 2])
@pytest.mark.parametrize("multiplier", [1, 1.1, 8])
def test_stays_at_the_peak_without_after_scheduler(multiplier, total_epoch):
    optimizer, scheduler = build(None, multiplier, total_epoch)
    seen = [rates(optimizer)] + [advance(optimizer, scheduler, k) for k in range(1, 8)]
    assert seen[total_epoch:] == [[multiplier * lr for lr in BASE_LRS]] * (8 - total_epoch)


def test_counts_batches_when_stepped_per_batch():
    batches = 5
    per_epoch, by_epoch = build(None, total_epoch=2)
    per_batch, by_batch = build(None, total_epoch=2 * batches)
    for k in range(1, 5):
        for _ in range(batches):
            per_batch.step()
            by_batch.step()
        assert rates(per_batch) == pytest.approx(advance(per_epoch, by_epoch, k), rel=1e-12)


def test_tensor_rates_are_written_in_place():
    lr = torch.tensor(0.1)
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, foreach=False)
    scheduler = GradualWarmupScheduler(optimizer, 4, 2, CosineAnnealingLR(optimizer, 4))
    held = optimizer.param_groups[0]["lr"]
    seen = []
    for _ in range(5):
        optimizer.step()
        scheduler.step()
        seen.append(float(held))
    assert seen == pytest.approx([0.25, 0.4, 0.4, 0.4 * (1 + 0.5**0.5) / 2, 0.2], rel=1e-6)
    json.dumps(scheduler.state_dict())


# ---- interrupted and resumed ----


def through_json(state: dict) -> dict:
    return json.loads(json.dumps(state))


def through_torch(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("order", ["optimizer first", "scheduler first", "optimizer before construction"])
@pytest.mark.parametrize("carry", [through_json, through_torch])
@pytest.mark.parametrize("multiplier", [1, 4])
@pytest.mark.parametrize("after", [None, *AFTER])
def test_resuming_at_any_epoch_changes_nothing(after, multiplier, carry, order):
    optimizer, scheduler = build(after, multiplier)
    states = [(optimizer.state_dict(), carry(scheduler.state_dict()))]
    whole = [rates(optimizer)]
    for k in range(1, EPOCHS):
        whole.append(advance(optimizer, scheduler, k))
        states.append((through_torch(optimizer.state_dict()), carry(scheduler.state_dict())))

    for cut, (optimizer_state, scheduler_state) in enumerate(states):
        optimizer = make_optimizer()
        if order == "optimizer before construction":
            optimizer.load_state_dict(optimizer_state)
        _, scheduler = build(after, multiplier, optimizer=optimizer)
        if order == "optimizer first":
            optimizer.load_state_dict(optimizer_state)
        scheduler.load_state_dict(scheduler_state)
        assert scheduler.get_last_lr() == rates(optimizer) == whole[cut]
        if order == "scheduler first":
            optimizer.load_state_dict(optimizer_state)
        resumed = [advance(optimizer, scheduler, k) for k in range(cut + 1, EPOCHS)]
        assert resumed == whole[cut + 1 :], f"resumed at epoch {cut}"
        assert scheduler.last_epoch == EPOCHS - 1


@pytest.mark.parametrize("after", sorted(AFTER.keys() - {"plateau"}))
def test_replaying_the_steps_is_as_good_as_a_saved_state(after):
    optimizer, scheduler = build(after, multiplier=4)
    whole = [advance(optimizer, scheduler, k) for k in range(1, EPOCHS)]
    replayed, scheduler = build(after, multiplier=4)
    replayed.step()
    scheduler.step(EPOCHS - 1)
    assert rates(replayed) == whole[-1]


@pytest.mark.parametrize("after", ["cosine", "sequential"])
def test_a_running_scheduler_can_go_back_to_an_earlier_state(after):
    optimizer, scheduler = build(after, multiplier=4)
    state = through_json(scheduler.state_dict())
    whole = [advance(optimizer, scheduler, k) for k in range(1, EPOCHS)]
    scheduler.load_state_dict(state)
    assert [group["initial_lr"] for group in optimizer.param_groups] == list(BASE_LRS)
    assert [advance(optimizer, scheduler, k) for k in range(1, EPOCHS)] == whole


def test_saved_settings_replace_those_of_the_constructor():
    _, saved = build("cosine", multiplier=4, total_epoch=5)
    optimizer, scheduler = build("cosine", multiplier=2, total_epoch=3, optimizer=make_optimizer([7.0, 7.0]))
    scheduler.load_state_dict(saved.state_dict())
    assert [advance(optimizer, scheduler, k)[0] for k in range(1, 6)][-1] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("after_lrs"), "it lacks after_lrs"),
        (lambda state: state.update(after_kind="StepLR"), "saved with after_scheduler StepLR, this one is CosineAnn"),
        (lambda state: state.update(after_kind=None), "saved with after_scheduler None, this one is CosineAnnealingLR"),
        (lambda state: state.update(base_lrs=[0.1]), "the state has 1 parameter groups, the optimizer 2"),
    ],
)
def test_a_foreign_state_is_refused_and_changes_nothing(spoil, message):
    _, scheduler = build("cosine")
    before = scheduler.state_dict()
    another, other = build("cosine")
    advance(another, other, 1)
    state = other.state_dict()
    spoil(state)
    with pytest.raises(ValueError, match=message):
        scheduler.load_state_dict(state)
    assert scheduler.state_dict() == before


def test_a_state_that_cannot_be_saved_is_named():
    _, scheduler = build("cosine")
    assert scheduler.after_scheduler is not None
    scheduler.after_scheduler.__dict__["hook"] = object()
    with pytest.raises(TypeError, match=r"cannot save <object object at .*> of type object"):
        scheduler.state_dict()


# ---- ways of calling step ----


def test_epoch_numbers_are_the_steps():
    optimizer, scheduler = build("cosine")
    counted, by_number = build("cosine")
    assert rates(counted) == rates(optimizer)
    for k in range(EPOCHS):
        counted.step()
        by_number.step(k)  # the first one repeats epoch 0
        if k:
            assert rates(counted) == advance(optimizer, scheduler, k)
    by_number.step(EPOCHS - 1)
    assert rates(counted) == rates(optimizer)


def test_the_current_epoch_changes_nothing():
    _, scheduler = build("plateau")
    scheduler.step(5, 1.0)
    before = scheduler.state_dict()
    scheduler.step(5)
    scheduler.step(5, 9.0)
    assert scheduler.state_dict() == before


@pytest.mark.parametrize(
    "call",
    [
        lambda scheduler, k: scheduler.step(metrics=1.0),
        lambda scheduler, k: scheduler.step(k, 1.0),
        lambda scheduler, k: scheduler.step(k, metrics=torch.tensor(1.0)),
        lambda scheduler, k: scheduler.step(None, 1.0),
        lambda scheduler, k: scheduler.step(metrics=1.0) if k > 2 else scheduler.step(),
    ],
)
def test_plateau_takes_its_metric_after_the_warm_up(call):
    optimizer = make_optimizer([0.8])
    after = ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    scheduler = GradualWarmupScheduler(optimizer, 1, 2, after)
    seen = []
    for k in range(1, 8):
        optimizer.step()
        call(scheduler, k)
        seen += rates(optimizer)
    # Step 3 sets the best value; steps 4 and 5 do not better it, so 5 halves the rate, and 7 again.
    assert seen == pytest.approx([0.4, 0.8, 0.8, 0.8, 0.4, 0.4, 0.2])


def test_a_jump_gives_plateau_its_metric_once():
    _, scheduler = build("plateau", multiplier=2)
    scheduler.step(12, 1.0)
    assert scheduler.get_last_lr() == [2 * lr for lr in BASE_LRS]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epoch": 3}, ValueError, "cannot step back from epoch 5 to 3"),
        ({"epoch": 0.3, "metrics": 1.0}, TypeError, r"whole number, got 0.3: give a metric as step\(metrics=...\)"),
        ({}, ValueError, "ReduceLROnPlateau needs a metric at epoch 6"),
        ({"epoch": 9}, ValueError, "ReduceLROnPlateau needs a metric at epoch 9"),
    ],
)
def test_a_wrong_step_is_refused_and_changes_nothing(arguments, error, message):
    _, scheduler = build("plateau")
    scheduler.step(5, 1.0)
    before = scheduler.state_dict()
    with pytest.raises(error, match=message):
        scheduler.step(**arguments)
    assert scheduler.state_dict() == before


def test_can_be_a_part_of_sequential():
    optimizer, warmup = build(None, total_epoch=2)
    scheduler = SequentialLR(optimizer, [ExponentialLR(optimizer, 0.5), warmup], milestones=[3])
    seen = []
    for _ in range(6):
        optimizer.step()
        scheduler.step()
        seen.append(rates(optimizer)[0])
    assert seen == pytest.approx([0.05, 0.025, 0.0, 0.05, 0.1, 0.1])


# ---- arguments ----


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"multiplier": 0.5}, ValueError, "multiplier must be finite and at least 1, got 0.5"),
        ({"multiplier": float("nan")}, ValueError, "multiplier must be finite and at least 1, got nan"),
        ({"multiplier": float("inf")}, ValueError, "multiplier must be finite and at least 1, got inf"),
        ({"multiplier": "8"}, TypeError, "multiplier must be a number, got '8'"),
        ({"total_epoch": -1}, ValueError, "total_epoch must be 0 or more, got -1"),
        ({"total_epoch": 2.5}, TypeError, "total_epoch must be a whole number of epochs, got 2.5"),
        ({"optimizer": "Adam"}, TypeError, "optimizer must be a torch.optim.Optimizer, got 'Adam'"),
        ({"after_scheduler": "cosine"}, TypeError, "after_scheduler must be a torch .* or None, got 'cosine'"),
        (
            {"after_scheduler": StepLR(make_optimizer(), 1)},
            ValueError,
            "after_scheduler StepLR was made on another optimizer",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    optimizer = make_optimizer()
    with pytest.raises(error, match=message):
        GradualWarmupScheduler(**{"optimizer": optimizer, "multiplier": 1, "total_epoch": 3, **arguments})
    assert rates(optimizer) == list(BASE_LRS)


# ---- the README ----


def test_the_example_of_the_readme_runs_as_it_says():
    (example,) = re.findall(
        r"```python\n(.*?)```", (FOLDER.parent / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    names: dict = {}
    exec(example, names)
    assert names["rates"] == pytest.approx(run_recorded(RECIPE), rel=1e-12)


@pytest.mark.parametrize("epochs", range(1, 7))
def test_a_resumed_run_may_step_before_its_optimizer(epochs: int) -> None:
    def build() -> tuple[Adam, GradualWarmupScheduler]:
        optimizer = Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        return optimizer, GradualWarmupScheduler(optimizer, 1, 2, CosineAnnealingLR(optimizer, 6))

    first_optimizer, first = build()
    for _ in range(epochs):
        first.step()
        first_optimizer.step()
    optimizer, scheduler = build()
    scheduler.load_state_dict(first.state_dict())
    scheduler.step()  # warnings are errors in this file
    first.step()
    assert scheduler.get_last_lr() == first.get_last_lr()
    optimizer.step()
