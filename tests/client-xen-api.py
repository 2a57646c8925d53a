#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# The npm package xen-api, xo-server's own client, follows smd's objects and
# migrates a disk. Skipped where npm cannot fetch it.
from smdtest import *

PROGRAM = """
import { createClient } from 'xen-api'
const [url, file, sr] = process.argv.slice(2)
const xapi = createClient({ url, auth: { user: 'root', password: 'secret' }, allowUnauthorized: true })
const seen = []
xapi.on('error', error => { console.error('client:', error) })
await xapi.connect()
await xapi.objectsFetched
const vdi = xapi.getObject(file)
await xapi.setFieldEntry('VDI', file, 'other_config', 'from', 'xen-api')
await xapi.barrier(file)
seen.push(xapi.getObject(file).other_config.from)
const moved = await xapi.callAsync('VDI.pool_migrate', file, sr, { 'dest-img-format': 'raw' })
const record = await xapi.getRecord('VDI', moved)
seen.push(record.sm_config['image-format'], record.name_label, record.SR === sr)
try {
    await xapi.callAsync('VDI.pool_migrate', moved, 'OpaqueRef:none', {})
} catch (error) {
    seen.push(error.code, ...error.params)
}
console.log(JSON.stringify(seen))
await xapi.disconnect()
process.exit(0)
"""

requires("node", "npm")
with tempfile.TemporaryDirectory(prefix="smd-test.") as packages:
    try:
        fetched = subprocess.run(
            ["npm", "install", "--prefix", packages, "--no-audit", "--no-fund", "--silent",
             "--ignore-scripts", "xen-api@4.7.6"], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        skip("npm does not answer")
    if fetched.returncode:
        skip("npm could not fetch xen-api")
    program = os.path.join(packages, "client.mjs")
    with open(program, "w") as f:
        f.write(PROGRAM)
    with Smd(tcp=True) as smd:
        one, two = smd.make_sr("one"), smd.make_sr("two")
        vdi = smd.make_vdi(one, MIB, "vhd", "moved by xo")
        done = subprocess.run(
            ["node", program, "http://127.0.0.1:%d" % smd.port, vdi, two],
            capture_output=True, text=True, timeout=100)
        expect_eq(done.returncode, 0, done.stdout + done.stderr)
        expect_eq(json.loads(done.stdout.splitlines()[-1]),
                  ["xen-api", "raw", "moved by xo", True, "HANDLE_INVALID", "SR",
                   "OpaqueRef:none"], "what the client saw")
        expect_eq(smd.call("VDI.get_SR", smd.call("VDI.get_all")[0]), two, "where the disk is")
        left = smd.call("task.get_all_records_where", 'field "status" = "pending"')
        expect_eq(left, {}, "tasks under way")
