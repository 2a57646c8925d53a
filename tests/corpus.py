#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Every image of a corpus, good and hostile, gets the verdict its manifest gives.

SMD_CORPUS is a directory with a manifest.json and the images it names. Each is
read under two policies: from outside (nothing else may be opened), and as one
of ours (--chain). Nothing takes long or much memory, whatever the image says.
"""
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time

from smdtest import skip

FORMATS = ("raw", "vhd", "qcow2")
SECONDS = 10            # a guard against hangs, no measurement
RSS_KIB = 64 << 10
SANITIZED = "fsanitize" in open(os.path.join(os.environ["SMD_BUILD"], "config.log")).read()
BLOCK = 4096

corpus = os.environ.get("SMD_CORPUS")
if not corpus or not os.path.exists(os.path.join(corpus, "manifest.json")):
    skip("SMD_CORPUS names no corpus")


class Run:
    """One run of smd-img: its status, its JSON, its peak memory."""
    slowest = largest = (0, "")

    def __init__(self, *args):
        began = time.monotonic()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = subprocess.Popen(("smd-img",) + args, stdout=out, stderr=err,
                                     preexec_fn=lambda: resource.setrlimit(
                                         resource.RLIMIT_CPU, (SECONDS, SECONDS)))
            signal.alarm(SECONDS)
            _, status, usage = os.wait4(child.pid, 0)
            signal.alarm(0)
            child.returncode = self.status = os.waitstatus_to_exitcode(status)
            self.rss = usage.ru_maxrss
            Run.slowest = max(Run.slowest, (time.monotonic() - began, args))
            Run.largest = max(Run.largest, (self.rss, args))
            out.seek(0)
            err.seek(0)
            self.stderr = err.read().decode(errors="replace").strip()
            text = out.read().decode(errors="replace")
        self.json = json.loads(text) if text.strip() else None

    def reason(self):
        if self.status == 0 or not isinstance(self.json, dict):
            return None
        return self.json.get("error", {}).get("reason")


def sparse_digest(path, size):
    """sha256 over (offset, block) of the blocks that are not zero, then the size."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        at = 0
        while at < size:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA) // BLOCK * BLOCK
            except OSError:
                break
            block = os.pread(f.fileno(), BLOCK, at).ljust(BLOCK, b"\0")
            if block.strip(b"\0"):
                digest.update(at.to_bytes(8, "big") + block)
            at += BLOCK
    digest.update(size.to_bytes(8, "big"))
    return digest.hexdigest()


def checked(run, problems):
    if run.status < 0:
        problems.append("died of signal %d" % -run.status)
    if not SANITIZED and run.rss > RSS_KIB:
        problems.append("took %d KiB" % run.rss)
    return run


def expect_check(entry, path, wanted, problems):
    run = checked(Run("check", "-f", entry["format"], "--output=json", path), problems)
    if run.status == 63:
        return
    got = {0: "clean", 2: "corrupt", 3: "leaks"}.get(run.status, run.stderr)
    if run.status in (0, 3) and run.json["degraded"]:
        got = "degraded"
    if got != wanted:
        problems.append("check says %s, not %s: %s" % (got, wanted, [
            f["text"] for f in (run.json or {}).get("findings", [])][:3]))


def expect_accept(entry, path, chain, expect, out, problems):
    run = checked(Run("convert", *chain, "-f", entry["format"], "-O", "raw", "--output=json",
                      path, out), problems)
    if run.status != 0:
        problems.append("refused: %s" % run.stderr)
        return
    size = os.stat(out).st_size
    if size != expect["vsize"]:
        problems.append("size %d, not %d" % (size, expect["vsize"]))
    elif sparse_digest(out, size) != expect["sparse_sha256"]:
        problems.append("other content")
    if "check" in expect:
        expect_check(entry, path, expect["check"], problems)


def expect_reject(entry, path, chain, expect, out, problems):
    if expect["stage"] == "check":
        run = checked(Run("check", "-f", entry["format"], "--output=json", path), problems)
        found = {f["reason"] for f in (run.json or {}).get("findings", [])
                 if f["kind"] == "corruption"}
        if run.reason() == expect["reason"] or expect["reason"] in found:
            return
        problems.append("check finds %s" % (sorted(found) or run.stderr))
        return
    run = checked(Run("convert", *chain, "-f", entry["format"], "-O", "raw", "--output=json",
                      path, out), problems)
    if run.status == 0:
        problems.append("accepted, not refused with %s" % expect["reason"])
    elif run.reason() != expect["reason"]:
        problems.append("refused with %s, not %s: %s" % (run.reason(), expect["reason"], run.stderr))


def judge(entry, policy, expect, out):
    path = os.path.join(corpus, entry["file"])
    chain = ["--chain"] if policy == "chain" else []
    problems = []
    if os.path.exists(out):
        os.unlink(out)
    if expect["verdict"] == "accept":
        expect_accept(entry, path, chain, expect, out, problems)
    else:
        expect_reject(entry, path, chain, expect, out, problems)
    return ["%s (%s): %s" % (entry["id"], policy, p) for p in problems]


def main():
    with open(os.path.join(corpus, "manifest.json")) as f:
        entries = [e for e in json.load(f)["entries"] if e["format"] in FORMATS]
    bad, n = [], 0
    with tempfile.TemporaryDirectory() as directory:
        for entry in entries:
            policies = {"import": entry["expect"]}
            policies["chain"] = entry.get("expect_chain", entry["expect"])
            if entry["expect"].get("reason") == "CORRUPT_BIT":
                del policies["chain"]   # one of ours is still read, to rescue what is there
            for policy, expect in policies.items():
                bad += judge(entry, policy, expect, os.path.join(directory, "out.raw"))
                n += 1
    print("\n".join(bad))
    print("the slowest took %.2f s: %s" % (Run.slowest[0], " ".join(Run.slowest[1])))
    print("the largest took %d KiB: %s" % (Run.largest[0], " ".join(Run.largest[1])))
    print("%d verdicts, %d problems" % (n, len(bad)))
    sys.exit(bool(bad))


main()
