#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The shell's completion: commands, words, values, from the server.
source "$(dirname "$0")/functions.sh"

start_smd
sr=$(make_sr one)
vdi=$(smctl vdi-create sr-uuid="$sr" name-label=d virtual-size=1MiB)
source "$SMD_SRC/etc/smctl.bash-completion"
compopt() { :; }	# there is no readline to tell

# completes LINE EXPECTED
completes()
{
	COMP_LINE=$1
	COMP_POINT=${#1}
	_smctl
	expect_eq "${COMPREPLY[*]}" "$2" "completion of '$1'"
}

completes "smctl vdi-pool" "vdi-pool-migrate "
completes "smctl pbd-p" "pbd-param-list  pbd-param-get  pbd-param-set  pbd-param-add  pbd-param-remove  pbd-param-clear  pbd-plug "
completes "smctl help sr-sc" "sr-scan "
completes "smctl vdi-create vir" "virtual-size="
completes "smctl vdi-create type=us" "user "
completes "smctl vdi-create sm" "sm-config:"
completes "smctl vdi-destroy uuid=" "$vdi "
completes "smctl vdi-copy uuid=$vdi sr-uuid=${sr:0:4}" "$sr "
completes "smctl vdi-list virtual" "virtual-size="
completes "smctl sr-list params=name" "name-label name-description"
completes "smctl vdi-param-get param-name=sm-" "sm-config "
completes "smctl vdi-import filename=$t/smd.c" "$t/smd.conf"
completes "smctl image-export file=$t/smd.c" "$t/smd.conf"
completes "smctl image-export vdi=" "$vdi "
completes "smctl image-import sr-uuid=" "$sr "
completes "smctl no-such-command " ""
completes "smctl --socket $t/none " ""
smctl help >"$t/help"
grep -q '^  vdi-list ' "$t/help"
expect_fail grep '^  complete ' "$t/help"
