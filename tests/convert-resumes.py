#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A conversion with marks that is killed, stopped or out of room goes on where it was,
and the result is the disk. A worker does what it is told while it works."""
import fcntl
import random
import resource

from smdtest import *

requires("qemu-img")
SIZE = 40 * MIB + 512
RATE = 16 * MIB         # a mark comes after a second, so amid the disk
scratch = tempfile.TemporaryDirectory(prefix="smd-test.")
os.chdir(scratch.name)
with open("in.raw", "wb") as f:
    rng = random.Random(6)
    f.write(rng.randbytes(SIZE))
    for _ in range(40):         # zeroes, small and large, amid the rest
        f.seek(rng.randrange(SIZE))
        f.write(bytes(min(rng.randrange(300000), SIZE - f.tell())))
WANTED = sha256_of_file("in.raw")


def convert(fmt, *options, **popen):
    argv = ["smd-img", "convert", "-f", "raw", "-O", fmt, "--marks", "marks", "--json"]
    return subprocess.Popen(argv + list(options) + ["in.raw", "out"], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **popen)


def has_mark():
    return os.path.exists("marks") and os.path.getsize("marks") >= 128


def expect_disk(fmt, result, what):
    expect_eq(sha256_of_disk("out", fmt), WANTED, what)
    if fmt != "raw":
        run("smd-img", "check", "-f", fmt, "out")
    expect_eq(run("smd-img", "checksum", "-f", fmt, "out").split()[0], result["digest"], what)
    expect_eq(run("smd-img", "checksum", "-f", "raw", "in.raw").split()[0],
              result["source_digest"], what)


def go_on(fmt, *options, what, resumed=True):
    child = convert(fmt, *options)
    out, errors = child.communicate()
    expect_eq(child.returncode, 0, "%s: %s%s" % (what, out, errors))
    result = json.loads(out)
    expect_eq(result["resumed_at"] > 0, resumed, "%s: %s" % (what, result))
    expect_eq("started over" in errors, not resumed, "%s says so: %s" % (what, errors))
    assert not os.path.exists("marks"), what
    expect_disk(fmt, result, what)
    return result


def cut(fmt, *options):
    """Killed after its first mark, some time."""
    child = convert(fmt, "--rate", str(RATE), *options)
    while not has_mark() and child.poll() is None:
        time.sleep(0.01)
    time.sleep(random.random() * 0.3)
    child.kill()
    child.communicate()
    assert has_mark(), "it ended before a mark"


for fmt, options in [("raw", []), ("vhd", []), ("qcow2", ["-o", "cluster_size=4k"]),
                     ("qcow2", ["-c"])]:
    cut(fmt, *options)
    result = go_on(fmt, "--verify", *options, what="killed, %s %s" % (fmt, options))
    assert result["written"] < SIZE - RATE // 4, result
    os.unlink("out")

def out_of_room(fmt):
    """What could be written is marked, however short the run was."""
    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, SIZE // 2))
    child = convert(fmt, preexec_fn=small)
    out, errors = child.communicate()
    expect_eq(child.returncode, 1, out + errors)
    assert os.path.exists("out") and has_mark(), errors


for fmt in "vhd", "qcow2":
    out_of_room(fmt)
    go_on(fmt, what="no room, " + fmt)
    os.unlink("out")

# What is not there any more is not gone on with.
out_of_room("qcow2")
with open("out", "r+b") as f:
    f.truncate(0)
go_on("qcow2", what="an emptied result", resumed=False)
cut("raw")
with open("out", "r+b") as f:
    f.write(bytes(SIZE))        # of the same size
go_on("raw", what="a result of zeroes", resumed=False)
out_of_room("vhd")
os.utime("in.raw")
go_on("vhd", what="an input that was written", resumed=False)
out_of_room("qcow2")
go_on("vhd", what="another format", resumed=False)
os.unlink("out")


# -- the worker --

def worker(rate=0, verify=False):
    files = [os.open("in.raw", os.O_RDONLY), os.open("out", os.O_RDWR | os.O_CREAT, 0o600),
             os.open("marks", os.O_RDWR | os.O_CREAT, 0o600)]
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 200) for fd in files]

    def place():
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i)
    child = subprocess.Popen(["smd-worker", "--formats", os.environ["SMD_PLUGIN_PATH"]],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False,
                             preexec_fn=place, bufsize=0)
    for fd in files + high:
        os.close(fd)
    tell(child, {"op": "convert", "bytes_per_second": rate, "verify": verify, "marks": {"fd": 5},
                 "source": {"layers": [{"fd": 3, "name": "in", "format": "raw"}]},
                 "target": {"fd": 4, "name": "out", "format": "qcow2"}})
    return child


def tell(child, what):
    child.stdin.write(json.dumps(what).encode() + b"\n")


def lines(child):
    for line in iter(child.stdout.readline, b""):
        yield json.loads(line)


def end(child):
    last = list(lines(child))[-1]
    expect_eq(child.wait(), 0, "the worker's end")
    return last


child = worker(rate=1)
tell(child, {"bytes_per_second": 0})
result = end(child)["result"]
expect_eq(result["resumed_at"], 0)
expect_disk("qcow2", result, "faster than it was")
os.unlink("out")
os.unlink("marks")

child = worker(rate=RATE)
for line in lines(child):
    if "mark" in line:
        assert line["mark"]["done"] > 0, line
        break
tell(child, {"pause": True})
tell(child, {"stop": True})
expect_eq(end(child)["error"]["code"], "JOB_STOPPED")
child = worker()
tell(child, {"stop": True})
answer = end(child)
if "error" in answer:           # unless it was done before it was told
    expect_eq(answer["error"]["code"], "JOB_STOPPED")
child = worker(verify=True)
tell(child, {"pause": True})
tell(child, {"no such thing": 1})
tell(child, {"pause": False})
child.stdin.close()
result = end(child)["result"]
assert result["resumed_at"] > 0, result
expect_disk("qcow2", result, "stopped twice, and paused")
