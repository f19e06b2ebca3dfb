"""Data sets in a bucket: shards are downloaded once per node and removed under a limit."""

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import fsspec
import pytest

from fssplat.common.errors import InputError
from fssplat.common.locks import lock
from fssplat.common.whole_files import SUFFIX
from fssplat.data import cache
from fssplat.data.index import Dataset
from tests.fakes.official_layouts import built_voc


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return built_voc(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def bucket(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The data set in fsspec's memory file system, an empty cache for this node."""
    memory = fsspec.filesystem("memory")
    for path in Path(tiny.root).glob("*.*"):
        memory.pipe_file(f"/bucket/tiny/{path.name}", path.read_bytes())
    monkeypatch.setenv("FSSPLAT_CACHE", str(tmp_path / "cache"))
    return "memory://bucket/tiny"


def test_a_remote_data_set_reads_as_the_local_one(bucket: str, tiny: Dataset) -> None:
    remote = Dataset.open(bucket)
    assert remote.info == tiny.info
    for row in range(len(tiny)):
        assert remote.jpeg(row) == tiny.jpeg(row)
        assert (remote.label(row) == tiny.label(row)).all()
    assert len(list(remote.shard_paths("train"))) == 1


def test_a_shard_is_fetched_once_per_node(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    fetch = cache._fetch
    monkeypatch.setattr(
        cache,
        "_fetch",
        lambda fs, remote, *rest: (fetched.append(remote), fetch(fs, remote, *rest)),
    )
    for _ in range(2):
        dataset = Dataset.open(bucket)
        for row in range(len(dataset)):
            dataset.jpeg(row)
    shards = [name for name in fetched if name.endswith(".tar")]
    assert sorted(shards) == ["/bucket/tiny/train-000000.tar", "/bucket/tiny/val-000000.tar"]


def test_the_cache_keeps_to_its_limit(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.open(bucket)
    largest = max(shard.bytes for shard in dataset.info.shards)
    monkeypatch.setenv("FSSPLAT_CACHE_GB", str(1.2 * largest / 2**30))
    expected = dataset.jpeg(0)
    dataset.jpeg(len(dataset) - 1)  # the other shard: the first one has to go
    kept = [path.name for path in cache.cache_folder().glob("*/*.tar")]
    assert kept == ["val-000000.tar"]
    assert dataset.jpeg(0) == expected  # and comes again


def test_a_remote_shard_of_another_length_is_refused(bucket: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/tiny/train-000000.tar", b"too short")
    dataset = Dataset.open(bucket)
    with pytest.raises(InputError, match=r"train-000000.tar: the shard has 9 bytes"):
        dataset.jpeg(0)


def test_a_remote_shard_that_is_missing_is_named(bucket: str) -> None:
    fsspec.filesystem("memory").rm("/bucket/tiny/train-000000.tar")
    with pytest.raises(InputError, match=r"train-000000.tar: this file is missing in the bucket"):
        Dataset.open(bucket).jpeg(0)


def test_a_missing_bucket_or_protocol_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no data set there"):
        Dataset.open("memory://nowhere/pascal-5i")
    with pytest.raises(InputError, match="nosuch"):
        Dataset.open("nosuch://bucket/pascal-5i")


def test_a_bucket_that_refuses_is_an_input_error(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> bytes:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(fsspec.filesystem("memory"), "cat_file", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Access Denied\)\. Check the address"):
        Dataset.open(bucket)


def test_a_wrong_cache_limit_is_an_input_error(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSSPLAT_CACHE_GB", "much")
    with pytest.raises(InputError, match="FSSPLAT_CACHE_GB=much"):
        Dataset.open(bucket).jpeg(0)


def _hold(path: Path, held: "multiprocessing.synchronize.Event") -> None:
    with lock(cache._lock_file(path)):
        held.set()
        signal.pause()


def test_a_killed_holder_frees_its_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "shard.tar", held))
    holder.start()
    assert held.wait(120)
    holder.kill()
    holder.join()
    with lock(cache._lock_file(tmp_path / "shard.tar")):
        pass  # would wait for ever


def _read_row(root: str, row: int) -> bytes:
    return Dataset.open(root).jpeg(row)


@pytest.mark.slow
def test_many_processes_may_read_a_remote_data_set_at_once(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSSPLAT_CACHE", str(tmp_path / "cache"))
    # Not forked: a child would inherit Ray's SIGTERM handler and the held locks of earlier tests.
    # Nor a Pool: it ends its processes by SIGTERM, which one that is only starting may not hear.
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_read_row, [f"file://{tiny.root}"] * 6, range(6)))
    assert found == [tiny.jpeg(row) for row in range(6)]
    assert not list((tmp_path / "cache").glob(f"*/.*{SUFFIX}"))


@pytest.mark.slow
def test_a_data_set_is_read_from_s3(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("FSSPLAT_CACHE", str(tmp_path / "cache"))
        bucket = fsspec.filesystem("s3", skip_instance_cache=True)
        bucket.mkdir("fewshot")
        bucket.put(f"{tiny.root}/", "fewshot/tiny/", recursive=True)
        remote = Dataset.open("s3://fewshot/tiny")
        assert remote.info == tiny.info
        assert remote.jpeg(8) == tiny.jpeg(8)
        with pytest.raises(InputError, match="no data set there"):
            Dataset.open("s3://fewshot/none")
    finally:
        server.stop()
