#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# A working day of the npm package xen-api, xo-server's own client, unmodified, over
# JSON-RPC with TLS and then XML-RPC without: it makes SRs and a disk, watches them
# come, change and go, fills the disk with and without a length, snapshots it, migrates
# it in another format, reads it back as Xen Orchestra does and tidies up. Skipped where
# npm cannot fetch it.
from smdtest import *

SIZE = 5 * MIB + 512

PROGRAM = """
import assert from 'assert'
import { createHash } from 'crypto'
import { createReadStream, statSync, readFileSync } from 'fs'
import { createClient } from 'xen-api'

const [url, transport, one, two, raw, vhd, size] = process.argv.slice(2)
const xapi = createClient({
    url, transport, auth: { user: 'root', password: 'secret' }, allowUnauthorized: true })
const events = { add: new Set(), update: new Set(), remove: new Set() }
xapi.on('error', error => { console.error('client:', error) })
for (const kind of Object.keys(events)) {
    xapi.objects.on(kind, objects => {
        for (const [id, object] of Object.entries(objects)) { events[kind].add(object?.$ref ?? id) }
    })
}
await xapi.connect()
await xapi.objectsFetched

const digestOf = async source => {
    const hash = createHash('sha256')
    for await (const piece of source) { hash.update(piece) }
    return hash.digest('hex')
}
const wanted = await digestOf(createReadStream(raw))

// The SRs, one by a call, one by a task.
const srArgs = path => [xapi.pool.master, { location: path }, '0', path, '', 'file', 'user', false, {}]
const src = await xapi.call('SR.create', ...srArgs(one))
const dst = await xapi.callAsync('SR.create', ...srArgs(two))
assert((await xapi.barrier(dst)).name_label === two)

// A disk, that comes up among the objects with everything it has.
const vdi = await xapi.call('VDI.create', {
    name_label: 'by xo', name_description: '', SR: src, virtual_size: Number(size), type: 'user',
    sharable: false, read_only: false, other_config: {}, sm_config: { 'image-format': 'vhd' } })
const object = await xapi.barrier(vdi)
assert.deepStrictEqual(object.VBDs, [])
assert.strictEqual(object.$SR.$ref, src)
assert.strictEqual(Number(object.virtual_size), Number(size))
assert.strictEqual(xapi.getObjectByUuid(object.uuid), object)

// setFieldEntry, twice, and away again.
for (const value of ['a', 'b', null]) {
    await xapi.setFieldEntry('VDI', vdi, 'other_config', 'xo:test', value)
    assert.strictEqual((await xapi.barrier(vdi)).other_config['xo:test'], value ?? undefined)
}

// putResource: a stream without a length, one with a length, a buffer; with tasks of
// the client's own making and of xen-api's.
const content = async (ref, format) => {
    const task = await xapi.call('task.create', '[XO] VDI Content Export', 'by a test')
    const response = await xapi.getResource('/export_raw_vdi/', { query: { format, vdi: ref }, task })
    const digest = await digestOf(response.body)
    await response.task
    return digest
}
const put = async (body, format, query = {}) => {
    const task = await xapi.call('task.create', '[XO] VDI Content Import', 'by a test')
    await xapi.putResource(body, '/import_raw_vdi/', { query: { format, vdi, ...query }, task })
    assert.strictEqual(await content(vdi, 'raw'), wanted)
}
await put(createReadStream(raw), 'raw')
await put(createReadStream(vhd), 'vhd')
const stream = createReadStream(raw)
stream.length = statSync(raw).size
await put(stream, 'raw')
const buffer = readFileSync(vhd)
await put(buffer, 'vhd')
const result = await xapi.putResource(readFileSync(raw), '/import_raw_vdi/', {
    query: { format: 'raw', vdi }, task: true })
assert.strictEqual(result, vdi)
await assert.rejects(xapi.putResource(Buffer.alloc(Number(size) + 512), '/import_raw_vdi/', {
    query: { format: 'raw', vdi }, task: true }))

// A snapshot, and the move, whose task is followed to its end and then destroyed.
const snapshot = await xapi.callAsync('VDI.snapshot', vdi)
assert.strictEqual((await xapi.barrier(snapshot)).$snapshot_of.$ref, vdi)
const moved = await xapi.callAsync('VDI.pool_migrate', vdi, dst, { 'dest-img-format': 'qcow2' })
const record = await xapi.getRecord('VDI', moved)
assert.deepStrictEqual([record.sm_config['image-format'], record.name_label, record.SR],
                       ['qcow2', 'by xo', dst])
await assert.rejects(xapi.callAsync('VDI.pool_migrate', moved, 'OpaqueRef:none', {}), error => {
    assert.deepStrictEqual([error.code, error.params], ['HANDLE_INVALID', ['SR', 'OpaqueRef:none']])
    return true
})

// As Xen Orchestra backs a disk up: by NBD where there is such a server, here there is
// none and it is told so; then by export, of a snapshot, whole and as a difference.
assert.deepStrictEqual(await xapi.call('VDI.get_nbd_info', moved), [])
assert.strictEqual(await content(moved, 'raw'), wanted)
assert.strictEqual(await content(snapshot, 'raw'), wanted)
const newer = await xapi.callAsync('VDI.snapshot', moved)
const newest = await xapi.callAsync('VDI.snapshot', moved)
for (const format of ['vhd', 'qcow2']) {
    const whole = await xapi.getResource('/export_raw_vdi/', { query: { format, vdi: newest } })
    const delta = await xapi.getResource('/export_raw_vdi/', {
        query: { format, vdi: newest, base: newer }, task: true })
    const sizes = []
    for (const { body } of [whole, delta]) {
        let n = 0
        for await (const piece of body) { n += piece.length }
        sizes.push(n)
    }
    await delta.task
    assert(sizes[1] < 300000 && sizes[1] < sizes[0], `a delta of ${sizes}`)
}

// Tidied up, and all of it was seen.
for (const ref of [newest, newer, moved, snapshot]) { await xapi.call('VDI.destroy', ref) }
for (const sr of [src, dst]) {
    for (const pbd of await xapi.getField('SR', sr, 'PBDs')) { await xapi.callAsync('PBD.unplug', pbd) }
    await xapi.callAsync('SR.forget', sr)
}
await xapi.barrier()
await new Promise(resolve => setTimeout(resolve, 500))     // its events are debounced
for (const ref of [src, dst, vdi, snapshot, moved]) {
    assert(events.add.has(ref), `${ref} was never seen`)
}
assert(events.update.has(vdi), 'no change of the disk was seen')
assert.strictEqual(xapi.getObject(moved, null), null)
await xapi.disconnect()
console.log('done')
process.exit(0)
"""


