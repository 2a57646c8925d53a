# SPDX-License-Identifier: BSD-2-Clause
"""The peer of the API's rows: a libvirtd of our own, with the storage driver alone, on
directories and a socket of its own, and Python's binding to it."""
import os
import shutil
import subprocess
import sys
import time

# In a mount namespace: root's libvirtd has its places built in. Another driver would
# look for users and for devices of the machine.
SCRIPT = """set -e
for dir in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /run/libvirt; do
	mkdir -p "$dir" "$1$dir"
	mount --bind "$1$dir" "$dir"
done
for drivers in /usr/lib/*/libvirt/connection-driver; do
	mkdir -p "$1/drivers"
	cp "$drivers/libvirt_driver_storage.so" "$1/drivers"
	mount --bind "$1/drivers" "$drivers"
done
exec libvirtd -f "$1/libvirtd.conf" -p "$1/pid"
"""


def binding():
    """The module, or why there is none."""
    try:
        import libvirt
    except ImportError:
        sys.path.append("/usr/lib/python3/dist-packages")   # of the system's own Python
        try:
            import libvirt
        except ImportError:
            return None
    return libvirt


def missing():
    """What keeps a libvirtd from being started here; None: nothing."""
    if not shutil.which("libvirtd"):
        return "libvirtd is not installed (libvirt-daemon)"
    if not binding():
        return "Python has no libvirt (python3-libvirt)"
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "a libvirtd of one's own wants root and unshare"
    return None


class Libvirt:
    def __init__(self, root):
        self.root = os.path.join(root, "libvirt")
        os.makedirs(os.path.join(self.root, "pool"))
        with open(os.path.join(self.root, "libvirtd.conf"), "w") as f:
            f.write('unix_sock_dir = "%s"\nauth_unix_rw = "none"\nlog_level = 4\n' % self.root)
        self.log = open(os.path.join(self.root, "log"), "w+")
        self.process = subprocess.Popen(["unshare", "-m", "sh", "-c", SCRIPT, "sh", self.root],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        socket = os.path.join(self.root, "libvirt-sock")
        for _ in range(400):
            if os.path.exists(socket):
                break
            time.sleep(0.05)
        self.connection = binding().open("storage+unix:///system?socket=" + socket)
        self.pools = 0

    def pool(self, path):
        self.pools += 1
        return self.connection.storagePoolCreateXML(
            "<pool type='dir'><name>pool%d</name><target><path>%s</path></target></pool>"
            % (self.pools, path))

    def stop(self):
        self.connection.close()
        self.process.terminate()
        self.process.wait()
        self.log.close()
