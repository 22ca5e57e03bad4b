"""How many bytes, hours, nodes and how much money do 500,000, 50 million and 200 million photographs take?

    python benchmarks/simulate_growth.py                       the tables of docs/scaling.md: some minutes
    python benchmarks/simulate_growth.py --photographs 2000000 --host-limits static.inaturalist.org=16/50
    python benchmarks/simulate_growth.py --cores 32 --gpus 8 --core-hour 0.04 --gpu-hour 2.50

The download is simulated: the workers' own turns (images/turns.py) and the lender of the hosts' places
(images/limits.py) run on a virtual clock, and ask hosts that answer after a while. All other figures are rates times
the number of photographs. The comments say who measured each rate. Prices are assumptions: give your own.

At most --simulated photographs are asked for. The time of a host grows with its photographs. So of a manifest that is
larger, every host takes as many times longer.
"""

import argparse
import asyncio
import heapq
import math
import random
import selectors
import sys
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from aitax_ray.images.batch import Work
from aitax_ray.images.distributed import BATCH_SIZE, BATCHES_PER_ACTOR, CPUS_PER_WORKER, host_limits
from aitax_ray.images.download import PATIENCE_S, ROUNDS_WITH_PATIENCE
from aitax_ray.images.limits import HostLimits, Lease, Limits
from aitax_ray.images.settings import DownloadSettings
from aitax_ray.images.turns import Reports, Turns

# Photographs per host in six downloads of GBIF that people keep in public repositories: 10.15468/dl.4gbcs6 (ticks),
# dl.pafy54 (a fungus), dl.csc4n4 (frogs), dl.tsyjt4 (grouse), and two without a DOI (lanternflies, sea animals). The 23
# smallest of the 34 hosts have 225 together. All of GBIF had some 200 million photographs on 545 servers
# (the package distributed-downloader).
HOSTS = {
    "inaturalist-open-data.s3.amazonaws.com": 12379,
    "static.inaturalist.org": 1513,
    "artsobservasjoner.no": 1144,
    "images.ala.org.au": 1088,
    "archive.org": 258,
    "observation.org": 190,
    "svampe.databasen.org": 165,
    "boldsystems.org": 142,
    "saiab.ac.za": 118,
    "bugguide.net": 101,
    "artportalen.se": 86,
    **{f"host-{number}.example": 10 for number in range(23)},
}
PHOTOGRAPHS_PER_OCCURRENCE = 1.47  # 18,050 of 12,317 occurrences, in the same downloads

STORED = 0.9  # share of photographs: "1 in 10 images fail" (https://github.com/gbif/portal-feedback/issues/4845)
ANSWER_S, SPREAD = 0.25, 0.5  # assumption: an answer arrives after a lognormal time with this median and spread

# Bytes per photograph: bench_download.py fetches 300 KB, bench_training.py has 65 KB at 512 px, bench_growth.py rows.
# A thumbnail of 256 px with 10 KB is an assumption.
FETCHED, IMAGE, ROWS, THUMBNAIL = 300_000, 65_000, 165, 10_000

# Photographs per second and core, on an EPYC with AVX-512.
MANIFEST_RATE = 50_000  # bench_manifest.py: 5.2 million rows in 49.7 s of two cores
DECODE_RATE = 114  # of the download: 2 megapixels to 512 px, bench_download.py
LEDGER_RATE = 28_000  # one run over a ledger that is complete, bench_growth.py
SPLIT_RATE = 18_000  # bench_growth.py
LOAD_RATE = 98  # for training: decode and cut a stored JPEG, bench_training.py: 10.2 ms, with a small network's step
INDEX_RATE = 10_000  # bench_search.py: 1,000,000 vectors in 48 s of two cores
# Photographs per second and GPU: convnext_tiny, the network of --recipe fine-tune, on an RTX 3090 with mixed precision
# at 224 px, when loading photographs takes no time. Source: huggingface/pytorch-image-models at GitHub, in results/:
# benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv, and the same for infer.
TRAIN_GPU_RATE, EMBED_GPU_RATE = 819, 2379
EPOCHS, TRAIN_SHARE = 20, 0.8  # of --recipe fine-tune; of the stored photographs
SPLIT_MEMORY = 170  # bytes per photograph, bench_growth.py: from 5 to 20 million; DuckDB's part takes 2.3 GB before
DIMENSIONS = 768  # of convnext_tiny
PHOTOGRAPHS_PER_SHARD = 1_000_000  # of the index, at most: the setting's default
# Memory per indexed photograph: a vector in bfloat16, codes of 4 dimensions in 4 bits, 72 bytes (bench_search.py: 1,160
# with 512 dimensions). With a small --memory the vectors stay on disk.
SEARCH_MEMORY, SEARCH_MEMORY_SMALL = 2 * DIMENSIONS + DIMENSIONS // 8 + 72, DIMENSIONS // 8 + 72
GB, HOUR = 1e9, 3600

