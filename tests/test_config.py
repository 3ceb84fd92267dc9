"""Settings: every key is read, and what is wrong is named."""

from pathlib import Path

import pytest
import yaml
from rooms import BLUR, data
from small import PHOTOS, ROOT, make_pairs, settings
from yacs.config import CfgNode

from mhnet.core.tasks import DEBLURRING, DERAINING, TASKS
from mhnet.models import MHNetArgs, MHNetV4Args
from mhnet.train.config import ConfigError, as_dict, defaults, load_config, network_args
from mhnet.train.trainer import train


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_the_rooms_files_are_the_papers_recipe_in_full(task):
    path = ROOT / task.folder / "training.yml"
    config = load_config(task, path)
    written = yaml.safe_load(path.read_text())
    assert {section: sorted(values) for section, values in written.items()} == {
        section: sorted(values) for section, values in defaults(task).items()
    }
    optim = config.OPTIM
    assert (optim.OPTIMIZER, optim.BETAS, optim.EPS, optim.WEIGHT_DECAY) == ("adam", [0.9, 0.999], 1e-8, 0)
    assert (optim.LR_INITIAL, optim.LR_MIN, optim.WARMUP_EPOCHS, optim.BATCH_SIZE) == (2e-4, 1e-6, 3, 16)
    assert (config.DATA.PATCH, config.TRAINING.SEED, config.TRAINING.TORCH_SEED) == (256, 1234, 42)
    assert {"deblurring": 4500, "deraining": 250}[task.name] == optim.EPOCHS
    assert network_args(config) == MHNetArgs(n_feat={"deblurring": 64, "deraining": 40}[task.name])
    assert str(ROOT / task.folder / task.train_dir) == config.DATA.TRAIN_DIR


@pytest.mark.slow
def test_every_key_is_read(tmp_path, monkeypatch):
    """Trains, once with held-out pairs and once with others, and looks which settings were asked for."""
    asked = set()
    plain_getattr = CfgNode.__getattr__

    def noting(self, name):
        asked.add(name)
        return plain_getattr(self, name)

    make_pairs(tmp_path / "pairs")
    photographs = {"SHARP_DIR": str(PHOTOS), "DEGRADE": "blur", "VAL_IMAGES": 1}
    path = settings(tmp_path / "training.yml", DATA=photographs, OPTIM={"EPOCHS": 2})
    with monkeypatch.context() as patch:
        patch.setattr(CfgNode, "__getattr__", noting)
        train(load_config(DEBLURRING, path), BLUR)
        data.build_data(load_config(DEBLURRING, path, ["DATA.VAL_DIR", str(tmp_path / "pairs")]))
    keys = {name for section in defaults(DEBLURRING).values() for name in section}
    assert keys - asked == set()


def test_the_command_line_overrides_the_file(tmp_path, monkeypatch):
    path = settings(tmp_path / "training.yml")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = settings(tmp_path / "training.yml", DATA={"PROGRESSIVE": [[2, 64, 2]]})
    config = load_config(DERAINING, path, ["DATA.PROGRESSIVE", "[]"])
    assert config.DATA.PROGRESSIVE == []
    config = load_config(
        DERAINING, path, ["OPTIM.LR_INITIAL", "2e-4", "MODEL.ENCODER_BLOCKS", "[1, 2, 3, 4]", "DATA.VAL_DIR", "mine"]
    )
    assert config.OPTIM.LR_INITIAL == 2e-4
    assert network_args(config) == MHNetArgs(width=8, n_feat=8, encoder_blocks=(1, 2, 3, 4), group_blocks=1)
    assert str(elsewhere / "mine") == config.DATA.VAL_DIR  # the command line's folder
    assert str(tmp_path / "pairs") == config.DATA.TRAIN_DIR  # the file's folder
    with pytest.raises(AttributeError):
        config.OPTIM.EPOCHS = 3
    for text in ("/data/a #b", "2023", "a: b"):  # text is taken as it stands
        assert str(elsewhere / text) == load_config(DERAINING, path, ["DATA.TRAIN_DIR", text]).DATA.TRAIN_DIR


def test_the_later_design_and_the_stage1_head_can_be_asked_for(tmp_path):
    path = settings(tmp_path / "training.yml", OPTIM={"STAGE1_WEIGHT": 0.1})
    config = load_config(DEBLURRING, path, ["MODEL.ARCHITECTURE", "mhnet_v4"])
    args = network_args(config)
    assert args == MHNetV4Args(width=8, encoder_blocks=(1, 1, 1, 1), group_blocks=1, stage1_head=True)


