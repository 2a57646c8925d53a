#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The units work under systemd itself: as pid 1 of a container over this machine's files, it starts
# smd by its socket, behind the walls of the unit; an SR in a directory, wherever it is, then
# holds disks, which are converted and are there after a restart, in /tmp too; who kills smd
# finds it up again, and who may not connect is told so.
source "$(dirname "$0")/functions.sh"
requires unshare systemd-sysusers systemctl
init=/lib/systemd/systemd
[ "$(id -u)" = 0 ] && [ -x $init ] || { echo "skipped: not root, or no systemd"; exit 77; }
if grep -q -e --enable-sanitizers "$SMD_BUILD/config.log"; then
	echo "skipped: the sanitizers need what the unit denies"
	exit 77
fi

# What the container's only service of ours does; the files it needs are in /mnt.
cat >"$t/inside.sh" <<'END'
exec >/mnt/said 2>&1
echo up
set -ex
export PATH=/mnt/bin:$PATH
sr=$(smctl sr-create name-label=one type=file device-config:location=/srv/one)
smctl sr-create name-label=tmp type=file device-config:location=/tmp/two
vdi=$(smctl vdi-create sr-uuid="$sr" name-label=d virtual-size=4MiB sm-config:image-format=vhd)
smctl vdi-import uuid="$vdi" filename=/mnt/disk
vdi=$(smctl vdi-pool-migrate uuid="$vdi" sr-uuid=tmp dest-img-format=qcow2)
smctl vdi-snapshot uuid="$vdi"
systemctl reload smd
systemctl restart smd
smctl vdi-export uuid="$vdi" filename=/tmp/back
cmp /mnt/disk /tmp/back
kill -9 "$(systemctl show -p MainPID --value smd)"
smctl vdi-list uuid="$vdi" --minimal
systemctl stop smd
systemctl is-active smd.socket
smctl vdi-list uuid="$vdi" --minimal
if setpriv --reuid=65534 --clear-groups smctl sr-list 2>/tmp/denied; then exit 1; fi
grep -i "permission denied" /tmp/denied
! journalctl --no-pager -u smd | grep -i "sandbox\|Landlock"
echo well
END

cat >"$t/outside.sh" <<'END'
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$t/root"
mkdir "$t/root/upper" "$t/root/work" "$t/root/m"
m=$t/root/m
mount -t overlay overlay -o "lowerdir=/,upperdir=$t/root/upper,workdir=$t/root/work" "$m"
mount -t proc proc "$m/proc"
mount --bind "$m/proc/sys" "$m/proc/sys"
mount -o remount,bind,ro "$m/proc/sys"
mount -t sysfs -o ro sysfs "$m/sys"
mount -t cgroup2 cgroup2 "$m/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$m/dev"
for node in null zero full random urandom tty; do
	touch "$m/dev/$node"
	mount --bind /dev/$node "$m/dev/$node"
done
ln -s /proc/self/fd "$m/dev/fd"
mkdir "$m/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$m/run"
mount -t tmpfs -o mode=1777 tmpfs "$m/tmp"
rm -rf "$m/etc/systemd/system" "$m/var/log/journal" "$m/srv" "$m$statedir"
mkdir -p "$m/etc/systemd/system" "$m/srv"
: >"$m/etc/fstab"
mount --bind "$t/mnt" "$m/mnt"
cp -a "$t/units/." "$m/etc/systemd/system/"
chroot "$m" systemd-sysusers /mnt/smd.sysusers.conf >/dev/null 2>&1
cd "$m"
exec chroot "$m" env -i container=other PATH="$PATH" "$init" --unit=inside.target --log-target=null
END

units=$t/units
mkdir -p "$t/root" "$t/mnt/bin" "$t/mnt/plugins" "$units/smd.service.d"
cp "$SMD_BUILD/systemd/smd.service" "$SMD_SRC/systemd/smd.socket" "$units"
cp "$SMD_SRC/systemd/smd.sysusers.conf" "$t/inside.sh" "$t/mnt"
cp "$SMD_BUILD/daemon/smd" "$SMD_BUILD/daemon/smctl" "$SMD_BUILD/daemon/smd-worker" "$t/mnt/bin"
cp "$SMD_BUILD"/plugins/*/*/.libs/*.so "$t/mnt/plugins"
chmod 755 "$t" "$t/mnt"
head -c 4194304 /dev/urandom >"$t/mnt/disk"
statedir=$(sed -n 's/^ReadWritePaths=-//p' "$units/smd.service")
[ -n "$statedir" ] || fail "the unit names no state directory"
# The unit as it is, but for where the programs are.
sed -i 's|^ExecStart=[^ ]*|ExecStart=/mnt/bin/smd|' "$units/smd.service"
printf '[Service]\nEnvironment=SMD_PLUGIN_PATH=/mnt/plugins SMD_WORKER=/mnt/bin/smd-worker\n' \
	>"$units/smd.service.d/here.conf"
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=smd.socket inside.service\n' \
	>"$units/inside.target"
printf '[Unit]\nAfter=smd.socket\n[Service]\nType=oneshot\nExecStart=/bin/bash /mnt/inside.sh\n%s\n' \
	"ExecStopPost=/bin/systemctl poweroff --force --force" >"$units/inside.service"
for unit in systemd-{udevd,udev-trigger,sysctl,modules-load,remount-fs,networkd,resolved,logind}.service \
	systemd-{random-seed,firstboot,tmpfiles-setup,tmpfiles-setup-dev}.service \
	systemd-udevd-{kernel,control}.socket getty.target; do
	ln -s /dev/null "$units/$unit"
done
export t init statedir
timeout -s KILL 100 unshare -pmuinC --fork --kill-child bash "$t/outside.sh" >"$t/log" 2>&1 || :
if ! [ -s "$t/mnt/said" ]; then
	tail -n 5 "$t/log"
	echo "skipped: no systemd can be started in a container here"
	exit 77
fi
[ "$(tail -n 1 "$t/mnt/said")" = well ] || fail "$(cat "$t/mnt/said")"
