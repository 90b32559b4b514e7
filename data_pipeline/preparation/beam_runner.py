"""Run work items on Apache Beam: the way to prepare on a cluster (Flink, Spark, Dataflow).

Input and output must be reachable under the same names from every worker, on a shared disk or in a bucket.
The pipeline carries nothing but the work items; shards and manifests go straight to the output.
"""

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from data_pipeline.preparation.shard_writer import ShardSpec, write_shard


def run_beam(specs: list[ShardSpec], pipeline_options: Sequence[str]) -> None:
    """Makes shards on the runner that `pipeline_options` name, Beam's own local one by default.

    Args:
        specs: work items.
        pipeline_options: command-line arguments of Beam, such as ``--runner=FlinkRunner``.
    """
    if not specs:
        return
    with beam.Pipeline(options=PipelineOptions(list(pipeline_options))) as pipeline:
        # Without the reshuffle a runner may fuse all work items into one.
        _ = pipeline | beam.Create(specs) | beam.Reshuffle() | beam.Map(write_shard)
