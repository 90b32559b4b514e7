"""Agreement between hosts. The answers of the other hosts are made up here; `test_hosts` has real hosts."""

import json

import pytest

from hicmae_jax.hosts import agreement


@pytest.fixture
def others(monkeypatch):
    """For each exchange in turn, the answers of the other hosts; this host is the first."""
    answers = []
    monkeypatch.setattr(agreement.jax, "process_count", lambda: 2)
    monkeypatch.setattr(agreement, "exchange", lambda text: [text, *answers.pop(0)])
    return answers


def told(**parts):
    return json.dumps(parts)


def test_one_process_needs_no_agreement():
    assert agreement.exchange("all there is") == ["all there is"]
    agreement.check_alike(config={"batch": 8})
    with pytest.raises(FileNotFoundError, match="nowhere"), agreement.all_or_none():
        raise FileNotFoundError("nowhere")


def test_hosts_with_equal_settings_pass(others):
    others.append([told(config={"sets": ["a"], "model": {"depth": 2}})] * 2)
    agreement.check_alike(config={"sets": ("a",), "model": {"depth": 2}})


def test_a_setting_that_differs_is_named_with_the_value_of_each_host(others):
    others.append(
        [
            told(config={"batch": 16, "model": {"depth": 2}}, data={"prepared/dev": "abc"}),
            told(config={"batch": 16}, data={"prepared/dev": "abd"}),
        ]
    )
    with pytest.raises(agreement.RefusedError, match="the hosts are not alike") as refused:
        agreement.check_alike(config={"batch": 8, "model": {"depth": 2}}, data={"prepared/dev": "abc"})
    assert str(refused.value) == (
        "the hosts are not alike: config.batch is 8 on host 0, 16 on hosts 1 and 2; "
        "config.model.depth is 2 on hosts 0 and 1, absent on host 2; "
        "data.prepared/dev is 'abc' on hosts 0 and 1, 'abd' on host 2. "
        "Give every host the same command, code and data"
    )


def test_only_the_first_of_many_differences_are_named(others):
    others.append([told(config={str(i): 1 for i in range(9)})])
    with pytest.raises(
        agreement.RefusedError, match=r"config\.4 is 0 on host 0, 1 on host 1; and 4 more\. Give"
    ):
        agreement.check_alike(config={str(i): 0 for i in range(9)})


def test_hosts_may_have_different_numbers_of_cores(others):
    others.append([told(config={"data": {"threads": 96}})])
    agreement.check_alike(config={"data": {"threads": 8}})


def test_an_error_on_this_host_keeps_its_own_message(others):
    others.append(["host 1 has failed as well"])
    with pytest.raises(agreement.RefusedError, match=r"^disk full$"), agreement.all_or_none():
        raise OSError("disk full")


def test_an_error_on_another_host_is_raised_here_too(others):
    others.append(["", "prepared/dev/dataset.json is missing"])
    message = r"^host 2: prepared/dev/dataset\.json is missing$"
    with pytest.raises(agreement.RefusedError, match=message), agreement.all_or_none():
        pass


def test_an_error_of_many_lines_is_reported_in_one(others):
    others.append([""])
    with pytest.raises(agreement.RefusedError, match=r"^two lines$"), agreement.all_or_none():
        raise ValueError("two\n  lines")


def test_a_bug_is_not_hidden(others):
    with pytest.raises(KeyError), agreement.all_or_none():
        raise KeyError("name")


@pytest.mark.parametrize(
    ("numbers", "text"), [([2], "host 2"), ([0, 2], "hosts 0 and 2"), ([0, 1, 5], "hosts 0, 1 and 5")]
)
def test_names_of_hosts_in_messages(numbers, text):
    assert agreement.name_hosts(numbers) == text


def test_a_directory_that_hosts_do_not_share_is_refused_and_not_changed(others, tmp_path):
    directory = tmp_path / "runs/one"
    others += [["token of host 1"], [""], [""]]
    with pytest.raises(
        agreement.RefusedError, match=r"not the same directory on all hosts.* is not seen on host 1;"
    ):
        agreement.check_shared(directory)
    assert not directory.exists()


def test_a_shared_directory_passes_and_is_not_changed(others, tmp_path):
    (tmp_path / "kept").write_text("kept")
    others += [["token of host 1"], [""], ["yes"]]
    agreement.check_shared(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
