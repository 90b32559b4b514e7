"""`--distributed` in a pod: the real client of Kubernetes asks an API server on loopback."""

import sys

import pytest
from jax._src.clusters.k8s_cluster import K8sCluster

from hicmae_jax.hosts import connect, kubernetes_pods
from tests.support.kubernetes_api import serve

NAMESPACE = "team"
PODS, JOBS = f"/api/v1/namespaces/{NAMESPACE}/pods", f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
JOB = "b-hosts-0"
"""The job that a JobSet `b` makes of its first replicated job `hosts`."""


def pod(index, ip, owner="Job"):
    """A pod as the controllers of Kubernetes make it; its IP address is that of this machine or another."""
    owners = [{"apiVersion": "batch/v1", "kind": owner, "name": JOB, "uid": "1", "controller": True}]
    return {
        "metadata": {
            "name": f"{JOB}-{index}-x7k2p",
            "labels": {"job-name": JOB, "jobset.sigs.k8s.io/jobset-name": "b"},
            "ownerReferences": owners if owner else [],
        },
        "spec": {"containers": [], "subdomain": "b", "hostname": f"{JOB}-{index}"},
        "status": {"podIP": ip},
    }


def answers(**changes):
    job = {
        "metadata": {"name": JOB, "labels": {"jobset.sigs.k8s.io/jobset-name": "b"}},
        "spec": {"parallelism": 4, "completions": 4, "template": {"spec": {"containers": []}}},
    }
    return {
        PODS: {"kind": "PodList", "items": [pod(0, "10.0.0.7"), pod(2, "127.0.0.1", **changes)]},
        f"{JOBS}/{JOB}": job,
    }


@pytest.fixture
def in_pod(monkeypatch):
    """A function that makes this process a pod whose API server is at an address."""
    client = pytest.importorskip("kubernetes")
    for name in ("_pod", "_job", "_controller"):
        getattr(K8sCluster, name).__func__.cache_clear()

    def point_at(address):
        def load():
            configuration = client.client.Configuration(host=address)
            client.client.Configuration.set_default(configuration)

        monkeypatch.setattr(client.config, "load_incluster_config", load)

    monkeypatch.setattr(K8sCluster, "_namespace", classmethod(lambda cls: NAMESPACE))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("HOSTNAME", "localhost")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")
    return point_at


def test_a_pod_of_a_jobset_finds_the_first_one_and_its_own_number(in_pod, monkeypatch):
    with serve(answers()) as address:
        in_pod(address)
        # The name of the first pod means nothing here: nobody waits for it.
        assert connect.find_cluster(300) == (f"{JOB}-0.b:55527", 4, 2)
        monkeypatch.setenv("JAX_COORDINATOR_PORT", "1234")
        assert connect.find_cluster(300) == (f"{JOB}-0.b:1234", 4, 2)


@pytest.mark.parametrize("forbidden", [PODS, f"{JOBS}/{JOB}"])
def test_a_service_account_without_the_role_is_told_which(in_pod, forbidden):
    with serve(answers(), {forbidden}) as address:
        in_pod(address)
        with pytest.raises(
            ValueError, match="service account of this pod may not read pods and jobs: give it"
        ):
            kubernetes_pods.find()


def test_a_job_that_is_not_indexed_is_named(in_pod, monkeypatch):
    monkeypatch.delenv("JOB_COMPLETION_INDEX")
    with serve(answers()) as address:
        in_pod(address)
        with pytest.raises(ValueError, match='not indexed: set completionMode: "Indexed"'):
            kubernetes_pods.find()


@pytest.mark.parametrize(
    ("owner", "why"), [("", "does not have a controller"), ("ReplicaSet", "only supports Job")]
)
def test_a_pod_of_no_job_is_refused_in_one_line(in_pod, owner, why):
    with serve(answers(owner=owner)) as address:
        in_pod(address)
        with pytest.raises(ValueError, match=r"which pods run together \(.*\): use a JobSet") as refused:
            kubernetes_pods.find()
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(
        ImportError,
        match=r"^--distributed in a pod needs a package: pip install 'hicmae_jax\[k8s\]', or give",
    ):
        connect.find_cluster(300)


def test_slurm_in_a_pod_comes_first(monkeypatch):
    assert not kubernetes_pods.is_pod()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    assert kubernetes_pods.is_pod()
    for name in ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"):
        monkeypatch.setenv(name, "0")
    assert not kubernetes_pods.is_pod()


def test_jax_does_not_ask_again_when_it_connects(monkeypatch):
    """It would ask a pod's API server also where flags name the coordinator, and fail without an answer."""
    asked = []
    monkeypatch.setattr(
        connect.jax.distributed,
        "initialize",
        lambda *place, cluster_detection_method, **given: asked.append(cluster_detection_method),
    )
    connect.connect("localhost:1", 1, 0, 1.0, "pretrain")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    connect.connect("localhost:1", 1, 0, 1.0, "pretrain")
    assert asked == [None, "deactivate"]