# Photographs -> cores of the node that downloads, nodes that download, GPUs.
CLUSTERS = {500_000: (16, 1, 1), 50_000_000: (16, 1, 8), 200_000_000: (16, 1, 32)}


class Clock(selectors.SelectSelector):
    """A selector of an event loop that does not wait: it moves its clock to the next timer."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the simulation waits for nothing")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose hours take as long as the work in them."""

    def __init__(self) -> None:
        self.clock = Clock()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


@dataclass
class Download:
    """What a simulated download took."""

    num: int = 0
    seconds: float = 0.0
    finished_s: dict[str, float] = field(default_factory=dict)  # when a host's last photograph arrived
    rounds: int = 0

    @property
    def slowest(self) -> str:
        return max(self.finished_s, key=lambda host: self.finished_s[host])


def simulate(
    urls: Mapping[str, int], settings: DownloadSettings, nodes: int, cores: int, seed: int = 0,
    *, answer_s: float = ANSWER_S, spread: float = SPREAD, decode_rate: float = DECODE_RATE,
) -> Download:  # fmt: skip
    """Simulate the download of so many photographs of each host, on nodes of so many cores."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(
            _Cluster(urls, settings, nodes, cores, random.Random(seed), answer_s, spread, decode_rate).run()
        )
    finally:
        loop.close()


class _Cluster:
    """The download stage as distributed.py and batch.py run it, without requests and pixels."""

    def __init__(
        self, urls: Mapping[str, int], settings: DownloadSettings, nodes: int, cores: int, chance: random.Random,
        answer_s: float, spread: float, decode_rate: float,
    ) -> None:  # fmt: skip
        self.left, self.chance, self.result = Counter(urls), chance, Download(num=sum(urls.values()))
        self.answer_s, self.spread, self.decode_s = answer_s, spread, 1 / decode_rate
        self.limits: Limits = host_limits(settings)
        total = self.left.total()
        num = settings.num_actors or max(nodes, nodes * cores // CPUS_PER_WORKER)
        self.num_workers = min(num, nodes * settings.concurrency, -(-total // BATCH_SIZE))
        on_node = -(-self.num_workers // nodes)
        self.concurrency, self.decoders = max(1, settings.concurrency // on_node), max(1, cores // on_node)

    async def run(self) -> Download:
        measured: dict[str, float] = {}
        while self.left.total():
            patience_s = PATIENCE_S if self.result.rounds < ROUNDS_WITH_PATIENCE else None
            if self.left.total() <= self.num_workers * BATCHES_PER_ACTOR * BATCH_SIZE:
                patience_s = None
            lender = HostLimits(self.limits)
            todo = deque(self.plan(measured))
            workers = [_Worker(self, lender) for _ in range(self.num_workers)]
            await asyncio.gather(*(worker.work(todo, patience_s) for worker in workers))
            measured = {state.host: state.capacity for state in lender.states() if state.answered}
            self.result.rounds += 1
        self.result.seconds = asyncio.get_running_loop().time()
        return self.result

    def plan(self, measured: Mapping[str, float]) -> list[str]:
        """The hosts of the photographs that are left, in the order of ledger.plan."""
        rates = {host: measured.get(host, self.limits.of(host).per_second) for host in self.left}
        due = [(number / rates[host], host) for host, num in self.left.items() for number in range(1, num + 1)]
        return [host for _, host in sorted(due)]

    def arrived(self, host: str) -> None:
        self.left[host] -= 1
        self.result.finished_s[host] = asyncio.get_running_loop().time()


class _Worker:
    def __init__(self, cluster: _Cluster, lender: HostLimits) -> None:
        self.cluster, self.lender = cluster, lender
        self.turns = Turns(self._sync, cluster.concurrency)
        self.free_at = [0.0] * cluster.decoders  # a heap: when each decoder has finished

    async def _sync(self, name: str, usage: Reports, counts: Counter[str], full: bool) -> dict[str, Lease] | None:
        return self.lender.sync(name, usage, counts, asyncio.get_running_loop().time(), full=full)

    async def work(self, todo: deque[str], patience_s: float | None) -> None:
        """Take batches until none is left, some at a time."""

        async def take() -> None:
            while todo:
                batch = [todo.popleft() for _ in range(min(BATCH_SIZE, len(todo)))]
                work = Work()
                tasks = [asyncio.create_task(self._fetch(host, str(n), work)) for n, host in enumerate(batch)]
                await work.wait(tasks, patience_s)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

        await asyncio.gather(*(take() for _ in range(BATCHES_PER_ACTOR)))
        await self.turns.close()

    async def _fetch(self, host: str, key: str, work: Work) -> None:
        cluster, loop = self.cluster, asyncio.get_running_loop()
        async with self.turns.turn(host) as turn:
            work.begin(key)
            seconds = cluster.answer_s * math.exp(cluster.spread * cluster.chance.gauss(0, 1))
            await asyncio.sleep(seconds)
            turn.answered(200, FETCHED, seconds)
            ready = max(loop.time(), heapq.heappop(self.free_at)) + cluster.decode_s
            heapq.heappush(self.free_at, ready)
            await asyncio.sleep(ready - loop.time())
            cluster.arrived(host)  # no step of a photograph is repeated after this
        work.end(key)


@dataclass(frozen=True)
class Prices:
    """Assumptions of November 2026, of the size of public clouds' list prices. They are no offers."""

    core_hour: float
    gpu_hour: float
    gb_month: float


