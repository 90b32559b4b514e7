import pytest

from data_pipeline.common.threads import in_threads


@pytest.mark.parametrize("count", [0, 1, 7, 100, 10_000])
def test_results_come_in_order_and_progress_is_shown(count, capsys):
    found = in_threads(lambda item: item * item, range(count), 4, "squaring", "number")
    assert list(found) == [item * item for item in range(count)]
    shown = capsys.readouterr().err
    assert "squaring" in shown
    assert not count or f"{count}/{count}" in shown


def test_an_error_ends_the_work():
    def task(item):
        if item == 40:
            raise OSError("no disk")
        return item

    with pytest.raises(OSError, match="no disk"):
        list(in_threads(task, range(1_000), 2, "reading", "file"))
