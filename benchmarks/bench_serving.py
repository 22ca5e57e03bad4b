"""How many photographs does the service identify, and how long does a client wait, beside plain servers?

The claims, for mobilenet_v3_large with 1,000 classes and photographs of 1 megapixel: at 8 and at 32 clients the service
answers at least twice as many requests as FastAPI with PyTorch in eager mode, and 1.2 times as many as LitServe, and
its slowest answers (p99) take no longer; one client waits at most 1.2 times as long. Ours also finds similar
photographs, in an index of 50,000; the peers do not. And it reaches at least 70 % of what decoding and the network
alone reach on the same cores.

    python benchmarks/bench_serving.py [--clients 1 8 32] [--requests 400] [--rounds 2] [--litserve PYTHON]
    python benchmarks/bench_serving.py --soak 600 --sides ours
    python benchmarks/bench_serving.py --start FOLDER_OF_AN_ENGINE

The sides run one after the other, in turns. Clients are in a process of their own, on the same cores. Each sends its
next photograph when it has its answer. Beside the wall time stands the processor time that the server needs per
request: other programs hardly change it. LitServe is no dependency: `--litserve` names the Python that has it.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import photo_server
import psutil

HERE = Path(__file__).parent
ARCH, NUM_CLASSES, NUM_PHOTOS = "mobilenet_v3_large", 1000, 200
WIDTH, HEIGHT = 1152, 864  # px: 1 megapixel
BOUNDARY = b"----benchmark"
START_S = 120.0
WARM_UP = 64  # requests


def report(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def make_requests(folder: Path, num: int) -> list[bytes]:
    """Make photographs, unless they are there, and give the whole HTTP request for each."""
    folder.mkdir(parents=True, exist_ok=True)
    if len(list(folder.iterdir())) < num:
        photo_server.WIDTH, photo_server.HEIGHT = WIDTH, HEIGHT
        photo_server.make_photos(folder, num)
    found = []
    for path in sorted(folder.iterdir()):
        head = b'--%s\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n' % BOUNDARY
        body = head + b"Content-Type: image/jpeg\r\n\r\n" + path.read_bytes() + b"\r\n--%s--\r\n" % BOUNDARY
        start = b"POST /identify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(body)
        found.append(start + b"Content-Type: multipart/form-data; boundary=%s\r\n\r\n" % BOUNDARY + body)
    return found


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one answer of HTTP/1.1: its status and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return int(lines[0].split()[1]), body
    return int(lines[0].split()[1]), await reader.readexactly(int(headers.get("content-length", 0)))


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """Send a request, and give the status of the answer."""
    writer.write(request)
    await writer.drain()
    return (await read_answer(reader))[0]


async def load(port: int, requests: list[bytes], clients: int, number: int, rate: float = 0) -> dict[str, float]:
    """Send `number` requests from so many clients. With a rate, each client waits until its next one is due."""
    taken: list[float] = []
    failed = 0
    numbers = iter(range(number))
    begin = time.perf_counter()

    async def client() -> None:
        nonlocal failed
        connection = await asyncio.open_connection("127.0.0.1", port)
        for own in numbers:
            if rate and (wait := begin + own / rate - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            start = time.perf_counter()
            try:
                status = await exchange(*connection, requests[own % len(requests)])
            except (OSError, EOFError):
                status = 0
            taken.append(time.perf_counter() - start)
            if status != 200:
                failed += 1
                connection[1].close()
                connection = await asyncio.open_connection("127.0.0.1", port)
        connection[1].close()

    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - begin
    cuts = statistics.quantiles(taken, n=100)
    return {
        "per_s": number / seconds,
        "p50_ms": 1e3 * statistics.median(taken),
        "p99_ms": 1e3 * cuts[98],
        "failed": failed,
    }


def processor_s(root: psutil.Process) -> float:
    """Sum the processor time of a process and all below it."""
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
            total += times.user + times.system
        except psutil.Error:
            continue
    return total


def memory_mb(root: psutil.Process) -> float:
    """Sum the memory of a process and all below it, in MB: shared pages count in parts."""
    total = 0
    for process in (root, *root.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e6


def free_port() -> int:
    """Find a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, request: bytes, environment: dict[str, str]) -> Iterator[psutil.Process]:
    """Run a server while the context lasts; it has answered once when this yields."""
    process = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
    try:
        end = time.monotonic() + START_S
        while True:
            try:
                asyncio.run(asyncio.wait_for(ask(port, request), 20))
                break
            except (OSError, EOFError, ValueError, TimeoutError):
                if time.monotonic() > end or process.poll() is not None:
                    raise SystemExit(f"{command} does not answer") from None
                time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


