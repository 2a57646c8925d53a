#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Every copy tells the digest of the disk, as smd-img checksum finds it, in its task and on
the VDI: moves of whole chains, each of whose images was copied over its parent's copy, also
when they were cut off; copies, differences, uploads and downloads in each way, archives. What
does not pass by on its way is read for it, by another worker where one dies. Where the caller
or the SR does not want that, and where a part of a disk goes out, the task says why there is
none; the VDI never keeps that of what it had."""
from smdtest import *

SIZE = 16 * MIB


def checksum(smd, vdi):
    path = os.path.join(smd.dir, "checked.raw")
    smd.export_vdi(vdi, path)
    return run("smd-img", "checksum", "-f", "raw", path).split()[0]


def config_of(smd, task):
    return smd.call("task.get_other_config", task)


def expect_digest(smd, vdi, task, what):
    expected = checksum(smd, vdi)
    expect_eq(smd.call("VDI.get_other_config", vdi).get("smd:digest"), expected, what + ": the VDI")
    if task:
        expect_eq(config_of(smd, task).get("digest"), expected, what + ": the task")


def expect_none(smd, vdi, task, what):
    config = config_of(smd, task)
    assert "digest" not in config and config["digest_absent"], (what, config)
    assert "smd:digest" not in smd.call("VDI.get_other_config", vdi), what


def call(smd, name, *params):
    """(result, task)."""
    task = smd.call("Async." + name, *params)
    record = smd.wait_task(task)
    expect_eq(record["status"], "success", record)
    return record["result"].replace("<value>", "").replace("</value>", ""), task


def put(smd, path, body, headers=None):
    task = smd.call("task.create", "upload", "")
    status, _, text = smd.http("PUT", "%s&session_id=%s&task_id=%s" % (path, smd.login(), task), body,
                               headers)
    expect_eq(status, 200, text)
    return task


def get(smd, path, headers=None):
    task = smd.call("task.create", "download", "")
    status, _, body = smd.http("GET", "%s&session_id=%s&task_id=%s" % (path, smd.login(), task), None,
                               headers)
    assert status in (200, 206), body
    smd.wait_task(task)
    return body, task


def scribble(smd, vdi, seed):
    """Data, and zeroes over what is below, on no boundary of anything but sectors."""
    argv = [os.path.join(BUILD, "tests", "chain-edit")]
    for path in smd.vdi_chain(vdi):
        argv += [path, path.rpartition(".")[2]]
    edits = []
    for i in range(6):
        at = (seed * 1234567 + i * 2 * MIB) % (SIZE - MIB) // 512 * 512
        edits.append("%d:%d:%s" % (at, 512 * (seed + 9 * i + 1), "zero" if i % 3 == 2 else seed + i))
    subprocess.run(argv + ["--"] + edits, input="\n", text=True, check=True, stdout=subprocess.DEVNULL)


def make_tree(smd, sr, fmt):
    vdi = smd.make_vdi(sr, SIZE, fmt)
    fill = os.path.join(smd.dir, "fill.raw")
    fill_raw(fill, SIZE, runs=12)
    smd.import_vdi(vdi, fill)
    snapshots = []
    for seed in 1, 2:
        snapshots.append(smd.call("VDI.snapshot", vdi))
        scribble(smd, vdi, seed)
    return vdi


def trees(smd, one, two):
    for fmt, other in ("vhd", "qcow2"), ("qcow2", "vhd"), ("vhd", "vhd"):
        vdi = make_tree(smd, one, fmt)
        for verify in "false", "true":
            what = "%s to %s, verify=%s" % (fmt, other, verify)
            vdi, task = call(smd, "VDI.pool_migrate", vdi, two, {
                "dest-img-format": other, "snapshots": "true", "verify": verify})
            expect_digest(smd, vdi, task, what)
            for snapshot in smd.call("VDI.get_snapshots", vdi):
                expect_digest(smd, snapshot, None, what + ", a snapshot")
            one, two, fmt, other = two, one, other, fmt
        for ref in smd.call("VDI.get_snapshots", vdi) + [vdi]:
            smd.call("VDI.destroy", ref)


def cut_off(smd, one, two):
    """The daemon is killed in the copy of each image."""
    vdi = make_tree(smd, one, "vhd")
    task = smd.call("Async.VDI.pool_migrate", vdi, two, {
        "dest-img-format": "qcow2", "snapshots": "true", "bytes-per-second": str(4 * MIB)})
    deadline = time.monotonic() + 120
    seen = set()
    while (record := smd.call("task.get_record", task))["status"] == "pending":
        image = record["other_config"].get("image", "")
        if image not in seen | {""}:
            seen.add(image)
            smd.kill()
            smd.start()
        assert time.monotonic() < deadline, record
        time.sleep(0.02)
    expect_eq(record["status"], "success", record)
    assert len(seen) > 1, seen
    vdi = record["result"].replace("<value>", "").replace("</value>", "")
    expect_digest(smd, vdi, task, "cut off")
    return vdi


def copies(smd, vdi, sr):
    copy, task = call(smd, "VDI.copy", vdi, sr)
    expect_digest(smd, copy, task, "VDI.copy")
    into = smd.make_vdi(sr, SIZE, "qcow2")
    _, task = call(smd, "VDI.copy", vdi, NULL_REF, NULL_REF, into)
    expect_digest(smd, into, task, "VDI.copy into a disk")
    scribble(smd, vdi, 3)
    difference, task = call(smd, "VDI.copy", vdi, sr, copy, NULL_REF)
    expect_digest(smd, difference, task, "a difference")
    for word in "no", "yes":
        smd.call("SR.add_to_other_config", sr, "read-for-digests", word)
        _, task = call(smd, "VDI.copy", vdi, NULL_REF, copy, into)
        (expect_none if word == "no" else expect_digest)(smd, into, task, "into a disk, " + word)
        smd.call("SR.remove_from_other_config", sr, "read-for-digests")
    expect_eq(checksum(smd, into), checksum(smd, vdi), "the disk it was copied into")
    return into


def reader_dies(smd, vdi, sr):
    """The worker that reads for the digest is killed, and another one does it."""
    smd.write_vdi(vdi, os.urandom(8 * MIB))
    base, into = smd.call("VDI.copy", vdi, sr), smd.call("VDI.copy", vdi, sr)
    smd.call("SR.add_to_other_config", sr, "bytes-per-second", str(2 * MIB))
    scribble(smd, vdi, 4)
    task = smd.call("Async.VDI.copy", vdi, NULL_REF, base, into)
    deadline, killed = time.monotonic() + 120, set()
    while (record := smd.call("task.get_record", task))["status"] == "pending":
        if record["other_config"].get("phase") == "verify" and len(killed) < 2:
            for pid in set(smd.workers()) - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        assert time.monotonic() < deadline, record
        time.sleep(0.02)
    expect_eq(record["status"], "success", record)
    assert killed, record
    smd.call("SR.remove_from_other_config", sr, "bytes-per-second")
    expect_digest(smd, into, task, "whose reader was killed")


def frames(data, pieces):
    return b"".join(struct.pack("<QI", at, n) + data[at:at + n] for at, n in pieces) + bytes(12)


def transfers(smd, vdi, into):
    where, from_ = "/import_raw_vdi?vdi=" + into, "/export_raw_vdi?vdi=" + vdi
    expected = checksum(smd, vdi)
    raw, task = get(smd, from_)
    expect_eq(config_of(smd, task).get("digest"), expected, "a raw export")
    for fmt in "raw", "vhd", "qcow2", "tar":
        body, task = get(smd, "%s&format=%s" % (from_, fmt))
        expect_eq(config_of(smd, task).get("digest"), expected, fmt + " export")
        task = put(smd, "%s&format=%s" % (where, fmt), body)
        expect_digest(smd, into, task, fmt + " import")
    task = put(smd, where, raw[:5 * MIB + 512])
    expect_digest(smd, into, task, "a short import")
    task = put(smd, where + "&chunked=true", frames(raw, [(0, 1000), (1000, 9000), (MIB, 4096 * 3 + 512)]))
    expect_digest(smd, into, task, "an import in frames")
    snapshot = smd.call("VDI.snapshot", into)
    expect_digest(smd, into, put(smd, where, raw), "an import over a snapshot")
    smd.call("VDI.revert", snapshot)
    assert "smd:digest" not in smd.call("VDI.get_other_config", into), "a revert"
    for verify in "", "true", "false":
        body = frames(raw, [(MIB, 4096), (0, 4096)])
        task = put(smd, where + "&chunked=true&verify=" + verify, body)
        (expect_none if verify == "false" else expect_digest)(smd, into, task, "disorder, " + verify)
    task = put(smd, where + "&verify=true", raw)
    expect_digest(smd, into, task, "an import that is read back")
    _, task = get(smd, from_, {"Range": "bytes=0-4095"})
    assert "digest_absent" in config_of(smd, task), "of a range"


def archives(smd, vdi, sr):
    archive, task = get(smd, "/export_image?vdi=" + vdi)
    expect_eq(config_of(smd, task).get("digest"), checksum(smd, vdi), "an archive")
    for words in "", "&verify=true", "&verify=false", "&format=qcow2", "&flatten=true":
        known = words != "&verify=false"
        task = put(smd, "/import_image?sr=%s&filename=x.tgz%s" % (sr, words), archive)
        new = smd.call("task.get_result", task).replace("<value>", "").replace("</value>", "")
        (expect_digest if known else expect_none)(smd, new, task, "an archive" + words)
        expect_eq(checksum(smd, new), checksum(smd, vdi), "the disk of an archive" + words)


with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    trees(smd, one, two)
    vdi = cut_off(smd, one, two)
    transfers(smd, vdi, copies(smd, vdi, one))
    reader_dies(smd, vdi, two)
    archives(smd, vdi, one)
