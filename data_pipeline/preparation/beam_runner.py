"""Makes shards with Apache Beam, for a preparation on a cluster (Flink, Spark, Dataflow).

Every worker must reach input and output under the same paths, on a shared disk or in a bucket. Only the work
items pass through Beam: workers write shards and manifests straight to the output.
"""

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from data_pipeline.preparation.shard_writer import ShardSpec, write_shard


def run_beam(specs: list[ShardSpec], pipeline_options: Sequence[str]) -> None:
    """Makes shards on the runner that `pipeline_options` name; by default on Beam's local runner.

    Args:
        specs: work items.
        pipeline_options: command-line arguments of Beam, such as ``--runner=FlinkRunner``.
    """
    if not specs:
        return
    with beam.Pipeline(options=PipelineOptions(list(pipeline_options))) as pipeline:
        # Without the reshuffle a runner may fuse all work items into one.
        _ = pipeline | beam.Create(specs) | beam.Reshuffle() | beam.Map(write_shard)