async def ask(port: int, request: bytes) -> None:
    """Send one request. Raises ValueError unless it is answered with 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    status, body = await read_answer(reader)
    writer.close()
    if status != 200:
        raise ValueError(body[:200])


def measure(command: list[str], clients: list[int], number: int, folder: Path, engine: Path) -> list[dict[str, float]]:
    """Start a server, and measure it with each number of clients."""
    found = []
    port = free_port()
    command = [part.format(port=port, engine=engine, arch=ARCH, classes=NUM_CLASSES) for part in command]
    [request, *_] = make_requests(folder, NUM_PHOTOS)
    with running(command, port, request, {}) as server:
        send(port, folder, 8, WARM_UP)
        for each in clients:
            before = processor_s(server)
            result = send(port, folder, each, max(50, number // (8 if each == 1 else 1)))
            result["cpu_ms"] = 1e3 * (processor_s(server) - before) / result.pop("number")
            found.append(result | {"clients": each, "memory_mb": memory_mb(server)})
    return found


def send(port: int, folder: Path, clients: int, number: int, rate: float = 0) -> dict[str, float]:
    """Run the clients in a process of their own."""
    options = ["--send", str(port), str(clients), str(number), str(rate), "--photos", str(folder)]
    done = subprocess.run([sys.executable, __file__, *options], check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result | {"number": number}


def alone(folder: Path, engine: Path, seconds: float = 8.0) -> float:
    """Give the photographs per second that decoding and the network alone reach, with a process per core."""
    program = f"""
import time, sys
from pathlib import Path
import numpy as np
from aitax_ray.engine.bundle import open_engine
from aitax_ray.images.decode import open_photo
from aitax_ray.serving.decoding import LEAST
engine = open_engine({str(engine)!r})
classifier, transform = engine.classifier(1), engine.info.transform
sizes = dict(image_size=int(2 * LEAST * transform.resize_size), least_size=int(LEAST * transform.resize_size))
bodies = [path.read_bytes() for path in sorted(Path({str(folder)!r}).iterdir())]
def run(number):
    for at in range(0, number, 4):
        photos = [open_photo(bodies[n % len(bodies)], **sizes) for n in range(at, at + 4)]
        classifier.predict(np.stack([transform.pixels(photo) for photo in photos]))
run(8)
end, number = time.perf_counter() + {seconds}, 0
while time.perf_counter() < end:
    run(8)
    number += 8
print(number / {seconds})
"""
    runs = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(os.cpu_count() or 1)
    ]
    return sum(float(run.communicate()[0]) for run in runs)


def compare(sides: dict[str, list[str]], options: argparse.Namespace, folder: Path, engine: Path) -> None:
    """Measure all sides in turns, and print their medians and ratios."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for turn in range(options.rounds):
        for name, command in sides.items():
            for result in measure(command, options.clients, options.requests, folder, engine):
                found.setdefault((name, int(result["clients"])), []).append(result)
                report(f"round {turn + 1} {name:9} " + " ".join(f"{key} {value:.1f}" for key, value in result.items()))
    middle = {
        key: {name: statistics.median(each[name] for each in results) for name in results[0]}
        for key, results in found.items()
    }
    for clients in options.clients:
        mine = middle["ours", clients]
        for name in sides:
            theirs = middle[name, clients]
            ratios = {key: mine[key] / theirs[key] for key in ("per_s", "p50_ms", "p99_ms", "cpu_ms")}
            report(
                f"{clients} clients, {name}: {theirs['per_s']:.0f} requests/s, p50 {theirs['p50_ms']:.0f} ms, "
                f"p99 {theirs['p99_ms']:.0f} ms, {theirs['cpu_ms']:.1f} ms of processor; ours is "
                + ", ".join(f"{value:.2f} x {key}" for key, value in ratios.items())
            )
    limit = alone(folder, engine)
    best = max(middle["ours", clients]["per_s"] for clients in options.clients)
    report(f"decoding and network alone: {limit:.0f} photographs/s; the service reaches {best / limit:.0%} of it")


