"""The folds of a directory: what may be in it, which belong together, and the weights they may begin with."""

import pytest

from hicmae_jax.runs import folds, unseen_tests
from hicmae_jax.runs.folds_alike import check_alike, check_directory
from hicmae_jax.settings import finetune as settings_of
from hicmae_jax.settings.finetune_sections import LabelledDataConfig
from tests.support import corpus_fixtures, finetune_fixtures
from tests.support.finetune_fixtures import write_labelled_set

pytestmark = pytest.mark.filterwarnings(corpus_fixtures.PROTOBUF_IN_TFDS)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_labelled_set(tmp_path_factory.mktemp("set"), 24, speakers=4)


@pytest.fixture(scope="module")
def tuned(data, tmp_path_factory):
    """A directory with one fold that has begun."""
    root = tmp_path_factory.mktemp("folds")
    finetune_fixtures.write_run(root / "fold-1", finetune_fixtures.config(data))
    return root


def run(config, directory, chosen=("2",)):
    config = config.to_dict() if isinstance(config, settings_of.FinetuneSettings) else config
    folds.run(config, directory, chosen, "cpu", show_progress=False)


def refused(message, config, directory, chosen=("2",)):
    """Refused in one line, and nothing is trained."""
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        run(config, directory, chosen)
    assert "\n" not in str(raised.value)
    assert not (directory / "fold-2").exists()


# --- The directory ------------------------------------------------------------------------------------------


def test_a_directory_of_folds_or_none_is_taken(tuned, tmp_path):
    check_directory(tuned)
    check_directory(tmp_path)
    check_directory(tmp_path / "new")


def test_other_directories_are_refused_before_any_work(data, tuned, tmp_path):
    config = finetune_fixtures.config(data)
    (tmp_path / "pretrained" / "checkpoints").mkdir(parents=True)
    refused("pretrained is a run, which cannot hold folds: give a new", config, tmp_path / "pretrained")
    refused(f"fold-1 is the run of one fold: give {tuned} for its folds", config, tuned / "fold-1")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    refused(r"photos is not empty and holds no folds \(a\.jpg, …\)", config, tmp_path / "photos")
    (tmp_path / "file").touch()
    refused("file is not a directory: give another one", config, tmp_path / "file")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (("3",), "made_up has no fold 3: its folds are 1, 2, or all"),
        (("all", "1"), "made_up has no fold all"),
        ((), "--folds is empty: give numbers of folds, or all"),
    ],
)
def test_unknown_folds_are_refused(data, tmp_path, chosen, message):
    refused(message, finetune_fixtures.config(data), tmp_path, chosen)


# --- Folds of one table -------------------------------------------------------------------------------------


def test_folds_with_other_settings_are_refused(data, tuned):
    refused(
        r"the folds of a directory must be alike: batch is 8 in fold 1, 16 in the config; "
        r"optimizer\.betas is \[0\.9, 0\.999\] in fold 1, \[0\.9, 0\.95\] in the config",
        finetune_fixtures.config(data, batch=16, optimizer__betas=(0.9, 0.95)),
        tuned,
    )
    selected = finetune_fixtures.config(data, data__selection="published")
    refused(r"data\.selection is 'honest' in fold 1, 'published' in the config", selected, tuned)


def test_folds_of_another_protocol_are_refused(tmp_path, data):
    other = write_labelled_set(tmp_path / "set", 24, 4, dataset="ravdess", classes=("happy", "sad"))
    ravdess = finetune_fixtures.config(other, "ravdess")
    finetune_fixtures.write_run(tmp_path / "folds" / "fold-1", ravdess)
    config = finetune_fixtures.config(data)
    refused(r"data\.protocol is 'ravdess' in fold 1, 'made_up' in the config", config, tmp_path / "folds")


def test_where_and_how_a_fold_is_computed_may_differ(data):
    config = finetune_fixtures.config(data)
    elsewhere = {"data.fold": 2, "data.workers": 2, "fsdp": 2, "log.every": 7, "scoring.batch": 3}
    changed = config.changed(elsewhere)
    begun = {1: settings_of.flatten(config.to_dict())}
    check_alike(changed, begun)
    with pytest.raises(ValueError, match="seed is 0 in fold 1, 3 in the config"):
        check_alike(config.changed({"seed": 3}), begun)


