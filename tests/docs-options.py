#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# A program's --help and its manual page name the same options; smd --help-config,
# smd.conf(5) and etc/smd.conf the same keys; every page is free of POD's faults.
import os
import re
import subprocess
from smdtest import expect_eq, run, SRC
from styletest import files, sources

pages = {os.path.basename(name)[:-4]: name for name in files() if name.endswith(".pod")}


def read(name):
    with open(os.path.join(SRC, name), encoding="utf-8") as f:
        return f.read()


def options(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))


for program in ("smd", "smd-worker", "smd-img", "smctl"):
    assert program in pages, "%s has no manual page" % program
    items = "\n".join(re.findall(r"^=item .*", read(pages[program]), re.M))
    expect_eq(options(items), options(run(program, "--help")),
              "options of %s: its page, its --help" % program)

keys = set(re.findall(r"^CONFIG_\w+\((\w+)", read("daemon/config.def"), re.M))
expect_eq(set(re.findall(r"^=item B<(\w+)>", read(pages["smd.conf"]), re.M)), keys,
          "keys of smd.conf(5), of config.def")
expect_eq(set(re.findall(r"^#?(\w+) *=", read("etc/smd.conf"), re.M)), keys,
          "keys of etc/smd.conf, of config.def")
shown = run("smd", "--help-config")
expect_eq(sorted(key for key in keys if not re.search(r"\b%s\b" % key, shown)), [],
          "keys that --help-config leaves out")

faults = []
for name in pages.values():
    done = subprocess.run(["podchecker", "-warnings", os.path.join(SRC, name)],
                          capture_output=True, text=True)
    if done.returncode or "WARNING" in done.stderr:
        faults.append(done.stderr)
expect_eq(faults, [], "podchecker")

# Each plugin and program has its page, and each page is installed by a list.
lists = " ".join(text for _, text in sources(r"(^|/)(Makefile\.am|\w+\.mk)$"))
for name in files():
    plugin = re.match(r"plugins/(format|sr)/([\w-]+)/", name)
    if plugin:
        assert "smd-%s-%s" % plugin.groups() in pages, name + " has no manual page"
for page in pages:
    assert re.search(r"\b%s\.[1-8]\b" % re.escape(page), lists), page + ".pod is in no list"
