"""The templates of `launch/templates` with all blanks filled, and what a shell makes of their commands."""

from hicmae_jax.studies import template_text
from launch import template

VALUES = {
    "GPUs of a host": "8",
    "accelerator type": "v6e-16",
    "address of the package": "https://example.org/hicmae_jax-0.2.0-py3-none-any.whl",
    "bucket": "gs://ours",
    "chips of a host": "4",
    "claim": "disk",
    "cores for a GPU": "12",
    "directories for the container": "/shared:/shared",
    "directory of compiled programs": "gs://ours/compiled",
    "directory of the environment": "/shared/env",
    "directory of the run": "gs://ours/runs/b",
    "directory of the study and the data": "/shared",
    "gigabytes of data for a host": "200",
    "hosts of a run": "4",
    "hosts of a slice": "4",
    "image": "registry.example/hicmae:cuda",
    "kind of GPU": "H100",
    "kind of TPU": "tpu-v6e-16",
    "name of the run": "b-1",
    "prepared sets": "gs://ours/prepared/dev",
    "project": "ours",
    "runtime version": "v2-alpha-tpuv6e",
    "service account": "runs@ours.iam.gserviceaccount.com",
    "slices": "2",
    "topology of a slice": "4x4",
    "zone": "us-east5-b",
}
"""A likely value of each blank."""


def filled(name: str, **changes: str) -> str:
    """A template with all blanks filled; `changes` by names with `_` for spaces."""
    values = VALUES | {key.replace("_", " "): value for key, value in changes.items()}
    text = template.read(name)
    return template_text.fill(text, {blank: values[blank] for blank in template_text.blanks(text)})