def spread_over_hosts(num: int) -> dict[str, int]:
    """Divide photographs among HOSTS in their proportion."""
    total = sum(HOSTS.values())
    return {host: max(1, round(num * share / total)) for host, share in HOSTS.items()}


def estimate(num: int, cores: int, nodes: int, gpus: int, download: Download, prices: Prices) -> dict[str, float]:
    """The figures of one size. `download` is that of a simulation; its hours are scaled to `num` photographs."""
    stored = STORED * num
    trained = TRAIN_SHARE * stored
    hours = {
        "manifest": num / MANIFEST_RATE / cores,
        "download": download.seconds * num / download.num,
        "ledger": num / LEDGER_RATE / min(cores, 2),
        "split": stored / SPLIT_RATE,
        "train": EPOCHS * trained / (TRAIN_GPU_RATE * gpus),
        "index": trained / (EMBED_GPU_RATE * gpus) + trained / INDEX_RATE / cores,
    }
    hours = {stage: seconds / HOUR for stage, seconds in hours.items()}
    disk = stored * (IMAGE + ROWS) + trained * (2 * DIMENSIONS + THUMBNAIL)
    cpu_hours = sum(hours[stage] for stage in ("manifest", "download", "ledger", "split")) * cores * nodes
    gpu_hours = (hours["train"] + hours["index"]) * gpus
    load_cores = TRAIN_GPU_RATE / LOAD_RATE
    return {
        "fetched_tb": num * FETCHED / 1e12,
        "disk_tb": disk / 1e12,
        **{f"{stage}_h": value for stage, value in hours.items()},
        "train_one_gpu_h": hours["train"] * gpus,
        "split_gb": max(2.3, 0.5 + stored * SPLIT_MEMORY / GB),
        "search_gb": trained * SEARCH_MEMORY / GB,
        "search_gb_per_shard": min(trained, PHOTOGRAPHS_PER_SHARD) * SEARCH_MEMORY / GB,
        "search_small_gb": trained * SEARCH_MEMORY_SMALL / GB,
        "shards": math.ceil(trained / PHOTOGRAPHS_PER_SHARD),
        "cores_per_gpu": load_cores,
        "compute_cost": cpu_hours * prices.core_hour + gpu_hours * (prices.gpu_hour + load_cores * prices.core_hour),
        "disk_cost_per_month": disk / GB * prices.gb_month,
    }


def main() -> None:
    """Print a column per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, nargs="*", default=list(CLUSTERS))
    parser.add_argument("--simulated", type=int, default=200_000)
    parser.add_argument("--host-limits", nargs="*", default=[], help="as in `aitax download`")
    parser.add_argument("--concurrency", type=int, default=64, help="as in `aitax download`")
    parser.add_argument("--cores", type=int, help="of each node that downloads")
    parser.add_argument("--nodes", type=int, help="that download")
    parser.add_argument("--gpus", type=int)
    parser.add_argument("--core-hour", type=float, default=0.04)
    parser.add_argument("--gpu-hour", type=float, default=1.0)
    parser.add_argument("--gb-month", type=float, default=0.02)
    given = parser.parse_args()
    settings = DownloadSettings(root="-", host_limits=tuple(given.host_limits), concurrency=given.concurrency)
    prices = Prices(given.core_hour, given.gpu_hour, given.gb_month)
    columns: list[dict[str, float]] = []
    simulated: dict[tuple[int, int, int], Download] = {}
    for num in given.photographs:
        nearest = min(CLUSTERS, key=lambda size: abs(math.log(size / num)))
        cores, nodes, gpus = (own or usual for own, usual in zip(
            (given.cores, given.nodes, given.gpus), CLUSTERS[nearest], strict=True))  # fmt: skip
        size = (min(num, given.simulated), nodes, cores)
        found = simulated[size] = simulated.get(size) or simulate(spread_over_hosts(size[0]), settings, nodes, cores)
        columns.append(
            {"photographs": num, "cores": cores, "nodes": nodes, "gpus": gpus}
            | estimate(num, cores, nodes, gpus, found, prices)
        )
        write(f"{num:,} photographs: {found.slowest} is the last host to finish, after {found.rounds} rounds")
    for name in columns[0]:
        write(f"{name:20}" + "".join(f"{column[name]:>16,.1f}" for column in columns))


def write(line: str) -> None:
    """To standard output, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
