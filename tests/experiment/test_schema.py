"""Reading of experiment files, and the errors for wrong ones."""

from pathlib import Path

import pytest

from fssplat.common.errors import InputError
from fssplat.experiment.expand import expand
from fssplat.experiment.reading import load_experiment
from fssplat.experiment.schema import DatasetSpec, TrainingSpec, digest
from fssplat.methods import METHODS

MINIMAL = "dataset: synthetic\ngrid: {method: [prior]}\n"


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def message(folder: Path, text: str, *changes: str) -> str:
    with pytest.raises(InputError) as caught:
        load_experiment(write(folder, text), changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_takes_its_name_from_its_stem(tmp_path: Path) -> None:
    assert load_experiment(write(tmp_path, MINIMAL)).name == "mine"


def test_a_typo_names_the_file_and_the_nearest_setting(tmp_path: Path) -> None:
    text = message(tmp_path, MINIMAL + "evaluation: {precison: bf16}\n")
    assert "mine.yaml: evaluation.precison is not a setting." in text
    assert "Did you mean evaluation.precision?" in text


def test_a_wrong_type_names_the_key_and_the_value(tmp_path: Path) -> None:
    text = message(tmp_path, "dataset: synthetic\ngrid: {method: [prior], fold: [x]}\n")
    assert "grid.fold[0]" in text
    assert "'x'" in text


def test_a_file_or_a_setting_of_too_many_values_is_named(tmp_path: Path) -> None:
    many = ", ".join(map(str, range(10_001)))
    ending = "more than 10000 values, counted with those that aliases repeat. Give fewer values."
    text = message(tmp_path, f"dataset: synthetic\ngrid: {{method: [prior], seed: [{many}]}}\n")
    assert text == f"{tmp_path / 'mine.yaml'}: {ending}"
    assert message(tmp_path, MINIMAL, f"grid.seed=[{many}]") == f"--set grid.seed: {ending}"


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ("training: {steps: true}", "training.steps"),
        ("training: {steps: 1, milestones: [0.5, false]}", "training.milestones[1]"),
        ("training: {steps: 1, augment: {rotate: yes}}", "training.augment.rotate"),
        ("protocol: {name: fssplat, episodes: true}", "protocol.episodes"),
        ("evaluation: {panels: false}", "evaluation.panels"),
        ("resources: {gpu: true}", "resources.gpu"),
        ("backbones: {vgg16: {name: vgg16, weights: true}}", "backbones.vgg16.weights"),
    ],
)
def test_true_is_not_read_as_the_number_one(tmp_path: Path, keys: str, key: str) -> None:
    with pytest.raises(InputError) as caught:
        expand(load_experiment(write(tmp_path, MINIMAL.replace("prior", "panet") + keys)), METHODS)
    boolean = "false" if "false" in keys else "true"
    assert f"{key} is {boolean}, but it is no yes-or-no setting" in str(caught.value)


def test_true_in_the_grid_in_an_option_or_in_a_loss_weight_is_refused(tmp_path: Path) -> None:
    entry = "dataset: synthetic\ngrid: {fold: [%s], method: [{name: mining, %s}]}\n"
    for fold, more, key in (
        ("true", "variant: x", "grid.fold[0]"),
        ("0", "loss_weights: {auxiliary: true}", "grid.method[0].loss_weights.auxiliary"),
        ("0", "options: {clusters: true}", "mining: options.clusters"),
    ):
        with pytest.raises(InputError, match="true, but it is no yes-or-no setting") as caught:
            expand(load_experiment(write(tmp_path, entry % (fold, more))), METHODS)
        assert key in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("datasets: {../cells: {root: a}}", "datasets: '../cells' cannot name a data set"),
        ("backbones: {vgg16: {name: resnet50}}", "backbones: vgg16 is named resnet50; both must"),
    ],
)
def test_the_name_of_an_entry_is_its_key(tmp_path: Path, keys: str, says: str) -> None:
    assert says in message(tmp_path, MINIMAL + keys + "\n")


def test_one_value_in_place_of_a_list_shows_how_to_write_a_list(tmp_path: Path) -> None:
    text = message(tmp_path, "dataset: synthetic\ngrid: {method: [prior], fold: 2}\n")
    assert text.endswith("grid.fold: needs a list, as in [2].")


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    assert "line 3, column 6" in message(
        tmp_path, "dataset: synthetic\ngrid: {method: [prior\nstore: x\n"
    )


def test_a_missing_file_says_where_examples_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such experiment file"):
        load_experiment(tmp_path / "none.yaml")


def test_extends_is_read_first_and_a_loop_is_named(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL + "store: below\n", "base.yaml")
    above = load_experiment(write(tmp_path, "extends: base.yaml\nstore: above\n"))
    assert (above.store, above.dataset) == ("above", "synthetic")
    write(tmp_path, "extends: mine.yaml\n", "base.yaml")
    assert "extends itself (mine.yaml -> base.yaml -> mine.yaml)" in message(
        tmp_path, "extends: base.yaml\n"
    )


def test_set_wins_over_the_profile_and_the_profile_over_the_file(tmp_path: Path) -> None:
    text = MINIMAL + "store: file\nname: file\nprofiles: {small: {store: profile, name: profile}}\n"
    chosen = load_experiment(write(tmp_path, text), ("profile=small", "name=set"))
    assert (chosen.store, chosen.name) == ("profile", "set")


