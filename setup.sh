# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash disable=SC2034
# Sourced by quickstart and runtests: the Debian packages smd needs, and how a
# tree is built. a|b: either will do, the first is installed.

# To build smd.
packages_build=(
	autoconf automake gcc libtool make perl pkg-config
	libcrypt-dev 'libcurl4-gnutls-dev|libcurl4-openssl-dev|libcurl4-nss-dev'
	libarchive-dev libdeflate-dev libgnutls28-dev libisal-dev libjson-c-dev libmicrohttpd-dev
	libseccomp-dev libsqlite3-dev
	libsystemd-dev libxmlrpc-core-c3-dev libxxhash-dev libzstd-dev nettle-dev uuid-dev
)
# What quickstart makes its disk with, and judges the results by.
packages_run=(e2fsprogs openssl qemu-utils)
# What the tests use besides. A test whose program is missing is skipped.
packages_test=(
	btrfs-progs clang curl libcmocka-dev libclang-rt-dev libqcow-utils libvhdi-utils 'npm|nodejs'
	python3 python3-libqcow python3-libvhdi python3-os-xenapi systemd valgrind xfsprogs
	xmlrpc-api-utils xz-utils zstd
)

package_installed()
{
	local one

	for one in ${1//|/ }; do
		case $(dpkg-query -W -f='${db:Status-Abbrev}' "$one" 2>/dev/null) in
		ii*) return 0 ;;
		esac
	done
	return 1
}

# install_packages PACKAGE...: those that are missing, by apt-get, when we are
# root or sudo asks nothing.
install_packages()
{
	local one missing=() root=()

	for one; do
		package_installed "$one" || missing+=("${one%%|*}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then
		root=(sudo -n)
		if ! sudo -n true 2>/dev/null; then
			echo "These packages are missing, and only root can install them:" >&2
			echo "    sudo apt-get install ${missing[*]}" >&2
			return 1
		fi
	fi
	echo "Installing ${missing[*]}"
	# Fails where the lists are old or absent; what apt says then is no news.
	apt_install "${missing[@]}" 2>/dev/null && return
	"${root[@]}" apt-get update -q </dev/null >/dev/null || return
	apt_install "${missing[@]}"
}

apt_install()
{
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get install -q -y --no-install-recommends "$@" </dev/null >/dev/null
}

# configure_tree SOURCE BUILD [OPTION...]: make the build tree, once or again when
# what configure is made from has changed.
configure_tree()
{
	local source=$1 build=$2

	shift 2
	if [ ! -x "$source/configure" ] || [ "$source/configure.ac" -nt "$source/configure" ]; then
		(cd "$source" && autoreconf -fi) || return
	fi
	mkdir -p "$build"
	if [ ! -e "$build/config.status" ] ||
	   [ "$source/configure" -nt "$build/config.status" ] ||
	   [ "$*" != "$(cat "$build/.options" 2>/dev/null)" ]; then
		(cd "$build" && "$source/configure" -q "$@") || return
		echo "$*" >"$build/.options"
	fi
}
