"""The clock of the second node is an hour ahead, and a stage is stopped in the middle: the same command goes on.

python -m tests.faults.clocks [download] [index] [evaluate] [train]

Two nodes on one machine share its clock. So the processes of the second one load a library, which needs `cc`, that
moves the clock of Python, by which this package goes. The C++ of Ray keeps the time of the machine: with libfaketime,
which moves that too, Ray does not start, because it gives times to the kernel, which knows nothing of the hour.
"""

import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from aitax_ray.storage import Storage
from tests.faults.cluster import check, cluster, say
from tests.faults.stages import check_result, chosen, run_undisturbed
from tests.web import Web

AHEAD = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static int (*original)(clockid_t, struct timespec *);
static void *python;

static void *object_of(void *address) {
    Dl_info info;
    return dladdr(address, &info) ? info.dli_fbase : 0;
}

__attribute__((constructor)) static void prepare(void) {
    void *symbol = dlsym(RTLD_DEFAULT, "Py_Initialize");
    original = dlsym(RTLD_NEXT, "clock_gettime");
    if (symbol) python = object_of(symbol);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    if (!original) prepare();
    int status = original(clock, at);
    if (clock == CLOCK_REALTIME && python && object_of(__builtin_return_address(0)) == python) at->tv_sec += 3600;
    return status;
}
"""


def main(names: list[str]) -> None:
    """Try the stages with these names; all of them if none is named."""
    with tempfile.TemporaryDirectory() as scratch, Web() as web, cluster() as ray:
        folder = Path(scratch)
        library = folder / "ahead.so"
        compiler = ["cc", "-x", "c", "-shared", "-fPIC", "-O1", "-o", library, "-"]
        subprocess.run(list(map(str, compiler)), input=AHEAD, text=True, check=True)
        for stage, is_tried in chosen(names, web, folder):
            expected = run_undisturbed(ray, stage, folder)
            if not is_tried:
                continue
            other = ray.add(LD_PRELOAD=str(library))
            say("a node is there whose clock is an hour ahead")
            root = folder / f"{stage.name}-clocks"
            stage.prepare(root)
            command = stage.begin(ray, root)
            stage.wait_for_the_middle(command, root, other)
            command.process.terminate()
            command.finish(130)
            say(f"{stage.name}: stopped in the middle")
            stage.begin(ray, root).finish()
            say(f"{stage.name}: finished")
            check_result(stage, root, expected)
            if stage.name == "download":
                times = Storage(str(root)).read_table("ledger", ["fetched_at"])["fetched_at"].to_pylist()
                num_ahead = sum(time > datetime.now(UTC) for time in times)
                check(num_ahead, f"{num_ahead} of {len(times)} rows of the ledger have a time that is still to come")
            other.kill()
    say("all is as it should be")


if __name__ == "__main__":
    main(sys.argv[1:])
