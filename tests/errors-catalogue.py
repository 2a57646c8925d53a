#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# A code of common/errors.def is there because some code raises it, or a method of
# the API declares it. (That the table has every code used, the compiler checks.)
import re
from smdtest import expect_eq
from styletest import sources

declared = [m for _, text in sources(r"^common/errors\.def$")
            for m in re.findall(r"^SMD_ERROR[0-4V]\((\w+)", text, re.M)]
expect_eq(sorted(set(c for c in declared if declared.count(c) > 1)), [], "codes declared twice")

# Codes that are made of a number: SMD_SR_FAIL_SCAN = 40 is SR_BACKEND_FAILURE_40.
used = set()
for path, text in sources(r"\.[ch]$"):
    if path.startswith("plugins/smd-sr.h"):
        used |= {"SR_BACKEND_FAILURE_" + n for n in re.findall(r"SMD_SR_FAIL_\w+ = (\d+)", text)}
    elif not re.search(r"(^|/)test-", path):
        used |= set(re.findall(r"\b(?:smd_fail_|SMD_E_)([A-Z]\w+)", text))
expect_eq(sorted(c for c in declared if c not in used), [], "codes nobody raises or declares")
