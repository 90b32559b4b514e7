"""The report of a study: all runs in a table, laws with predictions, a page that needs nothing else."""

import base64
import csv
import html.parser
import io
import json
import re

import pytest

from hicmae_jax.model import shapes, sizes
from hicmae_jax.model.config import MaskConfig
from hicmae_jax.model.flops import flops
from hicmae_jax.studies import law_points, plan, report, report_runs, report_table
from hicmae_jax.studies.plan import PlannedRun, Study
from hicmae_jax.studies.report_law import DOWNSTREAM, LOSS, law_of, next_size
from tests.support import made_up_study
from tests.support.made_up_study import BATCH, LAW, moment, parameters_of, recall_at, write_run, write_study


class Page(html.parser.HTMLParser):
    """What a page refers to, its tags and its text."""

    def __init__(self, text):
        super().__init__()
        self.references, self.tags, self.words, self.rows = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        self.references += [value for name, value in attributes if name in ("src", "href", "data", "action")]
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.words.append(data)
        if self.rows and data.strip() and self.tags[-1] in ("th", "td"):
            self.rows[-1].append(data)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study") / "sizes"
    write_study(root, (100, 400, 1600))
    return root


@pytest.fixture(scope="module")
def runs(study):
    return report_runs.of_study(study)


@pytest.fixture(scope="module")
def written(study, runs):
    output = study.parent / "report"
    lines = report.write(runs, "Sizes", output)
    return output, lines


@pytest.fixture(scope="module")
def loss_law(runs):
    return law_of(LOSS, runs)


def rows(output):
    return list(csv.DictReader(io.StringIO((output / "runs.csv").read_text())))


def test_the_table_has_the_cost_and_the_scores_of_every_run(written):
    found = rows(written[0])
    assert len(found) == 9
    run = next(row for row in found if row["run"] == "encoder_dim=32,steps=400")
    model = sizes.model_config("mu", encoder_dim=32)
    a_clip = sum(flops(model, MaskConfig()).training.values())
    assert int(run["parameters"]) == shapes.pretrain_parameters(model, MaskConfig())
    assert (int(run["batch"]), int(run["steps"]), int(run["examples"])) == (BATCH, 400, 400 * BATCH)
    assert int(run["flops"]) == a_clip * 400 * BATCH
    loss = float(LAW.loss(parameters_of(32), 400 * BATCH))
    assert float(run["loss"]) == pytest.approx(loss)
    assert float(run["total"]) == pytest.approx(loss + 0.1)
    assert float(run["recall@5"]) == pytest.approx(recall_at(loss))
    assert float(run["probe_uar"]) == pytest.approx(0.9 * recall_at(loss))
    assert float(run["goodput"]) == pytest.approx(0.8)
    assert (run["kind"], run["size"], run["state"], run["unfit"]) == ("run", "mu", "done", "")
    assert run["model.encoder_dim"] == "32"


def test_the_table_can_be_fitted_again(written):
    points, left_out = law_points.read(written[0] / "runs.csv")
    assert (len(points), left_out) == (9, 0)


def test_a_setting_that_differs_has_a_column(tmp_path):
    write_run(tmp_path / "a", made_up_study.settings("mu", 10), 1e6, 10)
    changed = {"optimizer__base_rate": 1e-3, "seed": 3, "log__every": 7, "model__encoder_dim": 32}
    write_run(tmp_path / "b", made_up_study.settings("mu", 10, **changed), 1e6, 10)
    found = report_table.differing(report_runs.of_directories([tmp_path / "a", tmp_path / "b"]))
    assert found["optimizer.base_rate"][1] == "0.001"
    assert found["model.encoder_dim"] == ["64", "32"]
    assert set(found) == {"seed", "optimizer.base_rate", "model.encoder_dim"}


def test_a_model_larger_by_the_ratio_of_the_two_largest_is_predicted(written, loss_law, runs):
    second, largest = sorted({run.parameters for run in runs})[-2:]
    assert loss_law.next_size.parameters == pytest.approx(largest**2 / second)
    prediction = loss_law.prediction
    assert prediction.examples == 1600 * BATCH
    assert prediction.interval[0] <= prediction.loss <= prediction.interval[1]
    for text in ((written[0] / "report.html").read_text(), "\n".join(written[1])):
        assert f"should reach a reconstruction loss of {prediction.loss:.4f}, with a 90% interval" in text