def test_a_checkpoint_does_not_tell_where_the_machine_keeps_its_data(tmp_path):
    plain = as_dict(load_config(DEBLURRING, settings(tmp_path / "training.yml")))
    assert plain["DATA"]["TRAIN_DIR"] == f"{tmp_path.name}/pairs"
    assert plain["OPTIM"]["BATCH_SIZE"] == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "OPTIM: {LR_INITAL: 1e-3}",
            r"training\.yml: there is no setting OPTIM\.LR_INITAL; did you mean OPTIM\.LR_INITIAL",
        ),
        ("OPTIMS: {LR_INITIAL: 1e-3}", "no setting OPTIMS.LR_INITIAL; did you mean OPTIM.LR_INITIAL"),
        ("BATCH_SIZE: 3", "no setting BATCH_SIZE; did you mean OPTIM.BATCH_SIZE"),
        ("OPTIM: 3", "OPTIM is a section"),
        ("OPTIM: {BATCH_SIZE: 1.5}", "OPTIM.BATCH_SIZE must be a whole number, not 1.5"),
        ("OPTIM: {BATCH_SIZE: true}", "OPTIM.BATCH_SIZE must be a whole number, not True"),
        ("OPTIM: {BATCH_SIZE: 0}", "OPTIM.BATCH_SIZE is 0; it must be at least 1"),
        ("OPTIM: {LR_INITIAL: fast}", "OPTIM.LR_INITIAL must be a finite number, not 'fast'"),
        ("OPTIM: {LR_INITIAL: .nan}", "OPTIM.LR_INITIAL must be a finite number"),
        ("OPTIM: {LR_INITIAL: 1e-7}", "must be above LR_MIN"),
        ("OPTIM: {EPOCHS: 3, WARMUP_EPOCHS: 3}", "less than EPOCHS 3"),
        ("OPTIM: {BETAS: [0.9]}", "OPTIM.BETAS must be a list of 2"),
        ("OPTIM: {BETAS: [0.9, 1.0]}", "BETAS"),
        ("TRAINING: {RESUME: 1}", "TRAINING.RESUME must be true or false, not 1"),
        ("TRAINING: {SAVE_DIR: }", "SAVE_DIR must be named"),
        ("DATA: {TRAIN_DIR: 7}", "DATA.TRAIN_DIR must be text, not 7"),
        ("DATA: {SEVERITY: [1, 0]}", "two rising values"),
        ("DATA: {TRAIN_TARGET_DIR: clean, DEGRADE: rain}", "are for pairs, not for DATA.DEGRADE"),
        ("DATA: {VAL_TARGET_DIR: clean}", "VAL_TARGET_DIR needs DATA.VAL_DIR"),
        ("DATA: {PREFETCH: 0}", "DATA.PREFETCH is 0; it must be at least 1"),
        ("DATA: {WORKERS: -1}", "DATA.WORKERS is -1; it must be at least 0"),
        ("MODEL: {N_FEAT: 13}", "n_feat 13"),
        ("MODEL: {ARCHITECTURE: mhnet_v4, WIDTH: 40}", "width 40"),
        ("OPTIM: {GRAD_CLIP: .inf}", "GRAD_CLIP must be a finite number"),
        ("DATA: {TRAIN_DIR: ~nosuchuser/x}", "nosuchuser"),
        ("TRAINING: {SEED: -1}", "SEED -1 must be from 0"),
        ("TRAINING: {TORCH_SEED: 99999999999999999999}", "TORCH_SEED"),
        ("optim: {batch_size: 3}", r"did you mean OPTIM\.BATCH_SIZE"),
        ("MODEL: {ENCODER_BLOCKS: [1, 1, 1, 0]}", "encoder_blocks 0"),
        ("[1, 2]", "holds no settings"),
        ("OPTIM: {", "no valid YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, said):
    path = tmp_path / "training.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as raised:
        load_config(DEBLURRING, path)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("OPTIM.OPTIMIZER", "OPTIM.OPTIMIZER is 'none'; it can be 'adam', 'adamw'"),
        ("OPTIM.LOSS", "OPTIM.LOSS is 'none'; it can be 'psnr', 'soft_psnr', 'charbonnier', 'l1'"),
        ("DATA.DEGRADE", "DATA.DEGRADE is 'none'; it can be 'rain', 'filmed_rain', 'blur', "),
    ],
)
def test_what_a_room_can_extend_is_named_by_the_room(tmp_path, key, said):
    make_pairs(tmp_path / "pairs")
    config = load_config(DEBLURRING, settings(tmp_path / "training.yml"), [key, "none"])
    with pytest.raises(ConfigError, match=said):
        train(config, BLUR)


def test_wrong_overrides_and_files_are_named(tmp_path):
    path = settings(tmp_path / "training.yml")
    with pytest.raises(ConfigError, match=r"OPTIM\.EPOCHS has no partner"):
        load_config(DEBLURRING, path, ["OPTIM.EPOCHS"])
    with pytest.raises(ConfigError, match=r"the command line: there is no setting EPOCHS; did you mean OPTIM\.EPOCHS"):
        load_config(DEBLURRING, path, ["EPOCHS", "3"])
    with pytest.raises(ConfigError, match=r"write a number, or a list"):
        load_config(DEBLURRING, path, ["OPTIM.BETAS", "[a"])
    with pytest.raises(ConfigError, match=r"absent\.yml cannot be read"):
        load_config(DEBLURRING, Path(tmp_path / "absent.yml"))