def test_steps_and_epochs_replace_each_other_in_later_layers(tmp_path: Path) -> None:
    text = MINIMAL + "training: {epochs: 5, lr: 1}\nsearch: {training: {epochs: 5}}\n"
    text += "profiles: {short: {training: {steps: 2}}}\n"
    path = write(tmp_path, text)
    long = write(tmp_path, "extends: mine.yaml\ntraining: {steps: 7}\n", "long.yaml")
    assert load_experiment(path, ("profile=short",)).training == {"steps": 2, "lr": 1}
    assert load_experiment(long).training == {"steps": 7, "lr": 1}
    changed = load_experiment(long, ("profile=short", "training.epochs=3"))
    assert changed.training == {"epochs": 3, "lr": 1}
    assert load_experiment(path, ("search.training.steps=9",)).search == {"training": {"steps": 9}}
    both = load_experiment(path, ("training.steps=9", "training.epochs=null"))
    assert both.training == {"steps": 9, "epochs": None, "lr": 1}


def test_an_unknown_profile_lists_the_known_ones(tmp_path: Path) -> None:
    text = MINIMAL + "profiles: {small: {store: x}}\n"
    assert "profile 'big' is unknown. Known: small." in message(tmp_path, text, "profile=big")


def test_a_profile_can_be_set_with_the_command(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "profiles: {small: {store: x}}\n")
    assert load_experiment(path, ("profile=small", "profiles.small.name=y")).name == "y"


def test_a_profile_that_is_not_a_mapping_is_one_line(tmp_path: Path) -> None:
    text = MINIMAL + "profiles: {small: 3}\n"
    assert "profiles.small: 3 is not a mapping" in message(tmp_path, text, "profile=small")
    assert "profiles: 3 is not a mapping" in message(tmp_path, MINIMAL + "profiles: 3\n")


def test_a_profile_changes_axes_of_a_protocol_and_keeps_its_name(tmp_path: Path) -> None:
    text = MINIMAL + "protocol: hsnet\nprofiles: {small: {protocol: {episodes: 3}}}\n"
    chosen = load_experiment(write(tmp_path, text), ("profile=small",))
    assert chosen.protocol == {"name": "hsnet", "episodes": 3}


def test_an_environment_variable_in_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_STORE", "elsewhere")
    assert load_experiment(write(tmp_path, MINIMAL + 'store: "${oc.env:MY_STORE}"\n')).store == (
        "elsewhere"
    )


def test_set_without_a_value_is_explained(tmp_path: Path) -> None:
    assert "write key=value" in message(tmp_path, MINIMAL, "store")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("[=1", "--set [=1: [ cannot be set so"),
        ("training.lr=[", "--set training.lr=[: [ is not YAML"),
        ("grid.fold=[0", "--set grid.fold=[0: [0 is not YAML"),
        ("grid.method.0.name=pfenet", "grid.method.0.name cannot be set so"),
        ("grid=[1]", "grid cannot be set so"),
    ],
)
def test_a_set_that_cannot_be_read_is_an_input_error(
    tmp_path: Path, change: str, said: str
) -> None:
    assert said in message(tmp_path, MINIMAL, change)


def test_a_training_has_exactly_one_length() -> None:
    with pytest.raises(ValueError, match="exactly one of steps and epochs"):
        TrainingSpec(steps=1, epochs=1)


def test_a_setting_that_cannot_change_a_number_does_not_change_the_digest() -> None:
    one, moved = (DatasetSpec(name="synthetic", root=root) for root in ("", "elsewhere"))
    assert digest(one) == digest(moved)
    assert digest(one) != digest(DatasetSpec(name="coco-20i"))


@pytest.mark.parametrize(
    "change",
    [
        "training.size=100000000",
        "training.steps=1e23",
        "training.steps=100000000000000000000000",
        "training.epochs=1000000000",
        "training.batch=1000000000",
        "training.shot=1000000",
        "training.lr=1e300",
        "grid.shot=[1000000]",
        "grid.way=[1000000]",
        "grid.seed=[18446744073709551616]",
        "grid.seed=[9223372036854775808]",
        "protocol.episodes=1000000000000",
        "protocol.episode_seeds=[4294967296]",
        "protocol.size=100000000",
        "evaluation.cache_gb=1e30",
        "evaluation.workers=1000000",
        "evaluation.batch=1000000000",
        "resources.cpu=1e9",
        "resources.gpu=1e9",
        "resources.max_concurrent=1000000000",
    ],
)
def test_an_absurd_size_is_refused_by_its_key(tmp_path: Path, change: str) -> None:
    from fssplat.experiment.expand import expand
    from fssplat.methods import METHODS

    text = "dataset: synthetic\ngrid: {method: [pfenet]}\n"
    with pytest.raises(InputError) as caught:
        expand(load_experiment(write(tmp_path, text), (change,)), METHODS)
    assert "\n" not in str(caught.value)
    assert change.partition("=")[0] in str(caught.value)


def test_the_largest_seed_of_64_bits_with_a_sign_is_accepted(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    assert load_experiment(path, (f"grid.seed=[{2**63 - 1}]",)).grid.seed == (2**63 - 1,)