def test_after_a_size_of_the_table_the_next_one_of_the_table_is_predicted(tmp_path):
    for size in ("mu", "T"):
        write_run(tmp_path / size, made_up_study.settings(size, 10), 1e6, 10)
    runs = report_runs.of_directories([tmp_path / "mu", tmp_path / "T"])
    assert "model.encoder_dim" not in report_table.differing(runs)  # it follows from the size
    found, model = next_size(runs), sizes.model_config("S")
    assert found.name == "size S"
    assert found.parameters == shapes.pretrain_parameters(model, MaskConfig())
    assert found.flops_a_clip == sum(flops(model, MaskConfig()).training.values())


def test_a_score_that_rises_is_fitted_by_its_distance_from_one(runs):
    found = law_of(DOWNSTREAM[1], runs)
    assert found.law is not None
    assert found.law.points.loss.max() < 1
    assert found.law.fit.law.loss(1e6, 1e4) > found.law.fit.law.loss(1e8, 1e6)


def test_the_page_needs_no_network_and_no_script(written):
    text = (written[0] / "report.html").read_text()
    page = Page(text)
    assert len(page.references) > 8
    assert all(one.startswith(("data:image/svg+xml;base64,", "#part-")) for one in page.references)
    assert re.findall(r"https?:|//[\w.]+/|@import|url\(", text) == []
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_has_every_run_and_every_figure(written):
    text = (written[0] / "report.html").read_text()
    page = Page(text)
    table = [row for row in page.rows if row and row[0].startswith("encoder_dim=") and "run" in row]
    assert [row[0] for row in table] == [row["run"] for row in rows(written[0])]
    pictures = [base64.b64decode(one.partition(",")[2]) for one in page.references if one[0] == "d"]
    # Three laws, two scores against clips and size, four learning curves, goodput.
    assert len(pictures) == 3 + 4 + 4 + 1
    assert all(picture.lstrip().startswith(b"<?xml") and b"</svg>" in picture for picture in pictures)


def test_markdown_says_the_same_without_figures(written):
    text = (written[0] / "report.md").read_text()
    assert r"| encoder\_dim=32,steps=400 | run | mu |" in text
    assert "should reach a reconstruction loss of" in text
    assert "## Goodput" in text


def test_an_unfinished_study_says_what_is_missing(study, tmp_path):
    root = tmp_path / "part"
    (root / "runs").mkdir(parents=True)
    runs = [
        PlannedRun("good", {"size": "mu"}, 10),
        PlannedRun("bad", {"size": "T"}, 10),
        PlannedRun("half", {"size": "S"}, 10),
        PlannedRun("none", {"size": "B"}, 10),
        PlannedRun("short", {"size": "B", "steps": "5"}, 5, unfit="its decay has 1 steps, fewer than 2"),
    ]
    (root / plan.FILE).write_text(json.dumps(Study(tuple(runs), {}).to_dict()))
    line = "pretrain: out of memory"
    (root / "attempts.json").write_text(
        json.dumps({"bad": {"state": "failed", "attempts": 2, "code": 1, "line": line, "seconds": 3.0}})
    )
    for name in ("good", "short"):
        write_run(root / "runs" / name, made_up_study.settings("mu", 10), 1e6, 10)
    half = [{"time": moment(0), "event": "started", "step": 0}]
    write_run(root / "runs" / "half", made_up_study.settings("S", 10), 1e6, 6, events=half)
    found = report_runs.of_study(root)
    lines = report.write(found, "Part", tmp_path / "report")
    assert lines[0] == "runs        5 runs: 2 finished, 1 failed, 1 begun, 1 not begun; " + (
        "1 of the finished ones unfit for a law"
    )
    assert lines[1] == "no law      the only fit run has 1,159,040 parameters: train at least three sizes"
    words = "".join(Page((tmp_path / "report" / "report.html").read_text()).words)
    for missing in (
        f"bad: failed at step 0 of 10: {line}",
        "half: begun, at step 6 of 10",
        "none: not begun",
        "short: its decay has 1 steps, fewer than 2",
        "There is no law: the only fit run has",
    ):
        assert missing in words, missing
    unfit = {row["run"]: row["unfit"] for row in rows(tmp_path / "report")}
    assert unfit == {
        "good": "",
        "bad": "not finished",
        "half": "not finished",
        "none": "not finished",
        "short": "its decay has 1 steps, fewer than 2",
    }