# --- Initial weights ----------------------------------------------------------------------------------------


@pytest.fixture
def began(monkeypatch):
    """What each fold begins with; nothing is trained."""
    seen = {}

    def record(config, directory, encoders, *choices):
        seen[config.data.fold] = config.initial, None if encoders is None else encoders.step

    monkeypatch.setattr(folds.finetune, "run", record)
    monkeypatch.setattr(folds, "write_report", lambda *arguments: "")
    return seen


def test_all_folds_begin_with_the_checkpoint_of_the_first(data, tmp_path, began):
    other = write_labelled_set(tmp_path / "set", 24, 4, dataset="ravdess", classes=("happy", "sad"))
    weights = finetune_fixtures.write_run(tmp_path / "w", finetune_fixtures.config(other, "ravdess"), (3, 5))
    config = finetune_fixtures.config(data, initial__weights=str(weights))
    run(config, tmp_path / "folds", ["1"])
    initial, step = began[1]
    assert (initial.step, initial.best, step) == (5, False, 5)
    # As if fold 1 had begun when step 3 was the last.
    begun = config.changed({"initial.step": 3})
    finetune_fixtures.write_run(tmp_path / "folds" / "fold-1", begun)
    run(config, tmp_path / "folds", ["all"])
    assert {fold: (initial.step, step) for fold, (initial, step) in began.items()} == {
        1: (3, None),
        2: (3, 3),
    }


def test_weights_that_may_have_seen_test_clips_are_refused(data, tuned, tmp_path, began):
    config = finetune_fixtures.config(data, initial__weights=str(tuned / "fold-1"))
    refused(
        r"initial\.weights: .*fold-1, step 3 was fine-tuned on made_up, fold 1, and may have seen "
        "labels of the test clips of made_up, fold 2",
        config,
        tmp_path / "folds",
    )
    run(config, tmp_path / "folds", ["1"])  # the same fold has the same test clips
    assert began[1][1] == 3


def test_weights_that_are_not_there_are_one_line(data, tmp_path):
    config = finetune_fixtures.config(data, initial__weights=str(tmp_path / "none"))
    refused("none", config, tmp_path / "folds")


# --- Clips of the test part ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "other"),
    [("crema_d", "crema_d"), ("crema_d", "crema_d_4"), ("mafw_11", "mafw_43"), ("mer_multi", "mer2024")],
)
def test_a_union_with_clips_of_the_test_part_is_refused(protocol, other):
    data = LabelledDataConfig(sets=("a", "b"), protocol=protocol, other_protocols=(other,))
    with pytest.raises(ValueError, match=f"clips of {other} may be test clips of {protocol}"):
        unseen_tests.check_union(data)
    unseen_tests.check_union(
        LabelledDataConfig(sets=("a", "b"), protocol=protocol, other_protocols=("dfew",))
    )


@pytest.mark.parametrize(
    ("tuned", "allowed"),
    [
        (("ravdess", 2, ()), True),
        (("crema_d", 1, ()), True),
        (("crema_d", 2, ()), False),
        (("crema_d_4", 1, ()), False),
        (("ravdess", 1, ("crema_d",)), False),
        (("crema_d", 1, ("crema_d_4",)), False),
    ],
)
def test_weights_of_other_folds_may_have_seen_the_test_clips(tuned, allowed):
    names = ("data.protocol", "data.fold", "data.other_protocols")
    data = LabelledDataConfig(sets=("a",), protocol="crema_d", fold=1)
    if allowed:
        unseen_tests.check_weights(data, "runs/a", dict(zip(names, tuned)))
    else:
        with pytest.raises(ValueError, match="runs/a was fine-tuned on"):
            unseen_tests.check_weights(data, "runs/a", dict(zip(names, tuned)))
    unseen_tests.check_weights(data, "runs/b", {})
