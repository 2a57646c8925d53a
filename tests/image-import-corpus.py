#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Every image of a corpus that is imported as it is gets the verdict of its manifest,
with its size and content; what is taken over is ours from then on, so that none that
a reader would find fault with later may get in.

SMD_CORPUS is a directory with a manifest.json and the images it names."""
from importworker import *

corpus = os.environ.get("SMD_CORPUS")
if not corpus or not os.path.exists(os.path.join(corpus, "manifest.json")):
    skip("SMD_CORPUS names no corpus")
with open(os.path.join(corpus, "manifest.json")) as f:
    entries = json.load(f)["entries"]

wrong, n = [], 0
with tempfile.TemporaryDirectory(prefix="smd-test.") as work:
    os.chdir(work)
    for entry in entries:
        path, expect = os.path.join(corpus, entry["file"]), entry["expect"]
        if entry["format"] not in ("raw", "vhd", "qcow2") or not os.path.isfile(path):
            continue
        n += 1
        answer = worker(path, "", fmt=entry["format"], n=1, room=1 << 60)
        if ("result" in answer) != (expect["verdict"] == "accept"):
            wrong.append("%s: %s" % (entry["id"], answer))
            continue
        if "error" in answer:
            continue
        size = answer["result"]["images"][0]["virtual-size"]
        if size != expect["vsize"]:
            wrong.append("%s: %d bytes, not %d" % (entry["id"], size, expect["vsize"]))
        if "sha256" in expect and size <= 256 * MIB:
            run("smd-img", "convert", "-f", entry["format"], "-O", "raw", "v00", "out.raw")
            if sha256_of_file("out.raw") != expect["sha256"]:
                wrong.append(entry["id"] + ": another content")
assert n > 0, "a corpus without images"
expect_eq(wrong, [], "verdicts")
