"""Asks Kubernetes which pods of a Job or a JobSet run together, by JAX's own detection.

JAX's detection waits for the name of the first pod for half a minute at most, and reports what it lacks in
many lines. Here nothing waits, because the processes wait for each other later, and each refusal is one line.
"""

import os
import warnings

# Not public. It is the only way to learn what JAX will find before JAX connects.
from jax._src.clusters import ClusterEnv
from jax._src.clusters.k8s_cluster import K8sCluster

from data_pipeline.common.errors import one_line

INSTEAD = "or give --coordinator, --processes and --process"


def is_pod() -> bool:
    """Whether this process runs in a pod, and none of a TPU slice, Slurm or Open MPI in it."""
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        return False
    others = [
        env for env in ClusterEnv._cluster_types if env is not K8sCluster and not env.opt_in_only_method
    ]
    return not any(env.is_env_present() for env in others)


def find() -> tuple[str, int, int]:
    """Ask Kubernetes for the pods of this pod's Job.

    Returns:
        HOST:PORT of the first pod, how many pods there are, and which of them this is.

    Raises:
        ImportError: the package `kubernetes` is missing.
        ValueError: Kubernetes does not answer this pod, or the pod is none of an indexed Job.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JAX warns of the missing package, and names an extra of its own
            if not K8sCluster.is_env_present():
                raise ImportError(
                    f"--distributed in a pod needs a package: pip install 'hicmae_jax[k8s]', {INSTEAD}"
                )
        address = K8sCluster.get_coordinator_address(None, os.environ.get("JAX_COORDINATOR_PORT"))
        return address, K8sCluster.get_process_count(), K8sCluster.get_process_id()
    except ImportError:
        raise
    # The client has errors of its own, and JAX meets a pod of no Job with those of Python.
    except Exception as error:
        raise ValueError(_explain(error)) from error


def _explain(error: Exception) -> str:
    """One line about what Kubernetes or the pod lacks."""
    why = one_line(error)
    if "API Error: 403" in why:
        return (
            "--distributed: the service account of this pod may not read pods and jobs: give it the Role of "
            f"`hicmae template gke_gpu.yaml`, {INSTEAD}"
        )
    if "Indexed" in why:
        return f'--distributed: the Job of this pod is not indexed: set completionMode: "Indexed", {INSTEAD}'
    if isinstance(error, (KeyError, TypeError, AttributeError)):
        why = "this pod belongs to no Job"
    return (
        f"--distributed: Kubernetes does not say which pods run together ({why}): use a JobSet as that of "
        f"`hicmae template gke_gpu.yaml`, {INSTEAD}"
    )