def test_a_run_without_held_out_clips_is_unfit(tmp_path):
    write_run(tmp_path / "run", made_up_study.settings("mu", 10), 1e6, 10)
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 10, "loss/total": 1.0}\n')
    (run,) = report_runs.of_directories([tmp_path / "run"])
    assert run.kind == "run"
    assert (run.loss, run.recall) == (None, None)
    assert run.unfit == "no loss on held-out clips: its evaluation.sets are empty"
    assert "no finished run has a reconstruction loss" in report.write([run], "Run", tmp_path / "out")[1]


def test_names_are_text_and_never_code(tmp_path):
    name = "<img src=x onerror=alert(1)>&$x$|*"
    write_run(tmp_path / name, made_up_study.settings("mu", 10), 1e6, 10)
    runs = report_runs.of_directories([tmp_path / name])
    report.write(runs, f"Run {name}", tmp_path / "out")
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert not [one for one in page.references if one == "x"]
    assert name in page.words
    assert "<img" not in (tmp_path / "out" / "report.md").read_text().replace("\\<img", "")
    assert rows(tmp_path / "out")[0]["run"] == name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: report_runs.of_study(root), "is no study: it has no study.json"),
        (lambda root: report_runs.of_directories([root]), "is no run: it has no config.json"),
    ],
)
def test_what_is_no_study_and_no_run_is_refused(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path)


def test_runs_of_one_name_are_told_apart_and_none_is_given_twice(tmp_path):
    for parent in ("a", "b"):
        write_run(tmp_path / parent / "run", made_up_study.settings("mu", 10), 1e6, 10)
    both = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    assert [run.name for run in report_runs.of_directories(both)] == [str(path) for path in both]
    with pytest.raises(ValueError, match="is given twice"):
        report_runs.of_directories([both[0], both[0]])


def test_a_run_that_has_branched_off_is_told_by_its_events(tmp_path):
    events = [
        {"time": moment(0), "event": "branched", "line": "branched from x"},
        {"time": moment(1), "event": "started", "step": 6},
        {"time": moment(21), "event": "finished"},
    ]
    write_run(tmp_path / "run", made_up_study.settings("mu", 10), 1e6, 10, events=events)
    (run,) = report_runs.of_directories([tmp_path / "run"])
    assert (run.kind, run.state, run.examples) == ("branch", "done", 10 * BATCH)
    assert run.goodput.share == pytest.approx(4 * 2 / 20)


def test_a_damaged_record_of_settings_is_named(tmp_path):
    write_run(tmp_path / "run", {"size": "mu"}, 1e6, 10)
    with pytest.raises(ValueError, match=r"run/config\.json: "):
        report_runs.of_directories([tmp_path / "run"])


def test_a_directory_of_something_else_is_not_written_to(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"holds something else \(thesis\.tex\)"):
        report.check_output(tmp_path)
    with pytest.raises(ValueError, match="is not a directory"):
        report.check_output(tmp_path / "thesis.tex")
    report.check_output(tmp_path / "new")


def test_a_sweep_of_rates_names_the_best_rate_of_each_size(tmp_path):
    directories = []
    for size in ("T", "S"):
        for rate, noise in ((1e-3, 0.04), (2e-3, 0.0), (4e-3, 0.04)):
            directories.append(tmp_path / f"{size}-{rate}")
            config = made_up_study.settings(size, 100, optimizer__base_rate=rate)
            write_run(directories[-1], config, 1e7, 100, noise=noise)
    report.write(report_runs.of_directories(directories), "rates", tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## Learning rates" in text
    # The losses are alike on both sides, so the best rate is the middle one, in both sizes.
    lines = [line.split(" (")[0] for line in text.splitlines() if "best rate 0" in line]
    assert [re.sub(r", \d.* M:", ":", line).split(", loss")[0] for line in lines] == [
        "- T: best rate 0.002",
        "- S: best rate 0.002",
    ]
    assert "the sweeps do not show that the best rate moves" in text
    report.write(report_runs.of_directories(directories[:1]), "one rate", tmp_path / "out")
    assert "Learning rates" not in (tmp_path / "out" / "report.md").read_text()
