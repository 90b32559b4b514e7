"""The settings of the cache for shards of sets in buckets, which pre-training and fine-tuning share."""

from data_pipeline.reading.shard_cache import ShardCache

CACHE = (
    "directory on a local disk where shards of sets in buckets are put; runs of one host may share it; empty "
    "where all sets are on disks"
)
CACHE_GB = "most room that data.cache takes, in 10⁹ bytes; 0: as much as the disk has"


def check_cache(directory: str, gigabytes: float) -> None:
    """Refuse a size of no cache.

    Raises:
        ValueError: one line with the settings.
    """
    if gigabytes and not directory:
        raise ValueError(f"cache_gb {gigabytes} is the size of no directory: name it in cache")


def cache_of(directory: str, gigabytes: float) -> ShardCache | None:
    """The cache that settings describe; None without a directory.

    Args:
        directory: `data.cache`; empty for none.
        gigabytes: `data.cache_gb`, in 10⁹ bytes; 0 for no limit.

    Raises:
        ValueError: the directory is in a bucket.
    """
    return ShardCache(directory, int(gigabytes * 1e9) if gigabytes else None) if directory else None
