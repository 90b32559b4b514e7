"""The templates that are no scripts: what Kubernetes, SkyPilot and Docker read in them."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from hicmae_jax.supervision import deadline
from hicmae_jax.supervision.signals import EXIT_CODES
from launch import template
from tests.support.filled_templates import filled
from tests.support.kubernetes_api import serve
from tests.support.paths import ROOT
from tests.support.processes import HANG

GKE = ("gke_gpu.yaml", "gke_tpu.yaml")
SCHEMA = ROOT / "tests" / "goldens" / "jobset_schema.json"
IDENTITY = "rbac.authorization.k8s.io"


def objects(name):
    return {found["kind"]: found for found in yaml.safe_load_all(filled(name))}


def job_of(jobset):
    (replicated,) = jobset["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def strict(schema):
    """The schema, but an object may have only keys that the schema names."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def mistakes(jobset):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    schema["properties"]["metadata"] = {"type": "object"}
    return [
        f"{'.'.join(map(str, error.path))}: {error.message}"
        for error in jsonschema.Draft202012Validator(strict(schema)).iter_errors(jobset)
    ]


# --- Kubernetes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GKE)
def test_a_jobset_is_what_its_schema_allows(name):
    jobset = objects(name)["JobSet"]
    assert mistakes(jobset) == []
    pod = job_of(jobset)["template"]["spec"]
    pod["containers"][0]["volumeMount"] = []
    pod["terminationGracePeriodSeconds"] = "300 s"
    assert len(mistakes(jobset)) == 2


@pytest.mark.parametrize("name", GKE)
def test_each_exit_code_restarts_or_fails_the_jobset(name):
    spec = objects(name)["JobSet"]["spec"]
    job = job_of(objects(name)["JobSet"])
    (rule,) = job["podFailurePolicy"]["rules"]
    fails = set(rule["onExitCodes"]["values"])
    assert (rule["action"], rule["onExitCodes"]["operator"]) == ("FailJob", "In")
    assert fails == {1, EXIT_CODES[2]}
    assert not fails & {deadline.EXIT_CODE, EXIT_CODES[15], 137, 143}
    (failed,) = spec["failurePolicy"]["rules"]
    # Kubernetes gives this reason to a job that a rule has failed; any other reason restarts all.
    assert (failed["action"], failed["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    assert spec["failurePolicy"]["maxRestarts"] > 1
    # Kubernetes takes podFailurePolicy only with Never; one failed pod fails its job.
    assert (job["backoffLimit"], job["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert job["completionMode"] == "Indexed"
    assert job["parallelism"] == job["completions"] == 4


@pytest.mark.parametrize("name", GKE)
def test_a_pod_has_what_it_mounts_and_uses(name):
    pod = job_of(objects(name)["JobSet"])["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert volumes["shared-memory"]["medium"] == "Memory"
    assert mounts["shared-memory"] == "/dev/shm"
    given = {variable["name"]: variable["value"] for variable in container["env"]}
    assert given["TMPDIR"] == mounts["staging"]
    assert any(word.startswith(f"--config.data.cache={mounts['staging']}/") for word in container["command"])
    assert pod["serviceAccountName"] == objects(name)["ServiceAccount"]["metadata"]["name"]


def test_the_role_lets_jax_ask_for_pods_and_jobs():
    role, binding = (objects("gke_gpu.yaml")[kind] for kind in ("Role", "RoleBinding"))
    assert role["apiVersion"] == binding["apiVersion"] == f"{IDENTITY}/v1"
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {("", "pods", "list"), ("batch", "jobs", "get")} <= allowed
    assert binding["roleRef"] == {"apiGroup": IDENTITY, "kind": "Role", "name": role["metadata"]["name"]}
    (subject,) = binding["subjects"]
    account = objects("gke_gpu.yaml")["ServiceAccount"]["metadata"]["name"]
    assert subject == {"kind": "ServiceAccount", "name": account}


def resource(kind, group, version):
    plural = kind.lower() + "s"
    found = {
        "name": plural,
        "singularName": kind.lower(),
        "namespaced": True,
        "kind": kind,
        "verbs": ["create"],
    }
    return {"kind": "APIResourceList", "groupVersion": f"{group}/{version}".strip("/"), "resources": [found]}


def discovery():
    """What an API server says of the kinds that it has."""
    kinds = {IDENTITY: ("v1", ("Role", "RoleBinding")), "jobset.x-k8s.io": ("v1alpha2", ("JobSet",))}
    groups, lists = [], {}
    for group, (version, names) in kinds.items():
        versions = {"groupVersion": f"{group}/{version}", "version": version}
        groups.append({"name": group, "versions": [versions], "preferredVersion": versions})
        parts = [resource(name, group, version) for name in names]
        lists[f"/apis/{group}/{version}"] = parts[0] | {"resources": [part["resources"][0] for part in parts]}
    return {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/api/v1": resource("ServiceAccount", "", "v1"),
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
        **lists,
    }


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is missing")
@pytest.mark.parametrize("name", GKE)
def test_kubectl_would_create_each_object(tmp_path, name):
    with serve(discovery()) as address:
        done = subprocess.run(
            [
                *("kubectl", f"--server={address}", f"--cache-dir={tmp_path}", "create", "--dry-run=client"),
                *("--validate=false", "--output=name", "--filename=-"),
            ],
            input=filled(name),
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=HANG,
        )
    assert done.stderr == ""
    created = [line.split("/")[0] for line in done.stdout.splitlines()]
    assert [name.split(".")[0] for name in created] == [kind.lower() for kind in objects(name)]


# --- SkyPilot -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["skypilot_gpu.yaml", "skypilot_tpu.yaml"])
def test_a_task_of_skypilot_has_commands_that_bash_reads(name):
    (task,) = yaml.safe_load_all(filled(name))
    assert task.keys() <= {"name", "num_nodes", "resources", "envs", "setup", "run"}
    for part in ("setup", "run"):
        subprocess.run(["bash", "-n"], input=task[part], text=True, check=True, timeout=HANG)
    assert all(isinstance(value, str) for value in task["envs"].values())
    several = "--coordinator=" in task["run"], "--distributed" in task["run"]
    assert several == ((True, False) if "num_nodes" in task else (False, True))


# --- Dockerfile ---------------------------------------------------------------------------------------------


def test_what_the_image_copies_is_in_the_project_and_complete():
    text = template.read("Dockerfile")
    copied = {
        path for line in re.findall(r"^COPY (?!--)(.+)$", text, re.MULTILINE) for path in line.split()[:-1]
    }
    assert all((ROOT / path).exists() for path in copied)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (packages,) = re.findall(r"^include = \[(.+)\]", project, re.MULTILINE)
    assert {name.strip('"*') for name in packages.split(", ")} | {"README.md", "LICENSE"} <= copied


def test_the_image_has_extras_of_the_project_and_ends_with_the_program():
    text = template.read("Dockerfile")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    known = set(re.findall(r"^(\w+) = \[", project.split("[project.optional-dependencies]")[1], re.MULTILINE))
    platforms = dict(re.findall(r"(\w+)\) extras=([\w,]+)", text))
    assert platforms.keys() == {"cpu", "cuda", "tpu"}
    assert all(set(extras.split(",")) <= known for extras in platforms.values())
    assert text.endswith('ENTRYPOINT ["hicmae"]\n')
    # The last stage has a user; the default of an image is root.
    assert re.search(r"^USER 1000$", text.split("\nFROM ")[-1], re.MULTILINE)
