#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Lists: xe's layout, columns, filters, --minimal, --json.
source "$(dirname "$0")/functions.sh"

start_smd
fast=$(make_sr fast)
big=$(make_sr big)
vdi=$(smctl vdi-create sr-uuid="$fast" name-label='a,b' virtual-size=10MiB sm-config:image-format=vhd)
host=$(smctl host-list --minimal)
name=$(smctl host-list params=name-label --minimal)

smctl sr-param-set uuid="$fast" name-description=disks
smctl vdi-param-set uuid="$vdi" name-description="a disk"
expect_eq "$(smctl sr-list name-label=fast params=uuid,name-label,name-description,host && echo end)" \
	"uuid ( RO)                : $fast
          name-label ( RW): fast
    name-description ( RW): disks
                host ( RO): $name


end" "sr-list"
expect_eq "$(smctl vdi-list)" "uuid ( RO)                : $vdi
          name-label ( RW): a,b
    name-description ( RW): a disk
             sr-uuid ( RO): $fast
        virtual-size ( RO): 10485760
            sharable ( RW): false
           read-only ( RW): false" "vdi-list"

# The last row of an SM is the one that others look for.
last=$(smctl sm-list type=file params=all | sed '/^$/d' | tail -n 1)
[[ $last =~ ^' '*'supported-image-formats ( RO): '[a-z0-9]+('; '[a-z0-9]+)*$ ]] || fail "sm-list: $last"

expect_eq "$(smctl vdi-list --minimal)" "$vdi" "--minimal"
expect_eq "$(smctl vdi-list params=name-label --minimal)" 'a\,b' "--minimal escapes"
expect_eq "$(smctl vdi-list sr-uuid="$big" --minimal)" "" "a filter that nothing matches"
expect_eq "$(smctl vdi-list sr-uuid=fast --minimal)" "$vdi" "a filter by the name of what is referred to"
expect_eq "$(smctl vdi-list sr-name-label=fast virtual-size=10485760 --minimal)" "$vdi" "two filters"
expect_eq "$(smctl vdi-list sm-config:image-format=vhd --minimal)" "$vdi" "a filter by a map's key"
expect_eq "$(smctl vdi-list sm-config:image-format=raw --minimal)" "" "a map's key of another value"
expect_eq "$(smctl vdi-list allowed-operations:contains=destroy --minimal)" "$vdi" "contains"
expect_eq "$(smctl pbd-list sr-uuid="$big" params=host-uuid --minimal)" "$host" "pbd-list"
expect_eq "$(smctl vdi-list params=uuid,sr-uuid,virtual-size,sm-config --json |
	python3 -c 'import json, sys
[v] = json.load(sys.stdin)
print(v["uuid"], v["sr-uuid"], v["virtual-size"], v["sm-config"]["image-format"])')" \
	"$vdi $fast 10485760 vhd" "--json"
expect_fail smctl vdi-list no-such-field=1
expect_eq "$output" "Unknown field: no-such-field" "a filter by no field"
expect_eq "$(smctl vdi-param-list uuid='a,b')" "$(smctl vdi-list params=all)" "param-list"