def soak(command: list[str], options: argparse.Namespace, folder: Path, engine: Path) -> None:
    """Load the service at 80 % of its capacity for some minutes, and print its memory."""
    port = free_port()
    command = [part.format(port=port, engine=engine) for part in command]
    [request, *_] = make_requests(folder, NUM_PHOTOS)
    with running(command, port, request, {}) as server:
        send(port, folder, 8, WARM_UP)
        capacity = send(port, folder, 16, 600)["per_s"]
        rate, samples = 0.8 * capacity, []
        is_done = threading.Event()

        def watch() -> None:
            while not is_done.wait(5):
                samples.append(memory_mb(server))

        watcher = threading.Thread(target=watch)
        watcher.start()
        result = send(port, folder, 32, int(rate * options.soak), rate)
        is_done.set()
        watcher.join()
        part = max(1, len(samples) // 5)
        report(
            f"{options.soak:.0f} s at {rate:.0f} requests/s (80 % of {capacity:.0f}): {result['failed']:.0f} failed, "
            f"p50 {result['p50_ms']:.0f} ms, p99 {result['p99_ms']:.0f} ms; memory of all processes "
            f"{statistics.mean(samples[part : 2 * part]):.0f} MB in the second fifth, "
            f"{statistics.mean(samples[-part:]):.0f} MB in the last one"
        )


def start(command: list[str], engine: Path, folder: Path) -> None:
    """Measure the time from the command to its first answer."""
    port = free_port()
    [request, *_] = make_requests(folder, NUM_PHOTOS)
    begin = time.perf_counter()
    with running([part.format(port=port, engine=engine) for part in command], port, request, {}) as server:
        report(f"first answer {time.perf_counter() - begin:.1f} s after the command; memory {memory_mb(server):.0f} MB")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sides", nargs="+", default=["ours", "plain", "litserve"])
    parser.add_argument("--litserve", default=sys.executable, help="a Python that has LitServe and torchvision")
    parser.add_argument("--photos", type=Path, help="folder of photographs, made if it is empty")
    parser.add_argument("--engine", type=Path, help="engine, made if it is not there")
    parser.add_argument("--soak", type=float, default=0, help="seconds of load at 80 %% of the capacity")
    parser.add_argument("--start", type=Path, help="measure the time to the first answer of this engine")
    parser.add_argument("--send", nargs=4, help=argparse.SUPPRESS)
    options, more = parser.parse_known_args()
    if options.send:
        port, clients, number, rate = options.send
        requests = make_requests(options.photos, NUM_PHOTOS)
        sys.stdout.write(json.dumps(asyncio.run(load(int(port), requests, int(clients), int(number), float(rate)))))
        return
    program = "from aitax_ray.cli import main; main()"
    ours = [sys.executable, "-c", program, "serve", "--engine", "{engine}", "--port", "{port}", *more]
    peers = {
        "plain": [sys.executable, str(HERE / "plain_server.py"), "{port}", "{arch}", "{classes}"],
        "litserve": [options.litserve, str(HERE / "litserve_server.py"), "{port}", "{arch}", "{classes}"],
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder, engine = options.photos or Path(temporary) / "photos", options.engine or Path(temporary) / "engine"
        make_requests(folder, NUM_PHOTOS)
        if options.start:
            start(ours, options.start, folder)
            return
        if not engine.exists():
            make = [sys.executable, str(HERE / "serving_engine.py"), str(engine), "--species", str(NUM_CLASSES)]
            subprocess.run(make, check=True)
        if options.soak:
            soak(ours, options, folder, engine)
        else:
            compare({name: {"ours": ours, **peers}[name] for name in options.sides}, options, folder, engine)


if __name__ == "__main__":
    main()