def fetch(into):
    """The package, by npm; npm keeps what it fetched for the next time."""
    try:
        fetched = subprocess.run(
            ["npm", "install", "--prefix", into, "--no-audit", "--no-fund", "--silent",
             "--ignore-scripts", "--prefer-offline", "xen-api@4.7.6"],
            capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        skip("npm does not answer")
    if fetched.returncode:
        skip("npm could not fetch xen-api")


def day(smd, program, transport, url):
    raw, vhd = (os.path.join(smd.dir, "in." + fmt) for fmt in ("raw", "vhd"))
    srs = [os.path.join(smd.dir, "%s.%s" % (transport, n)) for n in ("one", "two")]
    for path in srs:
        os.mkdir(path)
    fill_raw(raw, SIZE)
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", raw, vhd)
    done = subprocess.run(
        ["node", program, url, transport, *srs, raw, vhd, str(SIZE)],
        capture_output=True, text=True, timeout=200)
    expect_eq((done.returncode, done.stdout.splitlines()[-1:]), (0, ["done"]),
              transport + ": " + done.stdout + done.stderr)
    expect_eq(smd.pending_tasks(), [], "tasks")
    expect_eq(smd.call("pool.get_other_config", smd.call("pool.get_all")[0]), {}, "barriers")


requires("node", "npm", "qemu-img")
with tempfile.TemporaryDirectory(prefix="smd-test.") as packages:
    fetch(packages)
    program = os.path.join(packages, "client.mjs")
    with open(program, "w") as f:
        f.write(PROGRAM)
    with Smd(tcp=True, tls=True) as smd:
        day(smd, program, "json-rpc", "https://127.0.0.1:%d" % smd.tls_port)
        day(smd, program, "xml-rpc", "http://127.0.0.1:%d" % smd.port)
